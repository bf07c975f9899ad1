package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/util/jsonpath"

	"github.com/rdd-desktop/rdd/messages"
)

// path is a JSONPath template in kubectl's dialect.
type path struct{ template string }

// newJSONPath checks a template. One without braces is an expression, as in -o custom-columns. Error: BadRequest.
func newJSONPath(template string) (path, error) {
	if template == "" {
		return path{}, badRequest("-o jsonpath= needs a template, e.g. jsonpath='{.items[*].metadata.name}'")
	}
	if !strings.Contains(template, "{") {
		return relaxedPath(template)
	}
	return parsePath(template)
}

func parsePath(template string) (path, error) {
	if _, err := jsonpath.Parse("rdd", template); err != nil {
		return path{}, badRequest("malformed jsonpath %q: %v", template, err)
	}
	return path{template}, nil
}

var pathShape = regexp.MustCompile(`^\{\.?([^{}]+)\}$|^\.?([^{}]+)$`)

// relaxedPath takes what kubectl takes where only one field is meant: x.y, .x.y, {x.y} and {.x.y}. Error: BadRequest.
func relaxedPath(expression string) (path, error) {
	m := pathShape.FindStringSubmatch(expression)
	if m == nil {
		return path{}, badRequest("malformed jsonpath %q: want a field such as x.y, .x.y, {x.y} or {.x.y}", expression)
	}
	field := m[1]
	if field == "" {
		field = m[2]
	}
	return parsePath("{." + field + "}")
}

// compile parses the template again: the library's value is used up by an evaluation with {range}.
func (p path) compile() (*jsonpath.JSONPath, error) {
	j := jsonpath.New("rdd").AllowMissingKeys(true)
	return j, j.Parse(p.template)
}

// print writes the template's text for o.
func (p path) print(o runtime.Object, w io.Writer) error {
	j, err := p.compile()
	if err != nil {
		return err
	}
	content, err := generic(o)
	if err != nil {
		return err
	}
	return j.Execute(w, content)
}

// values finds everything the path leads to; nothing is not an error.
func (p path) values(o runtime.Object) ([]any, error) {
	j, err := p.compile()
	if err != nil {
		return nil, err
	}
	content, err := generic(o)
	if err != nil {
		return nil, err
	}
	found, err := j.FindResults(content)
	if err != nil {
		return nil, err
	}
	var out []any
	for _, results := range found {
		for _, v := range results {
			if v.IsValid() && v.CanInterface() && v.Interface() != nil {
				out = append(out, v.Interface())
			}
		}
	}
	return out, nil
}

// generic is o as maps and slices; integers stay integers.
func generic(o runtime.Object) (any, error) {
	data, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	var content any
	return content, utiljson.Unmarshal(data, &content)
}

// newTemplate makes a printer of a Go template. Error: BadRequest.
func newTemplate(text string) (func(runtime.Object, io.Writer) error, error) {
	if text == "" {
		return nil, badRequest("-o go-template= needs a template")
	}
	p, err := printers.NewGoTemplatePrinter([]byte(text))
	if err != nil {
		return nil, badRequest("malformed go-template %q: %v", text, err)
	}
	p.AllowMissingKeys(true)
	return p.PrintObj, nil
}

// customColumns parses HEADER:path,HEADER:path. Error: BadRequest.
func customColumns(spec string) ([]messages.Column, error) {
	if spec == "" {
		return nil, badRequest("-o custom-columns= needs columns, e.g. custom-columns=NAME:.metadata.name,STATE:.status.status")
	}
	var columns []messages.Column
	for part := range strings.SplitSeq(spec, ",") {
		header, expression, ok := strings.Cut(part, ":")
		if !ok || header == "" || expression == "" {
			return nil, badRequest("malformed custom column %q: want HEADER:path", part)
		}
		p, err := relaxedPath(expression)
		if err != nil {
			return nil, err
		}
		columns = append(columns, messages.Column{Name: header, Value: func(o messages.Object, _ time.Time) string { return p.column(o) }})
	}
	return columns, nil
}

// column is the text of a custom column.
func (p path) column(o messages.Object) string {
	values, err := p.values(o)
	if err != nil || len(values) == 0 {
		return "<none>"
	}
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = plain(v)
	}
	return strings.Join(texts, ",")
}

// plain is a value as kubectl shows it: scalars bare, the rest as Go prints maps and slices.
func plain(v any) string {
	switch reflect.ValueOf(v).Kind() {
	case reflect.Map, reflect.Slice:
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if enc.Encode(v) == nil {
			return strings.TrimSpace(b.String())
		}
	}
	return fmt.Sprint(v)
}

// compareValues orders what --sort-by found: nothing first, then numbers, then text.
func compareValues(a, b []any) int {
	switch {
	case len(a) == 0 || len(b) == 0:
		return len(a) - len(b)
	}
	x, xIsNumber := number(a[0])
	y, yIsNumber := number(b[0])
	switch {
	case xIsNumber && yIsNumber && x < y, xIsNumber && !yIsNumber:
		return -1
	case xIsNumber && yIsNumber && x > y, !xIsNumber && yIsNumber:
		return 1
	case xIsNumber:
		return 0
	}
	return strings.Compare(plain(a[0]), plain(b[0]))
}

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case int64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/rdd-desktop/rdd/messages"
)

// writeFields writes every field of a resource but its conditions, as its JSON has them: a new kind or field needs no line here. The
// names are those of the JSON in words; keys of maps, which are data, stay as they are.
func writeFields(w io.Writer, o messages.Object) error {
	f := &fieldWriter{w: tabwriter.NewWriter(w, 0, 8, 2, ' ', 0), conditions: reflect.TypeOf(o.Conditions())}
	f.line(0, "Name", strings.SplitN(messages.NameOf(o), "/", 2)[1])
	f.fields(0, reflect.ValueOf(o).Elem())
	if f.err != nil {
		return fmt.Errorf("describe %s: %w", messages.NameOf(o), f.err)
	}
	return f.w.Flush()
}

type fieldWriter struct {
	w          *tabwriter.Writer
	conditions reflect.Type
	err        error
}

func (f *fieldWriter) line(depth int, label, value string) {
	text := strings.Repeat("  ", depth) + label + ":"
	if value != "" {
		text += "\t" + cell(value)
	}
	_, _ = fmt.Fprintln(f.w, text)
}

// fields writes the fields of a struct in their order.
func (f *fieldWriter) fields(depth int, v reflect.Value) {
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		at := v.Field(i)
		switch {
		case options == "inline":
			f.fields(depth, at)
		case name == "" || name == "-" || at.Type() == f.conditions || strings.Contains(options, "omit") && at.IsZero():
		default:
			f.value(depth, inWords(name), at)
		}
	}
}

// value writes one field, whatever it is.
func (f *fieldWriter) value(depth int, label string, v reflect.Value) {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if text, ok := f.scalar(v); ok {
		if text != "" {
			f.line(depth, label, text)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		f.line(depth, label, "")
		f.fields(depth+1, v)
	case reflect.Map:
		f.line(depth, label, "")
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			f.value(depth+1, cell(k.String()), v.MapIndex(k))
		}
	case reflect.Slice:
		f.line(depth, label, "")
		for i := range v.Len() {
			if text, ok := f.scalar(v.Index(i)); ok {
				_, _ = fmt.Fprintln(f.w, strings.Repeat("  ", depth+1)+"- "+cell(text))
				continue
			}
			_, _ = fmt.Fprintln(f.w, strings.Repeat("  ", depth+1)+"-")
			f.fields(depth+2, v.Index(i))
		}
	}
}

// scalar is the text of what its JSON shows as a scalar; empty for null, and for a list or map with nothing in it.
func (f *fieldWriter) scalar(v reflect.Value) (string, bool) {
	_, ownJSON := v.Interface().(json.Marshaler)
	if !ownJSON {
		switch v.Kind() {
		case reflect.Struct:
			return "", false
		case reflect.Map, reflect.Slice:
			return "", v.Len() == 0
		}
	}
	data, err := json.Marshal(v.Interface())
	if err != nil {
		f.err = err
		return "", true
	}
	var text string
	if string(data) == "null" {
		return "", true
	}
	if json.Unmarshal(data, &text) == nil {
		return text, true
	}
	return string(data), true
}

// inWords makes "Creation Timestamp" of creationTimestamp and "UID" of uid.
func inWords(name string) string {
	var words []string
	begin := 0
	runes := []rune(name)
	for i := 1; i < len(runes); i++ {
		if unicode.IsUpper(runes[i]) && !unicode.IsUpper(runes[i-1]) {
			words = append(words, string(runes[begin:i]))
			begin = i
		}
	}
	words = append(words, string(runes[begin:]))
	for i, w := range words {
		switch upper := strings.ToUpper(w); {
		case slices.Contains([]string{"API", "CPUS", "ID", "IP", "OS", "UID", "URL"}, upper):
			words[i] = strings.Replace(upper, "CPUS", "CPUs", 1)
		default:
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, " ")
}

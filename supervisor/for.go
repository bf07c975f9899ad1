package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/util/jsonpath"

	"github.com/rdd-desktop/rdd/messages"
)

// For is what Wait waits for, parsed from kubectl's --for grammar. The zero value waits for nothing and is rejected.
type For struct {
	text      string
	mode      forMode
	condition string
	// value of the condition, or of the JSON path; a path without one waits until it exists.
	value    string
	hasValue bool
	path     string
}

type forMode int

const (
	forNothing forMode = iota
	forCondition
	forPath
	forDelete
	forCreate
)

// String is the text it was parsed from.
func (f For) String() string { return f.text }

// IsDelete tells that it waits for a deletion.
func (f For) IsDelete() bool { return f.mode == forDelete }

// ParseFor parses condition=NAME[=VALUE], delete, create, jsonpath='{…}'[=VALUE]. Error: BadRequest.
func ParseFor(s string) (For, error) {
	f := For{text: s}
	switch {
	case strings.EqualFold(s, "delete"):
		f.mode = forDelete
		return f, nil
	case strings.EqualFold(s, "create"):
		f.mode = forCreate
		return f, nil
	}
	what, rest, _ := strings.Cut(s, "=")
	switch what {
	case "condition":
		f.mode = forCondition
		f.condition, f.value, f.hasValue = strings.Cut(rest, "=")
		if !f.hasValue {
			f.value = "true"
		}
		if f.condition == "" {
			return For{}, badFor(s, "a condition is needed")
		}
		if f.value = strings.Trim(f.value, `'"`); f.value == "" {
			return For{}, badFor(s, "the condition's value is empty")
		}
		return f, nil
	case "jsonpath":
		f.mode = forPath
		expression, value, hasValue, err := splitPath(rest)
		if err != nil {
			return For{}, badFor(s, err.Error())
		}
		f.value, f.hasValue = strings.Trim(value, `'"`), hasValue
		if hasValue && f.value == "" {
			return For{}, badFor(s, "the value to wait for is empty")
		}
		if f.path, err = relaxedPath(expression); err != nil {
			return For{}, badFor(s, err.Error())
		}
		if err := jsonpath.New("wait").Parse(f.path); err != nil {
			return For{}, badFor(s, err.Error())
		}
		return f, nil
	}
	return For{}, badFor(s, "want condition=NAME[=VALUE], delete, create or jsonpath='{.path}'[=VALUE]")
}

func badFor(s, why string) error {
	return messages.NewError(messages.CodeBadRequest, "wait for", "", s, why)
}

// splitPath separates the expression from "=VALUE". An equals sign inside quotes or brackets belongs to the expression.
func splitPath(s string) (expression, value string, hasValue bool, err error) {
	if s != "" && (s[0] == '\'' || s[0] == '"') {
		end := strings.LastIndexByte(s[1:], s[0]) + 1
		if i := strings.LastIndex(s[1:], string(s[0])+"="); i >= 0 {
			end = i + 1
		}
		if end == 0 {
			return "", "", false, errors.New("a quote is not closed")
		}
		expression, s = s[1:end], s[end+1:]
		if s == "" {
			return expression, "", false, nil
		}
		if s[0] != '=' {
			return "", "", false, fmt.Errorf("unexpected %q after the expression", s)
		}
		return expression, s[1:], true, nil
	}
	var depth int
	var quote rune
	for i, r := range s {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '\'' || r == '"':
			quote = r
		case strings.ContainsRune("{[(", r):
			depth++
		case strings.ContainsRune("}])", r):
			depth--
		case r == '=' && depth == 0:
			return s[:i], s[i+1:], true, nil
		}
	}
	if depth != 0 {
		return "", "", false, errors.New("a bracket is not closed")
	}
	return s, "", false, nil
}

var bareDots = regexp.MustCompile(`^\{\.?([^{}]+)\}$|^\.?([^{}]+)$`)

// relaxedPath takes x.y, .x.y, {x.y} and {.x.y}, as kubectl does.
func relaxedPath(s string) (string, error) {
	if s = strings.TrimSpace(s); s == "" {
		return "", errors.New("the expression is empty")
	}
	m := bareDots.FindStringSubmatch(s)
	if m == nil {
		return "", fmt.Errorf("unexpected expression %q: want 'name1.name2', '.name1.name2' or '{.name1.name2}'", s)
	}
	field := m[1]
	if field == "" {
		field = m[2]
	}
	if strings.HasPrefix(field, "[") {
		return "{" + field + "}", nil
	}
	return "{." + field + "}", nil
}

// met reports whether o is what is waited for. Error: BadRequest, when the path leads to more than one value.
func (f For) met(o messages.Object) (bool, error) {
	switch f.mode {
	case forCreate:
		return true, nil
	case forCondition:
		c := messages.Condition(o, f.condition)
		return c != nil && f.current(o, c) && strings.EqualFold(string(c.Status), f.value), nil
	case forPath:
		return f.pathMet(o)
	}
	return false, nil
}

// current: a condition counts when it was set for the present generation, as kubectl has it.
func (f For) current(o messages.Object, c *metav1.Condition) bool {
	observed := c.ObservedGeneration
	if observed == 0 {
		var s struct {
			Status struct {
				ObservedGeneration int64 `json:"observedGeneration"`
			} `json:"status"`
		}
		if data, err := json.Marshal(o); err == nil {
			_ = json.Unmarshal(data, &s)
		}
		observed = s.Status.ObservedGeneration
	}
	return observed == 0 || observed >= o.GetGeneration()
}

// failed is the condition when it says that no waiting will make it true.
func (f For) failed(o messages.Object) *metav1.Condition {
	if f.mode != forCondition {
		return nil
	}
	c := messages.Condition(o, f.condition)
	if c == nil || !messages.TerminalReason(c.Reason) || strings.EqualFold(string(c.Status), f.value) || !f.current(o, c) {
		return nil
	}
	return c
}

func (f For) pathMet(o messages.Object) (bool, error) {
	data, err := json.Marshal(o)
	if err != nil {
		return false, err
	}
	var tree map[string]any
	if err := utiljson.Unmarshal(data, &tree); err != nil { // whole numbers stay whole
		return false, err
	}
	j := jsonpath.New("wait").AllowMissingKeys(true)
	if err := j.Parse(f.path); err != nil {
		return false, badFor(f.text, err.Error())
	}
	results, err := j.FindResults(tree)
	if err != nil {
		return false, badFor(f.text, err.Error())
	}
	if len(results) == 0 || len(results[0]) == 0 {
		return false, nil
	}
	if len(results) > 1 || len(results[0]) > 1 {
		return false, badFor(f.text, "the expression matches more than one value")
	}
	if !f.hasValue {
		return true, nil
	}
	v := results[0][0]
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() {
		return false, nil
	}
	if v.Kind() == reflect.Map || v.Kind() == reflect.Slice {
		return false, badFor(f.text, "the expression leads to an object or list")
	}
	return strings.TrimSpace(fmt.Sprint(v.Interface())) == strings.TrimSpace(f.value), nil
}

package messages

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// Selector chooses resources by label and field, in kubectl's grammar. The zero value chooses all.
type Selector struct {
	// Labels, e.g. "app=web,tier!=db".
	Labels string `json:"labels,omitempty"`
	// Fields, e.g. "status.repoTag=busybox:latest"; any scalar field of the resource may be named.
	Fields string `json:"fields,omitempty"`
	// Name, when set, is the exact metadata.name.
	Name string `json:"name,omitempty"`
}

// Matcher is a compiled Selector.
type Matcher struct {
	name   string
	labels labels.Selector
	fields []fields.Requirement
}

// Compile parses the selector for a kind. Error: BadRequest, naming what is malformed or unknown.
func (s Selector) Compile(k Kind) (*Matcher, error) {
	m := &Matcher{name: s.Name, labels: labels.Everything()}
	if s.Labels != "" {
		l, err := labels.Parse(s.Labels)
		if err != nil {
			return nil, WrapError(CodeBadRequest, "parse", "label selector", s.Labels, err)
		}
		m.labels = l
	}
	if s.Fields != "" {
		f, err := fields.ParseSelector(s.Fields)
		if err != nil {
			return nil, WrapError(CodeBadRequest, "parse", "field selector", s.Fields, err)
		}
		m.fields = f.Requirements()
		for _, r := range m.fields {
			if r.Field == "" {
				return nil, NewError(CodeBadRequest, "parse", "field selector", s.Fields, "a field has no name")
			}
			if _, err := fieldValue(reflect.ValueOf(k.New()), r.Field); err != nil {
				return nil, NewError(CodeBadRequest, "parse", "field selector", s.Fields,
					fmt.Sprintf("field %q: %v", r.Field, err))
			}
		}
	}
	return m, nil
}

// Matches reports whether the resource is chosen. A nil Matcher chooses all.
func (m *Matcher) Matches(o Object) bool {
	if m == nil {
		return true
	}
	if m.name != "" && o.GetName() != m.name {
		return false
	}
	if !m.labels.Empty() && !m.labels.Matches(labels.Set(o.GetLabels())) {
		return false
	}
	for _, r := range m.fields {
		v, err := fieldValue(reflect.ValueOf(o), r.Field)
		if err != nil || (v == r.Value) == (r.Operator == "!=") {
			return false
		}
	}
	return true
}

// fieldValue reads the scalar at a dotted JSON path; a missing map key or nil pointer is "". Keys with dots can be reached
// through the last map of the path: metadata.labels.app.example.org/x.
func fieldValue(v reflect.Value, path string) (string, error) {
	for path != "" {
		for v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v = reflect.New(v.Type().Elem())
			}
			v = v.Elem()
		}
		switch v.Kind() {
		case reflect.Map:
			e := v.MapIndex(reflect.ValueOf(path))
			if !e.IsValid() {
				return "", nil
			}
			v, path = e, ""
		case reflect.Struct:
			head, rest, _ := strings.Cut(path, ".")
			i, ok := jsonFields(v.Type())[head]
			if !ok {
				return "", fmt.Errorf("no field %q", head)
			}
			v, path = v.FieldByIndex(i), rest
		default:
			return "", fmt.Errorf("not a scalar field")
		}
	}
	return scalar(v)
}

func scalar(v reflect.Value) (string, error) {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return "", nil
		}
		v = v.Elem()
	}
	switch t := v.Interface().(type) {
	case metav1.Time:
		if t.IsZero() {
			return "", nil
		}
		return t.UTC().Format("2006-01-02T15:04:05Z"), nil
	case metav1.MicroTime:
		return t.UTC().Format(metav1.RFC3339Micro), nil
	}
	switch v.Kind() {
	case reflect.String:
		return v.String(), nil
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), nil
	case reflect.Int, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), nil
	}
	return "", fmt.Errorf("not a scalar field")
}

var fieldCache sync.Map // reflect.Type → map[string][]int

// jsonFields maps JSON names of a struct to field indexes; inlined structs included.
func jsonFields(t reflect.Type) map[string][]int {
	if c, ok := fieldCache.Load(t); ok {
		return c.(map[string][]int)
	}
	out := map[string][]int{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			out[name] = f.Index
		}
	}
	fieldCache.Store(t, out)
	return out
}

package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
)

func newExplain(c *cli) *cobra.Command {
	var recursive bool
	cmd := &cobra.Command{
		Use: "explain TYPE[.FIELD…]", Short: "Print what the fields of a kind of resource mean", Args: exactly(1, "TYPE or TYPE.FIELD; TYPE is one of "+strings.Join(kindWords(), ", ")),
		Example: "  rdd ctl explain container\n  rdd ctl explain container.status.ports",
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error { return c.explain(args[0], recursive) }
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, noFiles
		}
		return starting(word, fieldPaths(word)), noFiles | cobra.ShellCompDirectiveNoSpace
	}
	cmd.Flags().BoolVar(&recursive, "recursive", false, "all fields below, without their descriptions")
	return cmd
}

func (c *cli) explain(path string, recursive bool) error {
	k, at, err := fieldAt(path)
	if err != nil {
		return err
	}
	c.printf("KIND:     %s\nVERSION:  %s\n\n", k.Name, k.APIVersion)
	if at.name != "" {
		c.printf("FIELD:    %s <%s>\n\n", at.name, at.typeName())
	}
	if text := at.description(); text != "" {
		c.printf("DESCRIPTION:\n%s\n", wrapped(text, "  "))
	}
	below := at.fields()
	if len(below) == 0 {
		return nil
	}
	c.printf("FIELDS:\n")
	c.explainFields(below, "  ", recursive)
	return nil
}

func (c *cli) explainFields(list []field, indent string, recursive bool) {
	for _, f := range list {
		c.printf("%s%s <%s>\n", indent, f.name, f.typeName())
		switch {
		case recursive:
			c.explainFields(f.fields(), indent+"  ", true)
		default:
			c.printf("%s\n", wrapped(f.description(), indent+"  "))
		}
	}
}

// field is a field of a resource as its JSON has it, or the resource itself.
type field struct {
	name string
	// doc is what the comment of the field says.
	doc string
	t   reflect.Type
}

// documented are structs with the comments of their fields, by name in JSON; that of the type itself has the empty name.
type documented interface{ SwaggerDoc() map[string]string }

func docsOf(t reflect.Type) map[string]string {
	if d, ok := reflect.Zero(t).Interface().(documented); ok {
		return d.SwaggerDoc()
	}
	return nil
}

// element is the struct behind pointers, lists and maps.
func element(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	return t
}

var marshaler = reflect.TypeFor[json.Marshaler]()

// fields are those below; none of what its JSON shows as a scalar.
func (f field) fields() []field {
	t := element(f.t)
	if t.Kind() != reflect.Struct || t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler) {
		return nil
	}
	docs := docsOf(t)
	var out []field
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		at := t.Field(i).Type
		switch {
		case options == "inline":
			out = append(out, field{t: at}.fields()...)
		case name != "" && name != "-":
			out = append(out, field{name, docs[name], at})
		}
	}
	return out
}

// description is the field's own, else that of its type.
func (f field) description() string {
	if t := element(f.t); f.doc == "" && f.fields() != nil {
		return docsOf(t)[""]
	}
	return f.doc
}

// typeName is kubectl's: string, integer, []Condition, map[string]string.
func (f field) typeName() string { return typeName(f.t) }

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Slice:
		return "[]" + typeName(t.Elem())
	case reflect.Map:
		return "map[" + typeName(t.Key()) + "]" + typeName(t.Elem())
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "integer"
	case reflect.String:
		return "string"
	}
	if t.Name() == "Time" || t.Name() == "MicroTime" {
		return "time"
	}
	return t.Name()
}

// fieldAt finds TYPE.FIELD.FIELD. Error: BadRequest.
func fieldAt(path string) (messages.Kind, field, error) {
	names := strings.Split(path, ".")
	k, ok := messages.KindByName(names[0])
	if !ok {
		return k, field{}, unknownKind(names[0])
	}
	at := field{t: reflect.TypeOf(k.New())}
	for i, name := range names[1:] {
		var valid []string
		found := false
		for _, f := range at.fields() {
			valid = append(valid, f.name)
			if f.name == name {
				at, found = f, true
				break
			}
		}
		if !found {
			return k, field{}, badRequest("%s has no field %q: %s", strings.Join(names[:i+1], "."), name, validFields(valid))
		}
	}
	return k, at, nil
}

func validFields(names []string) string {
	if len(names) == 0 {
		return "it has none"
	}
	return "want one of " + strings.Join(names, ", ")
}

// fieldPaths completes a path by one name.
func fieldPaths(word string) []string {
	i := strings.LastIndexByte(word, '.')
	if i < 0 {
		return typeWords()
	}
	_, at, err := fieldAt(word[:i])
	if err != nil {
		return nil
	}
	var out []string
	for _, f := range at.fields() {
		out = append(out, word[:i+1]+f.name)
	}
	return out
}

// wrapped breaks text into lines that a terminal of 80 columns takes, each after indent and ended.
func wrapped(text, indent string) string {
	var b strings.Builder
	for paragraph := range strings.SplitSeq(text, "\n") {
		line := ""
		for word := range strings.FieldsSeq(paragraph) {
			if line != "" && len(indent)+len(line)+1+len(word) > 80 {
				fmt.Fprintf(&b, "%s%s\n", indent, line)
				line = ""
			}
			if line != "" {
				line += " "
			}
			line += word
		}
		if line != "" {
			fmt.Fprintf(&b, "%s%s\n", indent, line)
		}
	}
	return b.String()
}

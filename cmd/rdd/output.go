package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/rdd-desktop/rdd/messages"
)

// resourceFormats are the values of -o of commands that print resources.
const resourceFormats = "table|wide|json|yaml|name|jsonpath=…|go-template=…|custom-columns=…"

// listing is the answer to a get: resources of one or more kinds.
type listing struct {
	items   []messages.Object
	version string
	// single: one resource was asked for by name; it is printed by itself, not in a List.
	single bool
}

// printer writes resources in one output format. It is used by one goroutine.
type printer interface {
	// list writes a whole answer.
	list(l listing) error
	// event writes one change of a watch and holds nothing back.
	event(e messages.WatchEvent) error
}

// printOptions choose a printer.
type printOptions struct {
	output        string
	noHeaders     bool
	allNamespaces bool
	// withKind prefixes names with their kind: several kinds in one table.
	withKind bool
	// withEvents shows the type of each change of a watch.
	withEvents bool
}

// newPrinter makes the printer for -o. Error: BadRequest.
func newPrinter(w io.Writer, o printOptions) (printer, error) {
	format, arg, hasArg := strings.Cut(o.output, "=")
	switch format {
	case "", "table", "wide":
		if !hasArg {
			return newTable(w, o, nil), nil
		}
	case "json":
		if !hasArg {
			return &documents{w: w, print: (&printers.JSONPrinter{}).PrintObj, line: printLine, events: o.withEvents}, nil
		}
	case "yaml":
		if !hasArg {
			p := &printers.YAMLPrinter{}
			return &documents{w: w, print: p.PrintObj, events: o.withEvents}, nil
		}
	case "name":
		if !hasArg {
			return &documents{w: w, print: printName, each: true}, nil
		}
	case "jsonpath":
		p, err := newJSONPath(arg)
		if err != nil {
			return nil, err
		}
		return &documents{w: w, print: p.print, newline: true, events: o.withEvents}, nil
	case "go-template", "template":
		p, err := newTemplate(arg)
		if err != nil {
			return nil, err
		}
		return &documents{w: w, print: p, newline: true, events: o.withEvents}, nil
	case "custom-columns":
		columns, err := customColumns(arg)
		if err != nil {
			return nil, err
		}
		return newTable(w, o, columns), nil
	}
	return nil, badRequest("unknown output format %q: want %s", o.output, resourceFormats)
}

// documents prints resources as documents: JSON, YAML, names, templates.
type documents struct {
	w     io.Writer
	print func(runtime.Object, io.Writer) error
	// line prints one change of a watch; nil = as print.
	line func(runtime.Object, io.Writer) error
	// each resource by itself, never a List.
	each bool
	// newline ends each change of a watch with one.
	newline bool
	events  bool
}

func (d *documents) list(l listing) error {
	if !d.each && !l.single {
		return d.write(d.print, asList(l), false)
	}
	for _, o := range l.items {
		if err := d.write(d.print, o, false); err != nil {
			return err
		}
	}
	return nil
}

func (d *documents) event(e messages.WatchEvent) error {
	var o runtime.Object = e.Object
	if d.events {
		o = &changeDocument{TypeMeta: metav1.TypeMeta{Kind: "WatchEvent", APIVersion: "v1"}, event: e}
	}
	print := d.line
	if print == nil {
		print = d.print
	}
	return d.write(print, o, d.newline)
}

// write hands a document over at once: all of it or, on an error, nothing.
func (d *documents) write(print func(runtime.Object, io.Writer) error, o runtime.Object, newline bool) error {
	var b bytes.Buffer
	if err := print(o, &b); err != nil {
		return fmt.Errorf("print %s: %w", o.GetObjectKind().GroupVersionKind().Kind, err)
	}
	if newline && !bytes.HasSuffix(b.Bytes(), []byte("\n")) {
		b.WriteByte('\n')
	}
	_, err := b.WriteTo(d.w)
	return err
}

// asList makes the v1 List that kubectl makes of more than one resource.
func asList(l listing) *metav1.List {
	list := &metav1.List{
		TypeMeta: metav1.TypeMeta{Kind: "List", APIVersion: "v1"},
		ListMeta: metav1.ListMeta{ResourceVersion: l.version},
		Items:    make([]runtime.RawExtension, len(l.items)),
	}
	for i, o := range l.items {
		list.Items[i].Object = o
	}
	return list
}

func printLine(o runtime.Object, w io.Writer) error { return json.NewEncoder(w).Encode(o) }

func printName(o runtime.Object, w io.Writer) error {
	r, ok := o.(messages.Object)
	if !ok {
		return fmt.Errorf("%T has no name", o)
	}
	_, err := fmt.Fprintf(w, "%s/%s\n", strings.ToLower(o.GetObjectKind().GroupVersionKind().Kind), r.GetName())
	return err
}

// changeDocument is a change of a watch as a document: {"type":…,"object":…}.
type changeDocument struct {
	metav1.TypeMeta
	event messages.WatchEvent
}

// DeepCopyObject implements runtime.Object; nobody changes one.
func (c *changeDocument) DeepCopyObject() runtime.Object { return c }

// MarshalJSON shows the change alone.
func (c *changeDocument) MarshalJSON() ([]byte, error) { return json.Marshal(c.event) }

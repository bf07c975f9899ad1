package main

import (
	"bufio"
	"io"
	"slices"
	"strings"
	"time"

	"k8s.io/cli-runtime/pkg/printers"

	"github.com/rdd-desktop/rdd/messages"
)

// table prints resources as rows. In a watch the columns keep their widths, and every row is written at once.
type table struct {
	w       io.Writer
	o       printOptions
	custom  []messages.Column
	buffer  *bufio.Writer
	columns interface {
		io.Writer
		Flush() error
	}
	// kind of the rows printed last: another one gets its own headers.
	kind string
	// notes explain cells, in the order of the first of each.
	notes []string
}

func newTable(w io.Writer, o printOptions, custom []messages.Column) *table {
	t := &table{w: w, o: o, custom: custom, buffer: bufio.NewWriter(w)}
	t.columns = printers.GetNewTabWriter(t.buffer)
	return t
}

func (t *table) list(l listing) error {
	for _, o := range l.items {
		t.row("", o)
	}
	if err := t.flush(); err != nil || t.o.noHeaders {
		return err
	}
	for _, note := range t.notes {
		if _, err := io.WriteString(t.w, cell(note)+"\n"); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) event(e messages.WatchEvent) error {
	kind := string(e.Type)
	if e.Reason != "" {
		kind += "(" + e.Reason + ")"
	}
	t.row(kind, e.Object)
	return t.flush()
}

func (t *table) flush() error {
	if err := t.columns.Flush(); err != nil {
		return err
	}
	return t.buffer.Flush()
}

func (t *table) row(event string, o messages.Object) {
	name := o.GetObjectKind().GroupVersionKind().Kind
	columns := t.columnsOf(name)
	if name != t.kind && (t.custom == nil || t.kind == "") {
		t.header(name, columns)
	}
	t.kind = name
	now := time.Now()
	var cells []string
	if t.o.withEvents {
		cells = append(cells, event)
	}
	if t.o.allNamespaces && t.custom == nil {
		cells = append(cells, o.GetNamespace())
	}
	for i, c := range columns {
		v := c.Value(o, now)
		if i == 0 && t.o.withKind && t.custom == nil {
			v = strings.ToLower(name) + "/" + v
		}
		cells = append(cells, v)
		if c.Note != nil {
			if note := c.Note(o); note != "" && !slices.Contains(t.notes, note) {
				t.notes = append(t.notes, note)
			}
		}
	}
	t.line(cells)
}

func (t *table) header(kind string, columns []messages.Column) {
	if t.kind != "" {
		// A new table: columns get new widths.
		_ = t.columns.Flush()
		if !t.o.noHeaders {
			_ = t.buffer.WriteByte('\n')
		}
		t.columns = printers.GetNewTabWriter(t.buffer)
	}
	if t.o.noHeaders {
		return
	}
	var cells []string
	if t.o.withEvents {
		cells = append(cells, "EVENT")
	}
	if t.o.allNamespaces && t.custom == nil {
		cells = append(cells, "NAMESPACE")
	}
	for _, c := range columns {
		cells = append(cells, c.Name)
	}
	t.line(cells)
}

// line writes one row; the last cell has no padding.
func (t *table) line(cells []string) {
	for i := range cells {
		cells[i] = cell(cells[i])
	}
	_, _ = io.WriteString(t.columns, strings.Join(cells, "\t")+"\n")
}

func (t *table) columnsOf(kind string) []messages.Column {
	if t.custom != nil {
		return t.custom
	}
	k, ok := messages.KindByName(kind)
	if !ok {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(k.Columns), func(c messages.Column) bool { return c.Wide && t.o.output != "wide" })
}

// rows prints plain rows as an aligned table.
func rows(w io.Writer, lines [][]string) {
	t := printers.GetNewTabWriter(w)
	for _, cells := range lines {
		for i := range cells {
			cells[i] = cell(cells[i])
		}
		_, _ = io.WriteString(t, strings.Join(cells, "\t")+"\n")
	}
	_ = t.Flush()
}

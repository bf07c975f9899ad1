// Package tables compares the table of a state machine, rendered from its code, with the one in its doc comment.
package tables

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the tables in doc comments")

// Row is one line: what a state does with an event.
type Row struct{ State, Event, Next, Effects string }

// Names are the type names of effects, without package, in order.
func Names[E any](effects []E) string {
	var names []string
	for _, e := range effects {
		name := fmt.Sprintf("%T", e)
		names = append(names, name[strings.LastIndexByte(name, '.')+1:])
	}
	return strings.Join(names, ", ")
}

// Check compares rows with the table between the lines BEGIN TABLE name and END TABLE of the file's comments; -update rewrites it.
// A row that changes nothing is left out.
func Check(t *testing.T, file, name string, rows []Row) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "//\n//\t%-22s %-22s %-22s %s\n", "state", "event", "next", "effects")
	for _, r := range rows {
		if r.State == r.Next && r.Effects == "" {
			continue
		}
		fmt.Fprintf(&b, "//\t%s\n", strings.TrimRight(fmt.Sprintf("%-22s %-22s %-22s %s", r.State, r.Event, r.Next, r.Effects), " "))
	}
	b.WriteString("//\n")
	src, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(src), "// BEGIN TABLE "+name+"\n")
	require.True(t, ok, "%s has no table %s", file, name)
	got, after, ok := strings.Cut(rest, "// END TABLE\n")
	require.True(t, ok)
	if *update {
		text := before + "// BEGIN TABLE " + name + "\n" + b.String() + "// END TABLE\n" + after
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		return
	}
	require.Equal(t, b.String(), got, "run with -update and say why every line changed")
}

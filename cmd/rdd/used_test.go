package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// unused are what no script uses, with the reason. One that a script does use has no place here.
var unused = map[string]string{
	"exit code 5": "another version of the wire needs another program: tests/embed and supervisor speak to one",
	"rdd help":    "cobra's own, and the same as --help",
}

// Every command, every output format of each, and every exit code of docs/cli.md is used by a script: a command that nobody has typed
// does not work. (It must have succeeded: to be told of a wrong flag is no use of a command.)
func TestScriptsUseEverything(t *testing.T) {
	t.Setenv("RDD_TEST_HOOKS", "1")
	root := newRoot(&cli{out: &bytes.Buffer{}, err: &bytes.Buffer{}})
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	want := wanted(t, root)
	used := map[string]bool{}
	for _, script := range scriptFiles(t) {
		for line := range strings.Lines(script) {
			for _, use := range usesOf(root, line) {
				used[use] = true
			}
		}
	}
	var missing []string
	for _, w := range slices.Sorted(maps.Keys(want)) {
		if !used[w] && unused[w] == "" {
			missing = append(missing, w)
		}
	}
	require.Empty(t, missing, "no script uses them")
	for name := range unused {
		require.True(t, want[name], "%s is an exception of something that is not there", name)
		require.False(t, used[name], "%s is an exception, and a script uses it", name)
	}
}

// wanted is what there is to use.
func wanted(t *testing.T, root *cobra.Command) map[string]bool {
	out := map[string]bool{}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		if cmd.HasSubCommands() {
			return
		}
		out[cmd.CommandPath()] = true
		for _, format := range formatsOf(cmd) {
			out[cmd.CommandPath()+" -o "+format] = true
		}
	}
	walk(root)
	docs, err := os.ReadFile("../../docs/cli.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(docs), "## Exit codes")
	require.True(t, found)
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(table, -1) {
		out["exit code "+m[1]] = true
	}
	require.Greater(t, len(out), 50)
	return out
}

// formatsOf are the output formats a command has by its help.
func formatsOf(cmd *cobra.Command) []string {
	f := cmd.Flags().Lookup("output")
	if f == nil {
		return nil
	}
	_, list, _ := strings.Cut(f.Usage, "output format: ")
	var out []string
	for format := range strings.SplitSeq(list, "|") {
		out = append(out, strings.TrimSuffix(format, "=…"))
	}
	return out
}

func scriptFiles(t *testing.T) []string {
	var out []string
	for _, pattern := range []string{"testdata/*.txtar", "testdata/*/*.txtar"} {
		names, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, name := range names {
			data, err := os.ReadFile(name)
			require.NoError(t, err)
			script, _, _ := strings.Cut(string(data), "\n-- ") // what follows are files
			out = append(out, script)
		}
	}
	require.NotEmpty(t, out)
	return out
}

var (
	exitCodeOf = regexp.MustCompile(`(?:^|\] )exitcode (\d+) `)
	// called is what is run on a line: up to the end of it, of a part of a pipe, or of a substitution.
	called = regexp.MustCompile(`\brdd ([^|&;()]*(?:'[^']*'[^|&;()]*)*)`)
	word   = regexp.MustCompile(`'[^']*'|\S+`)
)

// usesOf are what a line of a script uses.
func usesOf(root *cobra.Command, line string) []string {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "std") || strings.HasPrefix(line, "! std") {
		return nil
	}
	var out []string
	if m := exitCodeOf.FindStringSubmatch(line); m != nil {
		out = append(out, "exit code "+m[1])
		if m[1] != "0" {
			return out // what was refused has not been used
		}
	}
	for _, m := range called.FindAllStringSubmatch(line, -1) {
		args := word.FindAllString(m[1], -1)
		cmd, rest, err := root.Find(args)
		if err != nil || cmd == root || cmd.HasSubCommands() {
			continue
		}
		out = append(out, cmd.CommandPath())
		format := "table"
		for i, a := range rest {
			a = strings.Trim(a, "'")
			switch {
			case a == "-o" && i+1 < len(rest):
				format = strings.Trim(rest[i+1], "'")
			case strings.HasPrefix(a, "--output="):
				format = strings.TrimPrefix(a, "--output=")
			}
		}
		format, _, _ = strings.Cut(format, "=")
		out = append(out, cmd.CommandPath()+" -o "+format)
	}
	return out
}

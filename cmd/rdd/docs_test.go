package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// The documentation of the command line shows every command there is and none that there is not.
func TestEveryCommandIsDocumented(t *testing.T) {
	t.Setenv("RDD_TEST_HOOKS", "")
	data, err := os.ReadFile("../../docs/cli.md")
	require.NoError(t, err)
	text := string(data)
	root := newRoot(&cli{out: &bytes.Buffer{}, err: &bytes.Buffer{}})
	root.InitDefaultCompletionCmd()
	known := map[string]bool{}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		known[c.CommandPath()] = true
		if !c.HasSubCommands() && c.Parent().Name() != "completion" {
			name := strings.TrimPrefix(c.CommandPath(), "rdd ")
			require.Contains(t, text, name, "docs/cli.md does not say what rdd %s is", name)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	for line := range strings.Lines(text) {
		command, shown := strings.CutPrefix(line, "$ ")
		if !shown {
			continue
		}
		command, _, _ = strings.Cut(command, " #")
		args := strings.Fields(command)
		found, _, err := root.Find(args[1:])
		require.NoError(t, err, command)
		require.True(t, known[found.CommandPath()] && !found.HasSubCommands(), "%s is no command", command)
		for _, a := range args {
			if name, _, _ := strings.Cut(a, "="); strings.HasPrefix(name, "--") {
				flag := strings.TrimPrefix(name, "--")
				require.True(t, found.Flags().Lookup(flag) != nil || root.PersistentFlags().Lookup(flag) != nil, "%s has no %s", found.CommandPath(), name)
			}
		}
	}
}

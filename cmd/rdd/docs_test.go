package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"regexp"
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

// documentedCodes are the exit codes of documented commands that do not end with 0, here and in this order.
var documentedCodes = map[string]int{
	"ctl delete volume/data --timeout 1s": 4, // what is shown is the time-out
}

// Everything the documentation shows of an application and its resources does what is shown: the commands are run in their order, on
// the simulated engine. (Those about the service need processes, and those that follow do not end: both are in scripts.)
func TestDocumentedCommandsRun(t *testing.T) {
	data, err := os.ReadFile("../../docs/cli.md")
	require.NoError(t, err)
	startSimulated(t)
	seen := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		command, shown := strings.CutPrefix(strings.TrimSpace(line), "$ ")
		if !shown {
			continue
		}
		command, _, _ = strings.Cut(command, " #")
		command, _, _ = strings.Cut(command, " | ")
		args := shellWords(command)
		switch {
		case command == "docker stop web":
			args = []string{"rdd", "ctl", "action", "web", "stop"} // drift is made by whatever spec.state did not ask for
		case args[1] == "svc", regexp.MustCompile(` (-w|-f|--watch)\b`).MatchString(command):
			continue
		}
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		code := 0
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			code, err = exit.ExitCode(), nil
		}
		require.NoError(t, err, command)
		seen[strings.Join(args[1:], " ")] = true
		require.Equal(t, documentedCodes[strings.Join(args[1:], " ")], code, "%s: %s", command, out)
	}
	require.Greater(t, len(seen), 25)
	for command := range documentedCodes {
		require.True(t, seen[command], "%s is not documented any more", command)
	}
}

// shellWords splits a line as a shell does that knows single quotes.
func shellWords(line string) []string {
	words := regexp.MustCompile(`(?:'[^']*'|[^\s'])+`).FindAllString(line, -1)
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], "'", "")
	}
	return words
}

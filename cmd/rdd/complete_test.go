package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/supervisor"
)

// completed is what a shell would offer after these words.
func completed(t *testing.T, words ...string) []string {
	t.Helper()
	var out, errOut bytes.Buffer
	require.Zero(t, run(append([]string{"__completeNoDesc"}, words...), &out, &errOut))
	require.NotContains(t, errOut.String(), "rror")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Regexp(t, `^:\d+$`, lines[len(lines)-1], "the directive ends it")
	return lines[:len(lines)-1]
}

func TestCompletionWithoutADaemon(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_DATA_HOME", "")
	require.Equal(t, []string{"containers", "container", "containernamespaces", "containernamespace"}, completed(t, "ctl", "get", "co"))
	require.Empty(t, completed(t, "ctl", "get", "container", ""))
	require.Empty(t, completed(t, "ctl", "get", "container/"))
	require.Empty(t, completed(t, "why", "app/app", ""))
	require.Empty(t, completed(t, "ctl", "get", "nonsense", ""))
	require.Equal(t, []string{"running="}, completed(t, "set", "run"))
	require.Equal(t, []string{"running=true", "running=false"}, completed(t, "set", "running="))
	require.NotContains(t, completed(t, "set", "running=true", ""), "running=")
	require.NotContains(t, completed(t, "set", ""), "namespace=", "it cannot be set")
	require.Equal(t, []string{"virtualMachine.driver=lima"}, completed(t, "set", "virtualMachine.driver=l"))
	require.Contains(t, completed(t, "ctl", "get", "app", "-o", ""), "jsonpath=")
	require.Contains(t, completed(t, "ctl", "wait", "app/app", "--for", ""), "condition=")
	require.Equal(t, []string{"restart"}, completed(t, "ctl", "action", "web", "re"))
	require.Empty(t, completed(t, "ctl", "action", "web", "stop", ""))
	require.Equal(t, []string{"merge", "json"}, completed(t, "ctl", "patch", "app/app", "--type", ""))
	require.Equal(t, []string{"volumes", "volume"}, completed(t, "ctl", "label", "v"))
	require.Equal(t, []string{"container.spec.state"}, completed(t, "ctl", "explain", "container.spec.s"))
	require.Empty(t, completed(t, "ctl", "explain", "nonsense.s"))
	require.Empty(t, completed(t, "ctl", "wait-condition", "container/web", "R"))
	entries, err := os.ReadDir(os.Getenv("HOME"))
	require.NoError(t, err)
	require.Empty(t, entries, "completion creates nothing")
}

// Whatever hangs, and however deep: the shell has its prompt back after the limit, on the clock of the bubble to the nanosecond.
func TestCompletionIsBounded(t *testing.T) {
	require.Less(t, completionLimit, 200*time.Millisecond)
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		began := time.Now()
		require.Nil(t, inTime(func(context.Context) ([]string, error) {
			<-release // no heed of its context
			return []string{"late"}, nil
		}))
		require.Equal(t, completionLimit, time.Since(began))
		close(release)

		began = time.Now()
		require.Nil(t, inTime(func(context.Context) ([]string, error) { return []string{"half"}, errors.New("no daemon") }))
		require.Zero(t, time.Since(began), "who is refused does not wait")
	})
}

// A daemon that takes connections and says nothing: its process lives, its port answers, no name comes, and no error.
func TestCompletionWithADaemonThatHangs(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_DATA_HOME", "")
	i, err := supervisor.NewInstance("2")
	require.NoError(t, err)
	r, err := supervisor.Start(t.Context(), supervisor.Config{Instance: &i, Edge: true})
	require.NoError(t, err)
	file, err := os.ReadFile(i.Edge()) // a live process and certificates that are right
	require.NoError(t, err)
	require.NoError(t, r.Stop(t.Context()))
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = silent.Close() }()
	var edge map[string]any
	require.NoError(t, json.Unmarshal(file, &edge))
	edge["address"] = silent.Addr().String()
	file, err = json.Marshal(edge)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(i.Edge(), file, 0o600))

	began := time.Now()
	require.Empty(t, completed(t, "ctl", "get", "container", ""))
	took := time.Since(began)
	require.GreaterOrEqual(t, took, completionLimit, "it was asked")
	// The dial alone would take 2 s: what is bounded at all is bounded by the limit. The rest is for a machine with other work.
	require.Less(t, took, completionLimit+time.Second)
}

//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

func TestOfManyTogglesTheLastAcceptedOneWins(t *testing.T) {
	const processes, each = 10, 50
	b := newBox(t)
	b.ok("set", "running=false", "virtualMachine.driver=external")
	var children []*exec.Cmd
	var outputs [processes]bytes.Buffer
	for i := range processes {
		c := b.command()
		c.Path, c.Args, c.Stdout, c.Stderr = mustLookPath(t, "toggle"), []string{"toggle", strconv.Itoa(each)}, &outputs[i], os.Stderr
		require.NoError(t, c.Start())
		children = append(children, c)
	}
	all, changes := 0, map[int64]bool{}
	last := toggled{Generation: 2}
	for i, c := range children {
		require.NoError(t, c.Wait(), "nobody conflicts who does not ask for a generation")
		for in := json.NewDecoder(&outputs[i]); in.More(); all++ {
			var a toggled
			require.NoError(t, in.Decode(&a))
			require.Equal(t, a.Asked, a.Running, "what was accepted is in the answer")
			if a.Changed {
				require.NotContains(t, changes, a.Generation, "a generation is of one change")
				changes[a.Generation] = a.Running
			}
			if a.Generation > last.Generation {
				last = a
			}
		}
	}
	require.Equal(t, processes*each, all)
	for g := int64(3); g <= last.Generation; g++ {
		require.Contains(t, changes, g)
		require.Equal(t, g%2 == 1, changes[g], "each change is one")
	}
	t.Logf("%d of %d sets changed something", len(changes), all)

	b.ok("ctl", "wait", "app/app", "--for=condition=Settled", "--timeout", "20s")
	app := b.app()
	require.Equal(t, last.Generation, app.Generation)
	require.Equal(t, last.Running, app.Spec.Running)
	require.Equal(t, last.Generation, app.Status.ObservedGeneration)
	require.Equal(t, last.Generation, messages.Condition(app, messages.ConditionSettled).ObservedGeneration)
	ready := messages.Condition(app, messages.ConditionContainerEngineReady)
	require.Equal(t, last.Running, ready.Status == metav1.ConditionTrue, "and it is what was acted on")
	require.Equal(t, last.Generation, ready.ObservedGeneration)
}

func mustLookPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	require.NoError(t, err)
	return path
}

//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// Two hundred writes at once, from twenty processes, on ten containers: each has an answer that says what became of it, and in the end
// resources, receipts and the engine agree.
func TestManyWritersAtOnce(t *testing.T) {
	world := sim.New(sim.Options{})
	t.Cleanup(world.Close)
	_, err := world.Import("busybox:latest", "")
	require.NoError(t, err)
	for i := range scribbledUpon {
		_, err = world.Run(sim.ContainerOptions{Name: fmt.Sprintf("c%d", i), Image: "busybox"})
		require.NoError(t, err)
	}
	client := serveSimulated(t, world)

	said := scribbleAll(t)
	require.Len(t, said, scribblers*scribbles)
	newest, annotations, receipts := map[string]scribbled{}, map[string][]string{}, map[string][]string{}
	specs, refused := map[string]string{}, 0
	for _, s := range said {
		if s.Code != 0 {
			refused++
			require.Equal(t, 3, s.Code, s.Err)
			var why status
			require.NoError(t, json.Unmarshal([]byte(s.Err), &why), s.Err)
			require.Equal(t, messages.CodeConflict, why.Reason, "refused for a reason: %s", s.Err)
			continue
		}
		switch s.Asked {
		case "action":
			receipts[s.Name] = append(receipts[s.Name], s.Action)
			continue
		case "state":
		default:
			annotations[s.Name] = append(annotations[s.Name], s.Asked)
		}
		of := fmt.Sprint(s.Name, " ", s.Generation)
		require.Contains(t, []string{"", s.State}, specs[of], "one generation is one spec")
		specs[of] = s.State
		if s.Generation >= newest[s.Name].Generation {
			newest[s.Name] = s
		}
	}
	t.Logf("%d of %d writes were conflicts", refused, len(said))
	for i := range scribbledUpon {
		name := fmt.Sprintf("c%d", i)
		c := atRest(t, client, world, name)
		require.Equal(t, newest[name].Generation, c.Generation, "%s: the newest accepted spec is the last word", name)
		require.Equal(t, newest[name].State, c.Spec.State, name)
		for _, a := range annotations[name] {
			require.Equal(t, "yes", c.Annotations[a], "%s: an accepted annotation is there", name)
		}
		require.Len(t, c.Annotations, len(annotations[name]), "%s: a refused one is not", name)
		if len(receipts[name]) > 0 {
			require.Contains(t, receipts[name], c.Status.LastAction.ID, "%s: the receipt is of an accepted action", name)
		}
		want := map[string]string{messages.StateRunning: messages.ContainerRunning, messages.StateCreated: messages.ContainerExited,
			messages.StatePaused: messages.ContainerPaused}[c.Spec.State]
		if len(receipts[name]) == 0 && want != "" {
			require.Equal(t, want, c.Status.Status, "%s: it is what was wanted last", name)
		}
	}
}

// atRest is a container once all that was accepted for it has ended, and its mirror says what the engine says.
func atRest(t *testing.T, client *supervisor.Client, world *sim.Engine, name string) *messages.Container {
	t.Helper()
	var c *messages.Container
	require.Eventually(t, func() bool {
		real, err := world.ContainerByRef(name)
		require.NoError(t, err)
		o, err := client.Get(t.Context(), messages.KindContainer, name)
		require.NoError(t, err)
		c = o.(*messages.Container)
		applied := messages.Condition(c, messages.ConditionIntentApplied)
		return c.Status.ObservedGeneration == c.Generation && (applied == nil || applied.Status == metav1.ConditionTrue) &&
			(c.Status.LastAction == nil || c.Status.LastAction.State != messages.ActionPending) && c.Status.Status == real.Status
	}, patience, 10*time.Millisecond, "%s: what was accepted ends", name)
	return c
}

// scribbleAll runs all writers at once.
func scribbleAll(t *testing.T) []scribbled {
	t.Helper()
	var children []*exec.Cmd
	var outputs [scribblers]bytes.Buffer
	for n := range scribblers {
		c := exec.CommandContext(t.Context(), mustLookPath(t, "scribble"), strconv.Itoa(n))
		c.Stdout, c.Stderr = &outputs[n], os.Stderr
		require.NoError(t, c.Start())
		children = append(children, c)
	}
	var said []scribbled
	for n, c := range children {
		require.NoError(t, c.Wait())
		for in := json.NewDecoder(&outputs[n]); in.More(); {
			var s scribbled
			require.NoError(t, in.Decode(&s))
			said = append(said, s)
		}
	}
	return said
}

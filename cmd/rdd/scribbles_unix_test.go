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

	"github.com/rdd-desktop/rdd/messages"
)

// Two hundred writes at once, from twenty processes, on ten containers: each has an answer that says what became of it, and in the end
// resources, receipts and the engine agree.
func TestManyWritersAtOnce(t *testing.T) {
	stop := startSimulated(t, "more")

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
	mirrored := atRest(t)
	real := stop()
	for i := range scribbledUpon {
		name := fmt.Sprintf("c%d", i)
		c := mirrored[name]
		require.Equal(t, real[name], c.Status.Status, "%s: the mirror is right", name)
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

// atRest are the containers by name, once all that was accepted for them has ended.
func atRest(t *testing.T) map[string]*messages.Container {
	t.Helper()
	found := map[string]*messages.Container{}
	require.Eventually(t, func() bool {
		out, err := exec.Command("rdd", "ctl", "get", "containers", "-o", "json").Output()
		require.NoError(t, err)
		var list struct{ Items []*messages.Container }
		require.NoError(t, json.Unmarshal(out, &list))
		for _, c := range list.Items {
			applied := messages.Condition(c, messages.ConditionIntentApplied)
			if c.Status.ObservedGeneration != c.Generation || applied != nil && applied.Status != metav1.ConditionTrue ||
				c.Status.LastAction != nil && c.Status.LastAction.State == messages.ActionPending {
				return false
			}
			found[c.Status.Name] = c
		}
		return true
	}, patience, 10*time.Millisecond, "what was accepted ends")
	return found
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

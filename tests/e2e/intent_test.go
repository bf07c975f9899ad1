package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// Every state and every action, on a real dockerd: the mirror says what it is, and docker agrees.
func TestIntents(t *testing.T) { onEach(t, intents) }

func intents(t *testing.T, e place) {
	e.ImportBusybox(t, "busybox:latest")
	h := e.start(t, supervisor.Intervals{}).settled()
	// sleep as the first process takes no TERM: the container's own grace must be heeded, or this takes long.
	id := e.Docker(t, "create", "--name", "web", "--restart", "always", "--stop-timeout", "1", "busybox", "sleep", "1000")
	h.within(patience, "mirrored", func() bool { return h.container(id) != nil })
	status := func() string { return e.Docker(t, "inspect", "-f", "{{.State.Status}}", id) }
	startedAt := func() string { return e.Docker(t, "inspect", "-f", "{{.State.StartedAt}}", id) }

	for _, state := range []string{"running", "paused", "running", "created", "paused", "created", "running"} {
		_, err := h.client.Write(t.Context(), messages.WriteRequest{Kind: "container", Name: "web",
			Patch: json.RawMessage(`{"spec":{"state":"` + state + `"}}`)})
		require.NoError(t, err)
		h.within(patience, state, func() bool {
			c := h.container(id)
			return c.Status.ObservedGeneration == c.Generation
		})
		require.Equal(t, metav1.ConditionTrue, h.condition("container", id, messages.ConditionIntentApplied).Status, state)
		want := state
		if state == messages.StateCreated {
			want = messages.ContainerExited
		}
		require.Equal(t, want, status())
	}

	grace := &metav1.Duration{Duration: time.Second}
	for _, a := range []struct{ verb, state, after string }{
		{"unpause", "Succeeded", "running"}, {"pause", "Succeeded", "paused"}, {"pause", "Succeeded", "paused"}, {"start", "Failed", "paused"},
		{"unpause", "Succeeded", "running"}, {"restart", "Succeeded", "running"}, {"kill", "Succeeded", "exited"}, {"pause", "Failed", "exited"},
		{"start", "Succeeded", "running"}, {"stop", "Succeeded", "exited"}, {"stop", "Succeeded", "exited"}, {"unpause", "Failed", "exited"},
	} {
		before := startedAt()
		c, err := h.client.Action(t.Context(), messages.ActionRequest{Name: "web", Action: a.verb, Grace: grace})
		require.NoError(t, err, a.verb)
		asked := c.Status.LastAction.ID
		h.within(patience, a.verb, func() bool {
			last := h.container(id).Status.LastAction
			return last != nil && last.ID == asked && last.State != messages.ActionPending
		})
		last := h.container(id).Status.LastAction
		require.Equal(t, a.state, last.State, "%s: %s", a.verb, last.Error)
		h.within(patience, a.verb+" → "+a.after, func() bool { return status() == a.after })
		if a.verb == "restart" {
			require.NotEqual(t, before, startedAt())
		}
	}
	require.Equal(t, metav1.ConditionTrue, h.condition("container", id, messages.ConditionDrifted).Status, "spec.state is running, an action stopped it")
	e.Docker(t, "start", "web")
	h.within(patience, "in its state again", func() bool {
		return h.condition("container", id, messages.ConditionDrifted).Status == metav1.ConditionFalse
	})
}

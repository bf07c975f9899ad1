package faults

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// changing are the calls that intents make.
var changing = []string{
	sim.OpStartContainer, sim.OpStopContainer, sim.OpPauseContainer, sim.OpUnpauseContainer, sim.OpRestartContainer, sim.OpKillContainer,
}

// calls counts what rdd did to the containers.
func (h *house) calls() map[string]int {
	n := map[string]int{}
	for _, op := range changing {
		if k := h.world.Calls(op); k > 0 {
			n[op] = k
		}
	}
	return n
}

func (h *house) container(id string) *messages.Container {
	h.Helper()
	o := h.get("container", id)
	require.NotNil(h, o, id)
	return o.(*messages.Container)
}

func (h *house) says(id, kind string) metav1.Condition {
	if c := messages.Condition(h.container(id), kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// wants asks for a state.
func (h *house) wants(id, state, policy string) {
	h.Helper()
	h.patch("container", id, fmt.Sprintf(`{"spec":{"state":%q,"policy":%q}}`, state, policy))
}

func (h *house) act(id, verb string) (*messages.Container, error) {
	return h.client.Action(h.Context(), messages.ActionRequest{Name: id, Action: verb})
}

// status is the engine's word.
func (h *house) status(id string) string {
	h.Helper()
	for _, c := range h.world.Snapshot().Containers {
		if c.ID == id {
			return c.Status
		}
	}
	require.Fail(h, "no such container", id)
	return ""
}

// in makes a container of a status.
func (h *house) in(status string) string {
	h.Helper()
	name := status + fmt.Sprint(len(h.world.Snapshot().Containers))
	id, err := h.world.CreateContainer(sim.ContainerOptions{Name: name, Image: "busybox"})
	require.NoError(h, err)
	switch status {
	case messages.ContainerCreated:
		return id
	case messages.ContainerRunning:
		require.NoError(h, h.world.Start(id))
	case messages.ContainerPaused:
		require.NoError(h, errors.Join(h.world.Start(id), h.world.Pause(id)))
	case messages.ContainerExited:
		require.NoError(h, errors.Join(h.world.Start(id), h.world.Kill(id)))
	}
	require.Equal(h, status, h.status(id))
	return id
}

func TestVirtual_EveryStateFromEveryStatus(t *testing.T) {
	const created, running, paused, exited = messages.ContainerCreated, messages.ContainerRunning, messages.ContainerPaused, messages.ContainerExited
	none := map[string]int{}
	for _, c := range []struct {
		from, state, after string
		calls              map[string]int
	}{
		{created, messages.StateRunning, running, map[string]int{sim.OpStartContainer: 1}},
		{exited, messages.StateRunning, running, map[string]int{sim.OpStartContainer: 1}},
		{paused, messages.StateRunning, running, map[string]int{sim.OpUnpauseContainer: 1}},
		{running, messages.StateRunning, running, none},
		{created, messages.StateCreated, created, none},
		{exited, messages.StateCreated, exited, none},
		{running, messages.StateCreated, exited, map[string]int{sim.OpStopContainer: 1}},
		{paused, messages.StateCreated, exited, map[string]int{sim.OpUnpauseContainer: 1, sim.OpStopContainer: 1}},
		{running, messages.StatePaused, paused, map[string]int{sim.OpPauseContainer: 1}},
		{paused, messages.StatePaused, paused, none},
		{created, messages.StatePaused, paused, map[string]int{sim.OpStartContainer: 1, sim.OpPauseContainer: 1}},
		{exited, messages.StatePaused, paused, map[string]int{sim.OpStartContainer: 1, sim.OpPauseContainer: 1}},
		{running, messages.StateUnknown, running, none},
	} {
		for _, policy := range messages.ContainerPolicies() {
			t.Run(c.from+" to "+c.state+" "+policy, func(t *testing.T) {
				virtually(t, func(t *testing.T, h *house) {
					id := h.in(c.from)
					pass(time.Second)
					h.wants(id, c.state, policy)
					pass(time.Second)
					require.Equal(t, c.after, h.status(id))
					require.Equal(t, c.calls, h.calls())
					now := h.container(id)
					require.Equal(t, now.Generation, now.Status.ObservedGeneration)
					require.Equal(t, c.after, now.Status.Status)
					if c.state != messages.StateUnknown {
						require.Equal(t, metav1.ConditionTrue, h.says(id, messages.ConditionIntentApplied).Status)
						require.Equal(t, now.Generation, h.says(id, messages.ConditionIntentApplied).ObservedGeneration)
						require.Equal(t, metav1.ConditionFalse, h.says(id, messages.ConditionDrifted).Status)
					} else {
						require.Nil(t, messages.Condition(now, messages.ConditionIntentApplied))
					}
					pass(time.Hour)
					require.Equal(t, c.calls, h.calls(), "and that is all")
				})
			})
		}
	}
}

func TestVirtual_OnceLetsGo(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		id := h.in(messages.ContainerCreated)
		pass(time.Second)
		h.wants(id, messages.StateRunning, messages.PolicyOnce)
		pass(time.Second)
		require.NoError(t, h.world.Kill(id))
		pass(time.Hour)
		require.Equal(t, map[string]int{sim.OpStartContainer: 1}, h.calls(), "what others do triggers nothing")
		d := h.says(id, messages.ConditionDrifted)
		require.Equal(t, metav1.ConditionTrue, d.Status)
		require.Contains(t, d.Message, "generation 2")
		require.Contains(t, d.Message, "outside rdd")
		require.Equal(t, metav1.ConditionTrue, h.says(id, messages.ConditionIntentApplied).Status)

		again := h.patch("container", id, `{"spec":{"state":"running"}}`)
		require.False(t, again.Changed, "an equal value is no new wish")
		h.patch("container", id, `{"spec":{"state":"unknown"}}`)
		pass(time.Second)
		require.Nil(t, messages.Condition(h.container(id), messages.ConditionDrifted))
		require.Nil(t, messages.Condition(h.container(id), messages.ConditionIntentApplied))
		h.patch("container", id, `{"spec":{"state":"running"}}`)
		pass(time.Second)
		require.Equal(t, messages.ContainerRunning, h.status(id))
		require.Equal(t, 2, h.calls()[sim.OpStartContainer])
	})
}

func TestVirtual_F16_TheRestartPolicyStartsItAgain(t *testing.T) {
	for _, policy := range messages.ContainerPolicies() {
		t.Run(policy, func(t *testing.T) {
			virtually(t, func(t *testing.T, h *house) {
				id, err := h.world.Run(sim.ContainerOptions{Name: "web", Image: "busybox", RestartPolicy: "always"})
				require.NoError(t, err)
				pass(time.Second)
				h.wants(id, messages.StateCreated, policy)
				pass(time.Second)
				require.Equal(t, messages.ContainerExited, h.status(id))
				require.Equal(t, map[string]int{sim.OpStopContainer: 1}, h.calls())
				for range 3 { // dockerd's own restart starts it
					h.world.PowerOff()
					h.world.Boot()
					pass(2 * time.Second)
				}
				if policy == messages.PolicyOnce {
					pass(time.Hour)
					require.Equal(t, map[string]int{sim.OpStopContainer: 1}, h.calls(), "one stop, then drift")
					require.Equal(t, messages.ContainerRunning, h.status(id))
					d := h.says(id, messages.ConditionDrifted)
					require.Equal(t, metav1.ConditionTrue, d.Status)
					require.Contains(t, d.Message, "restart policy (always)")
					return
				}
				pass(time.Hour)
				require.Equal(t, messages.ContainerExited, h.status(id), "it is stopped again")
				require.Greater(t, h.calls()[sim.OpStopContainer], 1)
				require.LessOrEqual(t, h.calls()[sim.OpStopContainer], 4)
				require.Equal(t, metav1.ConditionFalse, h.says(id, messages.ConditionDrifted).Status)
			})
		})
	}
}

// Whoever starts it again and again is answered more and more slowly, and everybody can see it.
func TestVirtual_EnforceBacksOff(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		id := h.in(messages.ContainerExited)
		pass(time.Second)
		h.wants(id, messages.StateCreated, messages.PolicyEnforce)
		pass(time.Second)
		drifted := 0
		for began := time.Now(); time.Since(began) < time.Hour; pass(time.Second) {
			if h.status(id) != messages.ContainerRunning {
				require.NoError(t, h.world.Start(id))
				pass(100 * time.Millisecond)
				d := h.says(id, messages.ConditionDrifted)
				if d.Status == metav1.ConditionTrue && strings.Contains(d.Message, "to be corrected at") {
					drifted++
					tree, err := h.client.Tree(t.Context())
					require.NoError(t, err)
					require.Contains(t, fmt.Sprint(tree), "spec.state", "what is to be corrected is seen to be tried again")
				}
			}
		}
		stops := h.calls()[sim.OpStopContainer]
		require.InDelta(t, 60, stops, 45, "no fight")
		require.GreaterOrEqual(t, drifted, stops-1)
		pass(time.Hour)
		require.Equal(t, messages.ContainerExited, h.status(id))
	})
}

func TestVirtual_EnforceAndActions(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		id := h.in(messages.ContainerRunning)
		pass(time.Second)
		h.wants(id, messages.StateRunning, messages.PolicyEnforce)
		pass(time.Second)
		for _, verb := range []string{messages.ActionStop, messages.ActionKill, messages.ActionPause} {
			_, err := h.act(id, verb)
			require.ErrorIs(t, err, messages.ErrForbidden, verb)
			require.ErrorContains(t, err, "Enforce")
		}
		h.refused("container", id, `{"metadata":{"annotations":{"`+messages.ActionAnnotation+`":"stop"}}}`, messages.CodeForbidden, "Enforce")
		_, err := h.act(id, messages.ActionRestart)
		require.NoError(t, err)
		pass(time.Second)
		require.Equal(t, messages.ActionSucceeded, h.container(id).Status.LastAction.State)
		require.NoError(t, h.world.Kill(id))
		require.NoError(t, h.world.MarkDead(id))
		pass(time.Second) // between death and the mark it may have been started
		before := h.calls()[sim.OpStartContainer]
		pass(time.Hour)
		require.Equal(t, before, h.calls()[sim.OpStartContainer], "what is dead is not enforced")
	})
}

func TestVirtual_AFailedIntent(t *testing.T) {
	t.Run("for good", func(t *testing.T) {
		virtually(t, func(t *testing.T, h *house) {
			id, err := h.world.CreateContainer(sim.ContainerOptions{Name: "bad", Image: "busybox", Cmd: []string{sim.MissingCommand}})
			require.NoError(t, err)
			pass(time.Second)
			h.wants(id, messages.StateRunning, messages.PolicyOnce)
			pass(time.Hour)
			require.Equal(t, map[string]int{sim.OpStartContainer: 1}, h.calls(), "one attempt")
			c := h.says(id, messages.ConditionIntentApplied)
			require.Equal(t, messages.ReasonFailed, c.Reason)
			require.Contains(t, c.Message, "executable file not found")
			now := h.container(id)
			require.Equal(t, now.Generation, now.Status.ObservedGeneration)
			h.wants(id, messages.StateRunning, messages.PolicyEnforce)
			pass(time.Hour)
			require.Equal(t, map[string]int{sim.OpStartContainer: 2}, h.calls(), "and one for each new generation")
		})
	})
	t.Run("for a while", func(t *testing.T) {
		virtually(t, func(t *testing.T, h *house) {
			id := h.in(messages.ContainerCreated)
			pass(time.Second)
			undo := h.world.Faults().Fail(sim.OpStartContainer, id, 0, errors.New("not now"))
			h.wants(id, messages.StateRunning, messages.PolicyOnce)
			pass(10 * time.Minute)
			c := h.says(id, messages.ConditionIntentApplied)
			require.Equal(t, messages.ReasonRetrying, c.Reason)
			require.Contains(t, c.Message, "not now")
			require.Contains(t, c.Message, "next try at")
			require.Less(t, h.container(id).Status.ObservedGeneration, h.container(id).Generation)
			tries := h.calls()[sim.OpStartContainer]
			require.Greater(t, tries, 8)
			require.Less(t, tries, 40, "capped backoff")
			undo()
			pass(2 * time.Minute)
			require.Equal(t, messages.ContainerRunning, h.status(id))
			require.Equal(t, metav1.ConditionTrue, h.says(id, messages.ConditionIntentApplied).Status)
			tree, err := h.client.Tree(t.Context())
			require.NoError(t, err)
			require.NotContains(t, fmt.Sprint(tree), "spec.state")
		})
	})
	t.Run("until something newer", func(t *testing.T) {
		virtually(t, func(t *testing.T, h *house) {
			id := h.in(messages.ContainerCreated)
			pass(time.Second)
			h.world.Faults().Fail(sim.OpStartContainer, id, 0, errors.New("not now"))
			h.wants(id, messages.StateRunning, messages.PolicyOnce)
			pass(time.Minute)
			h.wants(id, messages.StateCreated, messages.PolicyOnce)
			pass(time.Second)
			tries := h.calls()
			pass(time.Hour)
			require.Equal(t, tries, h.calls())
			require.Equal(t, metav1.ConditionTrue, h.says(id, messages.ConditionIntentApplied).Status)
		})
	})
}

func TestVirtual_Actions(t *testing.T) {
	const created, running, paused, exited = messages.ContainerCreated, messages.ContainerRunning, messages.ContainerPaused, messages.ContainerExited
	const done, failed = messages.ActionSucceeded, messages.ActionFailed
	for _, c := range []struct{ verb, from, state, after, call string }{
		{messages.ActionStart, created, done, running, sim.OpStartContainer},
		{messages.ActionStart, exited, done, running, sim.OpStartContainer},
		{messages.ActionStart, running, done, running, ""},
		{messages.ActionStart, paused, failed, paused, ""},
		{messages.ActionStop, running, done, exited, sim.OpStopContainer},
		{messages.ActionStop, paused, done, exited, sim.OpStopContainer},
		{messages.ActionStop, exited, done, exited, ""},
		{messages.ActionStop, created, done, created, ""},
		{messages.ActionPause, running, done, paused, sim.OpPauseContainer},
		{messages.ActionPause, paused, done, paused, ""},
		{messages.ActionPause, exited, failed, exited, ""},
		{messages.ActionUnpause, paused, done, running, sim.OpUnpauseContainer},
		{messages.ActionUnpause, running, done, running, ""},
		{messages.ActionUnpause, exited, failed, exited, ""},
		{messages.ActionRestart, running, done, running, sim.OpRestartContainer},
		{messages.ActionRestart, exited, done, running, sim.OpRestartContainer},
		{messages.ActionKill, running, done, exited, sim.OpKillContainer},
		{messages.ActionKill, exited, done, exited, ""},
	} {
		for _, how := range []string{"message", "annotation"} {
			t.Run(c.verb+" "+c.from+" by "+how, func(t *testing.T) {
				virtually(t, func(t *testing.T, h *house) {
					id := h.in(c.from)
					pass(time.Second)
					var began *messages.Container
					if how == "message" {
						var err error
						began, err = h.act(id, c.verb)
						require.NoError(t, err)
					} else {
						began = h.patch("container", id, `{"metadata":{"annotations":{"`+messages.ActionAnnotation+`":"`+c.verb+`"}}}`).Object.(*messages.Container)
						require.Empty(t, began.Annotations, "it is consumed")
					}
					require.NotNil(t, began.Status.LastAction)
					require.NotEmpty(t, began.Status.LastAction.ID)
					pass(time.Second)
					last := h.container(id).Status.LastAction
					require.Equal(t, began.Status.LastAction.ID, last.ID)
					require.Equal(t, c.verb, last.Action)
					require.Equal(t, c.state, last.State, last.Error)
					require.Equal(t, c.state == failed, last.Error != "")
					require.False(t, last.RequestedAt.IsZero())
					require.NotNil(t, last.ObservedAt)
					require.NotNil(t, last.CompletedAt)
					require.Equal(t, c.after, h.status(id))
					want := map[string]int{}
					if c.call != "" {
						want[c.call] = 1
					}
					pass(time.Hour)
					require.Equal(t, want, h.calls(), "one attempt")
				})
			})
		}
	}
}

func TestVirtual_ActionsRefused(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		id := h.in(messages.ContainerRunning)
		pass(time.Second)
		_, err := h.act(id, "explode")
		require.ErrorIs(t, err, messages.ErrInvalid)
		require.ErrorContains(t, err, "start, stop, pause, unpause, restart, kill")
		h.refused("container", id, `{"metadata":{"annotations":{"`+messages.ActionAnnotation+`":"explode"}}}`, messages.CodeInvalid, "explode")
		_, err = h.client.Action(t.Context(), messages.ActionRequest{Name: id, UID: "another", Action: messages.ActionStop})
		require.ErrorIs(t, err, messages.ErrConflict)
		_, err = h.act("nobody", messages.ActionStop)
		require.ErrorIs(t, err, messages.ErrNotFound)

		undo := h.world.Faults().Hang(sim.OpStopContainer, id)
		_, err = h.act(id, messages.ActionStop)
		require.NoError(t, err)
		pass(time.Second)
		_, err = h.act(id, messages.ActionKill)
		require.ErrorIs(t, err, messages.ErrConflict, "one at a time")
		other := h.in(messages.ContainerRunning)
		pass(100 * time.Millisecond)
		_, err = h.act(other, messages.ActionStop)
		require.NoError(t, err)
		pass(100 * time.Millisecond)
		require.Equal(t, messages.ContainerExited, h.status(other), "a stop that hangs holds up nobody else")
		undo()
		pass(time.Second)
		require.Equal(t, messages.ActionSucceeded, h.container(id).Status.LastAction.State)

		h.world.Faults().Fail(sim.OpRemoveContainer, id, 0, errors.New("busy"))
		require.NoError(t, h.delete("container", id))
		_, err = h.act(id, messages.ActionStart)
		require.ErrorIs(t, err, messages.ErrConflict)
		require.ErrorContains(t, err, "deleted")
	})
}

// An action that was not begun gives way to a newer one, and to a deletion.
func TestVirtual_ActionsSuperseded(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		id := h.in(messages.ContainerRunning)
		pass(time.Second)
		h.world.Down()
		pass(time.Second)
		first, err := h.act(id, messages.ActionStop)
		require.NoError(t, err)
		require.Equal(t, messages.ActionPending, first.Status.LastAction.State)
		pass(time.Second)
		second, err := h.act(id, messages.ActionPause)
		require.NoError(t, err)
		require.NotEqual(t, first.Status.LastAction.ID, second.Status.LastAction.ID)
		require.Contains(t, h.supersededWords(), first.Status.LastAction.ID)
		h.world.Up()
		pass(2 * time.Second)
		require.Equal(t, messages.ContainerPaused, h.status(id))
		require.Equal(t, map[string]int{sim.OpPauseContainer: 1}, h.calls())
		require.Equal(t, messages.ActionSucceeded, h.container(id).Status.LastAction.State)

		h.world.Down()
		pass(time.Second)
		third, err := h.act(id, messages.ActionUnpause)
		require.NoError(t, err)
		require.NoError(t, h.delete("container", id))
		pass(time.Second)
		require.Equal(t, messages.ActionSuperseded, h.container(id).Status.LastAction.State)
		require.Contains(t, h.supersededWords(), third.Status.LastAction.ID)
		h.world.Up()
		pass(2 * time.Second)
		require.Nil(t, h.get("container", id))
		require.Equal(t, map[string]int{sim.OpPauseContainer: 1}, h.calls())
	})
}

// supersededWords are the messages of all events of that type.
func (h *house) supersededWords() string {
	r, err := h.client.Events(h.Context(), messages.EventsRequest{})
	require.NoError(h, err)
	var all []string
	for _, e := range r.Events {
		if e.Type == messages.EventSuperseded {
			all = append(all, e.Message)
		}
	}
	return strings.Join(all, "\n")
}

func TestVirtual_AnActionDisarmsOnce(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		id := h.in(messages.ContainerCreated)
		pass(time.Second)
		undo := h.world.Faults().Fail(sim.OpPauseContainer, id, 0, errors.New("not now"))
		h.wants(id, messages.StatePaused, messages.PolicyOnce)
		pass(time.Minute)
		require.Equal(t, messages.ContainerRunning, h.status(id))
		_, err := h.act(id, messages.ActionStop)
		require.NoError(t, err)
		undo()
		pass(time.Hour)
		require.Equal(t, messages.ContainerExited, h.status(id), "the newer wish counts")
		require.Equal(t, messages.ReasonSuperseded, h.says(id, messages.ConditionIntentApplied).Reason)
		now := h.container(id)
		require.Equal(t, now.Generation, now.Status.ObservedGeneration)
	})
}

func Test_I4_AnIntentPatchedBetweenConnectionsIsApplied(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		one, two, three := h.in(messages.ContainerExited), h.in(messages.ContainerRunning), h.in(messages.ContainerRunning)
		pass(time.Second)
		undo := h.world.Faults().Fail(sim.OpEvents, "", 0, errors.New("no stream"))
		h.world.Faults().CutStreams()
		pass(time.Second)
		require.Equal(t, metav1.ConditionFalse, h.ready(), "the watcher is between connections")
		h.wants(one, messages.StateRunning, messages.PolicyOnce)
		h.wants(two, messages.StateCreated, messages.PolicyEnforce)
		_, err := h.act(three, messages.ActionPause)
		require.NoError(t, err)
		pass(time.Minute)
		require.Empty(t, h.calls())
		// Nothing else happens, and no event tells of anything.
		mute := h.world.Faults().StopEvents()
		undo()
		pass(2 * time.Second)
		require.Equal(t, messages.ContainerRunning, h.status(one))
		require.Equal(t, messages.ContainerExited, h.status(two))
		require.Equal(t, messages.ContainerPaused, h.status(three))
		require.Equal(t, map[string]int{sim.OpStartContainer: 1, sim.OpStopContainer: 1, sim.OpPauseContainer: 1}, h.calls())
		for _, id := range []string{one, two} {
			require.Equal(t, metav1.ConditionTrue, h.says(id, messages.ConditionIntentApplied).Status)
		}
		require.Equal(t, messages.ActionSucceeded, h.container(three).Status.LastAction.State)
		mute()
	})
}

// An answer that is lost is no failure, if the engine did what it was told.
func TestVirtual_LostAnswers(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		for _, verb := range messages.Actions() {
			from := map[string]string{messages.ActionStart: messages.ContainerExited, messages.ActionUnpause: messages.ContainerPaused}[verb]
			if from == "" {
				from = messages.ContainerRunning
			}
			id := h.in(from)
			pass(time.Second)
			op := strings.ToUpper(verb[:1]) + verb[1:] + "Container"
			h.world.Faults().LoseAnswer(op, id, 1, errors.New("lost"))
			before := h.calls()[op]
			_, err := h.act(id, verb)
			require.NoError(t, err)
			pass(time.Minute)
			require.Equal(t, messages.ActionSucceeded, h.container(id).Status.LastAction.State, verb)
			require.Equal(t, before+1, h.calls()[op], verb)
		}
		id := h.in(messages.ContainerRunning)
		pass(time.Second)
		h.world.Faults().Hang(sim.OpKillContainer, id)
		_, err := h.act(id, messages.ActionKill)
		require.NoError(t, err)
		pass(time.Minute)
		last := h.container(id).Status.LastAction
		require.Equal(t, messages.ActionFailed, last.State)
		require.Contains(t, last.Error, "OutcomeUnknown")
	})
}

// What is pending when the mirror is reset ends, visibly; nothing of it comes back.
func TestVirtual_ASweepEndsIntents(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		one, two, three := h.in(messages.ContainerExited), h.in(messages.ContainerRunning), h.in(messages.ContainerRunning)
		pass(time.Second)
		h.wants(three, messages.StateRunning, messages.PolicyOnce)
		pass(time.Second)
		h.world.Down()
		pass(time.Second)
		h.wants(one, messages.StateRunning, messages.PolicyOnce)
		_, err := h.act(two, messages.ActionStop)
		require.NoError(t, err)
		h.set("running=false")
		pass(time.Minute)
		require.Empty(t, h.list("container"))
		said := h.supersededWords()
		require.Contains(t, said, fmt.Sprintf("spec.state=running of container %q: Superseded/MirrorReset", one))
		require.Contains(t, said, fmt.Sprintf("of container %q: Superseded/MirrorReset", two))
		require.NotContains(t, said, three, "that one was applied")
		h.world.Up()
		h.set("running=true")
		h.settled()
		pass(time.Minute)
		require.Empty(t, h.calls())
		require.Equal(t, messages.StateUnknown, h.container(one).Spec.State)
		require.Nil(t, h.container(two).Status.LastAction)
	})
}

// A container whose actor only panics takes no action, and says so in a way that a client may try again.
func TestAnActionOfAQuarantinedContainer(t *testing.T) {
	h := start(t, nil).settled()
	id := h.run("web")
	h.eventually("mirrored", func() bool { return h.get("container", id) != nil })
	_, err := h.client.Debug(t.Context(), messages.DebugRequest{Actor: "rdd/containers/" + id, Action: "panic", Count: 6})
	require.NoError(t, err)
	h.eventually("quarantined", func() bool {
		_ = h.world.Noise(id)
		_ = h.world.Rename(id, fmt.Sprint("web", time.Now().UnixNano()))
		c := messages.Condition(h.get("container", id), messages.ConditionSynced)
		return c != nil && c.Reason == messages.ReasonQuarantined
	})
	_, err = h.act(id, messages.ActionStop)
	require.ErrorIs(t, err, messages.ErrTransient)
	require.ErrorContains(t, err, "quarantined")
	require.Empty(t, h.calls())
}

package faults

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

func (h *house) isSettled() bool {
	c := h.condition(messages.ConditionSettled)
	return c.Status == metav1.ConditionTrue && c.ObservedGeneration == h.app().Generation
}

// Whether it settles a millisecond before the deadline, at it or after it: what the wait says is what the App is.
func Test_F39_TheAnswerAtTheDeadlineIsTheStateAtTheDeadline(t *testing.T) {
	const limit = 20 * time.Second
	for _, offset := range []time.Duration{-time.Millisecond, 0, time.Millisecond} {
		for round := range 10 {
			t.Run(fmt.Sprint(offset, " ", round), func(t *testing.T) {
				virtuallyOnMachine(t, func(t *testing.T, h *house, m *machine) {
					release := m.holdStarts()
					h.set("virtualMachine.cpus=3")
					generation := h.app().Generation
					time.AfterFunc(limit+offset, release)
					app, err := h.client.WaitSettled(t.Context(), supervisor.SettleOptions{Generation: generation, Timeout: limit})
					switch {
					case err == nil:
						c := messages.Condition(app, messages.ConditionSettled)
						require.Equal(t, metav1.ConditionTrue, c.Status)
						require.Equal(t, generation, c.ObservedGeneration)
						require.True(t, h.isSettled())
					default:
						require.ErrorIs(t, err, messages.ErrTimeout)
						require.Equal(t, string(metav1.ConditionFalse), messages.AsError(err).Details["status"])
					}
					switch offset {
					case -time.Millisecond:
						require.NoError(t, err, "it had settled")
					case time.Millisecond:
						require.Error(t, err, "it had not")
						require.False(t, h.isSettled())
					}
					pass(time.Second)
					require.True(t, h.isSettled(), "the change goes on")
				})
			})
		}
	}
}

// However short the wait: what has settled has settled.
func Test_F39_AWaitWithoutTimeSeesWhatIs(t *testing.T) {
	virtuallyOnMachine(t, func(t *testing.T, h *house, m *machine) {
		_, err := h.client.WaitSettled(t.Context(), supervisor.SettleOptions{Timeout: time.Nanosecond})
		require.NoError(t, err)
		release := m.holdStarts()
		defer release()
		h.set("virtualMachine.cpus=3")
		_, err = h.client.WaitSettled(t.Context(), supervisor.SettleOptions{Timeout: time.Nanosecond})
		require.ErrorIs(t, err, messages.ErrTimeout)
	})
}

// delayed lets the next messages of an actor wait before it takes each.
func (h *house) delayed(actor string, by time.Duration, messagesHit int) {
	h.Helper()
	_, err := h.client.Debug(h.Context(), messages.DebugRequest{Actor: actor, Action: "delay", Delay: metav1.Duration{Duration: by}, Count: messagesHit, NoTrigger: true})
	require.NoError(h, err)
}

// Words inside the house come late, while the engine went and came back long ago, or the other way round: what is shown in the end is
// what a look at the engine shows, never the last word that happened to be told.
func Test_F37_TheProbeWinsOverWordsThatComeLate(t *testing.T) {
	for _, actor := range []string{"rdd/app", "rdd/vm", "rdd/engine", "rdd/engine/session", "rdd/containers", "rdd/store"} {
		t.Run(actor, func(t *testing.T) {
			virtuallyOnMachine(t, func(t *testing.T, h *house, _ *machine) {
				id := h.run("web")
				pass(time.Second)
				h.delayed(actor, 700*time.Millisecond, 8)
				h.world.Down()
				pass(300 * time.Millisecond)
				h.world.Up()
				require.NoError(t, h.world.Pause("web"))
				pass(time.Minute)
				require.Equal(t, metav1.ConditionTrue, h.ready())
				require.True(t, h.isSettled())
				require.Equal(t, messages.ContainerPaused, h.get("container", id).(*messages.Container).Status.Status)
				h.delayed(actor, 700*time.Millisecond, 8)
				h.world.Down()
				h.world.Up()
				h.world.Down()
				pass(time.Minute)
				require.Equal(t, metav1.ConditionFalse, h.ready())
			})
		})
	}
}

// The restart that a change needs is late, since who carries it out is: nothing says that it is settled before.
func Test_F38_NotSettledUntilTheLateRestartIsDone(t *testing.T) {
	for _, actor := range []string{"rdd/vm", "rdd/engine", "rdd/app"} {
		t.Run(actor, func(t *testing.T) {
			virtuallyOnMachine(t, func(t *testing.T, h *house, m *machine) {
				boots := len(m.booted())
				release := m.holdStarts()
				h.delayed(actor, 1500*time.Millisecond, 5)
				h.set("virtualMachine.memory=4096")
				generation := h.app().Generation
				for range 20 {
					pass(time.Second)
					require.Empty(t, met(h.app(), generation))
				}
				require.Len(t, m.booted(), boots+1)
				release()
				_, err := h.client.WaitSettled(t.Context(), supervisor.SettleOptions{Generation: generation, Timeout: time.Minute})
				require.NoError(t, err)
				require.Equal(t, int64(4096), m.booted()[boots].VM.Memory)
				synctest.Wait()
				require.True(t, h.isSettled())
			})
		})
	}
}

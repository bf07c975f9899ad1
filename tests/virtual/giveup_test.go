package virtual

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// tolerates is how many panics in how long a child of the root is restarted after; one more, and it is given up.
var tolerates = []struct {
	path   string
	panics int
	within time.Duration
}{
	{control.Root, 5, time.Minute},
	{control.Journal, 3, 10 * time.Second},
	{control.Store, 3, 10 * time.Second},
	{control.App, 5, 5 * time.Minute},
	{control.VM, 5, 5 * time.Minute},
	{control.Engine, 5, 5 * time.Minute},
	{control.Containers, 3, 5 * time.Minute},
	{control.Images, 3, 5 * time.Minute},
	{control.Volumes, 3, 5 * time.Minute},
	{control.Namespaces, 3, 5 * time.Minute},
}

// livingHouse is one with a container and a volume, where everything is right.
func livingHouse(t *testing.T, test func(t *testing.T, h *house)) {
	in(t, options{seed: 1, seeded: true, audit: 10000 * time.Hour}, func(t *testing.T, h *house) {
		_, err := h.world.Run(sim.ContainerOptions{Name: "web", Image: "busybox", Volumes: []string{"data:/data"}})
		require.NoError(t, err)
		h.converge(mended, true)
		test(t, h)
	})
}

// panicking lets an actor panic at its next messages; -1 = at all from now on.
func (h *house) panicking(path string, times int) {
	h.order.do(func() {
		_, err := h.client.Debug(context.Background(), messages.DebugRequest{Actor: path, Action: "panic", Count: times})
		if err != nil {
			h.t.Error(err)
		}
	})
}

// counted is how often the house said what of whom.
func (h *house) counted() map[string]map[string]int {
	reply, err := h.client.Events(context.Background(), messages.EventsRequest{})
	require.NoError(h.t, err)
	out := map[string]map[string]int{}
	for _, e := range reply.Events {
		if out[e.Type] == nil {
			out[e.Type] = map[string]int{}
		}
		if e.Type != messages.EventActorFailed || e.Stack != "" {
			out[e.Type][e.Actor]++
		}
	}
	return out
}

func (h *house) readyNow() metav1.ConditionStatus {
	return messages.Condition(h.app(), messages.ConditionContainerEngineReady).Status
}

func Test_F51_WhatPanicsTooOftenIsGivenUpAloudAndTheRestGoesOn(t *testing.T) {
	for _, c := range tolerates {
		t.Run(strings.ReplaceAll(c.path, "/", "."), func(t *testing.T) {
			t.Parallel()
			livingHouse(t, func(t *testing.T, h *house) {
				h.panicking(c.path, -1)
				for n := 0; n < 120 && len(h.counted()[messages.EventGaveUp]) == 0; n++ {
					h.pass(500 * time.Millisecond)
				}
				said := h.counted()
				require.Equal(t, map[string]int{c.path: 1}, said[messages.EventGaveUp])
				require.Equal(t, map[string]int{c.path: c.panics + 1}, said[messages.EventActorFailed], "each with its stack")
				require.Equal(t, map[string]int{c.path: c.panics}, said[messages.EventActorRestarted], "nothing else")
				require.Empty(t, said[messages.EventEscalated])
				select {
				case err := <-h.rdd.Failed():
					require.ErrorContains(t, err, "actor "+c.path+" given up")
				default:
					t.Fatal("the embedder was not told")
				}
				if c.path != control.Root {
					require.Len(t, h.list(messages.KindContainer), 1, "what is mirrored can be read")
				}
				h.stillAnswers(c.path)
			})
		})
	}
}

// stillAnswers: a request that needs an actor that is no more is refused, and others are not.
func (h *house) stillAnswers(without string) {
	began := time.Now()
	var set, container error
	h.order.do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, set = h.client.Set(ctx, messages.SetRequest{Patch: []byte(`{"virtualMachine":{"cpus":3}}`)})
		container = h.erase(ctx, messages.DeleteRequest{Kind: messages.KindContainer, Name: "web"})
	})
	refused := map[string]error{control.App: set, control.Containers: container}
	switch without {
	case control.Root: // nobody is left
	case control.Journal, control.Store:
		require.Error(h.t, set, "nothing is promised that is not kept")
		require.Error(h.t, container)
		return
	default:
		for path, err := range refused {
			if path == without {
				require.ErrorIs(h.t, err, messages.ErrUnavailable, path)
			} else {
				require.NoError(h.t, err, path)
			}
		}
		require.Less(h.t, time.Since(began), time.Second)
	}
}

func Test_F51_PanicsThatAreFarApartAreBorneForEver(t *testing.T) {
	for _, c := range tolerates {
		t.Run(strings.ReplaceAll(c.path, "/", "."), func(t *testing.T) {
			t.Parallel()
			livingHouse(t, func(t *testing.T, h *house) {
				const often = 12
				for range often {
					h.panicking(c.path, 1)
					h.pass(c.within/time.Duration(c.panics) + time.Second)
				}
				h.converge(mended, true)
				said := h.counted()
				require.Equal(t, map[string]int{c.path: often}, said[messages.EventActorFailed])
				require.Equal(t, map[string]int{c.path: often}, said[messages.EventActorRestarted])
			})
		})
	}
}

func Test_F51_ASessionThatOnlyPanicsMakesItsWatcherFail(t *testing.T) {
	livingHouse(t, func(t *testing.T, h *house) {
		h.panicking(control.Session, 6)
		h.pass(10 * time.Second)
		h.converge(mended, true)
		said := h.counted()
		require.Equal(t, map[string]int{control.Session: 1}, said[messages.EventEscalated])
		require.Equal(t, map[string]int{control.Session: 5, control.Engine: 1}, said[messages.EventActorRestarted])
		require.Empty(t, said[messages.EventGaveUp])
	})
}

func Test_F51_ANamespaceThatOnlyPanicsMakesItsParentFailAndBeGivenUp(t *testing.T) {
	livingHouse(t, func(t *testing.T, h *house) {
		uid := h.list(messages.KindContainerNamespace)[0].GetUID()
		h.panicking(control.Moby, 6)
		h.pass(10 * time.Second)
		h.converge(mended, true)
		said := h.counted()
		require.Equal(t, map[string]int{control.Moby: 1}, said[messages.EventEscalated])
		require.Equal(t, map[string]int{control.Moby: 5, control.Namespaces: 1}, said[messages.EventActorRestarted])
		require.Equal(t, uid, h.list(messages.KindContainerNamespace)[0].GetUID(), "the resource does not blink")

		h.panicking(control.Moby, -1)
		h.pass(time.Minute)
		said = h.counted()
		require.Equal(t, map[string]int{control.Namespaces: 1}, said[messages.EventGaveUp])
		require.ErrorContains(t, <-h.rdd.Failed(), "actor "+control.Namespaces+" given up")
	})
}

func Test_F51_AnObjectThatOnlyPanicsIsQuarantinedAndNothingElse(t *testing.T) {
	for _, q := range quarantinedKinds {
		t.Run(q.kind, func(t *testing.T) {
			t.Parallel()
			livingHouse(t, func(t *testing.T, h *house) {
				path, err := q.add(h.world, "bad")
				require.NoError(t, err)
				h.converge(mended, true)
				before := h.list(q.kind)
				h.panicking(path, -1)
				h.pass(5 * time.Second)
				said := h.counted()
				require.Equal(t, map[string]int{path: 1}, said[messages.EventQuarantined])
				require.Equal(t, map[string]int{path: 6}, said[messages.EventActorFailed])
				require.Equal(t, map[string]int{path: 5}, said[messages.EventActorRestarted])
				require.Empty(t, said[messages.EventGaveUp])
				shown := 0
				for _, o := range h.list(q.kind) {
					if messages.Condition(o, messages.ConditionSynced).Reason == messages.ReasonQuarantined {
						shown++
					}
				}
				require.Equal(t, 1, shown)
				require.Len(t, h.list(q.kind), len(before), "its resource stays")
				c := messages.Condition(h.app(), messages.ConditionSettled)
				require.Equal(t, metav1.ConditionTrue, c.Status, "a quarantined object does not unsettle")

				h.pass(11 * time.Minute) // each round of quarantine is longer
				require.Greater(t, h.counted()[messages.EventQuarantined][path], 1, "it had other chances")
				require.NoError(t, q.remove(h.world, "bad"))
				h.pass(mended)
				require.Len(t, h.list(q.kind), len(before)-1, "what the engine no longer has goes")
				h.converge(mended, true)
			})
		})
	}
}

// Without this the App would say Ready while nobody watches, until the restart is due.
func Test_F51_TheAppHearsAtOnceThatItsWatcherHasFailed(t *testing.T) {
	late := func(_ *port, lab *kit.Lab) { lab.Jitter = func() float64 { return 0.999 } }
	in(t, options{seed: 1, seeded: true, change: late}, func(t *testing.T, h *house) {
		h.converge(mended, true)
		for n := range 4 {
			h.panicking(control.Engine, 1)
			require.Equal(t, n, h.counted()[messages.EventActorRestarted][control.Engine], "it waits")
			c := messages.Condition(h.app(), messages.ConditionContainerEngineReady)
			require.Equal(t, metav1.ConditionFalse, c.Status)
			require.Equal(t, messages.ReasonDisconnected, c.Reason)
			require.Contains(t, c.Message, "panic")
			h.pass(2 * time.Second)
			require.Equal(t, metav1.ConditionTrue, h.readyNow(), fmt.Sprint("after panic ", n))
		}
	})
}

// What a call has done in the engine before it panicked is seen; made again, it finds nothing left to do.
func Test_F52_APanicAfterTheEngineHasDoneItIsMended(t *testing.T) {
	for _, c := range []struct{ kind, name, op string }{
		{messages.KindContainer, "web", sim.OpRemoveContainer},
		{messages.KindVolume, "spare", sim.OpRemoveVolume},
		{messages.KindImage, "spare:latest", sim.OpRemoveImage},
	} {
		t.Run(c.kind, func(t *testing.T) {
			livingHouse(t, func(t *testing.T, h *house) {
				_, err := h.world.VolumeCreate(volume("spare"))
				require.NoError(t, err)
				_, err = h.world.Import("spare:latest", "spare")
				require.NoError(t, err)
				h.converge(mended, true)
				before := len(h.list(c.kind))
				h.port.set(func() { h.port.panicAfter = c.op })
				if err := h.delete(c.kind, c.name); err != nil {
					require.ErrorContains(t, err, "no answer", "who asked may have lost the answer with the panic, but not the deletion")
				}
				h.pass(mended)
				require.Len(t, h.list(c.kind), before-1)
				h.converge(mended, true)
				failed := h.counted()[messages.EventActorFailed]
				require.Len(t, failed, 1)
			})
		})
	}
}

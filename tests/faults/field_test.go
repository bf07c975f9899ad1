package faults

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// The faults F02 to F12, F42 and F46 seen in the field, each on the engine in memory, in virtual time.

// auditPeriod is the longest time between two audits, and the moment after which they compare.
const auditPeriod = 66*time.Second + 500*time.Millisecond

// reader stands between rdd's reader and the stream.
type reader struct {
	dockerio.Dialer
	// before is called before each event is read, after changes it on its way.
	before func()
	after  func(dockerio.Event) dockerio.Event
}

type (
	readerEngine struct {
		dockerio.Engine
		r reader
	}
	readerStream struct {
		dockerio.Stream
		r reader
	}
)

func (r reader) Dial(ctx context.Context, at messages.Endpoint) (dockerio.Engine, error) {
	e, err := r.Dialer.Dial(ctx, at)
	return readerEngine{e, r}, err
}

func (e readerEngine) Events(ctx context.Context, since dockerio.Time) (dockerio.Stream, error) {
	s, err := e.Engine.Events(ctx, since)
	return readerStream{s, e.r}, err
}

func (s readerStream) Next() (dockerio.Event, error) {
	if s.r.before != nil {
		s.r.before()
	}
	e, err := s.Stream.Next()
	if s.r.after != nil {
		e = s.r.after(e)
	}
	return e, err
}

func (h *house) shown(id string) string {
	h.Helper()
	o := h.get("container", id)
	require.NotNil(h, o)
	return o.(*messages.Container).Status.Status
}

// equal: the mirror has what the engine has.
func (h *house) equal() {
	h.Helper()
	s := h.world.Snapshot()
	require.Len(h, h.list("container"), len(s.Containers))
	for _, c := range s.Containers {
		require.Equal(h, c.Status, h.shown(c.ID), c.Name)
		require.Equal(h, c.Name, h.get("container", c.ID).(*messages.Container).Status.Name)
	}
	tags := 0
	for _, i := range s.Images {
		tags += max(1, len(i.Tags))
	}
	require.Len(h, h.list("image"), tags)
	require.Len(h, h.list("volume"), len(s.Volumes))
	require.Equal(h, metav1.ConditionTrue, h.ready())
}

func Test_F03_AClockThatJumpsLosesNothing(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		virtually(t, func(t *testing.T, h *house) {
			before := h.run("before")
			h.world.Faults().SkewBy(jump)
			after := h.run("after")
			require.NoError(t, h.world.Pause("before"))
			pass(time.Second)
			require.Equal(t, messages.ContainerPaused, h.shown(before))
			require.NotNil(t, h.get("container", after))
			h.world.Faults().CutStreams()
			require.NoError(t, h.world.Rm("after", true))
			again := h.run("again")
			pass(2 * time.Second)
			c := messages.Condition(h.get("app", "app"), messages.ConditionClockSynced)
			require.Equal(t, metav1.ConditionFalse, c.Status)
			require.Equal(t, messages.ReasonSkewed, c.Reason)
			require.NotNil(t, h.get("container", again))
			h.equal()
		})
	}
}

func Test_F04_AClockThatStepsBackReplaysNoAction(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		h.run("user")
		_, err := h.world.VolumeCreate(sim.VolumeOptions{Name: "data"})
		require.NoError(t, err)
		pass(time.Second)
		h.world.ResetCalls()
		require.NoError(t, h.delete("volume", "data"))
		pass(time.Second)
		h.world.Faults().SkewBy(-90 * time.Second)
		_, err = h.world.VolumeCreate(sim.VolumeOptions{Name: "data"}) // the same name, and by its time from before the deletion
		require.NoError(t, err)
		id := h.run("later")
		pass(time.Second)
		require.NotNil(t, h.get("container", id))
		h.world.Faults().CutStreams()
		pass(2 * auditPeriod)
		require.Equal(t, []sim.Call{{Op: sim.OpRemoveVolume, Name: "data"}}, h.world.MutatingCalls(), "one deletion, one call")
		require.NotNil(t, h.get("volume", "data"))
		h.equal()
	})
}

func Test_F06_TheEndOfTheStreamIsALoss(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		id := h.run("web")
		pass(time.Second)
		uid := h.get("container", id).GetUID()
		lists := h.world.Calls(sim.OpListContainers)
		undo := h.world.Faults().Hang(sim.OpInfo, "") // so that the loss is seen
		h.world.Faults().CutStreams()
		require.NoError(t, h.world.Pause("web"))
		pass(100 * time.Millisecond)
		require.Equal(t, metav1.ConditionFalse, h.ready(), "within 100 ms")
		undo()
		pass(2 * time.Second)
		require.Equal(t, messages.ContainerPaused, h.shown(id))
		require.Equal(t, uid, h.get("container", id).GetUID())
		require.Equal(t, lists+1, h.world.Calls(sim.OpListContainers), "one resync")
		h.equal()
	})
}

func Test_F07_AfterACutTheEngineIsListedNotReplayed(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		gone, kept, busy := h.run("gone"), h.run("kept"), h.run("busy")
		pass(time.Second)
		undo := h.world.Faults().Fail(sim.OpEvents, "", 0, messages.NewError(messages.CodeEngineUnreachable, "read", "events", "", "the line is cut"))
		h.world.Faults().CutStreams()
		// What the engine has forgotten when the line is back ...
		require.NoError(t, h.world.Rm("gone", true))
		require.NoError(t, h.world.Pause("kept"))
		made := h.run("made")
		// ... for the 5 000 events that came after.
		for range 2500 {
			require.NoError(t, h.world.Pause("busy"))
			require.NoError(t, h.world.Unpause("busy"))
			pass(12 * time.Millisecond)
		}
		undo()
		inspects := h.world.Calls(sim.OpInspectContainer)
		pass(2 * time.Second)
		require.Nil(t, h.get("container", gone))
		require.Equal(t, messages.ContainerPaused, h.shown(kept))
		require.Equal(t, messages.ContainerRunning, h.shown(busy))
		require.NotNil(t, h.get("container", made))
		require.LessOrEqual(t, h.world.Calls(sim.OpInspectContainer)-inspects, 3*3+1, "it costs by objects, not by events")
		h.equal()
	})
}

func Test_F08_AReaderThatStallsIsHealedByTheAudit(t *testing.T) {
	read := 0
	stall := func() {
		if read++; read%50 == 0 {
			time.Sleep(500 * time.Millisecond)
		}
	}
	between := func(d dockerio.Dialer) dockerio.Dialer { return reader{Dialer: d, before: stall} }
	virtuallyThrough(t, between, func(t *testing.T, h *house) {
		h.world.Faults().AddEvents(sim.EventFault{Share: 0.01, Drop: true})
		for i := range 100 {
			h.run(fmt.Sprint("c", i))
		}
		for burst := range 3 {
			for i := range 100 {
				ref := fmt.Sprint("c", i)
				for range 8 {
					require.NoError(t, h.world.Restart(ref))
				}
				if i%3 == burst {
					require.NoError(t, h.world.Pause(ref))
				}
			}
			pass(time.Second)
		}
		require.Positive(t, h.world.Lost(), "the engine lost events to the slow reader")
		require.Positive(t, h.world.Faults().Dropped())
		h.world.Faults().Clear()
		pass(auditPeriod)
		for began := time.Now(); h.ready() != metav1.ConditionTrue; { // the stream is opened anew for each difference
			require.Less(t, time.Since(began), time.Minute)
			pass(100 * time.Millisecond)
		}
		pass(2 * time.Second)
		h.equal()
	})
}

func Test_F09_SuppressedAndUnknownActionsAreHealed(t *testing.T) {
	suppressed := func(e dockerio.Event) bool {
		return e.Action == "untag" || e.Action == "delete" || e.Action == "destroy"
	}
	renamed := func(e dockerio.Event) dockerio.Event {
		e.Action = "newly-named-" + e.Action
		return e
	}
	between := func(d dockerio.Dialer) dockerio.Dialer { return reader{Dialer: d, after: renamed} }
	virtuallyThrough(t, between, func(t *testing.T, h *house) {
		id, gone := h.run("web"), h.run("gone")
		require.NoError(t, h.world.Tag("busybox", "other:1"))
		_, err := h.world.VolumeCreate(sim.VolumeOptions{Name: "v"})
		require.NoError(t, err)
		pass(time.Second)
		require.NoError(t, h.world.Pause("web"))
		pass(time.Second)
		require.Equal(t, messages.ContainerPaused, h.shown(id), "an action that nobody knows is a change")
		require.NotNil(t, h.get("volume", "v"))
		h.world.Faults().DropEvents(suppressed)
		require.NoError(t, h.world.Rmi("other:1", false))
		require.NoError(t, h.world.VolumeRm("v"))
		require.NoError(t, h.world.Rm("gone", true))
		pass(auditPeriod)
		require.Nil(t, h.get("container", gone))
		pass(2 * time.Second)
		h.equal()
	})
}

func Test_F10_AnEngineThatStopsEmittingIsFoundByTheAudit(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		h.world.Faults().MuteStreams()
		subscriptions := h.world.Calls(sim.OpEvents)
		id := h.run("web")
		pass(time.Second)
		require.Nil(t, h.get("container", id), "nobody told")
		pass(auditPeriod + time.Second)
		require.NotNil(t, h.get("container", id))
		require.Equal(t, subscriptions+1, h.world.Calls(sim.OpEvents), "subscribed anew, once")
		other := h.run("other")
		pass(time.Second)
		require.NotNil(t, h.get("container", other), "and events come again")
		h.equal()
	})
}

func Test_F11_HungInspectsHoldUpNobody(t *testing.T) {
	for _, hung := range []int{1, 8} {
		virtually(t, func(t *testing.T, h *house) {
			var bad, good []string
			for i := range hung {
				bad = append(bad, h.run(fmt.Sprint("bad", i)))
			}
			for i := range 50 {
				good = append(good, h.run(fmt.Sprint("good", i)))
			}
			pass(10 * time.Second)
			for _, id := range bad {
				h.world.Faults().Hang(sim.OpInspectContainer, id)
				require.NoError(t, h.world.Pause(id))
			}
			for range 5 { // while they hang, at once and later
				for _, id := range good {
					require.NoError(t, h.world.Pause(id))
				}
				fresh := h.run("fresh")
				pass(time.Second)
				for _, id := range good {
					require.Equal(t, messages.ContainerPaused, h.shown(id), "all others update within a second")
					require.NoError(t, h.world.Unpause(id))
				}
				require.NotNil(t, h.get("container", fresh))
				require.NoError(t, h.world.Rm("fresh", true))
				pass(time.Second)
			}
			for _, id := range bad {
				require.Equal(t, messages.ReasonInspectTimeout, h.synced("container", id).Reason)
			}
			for _, id := range good {
				require.Equal(t, messages.ReasonMirrored, h.synced("container", id).Reason, "only those")
			}
			require.Equal(t, metav1.ConditionTrue, h.ready())
			h.world.Faults().Clear()
			pass(time.Minute)
			h.equal()
		})
	}
}

func Test_F11_AnInspectThatFailsOnceIsHealedByItsOwnRetry(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		id := h.run("web")
		pass(time.Second)
		lists := h.world.Calls(sim.OpListContainers)
		h.world.Faults().Fail(sim.OpInspectContainer, id, 1, messages.NewError(messages.CodeUnavailable, "inspect", "container", id, "once"))
		require.NoError(t, h.world.Pause("web"))
		pass(50 * time.Millisecond)
		require.Equal(t, messages.ReasonInspectFailed, h.synced("container", id).Reason)
		pass(2 * time.Second)
		require.Equal(t, messages.ContainerPaused, h.shown(id))
		require.Equal(t, messages.ReasonMirrored, h.synced("container", id).Reason)
		require.Equal(t, lists, h.world.Calls(sim.OpListContainers), "nothing was listed for it")
	})
}

func Test_F11_AChangeThatHangsDelaysNoOtherCall(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		stuck, other, web := h.run("stuck"), h.run("other"), h.run("web")
		_, err := h.world.VolumeCreate(sim.VolumeOptions{Name: "v"})
		require.NoError(t, err)
		pass(time.Second)
		h.world.Faults().Slow(sim.OpRemoveContainer, stuck, 10*time.Second)
		require.NoError(t, h.delete("container", stuck))
		require.NoError(t, h.delete("container", other))
		require.NoError(t, h.delete("volume", "v"))
		require.NoError(t, h.world.Pause("web"))
		pass(100 * time.Millisecond)
		require.Nil(t, h.get("container", other))
		require.Nil(t, h.get("volume", "v"))
		require.Equal(t, messages.ContainerPaused, h.shown(web))
		require.NotNil(t, h.get("container", stuck).GetDeletionTimestamp())
		pass(9 * time.Second)
		require.NotNil(t, h.get("container", stuck))
		pass(time.Second)
		require.Nil(t, h.get("container", stuck))
		require.Equal(t, 1, h.world.CallsFor(sim.OpRemoveContainer, stuck), "asked for once")
	})
}

func Test_D4_WhatGoesBetweenListAndInspectIsGoneInTheSamePass(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		id := h.run("ghost")
		pass(time.Second)
		h.world.Down()
		pass(time.Second)
		h.world.Faults().Slow(sim.OpInspectContainer, id, 200*time.Millisecond)
		undo := h.world.Faults().StopEvents() // nothing but the pass tells
		lists := h.world.Calls(sim.OpListContainers)
		h.world.Up()
		for h.world.Calls(sim.OpListContainers) == lists {
			pass(time.Millisecond)
		}
		require.NoError(t, h.world.Rm("ghost", true))
		undo()
		pass(time.Second)
		require.Equal(t, metav1.ConditionTrue, h.ready(), "the pass is complete")
		require.Nil(t, h.get("container", id))
		require.Equal(t, lists+1, h.world.Calls(sim.OpListContainers), "in one pass")
	})
}

func Test_F12_AStaleStateIsNeverClaimedFresh(t *testing.T) {
	for name, away := range map[string]struct {
		begin   func(*sim.Engine)
		noticed time.Duration
	}{
		"down":   {(*sim.Engine).Down, 100 * time.Millisecond},
		"frozen": {(*sim.Engine).Freeze, 12100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, func(t *testing.T, h *house) {
				id := h.run("web")
				pass(time.Second)
				away.begin(h.world)
				began := time.Now()
				require.NoError(t, h.world.Exit("web", 1))
				pass(away.noticed)
				require.Equal(t, metav1.ConditionFalse, h.ready())
				pass(31 * time.Second)
				require.Equal(t, messages.ContainerRunning, h.shown(id), "it is what it was ...")
				c := h.synced("container", id)
				require.Equal(t, metav1.ConditionUnknown, c.Status, "... and says so")
				require.Equal(t, messages.ReasonEngineUnreachable, c.Reason)
				for _, m := range h.get("app", "app").(*messages.App).Status.Engine.Mirrors {
					require.False(t, m.LastProof.After(began), "%s was last proved before", m.Kind)
				}
			})
		})
	}
	// The API answers, and no event comes: until the audit the proof is old.
	virtually(t, func(t *testing.T, h *house) {
		id := h.run("web")
		pass(time.Second)
		h.world.Faults().StopEvents()
		died := time.Now()
		require.NoError(t, h.world.Exit("web", 1))
		for h.shown(id) == messages.ContainerRunning {
			require.Less(t, time.Since(died), auditPeriod)
			pass(time.Second)
		}
		require.Equal(t, messages.ContainerExited, h.shown(id))
	})
}

func Test_F42_AListThatCannotBeReadPrunesNothing(t *testing.T) {
	for _, how := range []sim.Corruption{sim.Garbage, sim.Truncated} {
		virtually(t, func(t *testing.T, h *house) {
			h.world.Down()
			pass(time.Second)
			undo := h.world.Faults().Corrupt(sim.OpListImages, "", 0, how)
			h.world.Up()
			pass(time.Second)
			id := h.run("web")
			_, err := h.world.VolumeCreate(sim.VolumeOptions{Name: "v"})
			require.NoError(t, err)
			pass(time.Second)
			require.NotNil(t, h.get("container", id), "containers are live")
			require.NotNil(t, h.get("volume", "v"), "volumes are live")
			pass(5 * time.Minute)
			require.NotNil(t, h.get("image", "busybox"), "nothing is pruned")
			require.Contains(t, messages.Condition(h.get("app", "app"), messages.ConditionContainerEngineReady).Message, string(how))
			undo()
			pass(15 * time.Second)
			h.equal()
		})
	}
}

func Test_F46_AnEngineThatRefusesForAnHourCostsLittle(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		h.run("web")
		pass(time.Second)
		h.world.ResetCalls()
		h.world.Down()
		pass(time.Minute)
		minute := h.world.Calls(sim.OpDial)
		pass(59 * time.Minute)
		hour := h.world.Calls(sim.OpDial)
		// The wait is between nothing and a second, half a second on average.
		require.Less(t, minute, 200)
		require.InDelta(t, 7200, hour, 720, "the backoff is capped, and does not grow beyond")
		for _, op := range []string{sim.OpListContainers, sim.OpInspectContainer, sim.OpEvents, sim.OpPing} {
			require.Zero(t, h.world.Calls(op), "%s: only the connection is tried", op)
		}
		require.Equal(t, hour, h.world.Calls(sim.OpInfo))
		h.world.Up()
		pass(2 * time.Second)
		h.equal()
	})
}

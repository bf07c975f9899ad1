package faults

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

func (h *house) volume(name string) {
	h.Helper()
	_, err := h.world.VolumeCreate(sim.VolumeOptions{Name: name})
	require.NoError(h, err)
}

// blocked is the condition DeletionBlocked; zero when there is none.
func (h *house) blocked(kind, name string) metav1.Condition {
	if o := h.get(kind, name); o != nil {
		if c := messages.Condition(o, messages.ConditionDeletionBlocked); c != nil {
			return *c
		}
	}
	return metav1.Condition{}
}

// undone are the house's events of that name which say why.
func (h *house) undone(why string) (n int) {
	r, err := h.client.Events(h.Context(), messages.EventsRequest{})
	require.NoError(h, err)
	for _, e := range r.Events {
		if e.Type == messages.EventSuperseded && strings.Contains(e.Message, why) {
			n++
		}
	}
	return n
}

// removals are the calls that asked the engine to remove something.
func (h *house) removals() int {
	return h.world.Calls(sim.OpRemoveContainer) + h.world.Calls(sim.OpRemoveImage) + h.world.Calls(sim.OpRemoveVolume)
}

func Test_F14_ADeletionThatTheEngineRefusesIsTriedAgainWithBackoff(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		id := h.run("web")
		pass(time.Second)
		const busy = 7
		h.world.Faults().Fail(sim.OpRemoveContainer, id, busy, messages.NewError(messages.CodeConflict, "remove", "container", "web", "it is busy"))
		require.NoError(t, h.delete("container", id))
		for n := 1; n < busy; n++ {
			before := h.removals()
			pass(100 * time.Millisecond)
			require.LessOrEqual(t, h.removals()-before, 1, "no busy loop")
			c := h.blocked("container", id)
			require.Equal(t, metav1.ConditionTrue, c.Status)
			require.Contains(t, c.Message, "it is busy")
		}
		require.LessOrEqual(t, h.removals(), 3, "in less than a second")
		pass(2 * time.Minute)
		require.Nil(t, h.get("container", id))
		require.Equal(t, busy+1, h.removals())
		require.Empty(t, h.world.Snapshot().Containers)
	})
}

func Test_F15_AnImageInUseNamesItsUsersAndGoesWithThem(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		h.run("running")
		h.run("stopped")
		require.NoError(t, h.world.Stop("stopped"))
		pass(time.Second)
		require.NoError(t, h.delete("image", "busybox"))
		pass(time.Second)
		c := h.blocked("image", "busybox")
		require.Equal(t, messages.ReasonInUse, c.Reason)
		require.Equal(t, "in use by container running, stopped", c.Message)
		pass(3 * time.Hour)
		require.NoError(t, h.world.Rm("running", true))
		pass(time.Second)
		require.Equal(t, "in use by container stopped", h.blocked("image", "busybox").Message)
		require.NoError(t, h.world.Rm("stopped", true))
		synctest.Wait()
		pass(100 * time.Millisecond)
		require.Nil(t, h.get("image", "busybox"), "woken by its last user's end, whatever its clock says")
		require.Empty(t, h.world.Snapshot().Images)
	})
}

// What is deleted is in use. Then its user goes and, within a millisecond, something else takes its name: nothing is done to that.
func Test_F17_WhatTookTheNameOfADeletedObjectIsLeftAlone(t *testing.T) {
	for _, unseen := range []bool{false, true} {
		t.Run(fmt.Sprint("while the engine is away: ", unseen), func(t *testing.T) {
			virtually(t, func(t *testing.T, h *house) {
				tag, err := h.world.Import("tool:1", "one")
				require.NoError(t, err)
				_, err = h.world.Run(sim.ContainerOptions{Name: "user", Image: "tool:1", Volumes: []string{"data:/data"}})
				require.NoError(t, err)
				pass(time.Minute)
				old := map[string]string{}
				for _, x := range [][2]string{{"image", "tool:1"}, {"volume", "data"}} {
					old[x[0]] = string(h.get(x[0], x[1]).GetUID())
					require.NoError(t, h.delete(x[0], x[1]))
				}
				pass(time.Minute)
				require.Equal(t, messages.ReasonInUse, h.blocked("image", "tool:1").Reason)
				require.Equal(t, messages.ReasonInUse, h.blocked("volume", "data").Reason)

				if unseen {
					h.world.Down()
				}
				require.NoError(t, h.world.Rm("user", true))
				require.NoError(t, h.world.VolumeRm("data"))
				require.NoError(t, h.world.Rmi("tool:1", false))
				time.Sleep(time.Millisecond)
				_, err = h.world.VolumeCreate(sim.VolumeOptions{Name: "data"})
				require.NoError(t, err)
				other, err := h.world.Import("tool:1", "two")
				require.NoError(t, err)
				require.NotEqual(t, tag, other)
				if unseen {
					pass(time.Minute)
					h.world.Up()
				}
				pass(2 * time.Hour)
				require.Len(t, h.world.Snapshot().Volumes, 1, "nothing is done to the other one")
				require.Len(t, h.world.Snapshot().Images, 2)
				for _, x := range [][2]string{{"image", "tool:1"}, {"volume", "data"}} {
					o := h.get(x[0], x[1])
					require.Nil(t, o.GetDeletionTimestamp(), x[1])
					require.NotEqual(t, old[x[0]], string(o.GetUID()), "it is another one")
				}
				if unseen {
					require.Equal(t, 1, h.undone(`delete Volume "`+h.get("volume", "data").GetName()+`": Superseded/IdentityChanged`))
				}
			})
		})
	}
}

// deletedInUse asks for the deletion of the image, which has to wait for its user.
func (h *house) deletedInUse() types.UID {
	h.Helper()
	require.NoError(h, h.delete("image", "busybox"))
	pass(time.Minute)
	require.Equal(h, messages.ReasonInUse, h.blocked("image", "busybox").Reason)
	return h.get("image", "busybox").GetUID()
}

// A tag taken away and put on the same image again while nobody looked cannot be told from one that was never touched but by the time
// of the last tagging.
func Test_F17_ATagMadeAgainWhileTheEngineWasAwayIsAnotherOne(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		h.run("user")
		pass(time.Minute)
		uid := h.deletedInUse()
		h.world.Down()
		require.NoError(t, h.world.Tag("busybox", "spare:1"))
		require.NoError(t, h.world.Rmi("busybox:latest", false))
		time.Sleep(time.Millisecond)
		require.NoError(t, h.world.Tag("spare:1", "busybox:latest"))
		require.NoError(t, h.world.Rm("user", true))
		pass(time.Minute)
		h.world.Up()
		pass(2 * time.Hour)
		require.Nil(t, h.get("image", "busybox").GetDeletionTimestamp())
		require.NotEqual(t, uid, h.get("image", "busybox").GetUID())
		require.NotNil(t, h.get("image", "spare:1"))
		require.Equal(t, 1, h.undone("IdentityChanged"), "and it is told why nothing was deleted")
	})
}

// What was tagged anew while nobody looked is by another time of tagging what it was before: a deletion asked for after that is of the
// image as it is then.
func Test_F17_ADeletionAskedForAfterAGapOutlivesTheNext(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		h.run("user")
		pass(time.Minute)
		h.world.Down()
		time.Sleep(time.Millisecond)
		require.NoError(t, h.world.Tag("busybox", "busybox:latest"))
		pass(time.Minute)
		h.world.Up()
		pass(time.Minute)
		uid := h.deletedInUse()
		h.world.Down()
		pass(time.Minute)
		h.world.Up()
		pass(time.Minute)
		require.Equal(t, uid, h.get("image", "busybox").GetUID())
		require.Equal(t, messages.ReasonInUse, h.blocked("image", "busybox").Reason)
		require.Zero(t, h.undone(""))
		require.NoError(t, h.world.Rm("user", true))
		pass(time.Minute)
		require.Nil(t, h.get("image", "busybox"))
		require.Empty(t, h.world.Snapshot().Images)
	})
}

// A deletion waits for a look at its image; not for one that hangs.
func Test_F11_AHungInspectHoldsUpNoAcceptance(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		pass(time.Minute)
		h.world.Faults().Hang(sim.OpInspectImage, "")
		began := time.Now()
		require.NoError(t, h.delete("image", "busybox"))
		require.LessOrEqual(t, time.Since(began), 1010*time.Millisecond)
		require.NotNil(t, h.get("image", "busybox").GetDeletionTimestamp())
		h.world.Faults().Clear()
		pass(time.Minute)
		require.Nil(t, h.get("image", "busybox"))
		require.Empty(t, h.world.Snapshot().Images)
	})
}

// Not deleting wins, but what is provably the same goes: the deletion that waited for the engine is done after its return.
func Test_F17_WhatIsProvablyTheSameIsDeletedAfterAnOutage(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		h.volume("data")
		require.NoError(t, h.world.Tag("busybox", "other:1"))
		id := h.run("web")
		pass(time.Minute)
		h.world.Down()
		pass(time.Second)
		require.NoError(t, h.delete("volume", "data"))
		require.NoError(t, h.delete("image", "other:1"))
		require.NoError(t, h.delete("container", id))
		pass(time.Minute)
		for _, x := range [][2]string{{"volume", "data"}, {"image", "other:1"}, {"container", id}} {
			require.Equal(t, messages.ReasonEngineDown, h.blocked(x[0], x[1]).Reason, "pending, and says why")
		}
		h.world.Up()
		pass(5 * time.Second)
		require.Empty(t, h.world.Snapshot().Volumes)
		require.Empty(t, h.world.Snapshot().Containers)
		require.Nil(t, h.get("image", "other:1"))
		require.NotNil(t, h.get("image", "busybox"))
		require.Zero(t, h.undone(""))
	})
}

// The word that it is gone is late: the engine is asked before it is told to remove what has the name now.
func Test_F17_ALateEventDoesNotCostTheOtherOne(t *testing.T) {
	// The next try to remove comes by the clock, in every moment around that event: it is 15.75 s after the deletion was asked for.
	for early := -50 * time.Millisecond; early < 300*time.Millisecond; early += 25 * time.Millisecond {
		t.Run(early.String(), func(t *testing.T) { aLateEvent(t, 15750*time.Millisecond-early) })
	}
}

func aLateEvent(t *testing.T, after time.Duration) {
	virtuallyIn(t, &kit.Lab{Jitter: func() float64 { return 0 }}, func(d dockerio.Dialer) dockerio.Dialer { return d }, func(t *testing.T, h *house) {
		_, err := h.world.Run(sim.ContainerOptions{Name: "user", Image: "busybox", Volumes: []string{"data:/data"}})
		require.NoError(t, err)
		pass(time.Minute)
		require.NoError(t, h.delete("volume", "data"))
		pass(after)
		uid := h.get("volume", "data").GetUID()
		ofVolume := func(e dockerio.Event) bool { return e.Type == "volume" }
		h.world.Faults().AddEvents(sim.EventFault{Delay: 200 * time.Millisecond, Match: ofVolume})
		h.world.Faults().AddEvents(sim.EventFault{Delay: 5 * time.Millisecond, Match: func(e dockerio.Event) bool { return !ofVolume(e) }})
		require.NoError(t, h.world.Rm("user", true))
		require.NoError(t, h.world.VolumeRm("data"))
		time.Sleep(time.Millisecond)
		h.volume("data")
		pass(time.Second)
		pass(10 * time.Minute)
		require.Len(t, h.world.Snapshot().Volumes, 1)
		require.NotEqual(t, uid, h.get("volume", "data").GetUID())
	})
}

// A thousand images that are in use, Terminating: they cost next to nothing, and hold up nobody.
func Test_I2_AThousandStuckFinalizersCostNothing(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		const n = 1000
		for i := range n {
			tag := fmt.Sprintf("stuck%d:1", i)
			_, err := h.world.Import(tag, tag)
			require.NoError(t, err)
			_, err = h.world.Run(sim.ContainerOptions{Name: fmt.Sprint("user", i), Image: tag})
			require.NoError(t, err)
		}
		id := h.run("web")
		pass(time.Minute)
		for i := range n {
			require.NoError(t, h.delete("image", fmt.Sprintf("stuck%d:1", i)))
		}
		pass(time.Hour)
		require.Equal(t, "in use by container user7", h.blocked("image", "stuck7:1").Message)
		before := h.world.Calls(sim.OpRemoveImage) + h.world.Calls(sim.OpInspectImage)
		const minutes = 30
		pass(minutes * time.Minute)
		calls := h.world.Calls(sim.OpRemoveImage) + h.world.Calls(sim.OpInspectImage) - before
		require.Positive(t, calls, "each is tried again now and then")
		require.Less(t, calls/minutes, 4*n/30, "two calls per try, a try in 15 to 30 minutes")

		require.NoError(t, h.delete("container", id))
		synctest.Wait() // no time passes
		require.Len(t, h.world.Snapshot().Containers, n, "it goes at once")
		require.NoError(t, h.world.Rm("user7", true))
		pass(time.Second)
		require.Nil(t, h.get("image", "stuck7:1"))
	})
}

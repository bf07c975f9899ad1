package faults

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// virtually runs test on the whole tree in virtual time: minutes pass in no time.
func virtually(t *testing.T, test func(t *testing.T, h *house)) {
	virtuallyThrough(t, func(d dockerio.Dialer) dockerio.Dialer { return d }, test)
}

// virtuallyThrough is virtually with something between rdd and the engine.
func virtuallyThrough(t *testing.T, between func(dockerio.Dialer) dockerio.Dialer, test func(t *testing.T, h *house)) {
	virtuallyIn(t, nil, between, test)
}

// virtuallyIn is virtuallyThrough with a grip on the house.
func virtuallyIn(t *testing.T, lab *kit.Lab, between func(dockerio.Dialer) dockerio.Dialer, test func(t *testing.T, h *house)) {
	synctest.Test(t, func(t *testing.T) {
		world := sim.New(sim.Options{})
		_, err := world.Import("busybox:latest", "")
		require.NoError(t, err)
		r, err := supervisor.Start(kit.WithLab(t.Context(), lab), supervisor.Config{
			TestHooks: true, Dialer: between(world.Dialer()), Drivers: map[string]vmdriver.Driver{messages.DriverExternal: place{world}},
		})
		require.NoError(t, err)
		defer func() {
			world.Faults().Clear()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			require.NoError(t, r.Stop(ctx))
			world.Close()
		}()
		h := &house{T: t, world: world, client: r.Client()}
		h.set("running=true", "virtualMachine.driver=external")
		h.settled()
		test(t, h)
	})
}

// pass lets d go by and everything that follows from it happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (h *house) synced(kind, name string) metav1.Condition {
	return *messages.Condition(h.get(kind, name), messages.ConditionSynced)
}

func Test_F05_AnOutageIsAMomentHoweverLong(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		id := h.run("web")
		pass(time.Second)
		uid := h.get("container", id).GetUID()
		version := h.get("container", id).GetResourceVersion()
		h.world.Down()
		pass(100 * time.Millisecond)
		require.Equal(t, metav1.ConditionFalse, h.ready(), "within 100 ms")
		pass(29 * time.Second)
		require.Equal(t, version, h.get("container", id).GetResourceVersion(), "for half a minute nothing else shows it")
		pass(10 * time.Second)
		require.Equal(t, messages.ReasonEngineUnreachable, h.synced("container", id).Reason)
		require.Equal(t, messages.ReasonEngineUnreachable, h.synced("image", "busybox").Reason)
		said := h.get("container", id).GetResourceVersion()
		pass(time.Hour)
		require.Equal(t, said, h.get("container", id).GetResourceVersion(), "and that is said once")
		require.NoError(t, h.world.Pause("web"))
		lists := h.world.Calls(sim.OpListContainers)
		h.world.Up()
		pass(2 * time.Second)
		require.Equal(t, lists+1, h.world.Calls(sim.OpListContainers), "one resync")
		require.Equal(t, metav1.ConditionTrue, h.ready(), "within 2 s of its return")
		c := h.get("container", id).(*messages.Container)
		require.Equal(t, messages.ContainerPaused, c.Status.Status)
		require.Equal(t, messages.ReasonMirrored, h.synced("container", id).Reason)
		require.Equal(t, uid, c.UID)
	})
}

func Test_F02_AFrozenEngineIsNoticedByTheHeartbeat(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		h.world.Freeze()
		pass(12*time.Second + 100*time.Millisecond)
		require.Equal(t, metav1.ConditionFalse, h.ready(), "within heartbeat and deadline")
		h.world.Thaw()
		pass(3 * time.Second)
		require.Equal(t, metav1.ConditionTrue, h.ready())
	})
}

func TestVirtual_TheAuditHealsWhatNoEventTold(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		kept, gone := h.run("kept"), h.run("gone")
		pass(time.Second)
		undo := h.world.Faults().DropEvents(func(dockerio.Event) bool { return true })
		missed := h.run("missed")
		require.NoError(t, h.world.Pause("kept"))
		require.NoError(t, h.world.Rm("gone", true))
		require.NoError(t, h.world.Tag("busybox", "other:1"))
		_, err := h.world.VolumeCreate(sim.VolumeOptions{Name: "v"})
		require.NoError(t, err)
		pass(time.Second)
		require.Nil(t, h.get("container", missed), "nobody told")
		undo()
		pass(70 * time.Second)
		require.NotNil(t, h.get("container", missed))
		require.Nil(t, h.get("container", gone))
		require.Equal(t, messages.ContainerPaused, h.get("container", kept).(*messages.Container).Status.Status)
		require.NotNil(t, h.get("image", "other:1"))
		require.NotNil(t, h.get("volume", "v"))
		repairs := int64(0)
		for _, m := range h.get("app", "app").(*messages.App).Status.Engine.Mirrors {
			repairs += m.Repairs
		}
		require.Positive(t, repairs, "and it is counted")
		require.Equal(t, metav1.ConditionTrue, h.ready())
	})
}

// A reader that was too slow has lost many events at once: each is a repair, and all of them together are one reason to open the
// stream anew. A session that died of what the one before had missed would die as often as there are repairs.
func TestVirtual_ManyLostEventsCostOneSession(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		const n = 60
		ids := map[string]bool{}
		for i := range n {
			h.run(fmt.Sprintf("old%d", i))
		}
		pass(time.Second)
		undo := h.world.Faults().DropEvents(func(dockerio.Event) bool { return true })
		for i := range n {
			require.NoError(t, h.world.Rm(fmt.Sprintf("old%d", i), true))
			ids[h.run(fmt.Sprintf("new%d", i))] = true
		}
		undo()
		sessions := h.world.Calls(sim.OpInfo)
		pass(75 * time.Second)
		require.Equal(t, sessions+1, h.world.Calls(sim.OpInfo), "one audit, one new session")
		mirrored := map[string]bool{}
		for _, o := range h.list("container") {
			mirrored[o.GetName()] = true
		}
		require.Equal(t, ids, mirrored)
		require.Equal(t, metav1.ConditionTrue, h.ready())
	})
}

func Test_F42_AListThatHangsHoldsBackItsOwnKind(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		h.world.Down()
		pass(time.Second)
		undo := h.world.Faults().Hang(sim.OpListImages, "")
		h.world.Up()
		pass(2 * time.Second)
		id := h.run("web")
		pass(time.Second)
		require.NotNil(t, h.get("container", id), "containers are live")
		require.NotNil(t, h.get("image", "busybox"), "nothing is pruned")
		c := messages.Condition(h.get("app", "app"), messages.ConditionContainerEngineReady)
		require.Equal(t, messages.ReasonSyncing, c.Reason)
		require.Contains(t, c.Message, "images")
		undo()
		pass(time.Minute)
		require.Equal(t, metav1.ConditionTrue, h.ready())
	})
}

func TestVirtual_AnEngineReplacedByAnotherSweepsTheMirrors(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		id := h.run("web")
		pass(time.Second)
		h.world.Replace("another")
		pass(20 * time.Second)
		require.Nil(t, h.get("container", id))
		require.Equal(t, metav1.ConditionTrue, h.ready())
		require.Equal(t, "another", h.get("app", "app").(*messages.App).Status.Engine.ID)
		require.NotNil(t, h.get("containernamespace", "moby"))
		_, err := h.world.Import("busybox:latest", "")
		require.NoError(t, err)
		other := h.run("other")
		pass(time.Second)
		require.NotNil(t, h.get("container", other))
	})
}

package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

func (h *house) ready() metav1.ConditionStatus {
	if c := messages.Condition(h.get("app", "app"), messages.ConditionContainerEngineReady); c != nil {
		return c.Status
	}
	return ""
}

func Test_S2_NoFinalizerNoBypass(t *testing.T) {
	h := start(t, nil).settled()
	for i := range 50 {
		name := fmt.Sprintf("v%d", i)
		_, err := h.world.VolumeCreate(sim.VolumeOptions{Name: name})
		require.NoError(t, err)
		h.eventually("mirrored", func() bool { return h.get("volume", name) != nil })
		// What a client gets is a copy: taking the finalizer out of it changes nothing, and no operation takes a resource in.
		mine := h.get("volume", name)
		mine.SetFinalizers(nil)
		require.Equal(t, []string{messages.Finalizer}, h.get("volume", name).GetFinalizers())
		require.NoError(t, h.delete("volume", name))
		h.eventually("gone from the engine too", func() bool { return h.get("volume", name) == nil && len(h.world.Snapshot().Volumes) == 0 })
	}
}

func Test_S8_EachSessionNegotiatesAnew(t *testing.T) {
	h := start(t, nil).settled()
	infos := h.world.Calls(sim.OpInfo)
	h.world.Down()
	h.eventually("not ready", func() bool { return h.ready() == metav1.ConditionFalse })
	h.world.Up()
	h.eventually("ready", func() bool { return h.ready() == metav1.ConditionTrue })
	require.Greater(t, h.world.Calls(sim.OpInfo), infos, "a new client asks the engine who it is")
	v, err := h.client.Version(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, v.EngineAPIRange)
	require.NotEmpty(t, v.Engine.APIVersion)
}

func Test_D2_TheFirstPassInspectsInParallel(t *testing.T) {
	const n, each = 40, 50 * time.Millisecond
	began := time.Now()
	h := start(t, func(w *sim.Engine) {
		for i := range n {
			_, _ = w.Run(sim.ContainerOptions{Name: fmt.Sprintf("c%d", i), Image: "busybox"})
		}
		w.Faults().Slow(sim.OpInspectContainer, "", each)
	}).settled()
	require.Len(t, h.list("container"), n)
	require.Less(t, time.Since(began), n*each*3/4, "one after the other takes %s", n*each)
}

func TestAnEngineThatRefusesUsIsTerminalAndHeals(t *testing.T) {
	denied := messages.NewError(messages.CodeForbidden, "connect to", "engine", "", "permission denied")
	h := start(t, func(w *sim.Engine) { w.Faults().Fail(sim.OpInfo, "", 0, denied) })
	_, err := h.client.WaitSettled(t.Context(), supervisor.SettleOptions{Timeout: patience})
	require.ErrorIs(t, err, messages.ErrTerminal)
	require.Equal(t, messages.ReasonCannotConnect, messages.AsError(err).Details["reason"])
	require.ErrorContains(t, err, "permission denied")
	h.world.Faults().Clear()
	h.eventually("let in, it connects without being asked", func() bool { return h.ready() == metav1.ConditionTrue })
	h.settled()
}

func TestALostStreamIsNoticedAndMended(t *testing.T) {
	h := start(t, nil)
	id := h.mirrored("web")
	h.settled()
	uid := h.get("container", id).GetUID()
	h.world.Faults().CutStreams()
	h.eventually("noticed", func() bool { return h.ready() != metav1.ConditionTrue || h.world.Calls(sim.OpEvents) > 1 })
	other := h.run("other")
	h.eventually("mirrored", func() bool { return h.get("container", other) != nil && h.ready() == metav1.ConditionTrue })
	require.Equal(t, uid, h.get("container", id).GetUID())
}

func TestAnObjectThatOnlyPanicsIsQuarantined(t *testing.T) {
	h := start(t, nil)
	bad := h.mirrored("bad")
	h.settled()
	uid := h.get("container", bad).GetUID()
	_, err := h.client.Debug(t.Context(), messages.DebugRequest{Actor: "rdd/containers/" + bad, Action: "panic", Count: -1})
	require.NoError(t, err)
	h.eventually("quarantined", func() bool {
		c := messages.Condition(h.get("container", bad), messages.ConditionSynced)
		return c != nil && c.Reason == messages.ReasonQuarantined
	})
	good := h.run("good")
	h.eventually("others work", func() bool { return h.get("container", good) != nil })
	require.Equal(t, uid, h.get("container", bad).GetUID())
	require.NoError(t, h.world.Rm("bad", true))
	h.eventually("what the engine no longer has goes", func() bool { return h.get("container", bad) == nil })
}

func TestPanicsOneByOne(t *testing.T) {
	h := start(t, nil)
	id := h.mirrored("web")
	h.settled()
	uid := h.get("container", id).GetUID()
	for _, actor := range []string{"rdd/store", "rdd/app", "rdd/vm", "rdd/engine", "rdd/journal", "rdd/containers/" + id, "rdd/images", "rdd/namespaces/moby"} {
		_, err := h.client.Debug(t.Context(), messages.DebugRequest{Actor: actor, Action: "panic"})
		require.NoError(t, err)
		h.eventually(actor+" is told with its stack", func() bool { return h.hasEvent(messages.EventActorFailed, actor) })
		name := "after" + fmt.Sprint(len(h.world.Snapshot().Containers))
		other := h.run(name)
		h.eventually("the mirror goes on after "+actor, func() bool { return h.get("container", other) != nil })
		require.Equal(t, uid, h.get("container", id).GetUID())
	}
	_, err := h.client.Debug(t.Context(), messages.DebugRequest{Actor: "rdd/containers/" + id + "#inspect", Action: "panic", NoTrigger: true})
	require.NoError(t, err)
	require.NoError(t, h.world.Pause("web"))
	h.eventually("an inspect that panics is its owner's failure, and is made again", func() bool {
		return h.get("container", id).(*messages.Container).Status.Status == messages.ContainerPaused
	})
	h.eventually("and told", func() bool { return h.hasEvent(messages.EventActorFailed, "rdd/containers/"+id) })
}

func TestStoppedIsSweptAndStartedIsBack(t *testing.T) {
	h := start(t, nil)
	h.mirrored("web")
	h.settled()
	h.set("running=false")
	h.settled()
	require.Empty(t, h.list("container"))
	require.Empty(t, h.list("image"))
	require.Empty(t, h.list("containernamespace"))
	require.Len(t, h.world.Snapshot().Containers, 1, "the engine is left alone")
	h.set("running=true")
	h.settled()
	require.Len(t, h.list("container"), 1)
	h.eventually("the namespace too", func() bool { return len(h.list("containernamespace")) == 1 })
}

func (h *house) set(assignments ...string) {
	h.Helper()
	patch, err := messages.ParseAssignments(assignments)
	require.NoError(h, err)
	_, err = h.client.Set(h.Context(), messages.SetRequest{Patch: patch})
	require.NoError(h, err)
}

// mirrored runs a container and waits for its mirror.
func (h *house) mirrored(name string) string {
	h.Helper()
	id := h.run(name)
	h.eventually(name+" is mirrored", func() bool { return h.get("container", id) != nil })
	return id
}

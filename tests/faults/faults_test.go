// Package faults has the tests named for the faults of the design that this one replaces: the whole tree, in process, on the
// engine in memory.
package faults

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come soon; it is a limit, never a pause.
const patience = 10 * time.Second

// place is a driver that is always there: the engine in memory.
type place struct{ world *sim.Engine }

func (p place) Name() string { return "place" }
func (p place) Capabilities() vmdriver.Capabilities {
	return vmdriver.Capabilities{Backends: []string{messages.EngineMoby}}
}
func (p place) Inspect(context.Context, vmdriver.Spec) (vmdriver.Observation, error) {
	return vmdriver.Observation{Phase: vmdriver.Running}, nil
}
func (p place) Create(context.Context, vmdriver.Spec) error { return nil }
func (p place) Start(context.Context, vmdriver.Spec) error  { return nil }
func (p place) Stop(context.Context, bool) error            { return nil }
func (p place) Delete(context.Context) error                { return nil }
func (p place) Watch(ctx context.Context) (<-chan vmdriver.Observation, error) {
	c := make(chan vmdriver.Observation)
	context.AfterFunc(ctx, func() { close(c) })
	return c, nil
}
func (p place) Endpoint(context.Context, vmdriver.Spec) (messages.Endpoint, error) {
	return p.world.Endpoint(), nil
}
func (p place) Logs(context.Context, io.Writer, bool) error { return nil }

type house struct {
	*testing.T
	world  *sim.Engine
	client *supervisor.Client
}

// start runs rdd on a new world that prepare may fill and break first.
func start(t *testing.T, prepare func(*sim.Engine)) *house {
	t.Helper()
	world := sim.New(sim.Options{})
	_, err := world.Import("busybox:latest", "")
	require.NoError(t, err)
	if prepare != nil {
		prepare(world)
	}
	h := &house{T: t, world: world, client: inProcess(t, world, messages.DriverExternal, place{world})}
	h.set("running=true", "virtualMachine.driver=external")
	return h
}

// inProcess runs rdd with one driver until the test ends.
func inProcess(t *testing.T, world *sim.Engine, name string, driver vmdriver.Driver) *supervisor.Client {
	t.Helper()
	r, err := supervisor.Start(t.Context(), supervisor.Config{
		TestHooks: true, Dialer: world.Dialer(), Drivers: map[string]vmdriver.Driver{name: driver},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		world.Faults().Clear()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, r.Stop(ctx))
		world.Close()
	})
	return r.Client()
}

func (h *house) settled() *house {
	h.Helper()
	_, err := h.client.WaitSettled(h.Context(), supervisor.SettleOptions{Timeout: patience})
	require.NoError(h, err)
	return h
}

func (h *house) eventually(what string, is func() bool) {
	h.Helper()
	require.Eventually(h, is, patience, 5*time.Millisecond, what)
}

func (h *house) get(kind, name string) messages.Object {
	o, err := h.client.Get(h.Context(), kind, name)
	if err != nil {
		require.ErrorIs(h, err, messages.ErrNotFound)
		return nil
	}
	return o
}

func (h *house) list(kind string) messages.Objects {
	l, err := h.client.List(h.Context(), kind, supervisor.ListOptions{})
	require.NoError(h, err)
	return l.Items
}

func (h *house) run(name string) string {
	id, err := h.world.Run(sim.ContainerOptions{Name: name, Image: "busybox"})
	require.NoError(h, err)
	return id
}

func (h *house) delete(kind, name string) error {
	_, err := h.client.Delete(h.Context(), messages.DeleteRequest{Kind: kind, Name: name})
	return err
}

func (h *house) hasEvent(kind, actor string) bool {
	r, err := h.client.Events(h.Context(), messages.EventsRequest{})
	require.NoError(h, err)
	for _, e := range r.Events {
		if e.Type == kind && e.Actor == actor && e.Stack != "" {
			return true
		}
	}
	return false
}

func Test_I1_APanicInTheWatcherIsReportedAndMended(t *testing.T) {
	h := start(t, nil)
	id := h.run("before")
	h.settled()
	h.eventually("mirrored", func() bool { return h.get("container", id) != nil })
	uid := h.get("container", id).GetUID()
	for _, path := range []string{"rdd/engine", "rdd/engine/session"} {
		_, err := h.client.Debug(t.Context(), messages.DebugRequest{Actor: path, Action: "panic"})
		require.NoError(t, err)
		h.eventually("the failure is told with its stack", func() bool { return h.hasEvent(messages.EventActorFailed, path) })
		other := h.run("after-" + path[len(path)-4:])
		h.eventually("the mirror lives", func() bool { return h.get("container", other) != nil })
	}
	require.Equal(t, uid, h.get("container", id).GetUID(), "no resource blinks")
}

func Test_I2_AStuckFinalizerStarvesNoOther(t *testing.T) {
	h := start(t, nil)
	h.run("user")
	for i := range 50 {
		_, err := h.world.VolumeCreate(sim.VolumeOptions{Name: fmt.Sprintf("v%d", i)})
		require.NoError(t, err)
	}
	h.settled()
	require.NoError(t, h.delete("image", "busybox:latest"))
	h.eventually("it says who blocks it", func() bool {
		c := messages.Condition(h.get("image", "busybox:latest"), messages.ConditionDeletionBlocked)
		return c != nil && c.Status == metav1.ConditionTrue && c.Reason == messages.ReasonInUse &&
			c.Message == "in use by container user"
	})
	for i := range 50 {
		require.NoError(t, h.delete("volume", fmt.Sprintf("v%d", i)))
	}
	h.eventually("the volumes are gone", func() bool { return len(h.list("volume")) == 0 && len(h.world.Snapshot().Volumes) == 0 })
	require.NotNil(t, h.get("image", "busybox:latest"))
	require.NoError(t, h.world.Rm("user", true))
	h.eventually("the image goes with its user", func() bool { return len(h.list("image")) == 0 && len(h.world.Snapshot().Images) == 0 })
}

func Test_I3_ADeletedNamespaceComesBack(t *testing.T) {
	h := start(t, nil)
	id := h.run("web")
	h.settled()
	h.eventually("there", func() bool { return h.get("containernamespace", "moby") != nil && h.get("container", id) != nil })
	uid := h.get("containernamespace", "moby").GetUID()
	require.NoError(t, h.delete("containernamespace", "moby"))
	h.eventually("again", func() bool { o := h.get("containernamespace", "moby"); return o != nil && o.GetUID() != uid })
	require.NotNil(t, h.get("container", id))
	require.Len(t, h.world.Snapshot().Containers, 1)
}

func Test_S1_NoEventIsLostToAClockThatIsOff(t *testing.T) {
	for _, skew := range []time.Duration{-time.Hour, time.Hour} {
		h := start(t, func(w *sim.Engine) { w.Faults().SkewBy(skew) }).settled()
		id := h.run("web")
		h.eventually("mirrored", func() bool { return h.get("container", id) != nil })
		c := messages.Condition(h.get("app", "app"), messages.ConditionClockSynced)
		require.Equal(t, metav1.ConditionFalse, c.Status, "and the skew is told")
	}
}

func Test_S4_ReadingAPathCreatesNothing(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_DATA_HOME", home+"/data")
	i, err := supervisor.NewInstance("x")
	require.NoError(t, err)
	require.NotEmpty(t, i.Paths())
	require.NoError(t, i.Check())
	left, err := os.ReadDir(home)
	require.NoError(t, err)
	require.Empty(t, left)
}

func Test_S10_ErrorsNameKindAndObject(t *testing.T) {
	h := start(t, nil).settled()
	_, err := h.client.Get(t.Context(), "container", "nosuch")
	require.ErrorContains(t, err, `container "nosuch"`)
	require.ErrorContains(t, h.delete("volume", "nosuch"), `volume "nosuch"`)
	require.ErrorContains(t, h.delete("app", "app"), `delete app "app"`)
}

func Test_S11_OneBrokenInspectHoldsBackOnlyItself(t *testing.T) {
	var bad, good string
	h := start(t, func(w *sim.Engine) {
		bad, _ = w.Run(sim.ContainerOptions{Name: "bad", Image: "busybox"})
		good, _ = w.Run(sim.ContainerOptions{Name: "good", Image: "busybox"})
		w.Faults().Fail(sim.OpInspectContainer, "bad", 3, messages.NewError(messages.CodeUnavailable, "inspect", "container", "bad", "broken"))
	}).settled()
	synced := func(id string) metav1.Condition {
		return *messages.Condition(h.get("container", id), messages.ConditionSynced)
	}
	require.Equal(t, metav1.ConditionTrue, synced(good).Status)
	h.eventually("healed by its own retry", func() bool { return synced(bad).Status == metav1.ConditionTrue })
}

func Test_D1_AnEventCostsOneInspectHoweverManyObjects(t *testing.T) {
	h := start(t, func(w *sim.Engine) {
		for i := range 300 {
			_, _ = w.Run(sim.ContainerOptions{Name: fmt.Sprintf("c%d", i), Image: "busybox"})
		}
	}).settled()
	h.eventually("all of them", func() bool { return len(h.list("container")) == 300 })
	before, lists := h.world.Calls(sim.OpInspectContainer), h.world.Calls(sim.OpListContainers)
	require.NoError(t, h.world.Pause("c7"))
	h.eventually("paused", func() bool {
		return h.get("container", "c7").(*messages.Container).Status.Status == messages.ContainerPaused
	})
	require.LessOrEqual(t, h.world.Calls(sim.OpInspectContainer)-before, 2)
	require.Equal(t, lists, h.world.Calls(sim.OpListContainers))
}

func Test_D4_WhatGoesBetweenListAndInspectIsGone(t *testing.T) {
	var id string
	var undo func()
	h := start(t, func(w *sim.Engine) {
		id, _ = w.Run(sim.ContainerOptions{Name: "ghost", Image: "busybox"})
		undo = w.Faults().Slow(sim.OpInspectContainer, "ghost", 200*time.Millisecond)
	})
	h.eventually("listed", func() bool { return h.get("container", id) != nil })
	require.NoError(t, h.world.Rm("ghost", true))
	undo()
	h.settled()
	h.eventually("gone", func() bool { return h.get("container", id) == nil })
}

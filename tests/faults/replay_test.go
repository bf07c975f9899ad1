package faults

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// serve runs rdd with a journal; stop ends it before the test does.
func serve(t *testing.T, world *sim.Engine, i supervisor.Instance) (h *house, stop func()) {
	t.Helper()
	r, err := supervisor.Start(t.Context(), supervisor.Config{
		Instance: &i, Dialer: world.Dialer(), Drivers: map[string]vmdriver.Driver{messages.DriverExternal: place{world}},
	})
	require.NoError(t, err)
	stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, r.Stop(ctx))
	}
	t.Cleanup(stop)
	h = &house{T: t, world: world, client: r.Client()}
	h.set("running=true", "virtualMachine.driver=external")
	h.settled()
	return h, stop
}

// withBusybox is an engine with one image, for as long as the test.
func withBusybox(t *testing.T) *sim.Engine {
	world := sim.New(sim.Options{})
	t.Cleanup(world.Close)
	_, err := world.Import("busybox:latest", "")
	require.NoError(t, err)
	return world
}

func instance(t *testing.T) supervisor.Instance {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_DATA_HOME", "")
	i, err := supervisor.NewInstance("x")
	require.NoError(t, err)
	return i
}

func TestAnAcceptedDeletionGoesOnAfterARestart(t *testing.T) {
	world := withBusybox(t)
	_, err := world.Run(sim.ContainerOptions{Name: "user", Image: "busybox", Volumes: []string{"data:/data"}})
	require.NoError(t, err)
	i := instance(t)
	h, stop := serve(t, world, i)
	require.NoError(t, h.delete("volume", "data"))
	uid := h.get("volume", "data").GetUID()
	stop()

	h, _ = serve(t, world, i)
	h.eventually("it is still terminating", func() bool {
		o := h.get("volume", "data")
		return o != nil && o.GetDeletionTimestamp() != nil
	})
	require.Equal(t, uid, h.get("volume", "data").GetUID())
	require.NoError(t, world.Rm("user", true))
	h.eventually("and goes with its user", func() bool { return h.get("volume", "data") == nil && len(world.Snapshot().Volumes) == 0 })
}

func TestADeletionOfAnotherObjectThanThereIsNowEndsWithoutIt(t *testing.T) {
	clock := time.Now()
	world := sim.New(sim.Options{Clock: func() time.Time { return clock }})
	t.Cleanup(world.Close)
	_, err := world.Import("busybox:latest", "")
	require.NoError(t, err)
	_, err = world.Run(sim.ContainerOptions{Name: "user", Image: "busybox", Volumes: []string{"data:/data"}})
	require.NoError(t, err)
	i := instance(t)
	h, stop := serve(t, world, i)
	require.NoError(t, h.delete("volume", "data"))
	stop()
	// While nobody looks: another volume under the same name.
	require.NoError(t, world.Rm("user", true))
	require.NoError(t, world.VolumeRm("data"))
	clock = clock.Add(time.Minute)
	_, err = world.VolumeCreate(sim.VolumeOptions{Name: "data"})
	require.NoError(t, err)

	h, _ = serve(t, world, i)
	h.eventually("it is told", func() bool {
		r, err := h.client.Events(t.Context(), messages.EventsRequest{})
		require.NoError(t, err)
		for _, e := range r.Events {
			if e.Type == messages.EventSuperseded {
				return true
			}
		}
		return false
	})
	require.Nil(t, h.get("volume", "data").GetDeletionTimestamp())
	require.Len(t, world.Snapshot().Volumes, 1, "not deleting wins")
}

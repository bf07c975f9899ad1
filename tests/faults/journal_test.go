package faults

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// A truncated journal is refused, named and kept; nothing of the engine is touched; moved away, the mirror is built anew.
func Test_F31_ATruncatedJournalIsRefusedAndKept(t *testing.T) {
	world := withBusybox(t)
	id, err := world.Run(sim.ContainerOptions{Name: "web", Image: "busybox"})
	require.NoError(t, err)
	i := instance(t)
	h, stop := serve(t, world, i)
	h.patch("container", id, `{"metadata":{"labels":{"team":"a"}}}`)
	stop()
	whole, err := os.ReadFile(i.Journal())
	require.NoError(t, err)
	cut := whole[:len(whole)/2]
	require.NoError(t, os.WriteFile(i.Journal(), cut, 0o600))

	_, err = supervisor.Start(t.Context(), supervisor.Config{
		Instance: &i, Dialer: world.Dialer(), Drivers: map[string]vmdriver.Driver{messages.DriverExternal: place{world}},
	})
	require.ErrorIs(t, err, messages.ErrPermanent)
	require.ErrorContains(t, err, i.Journal())
	now, err := os.ReadFile(i.Journal())
	require.NoError(t, err)
	require.Equal(t, cut, now, "the file is as it was")
	copies, err := filepath.Glob(i.Journal() + ".corrupt-*")
	require.NoError(t, err)
	require.Len(t, copies, 1)

	require.NoError(t, os.Remove(i.Journal()))
	h, _ = serve(t, world, i)
	require.NotNil(t, h.get("container", id))
	require.Empty(t, h.get("container", id).GetLabels())
	require.Equal(t, messages.ContainerRunning, h.get("container", id).(*messages.Container).Status.Status)
}

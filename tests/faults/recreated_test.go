package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// A deletion waits for its volume's user; meanwhile the volume is removed and made again, within the same second. Not even a restart
// of its actor takes the deletion for the new one's.
func Test_F17_ADeletionEndsWithTheVolumeItWasFor(t *testing.T) {
	virtually(t, func(t *testing.T, h *house) {
		_, err := h.world.Run(sim.ContainerOptions{Name: "user", Image: "busybox", Volumes: []string{"data:/data"}})
		require.NoError(t, err)
		pass(100 * time.Millisecond)
		// The user goes, and rdd's own call does not get through.
		undo := h.world.Faults().Fail(sim.OpRemoveVolume, "data", 0, messages.NewError(messages.CodeUnavailable, "remove", "volume", "data", "not now"))
		require.NoError(t, h.delete("volume", "data"))
		uid := h.get("volume", "data").GetUID()
		require.NoError(t, h.world.Rm("user", true))
		require.NoError(t, h.world.VolumeRm("data"))
		_, err = h.world.VolumeCreate(sim.VolumeOptions{Name: "data"})
		require.NoError(t, err)
		pass(time.Second)
		require.NotEqual(t, uid, h.get("volume", "data").GetUID())
		undo()
		_, err = h.client.Debug(t.Context(), messages.DebugRequest{Actor: "rdd/volumes/data", Action: "panic"})
		require.NoError(t, err)
		pass(2 * time.Minute)
		require.Len(t, h.world.Snapshot().Volumes, 1)
		require.Nil(t, h.get("volume", "data").GetDeletionTimestamp())
	})
}

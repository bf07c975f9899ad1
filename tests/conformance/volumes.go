package conformance

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

var volumeCases = []testCase{
	{"created", func(t *testing.T, b *bench) {
		before := b.now(t)
		r := b.record(t)
		b.World.CreateVolume(t, "My_Data.1", map[string]string{"a": "1"})
		r.require(t, dockerio.TypeVolume, "My_Data.1", "create")
		row, found := b.volume(t, "My_Data.1")
		require.True(t, found)
		require.Equal(t, "local", row.Driver)
		require.Equal(t, "local", row.Scope)
		require.NotEmpty(t, row.Mountpoint)
		require.Equal(t, map[string]string{"a": "1"}, row.Labels)
		require.Empty(t, row.Options)
		require.False(t, row.Created.IsZero())
		require.Greater(t, row.Created.Sub(before).Seconds(), -1.0, "whole seconds")
		v, err := b.Engine.InspectVolume(t.Context(), "My_Data.1")
		require.NoError(t, err)
		require.Equal(t, row, v, "an inspect knows no more than the list")
	}},

	{"created by a container", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.World.Create(t, Container{Name: "web", Image: busybox, Volumes: map[string]string{"/d": "data"}})
		r.settle(t)
		require.Equal(t, []string{"create"}, r.actions(dockerio.TypeVolume, "data"))
		_, found := b.volume(t, "data")
		require.True(t, found)
		require.NoError(t, b.World.Start(t, id))
		r.require(t, dockerio.TypeVolume, "data", "create", "mount")
		require.Equal(t, id, r.waitFor(t, dockerio.TypeVolume, "data", "mount").Attributes["container"])
		b.World.Remove(t, id)
		r.waitFor(t, dockerio.TypeVolume, "data", "unmount")
		r.require(t, dockerio.TypeVolume, "data", "create", "mount", "unmount")
	}},

	{"removed by the user", func(t *testing.T, b *bench) {
		r := b.record(t)
		b.World.CreateVolume(t, "data", nil)
		b.World.RemoveVolume(t, "data")
		r.require(t, dockerio.TypeVolume, "data", "create", "destroy")
	}},

	{"remove", func(t *testing.T, b *bench) {
		b.World.CreateVolume(t, "data", nil)
		r := b.record(t)
		require.NoError(t, b.Engine.RemoveVolume(t.Context(), "data"))
		_, found := b.volume(t, "data")
		require.False(t, found)
		_, err := b.Engine.InspectVolume(t.Context(), "data")
		requireError(t, err, messages.ErrNotFound, messages.KindVolume, "data")
		requireError(t, b.Engine.RemoveVolume(t.Context(), "data"), messages.ErrNotFound, messages.KindVolume, "data")
		r.require(t, dockerio.TypeVolume, "data", "destroy")
	}},

	{"remove while a container has it", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		for _, running := range []bool{true, false} {
			container := b.World.Create(t, Container{Name: "web", Image: busybox, Volumes: map[string]string{"/d": "data"}})
			if running {
				require.NoError(t, b.World.Start(t, container))
			}
			err := b.Engine.RemoveVolume(t.Context(), "data")
			requireError(t, err, messages.ErrInUse, messages.KindVolume, "data")
			require.ErrorIs(t, err, messages.ErrConflict)
			_, found := b.volume(t, "data")
			require.True(t, found)
			require.NoError(t, b.Engine.RemoveContainer(t.Context(), container))
			require.NoError(t, b.Engine.RemoveVolume(t.Context(), "data"))
		}
	}},

	{"prune", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		b.World.CreateVolume(t, "one", nil)
		b.World.CreateVolume(t, "two", nil)
		b.World.Create(t, Container{Name: "web", Image: busybox, Volumes: map[string]string{"/d": "kept"}})
		r := b.record(t)
		b.World.PruneVolumes(t)
		r.require(t, dockerio.TypeVolume, "", "prune")
		for _, name := range []string{"one", "two"} {
			require.Empty(t, r.actions(dockerio.TypeVolume, name), "a prune announces no destroy")
			_, found := b.volume(t, name)
			require.False(t, found)
		}
		_, found := b.volume(t, "kept")
		require.True(t, found)
	}},

	{"the same name again", func(t *testing.T, b *bench) {
		b.World.CreateVolume(t, "data", map[string]string{"n": "1"})
		b.World.RemoveVolume(t, "data")
		b.World.CreateVolume(t, "data", map[string]string{"n": "2"})
		v, err := b.Engine.InspectVolume(t.Context(), "data")
		require.NoError(t, err)
		require.Equal(t, "2", v.Labels["n"])
	}},
}

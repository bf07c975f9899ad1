package conformance

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

var imageCases = []testCase{
	{"imported", func(t *testing.T, b *bench) {
		r := b.record(t)
		id := b.World.Import(t, "one:1")
		require.Regexp(t, `^sha256:[0-9a-f]{64}$`, id)
		r.settle(t)
		require.Contains(t, r.actions(dockerio.TypeImage, id), "tag")
		require.Equal(t, "one:1", r.waitFor(t, dockerio.TypeImage, id, "tag").Attributes["name"])

		row, found := b.image(t, id)
		require.True(t, found)
		require.Equal(t, []string{"one:1"}, row.Tags)
		require.Empty(t, row.Digests)
		require.Positive(t, row.Size)
		require.False(t, row.Created.IsZero())
		for _, ref := range []string{id, "one:1"} {
			i, err := b.Engine.InspectImage(t.Context(), ref)
			require.NoError(t, err)
			require.Equal(t, id, i.ID)
			require.Equal(t, row.Tags, i.Tags)
			require.Equal(t, row.Size, i.Size)
			require.NotEmpty(t, i.Architecture)
			require.NotEmpty(t, i.OS)
			require.False(t, i.LastTagTime.IsZero())
			require.Less(t, i.Created.Sub(row.Created), time.Second)
			require.GreaterOrEqual(t, i.Created.Sub(row.Created), time.Duration(0))
		}
		require.NotEqual(t, id, b.World.Import(t, "two:1"), "each import is another image")
	}},

	{"tagged", func(t *testing.T, b *bench) {
		id := b.World.Import(t, "one:1")
		before, err := b.Engine.InspectImage(t.Context(), id)
		require.NoError(t, err)
		r := b.record(t)
		b.World.Tag(t, "one:1", "aaa:9")
		r.require(t, dockerio.TypeImage, id, "tag")
		require.Equal(t, "aaa:9", r.waitFor(t, dockerio.TypeImage, id, "tag").Attributes["name"])
		row, _ := b.image(t, id)
		require.Equal(t, []string{"aaa:9", "one:1"}, row.Tags)
		after, err := b.Engine.InspectImage(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, row.Tags, after.Tags)
		require.Positive(t, after.LastTagTime.Sub(before.LastTagTime))
	}},

	{"a tag moves", func(t *testing.T, b *bench) {
		loser, gainer := b.World.Import(t, "one:1"), b.World.Import(t, "two:1")
		r := b.record(t)
		b.World.Tag(t, "two:1", "one:1")
		r.require(t, dockerio.TypeImage, gainer, "tag")
		require.Empty(t, r.actions(dockerio.TypeImage, loser), "the loser hears nothing")
		row, _ := b.image(t, gainer)
		require.Equal(t, []string{"one:1", "two:1"}, row.Tags)
		row, found := b.image(t, loser)
		require.True(t, found, "a dangling image is in the list")
		require.Empty(t, row.Tags)
		require.Empty(t, row.Digests)
		i, err := b.Engine.InspectImage(t.Context(), loser)
		require.NoError(t, err)
		require.Empty(t, i.Tags)
	}},

	{"remove one of several tags", func(t *testing.T, b *bench) {
		id := b.World.Import(t, "one:1")
		b.World.Tag(t, "one:1", "two:1")
		r := b.record(t)
		require.NoError(t, b.Engine.RemoveImage(t.Context(), "one:1"))
		r.require(t, dockerio.TypeImage, id, "untag")
		require.Equal(t, id, r.waitFor(t, dockerio.TypeImage, id, "untag").Attributes["name"], "which tag went is not told")
		row, _ := b.image(t, id)
		require.Equal(t, []string{"two:1"}, row.Tags)
		requireError(t, b.Engine.RemoveImage(t.Context(), "one:1"), messages.ErrNotFound, messages.KindImage, "one:1")
		_, err := b.Engine.InspectImage(t.Context(), "one:1")
		requireError(t, err, messages.ErrNotFound, messages.KindImage, "one:1")
	}},

	{"remove the last tag", func(t *testing.T, b *bench) {
		id := b.World.Import(t, "one:1")
		r := b.record(t)
		require.NoError(t, b.Engine.RemoveImage(t.Context(), "one:1"))
		r.require(t, dockerio.TypeImage, id, "untag", "delete")
		_, found := b.image(t, id)
		require.False(t, found)
		_, err := b.Engine.InspectImage(t.Context(), id)
		requireError(t, err, messages.ErrNotFound, messages.KindImage, id)
	}},

	{"the user removes a tag", func(t *testing.T, b *bench) {
		id := b.World.Import(t, "one:1")
		b.World.Tag(t, "one:1", "two:1")
		r := b.record(t)
		b.World.Untag(t, "two:1")
		b.World.Untag(t, "one:1")
		r.require(t, dockerio.TypeImage, id, "untag", "untag", "delete")
	}},

	{"remove by id", func(t *testing.T, b *bench) {
		id := b.World.Import(t, "one:1")
		b.World.Tag(t, "one:1", "two:1")
		err := b.Engine.RemoveImage(t.Context(), id)
		requireError(t, err, messages.ErrConflict, messages.KindImage, id)
		require.NotErrorIs(t, err, messages.ErrInUse, "several tags are no users")
		require.NoError(t, b.Engine.RemoveImage(t.Context(), "two:1"))
		require.NoError(t, b.Engine.RemoveImage(t.Context(), id), "one tag goes with its image")
		_, found := b.image(t, id)
		require.False(t, found)
		requireError(t, b.Engine.RemoveImage(t.Context(), id), messages.ErrNotFound, messages.KindImage, id)
	}},

	{"remove a dangling one", func(t *testing.T, b *bench) {
		id := b.World.Import(t, "one:1")
		b.World.Import(t, "one:1")
		r := b.record(t)
		require.NoError(t, b.Engine.RemoveImage(t.Context(), id))
		r.require(t, dockerio.TypeImage, id, "delete")
		_, found := b.image(t, id)
		require.False(t, found)
	}},

	{"remove while a container uses it", func(t *testing.T, b *bench) {
		for _, running := range []bool{true, false} {
			id := b.World.Import(t, "one:1")
			container := b.World.Create(t, Container{Name: "web", Image: "one:1"})
			if running {
				require.NoError(t, b.World.Start(t, container))
			}
			r := b.record(t)
			for _, ref := range []string{"one:1", id} {
				err := b.Engine.RemoveImage(t.Context(), ref)
				requireError(t, err, messages.ErrInUse, messages.KindImage, ref)
				require.ErrorIs(t, err, messages.ErrConflict)
			}
			r.settle(t)
			require.Empty(t, r.actions(dockerio.TypeImage, id), "a refused removal changes nothing")
			row, _ := b.image(t, id)
			require.Equal(t, []string{"one:1"}, row.Tags)

			// One tag of two may go: the image stays.
			b.World.Tag(t, "one:1", "two:1")
			require.NoError(t, b.Engine.RemoveImage(t.Context(), "two:1"))

			require.NoError(t, b.Engine.RemoveContainer(t.Context(), container))
			require.NoError(t, b.Engine.RemoveImage(t.Context(), "one:1"))
		}
	}},

	{"remove a dangling one in use", func(t *testing.T, b *bench) {
		id := b.World.Import(t, "one:1")
		container := b.World.Create(t, Container{Name: "web", Image: "one:1"})
		b.World.Import(t, "one:1")
		requireError(t, b.Engine.RemoveImage(t.Context(), id), messages.ErrInUse, messages.KindImage, id)
		b.World.Remove(t, container)
		require.NoError(t, b.Engine.RemoveImage(t.Context(), id))
	}},

	{"loaded", func(t *testing.T, b *bench) {
		id := b.World.Import(t, "one:1")
		r := b.record(t)
		b.World.Load(t, "one:1")
		r.settle(t)
		require.Contains(t, r.actions(dockerio.TypeImage, id), "load")
		require.NotContains(t, r.actions(dockerio.TypeImage, id), "tag")
		row, _ := b.image(t, id)
		require.Equal(t, []string{"one:1"}, row.Tags)
	}},

	{"prune", func(t *testing.T, b *bench) {
		gone := b.World.Import(t, "one:1")
		kept := b.World.Import(t, "one:1")
		r := b.record(t)
		b.World.PruneImages(t)
		r.require(t, dockerio.TypeImage, gone, "delete")
		r.require(t, dockerio.TypeImage, "", "prune")
		_, found := b.image(t, gone)
		require.False(t, found)
		_, found = b.image(t, kept)
		require.True(t, found)
	}},
}

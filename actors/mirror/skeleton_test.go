package mirror_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/actors/calls"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/mirror"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

// A resource without an engine object, as a client's create would leave it: there is nothing to remove in the engine, so
// that its deletion needs neither an engine nor a session.
func Test_S7_ASkeletonIsDeletedAtOnce(t *testing.T) {
	table := store.NewTable(1)
	kind, _ := messages.KindByName(messages.KindContainer)
	skeleton := kind.New()
	skeleton.SetName("skeleton")
	skeleton.SetFinalizers([]string{messages.Finalizer})
	table.Seed(store.Put{Object: skeleton, Owner: "skeleton"})

	back, _ := journal.Memory()
	h, err := kit.StartTest(kit.TestConfig{
		Actors: map[string]kit.ChildSpec{
			control.Journal:    {New: journal.New(back)},
			control.Store:      {New: store.New(table)},
			control.Containers: {New: mirror.Containers(&mirror.Deps{Table: table, Calls: calls.New(nil), Now: time.Now, Instance: "test"})},
		},
		Probes: []string{control.Engine},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Stop(context.Background())) }()

	key := store.Key{Kind: messages.KindContainer, Name: "skeleton"}
	require.Never(t, func() bool { _, ok := table.Load().Get(key); return !ok }, 200*time.Millisecond, 20*time.Millisecond,
		"nobody asked for its deletion")
	require.Eventually(t, func() bool {
		answer, err := h.Ask(t.Context(), control.Containers, mirror.Delete{Owner: "skeleton", Name: "skeleton", UID: "another"})
		return err == nil && errors.Is(answer.(mirror.Deleted).Err, messages.ErrConflict)
	}, 5*time.Second, 20*time.Millisecond, "its owner is there")
	answer, err := h.Ask(t.Context(), control.Containers, mirror.Delete{Owner: "skeleton", Name: "skeleton"})
	require.NoError(t, err)
	require.NoError(t, answer.(mirror.Deleted).Err)
	require.Eventually(t, func() bool { _, ok := table.Load().Get(key); return !ok }, 5*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		open, err := back.Load(journal.BucketDeletions, "")
		return err == nil && len(open) == 0
	}, 5*time.Second, 5*time.Millisecond, "and nothing is left to be done")
}

package mirror_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/actors/calls"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/mirror"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// The end of the mirroring meets the namespace while its Put is in flight: it goes all the same, and the engine, which waits for
// that, is told.
func TestASweepThatMeetsThePutOfTheNamespace(t *testing.T) {
	h, err := kit.StartTest(kit.TestConfig{
		Actors: map[string]kit.ChildSpec{control.Moby: {New: mirror.Moby(&mirror.Deps{Table: store.NewTable(1), Now: time.Now})}},
		Probes: []string{control.Engine, control.Store},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Stop(context.Background())) }()
	const soon = 5 * time.Second
	writes, engine := h.Probes[control.Store], h.Probes[control.Engine]

	h.Tell(control.Moby, mirror.Mirroring{On: true, Session: mirror.Session{EngineID: "A"}})
	put, err := kit.Await[store.Put](writes, soon, nil)
	require.NoError(t, err)
	h.Tell(control.Moby, mirror.Mirroring{})
	h.Tell(control.Moby, store.PutDone{Token: put.Token, Object: put.Object})
	remove, err := kit.Await[store.Remove](writes, soon, nil)
	require.NoError(t, err)
	require.Equal(t, messages.ReasonMirrorReset, remove.Reason)
	h.Tell(control.Moby, store.RemoveDone{Token: remove.Token, Key: remove.Key})
	swept, err := kit.Await[mirror.Swept](engine, soon, nil)
	require.NoError(t, err)
	require.Equal(t, messages.KindContainerNamespace, swept.Kind)

	h.Tell(control.Moby, mirror.Mirroring{})
	_, err = kit.Await[mirror.Swept](engine, soon, nil)
	require.NoError(t, err, "there is nothing left to remove")
}

// engineWith is a scheduler with a session, epoch 1, to an engine that has one container.
func engineWith(t *testing.T) (*sim.Engine, *calls.Scheduler, string) {
	t.Helper()
	world := sim.New(sim.Options{})
	t.Cleanup(world.Close)
	_, err := world.Import("busybox:latest", "")
	require.NoError(t, err)
	id, err := world.Run(sim.ContainerOptions{Name: "web", Image: "busybox"})
	require.NoError(t, err)
	client, err := world.Dialer().Dial(t.Context(), world.Endpoint())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	scheduler := calls.New(nil)
	scheduler.Open(t.Context(), 1, client)
	return world, scheduler, id
}

// A list that was asked for before the sweep comes after it: nothing is mirrored any more.
func TestAListThatComesAfterTheSweepMirrorsNothing(t *testing.T) {
	world, scheduler, _ := engineWith(t)
	table := store.NewTable(1)
	back, _ := journal.Memory()
	h, err := kit.StartTest(kit.TestConfig{
		Actors: map[string]kit.ChildSpec{
			control.Journal:    {New: journal.New(back)},
			control.Store:      {New: store.New(table)},
			control.Containers: {New: mirror.Containers(&mirror.Deps{Table: table, Calls: scheduler, Now: time.Now, Instance: "test"})},
		},
		Probes: []string{control.Engine, control.Images, control.Volumes},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Stop(context.Background())) }()
	const soon = 5 * time.Second
	_, err = kit.Await[control.Hello](h.Probes[control.Engine], soon, nil)
	require.NoError(t, err)

	release := world.Faults().Add(sim.Rule{Op: sim.OpListContainers, Hang: true, After: true})
	h.Tell(control.Containers, mirror.Session{Epoch: 1, EngineID: "A"})
	require.Eventually(t, func() bool { return world.Calls(sim.OpListContainers) == 1 }, soon, time.Millisecond)
	h.Tell(control.Containers, mirror.Sweep{})
	_, err = kit.Await[mirror.Swept](h.Probes[control.Engine], soon, nil)
	require.NoError(t, err)
	release()
	require.Never(t, func() bool { return table.Load().Count(messages.KindContainer) > 0 }, 200*time.Millisecond, 10*time.Millisecond)

	h.Tell(control.Containers, mirror.Session{Epoch: 2, EngineID: "A"})
	require.Eventually(t, func() bool { return table.Load().Count(messages.KindContainer) == 1 }, soon, 10*time.Millisecond, "the next session does")
}

// An inspect that was asked for before the sweep is answered in the middle of it: the sweep goes on, and ends.
func TestAnInspectAnsweredDuringTheSweepMirrorsNothing(t *testing.T) {
	world, scheduler, id := engineWith(t)
	back, _ := journal.Memory()
	h, err := kit.StartTest(kit.TestConfig{
		Actors: map[string]kit.ChildSpec{
			control.Journal:    {New: journal.New(back)},
			control.Containers: {New: mirror.Containers(&mirror.Deps{Table: store.NewTable(1), Calls: scheduler, Now: time.Now, Instance: "test"})},
		},
		Probes: []string{control.Engine, control.Images, control.Volumes, control.Store},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Stop(context.Background())) }()
	const soon = 5 * time.Second
	writes, owner := h.Probes[control.Store], control.Containers+"/"+id
	_, err = kit.Await[control.Hello](h.Probes[control.Engine], soon, nil)
	require.NoError(t, err)

	release := world.Faults().Add(sim.Rule{Op: sim.OpInspectContainer, Hang: true, After: true})
	h.Tell(control.Containers, mirror.Session{Epoch: 1, EngineID: "A"})
	put, err := kit.Await[store.Put](writes, soon, nil)
	require.NoError(t, err)
	h.Tell(owner, store.PutDone{Token: put.Token, Key: store.Key{Kind: messages.KindContainer, Name: id}, Object: put.Object})
	require.Eventually(t, func() bool { return world.Calls(sim.OpInspectContainer) == 1 }, soon, time.Millisecond)
	h.Tell(control.Containers, mirror.Sweep{})
	remove, err := kit.Await[store.Remove](writes, soon, nil)
	require.NoError(t, err)
	release()
	_, err = kit.Await[store.Put](writes, 200*time.Millisecond, nil)
	require.Error(t, err)
	h.Tell(owner, store.RemoveDone{Token: remove.Token, Key: remove.Key})
	_, err = kit.Await[mirror.Swept](h.Probes[control.Engine], soon, nil)
	require.NoError(t, err)
}

// A tag that moved while nothing was mirrored has nobody to wait for: it is there when the first pass is complete.
func TestATagThatMovedWhileNothingWasMirrored(t *testing.T) {
	world, scheduler, _ := engineWith(t)
	table := store.NewTable(1)
	back, _ := journal.Memory()
	h, err := kit.StartTest(kit.TestConfig{
		Actors: map[string]kit.ChildSpec{
			control.Journal: {New: journal.New(back)},
			control.Store:   {New: store.New(table)},
			control.Images:  {New: mirror.Images(&mirror.Deps{Table: table, Calls: scheduler, Now: time.Now, Instance: "test"})},
		},
		Probes: []string{control.Engine, control.Containers},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Stop(context.Background())) }()
	const soon = 5 * time.Second
	engine := h.Probes[control.Engine]
	tagged := func(epoch uint64) (ids []string) {
		t.Helper()
		_, err := kit.Await(engine, soon, func(p mirror.Progress) bool { return p.Epoch == epoch && p.Complete })
		require.NoError(t, err)
		for _, it := range table.Load().List(messages.KindImage) {
			if s := it.Object.(*messages.Image).Status; s.RepoTag == "busybox:latest" {
				ids = append(ids, s.ID)
			}
		}
		return ids
	}
	_, err = kit.Await[control.Hello](engine, soon, nil)
	require.NoError(t, err)
	h.Tell(control.Images, mirror.Session{Epoch: 1, EngineID: "A"})
	before := tagged(1)
	require.Len(t, before, 1)
	h.Tell(control.Images, mirror.Sweep{})
	_, err = kit.Await[mirror.Swept](engine, soon, nil)
	require.NoError(t, err)
	moved, err := world.Import("busybox:latest", "another")
	require.NoError(t, err)
	require.NotEqual(t, before[0], moved)
	scheduler.Open(t.Context(), 2, must(world.Dialer().Dial(t.Context(), world.Endpoint())))
	h.Tell(control.Images, mirror.Session{Epoch: 2, EngineID: "A"})
	require.Equal(t, []string{moved}, tagged(2))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

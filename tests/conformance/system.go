package conformance

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

var systemCases = []testCase{
	{"info", func(t *testing.T, b *bench) {
		first, err := b.Engine.Info(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, first.ID)
		require.NotEmpty(t, first.Name)
		require.NotEmpty(t, first.Version)
		require.Regexp(t, `^1\.\d+$`, first.APIVersion)
		require.False(t, first.Now.IsZero())
		second, err := b.Engine.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, first.ID, second.ID)
		require.GreaterOrEqual(t, second.Now.Sub(first.Now), time.Duration(0))
	}},

	{"ping", func(t *testing.T, b *bench) { require.NoError(t, b.Engine.Ping(t.Context())) }},

	{"empty", func(t *testing.T, b *bench) {
		containers, err := b.Engine.ListContainers(t.Context())
		require.NoError(t, err)
		require.Empty(t, containers)
		images, err := b.Engine.ListImages(t.Context())
		require.NoError(t, err)
		require.Empty(t, images)
		volumes, err := b.Engine.ListVolumes(t.Context())
		require.NoError(t, err)
		require.Empty(t, volumes)
	}},

	{"not found", func(t *testing.T, b *bench) {
		id := strings.Repeat("0", 64)
		_, err := b.Engine.InspectContainer(t.Context(), id)
		requireError(t, err, messages.ErrNotFound, messages.KindContainer, id)
		requireError(t, b.Engine.RemoveContainer(t.Context(), id), messages.ErrNotFound, messages.KindContainer, id)
		for _, v := range verbs {
			requireError(t, v.call(b.Engine, t.Context(), id), messages.ErrNotFound, messages.KindContainer, id)
		}
		for _, ref := range []string{"nowhere:latest", "sha256:" + id, "registry.example:5000/a/b:c"} {
			_, err = b.Engine.InspectImage(t.Context(), ref)
			requireError(t, err, messages.ErrNotFound, messages.KindImage, ref)
			requireError(t, b.Engine.RemoveImage(t.Context(), ref), messages.ErrNotFound, messages.KindImage, ref)
		}
		_, err = b.Engine.InspectVolume(t.Context(), "nowhere")
		requireError(t, err, messages.ErrNotFound, messages.KindVolume, "nowhere")
		requireError(t, b.Engine.RemoveVolume(t.Context(), "nowhere"), messages.ErrNotFound, messages.KindVolume, "nowhere")
	}},

	{"no name", func(t *testing.T, b *bench) {
		_, err := b.Engine.InspectContainer(t.Context(), "")
		require.ErrorIs(t, err, messages.ErrPermanent)
		require.ErrorIs(t, b.Engine.RemoveContainer(t.Context(), ""), messages.ErrPermanent)
		for _, v := range verbs {
			require.ErrorIs(t, v.call(b.Engine, t.Context(), ""), messages.ErrPermanent, v.name)
		}
		_, err = b.Engine.InspectImage(t.Context(), "")
		require.ErrorIs(t, err, messages.ErrPermanent)
		require.ErrorIs(t, b.Engine.RemoveImage(t.Context(), ""), messages.ErrPermanent)
		_, err = b.Engine.InspectVolume(t.Context(), "")
		require.ErrorIs(t, err, messages.ErrPermanent)
		require.ErrorIs(t, b.Engine.RemoveVolume(t.Context(), ""), messages.ErrPermanent)
	}},

	{"a context that has ended", func(t *testing.T, b *bench) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
		defer cancel()
		for what, call := range map[string]func(context.Context) error{
			"info":       func(ctx context.Context) error { _, err := b.Engine.Info(ctx); return err },
			"ping":       b.Engine.Ping,
			"containers": func(ctx context.Context) error { _, err := b.Engine.ListContainers(ctx); return err },
			"images":     func(ctx context.Context) error { _, err := b.Engine.ListImages(ctx); return err },
			"volumes":    func(ctx context.Context) error { _, err := b.Engine.ListVolumes(ctx); return err },
			"inspect":    func(ctx context.Context) error { _, err := b.Engine.InspectContainer(ctx, "x"); return err },
			"remove":     func(ctx context.Context) error { return b.Engine.RemoveVolume(ctx, "x") },
			"events":     func(ctx context.Context) error { _, err := b.Engine.Events(ctx, dockerio.Time{}); return err },
		} {
			err := call(ended)
			require.ErrorIs(t, err, context.Canceled, what)
			require.ErrorIs(t, err, messages.ErrTransient, what)
			err = call(late)
			require.ErrorIs(t, err, context.DeadlineExceeded, what)
			require.ErrorIs(t, err, messages.ErrTimeout, what)
			require.ErrorIs(t, err, messages.ErrTransient, what)
		}
	}},

	{"many calls at once", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		id := b.World.Create(t, Container{Name: "web", Image: busybox})
		var group sync.WaitGroup
		errs := make(chan error, 64)
		for range 8 {
			group.Go(func() {
				for range 8 {
					_, err := b.Engine.InspectContainer(t.Context(), id)
					errs <- err
				}
			})
		}
		group.Wait()
		close(errs)
		for err := range errs {
			require.NoError(t, err)
		}
	}},
}

// kept is how many events an engine can replay.
const kept = 256

var eventCases = []testCase{
	{"since is inclusive", func(t *testing.T, b *bench) {
		r := b.record(t)
		b.World.CreateVolume(t, "one", nil)
		first := r.waitFor(t, dockerio.TypeVolume, "one", "create")
		b.World.CreateVolume(t, "two", nil)
		second := r.waitFor(t, dockerio.TypeVolume, "two", "create")
		require.Positive(t, second.Time.Sub(first.Time))

		r = b.recordSince(t, second.Time)
		r.require(t, dockerio.TypeVolume, "two", "create")
		require.Equal(t, second, r.seen()[0], "it begins with the event of that very moment")

		r = b.recordSince(t, second.Time.Add(1))
		r.settle(t)
		require.Empty(t, r.actions(dockerio.TypeVolume, "two"))
		r = b.recordSince(t, first.Time)
		r.settle(t)
		require.Equal(t, []dockerio.Event{first, second}, r.seen()[:2])
	}},

	{"without since nothing is replayed", func(t *testing.T, b *bench) {
		b.World.CreateVolume(t, "one", nil)
		r := b.recordSince(t, dockerio.Time{})
		// Without since nobody can tell when the subscription begins: the sentinel must be made until it is seen.
		var name string
		for i := 0; ; i++ {
			name = fmt.Sprintf("two-%d", i)
			b.World.CreateVolume(t, name, nil)
			if len(r.seen()) > 0 || i == 1000 {
				break
			}
		}
		r.waitFor(t, dockerio.TypeVolume, name, "create")
		require.Empty(t, r.actions(dockerio.TypeVolume, "one"))
	}},

	{"replay has a limit", func(t *testing.T, b *bench) {
		start := b.now(t)
		const all = kept + 20
		for i := range all {
			b.World.CreateVolume(t, fmt.Sprintf("v-%03d", i), nil)
		}
		r := b.recordSince(t, start)
		r.wait(t, 1, func(e dockerio.Event) bool { return e.ID == fmt.Sprintf("v-%03d", all-1) }, "the last one")
		replayed := r.seen()
		require.Len(t, replayed, kept, "the engine keeps its last events and says nothing of the others")
		require.Equal(t, fmt.Sprintf("v-%03d", all-kept), replayed[0].ID)
	}},

	{"order and time", func(t *testing.T, b *bench) {
		start := b.now(t)
		r := b.record(t)
		for i := range 20 {
			b.World.CreateVolume(t, fmt.Sprintf("v-%02d", i), nil)
		}
		r.settle(t)
		for i, e := range r.seen()[:20] {
			require.Equal(t, fmt.Sprintf("v-%02d", i), e.ID)
			require.GreaterOrEqual(t, e.Time.Sub(start), time.Duration(0))
		}
	}},

	{"two streams", func(t *testing.T, b *bench) {
		one, two := b.record(t), b.record(t)
		b.World.CreateVolume(t, "data", nil)
		one.waitFor(t, dockerio.TypeVolume, "data", "create")
		two.waitFor(t, dockerio.TypeVolume, "data", "create")
	}},

	{"close", func(t *testing.T, b *bench) {
		stream, err := b.Engine.Events(t.Context(), b.now(t))
		require.NoError(t, err)
		got := make(chan error, 1)
		go func() { _, err := stream.Next(); got <- err }()
		require.NoError(t, stream.Close())
		select {
		case err := <-got:
			require.Error(t, err)
		case <-time.After(patience):
			t.Fatal("Close does not end Next")
		}
		_, err = stream.Next()
		require.Error(t, err)
		require.NoError(t, stream.Close(), "closed twice")
	}},

	{"its context ends", func(t *testing.T, b *bench) {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := b.Engine.Events(ctx, b.now(t))
		require.NoError(t, err)
		cancel()
		_, err = stream.Next()
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, stream.Close())
	}},
}

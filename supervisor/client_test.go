package supervisor

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rdd-desktop/rdd/messages"
)

func TestNamesResolve(t *testing.T) {
	w := newWorld(t, 1)
	web := container("8eb6"+strings.Repeat("0", 60), "web")
	db := container("8e00"+strings.Repeat("1", 60), "db")
	odd := container(strings.Repeat("2", 64), "8eb6") // its name looks like an id
	for _, c := range []*messages.Container{web, db, odd} {
		w.put(c)
	}
	w.put(image("sha256:aa11", "alpine:3.20"))
	w.put(image("sha256:aa11", "alpine:latest"))
	w.put(image("sha256:ab22", ""))
	w.put(volume("My_Data"))
	ctx := context.Background()
	for _, c := range []struct{ kind, name, want string }{
		{"container", web.Name, web.Name},
		{"CO", "web", web.Name},
		{"containers", "8eb6", odd.Name}, // a whole name beats a prefix
		{"container", "8eb60", web.Name},
		{"container", "8e0", db.Name},
		{"image", "alpine:3.20", messages.ImageName("sha256:aa11", "alpine:3.20")},
		{"img", "alpine", messages.ImageName("sha256:aa11", "alpine:latest")},
		{"image", "ab", messages.ImageName("sha256:ab22", "")},
		{"image", "sha256:ab", messages.ImageName("sha256:ab22", "")},
		{"vol", "My_Data", messages.VolumeName("My_Data")},
	} {
		o, err := w.c.Get(ctx, c.kind, c.name)
		require.NoError(t, err, c)
		require.Equal(t, c.want, o.GetName(), c)
	}
	_, err := w.c.Get(ctx, "container", "nope")
	require.ErrorIs(t, err, messages.ErrNotFound)
	require.EqualError(t, err, `get container "nope": not found`)
	_, err = w.c.Get(ctx, "container", "8e")
	require.ErrorIs(t, err, messages.ErrAmbiguous)
	require.Contains(t, err.Error(), "web (8eb6")
	require.Contains(t, messages.AsError(err).Details["candidates"], db.Name)
	_, err = w.c.Get(ctx, "image", "sha256:aa11")
	require.ErrorIs(t, err, messages.ErrAmbiguous)
	_, err = w.c.Get(ctx, "pod", "x")
	require.ErrorIs(t, err, messages.ErrBadRequest)
	_, err = w.c.Get(ctx, "volume", "")
	require.ErrorIs(t, err, messages.ErrBadRequest)
}

func TestClientGivesCopies(t *testing.T) {
	w := newWorld(t, 1)
	w.put(container(hexID(1), "web"))
	ctx := context.Background()
	change := func(o messages.Object) {
		o.SetLabels(map[string]string{"x": "y"})
		o.(*messages.Container).Status.Name = "changed"
	}
	o, err := w.c.Get(ctx, "container", "web")
	require.NoError(t, err)
	change(o)
	l, err := w.c.List(ctx, "container", ListOptions{})
	require.NoError(t, err)
	change(l.Items[0])
	watch, err := w.c.Watch(ctx, "container", WatchOptions{})
	require.NoError(t, err)
	e, err := watch.Next(ctx)
	require.NoError(t, err)
	change(e.Object)
	objects, err := w.c.Wait(ctx, "container", WaitOptions{For: must(ParseFor("create")), Name: "web",
		Progress: func(e messages.WatchEvent) { change(e.Object) }})
	require.NoError(t, err)
	change(objects[0])
	o, err = w.c.Get(ctx, "container", "web")
	require.NoError(t, err)
	require.Empty(t, o.GetLabels())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestPagesAreOneMoment(t *testing.T) {
	w := newWorld(t, 1)
	for n := range 1200 {
		w.put(container(hexID(n), fmt.Sprint("c", n)))
	}
	ctx := context.Background()
	first, err := w.b.list(ctx, messages.ListRequest{Kind: "Container", Limit: 1000})
	require.NoError(t, err)
	require.Len(t, first.Items, messages.MaxPage)
	w.put(container(hexID(5000), "late"))
	w.remove(container(hexID(1100), ""))
	second, err := w.b.list(ctx, messages.ListRequest{Kind: "Container", Continue: first.Continue})
	require.NoError(t, err)
	again, err := w.b.list(ctx, messages.ListRequest{Kind: "Container", Continue: first.Continue})
	require.NoError(t, err)
	require.Equal(t, second, again, "a page may be asked for again")
	third, err := w.b.list(ctx, messages.ListRequest{Kind: "Container", Continue: second.Continue})
	require.NoError(t, err)
	require.Len(t, third.Items, 200)
	require.Empty(t, third.Continue)
	require.Equal(t, first.ResourceVersion, third.ResourceVersion)

	for range maxPins {
		_, err := w.b.list(ctx, messages.ListRequest{Kind: "Container", Limit: 1})
		require.NoError(t, err)
	}
	_, err = w.b.list(ctx, messages.ListRequest{Kind: "Container", Continue: first.Continue})
	require.ErrorIs(t, err, messages.ErrGone, "the oldest of too many is dropped")
	require.Len(t, w.b.pins, maxPins)

	now := time.Now()
	w.b.now = func() time.Time { return now }
	page, err := w.b.list(ctx, messages.ListRequest{Kind: "Container", Limit: 1})
	require.NoError(t, err)
	now = now.Add(pinTime - time.Second)
	_, err = w.b.list(ctx, messages.ListRequest{Kind: "Container", Continue: page.Continue})
	require.NoError(t, err)
	now = now.Add(time.Second)
	_, err = w.b.list(ctx, messages.ListRequest{Kind: "Container", Continue: page.Continue})
	require.ErrorIs(t, err, messages.ErrGone)
	require.Empty(t, w.b.pins)
	_, err = w.b.list(ctx, messages.ListRequest{Kind: "Container", Continue: "x"})
	require.ErrorIs(t, err, messages.ErrBadRequest)
}

func TestPullHoldsFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.put(container(hexID(1), "web"))
		start, cursor := time.Now(), formatVersion(w.table.Load().Version())
		go func() {
			time.Sleep(3 * time.Second)
			w.put(volume("other kind"))
		}()
		batch, err := w.b.next(context.Background(), messages.NextRequest{Kind: "Container", Cursor: cursor})
		require.NoError(t, err)
		require.Equal(t, 5*time.Second, time.Since(start))
		require.Empty(t, batch.Events)
		require.Equal(t, cursor, batch.Since)
		require.Equal(t, formatVersion(w.table.Load().Version()), batch.Cursor, "other kinds move the cursor along")

		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err = w.b.next(ctx, messages.NextRequest{Kind: "Container", Cursor: batch.Cursor})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestPullOfAnotherBootIsGone(t *testing.T) {
	w := newWorld(t, 2)
	for _, cursor := range []string{"5", formatVersion(1<<40 | 1), formatVersion(3 << 40), formatVersion(2<<40 | 99)} {
		_, err := w.b.next(context.Background(), messages.NextRequest{Kind: "Container", Cursor: cursor})
		require.ErrorIs(t, err, messages.ErrGone, cursor)
	}
	_, err := w.b.next(context.Background(), messages.NextRequest{Kind: "Container", Cursor: "x"})
	require.ErrorIs(t, err, messages.ErrBadRequest)
	watch, err := w.c.Watch(context.Background(), "container", WatchOptions{ResourceVersion: "5"})
	require.NoError(t, err)
	_, err = watch.Next(context.Background())
	require.ErrorIs(t, err, messages.ErrGone)
	_, err = watch.Next(context.Background())
	require.ErrorIs(t, err, messages.ErrGone)
}

func TestSelectionShowsEnteringAndLeaving(t *testing.T) {
	w := newWorld(t, 1)
	ctx := within(t, 20*time.Second)
	c := container(hexID(1), "web")
	w.put(c)
	watch, err := w.c.Watch(ctx, "container", WatchOptions{Selector: messages.Selector{Labels: "app=x"}})
	require.NoError(t, err)
	next := func() messages.WatchEvent {
		e, err := watch.Next(ctx)
		require.NoError(t, err)
		return e
	}
	b := next()
	require.Equal(t, messages.Bookmark, b.Type)
	require.Contains(t, b.Object.GetAnnotations(), messages.AnnotationInitialEventsEnd)
	labelled := func(state string, labels map[string]string) {
		c := c.DeepCopy()
		c.Labels, c.Status.Status = labels, state
		w.put(c)
	}
	in := map[string]string{"app": "x"}
	labelled("created", in)
	e := next()
	require.Equal(t, messages.Added, e.Type)
	require.Equal(t, e.Object.GetResourceVersion(), e.Version)
	labelled("running", in)
	require.Equal(t, messages.Modified, next().Type)
	labelled("exited", nil)
	e = next()
	require.Equal(t, messages.Deleted, e.Type)
	require.Empty(t, e.Reason)
	require.Equal(t, in, e.Object.GetLabels(), "as it was when last chosen")
	require.NotEqual(t, e.Version, e.Object.GetResourceVersion())
	labelled("created", in)
	require.Equal(t, messages.Added, next().Type)
	w.remove(c, messages.ReasonMirrorReset)
	e = next()
	require.Equal(t, messages.Deleted, e.Type)
	require.Equal(t, messages.ReasonMirrorReset, e.Reason)
	watch.Close()
	_, err = watch.Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// Replaying a watch over any history gives what a list gives, with and without a selector.
func TestWatchEqualsList(t *testing.T) {
	w := newWorld(t, 1)
	w.b.hold = time.Millisecond
	rapid.Check(t, func(rt *rapid.T) {
		ctx := within(t, time.Minute)
		selectors := []messages.Selector{{}, {Labels: "app=x"}, {Fields: "status.status=running"}, {Name: hexID(1)}}
		var watches []*Watch
		for _, s := range selectors {
			watch, err := w.c.Watch(ctx, "container", WatchOptions{Selector: s})
			require.NoError(t, err)
			defer watch.Close()
			watches = append(watches, watch)
		}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			c := container(hexID(rapid.IntRange(0, 4).Draw(rt, "id")), "n")
			if rapid.IntRange(0, 3).Draw(rt, "remove") == 0 {
				w.remove(c)
				continue
			}
			c.Status.Status = rapid.SampledFrom([]string{"running", "exited"}).Draw(rt, "state")
			c.Labels = map[string]string{"app": rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "app")}
			w.put(c)
		}
		end := w.put(container("end", fmt.Sprint(time.Now().UnixNano())))
		for i, s := range selectors {
			l, err := w.c.List(ctx, "container", ListOptions{Selector: s})
			require.NoError(t, err)
			want := map[string]messages.Object{}
			for _, o := range l.Items {
				want[o.GetName()] = o
			}
			got := map[string]messages.Object{}
			for cursor := uint64(0); cursor < must(parseVersion(end.GetResourceVersion())); {
				if len(watches[i].queue) == 0 {
					batch, err := w.b.next(ctx, messages.NextRequest{Kind: "Container", Selector: s, Cursor: watches[i].cursor, Max: 3})
					require.NoError(t, err)
					watches[i].cursor, watches[i].queue = batch.Cursor, batch.Events
					cursor = must(parseVersion(batch.Cursor))
				}
				for len(watches[i].queue) > 0 {
					e, err := watches[i].Next(ctx)
					require.NoError(t, err)
					switch _, had := got[e.Object.GetName()]; e.Type {
					case messages.Added:
						require.False(t, had)
						got[e.Object.GetName()] = e.Object
					case messages.Modified:
						require.True(t, had)
						got[e.Object.GetName()] = e.Object
					case messages.Deleted:
						require.True(t, had)
						delete(got, e.Object.GetName())
					}
				}
			}
			require.Equal(t, want, got, "selector %+v", s)
		}
	})
}

func TestFrameHoldsAMebibyte(t *testing.T) {
	w := newWorld(t, 1)
	for n := range 30 {
		c := container(hexID(n), fmt.Sprint("c", n))
		c.Annotations = map[string]string{"big": strings.Repeat("x", 100_000)}
		if n == 3 {
			c.Annotations["big"] = strings.Repeat("x", 3<<20)
		}
		w.put(c)
	}
	request := messages.ListRequest{Kind: "Container"}
	total, pages, single := 0, 0, 0
	for {
		f := newFrame(0, true)
		page, err := w.b.listInto(context.Background(), request, f)
		require.NoError(t, err)
		require.Len(t, f.raw, len(page.Items))
		if len(page.Items) > 1 {
			require.LessOrEqual(t, f.bytes, messages.MaxFrameBytes)
		} else {
			single++
		}
		total, pages = total+len(page.Items), pages+1
		if request.Continue = page.Continue; request.Continue == "" {
			break
		}
	}
	require.Equal(t, 30, total)
	require.Equal(t, 1, single, "one object that is too large travels alone")
	require.GreaterOrEqual(t, pages, 5)
}

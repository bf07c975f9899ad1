package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// patience is how long the suite waits for what must happen. Nothing waits that long in a passing test.
const patience = 20 * time.Second

// bench is what a test works with.
type bench struct {
	Fixture
	sentinels int
}

// run creates and starts a container.
func (b *bench) run(t *testing.T, o Container) (id string) {
	t.Helper()
	id = b.World.Create(t, o)
	require.NoError(t, b.World.Start(t, id))
	return id
}

func (b *bench) inspect(t *testing.T, id string) dockerio.Container {
	t.Helper()
	c, err := b.Engine.InspectContainer(t.Context(), id)
	require.NoError(t, err)
	return c
}

func (b *bench) now(t *testing.T) dockerio.Time {
	t.Helper()
	info, err := b.Engine.Info(t.Context())
	require.NoError(t, err)
	require.False(t, info.Now.IsZero())
	return info.Now
}

// row finds a container in the list.
func (b *bench) row(t *testing.T, id string) (dockerio.ContainerRow, bool) {
	t.Helper()
	rows, err := b.Engine.ListContainers(t.Context())
	require.NoError(t, err)
	i := slices.IndexFunc(rows, func(r dockerio.ContainerRow) bool { return r.ID == id })
	if i < 0 {
		return dockerio.ContainerRow{}, false
	}
	return rows[i], true
}

func (b *bench) mustRow(t *testing.T, id string) dockerio.ContainerRow {
	t.Helper()
	row, found := b.row(t, id)
	require.True(t, found, "container %s is not in the list", id)
	return row
}

func (b *bench) image(t *testing.T, id string) (dockerio.ImageRow, bool) {
	t.Helper()
	rows, err := b.Engine.ListImages(t.Context())
	require.NoError(t, err)
	i := slices.IndexFunc(rows, func(r dockerio.ImageRow) bool { return r.ID == id })
	if i < 0 {
		return dockerio.ImageRow{}, false
	}
	return rows[i], true
}

func (b *bench) volume(t *testing.T, name string) (dockerio.Volume, bool) {
	t.Helper()
	rows, err := b.Engine.ListVolumes(t.Context())
	require.NoError(t, err)
	i := slices.IndexFunc(rows, func(v dockerio.Volume) bool { return v.Name == name })
	if i < 0 {
		return dockerio.Volume{}, false
	}
	return rows[i], true
}

// requireError wants an error that matches, and that says what was tried on which object.
func requireError(t *testing.T, err, want error, kind, name string) {
	t.Helper()
	require.ErrorIs(t, err, want)
	var e *messages.Error
	require.ErrorAs(t, err, &e)
	require.NotEmpty(t, e.Verb)
	require.Equal(t, kind, e.Kind)
	require.Equal(t, name, e.Name)
	require.ErrorContains(t, err, strings.ToLower(kind))
	require.ErrorContains(t, err, name)
}

// recorder reads a stream of events.
type recorder struct {
	b      *bench
	stream dockerio.Stream

	mu     sync.Mutex
	events []dockerio.Event
	end    error
	more   chan struct{} // closed and replaced at each change
}

// record subscribes from now on.
func (b *bench) record(t *testing.T) *recorder {
	t.Helper()
	return b.recordSince(t, b.now(t))
}

func (b *bench) recordSince(t *testing.T, since dockerio.Time) *recorder {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := b.Engine.Events(ctx, since)
	if err != nil {
		cancel()
	}
	require.NoError(t, err)
	r := &recorder{b: b, stream: stream, more: make(chan struct{})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			e, err := stream.Next()
			r.mu.Lock()
			if err == nil {
				r.events = append(r.events, e)
			}
			r.end = err
			close(r.more)
			r.more = make(chan struct{})
			r.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = stream.Close()
		<-ended
	})
	return r
}

// seen returns all events so far.
func (r *recorder) seen() []dockerio.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// wait waits for the n-th event that matches.
func (r *recorder) wait(t *testing.T, n int, matches func(dockerio.Event) bool, what string) dockerio.Event {
	t.Helper()
	timeout := time.After(patience)
	for {
		r.mu.Lock()
		events, end, more := slices.Clone(r.events), r.end, r.more
		r.mu.Unlock()
		found := 0
		for _, e := range events {
			if matches(e) {
				if found++; found == n {
					return e
				}
			}
		}
		require.NoError(t, end, "the stream ended before %s", what)
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("no event %s (number %d) within %v; seen: %s", what, n, patience, lines(events))
		}
	}
}

// waitFor waits for an action of an object.
func (r *recorder) waitFor(t *testing.T, kind, id, action string) dockerio.Event {
	t.Helper()
	return r.wait(t, 1, func(e dockerio.Event) bool { return e.Type == kind && e.ID == id && e.Action == action },
		kind+" "+action)
}

// settle returns when all events of what was done before have arrived: it does one thing more and waits for that event.
func (r *recorder) settle(t *testing.T) {
	t.Helper()
	r.b.sentinels++
	name := fmt.Sprintf("conformance-sentinel-%d", r.b.sentinels)
	r.b.World.CreateVolume(t, name, nil)
	r.waitFor(t, dockerio.TypeVolume, name, "create")
	r.b.World.RemoveVolume(t, name)
}

// noise are actions that change nothing in an object; whether and when they come is up to who causes them.
func noise(e dockerio.Event) bool {
	return strings.HasPrefix(e.Action, "exec_") || slices.Contains([]string{"attach", "resize", "top", "archive-path"}, e.Action)
}

// actions are what happened to an object so far, in order.
func (r *recorder) actions(kind, id string) []string {
	var out []string
	for _, e := range r.seen() {
		if e.Type == kind && e.ID == id && !noise(e) {
			out = append(out, e.Action)
		}
	}
	return out
}

// require settles and then wants exactly these actions of an object, in order.
func (r *recorder) require(t *testing.T, kind, id string, actions ...string) {
	t.Helper()
	r.settle(t)
	require.Equal(t, actions, r.actions(kind, id), "events: %s", lines(r.seen()))
}

func lines(events []dockerio.Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "\n%s %s %s %.12s %v", e.Time, e.Type, e.Action, e.ID, e.Attributes)
	}
	return b.String()
}

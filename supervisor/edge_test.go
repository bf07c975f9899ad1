package supervisor

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/rdd-desktop/rdd/messages"
)

// aDaemon is an edge over a world, under an instance whose directories are temporary.
type aDaemon struct {
	*world
	i    Instance
	edge *edge
	core *Core
}

func newInstance(t testing.TB) Instance {
	dir, err := os.MkdirTemp("", "rdd")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if tt, ok := t.(interface{ Setenv(string, string) }); ok {
		tt.Setenv("XDG_DATA_HOME", dir)
		tt.Setenv("HOME", dir)
	}
	i := must(NewInstance("test"))
	require.NoError(t, os.MkdirAll(i.Dir(), 0o700))
	return i
}

func serveEdge(t testing.TB, w *world, i Instance, boot int64) *aDaemon {
	d := &aDaemon{world: w, i: i, core: &w.b.core}
	e, err := startEdge(context.Background(), w.b, EdgeConfig{File: i.Edge(), Boot: boot})
	require.NoError(t, err)
	d.edge = e
	t.Cleanup(e.stop)
	return d
}

func newDaemon(t testing.TB) *aDaemon { return serveEdge(t, newWorld(t, 1), newInstance(t), 1) }

func (d *aDaemon) dial() *Client {
	c, err := Dial(within(d.t, 10*time.Second), d.i)
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = c.Close() })
	return c
}

func asJSON(v any) string { return string(must(json.Marshal(v))) }

func TestEveryOperationOverTheEdge(t *testing.T) {
	if !isolated(t) {
		return
	}
	d := newDaemon(t)
	web := d.put(container(hexID(1), "web"), hexID(1))
	var deleted messages.DeleteRequest
	*d.core = Core{
		Table: d.table,
		Set: func(_ context.Context, r messages.SetRequest) (*messages.SetReply, error) {
			if r.DryRun {
				return nil, messages.NewError(messages.CodeInvalid, "set", "App", "app", "spec.x: unknown property")
			}
			return &messages.SetReply{App: appObject(r.IfGeneration), Changed: true}, nil
		},
		Delete: func(_ context.Context, k messages.Kind, o messages.Object, owner string, r messages.DeleteRequest) (messages.Object, error) {
			require.Equal(t, "Container", k.Name)
			require.Equal(t, hexID(1), owner)
			deleted = r
			return o, nil
		},
		Tree: func() messages.TreeNode {
			return messages.TreeNode{Path: "rdd", Children: []messages.TreeNode{{Path: "rdd/vm", Restarts: 3}}}
		},
		Events: func(_ context.Context, r messages.EventsRequest) (messages.EventsReply, error) {
			return messages.EventsReply{Events: []messages.HouseEvent{{Seq: r.Since + 1, Type: messages.EventRepaired}}, Next: r.Since + 2}, nil
		},
		Version: func(context.Context) (*messages.VersionReply, error) {
			return &messages.VersionReply{Version: "v", WireVersions: WireVersions(), Operations: Operations(), Boot: 7}, nil
		},
		Debug: func(_ context.Context, r messages.DebugRequest) (*messages.DebugReply, error) {
			return nil, messages.NewError(messages.CodeForbidden, "debug", "", r.Actor, "no test hooks")
		},
		Shutdown: func(context.Context, messages.ShutdownRequest) (*messages.ShutdownReply, error) {
			return &messages.ShutdownReply{PID: 42}, nil
		},
	}
	c, ctx := d.dial(), within(t, 30*time.Second)
	o, err := c.Get(ctx, "container", "web")
	require.NoError(t, err)
	require.JSONEq(t, asJSON(web), asJSON(o))
	_, err = c.Get(ctx, "container", "x")
	require.ErrorIs(t, err, messages.ErrNotFound)
	require.EqualError(t, err, `get container "x": not found`)
	l, err := c.List(ctx, "containers", ListOptions{})
	require.NoError(t, err)
	require.JSONEq(t, asJSON(messages.Objects{web}), asJSON(l.Items))
	l, err = c.List(ctx, "volume", ListOptions{})
	require.NoError(t, err)
	require.NotNil(t, l.Items)
	require.Empty(t, l.Items)
	_, err = c.List(ctx, "volume", ListOptions{Selector: messages.Selector{Labels: "=="}})
	require.ErrorIs(t, err, messages.ErrBadRequest)
	s, err := c.Set(ctx, messages.SetRequest{Patch: json.RawMessage(`{"running":true}`), IfGeneration: 5})
	require.NoError(t, err)
	require.EqualValues(t, 5, s.App.Generation)
	_, err = c.Set(ctx, messages.SetRequest{Patch: json.RawMessage(`{}`), DryRun: true})
	require.ErrorIs(t, err, messages.ErrInvalid)
	require.ErrorIs(t, err, messages.ErrPermanent)
	_, err = c.Delete(ctx, messages.DeleteRequest{Kind: "container", Name: "nope"})
	require.ErrorIs(t, err, messages.ErrNotFound)
	_, err = c.Delete(ctx, messages.DeleteRequest{Kind: "container", Name: "web", UID: "other"})
	require.ErrorIs(t, err, messages.ErrConflict)
	o, err = c.Delete(ctx, messages.DeleteRequest{Kind: "container", Name: "web", UID: web.GetUID()})
	require.NoError(t, err)
	require.Equal(t, web.GetUID(), o.GetUID())
	require.Equal(t, "web", deleted.Name)
	tree, err := c.Tree(ctx)
	require.NoError(t, err)
	require.Equal(t, d.core.Tree(), *tree)
	events, err := c.Events(ctx, messages.EventsRequest{Since: 3, Wait: true})
	require.NoError(t, err)
	require.EqualValues(t, 4, events.Events[0].Seq)
	v, err := c.Version(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 7, v.Boot)
	_, err = c.Debug(ctx, messages.DebugRequest{Actor: "rdd/vm", Action: "panic"})
	require.ErrorIs(t, err, messages.ErrForbidden)
	down, err := c.Shutdown(ctx, messages.ShutdownRequest{})
	require.NoError(t, err)
	require.Equal(t, 42, down.PID)

	watch, err := c.Watch(ctx, "container", WatchOptions{})
	require.NoError(t, err)
	for _, want := range []messages.WatchEventType{messages.Added, messages.Bookmark} {
		e, err := watch.Next(ctx)
		require.NoError(t, err)
		require.Equal(t, want, e.Type)
	}
	go d.remove(web, messages.ReasonMirrorReset)
	e, err := watch.Next(ctx)
	require.NoError(t, err)
	require.Equal(t, messages.Deleted, e.Type)
	require.Equal(t, messages.ReasonMirrorReset, e.Reason)
	watch, err = c.Watch(ctx, "container", WatchOptions{ResourceVersion: "17"})
	require.NoError(t, err)
	_, err = watch.Next(ctx)
	require.ErrorIs(t, err, messages.ErrGone)
}

func TestManyAndLargeObjectsOverTheEdge(t *testing.T) {
	if !isolated(t) {
		return
	}
	d := newDaemon(t)
	for n := range 2000 {
		c := container(hexID(n), fmt.Sprint("c", n))
		if n == 1234 {
			c.Annotations = map[string]string{"big": strings.Repeat("x", 5<<20)}
		}
		d.put(c)
	}
	c, ctx := d.dial(), within(t, time.Minute)
	l, err := c.List(ctx, "container", ListOptions{})
	require.NoError(t, err)
	require.Len(t, l.Items, 2000)
	for n, o := range l.Items {
		require.Equal(t, hexID(n), o.GetName())
	}
	require.Len(t, l.Items[1234].GetAnnotations()["big"], 5<<20)
	watch, err := c.Watch(ctx, "container", WatchOptions{ResourceVersion: formatVersion(1 << 40)})
	require.NoError(t, err)
	for range 2000 {
		_, err := watch.Next(ctx)
		require.NoError(t, err)
	}
}

func TestPanicsAndFloodsHurtOnlyThemselves(t *testing.T) {
	if !isolated(t) {
		return
	}
	d := newDaemon(t)
	release := make(chan struct{})
	var running, most atomic.Int64
	d.core.Tree = func() messages.TreeNode { panic("a bug") }
	d.core.Version = func(ctx context.Context) (*messages.VersionReply, error) {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return &messages.VersionReply{}, nil
	}
	c, ctx := d.dial(), within(t, 30*time.Second)
	_, err := c.Tree(ctx)
	require.ErrorIs(t, err, &messages.Error{Code: messages.CodeInternal})
	require.Contains(t, err.Error(), "a bug")
	var wg sync.WaitGroup
	var refused, served, others atomic.Int64
	for range 3000 {
		wg.Go(func() {
			switch _, err := c.Version(ctx); {
			case err == nil:
				served.Add(1)
			case errors.Is(err, messages.ErrUnavailable):
				refused.Add(1)
			default:
				others.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return refused.Load() == 3000-maxCallsOfOne-maxQueue }, 20*time.Second, 10*time.Millisecond)
	close(release)
	wg.Wait()
	require.EqualValues(t, maxCallsOfOne, most.Load())
	require.EqualValues(t, maxCallsOfOne+maxQueue, served.Load())
	require.Zero(t, others.Load())
}

func TestEdgeFile(t *testing.T) {
	if !isolated(t) {
		return
	}
	d := newDaemon(t)
	info, err := os.Stat(d.i.Edge())
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	}
	f, err := readEdgeFile(d.i.Edge())
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), f.PID)
	require.Equal(t, 1, strings.Count(f.Client.Key, "BEGIN"))
	require.Equal(t, 1, strings.Count(f.Client.CA, "BEGIN"))
	// Whoever reads while it is replaced sees a whole one.
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if got, err := readEdgeFile(d.i.Edge()); err != nil || got.ID != f.ID {
					t.Errorf("torn: %v", err)
					return
				}
			}
		}
	})
	for range 50 {
		require.NoError(t, f.write(d.i.Edge()))
	}
	close(stop)
	wg.Wait()
	entries, err := os.ReadDir(d.i.Dir())
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file stays")

	other := *f
	other.ID = "of another serve"
	require.NoError(t, other.write(d.i.Edge()))
	d.edge.stop()
	require.FileExists(t, d.i.Edge(), "it is another's by now")
	require.NoError(t, f.write(d.i.Edge()))
	removeEdgeFile(d.i.Edge(), f.ID)
	require.NoFileExists(t, d.i.Edge())
}

func TestAbsentDaemonIsToldInMilliseconds(t *testing.T) {
	i := newInstance(t)
	refused := func(why string) {
		t.Helper()
		start := time.Now()
		_, err := Dial(context.Background(), i)
		require.ErrorIs(t, err, messages.ErrDaemonNotRunning, why)
		require.Less(t, time.Since(start), 500*time.Millisecond, why)
	}
	refused("no file")
	require.NoFileExists(t, i.Edge())
	_, client, id, err := newAuthority(time.Now())
	require.NoError(t, err)
	f := &edgeFile{ID: id, Address: "127.0.0.1:1", PID: os.Getpid(), WireVersions: []int{1}, Client: client}
	f.ProcessStart = must(processStart(os.Getpid()))
	require.NoError(t, f.write(i.Edge()))
	refused("nobody listens")
	f.ProcessStart = "1"
	require.NoError(t, f.write(i.Edge()))
	refused("the pid is another's")
	f.PID, f.ProcessStart = 1<<30, ""
	require.NoError(t, f.write(i.Edge()))
	refused("the pid is nobody's")
	require.NoError(t, os.WriteFile(i.Edge(), []byte("{"), 0o600))
	refused("garbage")
	f.Address = "192.0.2.1:1"
	require.NoError(t, f.write(i.Edge()))
	refused("not this host")
	f.Address, f.WireVersions = "127.0.0.1:1", []int{2, 3}
	require.NoError(t, f.write(i.Edge()))
	_, err = Dial(context.Background(), i)
	require.ErrorIs(t, err, messages.ErrUnsupported)
	require.Contains(t, err.Error(), "2,3")
}

func TestClientFollowsTheDaemonThroughARestart(t *testing.T) {
	if !isolated(t) {
		return
	}
	i := newInstance(t)
	second := serveEdge(t, newWorld(t, 2), i, 2)
	f := second.edge.file
	first := serveEdge(t, newWorld(t, 1), i, 1)
	first.put(container(hexID(1), "web"))
	c, ctx := first.dial(), within(t, 40*time.Second)
	_, err := c.Get(ctx, "container", "web")
	require.NoError(t, err)
	watch, err := c.Watch(ctx, "container", WatchOptions{})
	require.NoError(t, err)
	for range 2 {
		_, err = watch.Next(ctx)
		require.NoError(t, err)
	}
	lost := make(chan error, 1)
	go func() {
		_, err := watch.Next(ctx)
		lost <- err
	}()
	waited := make(chan error, 1)
	go func() {
		_, err := c.Wait(ctx, "container", WaitOptions{For: must(ParseFor("condition=Running")), Name: "web", Timeout: -1})
		waited <- err
	}()
	time.Sleep(100 * time.Millisecond)
	start := time.Now()
	first.edge.stop()
	require.ErrorIs(t, <-lost, messages.ErrDaemonNotRunning)
	_, err = c.Get(ctx, "container", "web")
	require.ErrorIs(t, err, messages.ErrDaemonNotRunning)
	require.Less(t, time.Since(start), 3*time.Second)

	require.NoError(t, f.write(i.Edge()))
	second.put(with(container(hexID(1), "web"), condition("Running", "True", "EngineState", 0)))
	_, err = c.Get(ctx, "container", "web")
	require.NoError(t, err)
	require.NoError(t, <-waited)
	_, err = watch.Next(ctx)
	require.ErrorIs(t, err, messages.ErrGone)
}

// The envelope never changes: a client of the first release talks to every later daemon.
func TestWireIsFrozen(t *testing.T) {
	const rest = "0801120269641a036765742204626f6479"
	for _, m := range []proto.Message{
		&messages.Request{Version: 1, Id: "id", Kind: "get", Body: []byte("body")},
		&messages.Reply{Version: 1, Id: "id", Kind: "get", Body: []byte("body")},
		&messages.Frame{Version: 1, Id: "id", Kind: "get", Body: []byte("body")},
	} {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		require.NoError(t, err)
		require.Equal(t, rest, hex.EncodeToString(data))
	}
	require.Equal(t, []string{"rdd.wire.Request", "rdd.wire.Reply", "rdd.wire.Frame"}, []string{requestType, replyType, frameType})
	for _, name := range []string{"debug", "delete", "events", "get", "list", "next", "set", "shutdown", "tree", "version"} {
		require.Contains(t, Operations(), name)
	}
}

package kit

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
)

// lifeOf logs the life cycle of an actor named by its path.
func lifeOf(tr *trace, extra script) func() Actor {
	return always(func(c *Context, msg any) {
		switch msg.(type) {
		case *actor.Started, *actor.Stopping, *actor.Stopped:
			tr.add(strings.TrimPrefix(fmt.Sprintf("%T", msg), "*actor.") + " " + c.Path())
		}
		if extra != nil {
			extra(c, msg)
		}
	})
}

func TestStartInOrderAndStopInReverse(t *testing.T) {
	tr := &trace{}
	failures := 2
	flaky := func(c *Context, msg any) {
		if _, ok := msg.(*actor.Started); ok && failures > 0 {
			failures--
			panic("not yet")
		}
	}
	slow := func(_ *Context, msg any) {
		if _, ok := msg.(*actor.Stopping); ok {
			time.Sleep(3 * time.Second)
		}
	}
	wait := Backoff{Min: time.Second, Max: time.Second}
	synctest.Test(t, func(t *testing.T) {
		h := NewHouse(HouseConfig{Jitter: func() float64 { return 0.5 }})
		begin := time.Now()
		require.NoError(t, h.Root(t.Context(), ChildSpec{Name: "rdd", New: lifeOf(tr, nil), Children: []ChildSpec{
			{Name: "journal", New: lifeOf(tr, slow)},
			{Name: "store", New: lifeOf(tr, flaky), Backoff: wait},
			{Name: "template"},
			{Name: "engine", New: lifeOf(tr, nil), Children: []ChildSpec{{Name: "session", New: lifeOf(tr, nil)}, {Name: "object"}}},
		}}))
		require.Equal(t, time.Second, time.Since(begin), "two restarts of store, half a second each")
		synctest.Wait()
		got := tr.take()
		require.Equal(t, []string{"Started rdd", "Started rdd/journal", "Started rdd/store", "Started rdd/store",
			"Started rdd/store"}, got[:5])
		require.ElementsMatch(t, []string{"Started rdd/engine", "Started rdd/engine/session"}, got[5:])

		require.NoError(t, h.Stop(t.Context()))
		require.NoError(t, h.Stop(t.Context()), "twice is fine")
		require.Equal(t, []string{"Stopping rdd/engine", "Stopping rdd/engine/session", "Stopped rdd/engine/session",
			"Stopped rdd/engine", "Stopping rdd/store", "Stopped rdd/store", "Stopping rdd/journal", "Stopped rdd/journal",
			"Stopping rdd", "Stopped rdd"}, tr.take())
		h.Tell("rdd/store", ping{})
	})
}

func TestStopGoesOnWithoutAChildThatHangs(t *testing.T) {
	tr := &trace{}
	hang := func(_ *Context, msg any) {
		if _, ok := msg.(*actor.Stopping); ok {
			time.Sleep(time.Minute)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		h := NewHouse(HouseConfig{})
		require.NoError(t, h.Root(t.Context(), ChildSpec{Name: "rdd", Shutdown: time.Second, Children: []ChildSpec{
			{Name: "journal", New: lifeOf(tr, nil)}, {Name: "vm", New: lifeOf(tr, hang), Shutdown: 7 * time.Second},
		}}))
		tr.take()
		begin := time.Now()
		err := h.Stop(t.Context())
		require.ErrorContains(t, err, "stop rdd/vm: not done after 7s")
		require.Equal(t, 8*time.Second, time.Since(begin))
		require.Equal(t, []string{"Stopping rdd/vm", "Stopping rdd/journal", "Stopped rdd/journal"}, tr.take())
		time.Sleep(time.Hour)
	})
}

func TestStopDuringABackoffRevivesNobody(t *testing.T) {
	tr := &trace{}
	spec := func(name string) ChildSpec {
		return ChildSpec{Name: name, New: lifeOf(tr, usual), Backoff: Backoff{Min: time.Second, Max: time.Second}}
	}
	slow := ChildSpec{Name: "slow", New: lifeOf(tr, func(_ *Context, msg any) {
		if _, ok := msg.(*actor.Stopping); ok {
			time.Sleep(4 * time.Second)
		}
	})}
	synctest.Test(t, func(t *testing.T) {
		h := NewHouse(HouseConfig{Jitter: func() float64 { return 0.9 }})
		require.NoError(t, h.Root(t.Context(), ChildSpec{Name: "rdd", Children: []ChildSpec{spec("a"), spec("b"), slow}}))
		tr.take()
		h.Tell("rdd/a", boom{})
		h.System.Root.Stop(h.pid("rdd/b"))
		synctest.Wait()
		require.NoError(t, h.Stop(t.Context()))
		require.Equal(t, []string{"Stopping rdd/b", "Stopped rdd/b", "Stopping rdd/slow", "Stopped rdd/slow",
			"Stopping rdd/a", "Stopped rdd/a"}, tr.take())
	})
}

func TestStartThatHangsNamesTheActor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHouse(HouseConfig{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		never := always(func(_ *Context, msg any) {
			if _, ok := msg.(*actor.Started); ok {
				time.Sleep(time.Hour)
			}
		})
		err := h.Root(ctx, ChildSpec{Name: "rdd", Children: []ChildSpec{{Name: "ok", New: always(usual)}, {Name: "store", New: never}}})
		require.ErrorContains(t, err, "waiting for rdd/store")
		require.Error(t, h.Root(ctx, ChildSpec{Name: "rdd"}))
		require.Error(t, h.Stop(ctx))
		time.Sleep(2 * time.Hour)
	})
	synctest.Test(t, func(t *testing.T) {
		h := NewHouse(HouseConfig{})
		bad := func() Actor { panic("no file") }
		err := h.Root(t.Context(), ChildSpec{Name: "rdd", Children: []ChildSpec{{Name: "journal", New: bad, GiveUp: Report}}})
		require.ErrorContains(t, err, `start house "rdd": actor rdd/journal given up: panic: no file`)
		require.NoError(t, h.Stop(t.Context()))
	})
}

func TestAHouseWithoutARootStops(t *testing.T) {
	require.NoError(t, NewHouse(HouseConfig{}).Stop(t.Context()))
}

// TestAParentThatFailsWhileItIsTold: a panic in ChildFailed is the parent's failure; its children are stopped, not orphaned.
func TestAParentThatFailsWhileItIsTold(t *testing.T) {
	tr := &trace{}
	parent := ChildSpec{Name: "kind", Backoff: Backoff{Min: time.Second, Max: time.Second},
		Children: []ChildSpec{{Name: "a", New: lifeOf(tr, usual)}, {Name: "b", New: lifeOf(tr, usual)}},
		New: always(func(c *Context, msg any) {
			if _, ok := msg.(ChildFailed); ok {
				panic("cannot bear it")
			}
			usual(c, msg)
		})}
	bubble(t, HouseConfig{}, []ChildSpec{parent}, func(t *testing.T, h *House) {
		before := ask(t, h, "rdd/kind", ping{})
		h.Tell("rdd/kind/a", boom{})
		synctest.Wait()
		h.Tell("rdd/kind/b", boom{}) // its failure comes to a parent that has failed itself
		synctest.Wait()
		require.NotEqual(t, before, ask(t, h, "rdd/kind", ping{}))
		for _, path := range []string{"rdd/kind/a", "rdd/kind/b"} {
			ask(t, h, path, ping{})
		}
		require.Equal(t, []string{"ActorFailed", "ActorRestarted"}, types(h, "rdd/kind"))
	})
}

func TestNothingReachesAnActorThatEnds(t *testing.T) {
	tr := &trace{}
	slowChild := ChildSpec{Name: "c", New: always(func(_ *Context, msg any) {
		if _, ok := msg.(*actor.Stopping); ok {
			time.Sleep(time.Second)
		}
	})}
	parent := ChildSpec{Name: "p", Restart: Transient, Children: []ChildSpec{slowChild}, New: lifeOf(tr, func(c *Context, msg any) {
		if _, ok := msg.(ChildTerminated); ok {
			tr.add("told")
		}
		usual(c, msg)
	})}
	bubble(t, HouseConfig{}, []ChildSpec{parent}, func(t *testing.T, h *House) {
		tr.take()
		h.Tell("rdd/p", finish{})
		synctest.Wait()
		_, err := h.Ask(t.Context(), "rdd/p", ping{})
		require.ErrorIs(t, err, messages.ErrUnavailable)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"Stopping rdd/p", "Stopped rdd/p"}, tr.take())
		require.Empty(t, h.Nodes.Tree().Children)
	})
}

func TestTreeGolden(t *testing.T) {
	tr := &trace{}
	kind := supervisorOf(tr, ChildSpec{GiveUp: Quarantine, Max: 1})
	kind.Children = append(kind.Children, ChildSpec{Name: "zz", New: always(usual)}, ChildSpec{Name: "aa", New: always(func(c *Context, msg any) {
		if _, ok := msg.(*actor.Started); ok {
			c.Label("Waiting", "for a session")
		}
	})})
	bubble(t, HouseConfig{}, []ChildSpec{{Name: "store", New: always(usual)}, kind}, func(t *testing.T, h *House) {
		for _, name := range []string{"m", "b", "vol/with/slash"} {
			ask(t, h, "rdd/kind", start{name})
		}
		ask(t, h, "rdd/kind/vol/with/slash", ping{})
		for _, path := range []string{"rdd/kind/m", "rdd/kind/m", "rdd/kind/b"} {
			h.Tell(path, boom{})
			synctest.Wait()
		}
		got := printTree(h.Nodes.Tree(), "")
		const file = "testdata/tree.txt"
		if *update {
			require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(want), got)
	})
}

func printTree(n messages.TreeNode, indent string) string {
	s := fmt.Sprintf("%s%s  %s %q restarts=%d last=%q\n", indent, n.Path, n.State, n.Detail, n.Restarts, n.Last)
	for _, c := range n.Children {
		s += printTree(c, indent+"  ")
	}
	return s
}

func TestRecorder(t *testing.T) {
	var out bytes.Buffer
	r := NewRecorder(slog.New(slog.NewTextHandler(&out, nil)), 3)
	require.Empty(t, r.Since(0).Events)
	changed := r.Changed()
	for i := range 5 {
		r.Add(messages.HouseEvent{Type: messages.EventPhase, Message: fmt.Sprint(i)})
	}
	<-changed
	got := r.Since(0)
	require.EqualValues(t, 2, got.Lost)
	require.EqualValues(t, 5, got.Next)
	require.Equal(t, []string{"2", "3", "4"}, texts(got))
	got = r.Since(4)
	require.Zero(t, got.Lost)
	require.Equal(t, []string{"4"}, texts(got))
	require.Empty(t, r.Since(5).Events)
	require.Empty(t, r.Since(99).Events)
	require.Equal(t, 5, strings.Count(out.String(), "level=INFO"))
	out.Reset()
	r.Add(messages.HouseEvent{Type: messages.EventActorFailed, Stack: "here"})
	r.Add(messages.HouseEvent{Type: messages.EventSessionLost})
	require.Contains(t, out.String(), "level=ERROR msg=ActorFailed")
	require.Contains(t, out.String(), "stack=here")
	require.Contains(t, out.String(), "level=WARN msg=SessionLost")
}

func texts(r messages.EventsReply) (out []string) {
	for _, e := range r.Events {
		out = append(out, e.Message)
	}
	return out
}

// TestTheLibraryIsQuiet: a panic is logged once, by us; what the library says of it and of dead letters is debug.
func TestTheLibraryIsQuiet(t *testing.T) {
	var out bytes.Buffer
	cfg := HouseConfig{Log: slog.New(slog.NewTextHandler(&out, nil))}
	bubble(t, cfg, []ChildSpec{{Name: "a", New: always(usual)}}, func(t *testing.T, h *House) {
		h.Tell("rdd/a", boom{})
		h.Tell("rdd/nobody", boom{})
		ask(t, h, "rdd/a", ping{})
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		require.Len(t, lines, 2, out.String())
		require.Contains(t, lines[0], "level=ERROR msg=ActorFailed actor=rdd/a")
		require.Contains(t, lines[1], "level=WARN msg=ActorRestarted actor=rdd/a")
	})
}

func TestStartTest(t *testing.T) {
	h, err := StartTest(TestConfig{
		Probes: []string{"rdd/app", "rdd/namespaces/moby"},
		Actors: map[string]ChildSpec{"rdd/engine": {New: always(func(c *Context, msg any) {
			if _, ok := msg.(*actor.Started); ok {
				c.Tell("rdd/app", note{"hello"})
				c.Tell("rdd/namespaces/moby", note{"hi"})
			}
			usual(c, msg)
		})}},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Stop(context.Background())) }()
	got, err := Expect[note](h.Probes["rdd/app"], 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, "hello", got.text)
	_, err = Await(h.Probes["rdd/namespaces/moby"], 5*time.Second, func(n note) bool { return n.text == "hi" })
	require.NoError(t, err)
	_, err = Expect[ping](h.Probes["rdd/app"], time.Millisecond)
	require.ErrorContains(t, err, "kit.ping")
	require.Empty(t, h.Probes["rdd/app"].Drain())
	_, err = StartTest(TestConfig{Probes: []string{"rdd/app", "other/app"}})
	require.Error(t, err)
}

// TestMemoryPerIdleChild keeps the cost of a child in sight: protoactor takes about 1 KiB of it.
func TestMemoryPerIdleChild(t *testing.T) {
	const n = 20_000
	spec := &ChildSpec{Name: "child"}
	parent := ChildSpec{Name: "kind", Shutdown: time.Minute, New: always(func(c *Context, msg any) {
		if _, ok := msg.(start); ok {
			for i := range n {
				c.StartChild(spec, fmt.Sprintf("%064d", i), always(usual))
			}
			c.Reply(true)
		}
	})}
	h := NewHouse(HouseConfig{})
	require.NoError(t, h.Root(t.Context(), ChildSpec{Name: "rdd", Children: []ChildSpec{parent}}))
	before := heap()
	_, err := h.Ask(t.Context(), "rdd/kind", start{})
	require.NoError(t, err)
	for range 200 {
		if runtime.NumGoroutine() < 10 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	perChild := (heap() - before) / n
	t.Logf("%d bytes per idle child", perChild)
	require.Less(t, perChild, int64(2048))
	begin := time.Now()
	require.NoError(t, h.Stop(context.Background()))
	t.Logf("%d children stopped in %v", n, time.Since(begin))
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

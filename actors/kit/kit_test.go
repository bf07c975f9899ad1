package kit

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdd-desktop/rdd/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is an actor from a function; each incarnation may be told apart by what make captured.
type script func(c *Context, msg any)

func (s script) Receive(c *Context, msg any) { s(c, msg) }

func always(f script) func() Actor { return func() Actor { return f } }

// Messages of these tests.
type (
	boom     struct{} // panic
	lost     struct{} // fail uncounted
	ping     struct{} // answered with the incarnation
	start    struct{ name string }
	stopIt   struct{ name string }
	finish   struct{}
	note     struct{ text string }
	runPanic struct{}
)

// usual is an actor that does what these messages say.
func usual(c *Context, msg any) {
	switch msg := msg.(type) {
	case boom:
		panic("boom")
	case lost:
		c.Fail(&Failure{Reason: "stream ended", Event: messages.EventSessionLost})
	case ping:
		c.Reply(c.Incarnation())
	case finish:
		c.FinishSelf()
	case start:
		c.Reply(c.StartChild(c.Template("child"), msg.name, always(usual)))
	case stopIt:
		c.StopChild(msg.name)
	case runPanic:
		c.Run("work", 0, func(context.Context) any { panic("in the goroutine") })
	}
}

// trace collects what happened, in order.
type trace struct {
	mu  sync.Mutex
	all []string
}

func (t *trace) add(s string) { t.mu.Lock(); defer t.mu.Unlock(); t.all = append(t.all, s) }

func (t *trace) take() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	got := t.all
	t.all = nil
	return got
}

// bubble runs f in a synctest bubble with a house of those actors, below rdd.
func bubble(t *testing.T, cfg HouseConfig, children []ChildSpec, f func(t *testing.T, h *House)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if cfg.Jitter == nil {
			cfg.Jitter = func() float64 { return 0.5 }
		}
		h := NewHouse(cfg)
		require.NoError(t, h.Root(t.Context(), ChildSpec{Name: "rdd", Children: children}))
		f(t, h)
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		_ = h.Stop(ctx)
		synctest.Wait()
	})
}

func ask(t *testing.T, h *House, path string, msg any) any {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	answer, err := h.Ask(ctx, path, msg)
	require.NoError(t, err)
	return answer
}

func types(h *House, actorPath string) (out []string) {
	for _, e := range h.Events.Since(0).Events {
		if e.Actor == actorPath {
			out = append(out, e.Type)
		}
	}
	return out
}

func count(list []string, s string) (n int) {
	for _, x := range list {
		if x == s {
			n++
		}
	}
	return n
}

// supervisorOf is a kind-supervisor-like actor that logs what it is told about children of that spec.
func supervisorOf(tr *trace, child ChildSpec) ChildSpec {
	child.Name = "child"
	return ChildSpec{Name: "kind", Children: []ChildSpec{child}, New: always(func(c *Context, msg any) {
		switch msg := msg.(type) {
		case ChildFailed:
			tr.add("failed " + msg.Name + " " + msg.Delay.String())
		case ChildGaveUp:
			tr.add("gaveUp " + msg.Name)
		case ChildTerminated:
			tr.add("terminated " + msg.Name + map[bool]string{true: " expected", false: " unexpected"}[msg.Expected])
		default:
			usual(c, msg)
		}
	})}
}

func TestGiveUpReportsOnceAndStopsTheChild(t *testing.T) {
	var reported []error
	cfg := HouseConfig{OnFailed: func(err error) { reported = append(reported, err) }}
	bubble(t, cfg, []ChildSpec{{Name: "journal", New: always(usual), Max: 3, Period: 10 * time.Second, GiveUp: Report},
		{Name: "other", New: always(usual)}}, func(t *testing.T, h *House) {
		for range 3 {
			h.Tell("rdd/journal", boom{})
			synctest.Wait()
		}
		require.Empty(t, reported)
		require.NoError(t, h.Err())
		h.Tell("rdd/journal", boom{})
		synctest.Wait()
		require.Len(t, reported, 1)
		require.ErrorContains(t, reported[0], "rdd/journal")
		require.ErrorContains(t, h.Err(), "boom")
		require.Equal(t, []string{"ActorFailed", "ActorRestarted", "ActorFailed", "ActorRestarted", "ActorFailed",
			"ActorRestarted", "ActorFailed", "GaveUp"}, types(h, "rdd/journal"))
		_, err := h.Ask(t.Context(), "rdd/journal", ping{})
		require.ErrorIs(t, err, messages.ErrUnavailable)
		ask(t, h, "rdd/other", ping{})
	})
}

func TestQuarantineKeepsTheNodeUntilTheNameIsStartedAgain(t *testing.T) {
	tr := &trace{}
	kind := supervisorOf(tr, ChildSpec{GiveUp: Quarantine, Max: 1})
	bubble(t, HouseConfig{}, []ChildSpec{kind}, func(t *testing.T, h *House) {
		require.Equal(t, true, ask(t, h, "rdd/kind", start{"a"}))
		require.Equal(t, false, ask(t, h, "rdd/kind", start{"a"}))
		for range 2 {
			h.Tell("rdd/kind/a", boom{})
			synctest.Wait()
		}
		require.Equal(t, []string{"failed a 0s", "failed a 0s", "gaveUp a", "terminated a expected"}, tr.take())
		n := h.Nodes.Tree().Children[0].Children[0]
		require.Equal(t, StateQuarantined, n.State)
		require.Equal(t, "panic: boom", n.Detail)
		require.Contains(t, types(h, "rdd/kind/a"), messages.EventQuarantined)
		require.NoError(t, h.Err())
		require.Equal(t, true, ask(t, h, "rdd/kind", start{"a"}))
		ask(t, h, "rdd/kind/a", ping{})
		require.Equal(t, StateRunning, h.Nodes.Tree().Children[0].Children[0].State)
	})
}

func TestEscalationRestartsParentAndChildren(t *testing.T) {
	tr := &trace{}
	kind := supervisorOf(tr, ChildSpec{Max: 1, GiveUp: Escalate})
	bubble(t, HouseConfig{}, []ChildSpec{kind}, func(t *testing.T, h *House) {
		ask(t, h, "rdd/kind", start{"a"})
		ask(t, h, "rdd/kind", start{"b"})
		before := ask(t, h, "rdd/kind", ping{})
		h.Tell("rdd/kind/a", boom{})
		h.Tell("rdd/kind/a", boom{})
		synctest.Wait()
		require.NotEqual(t, before, ask(t, h, "rdd/kind", ping{}))
		require.Contains(t, types(h, "rdd/kind/a"), messages.EventEscalated)
		require.Equal(t, []string{"ActorRestarted"}, types(h, "rdd/kind"))
		require.Empty(t, h.Nodes.Tree().Children[0].Children, "its children went with it")
		require.Equal(t, true, ask(t, h, "rdd/kind", start{"b"}))
	})
}

func TestEscalationUpToTheRootIsReportedAndNeverCrashes(t *testing.T) {
	bubble(t, HouseConfig{}, []ChildSpec{{Name: "a", New: always(usual), Max: -1}}, func(t *testing.T, h *House) {
		for range 6 {
			h.Tell("rdd/a", boom{})
			synctest.Wait()
		}
		require.ErrorContains(t, h.Err(), "actor rdd given up")
		require.Contains(t, types(h, "rdd"), messages.EventGaveUp)
	})
}

func TestBackoffKeepsTheMailboxAndDropsTheMessageThatFailed(t *testing.T) {
	var got []string
	spec := ChildSpec{Name: "a", Backoff: Backoff{Min: time.Second, Max: 4 * time.Second}, Max: 9,
		New: always(func(c *Context, msg any) {
			if n, ok := msg.(note); ok {
				got = append(got, n.text)
				if n.text == "bad" {
					panic(n.text)
				}
			}
		})}
	bubble(t, HouseConfig{}, []ChildSpec{spec}, func(t *testing.T, h *House) {
		begin := time.Now()
		for _, s := range []string{"1", "bad", "2", "3"} {
			h.Tell("rdd/a", note{s})
		}
		synctest.Wait()
		require.Equal(t, []string{"1", "bad"}, got)
		time.Sleep(499 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, []string{"1", "bad"}, got)
		require.Equal(t, StateFailed, h.Nodes.Tree().Children[0].State)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		require.Equal(t, []string{"1", "bad", "2", "3"}, got)
		require.Equal(t, 500*time.Millisecond, time.Since(begin))
		// 2nd to 4th attempt: half of 2 s, of 4 s, of the cap.
		for _, want := range []time.Duration{time.Second, 2 * time.Second, 2 * time.Second} {
			h.Tell("rdd/a", note{"bad"})
			synctest.Wait()
			time.Sleep(want)
			synctest.Wait()
			e := h.Events.Since(0).Events
			require.Equal(t, messages.EventActorRestarted, e[len(e)-1].Type)
			require.Equal(t, want, e[len(e)-1].Delay.Duration)
		}
		require.Equal(t, 4, h.Nodes.Tree().Children[0].Restarts)
	})
}

func TestUncountedFailuresNeverGiveUp(t *testing.T) {
	spec := ChildSpec{Name: "session", New: always(usual), Max: 3, Backoff: Backoff{Min: 50 * time.Millisecond, Max: time.Second}}
	bubble(t, HouseConfig{}, []ChildSpec{spec}, func(t *testing.T, h *House) {
		for range 200 {
			h.Tell("rdd/session", lost{})
		}
		time.Sleep(200 * time.Second)
		synctest.Wait()
		all := types(h, "rdd/session")
		require.Equal(t, 200, count(all, messages.EventSessionLost))
		require.Equal(t, 200, count(all, messages.EventActorRestarted))
		require.Len(t, all, 400)
		require.Empty(t, h.Events.Since(0).Events[0].Stack)
		ask(t, h, "rdd/session", ping{})
	})
}

func TestAStaleTimerNeverRestartsASuccessor(t *testing.T) {
	tr := &trace{}
	kind := supervisorOf(tr, ChildSpec{Backoff: Backoff{Min: 10 * time.Second, Max: 10 * time.Second}})
	bubble(t, HouseConfig{}, []ChildSpec{kind}, func(t *testing.T, h *House) {
		ask(t, h, "rdd/kind", start{"a"})
		h.Tell("rdd/kind/a", boom{})
		synctest.Wait()
		h.Tell("rdd/kind", stopIt{"a"})
		synctest.Wait()
		require.Equal(t, []string{"failed a 5s", "terminated a expected"}, tr.take())
		require.Equal(t, true, ask(t, h, "rdd/kind", start{"a"}))
		before := ask(t, h, "rdd/kind/a", ping{})
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, before, ask(t, h, "rdd/kind/a", ping{}))
		require.NotContains(t, types(h, "rdd/kind/a"), messages.EventActorRestarted)
	})
}

func TestANameIsFreeOnlyAfterTerminated(t *testing.T) {
	tr := &trace{}
	var again []bool
	parent := ChildSpec{Name: "kind", New: always(func(c *Context, msg any) {
		spec := &ChildSpec{Name: "child", Restart: Transient}
		switch msg := msg.(type) {
		case *actor.Started:
			c.StartChild(spec, "a", always(usual))
		case stopIt:
			c.StopChild("a")
			c.StopChild("a")
			c.StopChild("nobody")
			again = append(again, c.StartChild(spec, "a", always(usual)), c.HasChild("a"))
		case ChildTerminated:
			tr.add(msg.Name)
			again = append(again, c.StartChild(spec, msg.Name, always(usual)))
		}
	})}
	bubble(t, HouseConfig{}, []ChildSpec{parent}, func(t *testing.T, h *House) {
		for range 100 {
			h.Tell("rdd/kind", stopIt{})
			synctest.Wait()
			require.Equal(t, []bool{false, true, true}, again)
			again = nil
			ask(t, h, "rdd/kind/a", ping{})
		}
		require.Len(t, tr.take(), 100)
	})
}

func TestRestartTypes(t *testing.T) {
	for _, c := range []struct {
		name string
		kind RestartType
		do   func(h *House)
		want []string
	}{
		{"permanent stopped by a stranger", Permanent, stopA, []string{"failed a 0s"}},
		{"permanent finished", Permanent, finishA, []string{"failed a 0s"}},
		{"transient stopped by a stranger", Transient, stopA, []string{"failed a 0s"}},
		{"transient finished", Transient, finishA, []string{"terminated a expected"}},
		{"temporary failed", Temporary, func(h *House) { h.Tell("rdd/kind/a", boom{}) },
			[]string{"failed a 0s", "terminated a unexpected"}},
		{"temporary stopped by a stranger", Temporary, stopA, []string{"terminated a unexpected"}},
		{"temporary finished", Temporary, finishA, []string{"terminated a expected"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := &trace{}
			bubble(t, HouseConfig{}, []ChildSpec{supervisorOf(tr, ChildSpec{Restart: c.kind})}, func(t *testing.T, h *House) {
				ask(t, h, "rdd/kind", start{"a"})
				c.do(h)
				synctest.Wait()
				require.Equal(t, c.want, tr.take())
				if strings.HasPrefix(c.want[len(c.want)-1], "failed") {
					ask(t, h, "rdd/kind/a", ping{})
					require.Equal(t, false, ask(t, h, "rdd/kind", start{"a"}))
					require.Equal(t, []string{"ActorFailed", "ActorRestarted"}, types(h, "rdd/kind/a"))
				} else {
					require.Equal(t, true, ask(t, h, "rdd/kind", start{"a"}))
				}
			})
		})
	}
}

func stopA(h *House)   { h.System.Root.Stop(h.pid("rdd/kind/a")) }
func finishA(h *House) { h.Tell("rdd/kind/a", finish{}) }

func TestARespawnWaitsItsBackoff(t *testing.T) {
	spec := ChildSpec{Name: "vm", New: always(usual), Backoff: Backoff{Min: 2 * time.Second, Max: 2 * time.Second}}
	bubble(t, HouseConfig{}, []ChildSpec{spec}, func(t *testing.T, h *House) {
		h.System.Root.Stop(h.pid("rdd/vm"))
		synctest.Wait()
		_, err := h.Ask(t.Context(), "rdd/vm", ping{})
		require.ErrorIs(t, err, messages.ErrUnavailable)
		time.Sleep(time.Second)
		synctest.Wait()
		ask(t, h, "rdd/vm", ping{})
		require.Equal(t, 1, h.Nodes.Tree().Children[0].Restarts)
	})
}

func TestTheRequesterHearsOfThePanic(t *testing.T) {
	bubble(t, HouseConfig{}, []ChildSpec{{Name: "a", New: always(usual)}}, func(t *testing.T, h *House) {
		_, err := h.Ask(t.Context(), "rdd/a", boom{})
		var e *messages.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, messages.CodeInternal, e.Code)
		require.ErrorIs(t, err, messages.ErrTransient)
		require.ErrorContains(t, err, "actor failed: panic: boom")
		synctest.Wait()
		events := h.Events.Since(0).Events
		require.Len(t, events, 2)
		require.Contains(t, events[0].Stack, "kit.usual")
		require.Contains(t, events[0].Message, "kit.boom")
		require.Equal(t, 1, events[0].Attempt)
		ask(t, h, "rdd/a", ping{})
	})
}

func TestAskErrors(t *testing.T) {
	bubble(t, HouseConfig{}, []ChildSpec{{Name: "mute", Restart: Transient, New: always(usual)}}, func(t *testing.T, h *House) {
		_, err := h.Ask(t.Context(), "rdd/nobody", ping{})
		require.ErrorIs(t, err, messages.ErrUnavailable)
		begin := time.Now()
		_, err = h.Ask(t.Context(), "rdd/mute", note{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, askDefault, time.Since(begin))
		_, err = h.Ask(t.Context(), "rdd/mute", finish{})
		require.ErrorIs(t, err, messages.ErrUnavailable, "the actor terminated without an answer")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("enough"))
		_, err = h.Ask(ctx, "rdd/mute", ping{})
		require.ErrorContains(t, err, "enough")
	})
}

func TestPanicsInStoppingAndStoppedDoNotHangTheStop(t *testing.T) {
	bad := always(func(c *Context, msg any) {
		switch msg.(type) {
		case *actor.Stopping, *actor.Stopped, *actor.Restarting:
			panic("late")
		}
		usual(c, msg)
	})
	synctest.Test(t, func(t *testing.T) {
		h := NewHouse(HouseConfig{})
		require.NoError(t, h.Root(t.Context(), ChildSpec{Name: "rdd", Children: []ChildSpec{{Name: "a", New: bad}}}))
		before := ask(t, h, "rdd/a", ping{})
		h.Tell("rdd/a", boom{})
		require.NotEqual(t, before, ask(t, h, "rdd/a", ping{}))
		begin := time.Now()
		require.NoError(t, h.Stop(t.Context()))
		require.Zero(t, time.Since(begin))
		require.Equal(t, []string{"ActorFailed", "ActorRestarted", "ActorFailed", "ActorFailed", "ActorFailed"},
			types(h, "rdd/a"), "boom, its restart, and the three late ones")
	})
}

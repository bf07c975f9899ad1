package kit

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

// worker asks for everything that comes back later, at its start.
type worker struct {
	name string
	on   func(c *Context, w *worker, msg any)
}

func (w *worker) Receive(c *Context, msg any) { w.on(c, w, msg) }

// incarnations makes workers named 1, 2, 3, …
func incarnations(on func(c *Context, w *worker, msg any)) func() Actor {
	n := 0
	return func() Actor { n++; return &worker{name: string(rune('0' + n)), on: on} }
}

func TestAnswersOfAnEarlierIncarnationAreDropped(t *testing.T) {
	tr := &trace{}
	var deliver []func(any)
	var ended []error
	spec := ChildSpec{Name: "a", New: incarnations(func(c *Context, w *worker, msg any) {
		switch msg := msg.(type) {
		case *actor.Started:
			deliver = append(deliver, c.Deliver())
			c.After(2*time.Second, note{"timer of " + w.name})
			c.Run("wait", time.Minute, func(ctx context.Context) any {
				select {
				case <-ctx.Done():
					ended = append(ended, ctx.Err())
				case <-time.After(2 * time.Second):
				}
				return note{"run of " + w.name}
			})
			c.RunDetached("detached", time.Minute, func(ctx context.Context) any {
				time.Sleep(2 * time.Second)
				tr.add("detached " + w.name + " context alive: " + map[bool]string{true: "yes", false: "no"}[ctx.Err() == nil])
				return nil
			})
		case note:
			tr.add(w.name + " got " + msg.text)
		default:
			usual(c, msg)
		}
	})}
	bubble(t, HouseConfig{}, []ChildSpec{spec}, func(t *testing.T, h *House) {
		time.Sleep(time.Second)
		h.Tell("rdd/a", boom{})
		synctest.Wait()
		require.Len(t, ended, 1, "the context of the first incarnation's work ended with it")
		require.ErrorIs(t, ended[0], context.Canceled)
		deliver[0](note{"late"})
		deliver[1](note{"present"})
		deliver[1](nil)
		synctest.Wait()
		require.Equal(t, []string{"2 got present"}, tr.take())
		time.Sleep(time.Hour)
		require.ElementsMatch(t, []string{"detached 1 context alive: yes", "detached 2 context alive: yes",
			"2 got timer of 2", "2 got run of 2"}, tr.take())
	})
}

func TestACancelledTimerNeverComes(t *testing.T) {
	tr := &trace{}
	spec := ChildSpec{Name: "a", New: always(func(c *Context, msg any) {
		switch msg := msg.(type) {
		case *actor.Started:
			c.After(time.Second, note{"kept"})
			cancel := c.After(time.Second, note{"cancelled"})
			c.After(500*time.Millisecond, func() {
				time.Sleep(time.Second) // both have fired by now and wait in the mailbox
				cancel()
				cancel()
			})
		case func():
			msg()
		case note:
			tr.add(msg.text)
		}
	})}
	bubble(t, HouseConfig{}, []ChildSpec{spec}, func(t *testing.T, h *House) {
		time.Sleep(time.Minute)
		require.Equal(t, []string{"kept"}, tr.take())
	})
}

func TestAPanicInRunIsAFailureInTheActorsTurn(t *testing.T) {
	bubble(t, HouseConfig{}, []ChildSpec{{Name: "a", New: always(usual)}}, func(t *testing.T, h *House) {
		before := ask(t, h, "rdd/a", ping{})
		h.Tell("rdd/a", runPanic{})
		synctest.Wait()
		require.NotEqual(t, before, ask(t, h, "rdd/a", ping{}))
		e := h.Events.Since(0).Events[0]
		require.Equal(t, messages.EventActorFailed, e.Type)
		require.Equal(t, "panic in work: in the goroutine (on work)", e.Message)
		require.Contains(t, e.Stack, "kit.usual.func", "the stack of the goroutine, not of the turn")
	})
}

func TestACrashOfAnEarlierIncarnationIsRecordedButHitsNoSuccessor(t *testing.T) {
	var deliver []func(any)
	spec := ChildSpec{Name: "a", New: always(func(c *Context, msg any) {
		if _, ok := msg.(*actor.Started); ok {
			deliver = append(deliver, c.Deliver())
		}
		usual(c, msg)
	})}
	bubble(t, HouseConfig{}, []ChildSpec{spec}, func(t *testing.T, h *House) {
		h.Tell("rdd/a", boom{})
		before := ask(t, h, "rdd/a", ping{})
		deliver[0](&Crashed{Name: "inspect", Value: errors.New("nil map"), Stack: "there"})
		require.Equal(t, before, ask(t, h, "rdd/a", ping{}))
		events := h.Events.Since(0).Events
		require.Equal(t, "panic in inspect: nil map (in an earlier incarnation)", events[2].Message)
		require.Equal(t, "there", events[2].Stack)
		deliver[1](Crashed{Name: "inspect", Value: &Failure{Reason: "session lost", Event: messages.EventSessionLost}})
		require.NotEqual(t, before, ask(t, h, "rdd/a", ping{}))
		require.Equal(t, messages.EventSessionLost, h.Events.Since(0).Events[3].Type)
	})
}

func TestRunDeadlineAndResult(t *testing.T) {
	tr := &trace{}
	spec := ChildSpec{Name: "a", New: always(func(c *Context, msg any) {
		switch msg := msg.(type) {
		case *actor.Started:
			c.Run("slow", time.Second, func(ctx context.Context) any { <-ctx.Done(); return ctx.Err() })
			c.Run("nothing", 0, func(context.Context) any { return nil })
		case error:
			tr.add(msg.Error())
		}
	})}
	bubble(t, HouseConfig{}, []ChildSpec{spec}, func(t *testing.T, h *House) {
		time.Sleep(time.Minute)
		require.Equal(t, []string{context.DeadlineExceeded.Error()}, tr.take())
	})
}

func TestWorkThatIgnoresItsContextIsNamedByTheStop(t *testing.T) {
	release := make(chan struct{})
	h := NewHouse(HouseConfig{})
	spec := ChildSpec{Name: "a", New: always(func(c *Context, msg any) {
		if _, ok := msg.(*actor.Started); ok {
			c.Run("deaf", 0, func(context.Context) any { <-release; return nil })
		}
	})}
	require.NoError(t, h.Root(t.Context(), ChildSpec{Name: "rdd", Children: []ChildSpec{spec}}))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, h.Stop(ctx), "1 calls still running")
	close(release)
}

func TestHooks(t *testing.T) {
	effects := make(chan string, 9)
	spec := ChildSpec{Name: "a", Max: 3, GiveUp: Report, New: always(func(c *Context, msg any) {
		if _, ok := msg.(note); ok {
			c.Run("inspect", 0, func(context.Context) any { effects <- "inspected"; return nil })
		}
		usual(c, msg)
	})}
	bubble(t, HouseConfig{Hooks: true}, []ChildSpec{spec}, func(t *testing.T, h *House) {
		before := ask(t, h, "rdd/a", ping{})
		h.Hooks.Arm(messages.DebugRequest{Actor: "rdd/a", Action: "panic"})
		synctest.Wait()
		after := ask(t, h, "rdd/a", ping{})
		require.NotEqual(t, before, after)
		require.Contains(t, h.Events.Since(0).Events[0].Message, "debug: panic asked for")

		h.Hooks.Arm(messages.DebugRequest{Actor: "rdd/a", Action: "panic", NoTrigger: true})
		synctest.Wait()
		_, err := h.Ask(t.Context(), "rdd/a", ping{})
		require.Error(t, err)

		begin := time.Now()
		h.Hooks.Arm(messages.DebugRequest{Actor: "rdd/a", Action: "delay", Delay: metav1.Duration{Duration: time.Second},
			NoTrigger: true, Count: 2})
		ask(t, h, "rdd/a", ping{})
		ask(t, h, "rdd/a", ping{})
		ask(t, h, "rdd/a", ping{})
		require.Equal(t, 2*time.Second, time.Since(begin))

		h.Hooks.Arm(messages.DebugRequest{Actor: "rdd/a#inspect", Action: "panic"})
		synctest.Wait()
		h.Tell("rdd/a", note{})
		synctest.Wait()
		require.Empty(t, effects)
		events := h.Events.Since(0).Events
		require.Equal(t, "panic in inspect: debug: panic asked for (on inspect)", events[len(events)-2].Message)
		h.Tell("rdd/a", note{})
		synctest.Wait()
		require.Len(t, effects, 1)

		h.Hooks.Arm(messages.DebugRequest{Actor: "rdd/a", Action: "panic", Count: -1})
		synctest.Wait()
		require.ErrorContains(t, h.Err(), "rdd/a", "all messages, Started too: the give-up path")
		h.Hooks.Disarm()
	})
	(*Hooks)(nil).Arm(messages.DebugRequest{})
	(*Hooks)(nil).Effect("rdd/a", "inspect")
	(*Hooks)(nil).Disarm()
}

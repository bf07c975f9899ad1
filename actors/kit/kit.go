// Package kit is how an actor is written in this house: the shell around every actor, supervision that waits and gives up
// aloud, the one helper for work off the mailbox, the register of the tree and the record of what happened in it.
//
// An actor of ours is an Actor: one method that gets plain messages. A shell, the actor protoactor knows, stands between the
// two. It turns a panic into one event with a stack and a failure for the supervisor, drops answers to questions of an
// earlier incarnation, cancels timers and work when the incarnation ends, and never lets a panic in Stopping or Stopped
// reach protoactor (which would undo the stop, or make the parent unable to stop).
//
// There is one go statement in here, in run.go. Nothing blocks but on channels and time, so that everything runs
// under testing/synctest.
package kit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/eventstream"

	"github.com/rdd-desktop/rdd/messages"
)

// Actor is what our actors implement. Receive runs in the actor's turn: one message at a time, never waiting.
//
// It gets *actor.Started first, then plain messages, the results of Run, After and Deliver, ChildFailed, ChildGaveUp and
// ChildTerminated, *actor.Terminated of watched strangers, and last *actor.Stopping (and *actor.Stopped) or
// *actor.Restarting, after which it gets nothing more: what the actor holds must be closed there.
type Actor interface {
	Receive(c *Context, msg any)
}

// HouseConfig configures a House. The zero value works.
type HouseConfig struct {
	// Log gets everything. Default: nothing is logged.
	Log *slog.Logger
	// Dispatcher runs the actors' turns. Default: protoactor's, one goroutine per burst of 300 messages.
	Dispatcher actor.Dispatcher
	// Jitter gives a number in [0, 1) for each restart delay. Default: math/rand.
	Jitter func() float64
	// Hooks turns the test hooks on (House.Hooks is not nil then).
	Hooks bool
	// Kill ends the process at a point of its run. It needs Hooks. Default: nowhere.
	Kill KillPoint
	// Lab is a test's grip on the house; it turns the hooks on. Default: none.
	Lab *Lab
	// OnFailed is called once, off any actor's turn, when an actor of the tree was given up that the house cannot be
	// without. The house goes on as far as it can; it is for the embedder to stop it.
	OnFailed func(error)
	// EventsCap is how many events the recorder keeps. Default 1024.
	EventsCap int
}

// House is one actor system with one tree in it. It has no remote.
type House struct {
	System     *actor.ActorSystem
	Log        *slog.Logger
	Events     *Recorder
	Nodes      *Registry
	Hooks      *Hooks
	Dispatcher actor.Dispatcher
	Jitter     func() float64
	OnFailed   func(error)

	props *actor.Props
	ctx   context.Context
	end   context.CancelFunc
	work  workers

	failOnce sync.Once
	failed   chan struct{} // closed when failErr is set
	failErr  error

	startOnce sync.Once
	started   chan struct{} // closed when the root's static children have all started

	// stopMu makes "not stopping, so restart it" one step for the root's children, which Stop stops from outside: a Restart
	// after a Stop would undo the stop.
	stopMu   sync.RWMutex
	stopping atomic.Bool
	stopped  chan struct{}
	stopErr  error
}

// NewHouse makes a house without a tree; Root starts one.
func NewHouse(cfg HouseConfig) *House {
	h := &House{
		Log: cfg.Log, Dispatcher: cfg.Dispatcher, Jitter: cfg.Jitter, OnFailed: cfg.OnFailed,
		failed: make(chan struct{}), started: make(chan struct{}), stopped: make(chan struct{}),
	}
	if h.Log == nil {
		h.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Lab != nil && cfg.Lab.Jitter != nil {
		h.Jitter = cfg.Lab.Jitter
	}
	if h.Jitter == nil {
		h.Jitter = rand.Float64
	}
	if h.Dispatcher == nil {
		h.Dispatcher = actor.NewDefaultDispatcher(300)
	}
	if cfg.Hooks || cfg.Lab != nil {
		h.Hooks = newHooks(h, cfg.Lab, cfg.Kill)
	}
	h.Events = NewRecorder(h.Log, cfg.EventsCap)
	h.Nodes = &Registry{}
	h.ctx, h.end = context.WithCancel(context.Background())
	h.System = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(quiet{h.Log.Handler()})
	}))
	// The stock subscribers start a goroutine per burst of dead letters and log them at INFO; ours keep what is needed.
	h.System.EventStream = eventstream.NewEventStream()
	h.System.EventStream.Subscribe(h.onDeadLetter)
	// One Props for all: 10 000s of children must not have 250 B of it each. Who a new shell is, it learns from its path.
	h.props = actor.PropsFromProducer(func() actor.Actor { return newShell(h) }, actor.WithDispatcher(h.Dispatcher),
		actor.WithMailbox(func() actor.Mailbox { return newMailbox(cfg.Lab) }))
	return h
}

// Tell sends msg to the actor at path. A message to nobody is lost with a debug log.
func (h *House) Tell(path string, msg any) { h.System.Root.Send(h.pid(path), msg) }

// pid is the address of the actor at path, whether or not it is there.
func (h *House) pid(path string) *actor.PID {
	if pid := h.Nodes.pid(path); pid != nil {
		return pid
	}
	return h.System.NewLocalPID(path)
}

// fail reports err to the embedder, once.
func (h *House) fail(err error) {
	h.failOnce.Do(func() {
		h.failErr = err
		close(h.failed)
		if h.OnFailed == nil {
			return
		}
		time.AfterFunc(0, func() {
			defer func() {
				if v := recover(); v != nil {
					h.Log.Error("OnFailed panicked", "panic", v)
				}
			}()
			h.OnFailed(err)
		})
	})
}

// Failed is closed when an actor was given up that the house cannot be without; Err then says which and why.
func (h *House) Failed() <-chan struct{} { return h.failed }

// Err is the error OnFailed got, or nil.
func (h *House) Err() error {
	select {
	case <-h.failed:
		return h.failErr
	default:
		return nil
	}
}

// Root starts the tree: the root actor at path spec.Name, then its static children in order, each only after the one
// before has handled Started. A child that fails in Started is restarted by its strategy, and the start goes on when it is
// ready. Root returns when all are, when one was given up (its error), or when ctx ends. After an error the house must be
// stopped by the caller. It may be called once.
func (h *House) Root(ctx context.Context, spec ChildSpec) error {
	if spec.New == nil {
		spec.New = func() Actor { return idle{} }
	}
	n := &node{spec: &spec, new: spec.New}
	if !h.Nodes.setRoot(n, spec.Name) {
		return errors.New("start house: it has a root already")
	}
	pid, err := h.System.Root.Copy().WithGuardian(newGuardian(h, n)).SpawnNamed(h.props, spec.Name)
	if err != nil {
		return fmt.Errorf("start house %q: %w", spec.Name, err)
	}
	h.Nodes.setPID(n, pid)
	select {
	case <-h.started:
		return nil
	case <-h.failed:
		return fmt.Errorf("start house %q: %w", spec.Name, h.failErr)
	case <-ctx.Done():
		return fmt.Errorf("start house %q: waiting for %s: %w", spec.Name, h.Nodes.waiting(), context.Cause(ctx))
	}
}

// unlessStopping runs f unless the house is being stopped, and says whether it did. A stop waits for f.
func (h *House) unlessStopping(f func()) bool {
	h.stopMu.RLock()
	defer h.stopMu.RUnlock()
	if h.stopping.Load() {
		return false
	}
	f()
	return true
}

// onDeadLetter does what the library's own subscribers do, without their goroutine and their noise.
func (h *House) onDeadLetter(ev any) {
	dead, ok := ev.(*actor.DeadLetterEvent)
	if !ok {
		return
	}
	if watch, ok := dead.Message.(*actor.Watch); ok {
		h.sendSystem(watch.Watcher, &actor.Terminated{Who: dead.PID, Why: actor.TerminatedReason_NotFound})
		return
	}
	if dead.Sender != nil {
		h.System.Root.Send(dead.Sender, &actor.DeadLetterResponse{})
	}
	if h.Log.Enabled(context.Background(), slog.LevelDebug) {
		h.Log.Debug("message to nobody", "actor", dead.PID.GetId(), "message", fmt.Sprintf("%T", dead.Message))
	}
}

func (h *House) sendSystem(pid *actor.PID, msg any) {
	p, _ := h.System.ProcessRegistry.Get(pid)
	p.SendSystemMessage(pid, msg)
}

// quiet lowers the library's INFO to DEBUG: what it says there we say ourselves, with a stack.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, lowered(l))
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = lowered(r.Level)
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

func lowered(l slog.Level) slog.Level {
	if l == slog.LevelInfo {
		return slog.LevelDebug
	}
	return l
}

// idle is the actor of a node that only holds children.
type idle struct{}

func (idle) Receive(*Context, any) {}

func unavailable(path string) *messages.Error {
	return messages.NewError(messages.CodeUnavailable, "ask", "", path, "the actor is not there")
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/mirror"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

const (
	connectDeadline = time.Second
	pingDeadline    = 2 * time.Second
	// historyCap is how many events the engine keeps: a replay of as many may have lost some.
	historyCap   = 256
	replayWindow = time.Second
)

// epochs number the sessions of the process.
var epochs atomic.Uint64

// session is one connection to the engine: connect, read its clock, subscribe from then on, live. A lost stream or heartbeat ends it
// with a failure that is paced but not counted; the strategy of its parent starts the next one.
//
//	address   rdd/engine/session
//	parent    rdd/engine
//	messages  outcomes of its own work, suspect
//	restart   is a new connection with a new epoch
type session struct {
	deps   *Deps
	at     messages.Endpoint
	epoch  uint64
	ctx    context.Context
	cancel context.CancelFunc
	engine dockerio.Engine
	stream dockerio.Stream
	dirty  *dirtySet
	opened time.Time
	// replayed: the replay was as long as the engine's memory; everything was listed again.
	replayed bool
}

// sessionUp tells the watcher that a session has subscribed.
type sessionUp struct {
	Epoch uint64
	Info  dockerio.Info
	Skew  time.Duration
}

type (
	connected struct {
		engine dockerio.Engine
		info   dockerio.Info
		skew   time.Duration
		err    error
	}
	opened struct {
		stream dockerio.Stream
		err    error
		up     sessionUp
	}
	drain      struct{}
	streamOver struct{ err error }
	beat       struct{}
	pong       struct{ err error }
	auditTick  struct{}
	// suspect: the session of that epoch has missed an event.
	suspect struct {
		epoch uint64
		what  string
	}
)

func newSession(d *Deps, at messages.Endpoint) func() kit.Actor {
	return func() kit.Actor { return &session{deps: d, at: at, epoch: epochs.Add(1), dirty: newDirtySet()} }
}

// Receive implements kit.Actor.
func (s *session) Receive(c *kit.Context, msg any) {
	switch m := msg.(type) {
	case *actor.Started:
		s.ctx, s.cancel = context.WithCancel(context.Background())
		s.connect(c)
	case connected:
		s.connected(c, m)
	case opened:
		s.begin(c, m)
	case drain:
		s.drain(c)
	case streamOver:
		s.lost(c, messages.EventSessionLost, fmt.Errorf("the event stream ended: %w", m.err))
	case beat:
		engine := s.engine
		c.Run("ping", pingDeadline, func(ctx context.Context) any { return pong{err: engine.Ping(ctx)} })
	case pong:
		if m.err != nil {
			s.lost(c, messages.EventSessionLost, fmt.Errorf("no heartbeat: %w", m.err))
		}
		c.After(s.deps.Heartbeat, beat{})
	case auditTick:
		for _, path := range families {
			c.Tell(path, mirror.AuditDue{Epoch: s.epoch})
		}
		s.scheduleAudit(c)
	case suspect:
		if m.epoch == s.epoch { // one is enough; the rest of them is about a session that is over
			s.lost(c, messages.EventStreamSuspect, fmt.Errorf("an event is missing: %s", m.what))
		}
	case *actor.Stopping, *actor.Restarting:
		s.close()
	}
}

// connect makes a new client (the engine may be another one by now) and reads the engine's clock.
func (s *session) connect(c *kit.Context) {
	c.Label("Connecting", s.at.Host)
	dialer, at, now := s.deps.Dialer, s.at, s.deps.Now
	c.Run("connect", connectDeadline, func(ctx context.Context) any {
		e, err := dialer.Dial(ctx, at)
		if err != nil {
			return connected{err: err}
		}
		before := now()
		info, err := e.Info(ctx)
		after := now()
		if err == nil && info.Now.IsZero() {
			err = messages.NewError(messages.CodeEngineUnreachable, "read the clock of", "engine", at.Host, "it tells no time that can be read")
		}
		if err != nil {
			_ = e.Close() // nothing was asked of it but this
			return connected{err: err}
		}
		return connected{engine: e, info: info, skew: info.Now.Skew(before.Add(after.Sub(before) / 2))}
	})
}

// connected subscribes from the engine's clock on, before anything is listed.
func (s *session) connected(c *kit.Context, m connected) {
	if m.err != nil {
		s.lost(c, messages.EventSessionLost, m.err)
	}
	s.engine = m.engine
	engine, long, up := m.engine, s.ctx, sessionUp{Epoch: s.epoch, Info: m.info, Skew: m.skew}
	c.Run("subscribe", connectDeadline, func(ctx context.Context) any {
		// The stream lives as long as the session; only the wait for its beginning has a deadline.
		streaming, end := context.WithCancel(long)
		stop := context.AfterFunc(ctx, end)
		stream, err := engine.Events(streaming, up.Info.Now)
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			end()
			return opened{err: err}
		}
		return opened{stream: &ending{Stream: stream, end: end}, up: up}
	})
}

// ending releases the stream's context with the stream.
type ending struct {
	dockerio.Stream
	end context.CancelFunc
}

func (e *ending) Close() error {
	e.end()
	return e.Stream.Close()
}

func (s *session) begin(c *kit.Context, m opened) {
	if m.err != nil {
		s.lost(c, messages.EventSessionLost, m.err)
	}
	s.stream, s.opened = m.stream, s.deps.Now()
	s.read(c)
	s.deps.Calls.Open(s.ctx, s.epoch, s.engine)
	c.Label("Subscribed", fmt.Sprintf("epoch %d", s.epoch))
	c.Tell(control.Engine, m.up)
	c.After(s.deps.Heartbeat, beat{})
	s.scheduleAudit(c)
}

func (s *session) scheduleAudit(c *kit.Context) {
	d := s.deps.Audit
	c.After(d-d/10+time.Duration(c.House.Jitter()*float64(d/5)), auditTick{})
}

// read drains the stream into the dirty set. It waits for nothing but the stream.
func (s *session) read(c *kit.Context) {
	stream, set := s.stream, s.dirty
	c.RunTelling("read", 0, func(ctx context.Context, tell func(msg any)) any {
		// Whatever becomes of the session's last word: its reader ends with it.
		defer context.AfterFunc(ctx, func() { _ = stream.Close() })()
		for {
			e, err := stream.Next()
			if err != nil {
				return streamOver{err: err}
			}
			if set.add(e) {
				tell(drain{})
			}
		}
	})
}

// drain routes what has been collected to the kinds' supervisors.
func (s *session) drain(c *kit.Context) {
	marks, relist, events := s.dirty.take()
	if events >= historyCap && !s.replayed && s.deps.Now().Sub(s.opened) < replayWindow {
		// As many as the engine remembers came at once: it may have forgotten some.
		s.replayed = true
		for kind := range families {
			relist[kind] = true
		}
	}
	for kind, path := range families {
		if len(marks[kind]) > 0 || relist[kind] {
			c.Tell(path, mirror.Dirty{Epoch: s.epoch, Marks: marks[kind], Relist: relist[kind]})
		}
	}
}

// lost ends the session. It does not return.
func (s *session) lost(c *kit.Context, event string, err error) {
	s.close()
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w (the engine went away)", err)
	}
	c.Fail(&kit.Failure{Reason: "session lost", Err: err, Event: event})
}

func (s *session) close() {
	s.deps.Calls.Close(s.epoch)
	if s.cancel == nil {
		return // it failed before it began
	}
	s.cancel()
	if s.stream != nil {
		_ = s.stream.Close() // it is over either way
	}
	if s.engine != nil {
		_ = s.engine.Close()
	}
}

package kit

import (
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

// shell is the actor protoactor knows; one per incarnation. It is its children's supervisor, so that their failures are
// handled in its own turn.
type shell struct {
	c     Context
	actor Actor
	node  *node
	life  *life
	inc   uint64
	boot  *node // the root's static child that start waits for

	over      bool // the incarnation has failed or ends: its actor gets no more messages
	closing   bool // Stopping or Restarting came: a panic would undo it
	finishing bool // FinishSelf was called: a restart would undo it
}

var _ actor.SupervisorStrategy = (*shell)(nil)

func newShell(h *House) *shell {
	s := &shell{inc: Token()}
	s.c.House, s.c.s = h, s
	return s
}

// Receive implements actor.Actor.
func (s *shell) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		s.c.Context = ctx
		s.node = s.c.House.Nodes.node(ctx.Self().Id)
		s.handle(msg)
	case *actor.Stopping, *actor.Restarting:
		s.close(msg)
	case *actor.Stopped:
		s.last(msg)
	case *actor.Terminated:
		s.terminated(msg)
	case *stamped:
		if msg.inc == s.inc {
			s.handle(msg)
		} else if p, ok := msg.msg.(Crashed); ok {
			s.record(p.failure(), "in an earlier incarnation", 0)
		}
	default:
		if s.over {
			if waits(ctx.Sender()) {
				s.c.Reply(unavailable(s.c.Path()))
			}
			return
		}
		s.handle(msg)
	}
}

// handle is one turn. A panic in it is a failure.
func (s *shell) handle(msg any) {
	defer func() {
		if v := recover(); v != nil {
			s.raise(asFailure(v), msg)
		}
	}()
	switch msg := msg.(type) {
	case *actor.Started:
		s.start(msg)
	case *stamped:
		s.stamped(msg)
	case ready:
		s.onReady(msg)
	case nudge:
		s.c.House.Hooks.hit(s.c.Path())
	default:
		s.c.House.Hooks.message(s.c.Path(), msg)
		s.actor.Receive(&s.c, msg)
	}
}

func (s *shell) start(msg *actor.Started) {
	h := s.c.House
	h.Nodes.label(s.node, StateStarting, "")
	s.actor = s.node.new()
	root := h.Nodes.isRoot(s.node)
	if !root {
		for i := range s.node.spec.Children {
			if spec := &s.node.spec.Children[i]; spec.New != nil {
				s.c.StartChild(spec, spec.Name, spec.New)
			}
		}
	}
	h.Hooks.message(s.c.Path(), msg)
	s.actor.Receive(&s.c, msg)
	h.Nodes.ready(s.node)
	if root {
		s.bootNext(0)
	}
	if s.node.tellsUp && s.c.Parent() != nil {
		s.c.Send(s.c.Parent(), ready{s.node})
	}
}

func (s *shell) stamped(m *stamped) {
	if m.timer != nil && !s.living().take(m.timer) {
		return // cancelled after it had fired
	}
	switch msg := m.msg.(type) {
	case Crashed:
		panic(msg)
	case restartDue:
		s.restartDue(msg)
	default:
		if s.over {
			return
		}
		s.c.House.Hooks.message(s.c.Path(), msg)
		s.actor.Receive(&s.c, msg)
	}
}

// raise makes f this incarnation's end. It panics again, for protoactor to suspend the mailbox and tell the supervisor, unless
// the actor is ending anyway.
func (s *shell) raise(f *Failure, msg any) {
	ending := s.closing || s.finishing
	s.endLife()
	now, h := time.Now(), s.c.House
	attempt := h.Nodes.failed(s.node, f, now)
	s.record(f, "on "+nameOf(msg), attempt)
	if waits(s.c.Sender()) {
		s.c.Reply(actorFailed(s.c.Path(), f))
	}
	if !ending {
		panic(f)
	}
}

// record records a failure of this actor, once.
func (s *shell) record(f *Failure, where string, attempt int) {
	e := messages.HouseEvent{Type: f.Event, Actor: s.c.Path(), Message: f.Error(), Attempt: attempt}
	if e.Type == "" {
		e.Type = messages.EventActorFailed
	}
	if f.Counted {
		e.Message, e.Stack = e.Message+" ("+where+")", f.Stack
	}
	s.c.House.Events.Add(e)
}

func nameOf(msg any) string {
	if m, ok := msg.(*stamped); ok {
		msg = m.msg
	}
	if p, ok := msg.(Crashed); ok {
		return p.Name
	}
	return fmt.Sprintf("%T", msg)
}

// close gives the actor its last word: Stopping or Restarting.
func (s *shell) close(msg any) {
	s.closing = true
	s.endLife()
	s.c.House.Nodes.label(s.node, StateStopping, "")
	s.c.House.Nodes.detachDead(s.node)
	s.last(msg)
}

// last delivers a message after which a panic must not reach protoactor.
func (s *shell) last(msg any) {
	if s.actor != nil {
		defer func() {
			if v := recover(); v != nil {
				f := *asFailure(v)
				f.Counted = true
				s.record(&f, "on "+nameOf(msg), 0)
			}
		}()
		s.c.House.Hooks.last(s.c.Path(), msg)
		s.actor.Receive(&s.c, msg)
	}
}

func (s *shell) living() *life {
	if s.life == nil {
		s.life = &life{}
	}
	return s.life
}

func (s *shell) endLife() {
	s.over = true
	if s.life != nil {
		s.life.end()
	}
}

// ready is what a static child of the root tells it after its Started. The node says of which child it is.
type ready struct{ node *node }

// bootNext starts the root's static children from the i-th on, up to the first that is to be waited for.
func (s *shell) bootNext(i int) {
	children, h := s.node.spec.Children, s.c.House
	for ; i < len(children); i++ {
		spec := &children[i]
		if spec.New == nil {
			continue
		}
		n := &node{spec: spec, new: spec.New, tellsUp: true}
		s.boot = n
		h.Nodes.waitsFor(s.c.Path() + "/" + spec.Name)
		if s.c.startNode(n, spec.Name) {
			return
		}
	}
	s.boot = nil
	h.startOnce.Do(func() { close(h.started) })
}

func (s *shell) onReady(m ready) {
	if m.node != s.boot {
		return // restarted since, or of an earlier start
	}
	for i := range s.node.spec.Children {
		if &s.node.spec.Children[i] == m.node.spec {
			s.bootNext(i + 1)
			return
		}
	}
}

func delayOf(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

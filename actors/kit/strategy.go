package kit

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/rdd-desktop/rdd/messages"
)

// restartDue is the timer of a child's restart, a message of the parent to itself.
type restartDue struct {
	name  string
	token uint64
}

// StartChild starts a child under this actor. It does nothing and says false while a child of that name is alive, still
// stopping, or waiting for its restart, and while the actor or the house ends.
func (c *Context) StartChild(spec *ChildSpec, name string, new func() Actor) (started bool) {
	return c.startNode(&node{spec: spec, new: new}, name)
}

func (c *Context) startNode(n *node, name string) bool {
	s := c.s
	if old := s.node.children[name]; s.over || s.finishing || old != nil && old.phase() != gone {
		return false
	}
	c.House.Nodes.attach(s.node, name, n)
	if !s.spawn(n, name) {
		c.House.Nodes.detach(s.node, name)
		return false
	}
	return true
}

// spawn starts the process of an attached node.
func (s *shell) spawn(n *node, name string) (ok bool) {
	h := s.c.House
	s.unlessStopping(func() {
		pid, err := s.c.SpawnNamed(h.props, name)
		if err != nil {
			// The name is taken by a process that is no child of ours: nothing of the house does that.
			h.Log.Error("start child", "actor", s.c.Path()+"/"+name, "error", err)
			return
		}
		h.Nodes.spawned(s.node, name, n, pid)
		ok = true
	})
	return ok
}

// HasChild says whether the name is taken: StartChild would do nothing.
func (c *Context) HasChild(name string) bool {
	n := c.s.node.children[name]
	return n != nil && n.phase() != gone
}

// ForgetChild takes the node of a quarantined child out of the tree.
func (c *Context) ForgetChild(name string) {
	if n := c.s.node.children[name]; n != nil && n.phase() == gone {
		c.House.Nodes.detach(c.s.node, name)
	}
}

// StopChild stops a child; ChildTerminated follows. Nothing happens when there is none.
func (c *Context) StopChild(name string) {
	if n := c.s.node.children[name]; n != nil {
		c.s.step(name, n, stopAsked{}, nil)
	}
}

// childName is the name of a child of this actor, "" for a stranger.
func (s *shell) childName(pid *actor.PID) string {
	name, ok := strings.CutPrefix(pid.GetId(), s.c.Self().Id+"/")
	if ok && s.node.children[name] != nil {
		return name
	}
	return ""
}

// HandleFailure implements actor.SupervisorStrategy: a child failed and its mailbox is suspended.
func (s *shell) HandleFailure(_ *actor.ActorSystem, sup actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics,
	reason, msg any) {
	name := s.childName(child)
	switch {
	case s.over, s.stoppingRoot():
		return // whoever restarts or stops this actor stops the child too
	case name == "":
		sup.StopChildren(child) // not of our making
		return
	}
	s.guard(child, func() {
		f := asFailure(reason)
		s.step(name, s.node.children[name], childFailed{
			now: time.Now(), jitter: s.c.House.Jitter(), token: Token(), counted: f.Counted,
		}, f)
	})
}

// guard makes a panic of f a failure of this actor.
func (s *shell) guard(about any, f func()) {
	defer func() {
		if v := recover(); v != nil {
			s.raise(asFailure(v), about)
		}
	}()
	f()
}

// terminated: a process has ended, a child's or a watched stranger's.
func (s *shell) terminated(m *actor.Terminated) {
	name := s.childName(m.Who)
	switch {
	case name == "":
		if !s.over {
			s.handle(m)
		}
	case s.over:
		s.c.House.Nodes.detach(s.node, name)
	default:
		s.guard(m, func() { s.ended(name) })
	}
}

func (s *shell) ended(name string) {
	n, h := s.node.children[name], s.c.House
	if s.stoppingRoot() {
		h.Nodes.detach(s.node, name)
		s.actor.Receive(&s.c, ChildTerminated{Name: name, Expected: true})
		return
	}
	normal := h.Nodes.isFinished(n)
	f := &Failure{Reason: "stopped by a stranger", Counted: true}
	if normal {
		f.Reason = "finished, but must always run"
	}
	s.step(name, n, childEnded{now: time.Now(), jitter: h.Jitter(), token: Token(), normal: normal}, f)
}

func (s *shell) restartDue(m restartDue) {
	if n := s.node.children[m.name]; n != nil {
		s.step(m.name, n, restartCame{now: time.Now(), token: m.token}, nil)
	}
}

// stoppingRoot: the house stops its children one by one, from outside.
func (s *shell) stoppingRoot() bool {
	return s.c.House.stopping.Load() && s.c.House.Nodes.isRoot(s.node)
}

// unlessStopping runs f; for the root's children only if the house does not stop them one by one.
func (s *shell) unlessStopping(f func()) {
	if s.c.House.Nodes.isRoot(s.node) {
		s.c.House.unlessStopping(f)
		return
	}
	f()
}

// step applies an event to a child's window and performs what follows.
func (s *shell) step(name string, n *node, e event, f *Failure) {
	w := n.window()
	next, effects := w.apply(e)
	*w = next
	if _, ended := e.(childEnded); ended && len(effects) > 0 && tellsFailed(effects) {
		// A failure nobody has recorded: the child had no turn for it.
		attempt := s.c.House.Nodes.failed(n, f, time.Now())
		s.c.House.Events.Add(messages.HouseEvent{
			Type: messages.EventActorFailed, Actor: s.c.Path() + "/" + name, Message: f.Error(), Attempt: attempt,
		})
	}
	for _, e := range effects {
		s.perform(name, n, e, f)
	}
}

func tellsFailed(effects []effect) bool {
	for _, e := range effects {
		if _, ok := e.(tellFailed); ok {
			return true
		}
	}
	return false
}

func (s *shell) perform(name string, n *node, e effect, f *Failure) {
	h, path := s.c.House, s.c.Path()+"/"+name
	switch e := e.(type) {
	case scheduleRestart:
		s.c.After(e.delay, restartDue{name: name, token: e.token})
		s.c.RetryingChild(name, "restart", n.window().attempt, e.delay)
	case restart:
		s.unlessStopping(func() {
			h.noteRestart(n, path, e.attempt, e.waited)
			s.supervisor().RestartChildren(n.pid)
		})
	case respawn:
		h.Nodes.setFinished(n, false)
		h.noteRestart(n, path, e.attempt, e.waited)
		if !s.spawn(n, name) {
			h.Nodes.detach(s.node, name)
		}
	case stopChild:
		s.supervisor().StopChildren(n.pid)
	case tellFailed:
		s.tell(ChildFailed{Name: name, Failure: f, Delay: e.delay})
	case tellGaveUp:
		s.tell(ChildGaveUp{Name: name, Failure: f})
	case tellEnded:
		if !n.quarantined {
			h.Nodes.detach(s.node, name)
		}
		s.tell(ChildTerminated{Name: name, Expected: e.expected})
	case escalate:
		h.Events.Add(messages.HouseEvent{
			Type: messages.EventEscalated, Actor: path, Attempt: e.failures, Message: tooOften(n.spec, f),
		})
		s.endLife()
		h.Nodes.failed(s.node, f, time.Now())
		s.supervisor().EscalateFailure(&Failure{Reason: "child " + name, Err: f, Counted: true}, nil)
	case reportGaveUp:
		h.giveUp(n, path, e.failures, f)
	}
}

func (s *shell) tell(msg any) {
	if !s.over {
		s.c.House.Hooks.message(s.c.Path(), msg)
		s.actor.Receive(&s.c, msg)
	}
}

func (s *shell) supervisor() actor.Supervisor { return s.c.Context.(actor.Supervisor) }

func (h *House) noteRestart(n *node, path string, attempt int, waited time.Duration) {
	h.Nodes.restarted(n)
	h.Events.Add(messages.HouseEvent{
		Type: messages.EventActorRestarted, Actor: path, Attempt: attempt, Delay: delayOf(waited),
	})
}

func (h *House) giveUp(n *node, path string, failures int, f *Failure) {
	e := messages.HouseEvent{Type: messages.EventGaveUp, Actor: path, Attempt: failures, Message: tooOften(n.spec, f)}
	if n.spec.GiveUp == Quarantine {
		e.Type = messages.EventQuarantined
	}
	h.Events.Add(e)
	if n.spec.GiveUp == Quarantine {
		h.Nodes.quarantine(n, f.Error())
		return
	}
	h.fail(fmt.Errorf("actor %s given up: %w", path, f))
}

func tooOften(spec *ChildSpec, f *Failure) string {
	return fmt.Sprintf("more than %d failures in %v, the last: %v", spec.max(), spec.period(), f)
}

// guardian supervises the root. It decides like any parent, but has no turn: it is called in the root's, or by a timer. It must
// never panic and never escalate: there is nobody above.
type guardian struct {
	house *House
	node  *node
	mu    sync.Mutex
	w     window
}

func newGuardian(h *House, n *node) *guardian {
	spec := *n.spec
	if spec.GiveUp == Escalate {
		spec.GiveUp = Report
	}
	return &guardian{house: h, node: n, w: window{spec: &spec}}
}

// HandleFailure implements actor.SupervisorStrategy.
func (g *guardian) HandleFailure(_ *actor.ActorSystem, sup actor.Supervisor, root *actor.PID, _ *actor.RestartStatistics,
	reason, _ any) {
	f := asFailure(reason)
	g.step(sup, root, childFailed{now: time.Now(), jitter: g.house.Jitter(), token: Token(), counted: f.Counted}, f)
}

func (g *guardian) step(sup actor.Supervisor, root *actor.PID, e event, f *Failure) {
	g.mu.Lock()
	defer g.mu.Unlock()
	next, effects := g.w.apply(e)
	g.w = next
	for _, e := range effects {
		switch e := e.(type) {
		case scheduleRestart:
			time.AfterFunc(e.delay, func() { g.step(sup, root, restartCame{now: time.Now(), token: e.token}, nil) })
		case restart:
			g.house.unlessStopping(func() {
				g.house.noteRestart(g.node, root.Id, e.attempt, e.waited)
				sup.RestartChildren(root)
			})
		case stopChild:
			sup.StopChildren(root)
		case reportGaveUp:
			g.house.giveUp(&node{spec: g.w.spec}, root.Id, e.failures, f)
		}
	}
}

// Package calls is the scheduler of all calls to the engine. It is outside the actors, so that a restart of one neither loses nor
// doubles a call: what waits is an entry in a queue, never a parked goroutine.
//
// Reads go through lanes by priority; four run at a time. A read that takes longer than a quarter of a second no longer counts
// against the four (a bounded number of them), so that hung calls cannot hold up the others; an object whose call ran into its
// deadline goes through a slow lane of one, with a longer deadline, until it answers again. Calls that change
// something have slots of their own, one call per object at a time, and outlive the session that started them: a stop in progress is
// not undone by a lost connection. They give their slots back in the same way: a stop that takes its ten seconds holds up no other
// object's call.
package calls

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// Lane is the priority of a read: a lower one goes first.
type Lane int

// The lanes.
const (
	Intent Lane = iota // what a user's wish waits for
	Live               // an event
	Retry              // a second try after a failure
	Sync               // the first pass of a session
	Audit              // the periodic comparison
	lanes
)

// Bounds of the scheduler.
const (
	readers    = 4
	changers   = 32
	maxOverdue = 32
	// maxLong are calls that change something and take long, at most.
	maxLong      = 1024
	overdueAfter = 250 * time.Millisecond
	slowDeadline = 10 * time.Second
	// Deadline of a call that names none.
	Deadline = 2 * time.Second
	// fairness: every n-th read is taken from the last lane that waits, so that none starves.
	fairness = 16
)

// Key names the object a call is about.
type Key struct{ Kind, ID string }

// Call is one call to the engine.
type Call struct {
	Key  Key
	Lane Lane
	// Name of the effect, e.g. "inspect": for the test hooks.
	Name string
	// Actor is the path of the owner: for the test hooks.
	Actor string
	// Changes marks a call that changes the engine.
	Changes bool
	// Deadline of the call; 0 = Deadline.
	Deadline time.Duration
	// Epoch, when not 0, is the only session in which the call may be made: in another one the same name may be another object.
	Epoch uint64
	// Do makes the call. Nil: it only waits for its turn, with Changes until no call of before is under way.
	Do func(ctx context.Context, e dockerio.Engine) (any, error)
	// Done gets the outcome, once, on a goroutine of the scheduler: it may only send a message.
	Done func(Outcome)
}

// Outcome of a call.
type Outcome struct {
	Value any
	Err   error
	// Epoch of the session it was made in; 0 when there was none.
	Epoch uint64
	// Seq was taken when the request started: what started later is newer.
	Seq uint64
	// Panic is set when Do panicked.
	Panic *kit.Crashed
}

var sequence atomic.Uint64

// NextSeq is a moment in the order of all requests of the process.
func NextSeq() uint64 { return sequence.Add(1) }

type entry struct {
	Call
	released bool // no longer counts against its slots
	slow     bool

	// of the session it was started in
	engine dockerio.Engine
	epoch  uint64
	parent context.Context
}

// Scheduler of one engine's calls. The zero value is not usable: New.
type Scheduler struct {
	hooks *kit.Hooks
	// life is the context of calls that outlive their session; cancel ends it.
	life   context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	engine   dockerio.Engine
	epoch    uint64
	session  context.Context
	queues   [lanes][]*entry
	slowQ    []*entry
	changeQ  []*entry
	free     int
	slowBusy bool
	// changing are the objects with a call under way that changes them; changes of these calls hold a slot, long have given it back.
	changing map[Key]bool
	changes  int
	long     int
	// moved is closed and replaced when a call that changes something has ended, or the session has.
	moved   chan struct{}
	overdue int
	picks   int
	slowIDs map[Key]bool
}

// New makes a scheduler without an engine; hooks may be nil.
func New(hooks *kit.Hooks) *Scheduler {
	life, cancel := context.WithCancel(context.Background())
	return &Scheduler{hooks: hooks, life: life, cancel: cancel, free: readers, changing: map[Key]bool{}, moved: make(chan struct{}), slowIDs: map[Key]bool{}}
}

// Open makes the scheduler use engine: reads end with the session's context.
func (s *Scheduler) Open(session context.Context, epoch uint64, engine dockerio.Engine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.engine, s.epoch, s.session = engine, epoch, session
	clear(s.slowIDs)
	s.dispatch()
}

// Close takes the engine of that epoch away; a later one's stays. What waits fails as unreachable.
func (s *Scheduler) Close(epoch uint64) {
	s.mu.Lock()
	if s.epoch != epoch || s.engine == nil {
		s.mu.Unlock()
		return
	}
	s.engine, s.session = nil, nil
	var waiting []*entry
	for i := range s.queues {
		waiting = append(waiting, s.queues[i]...)
		s.queues[i] = nil
	}
	waiting = append(append(waiting, s.slowQ...), s.changeQ...)
	s.slowQ, s.changeQ = nil, nil
	s.move()
	s.mu.Unlock()
	for _, e := range waiting {
		e.Done(Outcome{Err: unreachable(e.Call), Epoch: epoch})
	}
}

// Quiet waits until no call can start any more and none that changes something is running, or ctx ends.
func (s *Scheduler) Quiet(ctx context.Context) {
	for {
		s.mu.Lock()
		quiet, moved := s.engine == nil && len(s.changing) == 0, s.moved
		s.mu.Unlock()
		if quiet {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

// Shutdown is the end of the house, after that of every session: calls under way that change something get until ctx ends, then they
// are cancelled and left to the journal, so that nothing of this process changes the engine any more.
func (s *Scheduler) Shutdown(ctx context.Context) {
	s.Quiet(ctx)
	s.cancel()
}

// move wakes who waits for quiet; s.mu is held.
func (s *Scheduler) move() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// ErrNoSession is in the chain of the error of a call that was never made.
var ErrNoSession = errors.New("no session with the engine")

func unreachable(c Call) error {
	return messages.WrapError(messages.CodeEngineUnreachable, c.Name, c.Key.Kind, c.Key.ID, ErrNoSession)
}

// Submit queues a call. Without a session, or the session it is for, it fails at once.
func (s *Scheduler) Submit(c Call) {
	s.mu.Lock()
	if s.engine == nil || c.Epoch != 0 && c.Epoch != s.epoch {
		s.mu.Unlock()
		c.Done(Outcome{Err: unreachable(c)})
		return
	}
	e := &entry{Call: c}
	switch {
	case c.Changes:
		s.changeQ = append(s.changeQ, e)
	case s.slowIDs[c.Key]:
		e.slow, e.Deadline = true, slowDeadline
		s.slowQ = append(s.slowQ, e)
	default:
		s.queues[c.Lane] = append(s.queues[c.Lane], e)
	}
	s.dispatch()
	s.mu.Unlock()
}

// Waiting is how many calls are queued.
func (s *Scheduler) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.slowQ) + len(s.changeQ)
	for _, q := range s.queues {
		n += len(q)
	}
	return n
}

// dispatch starts what may start; s.mu is held.
func (s *Scheduler) dispatch() {
	if s.engine == nil {
		return
	}
	for s.free > 0 {
		e := s.next()
		if e == nil {
			break
		}
		s.free--
		s.start(e)
	}
	if !s.slowBusy && len(s.slowQ) > 0 {
		e := s.slowQ[0]
		s.slowQ = s.slowQ[1:]
		s.slowBusy = true
		s.start(e)
	}
	rest := s.changeQ[:0]
	for _, e := range s.changeQ {
		if s.changes < changers && !s.changing[e.Key] {
			s.changing[e.Key] = true
			s.changes++
			s.start(e)
		} else {
			rest = append(rest, e)
		}
	}
	s.changeQ = rest
}

// next takes the next read: by priority, now and then from the back.
func (s *Scheduler) next() *entry {
	s.picks++
	for i := range s.queues {
		lane := i
		if s.picks%fairness == 0 {
			lane = len(s.queues) - 1 - i
		}
		if q := s.queues[lane]; len(q) > 0 {
			e := q[0]
			q[0] = nil
			s.queues[lane] = q[1:]
			return e
		}
	}
	return nil
}

// start runs e on a goroutine of its own, and on the same one the reads that wait for its slot: a goroutine that has made a call
// has the stack for the next. s.mu is held.
func (s *Scheduler) start(e *entry) {
	s.begin(e)
	s.hooks.Go(e.Actor+"#"+e.Name, func() {
		for e != nil {
			e = s.make(e)
		}
	})
}

// begin gives e the present session; s.mu is held.
func (s *Scheduler) begin(e *entry) {
	e.engine, e.epoch, e.parent = s.engine, s.epoch, s.session
	if e.Changes {
		e.parent = s.life // outlives the session
	}
	if e.Deadline == 0 {
		e.Deadline = Deadline
	}
}

// make makes a call and says which is next for this goroutine.
func (s *Scheduler) make(e *entry) (next *entry) {
	ctx, cancel := context.WithTimeout(e.parent, e.Deadline)
	defer cancel()
	if !e.slow {
		t := time.AfterFunc(overdueAfter, func() { s.release(e) })
		defer t.Stop()
	}
	out := Outcome{Epoch: e.epoch, Seq: NextSeq()}
	s.do(ctx, e, &out)
	next = s.finish(e, out)
	e.Done(out)
	return next
}

// do makes the call and turns a panic into an outcome.
func (s *Scheduler) do(ctx context.Context, e *entry, out *Outcome) {
	defer func() {
		if v := recover(); v != nil {
			out.Panic = &kit.Crashed{Name: e.Name, Value: v, Stack: string(debug.Stack())}
		}
	}()
	if e.Do == nil {
		return
	}
	s.hooks.Effect(e.Actor, e.Name)
	if e.Changes {
		s.hooks.Point(kit.PointEngine)
	}
	out.Value, out.Err = e.Do(ctx, e.engine)
	s.hooks.Resume(e.Actor, e.Name)
	if e.Changes {
		s.hooks.Point(kit.PointEngineAfter)
	}
}

// release gives the slot of an overdue call back while it goes on.
func (s *Scheduler) release(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case e.released:
		return
	case e.Changes && s.long < maxLong:
		s.long++
		s.changes--
	case !e.Changes && s.overdue < maxOverdue:
		s.overdue++
		s.free++
	default:
		return
	}
	e.released = true
	s.dispatch()
}

// finish gives e's slot back, or to the next read, which the caller has to make then.
func (s *Scheduler) finish(e *entry, out Outcome) (next *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case e.Changes:
		delete(s.changing, e.Key)
		if e.released {
			s.long--
		} else {
			e.released = true
			s.changes--
		}
		s.move()
	case e.slow:
		s.slowBusy = false
	case e.released:
		s.overdue--
	default:
		e.released = true // a timer that fires now must not give the slot back twice
		s.free++
	}
	if !e.Changes && out.Epoch == s.epoch {
		if IsTimeout(out.Err) {
			s.slowIDs[e.Key] = true
		} else {
			delete(s.slowIDs, e.Key)
		}
	}
	if s.hooks == nil && s.engine != nil && s.free > 0 { // a test's hooks are told of each call as a work of its own
		if next = s.next(); next != nil {
			s.free--
			s.begin(next)
		}
	}
	s.dispatch()
	return next
}

// IsTimeout reports whether a call ran into its deadline.
func IsTimeout(err error) bool {
	return err != nil && messages.AsError(err).Code == messages.CodeTimeout
}

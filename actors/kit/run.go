package kit

import (
	"context"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

var tokens atomic.Uint64

// Token is a number no one else in this process gets.
func Token() uint64 { return tokens.Add(1) }

// stamped is a message of an incarnation to itself. Another incarnation drops it before it looks at anything else.
type stamped struct {
	inc   uint64
	timer *timer
	msg   any
}

// life is what an incarnation has running: cancelled when it fails, stops or is restarted.
type life struct {
	mu     sync.Mutex
	timers []*timer
	ctx    context.Context
	cancel context.CancelFunc
}

type timer struct{ t *time.Timer }

// take removes a timer and says whether it was there: neither cancelled nor fired before.
func (l *life) take(t *timer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.timers, t)
	if i < 0 {
		return false
	}
	l.timers = slices.Delete(l.timers, i, i+1)
	t.t.Stop()
	return true
}

func (l *life) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.timers {
		t.t.Stop()
	}
	l.timers = nil
	if l.cancel != nil {
		l.cancel()
	}
}

// Run does work off the mailbox, in a goroutine of its own. Its result comes back as a message to this incarnation; nil
// sends nothing. ctx ends after timeout (0 = no deadline), when the incarnation ends, and with the house. A panic in work is a
// failure of this actor, raised in its turn, with the goroutine's stack. name is for hooks and events.
//
// work must not touch c or the actor.
func (c *Context) Run(name string, timeout time.Duration, work func(ctx context.Context) any) {
	if c.s.over {
		return
	}
	l := c.s.living()
	if l.ctx == nil {
		l.ctx, l.cancel = context.WithCancel(c.House.ctx)
	}
	c.run(l.ctx, name, timeout, work)
}

// RunDetached is Run for a call that must not be broken off half-way: its context ends after timeout or with the house, not
// with the incarnation. The result still reaches this incarnation only.
func (c *Context) RunDetached(name string, timeout time.Duration, work func(ctx context.Context) any) {
	c.run(c.House.ctx, name, timeout, work)
}

// RunTelling is Run for work that has more to tell than its result: each message that it tells comes to this incarnation.
func (c *Context) RunTelling(name string, timeout time.Duration, work func(ctx context.Context, tell func(msg any)) any) {
	h, path, deliver := c.House, c.Path(), c.Deliver()
	tell := func(msg any) {
		h.Hooks.Resume(path, name)
		deliver(msg)
	}
	c.Run(name, timeout, func(ctx context.Context) any { return work(ctx, tell) })
}

func (c *Context) run(ctx context.Context, name string, timeout time.Duration, work func(ctx context.Context) any) {
	h, path, deliver := c.House, c.Path(), c.Deliver()
	cancel := context.CancelFunc(func() {})
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, timeout)
	}
	h.work.begin()
	h.Hooks.Go(path+"#"+name, func() {
		defer h.work.finish()
		defer cancel()
		defer func() {
			if v := recover(); v != nil {
				deliver(Crashed{Name: name, Value: v, Stack: string(debug.Stack())})
			}
		}()
		h.Hooks.Effect(path, name)
		result := work(ctx)
		h.Hooks.Resume(path, name)
		deliver(result)
	})
}

// Go is the one go statement of package actors, for the scheduler of calls and for Run; an actor uses Run. f must end, and must
// recover: there is nobody here to tell, so that a panic that leaves f ends the process. work names it to a test.
func (h *Hooks) Go(work string, f func()) {
	if h != nil && h.lab.Spawn != nil {
		h.lab.Spawn(work, f)
		return
	}
	go f()
}

// Resume is for work of that name for the actor at path that has waited, before anybody learns of what it waited for: a test may have it
// wait for its turn. It costs nothing without one.
func (h *Hooks) Resume(path, name string) {
	if h != nil && h.lab.resumes() {
		h.lab.Resume(path + "#" + name)
	}
}

// After sends msg to this incarnation after d. Once cancel has returned, in the actor's turn, msg does not come any more.
// Cancelled by itself when the incarnation ends.
func (c *Context) After(d time.Duration, msg any) (cancel func()) {
	if c.s.over {
		return func() {}
	}
	l, h, self, inc := c.s.living(), c.House, c.Self(), c.s.inc
	t := &timer{}
	l.mu.Lock()
	defer l.mu.Unlock()
	t.t = time.AfterFunc(d, func() { h.System.Root.Send(self, &stamped{inc: inc, timer: t, msg: msg}) })
	l.timers = append(l.timers, t)
	return func() { l.take(t) }
}

// Deliver gives a function that sends a message to this incarnation and no other. It may be called from any goroutine, any
// number of times; nil is not sent. Crashed (or a pointer to it) becomes the actor's failure.
func (c *Context) Deliver() func(msg any) {
	root, self, inc := c.House.System.Root, c.Self(), c.s.inc
	return func(msg any) { deliver(root, self, inc, msg) }
}

func deliver(root *actor.RootContext, to *actor.PID, inc uint64, msg any) {
	if p, ok := msg.(*Crashed); ok && p != nil {
		msg = *p
	}
	if msg != nil {
		root.Send(to, &stamped{inc: inc, msg: msg})
	}
}

// workers counts the goroutines of Run, so that a stop can wait for them.
type workers struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n falls to 0; nil = nobody waits
}

func (w *workers) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
}

func (w *workers) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n--
	if w.n == 0 && w.none != nil {
		close(w.none)
		w.none = nil
	}
}

// wait for no goroutine to be left; the number left when ctx ends.
func (w *workers) wait(ctx context.Context) int {
	w.mu.Lock()
	if w.n == 0 {
		w.mu.Unlock()
		return 0
	}
	if w.none == nil {
		w.none = make(chan struct{})
	}
	none := w.none
	w.mu.Unlock()
	select {
	case <-none:
		return 0
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

package supervisor

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/messages"
)

// WaitOptions say what Wait waits for, on which objects, for how long.
type WaitOptions struct {
	For      For
	Name     string // metadata, human, or id prefix; empty = all that match Selector
	Selector messages.Selector
	// UID, when set, is the one incarnation meant: another one is the end of it, not the same thing.
	UID string
	// Timeout as kubectl's: 0 checks once, negative is unlimited.
	Timeout time.Duration
	// Progress, if set, is told of every change seen.
	Progress func(messages.WatchEvent)
}

// Backoff of a wait whose connection is lost.
const (
	rewatchMin = 50 * time.Millisecond
	rewatchMax = time.Second
)

// Wait waits as "kubectl wait" does and returns the objects that met the condition (for a deletion: as they were last seen).
// With a Name it waits for that object, without one for each object that matched Selector at the start. It survives Gone, a
// lost edge connection and a daemon restart within its deadline. Errors: Timeout (details: the blocker), NotFound,
// TerminalFailure, BadRequest.
func (c *Client) Wait(ctx context.Context, kind string, o WaitOptions) ([]messages.Object, error) {
	k, err := kindOf(kind)
	if err != nil {
		return nil, err
	}
	if o.For.mode == forNothing {
		return nil, badFor("", "nothing to wait for")
	}
	if _, err := o.Selector.Compile(k); err != nil {
		return nil, err
	}
	w := &waiter{c: c, kind: k, o: o, once: o.Timeout == 0, byName: map[string]*target{}}
	limited := ctx
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	err = w.run(limited)
	switch {
	case err == nil:
		return w.results(), nil
	case ctx.Err() == nil && limited.Err() != nil, errors.Is(err, errNotMet):
		return nil, w.timeout()
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.Canceled):
		return nil, w.timeout()
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, err
}

// errNotMet ends a wait that only looks once.
var errNotMet = errors.New("condition not met")

// waiter is one Wait. Objects are judged when they are seen: every state of the daemon's history, not only the last one.
type waiter struct {
	c    *Client
	kind messages.Kind
	o    WaitOptions
	once bool

	targets []*target
	byName  map[string]*target // by metadata.name
	// started: the targets are known.
	started bool
	// boot of the daemon the targets were first seen in.
	boot uint64
	lost error
}

// target is one object waited for.
type target struct {
	// given is what the caller called it; empty for those found by selector.
	given string
	// name is its metadata.name; empty while there is no such object.
	name string
	uid  types.UID
	last messages.Object
	met  bool
}

func (w *waiter) run(ctx context.Context) error {
	backoff := rewatchMin
	for {
		err := w.session(ctx, func() { backoff = rewatchMin })
		switch {
		case err == nil || ctx.Err() != nil || w.once:
			return err
		case errors.Is(err, messages.ErrGone):
		case messages.ClassOf(err) == messages.ClassTransient && messages.AsError(err).Code != messages.CodeInternal:
			w.lost = err
		default:
			return err
		}
		if err := sleep(ctx, backoff/2+rand.N(backoff/2)); err != nil {
			return err
		}
		backoff = min(2*backoff, rewatchMax)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// session looks at everything once, then follows the changes; nil = all met.
func (w *waiter) session(ctx context.Context, alive func()) error {
	cursor, err := w.look(ctx)
	if err != nil {
		return err
	}
	alive()
	for {
		if w.done() {
			return nil
		}
		if w.once {
			return errNotMet
		}
		r := messages.NextRequest{Kind: w.kind.Name, Cursor: cursor}
		if len(w.targets) == 1 && w.targets[0].name != "" {
			r.Selector.Name = w.targets[0].name
		}
		batch, err := w.c.b.next(ctx, r)
		if err != nil {
			return err
		}
		w.lost = nil
		if batch.Since != cursor {
			continue
		}
		cursor = batch.Cursor
		absent := false
		for _, e := range batch.Events {
			if err := w.seen(e); err != nil {
				return err
			}
		}
		for _, t := range w.targets {
			absent = absent || t.name == "" && !t.met
		}
		// A name without an object may be a human name: only the daemon can tell whether something has it by now. A look is
		// also due when no target is known yet.
		if (absent || len(w.targets) == 0) && len(batch.Events) > 0 {
			if cursor, err = w.look(ctx); err != nil {
				return err
			}
		}
	}
}

func (w *waiter) done() bool {
	for _, t := range w.targets {
		if !t.met {
			return false
		}
	}
	return w.started && (len(w.targets) > 0 || w.o.For.mode != forCreate)
}

// look reads the present state: it finds the targets, or what became of them.
func (w *waiter) look(ctx context.Context) (cursor string, err error) {
	var selector messages.Selector
	if w.o.Name == "" && !w.started {
		selector = w.o.Selector
	}
	if w.o.Name != "" && len(w.targets) == 0 {
		w.targets = []*target{{given: w.o.Name, uid: types.UID(w.o.UID)}}
	}
	if len(w.targets) == 1 {
		// The version comes first: what changes between it and the answer is seen again, which is harmless.
		t := w.targets[0]
		name := t.name
		if name == "" {
			name = t.given
		}
		selector = messages.Selector{Name: name}
		l, err := w.c.list(ctx, w.kind, selector)
		if err != nil {
			return "", err
		}
		var o messages.Object
		if len(l.Items) == 1 {
			o = l.Items[0]
		} else if t.name == "" {
			o, err = ask(ctx, messages.GetRequest{Kind: w.kind.Name, Name: t.given}, w.c.b.get)
			if err != nil && !errors.Is(err, messages.ErrNotFound) {
				return "", err
			}
			if err != nil {
				o = nil
			}
		}
		return l.ResourceVersion, w.judgeLook(ctx, l.ResourceVersion, t, o)
	}
	l, err := w.c.list(ctx, w.kind, selector)
	if err != nil {
		return "", err
	}
	if !w.started || len(w.targets) == 0 {
		return l.ResourceVersion, w.begin(ctx, l)
	}
	found := make(map[string]messages.Object, len(l.Items))
	for _, o := range l.Items {
		found[o.GetName()] = o
	}
	for _, t := range w.targets {
		if err := w.judgeLook(ctx, l.ResourceVersion, t, found[t.name]); err != nil {
			return "", err
		}
	}
	return l.ResourceVersion, nil
}

// begin makes a target of each object the selector chose.
func (w *waiter) begin(ctx context.Context, l *List) error {
	m, err := w.o.Selector.Compile(w.kind)
	if err != nil {
		return err
	}
	for _, o := range l.Items {
		if m.Matches(o) {
			t := &target{name: o.GetName(), uid: types.UID(w.o.UID)}
			w.targets = append(w.targets, t)
			w.byName[t.name] = t
		}
	}
	if len(w.targets) == 0 && w.o.For.mode != forCreate && w.o.For.mode != forDelete {
		return messages.NewError(messages.CodeNotFound, "wait for", w.kind.Plural, "", "no matching resources found")
	}
	for _, o := range l.Items {
		if t := w.byName[o.GetName()]; t != nil {
			if err := w.judgeLook(ctx, l.ResourceVersion, t, o); err != nil {
				return err
			}
		}
	}
	w.start(l.ResourceVersion)
	return nil
}

func (w *waiter) start(version string) {
	if !w.started {
		w.started, w.boot = true, bootOf(version)
	}
}

func (w *waiter) results() []messages.Object {
	out := []messages.Object{}
	for _, t := range w.targets {
		if t.last != nil {
			out = append(out, copyOf(w.c, t.last))
		}
	}
	return out
}

func bootOf(version string) uint64 {
	v, _ := strconv.ParseUint(version, 10, 64)
	return v >> 40
}

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// judgeLook takes in what a look found of t; o is nil when there is no such object.
func (w *waiter) judgeLook(ctx context.Context, version string, t *target, o messages.Object) error {
	if t.met {
		return nil
	}
	first := !w.started
	if o == nil {
		if !first {
			if ok, err := w.absenceCounts(ctx, version); err != nil || !ok {
				return err
			}
		}
		w.start(version)
		switch {
		case w.o.For.mode == forDelete:
			t.met = true
		case w.o.For.mode == forCreate:
		case first, t.uid != "":
			return w.notFound(t)
		default: // as in kubectl, one that comes back may still meet it
			w.forget(t)
		}
		return nil
	}
	w.start(version)
	event := messages.Added
	if t.last != nil {
		event = messages.Modified
		if t.last.GetResourceVersion() == o.GetResourceVersion() {
			return nil
		}
	}
	t.name = o.GetName()
	w.byName[t.name] = t
	return w.judge(t, messages.WatchEvent{Type: event, Version: o.GetResourceVersion(), Object: o})
}

// absenceCounts: after a restart of the daemon the mirrors come back one by one; until its engine is connected again, a
// missing mirror says nothing about the object.
func (w *waiter) absenceCounts(ctx context.Context, version string) (bool, error) {
	if !w.kind.Mirrored || bootOf(version) == w.boot {
		return true, nil
	}
	for {
		o, err := ask(ctx, messages.GetRequest{Kind: messages.KindApp, Name: messages.AppName}, w.c.b.get)
		if err != nil && !errors.Is(err, messages.ErrNotFound) {
			return false, err
		}
		if err == nil {
			if c := messages.Condition(o, messages.ConditionContainerEngineReady); c != nil {
				if c.Status == metav1.ConditionTrue || c.Reason == messages.ReasonStopped || c.Reason == messages.ReasonNotApplicable {
					w.boot = bootOf(version)
					// What came back meanwhile is found by another look.
					return false, messages.NewError(messages.CodeGone, "", "", "", "the daemon was restarted: list again")
				}
			}
		}
		if err := sleep(ctx, rewatchMax/4); err != nil {
			return false, err
		}
	}
}

// seen takes in one change.
func (w *waiter) seen(e messages.WatchEvent) error {
	t := w.byName[e.Object.GetName()]
	if t == nil || t.met {
		return nil
	}
	return w.judge(t, e)
}

func (w *waiter) judge(t *target, e messages.WatchEvent) error {
	o := e.Object
	if e.Type == messages.Deleted {
		w.progress(e)
		if t.uid != "" && o.GetUID() != t.uid {
			return nil
		}
		t.last = o
		switch {
		case w.o.For.mode == forDelete:
			t.met = true
		case t.uid != "" && w.o.For.mode != forCreate:
			return w.notFound(t)
		default:
			w.forget(t)
		}
		return nil
	}
	switch {
	case t.uid == "" && w.o.For.mode == forDelete:
		t.uid = o.GetUID() // what is there now is what shall go
	case t.uid != "" && o.GetUID() != t.uid:
		w.progress(e)
		switch w.o.For.mode {
		case forDelete: // another one in its place: it is gone
			t.met = true
			return nil
		case forCreate:
			return nil
		}
		return w.notFound(t)
	}
	w.progress(e)
	t.last = o
	ok, err := w.o.For.met(o)
	if err != nil {
		return err
	}
	if t.met = ok; ok {
		return nil
	}
	if c := w.o.For.failed(o); c != nil {
		return terminal("wait for", w.kind.Name, w.label(t), c)
	}
	return nil
}

// forget goes back to the name the caller gave: a human name may come back on another object.
func (w *waiter) forget(t *target) {
	if t.given != "" && t.name != "" {
		delete(w.byName, t.name)
		t.name = ""
	}
}

func (w *waiter) progress(e messages.WatchEvent) {
	if w.o.Progress != nil {
		e.Object = copyOf(w.c, e.Object)
		w.o.Progress(e)
	}
}

func (w *waiter) label(t *target) string {
	if t.given != "" {
		return t.given
	}
	if t.last != nil {
		if names := w.kind.HumanNames(t.last); len(names) > 0 {
			return names[0]
		}
	}
	return t.name
}

func (w *waiter) notFound(t *target) error {
	why := "not found"
	if t.uid != "" {
		why = fmt.Sprintf("the one with uid %s is gone", t.uid)
	}
	return messages.NewError(messages.CodeNotFound, "wait for", w.kind.Name, w.label(t), why)
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

// timeout names the first target that is not met, and what it is blocked by.
func (w *waiter) timeout() error {
	message := "condition not met: "
	if !w.once {
		message = "timed out: "
	}
	e := messages.NewError(messages.CodeTimeout, "wait for", w.kind.Name, w.o.Name, message+w.o.For.String())
	e.Details = map[string]string{"for": w.o.For.String()}
	open := 0
	for _, t := range w.targets {
		if t.met {
			continue
		}
		if open++; open > 1 {
			continue
		}
		e.Name = w.label(t)
		if t.last == nil {
			e.Details["blocker"] = "there is no such object"
			continue
		}
		e.Details["name"], e.Details["uid"] = t.last.GetName(), string(t.last.GetUID())
		w.blocker(e, t.last)
	}
	if open > 1 {
		e.Details["open"] = strconv.Itoa(open)
		e.Message += fmt.Sprintf(" (and %d more)", open-1)
	}
	if w.lost != nil {
		e.Details["connection"] = w.lost.Error()
		e.Message += "; " + w.lost.Error()
	}
	return e
}

func (w *waiter) blocker(e *messages.Error, o messages.Object) {
	name := w.o.For.condition
	if w.o.For.mode == forDelete {
		name = messages.ConditionDeletionBlocked
	}
	c := messages.Condition(o, name)
	switch {
	case name == "":
		return
	case c == nil && w.o.For.mode == forCondition:
		e.Details["blocker"] = "there is no condition " + name
	case c == nil:
		return
	default:
		describe(e, c)
	}
	e.Message += ": " + e.Details["blocker"]
}

// describe puts a condition into an error's details.
func describe(e *messages.Error, c *metav1.Condition) {
	if e.Details == nil {
		e.Details = map[string]string{}
	}
	e.Details["condition"], e.Details["status"], e.Details["reason"] = c.Type, string(c.Status), c.Reason
	e.Details["message"], e.Details["since"] = c.Message, c.LastTransitionTime.UTC().Format(time.RFC3339)
	text := fmt.Sprintf("%s=%s, reason %s", c.Type, c.Status, c.Reason)
	if c.Message != "" {
		text += ": " + c.Message
	}
	e.Details["blocker"] = text
}

func terminal(verb, kind, name string, c *metav1.Condition) error {
	e := messages.NewError(messages.CodeTerminal, verb, kind, name, "")
	describe(e, c)
	e.Message = e.Details["blocker"]
	return e
}

func bootOf(version string) uint64 {
	v, _ := strconv.ParseUint(version, 10, 64)
	return v >> 40
}

// SettleOptions say what WaitSettled waits for.
type SettleOptions struct {
	// Generation of the App that must have settled; 0 = the one it has when first seen.
	Generation int64
	Timeout    time.Duration // 0 = unlimited
	// Progress, if set, is told of every change of the App.
	Progress func(*messages.App)
}

// WaitSettled waits until Settled=True with observedGeneration ≥ Generation; a terminal reason ends it at once
// (TerminalFailure). It survives what Wait survives. Errors: Timeout (details: the blocker), TerminalFailure.
func (c *Client) WaitSettled(ctx context.Context, o SettleOptions) (*messages.App, error) {
	limited := ctx
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	s := &settler{c: c, o: o}
	err := s.run(limited)
	switch {
	case err == nil:
		return copyOf(c, s.last), nil
	case ctx.Err() == nil && limited.Err() != nil, errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, s.timeout()
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, err
}

type settler struct {
	c    *Client
	o    SettleOptions
	last *messages.App
	lost error
}

func (s *settler) run(ctx context.Context) error {
	backoff := rewatchMin
	for {
		done, err := s.session(ctx, func() { backoff = rewatchMin })
		if done || ctx.Err() != nil {
			return err
		}
		if err != nil && messages.ClassOf(err) != messages.ClassTransient && !errors.Is(err, messages.ErrNotFound) {
			return err
		}
		if err != nil && !errors.Is(err, messages.ErrGone) {
			s.lost = err
		}
		if err := sleep(ctx, backoff/2+rand.N(backoff/2)); err != nil {
			return err
		}
		backoff = min(2*backoff, rewatchMax)
	}
}

func (s *settler) session(ctx context.Context, alive func()) (done bool, err error) {
	app, _ := messages.KindByName(messages.KindApp)
	selector := messages.Selector{Name: messages.AppName}
	l, err := s.c.list(ctx, app, selector)
	if err != nil {
		return false, err
	}
	alive()
	for _, o := range l.Items {
		if done, err := s.judge(o.(*messages.App)); done {
			return true, err
		}
	}
	cursor := l.ResourceVersion
	for {
		batch, err := s.c.b.next(ctx, messages.NextRequest{Kind: app.Name, Selector: selector, Cursor: cursor})
		if err != nil {
			return false, err
		}
		s.lost = nil
		if batch.Since != cursor {
			continue
		}
		cursor = batch.Cursor
		for _, e := range batch.Events {
			if a, ok := e.Object.(*messages.App); ok && e.Type != messages.Deleted {
				if done, err := s.judge(a); done {
					return true, err
				}
			}
		}
	}
}

func (s *settler) judge(a *messages.App) (done bool, err error) {
	if s.last != nil && s.last.ResourceVersion == a.ResourceVersion {
		return false, nil
	}
	s.last = a
	if s.o.Generation == 0 {
		s.o.Generation = a.Generation
	}
	if s.o.Progress != nil {
		s.o.Progress(copyOf(s.c, a))
	}
	settled := messages.Condition(a, messages.ConditionSettled)
	if settled != nil && settled.ObservedGeneration >= s.o.Generation && settled.Status == metav1.ConditionTrue {
		return true, nil
	}
	list := a.Conditions()
	for i := range list {
		// What is Unknown only says after whom.
		if c := &list[i]; c.ObservedGeneration >= s.o.Generation && c.Status != metav1.ConditionUnknown && messages.TerminalReason(c.Reason) {
			return true, terminal("settle", a.Kind, a.Name, c)
		}
	}
	return false, nil
}

func (s *settler) timeout() error {
	e := messages.NewError(messages.CodeTimeout, "settle", messages.KindApp, messages.AppName, fmt.Sprintf("not settled after %s", s.o.Timeout))
	e.Details = map[string]string{}
	if s.last != nil {
		e.Message += fmt.Sprintf(" (generation %d)", s.o.Generation)
		e.Details["generation"] = strconv.FormatInt(s.o.Generation, 10)
		if c := messages.Condition(s.last, messages.ConditionSettled); c != nil {
			describe(e, c)
			e.Message += ": " + e.Details["blocker"]
		}
	}
	if s.lost != nil {
		e.Details["connection"] = s.lost.Error()
		e.Message += "; " + s.lost.Error()
	}
	return e
}

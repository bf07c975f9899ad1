package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"

	"github.com/rdd-desktop/rdd/actors/calls"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// Delays of an intent.
const (
	intentRetryMin  = 500 * time.Millisecond
	intentRetryMax  = time.Minute
	enforceRetryMin = time.Second
	enforceRetryMax = 2 * time.Minute
	// calmAfter is how long Enforce must have had nothing to correct to begin with short delays again.
	calmAfter = 10 * time.Minute
	// actDeadline is of a call that takes no grace, and what a stop or restart gets besides its grace.
	actDeadline = 30 * time.Second
	// longestGrace stands for a container that is to be waited for without end.
	longestGrace = time.Hour
)

// will is a container's intent with the hands to carry it out: it turns messages into events, and performs effects. A container has
// one only from its first wish on; of the others there is nothing.
type will struct {
	o *object
	s intent
	// durable is the part of s that the journal has: what readers are shown of it.
	durable intent
	// recorded: the journal has a record; engineID is the engine it speaks of.
	recorded bool
	engineID string
	// proven: what was asked for before is no proof.
	proven uint64
	// saving is the commit in flight, offering that of an action that is being accepted.
	saving, offering *intentCommit
	// client gets the receipt of the action that is being accepted; acted wait for the store to have theirs.
	client *actor.PID
	acted  []*actor.PID
	// next is when spec.state is tried again.
	next time.Time
	// news: there is something to publish.
	news bool
}

// intentCommit is a record on its way to the journal.
type intentCommit struct {
	token uint64
	ops   []journal.Op
	s     intent
}

type (
	clockOutcome struct{ out calls.Outcome }
	fenceOutcome struct{ out calls.Outcome }
	actOutcome   struct {
		id  string
		out calls.Outcome
	}
	// intentOverdue: a restart of the journal has lost the commit.
	intentOverdue struct{ token uint64 }
	// askedAct waits until it is known what it meets.
	askedAct struct {
		ask    Act
		sender *actor.PID
	}
)

// wish gives the object its will. What it had before is what the resource and the journal tell.
func (o *object) wish(c *kit.Context) *will {
	if o.will == nil {
		o.will = &will{o: o, s: intent{Prefix: uuid.NewString(), Live: o.session.Epoch != 0}}
		o.will.demand(c)
	}
	return o.will
}

// syncIntent compares, at the end of each turn, spec as accepted with spec as acted on.
func (o *object) syncIntent(c *kit.Context) {
	if o.ops.act == nil || !o.ops.valid(o.id) || o.loading {
		return
	}
	t := o.targets.get(o.ops.name(o.id))
	if t == nil || t.want == nil {
		return
	}
	con := t.want.(*messages.Container)
	if o.will == nil {
		if con.Spec.State == messages.StateUnknown && con.Status.ObservedGeneration == con.Generation {
			return
		}
		o.wish(c)
	}
	w := o.will
	o.adoptSpec(c)
	if w.s.Generation != con.Generation {
		w.do(c, wrote{State: con.Spec.State, Policy: con.Spec.Policy, Generation: con.Generation})
		w.durable.Observed = max(w.durable.Observed, con.Status.ObservedGeneration)
		w.news = true
	}
	if t.rem.deleting() != w.s.Deleting && !w.s.Deleting {
		w.do(c, condemned{At: o.d.Now()})
	}
	if w.news {
		w.news = false
		o.publish(c, t, t.current())
	}
	if len(w.acted) > 0 && t.sent == 0 && !t.dropFirst && t.want == t.stored {
		for _, pid := range w.acted {
			c.ReplyTo(pid, Acted{Object: t.stored})
		}
		w.acted = nil
	}
}

// adoptSpec tells a new will what there is to begin with.
func (o *object) adoptSpec(c *kit.Context) {
	w := o.will
	if w.s.Generation != 0 {
		return
	}
	con := o.targets.get(o.ops.name(o.id)).want.(*messages.Container)
	w.do(c, adopted{State: con.Spec.State, Policy: con.Spec.Policy, Generation: con.Generation, Observed: con.Status.ObservedGeneration})
	w.do(c, recalled{Observed: w.s.Observed})
	w.durable.Observed = max(w.durable.Observed, con.Status.ObservedGeneration)
}

// recallIntent takes what the journal has of the container.
func (o *object) recallIntent(c *kit.Context, entries []journal.Entry) {
	for _, e := range entries {
		rec, err := journal.DecodeOperation(e)
		if err != nil {
			panic(fmt.Errorf("load operations of %s %q: %w", o.ops.kind.Name, o.id, err))
		}
		if rec.Owner != o.id {
			continue
		}
		w := o.wish(c)
		w.recorded, w.engineID = true, rec.EngineID
		w.do(c, recalled{Observed: rec.ObservedGeneration, Outcome: outcome(rec.Outcome), Why: rec.Why, Receipt: receiptOf(rec), Op: operationOf(rec)})
		w.durable = w.s
	}
}

// do applies an event and performs what follows.
func (w *will) do(c *kit.Context, e event) {
	was := w.s
	next, effects := w.s.apply(e)
	w.s = next
	if (was.Waiting || was.Stuck) && !next.Waiting && !next.Stuck {
		c.NotRetrying(w.o.id)
	}
	if was.Phase != next.Phase {
		c.House.Log.Debug("intent", "container", w.o.id, "was", was.Phase.String(), "is", next.Phase.String(), "verb", next.Op.Verb)
	}
	for _, eff := range effects {
		w.perform(c, eff)
	}
}

func (w *will) perform(c *kit.Context, eff effect) {
	o := w.o
	switch eff := eff.(type) {
	case look:
		w.demand(c)
	case save:
		w.saving = w.newCommit(c, w.s)
		w.saving.send(c)
	case readClock:
		deliver := c.Deliver()
		o.d.Calls.Submit(calls.Call{Key: w.key(), Lane: calls.Intent, Name: "clock", Actor: c.Path(),
			Do:   func(ctx context.Context, e dockerio.Engine) (any, error) { return e.Info(ctx) },
			Done: func(out calls.Outcome) { deliverOutcome(deliver, out, clockOutcome{out}) },
		})
	case act:
		w.call(c, eff.Op)
	case fence:
		deliver := c.Deliver()
		o.d.Calls.Submit(calls.Call{Key: w.key(), Name: "fence", Actor: c.Path(), Changes: true,
			Done: func(out calls.Outcome) { deliver(fenceOutcome{out}) },
		})
	case hold:
		c.After(eff.For, holdOver{})
	case scheduleIntent:
		wait := backoff(c, intentRetryMin, intentRetryMax, eff.Tries)
		if eff.Enforced {
			wait = backoff(c, enforceRetryMin, enforceRetryMax, eff.Tries)
		}
		c.After(wait, intentDue{Round: eff.Round})
		c.Retrying(o.id, "spec.state", eff.Tries, wait)
		w.next = o.d.Now().Add(wait)
	case scheduleCalm:
		c.After(calmAfter, calm(eff))
	case showIntent:
		w.news = true
	case tellSuperseded:
		tellSupersededIntent(c, o.ops.kind.Name, o.id, "action "+eff.Receipt.Verb+" ("+eff.Receipt.ID+")", "Superseded: "+eff.Why)
	}
}

// demand asks the engine: what was asked before is no proof.
func (w *will) demand(c *kit.Context) {
	w.proven = calls.NextSeq()
	w.o.lane = calls.Intent
	w.o.step(c, marked{})
}

func (w *will) key() calls.Key { return calls.Key{Kind: w.o.ops.kind.Name, ID: w.o.ops.name(w.o.id)} }

// call makes one call that changes the container. It outlives this incarnation, and the session.
func (w *will) call(c *kit.Context, op operation) {
	id, ops, deliver, deadline := w.o.id, w.o.ops, c.Deliver(), actDeadline
	if op.Verb == messages.ActionStop || op.Verb == messages.ActionRestart {
		deadline += op.Grace
	}
	w.o.d.Calls.Submit(calls.Call{Key: w.key(), Lane: calls.Intent, Name: op.Verb, Actor: c.Path(), Changes: true, Deadline: deadline,
		Do: func(ctx context.Context, e dockerio.Engine) (any, error) {
			return nil, ops.act(ctx, e, id, op.Verb, op.Grace)
		},
		Done: func(out calls.Outcome) { deliverOutcome(deliver, out, actOutcome{op.ID, out}) },
	})
}

// receive handles what only a will is told. It reports whether msg was that.
func (w *will) receive(c *kit.Context, msg any) bool {
	switch m := msg.(type) {
	case clockOutcome:
		info, _ := m.out.Value.(dockerio.Info)
		w.do(c, clockRead{Now: info.Now, NoSession: errors.Is(m.out.Err, calls.ErrNoSession)})
	case fenceOutcome:
		w.do(c, fenced{NoSession: errors.Is(m.out.Err, calls.ErrNoSession)})
	case actOutcome:
		w.do(c, calledOf(m))
	case holdOver, intentDue, calm:
		w.do(c, m)
	case intentOverdue:
		for _, commit := range []*intentCommit{w.saving, w.offering} {
			if commit != nil && commit.token == m.token {
				commit.send(c)
			}
		}
	default:
		return false
	}
	return true
}

func calledOf(m actOutcome) called {
	e := called{ID: m.id, OK: m.out.Err == nil}
	if m.out.Err != nil {
		err := messages.AsError(m.out.Err)
		e.Class, e.Message, e.NoSession = err.Class, err.Error(), errors.Is(m.out.Err, calls.ErrNoSession)
		e.Unsure = err.Code == messages.CodeTimeout || err.Code == messages.CodeEngineUnreachable
	}
	return e
}

// newCommit is the whole record of s, to be sent to the journal.
func (w *will) newCommit(c *kit.Context, s intent) *intentCommit {
	return &intentCommit{token: c.Token(), ops: []journal.Op{journal.PutOperation(w.record(s))}, s: s}
}

func (m *intentCommit) send(c *kit.Context) {
	c.Tell(control.Journal, journal.Commit{Token: m.token, Ops: m.ops})
	c.After(loadAgain, intentOverdue{token: m.token})
}

// committed takes the journal's answer. It reports whether it was one to this.
func (w *will) committed(c *kit.Context, m journal.Committed) bool {
	switch {
	case w.saving != nil && w.saving.token == m.Token:
		if m.Err == nil {
			w.durable, w.recorded = w.saving.s, true
		}
		w.saving = nil
		w.do(c, saved{OK: m.Err == nil, At: w.o.d.Now()})
	case w.offering != nil && w.offering.token == m.Token:
		w.offering = nil
		w.recorded = w.recorded || m.Err == nil
		w.accepted(c, m.Err)
	default:
		return false
	}
	return true
}

// accepted ends the acceptance of an action; its client is answered when the store has the receipt.
func (w *will) accepted(c *kit.Context, err error) {
	verb := w.s.Offer.Verb
	w.do(c, offerKept{OK: err == nil, Touched: err != nil && w.recorded})
	client := w.client
	w.client = nil
	if err != nil {
		c.ReplyTo(client, Acted{Err: w.o.actError(messages.CodeUnavailable, verb, "the journal could not take it; nothing has been done")})
		return
	}
	w.durable.Receipt = w.s.Receipt
	if client != nil {
		w.acted = append(w.acted, client)
	}
}

// offerAct makes an action of a request, and its record for the journal.
func (o *object) offerAct(c *kit.Context, m Act) *intentCommit {
	w := o.wish(c)
	o.adoptSpec(c)
	rec := receipt{ID: uuid.NewString(), Verb: m.Request.Action, State: messages.ActionPending, Grace: -1, Requested: o.d.Now()}
	if m.Request.Grace != nil {
		rec.Grace = m.Request.Grace.Duration
	}
	w.do(c, offered{rec})
	return w.newCommit(c, w.s)
}

func (o *object) actError(code messages.Code, verb, why string) error {
	return messages.NewError(code, verb, o.ops.kind.Name, o.id, why)
}

// refuseAct says why an action cannot be accepted, with that spec; t is the container's resource.
func (o *object) refuseAct(t *target, spec messages.ContainerSpec, m Act) error {
	r := m.Request
	valid := false
	for _, a := range messages.Actions() {
		valid = valid || a == r.Action
	}
	switch {
	case !valid:
		return o.actError(messages.CodeInvalid, "act on", fmt.Sprintf("action %q is unknown (valid: %s)", r.Action, strings.Join(messages.Actions(), ", ")))
	case r.Grace != nil && r.Grace.Duration < 0:
		return o.actError(messages.CodeInvalid, r.Action, fmt.Sprintf("grace %s is negative", r.Grace.Duration))
	case r.UID != "" && r.UID != t.stored.GetUID():
		return o.actError(messages.CodeConflict, r.Action, fmt.Sprintf("its uid is %s, not %s", t.stored.GetUID(), r.UID))
	case t.rem.Phase != noRemoval:
		return o.actError(messages.CodeConflict, r.Action, "it is being deleted")
	}
	if spec.Policy == messages.PolicyEnforce && opposes(r.Action, spec.State) {
		return o.actError(messages.CodeForbidden, r.Action,
			fmt.Sprintf("spec.policy is Enforce and spec.state %s: change spec instead", spec.State))
	}
	switch w := o.will; {
	case w == nil:
	case w.s.Offer.ID != "":
		return o.actError(messages.CodeConflict, r.Action, "another action is being accepted at this moment")
	case w.s.Receipt.pending() && w.s.Op.Action == w.s.Receipt.ID:
		return o.actError(messages.CodeConflict, r.Action,
			fmt.Sprintf("action %s (%s) is being carried out: try again when it has ended", w.s.Receipt.Verb, w.s.Receipt.ID))
	}
	return nil
}

// endIntent forgets everything: the container's resource goes. reason is why, if it is not the container's own end.
func (o *object) endIntent(c *kit.Context, reason string) {
	w := o.will
	if w == nil {
		return
	}
	why := "Superseded: the container is gone"
	if reason != "" {
		why = "Superseded/" + reason
	}
	tell := func(what string) {
		tellSupersededIntent(c, o.ops.kind.Name, o.id, what, why)
		if reason == messages.ReasonMirrorReset {
			c.Tell(o.ops.path, endedUndone{}) // counted
		}
	}
	if w.s.Receipt.pending() {
		tell("action " + w.s.Receipt.Verb + " (" + w.s.Receipt.ID + ")")
	}
	if w.s.open() {
		tell("spec.state=" + w.s.State)
	}
	for _, pid := range append(w.acted, w.client) {
		c.ReplyTo(pid, Acted{Err: o.actError(messages.CodeNotFound, "act on", "it went meanwhile")})
	}
	// A sweep has dropped all records, but for what was on its way.
	if w.saving != nil || w.s.Offer.ID != "" || w.recorded && reason != messages.ReasonMirrorReset {
		c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: []journal.Op{journal.DropOperation(o.ops.kind.Name, o.ops.name(o.id))}})
	}
	o.will = nil
}

// onlineIntent: there is a session. What another engine was to do is not this one's.
func (o *object) onlineIntent(c *kit.Context) {
	w := o.will
	switch {
	case w == nil:
	case w.engineID != "" && w.engineID != o.session.EngineID:
		o.endIntent(c, "IdentityChanged")
	default:
		w.engineID = o.session.EngineID
		w.do(c, online{})
	}
}

// tellSupersededIntent is the event of an intent that ended without being carried out.
func tellSupersededIntent(c *kit.Context, kind, name, what, why string) {
	c.House.Events.Add(messages.HouseEvent{Type: messages.EventSuperseded, Actor: c.Path(),
		Message: fmt.Sprintf("%s of %s %q: %s", what, strings.ToLower(kind), name, why)})
}

package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/actors/admission"
	"github.com/rdd-desktop/rdd/actors/calls"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// replay decides on the records left once the object is known: identity tells what this process has not seen itself.
func (o *owner) replayRecords(c *kit.Context, identity string) {
	for name, rec := range inOrder(o.records) {
		delete(o.records, name)
		t := o.targets.get(name)
		if t == nil || rec.Done || identity == "" || rec.Identity != identity {
			o.supersede(c, name, messages.ReasonIdentityChanged)
			continue
		}
		t.replay, t.deletedAt = &rec, &metav1.Time{Time: rec.Asked}
		o.removal(c, t, replayed{})
	}
}

// supersede ends an accepted deletion that is not done, where everybody can see it: not deleting wins.
func (o *owner) supersede(c *kit.Context, name, reason string) {
	sayUndone(c, "delete", o.ops.kind.Name, name, reason)
	if reason == messages.ReasonMirrorReset {
		c.Tell(o.ops.path, endedUndone{})
	}
	c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: []journal.Op{journal.DropDeletion(o.ops.kind.Name, name)}})
}

// sayUndone is the event of an accepted wish that ends without having been carried out.
func sayUndone(c *kit.Context, verb, kind, name, reason string) {
	c.House.Events.Add(messages.HouseEvent{Type: messages.EventSuperseded, Actor: c.Path(),
		Message: fmt.Sprintf("%s %s %q: %s/%s: %s", verb, kind, name, messages.ReasonSuperseded, reason, superseding(reason))})
}

func superseding(reason string) string {
	if reason == messages.ReasonMirrorReset {
		return "the mirror was reset before it was done"
	}
	return "what the engine has now cannot be proved to be what it was asked for"
}

// askDelete is a client's request: precondition, journal, store, reply.
func (o *owner) askDelete(c *kit.Context, m Delete, sender *actor.PID) {
	t := o.targets.get(m.Name)
	switch {
	case t != nil && t.sent != 0 && (t.stored == nil || t.dropFirst):
		t.early = append(t.early, earlyDelete{m, sender}) // what is stored next, and readers may see it before the owner is told
		return
	case t == nil || t.stored == nil:
		c.ReplyTo(sender, o.deleteNotFound(m.Name))
		return
	case m.UID != "" && types.UID(m.UID) != t.stored.GetUID():
		c.ReplyTo(sender, Deleted{Err: messages.NewError(messages.CodeConflict, "delete", o.ops.kind.Name, m.Name,
			fmt.Sprintf("its uid is %s, not %s", t.stored.GetUID(), m.UID))})
		return
	case m.Detach:
		o.askDetach(c, t, sender)
		return
	case t.rem.deleting():
		t.replying = append(t.replying, sender)
		o.flush(c, t)
		return
	}
	t.asked = append(t.asked, sender)
	o.removal(c, t, deleteAsked{})
}

func (o *owner) deleteNotFound(name string) Deleted {
	return Deleted{Err: messages.NewError(messages.CodeNotFound, "delete", o.ops.kind.Name, name, "not found")}
}

// removal applies an event to t's deletion and performs what follows.
func (o *owner) removal(c *kit.Context, t *target, e event) {
	next, effects := t.rem.apply(e)
	if t.rem.Phase == blocked && next.Phase != blocked {
		c.NotRetrying(t.name)
	}
	t.rem = next
	for _, eff := range effects {
		o.performRemoval(c, t, eff)
	}
}

func (o *owner) performRemoval(c *kit.Context, t *target, eff effect) {
	switch eff := eff.(type) {
	case record:
		o.recordDeletion(c, t)
	case reject:
		why := "the journal could not take it; nothing has been done"
		if eff.Reason != "" {
			why = superseding(eff.Reason) + "; nothing has been done"
			o.dropRecord(c, t)
		}
		for _, pid := range t.asked {
			c.ReplyTo(pid, Deleted{Err: messages.NewError(messages.CodeUnavailable, "delete", o.ops.kind.Name, t.name, why)})
		}
		t.asked, t.deletedAt = nil, nil
	case showDeleting:
		o.showDeletion(c, t)
		t.replying, t.asked = append(t.replying, t.asked...), nil
		o.flush(c, t)
	case callRemove:
		o.callRemove(c, t)
	case scheduleRemove:
		limit := removeRetryMax
		if t.rem.Reason == messages.ReasonInUse && len(t.blockers) > 0 {
			limit = removeInUseMax
		}
		wait := backoff(c, removeRetryMin, limit, eff.Tries)
		t.cancelRetry() // it was tried before its time
		t.retry = c.After(wait, removeDueFor{name: t.name})
		c.Retrying(t.name, "remove", eff.Tries, wait)
	case watchBlockers:
		t.watching = true
		o.watch(c)
	case finishRemoval:
		o.finishRemoval(c, t)
	case supersede:
		o.supersede(c, t.name, eff.Reason)
	case leave:
		o.leave(c, t)
	case forgetIt:
		o.forget(c, t, eff.Reason)
	}
}

func (o *owner) recordDeletion(c *kit.Context, t *target) {
	if t.deletedAt == nil {
		t.deletedAt = &metav1.Time{Time: o.d.Now().UTC().Truncate(time.Second)}
	}
	token := c.Token()
	if o.commits == nil {
		o.commits = map[uint64]*target{}
	}
	o.commits[token] = t
	c.Tell(control.Journal, journal.Commit{Token: token, Ops: []journal.Op{journal.PutDeletion(o.deletionOf(t, t.stored))}})
	c.After(loadAgain, commitOverdue{token: token})
}

func (o *owner) deletionOf(t *target, obj messages.Object) journal.DeletionRecord {
	if t.proof == "" {
		t.proof = o.identify(obj)
	}
	t.noted = t.proof
	return journal.DeletionRecord{
		Kind: o.ops.kind.Name, Name: t.name, Owner: o.id, UID: obj.GetUID(), Asked: t.deletedAt.Time,
		Identity: t.proof, Created: obj.GetCreationTimestamp().Time,
	}
}

// commitOverdue: a restart of the journal has lost the commit.
type commitOverdue struct{ token uint64 }

func (o *owner) commitAgain(c *kit.Context, m commitOverdue) {
	if t := o.commits[m.token]; t != nil && t.stored != nil {
		delete(o.commits, m.token)
		o.recordDeletion(c, t)
	}
}

func (o *owner) committed(c *kit.Context, m journal.Committed) {
	if t := o.commits[m.Token]; t != nil {
		delete(o.commits, m.Token)
		o.removal(c, t, recorded{OK: m.Err == nil})
	}
	if t := o.changes[m.Token]; t != nil {
		o.writeCommitted(c, t, m.Err)
	}
	if d, open := o.detaches[m.Token]; open {
		delete(o.detaches, m.Token)
		o.detached(c, d, m.Err)
	}
}

// showDeletion publishes the deletionTimestamp, and DeletionBlocked with reason and users.
func (o *owner) showDeletion(c *kit.Context, t *target) {
	obj := t.current()
	if obj == nil {
		return
	}
	if t.rem.Reason != "" {
		message := t.rem.Message
		if t.rem.Reason == messages.ReasonInUse && len(t.blockers) > 0 {
			message = "in use by container " + strings.Join(t.blockers, ", ")
		}
		o.setCondition(obj, messages.ConditionDeletionBlocked, metav1.ConditionTrue, t.rem.Reason, message)
	}
	o.publish(c, t, obj)
}

func (o *owner) callRemove(c *kit.Context, t *target) {
	switch {
	case !o.ops.valid(o.id): // a skeleton: nothing in the engine to remove
		o.removal(c, t, callDone{OK: true})
		return
	case o.probe.doubtful():
		o.removal(c, t, callDone{Class: messages.ClassTransient, Message: "another object may have come under its name; it is being looked at"})
		return
	case o.d.Now().Sub(t.moved) < movedGrace:
		o.removal(c, t, callDone{Class: messages.ClassTransient,
			Message: "it is not as it was before; should it be another object, the engine's event that tells so is waited for"})
		return
	}
	ref, name, id, proof, ops, deliver := t.ref, t.name, o.id, t.proof, o.ops, c.Deliver()
	o.d.Calls.Submit(calls.Call{
		Key: calls.Key{Kind: ops.kind.Name, ID: name}, Lane: calls.Intent, Name: "remove", Actor: c.Path(), Changes: true,
		Deadline: removeDeadline, Epoch: o.session.Epoch,
		Do: func(ctx context.Context, e dockerio.Engine) (any, error) {
			return nil, ops.remove(ctx, e, id, ref, proof)
		},
		Done: func(out calls.Outcome) { deliverOutcome(deliver, out, removeOutcome{name: name, out: out}) },
	})
}

// prove compares what was seen just now with what a deletion after a gap was asked for. While nothing was missed, what is seen is
// what the resource stands for; where it moved, the word that it is another one may still be on its way.
func (o *owner) prove(c *kit.Context, t *target, identity string) {
	if t.rem.Prove {
		o.removal(c, t, proved{Same: identity != "" && identity == t.proof})
		return
	}
	moved := identity != t.proof
	if moved && t.proof != "" && o.ops.recreates {
		t.moved = o.d.Now()
	}
	t.proof = identity
	if identity != t.noted && t.rem.deleting() && t.rem.Phase != removed && t.stored != nil {
		// It was tagged anew, say: whoever reads the journal after us must know it by what it is now.
		c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: []journal.Op{journal.PutDeletion(o.deletionOf(t, t.stored))}})
	}
}

// deliverOutcome sends msg to the owner that asked, or the panic of the call, which then is the owner's own.
func deliverOutcome(deliver func(any), out calls.Outcome, msg any) {
	if out.Panic != nil {
		deliver(*out.Panic)
		return
	}
	deliver(msg)
}

func (o *owner) removeDone(c *kit.Context, m removeOutcome) {
	t := o.targets.get(m.name)
	if t == nil {
		return
	}
	e := callDone{OK: m.out.Err == nil}
	if m.out.Err != nil {
		err := messages.AsError(m.out.Err)
		e.Class, e.Message, e.NoSession = err.Class, err.Error(), errors.Is(m.out.Err, calls.ErrNoSession)
	}
	o.removal(c, t, e)
}

// finishRemoval: the engine's object is gone by our doing or by itself; so goes the record, and the resource unless somebody else
// holds it.
func (o *owner) finishRemoval(c *kit.Context, t *target) {
	o.unwatch(c, t)
	obj := t.current()
	if obj == nil || len(admission.Foreign(obj)) == 0 {
		o.dropRecord(c, t)
		o.forget(c, t, "")
		return
	}
	rec := o.deletionOf(t, obj)
	rec.Done = true
	c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: []journal.Op{journal.PutDeletion(rec)}})
	obj.SetConditions(leftBehind(obj, false, o.d.Now()))
	o.publish(c, t, obj)
}

// dropRecord ends an accepted deletion in the journal.
func (o *owner) dropRecord(c *kit.Context, t *target) {
	c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: []journal.Op{journal.DropDeletion(o.ops.kind.Name, t.name)}})
}

// forget ends the resource and everything known of its deletion.
func (o *owner) forget(c *kit.Context, t *target, reason string) {
	o.intents.ended(c, reason)
	o.endWrites(c, t)
	o.unwatch(c, t)
	c.NotRetrying(t.name)
	t.cancelRetry()
	t.rem, t.deletedAt, t.replay, t.proof, t.noted, t.moved = removal{Live: t.rem.Live}, nil, nil, "", "", time.Time{}
	t.replying, t.asked = append(t.replying, t.asked...), nil
	o.drop(c, t, reason)
}

// watch asks to be told of the users, each time anew: whoever keeps the index may have lost it.
func (o *owner) watch(c *kit.Context) {
	c.Tell(control.Containers, watchUsers{Ref: userRef{o.ops.kind.Name, o.id}, From: c.Path()})
}

// rewatch is watch for those that did before.
func (o *owner) rewatch(c *kit.Context) {
	for t := range o.targets.all() {
		if t.watching {
			o.watch(c)
			return
		}
	}
}

func (o *owner) unwatch(c *kit.Context, t *target) {
	if t.watching {
		t.watching, t.blockers = false, nil
		c.Tell(control.Containers, unwatchUsers{Ref: userRef{o.ops.kind.Name, o.id}, From: c.Path()})
	}
}

// usersChanged wakes what waits for them. The first word only names them: what went before it is left to the retry clock.
func (o *owner) usersChanged(c *kit.Context, m users) {
	for t := range o.targets.all() {
		if !t.watching || t.rem.Phase != blocked {
			continue
		}
		first := t.blockers == nil
		fewer := !first && len(m.Names) < len(t.blockers)
		t.blockers = append([]string{}, m.Names...)
		o.showDeletion(c, t)
		if fewer {
			o.removal(c, t, removeDue{})
		}
	}
}

// proving: a deletion waits for the object to be seen.
func (o *owner) proving() bool {
	for t := range o.targets.all() {
		if t.rem.Prove {
			return true
		}
	}
	return false
}

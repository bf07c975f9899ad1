package mirror

import (
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/admission"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
)

// sweep ends every mirror of the kind, each by its owner; what an owner cannot do in time is done for it. What a foreign finalizer
// holds stays, Terminating, and is not waited for.
func (f *family) sweep(c *kit.Context) {
	f.online, f.sweeping, f.away = false, true, nil
	// What is still on its way from the session before, a list or marks, is of mirrors that shall not be: it is of no epoch now.
	f.session.Epoch, f.listing, f.relist = 0, 0, false
	for _, names := range inOrder(f.open) {
		for _, name := range names {
			sayUndone(c, "delete", f.ops.kind.Name, name, messages.ReasonMirrorReset)
			f.superseded++
		}
	}
	f.open = map[string][]string{}
	f.extra.swept()
	for id, k := range inOrder(f.kids) {
		k.pending, k.held = nil, false
		switch {
		case k.quarantined != nil:
			f.sweepQuarantined(c, id, k)
		case !k.stopping:
			c.TellChild(id, sweepNow{})
		}
	}
	f.sweeps++
	c.After(sweepDeadline, sweepOverdue{sweep: f.sweeps})
	f.checkSwept(c)
}

// sweepQuarantined sweeps in the stead of an owner that only fails.
func (f *family) sweepQuarantined(c *kit.Context, id string, k *kid) {
	for _, a := range k.quarantined.asked {
		f.deletionRecorded(c, a, messages.NewError(messages.CodeUnavailable, "", "", "", superseding(messages.ReasonMirrorReset)+"; nothing has been done"))
		c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: []journal.Op{journal.DropDeletion(f.ops.kind.Name, a.object.GetName())}})
	}
	clear(k.quarantined.asked)
	if k.held = f.endAll(c, id, true); k.held {
		return
	}
	delete(f.kids, id)
	f.extra.ended(c, f, id)
}

// sweepRest ends the owners that did not.
func (f *family) sweepRest(c *kit.Context) {
	if !f.sweeping {
		return
	}
	for id, k := range inOrder(f.kids) {
		if k.stopping || k.held {
			continue
		}
		if k.held = f.endAll(c, id, true); !k.held {
			k.stopping = true
			c.StopChild(id)
		}
	}
	f.checkSwept(c)
}

func (f *family) checkSwept(c *kit.Context) {
	if !f.sweeping || len(f.writes) > 0 {
		return
	}
	for _, k := range f.kids {
		if !k.held {
			return
		}
	}
	f.sweeping = false
	f.first = firstPass{}
	c.Tell(control.Engine, Swept{Kind: f.ops.kind.Name, Superseded: f.superseded})
	f.label(c)
}

// endAll ends the resources of an owner in its stead; reset: it is a sweep, else the engine has no such object any more. It reports
// whether foreign finalizers hold any.
func (f *family) endAll(c *kit.Context, owner string, reset bool) (held bool) {
	for _, it := range f.d.Table.Load().OwnedBy(f.ops.kind.Name, owner) {
		reason, name := "", it.Object.GetName()
		ours := len(admission.Foreign(it.Object)) < len(it.Object.GetFinalizers())
		if reset {
			reason = messages.ReasonMirrorReset
			if ours && it.Object.GetDeletionTimestamp() != nil {
				sayUndone(c, "delete", f.ops.kind.Name, name, reason)
				f.superseded++
			}
		}
		if foreign(it.Object) {
			held = true
			if ours {
				obj := messages.DeepCopy(it.Object)
				obj.SetFinalizers(withFinalizer(obj.GetFinalizers(), false))
				if obj.GetDeletionTimestamp() == nil {
					obj.SetDeletionTimestamp(&metav1.Time{Time: f.d.Now().UTC().Truncate(time.Second)})
				}
				obj.SetConditions(leftBehind(obj, reset, f.d.Now()))
				f.putFor(c, owner, obj)
			}
			continue
		}
		f.removeFor(c, owner, name, reason)
	}
	return held
}

// sweep ends every resource without a word to the engine.
func (o *owner) sweep(c *kit.Context) {
	for name := range inOrder(o.records) {
		o.supersede(c, name, messages.ReasonMirrorReset)
	}
	o.records, o.objects, o.heldTold = nil, nil, false
	for t := range o.targets.all() {
		o.removal(c, t, ended{Held: t.want != nil && foreign(t.want)})
	}
	o.step(c, failed{NoSession: true}) // an answer that is still on its way is of nobody's interest
	o.finish(c)
}

// leave leaves a resource to those who hold it.
func (o *owner) leave(c *kit.Context, t *target) {
	if t.deletedAt == nil {
		t.deletedAt = &metav1.Time{Time: o.d.Now().UTC().Truncate(time.Second)}
	}
	o.unwatch(c, t)
	o.intents.ended(c, messages.ReasonMirrorReset)
	obj := t.current()
	obj.SetConditions(leftBehind(obj, true, o.d.Now()))
	o.publish(c, t, obj)
}

// letGo ends a resource that nobody holds any more, and looks what has come under its name meanwhile.
func (o *owner) letGo(c *kit.Context, t *target, last messages.Object) {
	reason := ""
	if s := messages.Condition(last, messages.ConditionSynced); s != nil && s.Reason == messages.ReasonMirrorReset {
		reason = s.Reason
	}
	o.dropRecord(c, t)
	o.forget(c, t, reason)
	if !o.probe.Live {
		o.finish(c)
		return
	}
	o.finishing = false
	o.lookAgain(c)
}

// tellHeld tells the supervisor that nothing is left to be done but by others.
func (o *owner) tellHeld(c *kit.Context) {
	for t := range o.targets.all() {
		if t.want != nil && t.rem.Phase != removed {
			return
		}
	}
	if !o.heldTold {
		o.heldTold = true
		c.Tell(o.ops.path, held{ID: o.id})
	}
}

// foreign reports whether somebody else's finalizer is on it.
func foreign(obj messages.Object) bool { return len(admission.Foreign(obj)) > 0 }

// leftBehind are the conditions of a resource that only foreign finalizers hold; reset: by a sweep.
func leftBehind(obj messages.Object, reset bool, now time.Time) []metav1.Condition {
	synced := metav1.Condition{Type: messages.ConditionSynced, Status: metav1.ConditionFalse, Reason: messages.ReasonNoEngineObject,
		Message: "the engine has no such object any more"}
	if reset {
		synced = metav1.Condition{Type: messages.ConditionSynced, Status: metav1.ConditionUnknown, Reason: messages.ReasonMirrorReset,
			Message: "the mirror was reset; this is what it was before"}
	}
	return messages.SetCondition(messages.SetCondition(obj.Conditions(), synced, now), holders(obj), now)
}

// holders is the condition that names the foreign finalizers.
func holders(obj messages.Object) metav1.Condition {
	return metav1.Condition{Type: messages.ConditionDeletionBlocked, Status: metav1.ConditionTrue, Reason: messages.ReasonForeignHolders,
		Message: "held by " + strings.Join(admission.Foreign(obj), ", ")}
}

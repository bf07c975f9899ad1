package mirror

import (
	"fmt"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/actors/admission"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

// maxWrites is how many writes may wait for one resource; one more is refused.
const maxWrites = 256

// write is a client's change on its way: admitted against the newest content, in the journal, in the store, answered. A resource has
// one on its way; the others wait.
type write struct {
	ask     Write
	sender  *actor.PID
	created bool
	// result is what admission made of it, record what the journal gets; ops go into the same transaction.
	result admission.Result
	record journal.ObjectRecord
	ops    []journal.Op
	// token of the commit, sent how often.
	token uint64
	sent  int
	// refused: the journal refused it, after a question without an answer that may have got through: what was before is committed
	// again.
	refused error
	// committed: the journal has it. carried: it is in a Put.
	committed, carried bool
}

// writeOverdue: a restart of the journal has lost the commit.
type writeOverdue struct{ token uint64 }

// intents is what an owner does with accepted writes beyond keeping them.
type intents interface {
	// accepting sees an admitted write before it is journalled: it may change what is to be published and what is recorded, adds
	// what goes into the same transaction, or refuses.
	accepting(c *kit.Context, t *target, w *write) ([]journal.Op, error)
	// accepted sees it when the journal has it, before it is published.
	accepted(c *kit.Context, t *target, w *write)
	// refused sees one that accepting let pass and the journal did not.
	refused(c *kit.Context, t *target, w *write, err error)
	// recall takes what the journal has in BucketOperations.
	recall(c *kit.Context, entries []journal.Entry)
	// stamp sets what the intent has to say in what is about to be published.
	stamp(content messages.Object)
	// ended: the resource goes; reason as told to watchers.
	ended(c *kit.Context, reason string)
}

// noIntents is of the kinds whose writes ask for nothing.
type noIntents struct{}

func (noIntents) accepting(_ *kit.Context, t *target, w *write) ([]journal.Op, error) {
	if w.result.Action == "" {
		return nil, nil
	}
	return nil, messages.NewError(messages.CodeUnsupported, w.result.Action, messages.KindContainer, t.name, "actions are not offered here")
}
func (noIntents) accepted(*kit.Context, *target, *write)       {}
func (noIntents) refused(*kit.Context, *target, *write, error) {}
func (noIntents) recall(*kit.Context, []journal.Entry)         {}
func (noIntents) stamp(messages.Object)                        {}
func (noIntents) ended(*kit.Context, string)                   {}

// askWrite is a client's request: admission, journal, store, reply.
func (o *owner) askWrite(c *kit.Context, m Write, sender *actor.PID) {
	t := o.targets.get(m.Name)
	switch {
	case t == nil:
		c.ReplyTo(sender, Written{Err: o.writeError(messages.CodeNotFound, m.Name, "not found")})
		return
	case len(t.writes) >= maxWrites:
		c.ReplyTo(sender, Written{Err: o.writeError(messages.CodeUnavailable, m.Name, fmt.Sprintf("%d changes wait already; try again", maxWrites))})
		return
	}
	t.writes = append(t.writes, &write{ask: m, sender: sender})
	o.nextWrite(c, t)
}

func (o *owner) writeError(code messages.Code, name, why string) error {
	return messages.NewError(code, "write", o.ops.kind.Name, name, why)
}

// nextWrite takes the oldest write that waits, when none is on its way and it is known what it meets.
func (o *owner) nextWrite(c *kit.Context, t *target) {
	for t.writing == nil && len(t.writes) > 0 && !o.loading && !t.dropFirst {
		w := t.writes[0]
		if t.want == nil {
			t.writes = t.writes[1:]
			if w.ask.Request.Create && !o.ops.valid(o.id) {
				o.consider(c, t, w, nil)
			} else {
				c.ReplyTo(w.sender, Written{Err: o.writeError(messages.CodeNotFound, w.ask.Request.Name, "not found")})
			}
			continue
		}
		it, ok := o.d.Table.Load().Get(o.key(t))
		if !ok {
			return // the first Put is on its way
		}
		t.writes = t.writes[1:]
		o.consider(c, t, w, it.Object)
	}
}

// consider admits a write, and journals it when it changes something; stored is what readers see, nil when there is none.
func (o *owner) consider(c *kit.Context, t *target, w *write, stored messages.Object) {
	reply, err := o.admit(c, t, w, stored)
	switch {
	case err != nil:
		c.ReplyTo(w.sender, Written{Err: err})
	case reply != nil:
		c.ReplyTo(w.sender, Written{Reply: reply})
	default:
		t.writing, w.token = w, c.Token()
		if o.changes == nil {
			o.changes = map[uint64]*target{}
		}
		o.changes[w.token] = t
		o.commitWrite(c, t)
	}
}

// admit gives the reply of a write that needs no commit, an error, or neither.
func (o *owner) admit(c *kit.Context, t *target, w *write, stored messages.Object) (*messages.WriteReply, error) {
	r := w.ask.Request
	var err error
	if stored == nil {
		w.created = true
		if w.result, err = admission.Create(o.ops.kind, o.skeletonOf(t), r); err == nil {
			// It has no engine object that would tell which incarnation it is.
			w.result.Object.SetUID(types.UID(uuid.NewString()))
			w.result.Object.SetCreationTimestamp(metav1.Time{Time: o.d.Now().UTC().Truncate(time.Second)})
		}
	} else {
		if _, open := o.objects[t.name]; open {
			return nil, o.writeError(messages.CodeUnavailable, r.Name,
				"what was written to it before is not proved to be of this object yet; try again")
		}
		newest := t.current()
		newest.SetUID(stored.GetUID())
		newest.SetResourceVersion(stored.GetResourceVersion())
		newest.SetCreationTimestamp(stored.GetCreationTimestamp())
		w.result, err = admission.Admit(o.ops.kind, newest, r)
	}
	switch {
	case err != nil:
		return nil, err
	case r.DryRun:
		return &messages.WriteReply{Object: w.result.Object, Changed: w.result.Changed, Created: w.created, Warnings: w.result.Warnings}, nil
	case !w.result.Changed && w.result.Action == "":
		return &messages.WriteReply{Object: stored, Warnings: w.result.Warnings}, nil
	}
	w.record = o.recordOf(t, w.result.Object)
	w.ops, err = o.intents.accepting(c, t, w)
	return nil, err
}

func (o *owner) commitWrite(c *kit.Context, t *target) {
	w := t.writing
	ops := append([]journal.Op{journal.PutObject(w.record)}, w.ops...)
	if w.refused != nil {
		ops = []journal.Op{journal.DropObject(o.ops.kind.Name, t.name)}
		if t.record != nil {
			ops[0] = journal.PutObject(*t.record)
		}
		for _, op := range w.ops {
			ops = append(ops, journal.Op{Bucket: op.Bucket, Key: op.Key})
		}
	}
	w.sent++
	c.Tell(control.Journal, journal.Commit{Token: w.token, Ops: ops})
	c.After(loadAgain, writeOverdue{token: w.token})
}

func (o *owner) writeAgain(c *kit.Context, m writeOverdue) {
	if t := o.changes[m.token]; t != nil {
		o.commitWrite(c, t)
	}
}

// writeCommitted takes the journal's answer.
func (o *owner) writeCommitted(c *kit.Context, t *target, err error) {
	w := t.writing
	switch {
	case err != nil && w.refused != nil:
		return // writeOverdue tries again: until it is through, it is not known what the journal has
	case err != nil && w.sent > 1:
		delete(o.changes, w.token)
		w.refused, w.token = err, c.Token()
		o.changes[w.token] = t
		o.commitWrite(c, t)
		return
	case err == nil && w.refused != nil:
		err = w.refused
	}
	delete(o.changes, w.token)
	if err != nil {
		t.writing = nil
		e := messages.WrapError(messages.CodeUnavailable, "write", o.ops.kind.Name, t.name, err)
		e.Message = "not accepted, nothing has changed"
		c.ReplyTo(w.sender, Written{Err: e})
		o.intents.refused(c, t, w, err)
		if w.created {
			o.forget(c, t, "")
			o.finish(c)
		}
		o.nextWrite(c, t)
		return
	}
	w.committed, t.record = true, &w.record
	content := t.current()
	if w.created {
		content = w.result.Object
	}
	restore(content, w.record)
	if t.rem.Phase == removed && len(w.record.Finalizers) > 0 {
		o.setCondition(content, messages.ConditionDeletionBlocked, metav1.ConditionTrue, messages.ReasonForeignHolders,
			"held by "+strings.Join(w.record.Finalizers, ", "))
	}
	if t.rem.Phase == removed && len(w.record.Finalizers) == 0 { // nobody holds it any more
		t.writing = nil
		c.ReplyTo(w.sender, Written{Reply: &messages.WriteReply{Object: w.result.Object, Changed: true, Warnings: w.result.Warnings}})
		o.letGo(c, t, content)
		return
	}
	o.intents.accepted(c, t, w)
	o.publish(c, t, content)
}

// answerWrite tells the one whose write is stored.
func (o *owner) answerWrite(c *kit.Context, t *target) {
	w := t.writing
	if w == nil || !w.committed {
		return
	}
	t.writing = nil
	c.ReplyTo(w.sender, Written{Reply: &messages.WriteReply{
		Object: t.stored, Changed: w.result.Changed, Created: w.created, Warnings: w.result.Warnings,
	}})
}

// endWrites refuses what waits for a resource that is gone, and takes what was written out of the journal.
func (o *owner) endWrites(c *kit.Context, t *target) {
	writes := t.writes
	drop := t.record != nil
	if w := t.writing; w != nil {
		delete(o.changes, w.token)
		writes, drop = append([]*write{w}, writes...), true
	}
	for _, w := range writes {
		c.ReplyTo(w.sender, Written{Err: o.writeError(messages.CodeNotFound, t.name, "it went meanwhile")})
	}
	t.writes, t.writing, t.record = nil, nil, nil
	if drop {
		c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: []journal.Op{journal.DropObject(o.ops.kind.Name, t.name)}})
	}
}

// restarting tells those whose writes this incarnation will not answer.
func (o *owner) restarting(c *kit.Context) {
	for t := range o.targets.all() {
		if w := t.writing; w != nil {
			c.ReplyTo(w.sender, Written{Err: o.writeError(messages.CodeUnavailable, t.name, "its actor was restarted before it knew whether the change is accepted: read it again")})
		}
		for _, w := range t.writes {
			c.ReplyTo(w.sender, Written{Err: o.writeError(messages.CodeUnavailable, t.name, "its actor was restarted, nothing has changed; try again")})
		}
	}
}

// askDetach forgets the mirror and leaves the engine object alone.
func (o *owner) askDetach(c *kit.Context, t *target, sender *actor.PID) {
	if t.rem.Phase == calling {
		c.ReplyTo(sender, Deleted{Err: messages.NewError(messages.CodeConflict, "detach", o.ops.kind.Name, t.name,
			"the engine is removing it at this moment")})
		return
	}
	token := c.Token()
	if o.detaches == nil {
		o.detaches = map[uint64]detach{}
	}
	o.detaches[token] = detach{t, sender}
	c.Tell(control.Journal, journal.Commit{Token: token, Ops: []journal.Op{
		journal.DropDeletion(o.ops.kind.Name, t.name), journal.DropObject(o.ops.kind.Name, t.name), journal.DropOperation(o.ops.kind.Name, t.name),
	}})
	c.After(loadAgain, detachOverdue{token: token})
}

type (
	detach struct {
		t      *target
		sender *actor.PID
	}
	// detachOverdue: a restart of the journal has lost the commit.
	detachOverdue struct{ token uint64 }
)

func (o *owner) detached(c *kit.Context, d detach, err error) {
	t := d.t
	switch {
	case err != nil:
		c.ReplyTo(d.sender, Deleted{Err: messages.NewError(messages.CodeUnavailable, "detach", o.ops.kind.Name, t.name,
			"the journal could not take it; nothing has been done")})
	case t.want == nil || o.targets.get(t.name) != t:
		c.ReplyTo(d.sender, o.deleteNotFound(t.name))
	default:
		t.replying = append(t.replying, d.sender)
		o.forget(c, t, "")
		o.lookAgain(c)
	}
}

// lookAgain has what the engine has now published, or nothing.
func (o *owner) lookAgain(c *kit.Context) {
	if !o.ops.valid(o.id) {
		o.finish(c)
		return
	}
	o.finishing = false // the answer tells
	if o.ops.listOnly {
		c.Tell(o.ops.path, relist{})
	}
	o.step(c, marked{})
}

// namespace is the metadata.namespace of resources; before the first session that of the App.
func (o *owner) namespace() string {
	if o.session.Namespace != "" {
		return o.session.Namespace
	}
	if it, ok := o.d.Table.Load().Get(store.Key{Kind: messages.KindApp, Name: messages.AppName}); ok {
		return it.Object.(*messages.App).Spec.Namespace
	}
	return messages.DefaultNamespace
}

// skeletonOf is a resource without an engine object, before a client's words.
func (o *owner) skeletonOf(t *target) messages.Object {
	obj := o.ops.kind.New()
	obj.SetName(t.name)
	obj.SetNamespace(o.namespace())
	if con, ok := obj.(*messages.Container); ok {
		con.Spec = messages.ContainerSpec{State: messages.StateUnknown, Policy: messages.PolicyOnce}
		con.Generation = 1
	}
	o.setCondition(obj, messages.ConditionSynced, metav1.ConditionFalse, messages.ReasonNoEngineObject, "a client made it; the engine has no such object")
	obj.SetFinalizers([]string{messages.Finalizer})
	return obj
}

// gone: the engine has no such object any more. What is being deleted has got what was asked for; what others hold begins to be
// deleted, and waits for them; the rest goes.
func (o *owner) gone(c *kit.Context, t *target) {
	switch {
	case t.rem.asked() || t.rem.Phase == removed:
		o.removal(c, t, objectGone{})
	case t.want != nil && foreign(t.want):
		t.deletedAt = &metav1.Time{Time: o.d.Now().UTC().Truncate(time.Second)}
		o.removal(c, t, orphaned{})
	default:
		o.forget(c, t, "")
	}
}

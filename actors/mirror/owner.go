package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/actors/calls"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// Delays of an owner.
const (
	putOverdueAfter = time.Second
	loadAgain       = 2 * time.Second
	creditEvery     = 50 * time.Millisecond
	probeRetryMin   = 250 * time.Millisecond
	probeRetryMax   = 30 * time.Second
	removeRetryMin  = 500 * time.Millisecond
	removeRetryMax  = time.Minute
	removeDeadline  = 30 * time.Second
)

// owner is what every object actor is made of: the write path and the deletion of each resource it owns. What it keeps is a
// cache: resources are in the store, accepted deletions in the journal.
type owner struct {
	d       *Deps
	ops     *kindOps
	id      string
	session Session
	// loading: the journal has not told its open records yet.
	loading bool
	records map[string]journal.DeletionRecord
	targets map[string]*target
	commits map[uint64]*target
	// finishing: nothing is left to own; the supervisor is told once the store knows.
	finishing bool
	// finished: the supervisor was told.
	finished bool
	// identify proves which engine object a resource stands for.
	identify func(messages.Object) string
}

// target is one resource: one write path, one deletion, one retry clock.
type target struct {
	name string // metadata.name
	ref  string // what the engine calls it
	// want is what shall be stored; nil = nothing. dropFirst: the stored incarnation ends before.
	want      messages.Object
	dropFirst bool
	reason    string
	stored    messages.Object
	// sent is the token of the Put or Remove in flight, 0 when none is.
	sent     uint64
	removing bool
	// rem is the deletion; asked wait for its acceptance.
	rem       removal
	deletedAt *metav1.Time
	asked     []*actor.PID
	replying  []*actor.PID
	// uid and created of a deletion replayed after a restart of the daemon.
	replay *journal.DeletionRecord
	// blockers are the users of the engine object while it is blocked; nil = not known.
	blockers []string
	watching bool
}

type (
	putOverdue struct {
		name  string
		token uint64
	}
	removeDueFor  struct{ name string }
	removeOutcome struct {
		name string
		out  calls.Outcome
	}
)

func newOwner(d *Deps, ops *kindOps, id string, load bool) owner {
	return owner{d: d, ops: ops, id: id, loading: load, targets: map[string]*target{}, commits: map[uint64]*target{}, identify: ops.identity}
}

// start re-reads the inputs: the owner's resources from the store, its open records from the journal.
func (o *owner) start(c *kit.Context) {
	for _, it := range o.d.Table.Load().OwnedBy(o.ops.kind.Name, o.id) {
		t := o.target(it.Object.GetName(), "")
		t.stored, t.want = it.Object, it.Object
	}
	if o.loading {
		askRecords(c, o.ops)
	}
}

// askRecords asks the journal for the kind's open deletions, and again when a restart of the journal has lost the question.
func askRecords(c *kit.Context, ops *kindOps) {
	c.Tell(control.Journal, journal.Load{Token: c.Token(), Bucket: journal.BucketDeletions, Prefix: ops.kind.Name + "/"})
	c.After(loadAgain, loadOverdue{})
}

// loadOverdue: the journal should have answered by now.
type loadOverdue struct{}

// loaded keeps the records until the engine has answered whether they still speak of the same object.
func (o *owner) loaded(c *kit.Context, m journal.Loaded) {
	if m.Err != nil || !o.loading {
		return // loadOverdue asks again
	}
	o.loading = false
	o.records = map[string]journal.DeletionRecord{}
	for _, e := range m.Entries {
		rec, err := journal.DecodeDeletion(e)
		if err != nil {
			panic(fmt.Errorf("load deletions of %s %q: %w", o.ops.kind.Name, o.id, err))
		}
		if rec.Owner != o.id {
			continue
		}
		o.records[rec.Name] = rec
		if t := o.targets[rec.Name]; t != nil && t.stored != nil && t.stored.GetUID() == rec.UID {
			delete(o.records, rec.Name) // the same incarnation, watched without a gap
			t.deletedAt = &metav1.Time{Time: rec.Asked}
			o.removal(c, t, replayed{})
		}
	}
}

// replay decides on the records left once the object is known: identity tells what this process has not seen itself.
func (o *owner) replayRecords(c *kit.Context, identity string) {
	for name, rec := range o.records {
		delete(o.records, name)
		t := o.targets[name]
		if t == nil || rec.Identity != identity {
			o.supersede(c, rec)
			continue
		}
		t.replay, t.deletedAt = &rec, &metav1.Time{Time: rec.Asked}
		o.removal(c, t, replayed{})
	}
}

// supersede ends a deletion whose object cannot be proved to be the one it was asked for: not deleting wins.
func (o *owner) supersede(c *kit.Context, rec journal.DeletionRecord) {
	c.House.Events.Add(messages.HouseEvent{Type: messages.EventSuperseded, Actor: c.Path(),
		Message: fmt.Sprintf("delete %s %q: Superseded/IdentityChanged: what the engine has now is not what it was asked for", rec.Kind, rec.Name)})
	c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: []journal.Op{journal.DropDeletion(rec.Kind, rec.Name)}})
}

func (o *owner) target(name, ref string) *target {
	t := o.targets[name]
	if t == nil {
		t = &target{name: name, rem: removal{Live: o.session.Epoch != 0}}
		o.targets[name] = t
	}
	if ref != "" {
		t.ref = ref
	}
	return t
}

func (o *owner) key(t *target) store.Key { return store.Key{Kind: o.ops.kind.Name, Name: t.name} }

// seed identifies an engine object for its uid.
func (o *owner) seed(t *target) string {
	return fmt.Sprintf("%s\x00%s\x00%d\x00%s\x00%s", o.d.Instance, o.session.EngineID, o.session.Sweep, o.ops.kind.Name, t.name)
}

// publish makes content what the store shall have for t. It reports whether that is news.
func (o *owner) publish(c *kit.Context, t *target, content messages.Object) bool {
	o.stamp(t, content)
	if t.want != nil && !t.dropFirst && equality.Semantic.DeepEqual(withoutVersion(t.want), withoutVersion(content)) {
		o.flush(c, t)
		return false
	}
	t.want = content
	o.flush(c, t)
	return true
}

// stamp sets the metadata that the owner decides.
func (o *owner) stamp(t *target, content messages.Object) {
	content.SetName(t.name)
	content.SetNamespace(o.session.Namespace)
	content.SetFinalizers(withFinalizer(content.GetFinalizers(), t.rem.Phase != removed))
	content.SetDeletionTimestamp(nil)
	if t.rem.deleting() {
		content.SetDeletionTimestamp(t.deletedAt)
	}
	if t.replay != nil && content.GetUID() == "" {
		content.SetUID(t.replay.UID)
		content.SetCreationTimestamp(metav1.Time{Time: t.replay.Created})
	}
}

func withFinalizer(list []string, ours bool) []string {
	out := slices.DeleteFunc(slices.Clone(list), func(f string) bool { return f == messages.Finalizer })
	if ours {
		out = append(out, messages.Finalizer)
	}
	return out
}

func withoutVersion(o messages.Object) messages.Object {
	cp := o.DeepCopyObject().(messages.Object)
	cp.SetResourceVersion("")
	cp.SetUID("")
	cp.SetCreationTimestamp(metav1.Time{})
	return cp
}

// drop ends the resource; reason is told to watchers (empty = the engine's object is gone).
func (o *owner) drop(c *kit.Context, t *target, reason string) {
	t.want, t.dropFirst, t.reason = nil, true, reason
	o.flush(c, t)
}

// flush sends the next step of t's write path, one at a time; what changed meanwhile goes with the next.
func (o *owner) flush(c *kit.Context, t *target) {
	if t.sent != 0 {
		return
	}
	switch {
	case t.dropFirst:
		t.sent, t.removing = c.Token(), true
		c.Tell(control.Store, store.Remove{Token: t.sent, Key: o.key(t), Reason: t.reason})
	case t.want != nil && t.want != t.stored:
		if t.stored != nil {
			t.want.SetUID(t.stored.GetUID())
			t.want.SetCreationTimestamp(t.stored.GetCreationTimestamp())
		}
		t.sent, t.removing = c.Token(), false
		c.Tell(control.Store, store.Put{Token: t.sent, Object: t.want, Owner: o.id, UIDSeed: o.seed(t)})
	default:
		o.answerAsked(t, c)
		return
	}
	c.After(putOverdueAfter, putOverdue{name: t.name, token: t.sent})
}

// answerAsked tells those who asked for the deletion what is stored now.
func (o *owner) answerAsked(t *target, c *kit.Context) {
	for _, pid := range t.replying {
		c.ReplyTo(pid, Deleted{Object: t.stored})
	}
	t.replying = nil
}

// writes handles the acknowledgements of the write path. It reports whether msg was one.
func (o *owner) writes(c *kit.Context, msg any) bool {
	switch m := msg.(type) {
	case store.PutDone:
		if t := o.targets[m.Key.Name]; t != nil && t.sent == m.Token {
			if m.Err != nil {
				return true // putOverdue sends it again
			}
			o.acked(c, t, m.Object)
		}
	case store.RemoveDone:
		if t := o.targets[m.Key.Name]; t != nil && t.sent == m.Token {
			last := t.stored
			t.sent, t.dropFirst, t.stored = 0, false, nil
			for _, pid := range t.replying {
				c.ReplyTo(pid, Deleted{Object: last})
			}
			t.replying = nil
			if t.want == nil {
				delete(o.targets, t.name)
			} else {
				t.want.SetUID("")
				t.want.SetCreationTimestamp(metav1.Time{})
				o.flush(c, t)
			}
		}
	case putOverdue:
		if t := o.targets[m.name]; t != nil && t.sent == m.token {
			t.sent = 0
			o.flush(c, t)
		}
	case loadOverdue:
		if o.loading {
			askRecords(c, o.ops)
		}
	case commitOverdue:
		o.commitAgain(c, m)
	default:
		return false
	}
	return true
}

func (o *owner) acked(c *kit.Context, t *target, stored messages.Object) {
	t.sent = 0
	same := t.want != nil && equality.Semantic.DeepEqual(withoutVersion(t.want), withoutVersion(stored))
	t.stored = stored
	if same {
		t.want = stored
	}
	o.flush(c, t)
}

// idle reports whether the store has acknowledged everything.
func (o *owner) idle() bool {
	for _, t := range o.targets {
		if t.sent != 0 || t.dropFirst {
			return false
		}
	}
	return true
}

// current is a copy of what t shall be, to be changed and published; nil when there is nothing.
func (t *target) current() messages.Object {
	if t.want == nil {
		return nil
	}
	return messages.DeepCopy(t.want)
}

// setCondition puts one condition into an object that is about to be published.
func (o *owner) setCondition(obj messages.Object, kind string, status metav1.ConditionStatus, reason, message string) {
	obj.SetConditions(messages.SetCondition(obj.Conditions(),
		metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}, o.d.Now()))
}

// degrade shows on every resource why the mirror may not be right.
func (o *owner) degrade(c *kit.Context, status metav1.ConditionStatus, reason, message string) {
	for _, t := range o.targets {
		if obj := t.current(); obj != nil {
			o.setCondition(obj, messages.ConditionSynced, status, reason, message)
			o.publish(c, t, obj)
		}
	}
}

// askDelete is a client's request: precondition, journal, store, reply.
func (o *owner) askDelete(c *kit.Context, m Delete) {
	t := o.targets[m.Name]
	sender := c.Sender()
	switch {
	case t == nil || t.stored == nil:
		c.ReplyTo(sender, Deleted{Err: messages.NewError(messages.CodeNotFound, "delete", o.ops.kind.Name, m.Name, "not found")})
		return
	case m.UID != "" && types.UID(m.UID) != t.stored.GetUID():
		c.ReplyTo(sender, Deleted{Err: messages.NewError(messages.CodeConflict, "delete", o.ops.kind.Name, m.Name,
			fmt.Sprintf("its uid is %s, not %s", t.stored.GetUID(), m.UID))})
		return
	case t.rem.deleting():
		t.replying = append(t.replying, sender)
		o.flush(c, t)
		return
	}
	t.asked = append(t.asked, sender)
	o.removal(c, t, deleteAsked{})
}

// removal applies an event to t's deletion and performs what follows.
func (o *owner) removal(c *kit.Context, t *target, e event) {
	next, effects := t.rem.apply(e)
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
		for _, pid := range t.asked {
			c.ReplyTo(pid, Deleted{Err: messages.NewError(messages.CodeUnavailable, "delete", o.ops.kind.Name, t.name,
				"the journal could not take it; nothing has been done")})
		}
		t.asked, t.deletedAt = nil, nil
	case showDeleting:
		o.showDeletion(c, t)
		t.replying, t.asked = append(t.replying, t.asked...), nil
		o.flush(c, t)
	case callRemove:
		o.callRemove(c, t)
	case scheduleRemove:
		c.After(backoff(c, removeRetryMin, removeRetryMax, eff.Tries), removeDueFor{name: t.name})
	case watchBlockers:
		// Each time anew: whoever keeps the index may have lost it.
		t.watching = true
		c.Tell(control.Containers, watchUsers{Ref: userRef{o.ops.kind.Name, o.id}, From: c.Path()})
	case finishRemoval:
		o.finishRemoval(c, t)
	}
}

func (o *owner) recordDeletion(c *kit.Context, t *target) {
	if t.deletedAt == nil {
		t.deletedAt = &metav1.Time{Time: o.d.Now().UTC().Truncate(time.Second)}
	}
	token := c.Token()
	o.commits[token] = t
	c.Tell(control.Journal, journal.Commit{Token: token, Ops: []journal.Op{journal.PutDeletion(journal.DeletionRecord{
		Kind: o.ops.kind.Name, Name: t.name, Owner: o.id, UID: t.stored.GetUID(), Asked: t.deletedAt.Time,
		Identity: o.identify(t.stored), Created: t.stored.GetCreationTimestamp().Time,
	})}})
	c.After(loadAgain, commitOverdue{token: token})
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
	if !o.ops.valid(o.id) { // a skeleton: nothing in the engine to remove
		o.removal(c, t, callDone{OK: true})
		return
	}
	ref, name, id, ops, deliver := t.ref, t.name, o.id, o.ops, c.Deliver()
	o.d.Calls.Submit(calls.Call{
		Key: calls.Key{Kind: ops.kind.Name, ID: name}, Lane: calls.Intent, Name: "remove", Actor: c.Path(), Changes: true,
		Deadline: removeDeadline,
		Do: func(ctx context.Context, e dockerio.Engine) (any, error) {
			return nil, ops.remove(ctx, e, id, ref)
		},
		Done: func(out calls.Outcome) { deliverOutcome(deliver, out, removeOutcome{name: name, out: out}) },
	})
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
	t := o.targets[m.name]
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
	c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: []journal.Op{journal.DropDeletion(o.ops.kind.Name, t.name)}})
	o.unwatch(c, t)
	if obj := t.current(); obj != nil && len(withFinalizer(obj.GetFinalizers(), false)) > 0 {
		obj.SetConditions(messages.RemoveCondition(obj.Conditions(), messages.ConditionDeletionBlocked))
		o.setCondition(obj, messages.ConditionDeletionBlocked, metav1.ConditionTrue, messages.ReasonForeignHolders,
			"held by "+strings.Join(withFinalizer(obj.GetFinalizers(), false), ", "))
		o.publish(c, t, obj)
		return
	}
	o.forget(c, t, "")
}

// forget ends the resource and everything known of its deletion.
func (o *owner) forget(c *kit.Context, t *target, reason string) {
	o.unwatch(c, t)
	t.rem, t.deletedAt, t.replay = removal{Live: t.rem.Live}, nil, nil
	t.replying, t.asked = append(t.replying, t.asked...), nil
	o.drop(c, t, reason)
}

func (o *owner) unwatch(c *kit.Context, t *target) {
	if t.watching {
		t.watching, t.blockers = false, nil
		c.Tell(control.Containers, unwatchUsers{Ref: userRef{o.ops.kind.Name, o.id}, From: c.Path()})
	}
}

// usersChanged wakes what waits for them. The first word only names them: what went before it is left to the retry clock.
func (o *owner) usersChanged(c *kit.Context, m users) {
	for _, t := range o.targets {
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

// sessions tells every deletion whether there is an engine to ask.
func (o *owner) online(c *kit.Context, s Session) {
	o.session = s
	for _, t := range o.targets {
		o.removal(c, t, online{})
	}
}

// sweep forgets every resource without a word to the engine.
func (o *owner) sweep(c *kit.Context) {
	for _, t := range o.targets {
		o.forget(c, t, messages.ReasonMirrorReset)
	}
	o.records = nil
	o.finish(c)
}

// finish tells the supervisor when the last resource is gone.
func (o *owner) finish(c *kit.Context) {
	o.finishing = true
	o.finishIfIdle(c)
}

func (o *owner) finishIfIdle(c *kit.Context) {
	if !o.finishing || o.loading || !o.idle() {
		return
	}
	for _, t := range o.targets {
		if t.want != nil {
			return // held by a foreign finalizer
		}
	}
	for name, rec := range o.records { // the engine has no such object: the wish is fulfilled
		delete(o.records, name)
		c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: []journal.Op{journal.DropDeletion(rec.Kind, rec.Name)}})
	}
	o.finishing, o.finished = false, true
	c.Tell(o.ops.path, finished{ID: o.id})
}

// backoff grows from lo by doubling to hi, with jitter over its upper half.
func backoff(c *kit.Context, lo, hi time.Duration, tries int) time.Duration {
	d := hi
	if tries < 20 {
		d = min(hi, lo<<max(0, tries-1))
	}
	return d/2 + time.Duration(c.House.Jitter()*float64(d/2))
}

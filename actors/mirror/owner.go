package mirror

import (
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/actors/calls"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

// Delays of an owner.
const (
	putOverdueAfter = time.Second
	loadAgain       = time.Second
	creditEvery     = 50 * time.Millisecond
	probeRetryMin   = 250 * time.Millisecond
	probeRetryMax   = 30 * time.Second
	removeRetryMin  = 500 * time.Millisecond
	removeRetryMax  = time.Minute
	removeInUseMax  = 30 * time.Minute // its users are known, and wake it when they go
	removeDeadline  = 30 * time.Second
	// movedGrace is how late an event may come that tells of another object under the same name. Its identity alone tells nothing: a
	// volume's moves when somebody writes into it.
	movedGrace = 2 * time.Second
)

// owner is what every object actor is made of: the write path and the deletion of each resource it owns. What it keeps is a
// cache: resources are in the store, accepted deletions in the journal.
type owner struct {
	d       *Deps
	ops     *kindOps
	id      string
	session Session
	probe   probe
	// earning is when the next credit of the probe is earned, zero when it has all; wake cancels the timer of it, which there is only
	// when an inspect waits for it: else it is booked at the next event.
	earning time.Time
	wake    func()
	// lane of the next inspect.
	lane calls.Lane
	// applied is the Seq of the newest answer applied: what started before is old.
	applied uint64
	// pass is the first pass that waits for an answer; passDue: it has one, and is told when the store has it too.
	pass    uint64
	passDue bool
	// loading: the journal has not told its open records yet.
	loading bool
	// inherited are the uids that were in the store when this incarnation began: only they prove that an open record speaks of
	// what is there now. A uid seen later proves nothing, since the same name gets the same uid in the next serve.
	inherited map[string]types.UID
	records   map[string]journal.DeletionRecord
	// objects are what was written before the daemon was restarted, until it is proved to be of what the engine has now.
	objects map[string]journal.ObjectRecord
	// got are the answers of the journal, by bucket, until all are here.
	got     map[string][]journal.Entry
	targets targets
	// commits are deletions on their way into the journal, changes writes, detaches mirrors to be forgotten; nil until there is one.
	commits  map[uint64]*target
	changes  map[uint64]*target
	detaches map[uint64]detach
	intents  intents
	// finishing: nothing is left to own; the supervisor is told once the store knows.
	finishing bool
	// finished: the supervisor was told. heldTold: that what is left is only held by others.
	finished, heldTold bool
	// identify proves which engine object a resource stands for; identified: the engine has told what that takes.
	identify   func(messages.Object) string
	identified func() bool
}

type (
	earlyDelete struct {
		asked  Delete
		sender *actor.PID
	}
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
	return owner{d: d, ops: ops, id: id, probe: newProbe(), lane: calls.Live, loading: load,
		identify: ops.identity, identified: func() bool { return true }, intents: noIntents{}}
}

// start re-reads the inputs: the owner's resources from the store, its open records from the journal.
func (o *owner) start(c *kit.Context) {
	for _, it := range o.d.Table.Load().OwnedBy(o.ops.kind.Name, o.id) {
		t := o.target(it.Object.GetName(), "")
		t.stored, t.want = it.Object, it.Object
		if gone := it.Object.GetDeletionTimestamp(); gone != nil && !slices.Contains(it.Object.GetFinalizers(), messages.Finalizer) {
			t.rem.Phase, t.deletedAt = removed, gone // held by others only
		}
		if o.inherited == nil {
			o.inherited = map[string]types.UID{}
		}
		o.inherited[t.name] = it.Object.GetUID()
	}
	if o.loading {
		askRecords(c, o.recordPrefix())
	}
}

func (o *owner) target(name, ref string) *target {
	t := o.targets.get(name)
	if t == nil {
		t = &target{name: name, rem: removal{Live: o.session.Epoch != 0 || !o.ops.valid(o.id)}}
		o.targets.add(t)
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
	if t.want != nil && !t.dropFirst && messages.SameContent(t.want, content) {
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
	content.SetNamespace(o.namespace())
	o.intents.stamp(content)
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

// drop ends the resource; reason is told to watchers (empty = the engine's object is gone).
func (o *owner) drop(c *kit.Context, t *target, reason string) {
	t.want, t.dropFirst, t.reason = nil, true, reason
	o.flush(c, t)
}

// flush sends the next step of t's write path, one at a time; what changed meanwhile goes with the next.
func (o *owner) flush(c *kit.Context, t *target) {
	if t.sent != 0 || t.held(o.loading) {
		return
	}
	switch {
	case t.dropFirst:
		t.sent, t.removing, t.sending = c.Token(), true, nil
		c.Tell(control.Store, store.Remove{Token: t.sent, Key: o.key(t), Reason: t.reason})
	case t.want != nil && t.want != t.stored:
		if t.stored != nil {
			t.identity(t.stored.GetUID(), t.stored.GetCreationTimestamp())
		}
		t.sent, t.removing, t.sending = c.Token(), false, t.want
		if t.writing != nil && t.writing.committed {
			t.writing.carried = true
		}
		c.Tell(control.Store, store.Put{Token: t.sent, Object: t.want, Owner: o.id, UIDSeed: o.seed(t)})
	default:
		o.answerAsked(t, c)
		o.answerWrite(c, t)
		return
	}
	t.overdue = c.After(putOverdueAfter, putOverdue{name: t.name, token: t.sent})
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
		if t := o.targets.get(m.Key.Name); t != nil && t.sent == m.Token {
			if m.Err != nil {
				return true // putOverdue sends it again
			}
			o.acked(c, t, m.Object)
		}
	case store.RemoveDone:
		if t := o.targets.get(m.Key.Name); t != nil && t.sent == m.Token {
			last := t.stored
			t.overdue()
			t.sent, t.dropFirst, t.stored = 0, false, nil
			for _, pid := range t.replying {
				c.ReplyTo(pid, Deleted{Object: last})
			}
			t.replying = nil
			if t.want == nil {
				for _, e := range t.early {
					c.ReplyTo(e.sender, o.deleteNotFound(t.name))
				}
				if o.nextWrite(c, t); t.writing == nil {
					o.targets.remove(t.name)
				}
			} else {
				t.identity("", metav1.Time{})
				o.flush(c, t)
			}
		}
	case putOverdue:
		if t := o.targets.get(m.name); t != nil && t.sent == m.token {
			t.sent = 0
			o.flush(c, t)
		}
	case loadOverdue:
		if o.loading {
			askRecords(c, o.recordPrefix())
		}
	case commitOverdue:
		o.commitAgain(c, m)
	case writeOverdue:
		o.writeAgain(c, m)
	case detachOverdue:
		if d, open := o.detaches[m.token]; open {
			delete(o.detaches, m.token)
			o.askDetach(c, d.t, d.sender)
		}
	default:
		return false
	}
	return true
}

func (o *owner) acked(c *kit.Context, t *target, stored messages.Object) {
	t.overdue()
	t.sent, t.overdue = 0, nil
	same := t.want != nil && (t.want == t.sending || messages.SameContent(t.want, stored))
	t.stored, t.sending = stored, nil
	if same {
		t.want = stored
	}
	if t.writing != nil && t.writing.carried {
		o.answerWrite(c, t)
	}
	o.flush(c, t)
	early := t.early
	t.early = nil
	for _, e := range early {
		o.askDelete(c, e.asked, e.sender)
	}
	o.nextWrite(c, t)
}

// idle reports whether the store has acknowledged everything.
func (o *owner) idle() bool {
	for t := range o.targets.all() {
		if t.sent != 0 || t.dropFirst || t.held(o.loading) {
			return false
		}
	}
	return true
}

// setCondition puts one condition into an object that is about to be published.
func (o *owner) setCondition(obj messages.Object, kind string, status metav1.ConditionStatus, reason, message string) {
	obj.SetConditions(messages.SetCondition(obj.Conditions(),
		metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}, o.d.Now()))
}

// degrade shows on every resource why the mirror may not be right.
func (o *owner) degrade(c *kit.Context, status metav1.ConditionStatus, reason, message string) {
	for t := range o.targets.all() {
		if obj := t.current(); obj != nil && t.rem.Phase != removed {
			o.setCondition(obj, messages.ConditionSynced, status, reason, message)
			o.publish(c, t, obj)
		}
	}
}

// online tells every deletion whether there is an engine to ask, and that what happened before it was not seen.
func (o *owner) online(c *kit.Context, s Session) {
	o.session = s
	for t := range o.targets.all() {
		o.removal(c, t, online{Prove: o.ops.ambiguous()})
	}
}

// finish tells the supervisor when the last resource is gone.
func (o *owner) finish(c *kit.Context) {
	o.finishing = true
	o.finishIfIdle(c)
}

func (o *owner) finishIfIdle(c *kit.Context) {
	if !o.finishing || o.loading || !o.idle() || o.probe.open() {
		return
	}
	for t := range o.targets.all() {
		if t.writing != nil {
			return // being made
		}
		if t.want != nil {
			o.tellHeld(c)
			return
		}
	}
	if o.heldOver(c) {
		return
	}
	for name, rec := range inOrder(o.records) { // the engine has no such object: the wish is fulfilled
		delete(o.records, name)
		c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: []journal.Op{journal.DropDeletion(rec.Kind, rec.Name)}})
	}
	o.intents.ended(c, "") // the journal may have told of it after the engine
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

// step books what credit was earned meanwhile and applies an event to the probe.
func (o *owner) step(c *kit.Context, e event) {
	now := o.d.Now()
	if _, earned := e.(creditBack); earned {
		o.wake, o.earning = nil, time.Time{}
	}
	for !o.earning.IsZero() && !now.Before(o.earning) {
		due := o.earning
		o.earning = time.Time{}
		o.ask(c, creditBack{}, due)
	}
	o.ask(c, e, now)
	switch waits := o.probe.Dirty && o.probe.Credit == 0; {
	case waits && o.wake == nil:
		o.wake = c.After(creditEvery, creditBack{})
	case !waits && o.wake != nil:
		o.wake()
		o.wake = nil
	}
}

// ask applies an event of that time to the probe and performs what follows.
func (o *owner) ask(c *kit.Context, e event, at time.Time) {
	next, effects := o.probe.apply(e)
	if o.probe.Waiting && !next.Waiting {
		c.NotRetrying("")
	}
	o.probe = next
	for _, eff := range effects {
		switch eff := eff.(type) {
		case inspect:
			o.askInspect(c, o.lane)
		case earnCredit:
			o.earning = at.Add(creditEvery)
		case degraded:
			wait := backoff(c, probeRetryMin, probeRetryMax, eff.Fails)
			c.After(wait, retryDue{})
			c.Retrying("", "inspect", eff.Fails, wait)
			o.lane = calls.Retry
		}
	}
}

// passed notes that the pass need not wait for an answer of this object any more.
func (o *owner) passed() { o.passDue = o.pass != 0 }

// endTurn is the last step of each turn: what waited for the store to know everything.
func (o *owner) endTurn(c *kit.Context) {
	if o.passDue && o.idle() {
		c.Tell(o.ops.path, passed{ID: o.id, Pass: o.pass})
		o.pass, o.passDue = 0, false
	}
	o.finishIfIdle(c)
}

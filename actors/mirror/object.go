package mirror

import (
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/calls"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

// object is the actor of one engine object with one resource: a container or a volume.
//
//	address   rdd/containers/<id>, rdd/volumes/<name>
//	parent    the kind's supervisor
//	messages  observe, Write, Act, Delete, showReason, sweepNow, users; acknowledgements of store and journal; outcomes of its calls
//	restart   loses the message being handled; re-reads store and journal, then inspects
type object struct {
	owner
	// auditing: the audit saw a difference that no event has told of.
	auditing string
	// settle counts the probes left after a death; series tells an old timer from a new one. fresh: nothing was seen in this session
	// yet; who is found between death and restart may have died unheard.
	settle, series int
	fresh          bool
	lastUses       *using
	// will is what is wanted of a container; nil as long as nothing was. early are actions asked for before it is known what they meet.
	will  *will
	early []askedAct
}

// missed is said of what no event has told of and no mirror had.
const missed = "was not mirrored"

type settleDue struct{ series int }

// settleDelays after a death whose restart policy may be at work without a word.
var settleDelays = []time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second}

func newObject(d *Deps, ops *kindOps, id string, load bool) kit.Actor {
	o := &object{owner: newOwner(d, ops, id, load)}
	if ops.act != nil {
		o.intents = containerIntents{o}
	}
	return o
}

// Receive implements kit.Actor.
func (o *object) Receive(c *kit.Context, msg any) {
	switch m := msg.(type) {
	case *actor.Started:
		o.start(c)
		o.target(o.ops.name(o.id), o.id)
		c.Label("", "")
	case *actor.Restarting:
		o.restarting(c)
		o.dropActs(c)
		return
	case observe:
		o.observe(c, m)
	case inspectOutcome:
		o.inspected(c, m)
	case retryDue, creditBack:
		o.step(c, m)
	case settleDue:
		o.settleDue(c, m)
	case Delete:
		o.askDelete(c, m, c.Sender())
	case Write:
		o.askWrite(c, m, c.Sender())
	case Act:
		o.askAct(c, m, c.Sender())
	case removeOutcome:
		o.removeDone(c, m)
		o.step(c, marked{Destroyed: m.out.Err == nil})
	case removeDueFor:
		if t := o.targets.get(m.name); t != nil {
			o.removal(c, t, removeDue{})
		}
	case users:
		o.usersChanged(c, m)
	case showReason:
		o.degrade(c, metav1.ConditionUnknown, m.Reason, m.Message)
	case sweepNow:
		o.sweep(c)
	case journal.Loaded:
		o.loaded(c, m)
		if o.probe.Exist == present {
			o.replay(c)
		}
		if o.proving() {
			o.step(c, marked{}) // what was seen before the journal had told of it is no proof
		}
	case journal.Committed:
		if o.will == nil || !o.will.committed(c, m) {
			o.committed(c, m)
		}
	default:
		if o.will == nil || !o.will.receive(c, m) {
			o.writes(c, m)
		}
	}
	o.askEarly(c)
	o.syncIntent(c)
	o.endTurn(c)
}

// observe takes in everything new at once, then takes the next.
func (o *object) observe(c *kit.Context, m observe) {
	c.Reply(taken{ID: o.id})
	if m.Pass != 0 {
		o.pass = m.Pass
	}
	if m.Rewatch {
		o.rewatch(c)
	}
	fresh := m.Session.Epoch != 0 && m.Session.Epoch != o.session.Epoch
	if fresh {
		o.lane, o.fresh = calls.Sync, true
		o.auditing = "" // what it differed in before, no event of this session should have told
		o.online(c, m.Session)
		o.onlineIntent(c)
	}
	answered := o.takeRow(c, m)
	if fresh && m.Row != nil && o.differs(m.Row) {
		o.lane = calls.Live // it changed while nobody looked: before those that did not
	}
	if o.finished {
		// It has said that it has nothing left, and there is news instead of an end: look again.
		o.finished, m.Changed = false, true
	}
	switch {
	case m.Missed:
		o.auditing = missed
	case m.Changed || m.Destroyed:
		o.auditing = ""
		o.lane = calls.Live
		if o.probe.Exist == unseen {
			o.lane = calls.Intent // somebody waits for it to appear: before another look at what is there already
		}
	case m.Audit && !o.probe.Dirty && !o.probe.Asking:
		o.auditing = "differs from the engine's list"
		o.lane = calls.Audit
	case m.Reprobe:
		o.lane = calls.Audit
	}
	if fresh {
		o.step(c, began{Answered: answered})
	}
	if m.Settle {
		o.startSettling(c)
	}
	if m.Changed || m.Destroyed || m.Absent || m.Audit || m.Reprobe {
		o.step(c, marked{Destroyed: m.Destroyed && o.ops.recreates})
	}
	if answered || o.probe.known() {
		o.passed()
	}
}

// takeRow publishes what a list knows: all of it, where the list knows all; else only of an object never seen before. It reports
// whether that was an answer.
func (o *object) takeRow(c *kit.Context, m observe) bool {
	if m.Row == nil || m.Seq < o.applied {
		return false
	}
	t := o.target(o.ops.name(o.id), o.id)
	if o.ops.rowIsAll {
		if o.probe.Destroyed || o.probe.AskedDestroyed || m.Destroyed {
			return false // only an inspect tells which incarnation the row was
		}
		o.applied = m.Seq
		o.show(c, t, m.Row, metav1.ConditionTrue, messages.ReasonMirrored, "")
		return true
	}
	if t.want == nil {
		o.show(c, t, m.Row, metav1.ConditionUnknown, messages.ReasonPending, "known from a list; not inspected yet")
	}
	return false
}

// differs says whether a list tells something else than the mirror shows.
func (o *object) differs(row any) bool {
	t := o.targets.get(o.ops.name(o.id))
	return t != nil && t.want != nil && o.ops.differs(row, []store.Item{{Object: t.want, Owner: o.id}}) != ""
}

// show publishes the object as seen. It reports whether that is news.
func (o *object) show(c *kit.Context, t *target, seen any, status metav1.ConditionStatus, reason, message string) bool {
	if o.ops.seenAs != nil && seen != nil {
		o.prove(c, t, o.ops.seenAs(seen))
	}
	o.finishing = false
	if t.rem.Phase == removed {
		return false // the resource stands for what is gone; others hold it
	}
	obj := t.current()
	if obj == nil {
		obj = o.ops.kind.New()
	}
	obj.SetName(t.name)
	o.ops.fill(obj, seen, o.d.Now())
	o.setCondition(obj, messages.ConditionSynced, status, reason, message)
	o.claim(c, t, obj)
	news := o.publish(c, t, obj)
	o.replay(c)
	return news
}

func (o *object) replay(c *kit.Context) {
	if len(o.records) > 0 {
		if t := o.targets.get(o.ops.name(o.id)); t != nil && t.want != nil {
			o.replayRecords(c, o.identify(t.want))
		}
	}
}

// inspected takes the answer to the one question in flight.
func (o *object) inspected(c *kit.Context, m inspectOutcome) {
	if !o.probe.Asking {
		return
	}
	if m.epoch != o.session.Epoch {
		o.step(c, stale{})
		return
	}
	t := o.target(o.ops.name(o.id), o.id)
	err := m.out.Err
	switch {
	case err == nil:
		o.applied = m.out.Seq
		if o.probe.AskedDestroyed && t.want != nil && o.ops.recreates {
			o.gone(c, t) // another object under the same name
		}
		o.step(c, found{})
		o.sawObject(c, t, m.out.Value)
	case errors.Is(err, messages.ErrNotFound):
		o.applied = m.out.Seq
		o.step(c, missing{})
		o.sawNothing(c, t)
	case errors.Is(err, calls.ErrNoSession):
		o.step(c, failed{NoSession: true})
		return
	default:
		o.step(c, failed{})
		reason := messages.ReasonInspectFailed
		if calls.IsTimeout(err) {
			reason = messages.ReasonInspectTimeout
		}
		c.Label(reason, err.Error())
		if t.want == nil && o.probe.Exist != gone {
			o.show(c, t, nil, metav1.ConditionFalse, reason, err.Error())
		}
		o.degrade(c, metav1.ConditionFalse, reason, err.Error())
	}
	o.passed()
}

func (o *object) sawObject(c *kit.Context, t *target, seen any) {
	c.Label("", "")
	if o.will != nil {
		o.will.do(c, saw{Seen: o.ops.sight(seen), Proof: o.applied > o.will.proven, At: o.d.Now()})
	}
	news := o.show(c, t, seen, metav1.ConditionTrue, messages.ReasonMirrored, "")
	if o.auditing != "" {
		if news || o.auditing == missed { // its list's row may be all the news there is
			c.Tell(o.ops.path, healed{ID: o.id, What: o.auditing, Epoch: o.session.Epoch})
		}
		o.auditing = ""
	}
	switch settling := o.ops.settling(seen); {
	case o.settle > 0 && !settling:
		o.settle = 0
	case o.fresh && settling:
		o.startSettling(c)
	}
	o.fresh = false
	if u := o.ops.uses(seen); u != nil && (o.lastUses == nil || !sameUse(u, o.lastUses)) {
		o.lastUses = u
		c.Tell(o.ops.path, u)
	}
}

// sawNothing: the engine has no such object; so neither have we.
func (o *object) sawNothing(c *kit.Context, t *target) {
	if o.auditing != "" && t.want != nil && t.rem.Phase != removed {
		c.Tell(o.ops.path, healed{ID: o.id, What: "still mirrored, gone from the engine", Epoch: o.session.Epoch})
	}
	o.auditing, o.settle = "", 0
	o.gone(c, t)
	o.finish(c)
}

func (o *object) startSettling(c *kit.Context) {
	o.settle, o.series = len(settleDelays), o.series+1
	c.After(settleDelays[0], settleDue{series: o.series})
}

func (o *object) settleDue(c *kit.Context, m settleDue) {
	if m.series != o.series || o.settle == 0 {
		return
	}
	o.settle--
	if o.settle > 0 {
		c.After(settleDelays[len(settleDelays)-o.settle], m)
	}
	o.step(c, marked{})
}

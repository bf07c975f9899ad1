package mirror

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/rdd-desktop/rdd/actors/admission"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

// kid is one object as its supervisor sees it: what it has not been told yet.
type kid struct {
	// busy: a message is out and not taken yet. pending is told next.
	busy    bool
	pending *observe
	// stopping: it said it has finished; what comes now is for its successor.
	stopping bool
	// held: nothing is left of it since a sweep but what foreign finalizers keep.
	held bool
	// pass it still owes an answer to.
	pass uint64
	// probed is when it was last asked to inspect by rotation.
	probed      time.Time
	quarantined *quarantine
	// rounds of quarantine so far: each is longer.
	rounds int
}

// tell merges what is new into what the object has not been told yet, and sends it when the object has taken the last one.
func (f *family) tell(c *kit.Context, id string, m observe) {
	k := f.kid(c, id)
	if m.Pass != 0 && k.pass != m.Pass {
		k.pass = m.Pass
		f.first.waiting++
	}
	if k.pending == nil {
		k.pending = &observe{}
	}
	k.pending.merge(m)
	f.send(c, id, k)
}

func (m *observe) merge(n observe) {
	m.Changed = m.Changed || n.Changed
	m.Destroyed = m.Destroyed || n.Destroyed
	m.Settle = m.Settle || n.Settle
	m.Absent = (m.Absent || n.Absent) && n.Row == nil
	m.Audit = m.Audit || n.Audit
	m.Missed = m.Missed || n.Missed
	m.Reprobe = m.Reprobe || n.Reprobe
	m.Rewatch = m.Rewatch || n.Rewatch
	m.Release = m.Release || n.Release
	if n.Row != nil {
		m.Row, m.Seq = n.Row, n.Seq
	}
	if n.Pass != 0 {
		m.Pass = n.Pass
	}
}

func (f *family) send(c *kit.Context, id string, k *kid) {
	if k.busy || k.stopping || k.pending == nil {
		return
	}
	if k.quarantined != nil {
		f.quarantinedNews(c, id, k)
		return
	}
	m := *k.pending
	k.pending, k.busy = nil, true
	if f.online {
		m.Session = f.session
	}
	c.TellChild(id, m)
}

// kid finds or spawns the owner of an object.
func (f *family) kid(c *kit.Context, id string) *kid {
	k := f.kids[id]
	if k == nil {
		k = &kid{probed: f.d.Now()}
		f.kids[id] = k
		_, open := f.open[id]
		f.spawn(c, id, open || !f.begun)
		delete(f.open, id)
	}
	return k
}

// spawn starts the owner. Its first incarnation has open records only if somebody said so; each later one looks.
func (f *family) spawn(c *kit.Context, id string, load bool) {
	f.ownerIsBack(id)
	again := load
	c.StartChild(objectSpec, id, func() kit.Actor {
		make := f.ops.owner
		if !f.ops.valid(id) {
			make = newSkeleton
		}
		a := make(f.d, f.ops, id, again)
		again = true
		return a
	})
}

// passed counts down the first pass.
func (f *family) passed(c *kit.Context, id string, pass uint64) {
	k := f.kids[id]
	if k == nil || k.pass == 0 || pass != k.pass {
		return
	}
	k.pass = 0
	if pass == f.first.id {
		f.first.waiting--
		f.checkComplete(c)
	}
}

func (f *family) checkComplete(c *kit.Context) {
	if f.first.listed && f.first.waiting == 0 && !f.first.complete {
		f.first.complete = true
		f.progress(c, "")
	}
}

func (f *family) progress(c *kit.Context, listErr string) {
	p := Progress{
		Kind: f.ops.kind.Name, Epoch: f.session.Epoch, Objects: f.first.objects, ListErr: listErr,
		Complete: f.first.complete, Repairs: f.repairs, LastProof: f.lastProof,
	}
	if p != f.told {
		f.told = p
		c.Tell(control.Engine, p)
	}
}

// finished: the object is gone and owns nothing. Its name is free only after its actor has ended.
func (f *family) finished(c *kit.Context, id string) {
	k := f.kids[id]
	if k == nil || k.stopping {
		return
	}
	if k.busy || k.pending != nil {
		return // there is news it has not seen: it will look again, and finish again if it must
	}
	k.stopping = true
	f.passed(c, id, k.pass)
	c.StopChild(id)
}

func (f *family) terminated(c *kit.Context, id string) {
	k := f.kids[id]
	if k == nil || k.quarantined != nil {
		return
	}
	delete(f.kids, id)
	f.extra.ended(c, f, id)
	if k.pending != nil {
		pending := *k.pending
		n := f.kid(c, id)
		n.pending = &pending
		f.send(c, id, n)
	}
	f.label(c)
	f.checkSwept(c)
}

// route sends a client's deletion to the owner.
func (f *family) route(c *kit.Context, m Delete) {
	k := f.kids[m.Owner]
	switch {
	case k == nil || k.stopping:
		c.Reply(Deleted{Err: messages.NewError(messages.CodeNotFound, "delete", f.ops.kind.Name, m.Name, "not found")})
	case k.quarantined != nil:
		f.quarantinedDelete(c, m, k)
	default:
		c.Forward(f.pid(c, m.Owner))
	}
}

// routeWrite sends a client's change to the owner; what is to be made gets one.
func (f *family) routeWrite(c *kit.Context, m Write) {
	owner := m.Owner
	if m.Request.Create {
		owner = skeletonPrefix + m.Name
		if it, ok := f.d.Table.Load().Get(store.Key{Kind: f.ops.kind.Name, Name: m.Name}); ok {
			owner = it.Owner
		} else if err := admission.Name(f.ops.kind, m.Name); err != nil {
			c.Reply(Written{Err: err})
			return
		}
	}
	k := f.kids[owner]
	refuse := func(code messages.Code, why string) {
		c.Reply(Written{Err: messages.NewError(code, "write", f.ops.kind.Name, m.Request.Name, why)})
	}
	switch {
	case k != nil && k.quarantined != nil:
		refuse(messages.CodeUnavailable, "its actor is quarantined ("+k.quarantined.failure+"); try again later")
	case m.Request.Create && (f.sweeping || !f.begun || k != nil && k.stopping):
		refuse(messages.CodeUnavailable, "the mirror is being reset, or has not begun; try again")
	case m.Request.Create:
		f.kid(c, owner)
		c.Forward(f.pid(c, owner))
		f.tell(c, owner, observe{}) // should it have finished at this moment, it is not stopped before it has looked again
	case k == nil || k.stopping:
		refuse(messages.CodeNotFound, "not found")
	default:
		c.Forward(f.pid(c, owner))
	}
}

// routeAct sends a client's request for an action to the owner.
func (f *family) routeAct(c *kit.Context, m Act) {
	refuse := func(code messages.Code, why string) {
		c.Reply(Acted{Err: messages.NewError(code, m.Request.Action, f.ops.kind.Name, m.Name, why)})
	}
	switch k := f.kids[m.Owner]; {
	case k == nil || k.stopping:
		refuse(messages.CodeNotFound, "not found")
	case k.quarantined != nil:
		refuse(messages.CodeUnavailable, "its actor is quarantined ("+k.quarantined.failure+"); try again later")
	case !f.ops.valid(m.Owner):
		refuse(messages.CodeConflict, "a client made it; the engine has no such object")
	default:
		c.Forward(f.pid(c, m.Owner))
	}
}

func (f *family) pid(c *kit.Context, owner string) *actor.PID {
	return actor.NewPID(c.Self().Address, c.Path()+"/"+owner)
}

// inOrder walks a map by key, where what is done reaches one receiver: so that a run in virtual time repeats exactly.
func inOrder[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if v, ok := m[k]; ok && !yield(k, v) {
				return
			}
		}
	}
}

func (f *family) broadcast(c *kit.Context, msg any) {
	for id, k := range f.kids {
		if !k.stopping && k.quarantined == nil {
			c.TellChild(id, msg)
		}
	}
}

func showReasonFor(m Unreachable) showReason {
	if m.Stopping {
		return showReason{Reason: messages.ReasonEngineStopping, Message: "the engine is being stopped"}
	}
	return showReason{Reason: messages.ReasonEngineUnreachable, Message: "the engine has been away for more than 30 s; this is what it was before"}
}

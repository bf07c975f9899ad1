package mirror

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
)

// containerIntents ties the will of a container to the write path of its resource.
type containerIntents struct{ o *object }

// accepting implements intents: an action by annotation is accepted in the transaction of its write, and a spec that asks for nothing
// new is settled by it.
func (i containerIntents) accepting(c *kit.Context, t *target, w *write) ([]journal.Op, error) {
	con := w.result.Object.(*messages.Container)
	if was, ok := t.want.(*messages.Container); ok && was.Spec.State == con.Spec.State && con.Spec.Policy == messages.PolicyOnce &&
		was.Status.ObservedGeneration == was.Generation {
		w.record.ObservedGeneration = con.Generation
	}
	if w.result.Action == "" {
		return nil, nil
	}
	act := Act{Owner: i.o.id, Name: t.name, Request: messages.ActionRequest{Action: w.result.Action}}
	if err := i.o.refuseAct(t, con.Spec, act); err != nil {
		return nil, err
	}
	return i.o.offerAct(c, act).ops, nil
}

// accepted implements intents.
func (i containerIntents) accepted(c *kit.Context, _ *target, w *write) {
	if w.result.Action != "" {
		i.o.will.accepted(c, nil)
	}
}

// refused implements intents.
func (i containerIntents) refused(c *kit.Context, _ *target, w *write, err error) {
	if w.result.Action != "" && i.o.will != nil {
		i.o.will.accepted(c, err)
	}
}

// recall implements intents.
func (i containerIntents) recall(c *kit.Context, entries []journal.Entry) {
	i.o.recallIntent(c, entries)
}

// stamp implements intents.
func (i containerIntents) stamp(content messages.Object) {
	if i.o.will != nil {
		i.o.will.stamp(content.(*messages.Container))
	}
}

// ended implements intents.
func (i containerIntents) ended(c *kit.Context, reason string) { i.o.endIntent(c, reason) }

// askAct is a client's request for an action.
func (o *object) askAct(c *kit.Context, m Act, sender *actor.PID) {
	t := o.targets.get(m.Name)
	switch {
	case o.ops.act == nil:
		c.ReplyTo(sender, Acted{Err: o.actError(messages.CodeForbidden, m.Request.Action, "only a container takes actions")})
		return
	case o.loading || t != nil && t.stored == nil && t.want != nil:
		o.early = append(o.early, askedAct{m, sender})
		return
	case t == nil || t.stored == nil || t.want == nil:
		c.ReplyTo(sender, Acted{Err: o.actError(messages.CodeNotFound, m.Request.Action, "not found")})
		return
	}
	if err := o.refuseAct(t, t.want.(*messages.Container).Spec, m); err != nil {
		c.ReplyTo(sender, Acted{Err: err})
		return
	}
	commit := o.offerAct(c, m)
	o.will.client, o.will.offering = sender, commit
	commit.send(c)
}

// askEarly asks again for what was asked before it was known what it meets.
func (o *object) askEarly(c *kit.Context) {
	early := o.early
	o.early = nil
	for _, a := range early {
		o.askAct(c, a.ask, a.sender)
	}
}

// dropActs tells those whose actions this incarnation will not answer.
func (o *object) dropActs(c *kit.Context) {
	unknown := Acted{Err: o.actError(messages.CodeUnavailable, "act on", "its actor was restarted before it knew whether the action is accepted: read it again")}
	for _, a := range o.early {
		c.ReplyTo(a.sender, Acted{Err: o.actError(messages.CodeUnavailable, a.ask.Request.Action, "its actor was restarted, nothing has been done; try again")})
	}
	if o.will != nil {
		for _, pid := range append(o.will.acted, o.will.client) {
			c.ReplyTo(pid, unknown)
		}
	}
}

package mirror

import (
	"context"
	"time"

	"github.com/rdd-desktop/rdd/actors/calls"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// kindOps is one row of the table of mirrored kinds: what differs between them, and nothing else.
type kindOps struct {
	kind messages.Kind
	// path of the kind's supervisor.
	path string
	// valid reports whether the engine can have an object of that identity.
	valid func(id string) bool
	// name is the metadata.name for an identity (not for images: one per tag).
	name func(id string) string
	// list is the whole list of the kind.
	list func(ctx context.Context, e dockerio.Engine) ([]row, error)
	// inspect one object; what it returns goes to fill.
	inspect func(ctx context.Context, e dockerio.Engine, id string) (any, error)
	// remove the engine object behind a resource: id is the owner's, ref the resource's, proof its identity as last seen.
	remove func(ctx context.Context, e dockerio.Engine, id, ref, proof string) error
	// act makes a call that changes whether the object runs; nil for kinds that nothing but a deletion is wanted of.
	act func(ctx context.Context, e dockerio.Engine, id, verb string, grace time.Duration) error
	// sight is what an intent goes by; only with act.
	sight func(seen any) sight
	// rowIsAll: a row says everything an inspect would.
	rowIsAll bool
	// recreates: an identity can come back as another object (volumes); otherwise it is unique for ever.
	recreates bool
	// listOnly: only a list tells what resources there are (images: their tags).
	listOnly bool
	// reprobe: lists lack fields, so that each object is inspected now and then.
	reprobe bool
	// fill writes what was seen (a row's data, or what inspect returned) into the status; pure.
	fill func(o messages.Object, seen any, now time.Time)
	// differs compares a row with the store for the audit, and says what differs.
	differs func(data any, stored []store.Item) string
	// seenAs is the identity of an object as seen just now; nil where the engine identity is one.
	seenAs func(seen any) string
	// identity proves that a resource still stands for the engine object a deletion was asked for.
	identity func(o messages.Object) string
	// settling: the object died and its restart policy may be at work.
	settling func(seen any) bool
	// uses says what a container uses.
	uses func(seen any) *using
	// owner makes the actor of one object.
	owner func(d *Deps, ops *kindOps, id string, load bool) kit.Actor
}

// ambiguous: what the engine calls an object may stand for another one later.
func (k *kindOps) ambiguous() bool { return k.recreates || k.listOnly }

// askInspect submits an inspect of the owner's object.
func (o *owner) askInspect(c *kit.Context, lane calls.Lane) {
	id, ops, deliver, epoch := o.id, o.ops, c.Deliver(), o.session.Epoch
	o.d.Calls.Submit(calls.Call{
		Key: calls.Key{Kind: ops.kind.Name, ID: id}, Lane: lane, Name: "inspect", Actor: c.Path(),
		Do: func(ctx context.Context, e dockerio.Engine) (any, error) { return ops.inspect(ctx, e, id) },
		Done: func(out calls.Outcome) {
			deliverOutcome(deliver, out, inspectOutcome{epoch: epoch, out: out})
		},
	})
}

// inspectOutcome answers askInspect; epoch is the session's that asked.
type inspectOutcome struct {
	epoch uint64
	out   calls.Outcome
}

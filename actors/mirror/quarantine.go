package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/calls"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// quarantine is what a supervisor does in the stead of an object whose actor only panics: the resource stays and says so, deletions
// are written down, what the engine no longer has is removed, and after a while the actor gets another chance.
type quarantine struct {
	round   int
	failure string
	// checking: the engine is being asked whether it still has the object.
	checking bool
	// asked wait for the journal to have their deletion.
	asked map[uint64]askedDeletion
}

type askedDeletion struct {
	sender *actor.PID
	owner  string
	object messages.Object
}

type (
	quarantineOver struct {
		id    string
		round int
	}
	quarantineChecked struct {
		id  string
		out calls.Outcome
	}
)

func (f *family) quarantine(c *kit.Context, m kit.ChildGaveUp) {
	k := f.kids[m.Name]
	if k == nil {
		return
	}
	k.rounds++
	k.busy = false
	k.quarantined = &quarantine{round: k.rounds, failure: m.Failure.Error(), asked: map[uint64]askedDeletion{}}
	f.passed(c, m.Name, k.pass)
	wait := min(quarantineMax, quarantineMin<<min(k.rounds-1, 4))
	wait = wait/2 + time.Duration(c.House.Jitter()*float64(wait/2))
	wait = max(wait, quarantineMin)
	c.After(wait, quarantineOver{id: m.Name, round: k.rounds})
	c.RetryingChild(m.Name, "restart", k.rounds, wait)
	for _, it := range f.d.Table.Load().OwnedBy(f.ops.kind.Name, m.Name) {
		obj := messages.DeepCopy(it.Object)
		obj.SetConditions(messages.SetCondition(obj.Conditions(), metav1.Condition{
			Type: messages.ConditionSynced, Status: metav1.ConditionFalse, Reason: messages.ReasonQuarantined,
			Message: fmt.Sprintf("its actor failed too often (%s); tried again within %s", m.Failure.Error(), quarantineMax),
		}, f.d.Now()))
		f.putFor(c, m.Name, obj)
	}
	f.label(c)
	if f.sweeping {
		f.sweepQuarantined(c, m.Name, k)
		f.checkSwept(c)
	}
}

func (f *family) putFor(c *kit.Context, owner string, obj messages.Object) {
	c.Tell(control.Store, store.Put{Token: c.Token(), Object: obj, Owner: owner})
}

// quarantineReceive handles what only happens while something is quarantined.
func (f *family) quarantineReceive(c *kit.Context, msg any) {
	switch m := msg.(type) {
	case quarantineOver:
		f.release(c, m)
	case quarantineChecked:
		f.quarantineChecked(c, m)
	case journal.Committed:
		for _, k := range f.kids {
			if k.quarantined == nil {
				continue
			}
			if a, ok := k.quarantined.asked[m.Token]; ok {
				delete(k.quarantined.asked, m.Token)
				f.deletionRecorded(c, a, m.Err)
			}
		}
	}
}

// release gives the actor another chance.
func (f *family) release(c *kit.Context, m quarantineOver) {
	k := f.kids[m.id]
	if k == nil || k.quarantined == nil || k.quarantined.round != m.round {
		return
	}
	k.quarantined = nil
	f.spawn(c, m.id, true)
	f.tell(c, m.id, observe{Changed: true})
	f.label(c)
}

// quarantinedNews looks whether the engine still has the object: that is all a supervisor can do with news.
func (f *family) quarantinedNews(c *kit.Context, id string, k *kid) {
	gone := k.pending.Absent || k.pending.Destroyed
	k.pending = nil
	f.passed(c, id, k.pass)
	if !gone || k.quarantined.checking {
		return
	}
	k.quarantined.checking = true
	ops, deliver := f.ops, c.Deliver()
	f.d.Calls.Submit(calls.Call{
		Key: calls.Key{Kind: ops.kind.Name, ID: id}, Lane: calls.Retry, Name: "inspect", Actor: c.Path(),
		Do:   func(ctx context.Context, e dockerio.Engine) (any, error) { return ops.inspect(ctx, e, id) },
		Done: func(out calls.Outcome) { deliver(quarantineChecked{id: id, out: out}) },
	})
}

func (f *family) quarantineChecked(c *kit.Context, m quarantineChecked) {
	k := f.kids[m.id]
	if k == nil || k.quarantined == nil {
		return
	}
	k.quarantined.checking = false
	if !errors.Is(m.out.Err, messages.ErrNotFound) {
		return
	}
	for _, it := range f.d.Table.Load().OwnedBy(f.ops.kind.Name, m.id) {
		c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: []journal.Op{
			journal.DropDeletion(f.ops.kind.Name, it.Object.GetName()), journal.DropObject(f.ops.kind.Name, it.Object.GetName()),
			journal.DropOperation(f.ops.kind.Name, it.Object.GetName()),
		}})
	}
	if f.endAll(c, m.id, false) {
		return
	}
	delete(f.kids, m.id)
	f.extra.ended(c, f, m.id)
	f.label(c)
}

// quarantinedDelete writes the wish down; the owner carries it out when it is back.
func (f *family) quarantinedDelete(c *kit.Context, m Delete, k *kid) {
	it, ok := f.d.Table.Load().Get(store.Key{Kind: f.ops.kind.Name, Name: m.Name})
	if !ok || f.ops.listOnly || m.Detach {
		c.Reply(Deleted{Err: messages.NewError(messages.CodeUnavailable, "delete", f.ops.kind.Name, m.Name,
			"its actor is quarantined ("+k.quarantined.failure+"); try again later")})
		return
	}
	if m.UID != "" && m.UID != string(it.Object.GetUID()) {
		c.Reply(Deleted{Err: messages.NewError(messages.CodeConflict, "delete", f.ops.kind.Name, m.Name, "its uid is "+string(it.Object.GetUID()))})
		return
	}
	now := metav1.Time{Time: f.d.Now().UTC().Truncate(time.Second)}
	obj := messages.DeepCopy(it.Object)
	obj.SetDeletionTimestamp(&now)
	token := c.Token()
	k.quarantined.asked[token] = askedDeletion{sender: c.Sender(), owner: m.Owner, object: obj}
	c.Tell(control.Journal, journal.Commit{Token: token, Ops: []journal.Op{journal.PutDeletion(journal.DeletionRecord{
		Kind: f.ops.kind.Name, Name: m.Name, Owner: m.Owner, UID: obj.GetUID(), Asked: now.Time,
		Identity: f.ops.identity(obj), Created: obj.GetCreationTimestamp().Time,
	})}})
}

func (f *family) deletionRecorded(c *kit.Context, a askedDeletion, err error) {
	if err != nil {
		c.ReplyTo(a.sender, Deleted{Err: messages.WrapError(messages.CodeUnavailable, "delete", f.ops.kind.Name, a.object.GetName(), err)})
		return
	}
	f.putFor(c, a.owner, messages.DeepCopy(a.object))
	c.ReplyTo(a.sender, Deleted{Object: a.object})
}

// label shows the family in the tree.
func (f *family) label(c *kit.Context) {
	state, detail := fmt.Sprintf("%d children", len(f.kids)), ""
	if f.repairs > 0 {
		detail = fmt.Sprintf("%d repairs", f.repairs)
	}
	c.Label(state, detail)
}

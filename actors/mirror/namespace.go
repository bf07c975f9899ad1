package mirror

import (
	"fmt"

	"github.com/asynkron/protoactor-go/actor"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/admission"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

// Mirroring tells the namespace whether the engine mirrors; it is answered with Swept when it does not and the namespace is gone.
type Mirroring struct {
	On      bool
	Session Session
}

// namespace is ContainerNamespace/moby: there while the engine mirrors. Deleting it completes at once and deletes no container;
// it comes back with a new uid.
//
//	address   rdd/namespaces/moby
//	parent    rdd/namespaces
//	messages  Mirroring, Delete, Write (refused); acknowledgements of the store
//	restart   loses the message being handled; asks the engine whether it mirrors
type namespace struct {
	d       *Deps
	on      bool
	session Session
	stored  messages.Object
	sent    uint64
	asked   []*actor.PID
	// drop: a client deleted it.
	drop bool
	// owed: the engine waits for Swept.
	owed bool
}

// Moby makes rdd/namespaces/moby.
func Moby(d *Deps) func() kit.Actor {
	return func() kit.Actor { return &namespace{d: d} }
}

type namespaceOverdue struct{ token uint64 }

// Receive implements kit.Actor.
func (n *namespace) Receive(c *kit.Context, msg any) {
	switch m := msg.(type) {
	case *actor.Started:
		if it, ok := n.d.Table.Load().Get(n.key()); ok {
			n.stored = it.Object
		}
		c.Tell(control.Engine, control.Hello{From: control.Moby})
	case Mirroring:
		n.on, n.session, n.owed = m.On, m.Session, !m.On
		n.write(c)
	case Delete:
		n.delete(c, m)
	case Write:
		kind, _ := messages.KindByName(messages.KindContainerNamespace)
		_, err := admission.Admit(kind, n.stored, m.Request)
		c.Reply(Written{Err: err})
	case store.PutDone:
		if m.Token == n.sent {
			n.sent = 0
			if m.Err == nil {
				n.stored = m.Object
			}
			n.write(c)
		}
	case store.RemoveDone:
		n.removed(c, m)
	case namespaceOverdue:
		if m.token == n.sent {
			n.sent = 0
			n.write(c)
		}
	}
}

func (n *namespace) key() store.Key {
	return store.Key{Kind: messages.KindContainerNamespace, Name: messages.NamespaceMoby}
}

func (n *namespace) delete(c *kit.Context, m Delete) {
	switch {
	case n.stored == nil:
		c.Reply(Deleted{Err: messages.NewError(messages.CodeNotFound, "delete", messages.KindContainerNamespace, m.Name, "not found")})
	case m.UID != "" && m.UID != string(n.stored.GetUID()):
		c.Reply(Deleted{Err: messages.NewError(messages.CodeConflict, "delete", messages.KindContainerNamespace, m.Name,
			fmt.Sprintf("its uid is %s, not %s", n.stored.GetUID(), m.UID))})
	default:
		n.asked = append(n.asked, c.Sender())
		n.drop = true
		n.write(c)
	}
}

// write compares what shall be with what the store has, and does the next step, one at a time. Whatever the word of the engine
// meets in flight is undone after it.
func (n *namespace) write(c *kit.Context) {
	switch {
	case n.sent != 0:
		return
	case n.stored != nil && (n.drop || n.owed):
		reason := ""
		if n.owed {
			reason = messages.ReasonMirrorReset
		}
		n.sent = c.Token()
		c.Tell(control.Store, store.Remove{Token: n.sent, Key: n.key(), Reason: reason})
	case n.on && n.stored == nil:
		n.sent = c.Token()
		c.Tell(control.Store, store.Put{Token: n.sent, Object: n.object(), Owner: messages.NamespaceMoby,
			UIDSeed: fmt.Sprintf("%s\x00%s\x00%d\x00%s", n.d.Instance, n.session.EngineID, n.session.Sweep, messages.KindContainerNamespace)})
	case n.owed:
		n.owed = false
		c.Tell(control.Engine, Swept{Kind: messages.KindContainerNamespace})
		return
	default:
		return
	}
	c.After(putOverdueAfter, namespaceOverdue{token: n.sent})
}

func (n *namespace) object() messages.Object {
	k, _ := messages.KindByName(messages.KindContainerNamespace)
	obj := k.New()
	obj.SetName(messages.NamespaceMoby)
	obj.SetNamespace(n.session.Namespace)
	obj.SetConditions(messages.SetCondition(nil, metav1.Condition{
		Type: messages.ConditionSynced, Status: metav1.ConditionTrue, Reason: messages.ReasonMirrored,
	}, n.d.Now()))
	return obj
}

func (n *namespace) removed(c *kit.Context, m store.RemoveDone) {
	if m.Token != n.sent {
		return
	}
	last := n.stored
	n.sent, n.drop, n.stored = 0, false, nil
	for _, pid := range n.asked {
		c.ReplyTo(pid, Deleted{Object: last})
	}
	n.asked = nil
	n.write(c)
}

// Namespaces makes rdd/namespaces, which only holds its children.
func Namespaces() func() kit.Actor { return func() kit.Actor { return namespaces{} } }

type namespaces struct{}

// Receive implements kit.Actor.
func (namespaces) Receive(*kit.Context, any) {}

package kit

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

// Context is an actor's view of the house, valid in its own turn only. A goroutine must not touch it: take what it needs
// first, and come back through Run or Deliver.
type Context struct {
	actor.Context
	House *House
	s     *shell
}

// Path is the actor's address, e.g. rdd/engine.
func (c *Context) Path() string { return c.Self().Id }

// Spec is the actor's row of the tree.
func (c *Context) Spec() *ChildSpec { return c.s.node.spec }

// Template is the static child of that name in the actor's row of the tree, for StartChild; nil when there is none.
func (c *Context) Template(name string) *ChildSpec { return c.s.node.spec.child(name) }

// Token is a number no one else in this process gets.
func (c *Context) Token() uint64 { return Token() }

// Incarnation is this incarnation's number, unique in this process.
func (c *Context) Incarnation() uint64 { return c.s.inc }

// Tell sends msg to the actor at path; a Reply comes back to this actor.
func (c *Context) Tell(path string, msg any) { c.Request(c.House.pid(path), msg) }

// TellChild sends msg to the child; lost when it is not there.
func (c *Context) TellChild(name string, msg any) {
	if n := c.s.node.children[name]; n != nil && n.pid != nil {
		c.Request(n.pid, msg)
	}
}

// Reply answers the sender of the message being handled; nothing happens when there is none. To answer later keep c.Sender()
// and use ReplyTo.
func (c *Context) Reply(msg any) { c.ReplyTo(c.Sender(), msg) }

// ReplyTo answers a sender of an earlier message; nothing happens when it is nil.
func (c *Context) ReplyTo(sender *actor.PID, msg any) {
	if sender != nil {
		c.Send(sender, msg)
	}
}

// Watch asks for *actor.Terminated of a stranger. Of its children a parent is told anyway: watching them would tell it twice, and
// the second time would be taken for the successor's.
func (c *Context) Watch(who *actor.PID) {
	if c.s.childName(who) == "" {
		c.Context.Watch(who)
	}
}

// Label shows what the actor is doing in the tree: one word, and more of them.
func (c *Context) Label(state, detail string) { c.House.Nodes.label(c.s.node, state, detail) }

// Retrying shows in the tree what failed that often and is tried again after in. object is the metadata.name of the resource it is
// for, where the actor owns several; of one object the last word counts. It ends with NotRetrying, with a failure and with a restart.
func (c *Context) Retrying(object, what string, tries int, in time.Duration) {
	c.House.Nodes.retrying(c.s.node, retryOf(object, what, tries, in))
}

// NotRetrying ends what Retrying showed of the object: it is being tried, or need not be any more.
func (c *Context) NotRetrying(object string) { c.House.Nodes.notRetrying(c.s.node, object) }

// RetryingChild is Retrying of a child that cannot say it itself; a new start of the child ends it.
func (c *Context) RetryingChild(name, what string, tries int, in time.Duration) {
	if n := c.s.node.children[name]; n != nil {
		c.House.Nodes.retrying(n, retryOf("", what, tries, in))
	}
}

func retryOf(object, what string, tries int, in time.Duration) messages.Retry {
	return messages.Retry{What: what, Object: object, Tries: tries, Next: metav1.MicroTime{Time: time.Now().Add(in)}}
}

// Fail ends the turn and this incarnation. It does not return.
func (c *Context) Fail(f *Failure) {
	if f == nil {
		f = &Failure{Reason: "failed", Counted: true}
	}
	panic(f)
}

// FinishSelf stops this actor after the present turn, as a normal end.
func (c *Context) FinishSelf() {
	c.s.finishing = true
	c.House.Nodes.setFinished(c.s.node, true)
	c.Stop(c.Self())
}

package app

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
)

// Root makes rdd, the root of the tree. It holds its children, and tells app what a watcher that has failed cannot tell itself before
// its restart: that nobody watches.
func Root() kit.Actor { return root{} }

type root struct{}

// engineFailed tells app that engine waits for its restart.
type engineFailed struct{ why string }

// Receive implements kit.Actor.
func (root) Receive(c *kit.Context, msg any) {
	switch m := msg.(type) {
	case kit.ChildFailed:
		if control.Root+"/"+m.Name == control.Engine {
			c.Tell(control.App, engineFailed{why: m.Failure.Error()})
		}
	}
}

// engineFailed takes back that the engine is ready; the watcher's next incarnation has the next word.
func (a *appActor) engineFailed(c *kit.Context, m engineFailed) {
	if a.engineVoice != spoken || a.engine.Ready != metav1.ConditionTrue {
		return
	}
	a.engine.Ready, a.engine.Reason = metav1.ConditionFalse, messages.ReasonDisconnected
	a.engine.Message = "the watcher failed and is being restarted: " + m.why
	a.publish(c)
}

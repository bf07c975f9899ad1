package kit

import (
	"context"

	"github.com/asynkron/protoactor-go/actor"
)

// Lab is a test's grip on a whole house: who runs when, and what happens before each message and effect. It travels in the
// context of the start, not in a configuration, so that nothing a user can write turns it on.
type Lab struct {
	// Schedule runs an actor's turns, up to the last message it has. Nil = the house's dispatcher.
	Schedule func(actor string, turns func())
	// Spawn runs work off the mailbox; work is its actor's path, "#" and its name. Nil = a goroutine of its own.
	Spawn func(work string, f func())
	// Jitter is the house's. Nil = the house's.
	Jitter func() float64
	// Message is called in the turn of the actor at path, before it gets msg. A panic in it is the actor's.
	Message func(path string, msg any)
	// Effect is called where work of that name begins, in the goroutine that does it. A panic in it is the work's.
	Effect func(path, name string)
}

type labKey struct{}

// WithLab is a context in which a house is started with that lab.
func WithLab(ctx context.Context, l *Lab) context.Context { return context.WithValue(ctx, labKey{}, l) }

// LabOf is the lab of the context, nil when it has none.
func LabOf(ctx context.Context) *Lab {
	l, _ := ctx.Value(labKey{}).(*Lab)
	return l
}

// dispatcher of the actor at path.
func (l *Lab) dispatcher(path string, d actor.Dispatcher) actor.Dispatcher {
	if l == nil || l.Schedule == nil {
		return d
	}
	return labDispatcher{Dispatcher: d, lab: l, path: path}
}

type labDispatcher struct {
	actor.Dispatcher
	lab  *Lab
	path string
}

// Schedule implements actor.Dispatcher.
func (d labDispatcher) Schedule(turns func()) { d.lab.Schedule(d.path, turns) }

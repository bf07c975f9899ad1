package kit

import "context"

// Lab is a test's grip on a whole house: who runs when, and what happens before each message and effect. It travels in the
// context of the start, not in a configuration, so that nothing a user can write turns it on.
type Lab struct {
	// Deliver gets every message on its way to an actor: deliver hands it over, and returns when the actor's turn is over. Messages of
	// one actor must be handed over in their order, system's before others. Nil = at once, and the dispatcher runs the turn.
	Deliver func(actor string, system bool, deliver func())
	// Spawn runs work off the mailbox; work is its actor's path, "#" and its name. Nil = a goroutine of its own.
	Spawn func(work string, f func())
	// Resume is called by work that has waited, before anybody learns of what it waited for; it returns when work is to go on. Nil = at
	// once.
	Resume func(work string)
	// Jitter is the house's. Nil = the house's.
	Jitter func() float64
	// Message is called in the turn of the actor at path, before it gets msg. A panic in it is the actor's.
	Message func(path string, msg any)
	// Effect is called where work of that name begins, in the goroutine that does it. A panic in it is the work's.
	Effect func(path, name string)
	// Point is called at each of the points (PointJournal…), in the goroutine that passes it.
	Point func(name string)
}

type labKey struct{}

// WithLab is a context in which a house is started with that lab.
func WithLab(ctx context.Context, l *Lab) context.Context { return context.WithValue(ctx, labKey{}, l) }

// LabOf is the lab of the context, nil when it has none.
func LabOf(ctx context.Context) *Lab {
	l, _ := ctx.Value(labKey{}).(*Lab)
	return l
}

// delivers says whether l decides when messages arrive.
func (l *Lab) delivers() bool { return l != nil && l.Deliver != nil }

func (l *Lab) resumes() bool { return l != nil && l.Resume != nil }

package kit

import (
	"fmt"
	"runtime/debug"
	"time"
)

// RestartType says which ends of a child are followed by a new start.
type RestartType int

const (
	// Permanent: always started again, also when it finished by itself.
	Permanent RestartType = iota
	// Transient: started again after a failure and when a stranger stopped it, not after FinishSelf.
	Transient
	// Temporary: never started again.
	Temporary
)

// GiveUp says what happens when a child failed more than Max times in Period.
type GiveUp int

const (
	// Escalate: the parent fails with it, and is restarted with all its children by its own parent.
	Escalate GiveUp = iota
	// Quarantine: the child is stopped and the parent actor told (ChildGaveUp); its node stays in the tree as Quarantined.
	Quarantine
	// Report: the child is stopped and the embedder told (House.OnFailed): the house cannot be without it.
	Report
)

// ChildSpec is one row of the tree: who a child is and what happens when it fails.
type ChildSpec struct {
	// Name is the last part of the path.
	Name string
	// New makes a fresh actor for each incarnation; it must not hand out state of an earlier one by mistake. A static child
	// without New is not started by the kit: it is a template its parent gets with Context.Template and starts itself.
	New func() Actor
	// Restart type. Default Permanent.
	Restart RestartType
	// Backoff between a failure and the restart. Default none: restart at once.
	Backoff Backoff
	// Max failures in Period are answered with a restart; one more and the child is given up. Default 5; negative = 0.
	Max int
	// Period in which failures are counted; a time that long without a failure begins the backoff anew. Default 1 min.
	Period time.Duration
	// Shutdown is how long a stop of the house waits for this child before it goes on without it. Default 5 s.
	Shutdown time.Duration
	// GiveUp says what happens past Max. Default Escalate.
	GiveUp GiveUp
	// Children are the static children, in start order. Those of the root start one after the other; those of any other
	// actor start together, right before the actor's own Started.
	Children []ChildSpec
}

func (s *ChildSpec) max() int {
	switch {
	case s.Max == 0:
		return 5
	case s.Max < 0:
		return 0
	}
	return s.Max
}

func (s *ChildSpec) period() time.Duration {
	if s.Period <= 0 {
		return time.Minute
	}
	return s.Period
}

func (s *ChildSpec) shutdown() time.Duration {
	if s.Shutdown <= 0 {
		return 5 * time.Second
	}
	return s.Shutdown
}

// child is the static child of that name, or nil.
func (s *ChildSpec) child(name string) *ChildSpec {
	for i := range s.Children {
		if s.Children[i].Name == name {
			return &s.Children[i]
		}
	}
	return nil
}

// Backoff is exponential with full jitter: the delay of the n-th attempt in a row is a random part of Min·2ⁿ⁻¹, at most of
// Max. The zero value is no delay. A Max below Min is Min.
type Backoff struct{ Min, Max time.Duration }

// Delay of that attempt (the first is 1); jitter is in [0, 1).
func (b Backoff) Delay(attempt int, jitter float64) time.Duration {
	return time.Duration(jitter * float64(b.ceiling(attempt)))
}

func (b Backoff) ceiling(attempt int) time.Duration {
	ceiling, most := b.Min, max(b.Min, b.Max)
	if ceiling <= 0 {
		return max(most, 0)
	}
	for i := 1; i < attempt && ceiling < most; i++ {
		ceiling *= 2
	}
	return min(ceiling, most)
}

// Failure ends an incarnation.
type Failure struct {
	// Reason in a few words, e.g. "panic: index out of range" or "event stream ended".
	Reason string
	// Err is the cause, if there is one.
	Err error
	// Counted failures are bugs: recorded with a stack and counted against Max. The others are paced by the backoff only,
	// however many there are.
	Counted bool
	// Event is the type of the HouseEvent that is recorded. Default ActorFailed.
	Event string
	// Stack of the panic.
	Stack string
}

// Error implements error.
func (f *Failure) Error() string {
	switch {
	case f.Err == nil:
		return f.Reason
	case f.Reason == "":
		return f.Err.Error()
	}
	return f.Reason + ": " + f.Err.Error()
}

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Err }

// asFailure makes a recovered value a failure. Called in the deferred function, so that the stack is the panic's.
func asFailure(v any) *Failure {
	switch v := v.(type) {
	case *Failure:
		if v.Counted && v.Stack == "" {
			v.Stack = string(debug.Stack())
		}
		return v
	case Crashed:
		return v.failure()
	case error:
		return &Failure{Reason: "panic", Err: v, Counted: true, Stack: string(debug.Stack())}
	}
	return &Failure{Reason: fmt.Sprintf("panic: %v", v), Counted: true, Stack: string(debug.Stack())}
}

// Crashed is a panic that happened outside the actor's turn, on its behalf. Delivered through Deliver it becomes the
// actor's own failure.
type Crashed struct {
	// Name of the work that panicked.
	Name string
	// Value is what recover gave; a *Failure keeps its meaning.
	Value any
	// Stack of the goroutine that panicked.
	Stack string
}

func (p Crashed) failure() *Failure {
	if f, ok := p.Value.(*Failure); ok {
		if f.Counted && f.Stack == "" {
			c := *f
			c.Stack = p.Stack
			return &c
		}
		return f
	}
	f := &Failure{Reason: "panic in " + p.Name, Counted: true, Stack: p.Stack}
	if err, ok := p.Value.(error); ok {
		f.Err = err
	} else {
		f.Reason += fmt.Sprintf(": %v", p.Value)
	}
	return f
}

// Messages a parent gets about its children, in its own turn.
type (
	// ChildFailed says that the child failed, or ended when it should not have. It is started again after Delay, unless ChildGaveUp,
	// ChildTerminated or the parent's own failure follows.
	ChildFailed struct {
		Name    string
		Failure *Failure
		Delay   time.Duration
	}
	// ChildGaveUp says that the child failed too often and is quarantined, or the house reported as failed. ChildTerminated follows.
	ChildGaveUp struct {
		Name    string
		Failure *Failure
	}
	// ChildTerminated says that the child is gone for good; its name may be started again. Expected: it was stopped by us, or
	// finished by itself.
	ChildTerminated struct {
		Name     string
		Expected bool
	}
)

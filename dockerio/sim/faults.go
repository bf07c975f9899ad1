package sim

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Names of the port's methods, as faults and counters know them.
const (
	OpDial             = "Dial"
	OpInfo             = "Info"
	OpPing             = "Ping"
	OpEvents           = "Events"
	OpListContainers   = "ListContainers"
	OpInspectContainer = "InspectContainer"
	OpRemoveContainer  = "RemoveContainer"
	OpStartContainer   = "StartContainer"
	OpStopContainer    = "StopContainer"
	OpRestartContainer = "RestartContainer"
	OpKillContainer    = "KillContainer"
	OpPauseContainer   = "PauseContainer"
	OpUnpauseContainer = "UnpauseContainer"
	OpListImages       = "ListImages"
	OpInspectImage     = "InspectImage"
	OpRemoveImage      = "RemoveImage"
	OpListVolumes      = "ListVolumes"
	OpInspectVolume    = "InspectVolume"
	OpRemoveVolume     = "RemoveVolume"
)

// Names of further calls, which only the HTTP API has.
const (
	OpCreateContainer = "CreateContainer"
	OpRenameContainer = "RenameContainer"
	OpUpdateContainer = "UpdateContainer"
	OpAttach          = "Attach"
	OpLogs            = "Logs"
	OpWait            = "Wait"
	OpPruneContainers = "PruneContainers"
	OpPull            = "Pull"
	OpImport          = "Import"
	OpLoad            = "Load"
	OpSave            = "Save"
	OpTag             = "Tag"
	OpPruneImages     = "PruneImages"
	OpCreateVolume    = "CreateVolume"
	OpPruneVolumes    = "PruneVolumes"
	OpVersion         = "Version"
	OpDiskUsage       = "DiskUsage"
	OpNetworks        = "Networks"
)

// Rule is one fault of calls. What it does happens in this order: wait, hang, panic, fail.
type Rule struct {
	// Op is a port method; "" = each.
	Op string
	// Name is the call's argument or, of a container, its name too; "" = each.
	Name string
	// Times is how many calls it hits; 0 = all.
	Times int
	// After lets the call have its effect first; what is answered is the state of that moment: an answer that is lost or late.
	After bool
	// Delay before the call goes on.
	Delay time.Duration
	// Hang until the call's context ends, or the rule is taken back.
	Hang bool
	// Panic, if not nil, is the value of a panic in the caller.
	Panic any
	// Err is the call's result.
	Err error
	// Corrupt is the call's answer. With After, the call has its effect.
	Corrupt Corruption
	// Share of the calls that it hits, chosen by a hash of (seed, op, name, time); 0 = all.
	Share float64
}

// Faults is the script of what goes wrong; it can be changed at any time. Each method that adds a fault returns the function
// that takes it back.
type Faults struct {
	engine *Engine

	// The rest is guarded by the engine's lock.
	rules   []*rule
	events  []*EventFault
	held    []func() // events that wait for another one
	floor   string
	silent  bool
	late    bool
	noClock bool
	dropped int
}

type rule struct {
	Rule
	left  int
	spent bool
	ended chan struct{} // closed when it is taken back
}

// Add adds a fault of calls.
func (f *Faults) Add(r Rule) (undo func()) {
	added := &rule{Rule: r, left: r.Times, ended: make(chan struct{})}
	f.engine.mu.Lock()
	defer f.engine.mu.Unlock()
	f.rules = append(f.rules, added)
	return sync.OnceFunc(func() {
		f.engine.mu.Lock()
		defer f.engine.mu.Unlock()
		f.remove(added)
	})
}

// remove takes a rule back; the caller holds the lock.
func (f *Faults) remove(r *rule) {
	if i := slices.Index(f.rules, r); i >= 0 {
		f.rules = slices.Delete(f.rules, i, i+1)
		close(r.ended)
	}
}

// Hang lets calls hang until their context ends, or the fault is taken back.
func (f *Faults) Hang(op, name string) (undo func()) {
	return f.Add(Rule{Op: op, Name: name, Hang: true})
}

// Slow lets calls take d longer.
func (f *Faults) Slow(op, name string, d time.Duration) (undo func()) {
	return f.Add(Rule{Op: op, Name: name, Delay: d})
}

// Fail lets the next n calls fail with err and without effect; n = 0: all.
func (f *Faults) Fail(op, name string, n int, err error) (undo func()) {
	return f.Add(Rule{Op: op, Name: name, Times: n, Err: err})
}

// LoseAnswer lets the next n calls have their effect and fail with err; n = 0: all.
func (f *Faults) LoseAnswer(op, name string, n int, err error) (undo func()) {
	return f.Add(Rule{Op: op, Name: name, Times: n, Err: err, After: true})
}

// Corrupt lets the next n calls have their effect and give an answer that cannot be read; n = 0: all.
func (f *Faults) Corrupt(op, name string, n int, how Corruption) (undo func()) {
	return f.Add(Rule{Op: op, Name: name, Times: n, Corrupt: how, After: true})
}

// PanicOn lets calls panic in the caller.
func (f *Faults) PanicOn(op, name string) (undo func()) {
	return f.Add(Rule{Op: op, Name: name, Panic: fmt.Sprintf("sim: panic on %s %q", op, name)})
}

// StopEvents loses all events, for present and future subscriptions, while calls are answered.
func (f *Faults) StopEvents() (undo func()) {
	f.set(func() { f.silent = true })
	return func() { f.set(func() { f.silent = false }) }
}

// MuteStreams silences the subscriptions open now; a new one works, and finds in the history what was missed.
func (f *Faults) MuteStreams() {
	f.set(func() {
		for _, s := range f.engine.streams {
			s.muted = true
		}
	})
}

// SubscribeLate lets Events return before the engine has subscribed, as a real one may: that happens at the first Next, and
// only what since asks for is not missed.
func (f *Faults) SubscribeLate() (undo func()) {
	f.set(func() { f.late = true })
	return func() { f.set(func() { f.late = false }) }
}

// CutStreams ends the subscriptions open now with io.EOF; what was not read is lost.
func (f *Faults) CutStreams() { f.FailStreams(io.EOF) }

// FailStreams ends the subscriptions open now with err; what was not read is lost.
func (f *Faults) FailStreams(err error) { f.set(func() { f.engine.endStreams(err) }) }

// SkewBy sets engine clock − host clock. The engine's clock may go back by it.
func (f *Faults) SkewBy(d time.Duration) {
	f.set(func() {
		f.engine.skew = d
		f.engine.last = time.Time{}
	})
}

// NoSystemTime lets Info tell no time.
func (f *Faults) NoSystemTime() (undo func()) {
	f.set(func() { f.noClock = true })
	return func() { f.set(func() { f.noClock = false }) }
}

// Clear takes back every fault but SkewBy and what has happened.
func (f *Faults) Clear() {
	f.set(func() {
		for len(f.rules) > 0 {
			f.remove(f.rules[0])
		}
		f.events, f.silent, f.late, f.noClock, f.floor = nil, false, false, false, ""
	})
}

// Dropped is how many events DropEvents and StopEvents lost.
func (f *Faults) Dropped() int {
	f.engine.mu.Lock()
	defer f.engine.mu.Unlock()
	return f.dropped
}

func (f *Faults) set(change func()) {
	f.engine.mu.Lock()
	defer f.engine.mu.Unlock()
	change()
}

// hits takes the rules for a call, using them up; the caller holds the lock.
func (f *Faults) hits(op, name, human string, after bool) (hits []*rule) {
	for _, r := range slices.Clone(f.rules) {
		if r.spent || r.After != after || r.Op != "" && r.Op != op || r.Name != "" && r.Name != name && r.Name != human {
			continue
		}
		if !f.chance(r.Share, op, name, f.engine.options.Clock().UTC().String()) {
			continue
		}
		hits = append(hits, r)
		if r.Times > 0 {
			if r.left--; r.left > 0 {
				continue
			}
			r.spent = true
			if !r.Hang && r.Delay == 0 { // else undo still has something to do: those who wait
				f.rules = slices.DeleteFunc(f.rules, func(other *rule) bool { return other == r })
			}
		}
	}
	return hits
}

// suffer lets a call have its faults; without the lock.
func (e *Engine) suffer(ctx context.Context, hits []*rule) error {
	for _, r := range hits {
		if r.Delay > 0 {
			timer := time.NewTimer(r.Delay)
			err := e.wait(ctx, timer.C, r.ended)
			timer.Stop()
			if err != nil {
				return err
			}
		}
		if r.Hang {
			if err := e.wait(ctx, nil, r.ended); err != nil {
				return err
			}
		}
		if r.Panic != nil {
			panic(r.Panic)
		}
		if r.Err != nil {
			return r.Err
		}
		if r.Corrupt != "" {
			return r.Corrupt
		}
	}
	return nil
}

// wait waits for one of the channels, the context, or the end of the engine.
func (e *Engine) wait(ctx context.Context, due <-chan time.Time, undone <-chan struct{}) error {
	for {
		e.mu.Lock()
		down, life := e.down, e.life
		e.mu.Unlock()
		if down {
			return ErrDown
		}
		select {
		case <-due:
			return nil
		case <-undone:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-life:
		}
	}
}

type call struct{ op, name string }

// Call is one call of the port that may change the engine.
type Call struct {
	Op   string
	Name string
}

// count notes a call; the caller holds the lock.
func (e *Engine) count(op, name string, mutating bool) {
	e.calls[call{op, ""}]++
	if name != "" {
		e.calls[call{op, name}]++
	}
	if mutating {
		e.mutating = append(e.mutating, Call{op, name})
	}
}

// Calls is how often a method of the port was called, whatever came of it.
func (e *Engine) Calls(op string) int { return e.CallsFor(op, "") }

// CallsFor is how often a method of the port was called with that argument; a container's name stands for its id.
func (e *Engine) CallsFor(op, name string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.calls[call{op, name}]
	if c := e.names[name]; c != nil && name != "" {
		n += e.calls[call{op, c.id}]
	}
	return n
}

// MutatingCalls is the calls of the port that may change the engine, in the order they came.
func (e *Engine) MutatingCalls() []Call {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.mutating)
}

// ResetCalls begins counting anew.
func (e *Engine) ResetCalls() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.calls)
	e.mutating = nil
}

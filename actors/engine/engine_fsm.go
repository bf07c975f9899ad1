package engine

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/messages"
)

// phase is what the watcher is at. It is derived from what is desired and what was observed, never stored as an order.
type phase int

const (
	// idle: no session, and nothing asks for one.
	idle phase = iota
	// connecting: a session was started; it has not subscribed yet (or waits for its next try).
	connecting
	// sweeping: the mirrors of another engine, or of one that is stopped for good, are being removed.
	sweeping
	// syncing: subscribed; the first pass is under way.
	syncing
	// live: the first pass is complete.
	live
)

var phaseNames = [...]string{"idle", "connecting", "sweeping", "syncing", "live"}

func (p phase) String() string { return phaseNames[p] }

// state is all the watcher knows.
//
// The table (a sweep also ends with the word of every kind; a first pass likewise):
//
// BEGIN TABLE engine
//
//	state                  event                  next                   effects
//	idle, vm up            running=true           connecting             startSession
//	idle, vm up            running=false          idle
//	idle, vm up            containerd             idle
//	idle, vm up            vm up                  idle
//	idle, vm up            vm elsewhere           idle
//	idle, vm up            vm crashed             idle
//	idle, vm up            vm stopped             idle
//	idle, vm up            subscribed to A        idle
//	idle, vm up            subscribed to B        idle
//	idle, vm up            session lost           idle
//	idle, vm up            sweep stored           idle
//	idle, vm up            quiesced               idle
//	idle, vm up            vm up with containerd  idle
//	connecting             running=false          idle                   stopSession
//	connecting             containerd             idle                   stopSession
//	connecting             vm elsewhere           connecting             stopSession, startSession
//	connecting             vm crashed             idle                   stopSession
//	connecting             vm stopped             idle                   stopSession
//	connecting             subscribed to A        syncing                storeEngine, announce
//	connecting             subscribed to B        syncing                storeEngine, announce
//	connecting, mirrors of A running=true           connecting
//	connecting, mirrors of A running=false          idle                   stopSession, sayStopping
//	connecting, mirrors of A containerd             idle                   stopSession, sayStopping
//	connecting, mirrors of A vm up                  connecting
//	connecting, mirrors of A vm elsewhere           connecting             stopSession, startSession
//	connecting, mirrors of A vm crashed             idle                   stopSession
//	connecting, mirrors of A vm stopped             idle                   stopSession
//	connecting, mirrors of A subscribed to A        syncing                announce
//	connecting, mirrors of A subscribed to B        sweeping               storeSweep
//	connecting, mirrors of A session lost           connecting
//	connecting, mirrors of A sweep stored           connecting
//	connecting, mirrors of A quiesced               connecting
//	connecting, mirrors of A vm up with containerd  connecting
//	syncing                running=false          idle                   sayLost, stopSession, sayStopping
//	syncing                containerd             idle                   sayLost, stopSession, sayStopping
//	syncing                vm elsewhere           connecting             sayLost, stopSession, startSession
//	syncing                vm crashed             idle                   sayLost, stopSession
//	syncing                vm stopped             idle                   sayLost, stopSession
//	syncing                subscribed to A        syncing                sayLost, announce
//	syncing                subscribed to B        sweeping               sayLost, storeSweep
//	syncing                session lost           connecting             sayLost
//	live                   running=false          idle                   sayLost, stopSession, sayStopping
//	live                   containerd             idle                   sayLost, stopSession, sayStopping
//	live                   vm elsewhere           connecting             sayLost, stopSession, startSession
//	live                   vm crashed             idle                   sayLost, stopSession
//	live                   vm stopped             idle                   sayLost, stopSession
//	live                   subscribed to A        syncing                sayLost, announce
//	live                   subscribed to B        sweeping               sayLost, storeSweep
//	live                   session lost           connecting             sayLost
//	lost                   running=true           connecting
//	lost                   running=false          idle                   stopSession, sayStopping
//	lost                   containerd             idle                   stopSession, sayStopping
//	lost                   vm up                  connecting
//	lost                   vm elsewhere           connecting             stopSession, startSession
//	lost                   vm crashed             idle                   stopSession
//	lost                   vm stopped             idle                   stopSession
//	lost                   subscribed to A        syncing                announce
//	lost                   subscribed to B        sweeping               storeSweep
//	lost                   session lost           connecting
//	lost                   sweep stored           connecting
//	lost                   quiesced               connecting
//	lost                   vm up with containerd  connecting
//	crashed                running=true           idle
//	crashed                running=false          idle                   sayStopping
//	crashed                containerd             idle                   sayStopping
//	crashed                vm up                  connecting             startSession
//	crashed                vm elsewhere           connecting             startSession
//	crashed                vm crashed             idle
//	crashed                vm stopped             idle
//	crashed                subscribed to A        idle
//	crashed                subscribed to B        idle
//	crashed                session lost           idle
//	crashed                sweep stored           idle
//	crashed                quiesced               idle
//	crashed                vm up with containerd  connecting             startSession
//	stopping               running=true           connecting             startSession
//	stopping               running=false          idle
//	stopping               containerd             idle
//	stopping               vm up                  idle
//	stopping               vm elsewhere           idle
//	stopping               vm crashed             idle
//	stopping               vm stopped             idle
//	stopping               subscribed to A        idle
//	stopping               subscribed to B        idle
//	stopping               session lost           idle
//	stopping               sweep stored           idle
//	stopping               quiesced               idle
//	stopping               vm up with containerd  idle
//	quiet                  running=true           connecting             startSession
//	quiet                  running=false          idle
//	quiet                  containerd             idle
//	quiet                  vm up                  idle
//	quiet                  vm elsewhere           idle
//	quiet                  vm crashed             idle
//	quiet                  vm stopped             sweeping               storeSweep
//	quiet                  subscribed to A        idle
//	quiet                  subscribed to B        idle
//	quiet                  session lost           idle
//	quiet                  sweep stored           idle
//	quiet                  quiesced               idle
//	quiet                  vm up with containerd  idle
//	changing backend       running=true           connecting             startSession
//	changing backend       running=false          idle
//	changing backend       containerd             idle
//	changing backend       vm up                  idle
//	changing backend       vm elsewhere           idle
//	changing backend       vm crashed             idle
//	changing backend       vm stopped             sweeping               storeSweep
//	changing backend       subscribed to A        idle
//	changing backend       subscribed to B        idle
//	changing backend       session lost           idle
//	changing backend       sweep stored           idle
//	changing backend       quiesced               idle
//	changing backend       vm up with containerd  sweeping               storeSweep
//	sweeping               sweep stored           sweeping               sweepMirrors
//
// END TABLE
type state struct {
	Phase   phase
	Desire  control.EngineDesire
	Desired bool
	VM      control.VMReport
	// Loaded: the journal has told which engine the mirrors belong to, and the number of the last sweep.
	Loaded   bool
	EngineID string
	Sweep    int64
	// Mirrored: there may be mirrors.
	Mirrored bool
	// Up is the session that has subscribed.
	Up *sessionUp
	// Endpoint of the session that was started.
	Endpoint string
	// Session: its actor was started (it may be waiting for its next try).
	Session bool
	// Stops counts the sessions that were stopped; Busy is the stop after which calls that change the engine may still run, 0 = none.
	Stops, Busy int
	// Failure of the last try; WasLive: the mirror was live before it; Refused counts tries in a row that failed for good.
	Failure string
	WasLive bool
	Refused int
	// Done are the kinds whose first pass is complete.
	Done map[string]bool
	// unswept are the kinds still to be swept.
	Unswept map[string]bool
	// Superseded counts the wishes the sweep has ended undone; Reset is the last sweep that was done, zero in this incarnation if none.
	Superseded int
	Reset      messages.MirrorReset
}

// Events of the watcher, past tense.
type (
	desired    struct{ D control.EngineDesire }
	vmReported struct{ R control.VMReport }
	loaded     struct {
		EngineID string
		Sweep    int64
		Mirrored bool
	}
	subscribed struct{ Up sessionUp }
	// sessionLost: Permanent is the class of why, a failure that the next try will meet again.
	sessionLost struct {
		Why       string
		Permanent bool
	}
	sessionGone struct{}
	// quiesced: since that stop no call that changes the engine can start, and none runs, or it had its time.
	quiesced    struct{ Stop int }
	passDone    struct{ Kind string }
	sweepStored struct{}
	// kindSwept: Superseded accepted wishes ended undone by it.
	kindSwept struct {
		Kind       string
		Superseded int
	}
)

// Effects of the watcher, imperative.
type (
	startSession struct{ Endpoint messages.Endpoint }
	// stopSession: no effect starts any more, and those that run get a moment.
	stopSession struct{ Stop int }
	// sayStopping: the mirrors say that their engine is about to be left.
	sayStopping struct{}
	// storeSweep: the journal forgets the mirrors' records and counts the sweep, before the first mirror goes.
	storeSweep struct {
		Sweep    int64
		EngineID string
	}
	sweepMirrors struct{}
	// storeEngine: the mirrors belong to this engine from now on.
	storeEngine struct{ EngineID string }
	announce    struct{}
	sayLost     struct{}
	tellReady   struct{}
)

type event interface{}
type effect interface{}

var mirroredKinds = func() []string {
	var out []string
	for _, k := range messages.Kinds() {
		if k.Mirrored {
			out = append(out, k.Name)
		}
	}
	return out
}()

// sweptKinds are those the sweep waits for: the mirrored ones and the namespace.
var sweptKinds = append(append([]string{}, mirroredKinds...), messages.KindContainerNamespace)

func (s state) apply(e event) (state, []effect) {
	var out []effect
	switch e := e.(type) {
	case desired:
		if e.D.Generation != s.Desire.Generation {
			s.Refused = 0 // what refused the spec before need not refuse this one
		}
		was := s.mirroring()
		s.Desire, s.Desired = e.D, true
		if was && !s.mirroring() && s.Mirrored && !s.Session && s.Phase != sweeping {
			out = append(out, sayStopping{}) // the VM was faster: the session ended when it said so, and nobody knew why
		}
	case vmReported:
		s.VM = e.R
	case loaded:
		s.Loaded, s.EngineID, s.Sweep, s.Mirrored = true, e.EngineID, e.Sweep, e.Mirrored
	case subscribed:
		if s.Phase == syncing || s.Phase == live {
			// The session before is over: its loss was heard before that it had subscribed, or its word came after it was stopped.
			s.WasLive, s.Phase, s.Done = s.WasLive || s.Phase == live, connecting, nil
			out = append(out, sayLost{})
		}
		up := e.Up
		s.Up, s.Failure, s.Refused = &up, "", 0
	case sessionLost:
		s.WasLive = s.WasLive || s.Phase == live
		s.Up, s.Failure, s.Done = nil, e.Why, nil
		if s.Refused++; !e.Permanent {
			s.Refused = 0
		}
		if s.Phase == syncing || s.Phase == live {
			s.Phase = connecting
			out = append(out, sayLost{})
		}
	case quiesced:
		if s.Busy == e.Stop {
			s.Busy = 0
		}
	case sessionGone:
		s.Session, s.Up, s.Done = false, nil, nil
	case passDone:
		if s.Phase == syncing {
			s.Done = with(s.Done, e.Kind)
		}
	case sweepStored:
		if s.Phase == sweeping && len(s.Unswept) == 0 {
			s.Unswept = map[string]bool{}
			for _, k := range sweptKinds {
				s.Unswept[k] = true
			}
			out = append(out, sweepMirrors{})
			return s, out
		}
	case kindSwept:
		if !s.Unswept[e.Kind] {
			return s, out // the word of an earlier sweep
		}
		s.Unswept, s.Superseded = without(s.Unswept, e.Kind), s.Superseded+e.Superseded
		if s.Phase == sweeping && len(s.Unswept) == 0 {
			s.Reset = messages.MirrorReset{Sweep: s.Sweep, Superseded: s.Superseded}
			s.Phase, s.Mirrored, s.WasLive = idle, false, false
			if s.Session {
				s.Phase = connecting
			}
		}
	}
	return s.decide(out)
}

// decide compares what is desired with what is, and takes at most one step.
func (s state) decide(out []effect) (state, []effect) {
	if !s.Loaded || !s.Desired || s.Phase == sweeping {
		return s, out
	}
	want := s.wanted()
	switch {
	case s.Session && (!want || s.VM.Endpoint.Host != s.Endpoint):
		if s.Phase == syncing || s.Phase == live {
			out = append(out, sayLost{})
		}
		s.Session, s.Up, s.Done, s.Phase, s.WasLive = false, nil, nil, idle, false
		s.Stops++
		s.Busy = s.Stops
		out = append(out, stopSession{Stop: s.Stops})
		if s.Mirrored && !s.mirroring() {
			out = append(out, sayStopping{})
		}
		return s.decide(out)
	case s.goneForGood() && s.Mirrored:
		return s.beginSweep("", out)
	case want && !s.Session:
		s.Session, s.Phase, s.Endpoint, s.Failure = true, connecting, s.VM.Endpoint.Host, ""
		s.Refused = 0
		out = append(out, startSession{Endpoint: *s.VM.Endpoint})
	case s.Phase == connecting && s.Up != nil && s.EngineID != "" && s.EngineID != s.Up.Info.ID && s.Mirrored:
		return s.beginSweep(s.Up.Info.ID, out)
	case s.Phase == connecting && s.Up != nil:
		s.Phase, s.Mirrored, s.Done = syncing, true, nil
		if s.EngineID != s.Up.Info.ID {
			s.EngineID = s.Up.Info.ID
			out = append(out, storeEngine{EngineID: s.EngineID})
		}
		out = append(out, announce{})
	case s.Phase == syncing && len(s.Done) == len(mirroredKinds):
		s.Phase, s.WasLive = live, true
		out = append(out, tellReady{})
	}
	return s, out
}

func (s state) beginSweep(engineID string, out []effect) (state, []effect) {
	s.Phase, s.EngineID, s.Unswept, s.Superseded = sweeping, engineID, nil, 0
	s.Sweep++
	return s, append(out, storeSweep{Sweep: s.Sweep, EngineID: engineID})
}

// wanted: there shall be a session, and there is something to connect to.
func (s state) wanted() bool {
	return s.mirroring() && s.VM.Running && s.VM.Endpoint != nil
}

// mirroring: what is desired is an engine that is mirrored.
func (s state) mirroring() bool { return s.Desire.Running && s.Desire.Backend == messages.EngineMoby }

// goneForGood: the engine was stopped by wish, or another backend runs in its place. A crash is a moment, however long.
func (s state) goneForGood() bool {
	if s.Session || s.mirroring() || s.VM.Generation < s.Desire.Generation {
		return false
	}
	return s.Busy == 0 && (s.Desire.Running || !s.VM.Running)
}

// report is what app and vm are told.
func (s state) report() control.EngineReport {
	// What vm is not through with, engine is not either: the engine that is connected may be the one to be left.
	r := control.EngineReport{Generation: min(s.Desire.Generation, s.VM.Generation), Ready: metav1.ConditionFalse}
	if s.Reset.Sweep != 0 {
		reset := s.Reset
		r.Reset = &reset
	}
	r.Busy = s.Busy != 0
	if s.Desired && !s.Desire.Running && !s.Session && !r.Busy {
		r.Quiesced = s.Desire.Generation
	}
	switch {
	case s.Desire.Backend != "" && s.Desire.Backend != messages.EngineMoby && s.Desire.Running:
		r.Ready, r.Reason = metav1.ConditionUnknown, messages.ReasonNotApplicable
		r.Message = s.Desire.Backend + " is not mirrored"
		if s.Mirrored {
			r.Generation = min(r.Generation, s.Desire.Generation-1)
		}
	case !s.Desire.Running:
		r.Reason, r.Message = messages.ReasonStopped, "the engine is not wanted"
		if s.Mirrored || s.Session || s.VM.Running {
			r.Reason, r.Message = messages.ReasonStopping, "the mirrors go when the vm has stopped"
			if len(s.Unswept) > 0 {
				r.Message = "the mirrors are being removed: waiting for " + strings.Join(plurals(sweptKinds, func(k string) bool { return s.Unswept[k] }), ", ")
			}
			r.Generation = min(r.Generation, s.Desire.Generation-1)
		}
	case s.Phase == live:
		r.Ready, r.Reason = metav1.ConditionTrue, messages.ReasonConnected
	case s.Phase == syncing:
		r.Reason, r.Message = messages.ReasonSyncing, "first pass: waiting for "+strings.Join(plurals(mirroredKinds, func(k string) bool { return !s.Done[k] }), ", ")
	case s.Phase == sweeping:
		r.Reason, r.Message = messages.ReasonSyncing, "the mirrors of another engine are being removed"
	case !s.VM.Running:
		r.Reason, r.Message = messages.ReasonDisconnected, "the vm is not running"
	case s.refused():
		r.Reason, r.Message = messages.ReasonCannotConnect, s.Failure
	case s.Failure != "" && s.WasLive:
		r.Reason, r.Message = messages.ReasonDisconnected, s.Failure
	case s.Failure != "":
		r.Reason, r.Message = messages.ReasonConnectFailed, s.Failure
	default:
		r.Reason, r.Message = messages.ReasonConnecting, fmt.Sprintf("connecting to %s", s.Endpoint)
	}
	return r
}

// refused: the engine is there and does not let us in. One such failure proves nothing: a socket is there a moment before its
// owner and mode are.
func (s state) refused() bool { return s.Refused > 1 }

// plurals names the kinds of which is true for people.
func plurals(kinds []string, which func(kind string) bool) []string {
	var out []string
	for _, k := range kinds {
		if which(k) {
			kind, _ := messages.KindByName(k)
			out = append(out, kind.Plural)
		}
	}
	return out
}

func with(m map[string]bool, k string) map[string]bool {
	out := map[string]bool{k: true}
	for o := range m {
		out[o] = true
	}
	return out
}

func without(m map[string]bool, k string) map[string]bool {
	out := map[string]bool{}
	for o := range m {
		if o != k {
			out[o] = true
		}
	}
	return out
}

package mirror

import (
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// restartSlack is how long after its grace a restart may still come about: dockerd goes on with it after we are gone.
const restartSlack = 5 * time.Second

// intent is what is wanted of one container, what is known of it, and the one operation that is in flight. Events record facts;
// decide compares. Order: deletion, action, spec.state.
//
// What it does about what it sees ("until proved": a state counts only if it was asked for after the wish, and after our own last
// call):
//
// BEGIN TABLE decide
//
//	state                  event                  next                   effects
//	Once running           created                start
//	Once running           exited                 start
//	Once running           running                applied
//	Once running           paused                 unpause
//	Once running           restarting             nothing
//	Once running           removing               Failed: the container is removing
//	Once running           dead                   Failed: the container is dead
//	running was applied    created                Drifted
//	running was applied    exited                 Drifted
//	running was applied    running                nothing
//	running was applied    paused                 Drifted
//	running was applied    restarting             Drifted
//	running was applied    removing               Drifted
//	running was applied    dead                   Drifted
//	Enforce running        created                Drifted, later: corrected
//	Enforce running        exited                 Drifted, later: corrected
//	Enforce running        running                nothing
//	Enforce running        paused                 Drifted, later: corrected
//	Enforce running        restarting             Drifted
//	Enforce running        removing               Drifted
//	Enforce running        dead                   Drifted
//	Once created           created                applied
//	Once created           exited                 applied
//	Once created           running                stop
//	Once created           paused                 unpause
//	Once created           restarting             stop
//	Once created           removing               Failed: the container is removing
//	Once created           dead                   Failed: the container is dead
//	created was applied    created                nothing
//	created was applied    exited                 nothing
//	created was applied    running                Drifted
//	created was applied    paused                 Drifted
//	created was applied    restarting             Drifted
//	created was applied    removing               Drifted
//	created was applied    dead                   Drifted
//	Enforce created        created                nothing
//	Enforce created        exited                 nothing
//	Enforce created        running                Drifted, later: corrected
//	Enforce created        paused                 Drifted, later: corrected
//	Enforce created        restarting             Drifted, later: corrected
//	Enforce created        removing               Drifted
//	Enforce created        dead                   Drifted
//	Once paused            created                start
//	Once paused            exited                 start
//	Once paused            running                pause
//	Once paused            paused                 applied
//	Once paused            restarting             nothing
//	Once paused            removing               Failed: the container is removing
//	Once paused            dead                   Failed: the container is dead
//	paused was applied     created                Drifted
//	paused was applied     exited                 Drifted
//	paused was applied     running                Drifted
//	paused was applied     paused                 nothing
//	paused was applied     restarting             Drifted
//	paused was applied     removing               Drifted
//	paused was applied     dead                   Drifted
//	Enforce paused         created                Drifted, later: corrected
//	Enforce paused         exited                 Drifted, later: corrected
//	Enforce paused         running                Drifted, later: corrected
//	Enforce paused         paused                 nothing
//	Enforce paused         restarting             Drifted
//	Enforce paused         removing               Drifted
//	Enforce paused         dead                   Drifted
//	action start           created                start
//	action start           exited                 start
//	action start           running                Succeeded
//	action start           paused                 Failed: start: the container is paused
//	action start           restarting             start
//	action start           removing               Failed: start: the container is removing
//	action start           dead                   Failed: start: the container is dead
//	action stop            created                Succeeded
//	action stop            exited                 Succeeded
//	action stop            running                stop
//	action stop            paused                 stop
//	action stop            restarting             stop
//	action stop            removing               Failed: stop: the container is removing
//	action stop            dead                   Succeeded
//	action pause           created                Failed: pause: the container is created
//	action pause           exited                 Failed: pause: the container is exited
//	action pause           running                pause
//	action pause           paused                 Succeeded
//	action pause           restarting             Failed: pause: the container is restarting
//	action pause           removing               Failed: pause: the container is removing
//	action pause           dead                   Failed: pause: the container is dead
//	action unpause         created                Failed: unpause: the container is created
//	action unpause         exited                 Failed: unpause: the container is exited
//	action unpause         running                Succeeded
//	action unpause         paused                 unpause
//	action unpause         restarting             Failed: unpause: the container is restarting
//	action unpause         removing               Failed: unpause: the container is removing
//	action unpause         dead                   Failed: unpause: the container is dead
//	action restart         created                restart
//	action restart         exited                 restart
//	action restart         running                restart
//	action restart         paused                 restart
//	action restart         restarting             restart
//	action restart         removing               Failed: restart: the container is removing
//	action restart         dead                   Failed: restart: the container is dead
//	action kill            created                Succeeded
//	action kill            exited                 Succeeded
//	action kill            running                kill
//	action kill            paused                 kill
//	action kill            restarting             kill
//	action kill            removing               Failed: kill: the container is removing
//	action kill            dead                   Succeeded
//	being deleted          created                nothing
//	being deleted          exited                 nothing
//	being deleted          running                nothing
//	being deleted          paused                 nothing
//	being deleted          restarting             nothing
//	being deleted          removing               nothing
//	being deleted          dead                   nothing
//
// END TABLE
type intent struct {
	// State and Policy are spec's; Generation is the resource's, Observed the one that is settled: a smaller one means that spec.state
	// is still to be brought about.
	State, Policy        string
	Generation, Observed int64
	// Outcome of the newest settled generation, and why.
	Outcome outcome
	Why     string
	// Receipt of the newest action.
	Receipt receipt
	// Deleting: the deletion is accepted, nothing else counts any more.
	Deleting bool

	// Seen is what the engine last said; Proof: it was asked after everything that matters. Live: there is a session.
	Seen  sight
	Proof bool
	Live  bool
	// By says who changed what had been applied.
	By string

	// Loaded: the journal has told what was open.
	Loaded bool
	// Saving is what the journal is writing down; Unsaved: something that it must know.
	Saving  saving
	Unsaved bool
	// Offer is the action whose acceptance is being written down: until then nothing else is, so that its end is in each record.
	Offer receipt

	Phase  phase
	Op     operation
	Result result

	// Tries counts attempts at spec.state in a row that failed, Corrections what Enforce had to put right lately. Waiting for the
	// timer of that Round; Due: it came.
	Tries, Corrections int
	Waiting, Due       bool
	Round              int
	// Stuck: the journal refused; everything waits for the timer.
	Stuck bool
	// Serial numbers the operations of the incarnation Prefix names.
	Prefix string
	Serial int
}

// sight is what an inspect said.
type sight struct {
	Status    string // one of messages.Container*; empty = nothing yet
	StartedAt dockerio.Time
	Policy    string // restart policy
	Restarts  int
	ExitCode  int
	// Grace is the container's own.
	Grace time.Duration
}

// receipt is messages.ActionReceipt, as a value, with the grace.
type receipt struct {
	ID, Verb, State, Error         string
	Grace                          time.Duration // negative = the container's own
	Requested, Observed, Completed time.Time
}

func (r receipt) pending() bool { return r.State == messages.ActionPending }

// operation is one call that changes the container.
type operation struct {
	ID   string
	Verb string
	// Action it is for; empty = spec.state.
	Action string
	// StartedAt is the container's as last observed, SentAt the engine's clock before the call (of a restart only).
	StartedAt, SentAt dockerio.Time
	Grace             time.Duration
}

type result struct {
	OK      bool
	Class   messages.Class
	Message string
	// Unsure: nobody knows whether the engine did it. Replayed: nor even whether it was asked.
	Unsure, Replayed bool
	// Held: enough time has passed for a restart to come about.
	Held bool
}

// outcome of spec.state.
type outcome string

const (
	undecided  outcome = ""
	applied    outcome = "applied"
	hopeless   outcome = "failed"
	superseded outcome = "superseded"
)

// phase of the operation. How an operation goes, with the engine up ("…": what is being waited for):
//
// BEGIN TABLE operation
//
//	state                  event                  next                   effects
//	stop: writing it down… written                stop: calling…         act
//	stop: writing it down… journal refused        later again            scheduleIntent
//	stop: calling…         done                   stop: looking…         look
//	stop: calling…         failed                 stop: looking…         look
//	stop: calling…         no session             wanted                 save
//	stop: looking…         seen running           Failed                 showIntent, showIntent, save
//	stop: looking…         seen stopped           Succeeded              showIntent, showIntent, save
//	stop: looking…         seen started anew      Failed                 showIntent, showIntent, save
//	restart: reading the clock… clock read             restart: writing it down… save
//	restart: reading the clock… online                 restart: reading the clock… readClock
//	stop: an old call…     no old call            stop: looking…         look
//	stop: an old call…     online                 stop: an old call…     fence
//	stop replayed          seen running           wanted                 showIntent, showIntent, save
//	stop replayed          seen stopped           Succeeded              showIntent, showIntent, save
//	stop replayed          seen started anew      wanted                 showIntent, showIntent, save
//	restart replayed       seen running           restart: how late is it… showIntent, readClock
//	restart replayed       seen stopped           restart: how late is it… showIntent, readClock
//	restart replayed       seen started anew      Succeeded              showIntent, showIntent, save
//	kill replayed          seen running           Failed                 showIntent, showIntent, save
//	kill replayed          seen stopped           Succeeded              showIntent, showIntent, save
//	kill replayed          seen started anew      Failed                 showIntent, showIntent, save
//	restart: how late is it… clock read             restart: an old restart… hold
//	restart: how late is it… online                 restart: how late is it… readClock
//	restart: an old restart… time is up             restart: looking…      look
//
// END TABLE
type phase int

const (
	resting phase = iota
	// timing: the engine's clock is being read, for a restart is recognised by it.
	timing
	// sending: the journal takes the operation; it has not been called.
	sending
	atWork
	// proving: the call is over; an inspect tells what came of it.
	proving
	// fencing: a call of an earlier incarnation may still be under way.
	fencing
	// gauging: the engine's clock is being read, to know how long a restart of before may still take.
	gauging
	// holding: until then nothing is called.
	holding
)

var phaseNames = map[phase]string{
	resting: "at rest", timing: "reading the clock…", sending: "writing it down…", atWork: "calling…", proving: "looking…",
	fencing: "an old call…", gauging: "how late is it…", holding: "an old restart…",
}

func (p phase) String() string { return phaseNames[p] }

// saving is what a commit is for.
type saving int

const (
	notSaving saving = iota
	// savingOperation: what is about to be called.
	savingOperation
	// savingOutcome: what came of it.
	savingOutcome
)

// Events of an intent.
type (
	// adopted: that is how the resource was found, by this incarnation.
	adopted struct {
		State, Policy        string
		Generation, Observed int64
	}
	// wrote: that is spec now.
	wrote struct {
		State, Policy string
		Generation    int64
	}
	// recalled: the journal has told what was open. Op without ID: nothing was.
	recalled struct {
		Observed int64
		Outcome  outcome
		Why      string
		Receipt  receipt
		Op       operation
	}
	// offered: somebody asks for an action that may be accepted.
	offered struct{ Receipt receipt }
	// offerKept: the journal has it, or refused. Touched: what it had before may be gone.
	offerKept struct{ OK, Touched bool }
	// saved: the journal has it, or refused.
	saved struct {
		OK bool
		At time.Time
	}
	// saw: an inspect answered. Proof: it was asked for after the last look.
	saw struct {
		Seen  sight
		Proof bool
		At    time.Time
	}
	// clockRead: the engine's clock; zero when it could not be read.
	clockRead struct {
		Now       dockerio.Time
		NoSession bool
		ID        string // of the operation to be
	}
	// called: the engine answered, or did not.
	called struct {
		ID        string
		OK        bool
		Class     messages.Class
		Message   string
		Unsure    bool
		NoSession bool
	}
	// fenced: no call of before is under way.
	fenced   struct{ NoSession bool }
	holdOver struct{}
	// intentDue: the time of that round has come.
	intentDue struct{ Round int }
	// calm: Enforce had nothing to correct for a while.
	calm struct{ Corrections int }
	// condemned: a deletion was accepted.
	condemned struct{ At time.Time }
)

// Effects of an intent.
type (
	// look: inspect; what was asked before is no proof.
	look struct{}
	// save writes the whole intent down.
	save      struct{ What saving }
	readClock struct{}
	// act calls the engine.
	act struct{ Op operation }
	// fence waits for the call of an earlier incarnation.
	fence struct{}
	hold  struct{ For time.Duration }
	// scheduleIntent: try again after a delay for that number of tries. Enforced: slowly.
	scheduleIntent struct {
		Round, Tries int
		Enforced     bool
	}
	scheduleCalm struct{ Corrections int }
	// showIntent publishes conditions, observedGeneration and receipt.
	showIntent struct{}
	// tellSuperseded: an action ended without being carried out.
	tellSuperseded struct {
		Receipt receipt
		Why     string
	}
)

func (s intent) apply(e event) (intent, []effect) {
	var out []effect
	var at time.Time
	switch e := e.(type) {
	case online:
		s.Live, s.Proof, s.Waiting, s.Tries = true, false, false, 0
		out = s.resume(out)
	case adopted:
		s.State, s.Policy, s.Generation, s.Observed = e.State, e.Policy, e.Generation, max(s.Observed, e.Observed)
	case wrote:
		s, out = s.written(e, out)
	case recalled:
		s, out = s.remember(e, out)
	case offered:
		s.Offer = e.Receipt
	case offerKept:
		s, out = s.considered(e, out)
	case saved:
		at = e.At
		s, out = s.kept(e, out)
	case saw:
		at = e.At
		s = s.looked(e)
		out = append(out, showIntent{})
	case clockRead:
		s, out = s.timed(e, out)
	case called:
		s, out = s.answered(e, out)
	case fenced:
		s, out = s.unfenced(e, out)
	case holdOver:
		if s.Phase == holding {
			s.Phase, s.Proof, s.Result.Held = proving, false, true
			out = append(out, look{})
		}
	case intentDue:
		if e.Round == s.Round {
			s.Stuck, s.Waiting, s.Due = false, false, s.Waiting
		}
	case calm:
		if e.Corrections == s.Corrections && s.satisfied() {
			s.Corrections = 0
		}
	case condemned:
		at = e.At
		s.Deleting = true
	}
	return s.decide(at, out)
}

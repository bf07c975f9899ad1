package vm

import (
	"reflect"
	"slices"
	"time"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// Times of the machine; the shell adds jitter to the retries.
const (
	retryMin = 500 * time.Millisecond
	retryMax = 30 * time.Second
	// quiesceLimit is how long a stop waits for the engine to let go.
	quiesceLimit = 5 * time.Second
	// resyncPeriod is how often a running VM is inspected without cause. A VM that ran that long after a crash is forgiven.
	resyncPeriod = time.Minute
	// startRetries failed attempts in a row are retried as Starting; one more is StartFailed.
	startRetries = 3
	// gracefulStops failed before a stop is forced.
	gracefulStops = 2
)

type phase string

const (
	phaseUnknown    phase = "Unknown"
	phaseInspecting phase = "Inspecting"
	phaseStopped    phase = "Stopped"
	phaseStarting   phase = "Starting"
	phaseRunning    phase = "Running"
	phaseQuiescing  phase = "Quiescing"
	phaseStopping   phase = "Stopping"
	phaseBackoff    phase = "Backoff"
	phaseFailed     phase = "Failed"
)

type operation string

const (
	opNone    operation = ""
	opInspect operation = "inspect"
	opStart   operation = "start"
	opStop    operation = "stop"
)

// Events: facts, past tense.
type (
	event interface{}

	desired struct{ d control.VMDesire }
	// failure is what an error decides: its class and its text.
	failure struct {
		permanent bool
		text      string
	}
	inspected struct {
		driver   string
		seen     vmdriver.Observation
		endpoint *messages.Endpoint
		// strays are other drivers that own an engine which runs; looked for once per incarnation.
		strays []string
		failed *failure
	}
	started struct {
		driver   string
		spec     vmdriver.Spec
		endpoint *messages.Endpoint
		failed   *failure
	}
	stopped struct {
		driver string
		failed *failure
	}
	// watched: the driver says, without being asked, that its phase is another one. A hint: it leads to an inspect.
	watched struct {
		driver string
		phase  vmdriver.Phase
	}
	engineReported struct {
		quiesced int64
		// busy: what it has begun may still run.
		busy   bool
		ready  bool
		reason string
	}
	timerFired struct {
		timer timer
		id    int
	}
)

type timer string

const (
	timerRetry   timer = "retry"
	timerQuiesce timer = "quiesce"
	timerResync  timer = "resync"
)

// Effects: imperative, comparable.
type (
	effect interface{}

	inspect struct {
		driver string
		spec   vmdriver.Spec
		// strays: inspect the other drivers too.
		strays bool
	}
	start struct {
		driver string
		spec   vmdriver.Spec
	}
	stop struct {
		driver string
		force  bool
	}
	// watch makes driver the one whose Watch is listened to.
	watch    struct{ driver string }
	schedule struct {
		timer timer
		id    int
		delay time.Duration
	}
	cancel struct{ timer timer }
	// abort ends the context of the start in flight: it is not wanted any more.
	abort  struct{}
	report struct{ r control.VMReport }
)

// state is everything vm knows. One rule compares what is desired with what is observed and picks at most one operation:
//
//	driver to be left behind still runs  → (engine lets go) → stop it
//	nothing known of the VM, or in doubt → inspect
//	desired running, VM is down          → start
//	desired running, VM runs             → done, or (engine lets go) → stop, when it runs with another config
//	desired stopped, VM is up            → (engine lets go) → stop
//	desired stopped, VM is down          → done
//
// "engine lets go" ends after 5 s at the latest. An operation in flight or a retry that is not due defers the rule. The table
// of phases and events (an event that changes nothing is left out) is rendered from the code by TestTable:
//
//	Unknown
//	  desired: run               → Inspecting  watch native; inspect native
//	  desired: run, other driver → Inspecting  watch lima; inspect lima
//	  desired: stop              → Inspecting  watch native; inspect native
//	Inspecting
//	  desired: run, other driver → Inspecting  watch lima
//	  inspected: down            → Starting    start native; report Running=false Starting
//	  inspected: up              → Running     resync in 1m0s; report Running=true Started
//	  inspect failed             → Backoff     retry in 500ms; report Running=false Starting
//	Stopped
//	  desired: run               → Starting    start native; report Running=false Starting
//	  desired: run, other driver → Inspecting  watch lima; inspect lima; report Running=false Starting
//	  desired: stop              → Stopped     report Running=false Stopped
//	Starting
//	  desired: run               → Starting    report Running=false Starting
//	  desired: run, other driver → Starting    abort; watch lima; report Running=false Stopping
//	  desired: stop              → Starting    abort; report Running=false Stopping
//	  started                    → Running     resync in 1m0s; report Running=true Started
//	  start failed               → Backoff     retry in 500ms; report Running=false Starting
//	  start failed for good      → Failed      retry in 30s; report Running=false StartFailed
//	Running
//	  desired: run               → Running     report Running=true Started
//	  desired: run, other driver → Quiescing   no resync; watch lima; quiesce in 5s; report Running=false Stopping
//	  desired: stop              → Quiescing   quiesce in 5s; report Running=true Stopping
//	  watch: down                → Running     inspect native
//	  engine lost it             → Running     inspect native
//	  resync due                 → Running     inspect native
//	Quiescing
//	  desired: run               → Running     no quiesce; report Running=true Started
//	  desired: run, other driver → Quiescing   no quiesce; no resync; watch lima; quiesce in 5s; report Running=false Stopping
//	  desired: stop              → Quiescing   no quiesce; quiesce in 5s; report Running=true Stopping
//	  engine let go              → Stopping    no quiesce; stop native; report Running=false Stopping
//	  quiesce limit              → Stopping    stop native; report Running=false Stopping
//	Stopping
//	  desired: run               → Stopping    report Running=false Stopping
//	  desired: run, other driver → Stopping    no resync; watch lima; report Running=false Stopping
//	  desired: stop              → Stopping    report Running=false Stopping
//	  stopped                    → Stopped     no resync; report Running=false Stopped
//	  stop failed                → Backoff     retry in 500ms; report Running=true Stopping
//	Backoff
//	  desired: run               → Inspecting  no retry; inspect native; report Running=false Starting
//	  desired: run, other driver → Quiescing   no retry; watch lima; quiesce in 5s; report Running=false Stopping
//	  desired: stop              → Inspecting  no retry; inspect native; report Running=false Stopping
//	  retry due                  → Inspecting  inspect native
//	Failed
//	  desired: run               → Inspecting  no retry; inspect native; report Running=false Starting
//	  desired: run, other driver → Quiescing   no retry; watch lima; quiesce in 5s; report Running=false Stopping
//	  desired: stop              → Inspecting  no retry; inspect native; report Running=false Stopping
//	  retry due                  → Inspecting  inspect native
type state struct {
	// drivers is a table of facts; it never changes.
	drivers map[string]vmdriver.Capabilities

	known bool
	want  control.VMDesire

	// driver is the one all of the following is about.
	driver string
	// seen of its VM; empty = inspect.
	seen     vmdriver.Phase
	detail   string
	created  bool
	endpoint *messages.Endpoint
	// spec the VM was started with (for an adopted one: the spec it was found under); zero = it is down.
	spec vmdriver.Spec
	run  int64
	// observed: there was an answer in this incarnation; before it nothing is reported.
	observed bool
	// strays are drivers to be left behind whose VM is or may be up.
	strays []stray
	// doubt: something suggests that seen is out of date. hint is what Watch said since the operation in flight began.
	doubt bool
	hint  vmdriver.Phase
	// dirty: a start failed half-way; whatever Inspect says, a stop is due before we are stopped.
	dirty bool
	// unsure: not looked at since it was a stray; it may be up.
	unsure bool

	busy operation
	// target, busyGeneration and busyRetry of the operation in flight.
	target         string
	aborted        bool
	busyGeneration int64
	busyRetry      int64

	engineKnown bool
	quiesced    int64
	engineBusy  bool
	engineReady bool
	engineSays  string

	// failures in a row of failed; the goal once reached forgets them.
	failures  int
	permanent bool
	failed    operation
	why       string
	crashed   bool
	crashes   int

	timerID int
	// retry, quiesce, resync are the ids of the timers that run; 0 = it does not.
	retry, quiesce, resync int
	// patienceOver: the engine had its time to let go.
	patienceOver bool

	finished int64
	reported control.VMReport
	spoke    bool
	// owed: a desire was not answered yet; app takes silence for not having heard it.
	owed bool
}

// stray is a driver to be left behind, and the spec its VM runs with.
type stray struct {
	driver string
	spec   vmdriver.Spec
}

func newState(drivers map[string]vmdriver.Capabilities) state { return state{drivers: drivers} }

// apply records the event, then decides.
func (s state) apply(e event) (state, []effect) {
	var out []effect
	s.strays = slices.Clone(s.strays)
	switch e := e.(type) {
	case desired:
		s.desire(e.d, &out)
	case inspected:
		s.inspectDone(e, &out)
	case started:
		s.startDone(e, &out)
	case stopped:
		s.stopDone(e, &out)
	case watched:
		if e.driver == s.driver {
			s.hint = e.phase
			if s.busy == opNone && s.seen != "" && e.phase != s.seen && (s.want.Running || s.drivers[s.driver].OwnsEngine) {
				s.doubt = true
			}
		}
	case engineReported:
		trouble := e.reason == messages.ReasonDisconnected || e.reason == messages.ReasonConnectFailed
		if trouble && e.reason != s.engineSays && s.seen == vmdriver.Running {
			s.doubt = true
		}
		s.engineKnown, s.quiesced, s.engineBusy, s.engineReady, s.engineSays = true, max(s.quiesced, e.quiesced), e.busy, e.ready, e.reason
	case timerFired:
		if !s.fired(e) {
			return s, nil
		}
	}
	for range 2 { // what is said may be what an operation waited for
		s.decide(&out)
		if r, ok := s.report(); ok && (!s.spoke || s.owed || !reflect.DeepEqual(r, s.reported)) {
			s.reported, s.spoke, s.owed = r, true, false
			out = append(out, report{r})
		}
	}
	return s, out
}

func (s *state) desire(d control.VMDesire, out *[]effect) {
	if s.known && d == s.want {
		return
	}
	s.known, s.want, s.owed = true, d, true
	s.finished = min(s.finished, d.Generation-1)
	s.forgive(out)
	s.stopTimer(timerQuiesce, out)
	s.patienceOver = false
	if s.busy == opStart && !s.aborted && (!d.Running || d.Driver != s.target) {
		s.aborted = true
		*out = append(*out, abort{})
	}
	if d.Driver == s.driver {
		return
	}
	if s.seen == vmdriver.Running || s.seen == vmdriver.Broken || s.dirty || s.unsure {
		s.leave(stray{s.driver, s.spec})
	}
	s.driver, s.seen, s.detail, s.created, s.endpoint, s.spec = d.Driver, "", "", false, nil, vmdriver.Spec{}
	s.doubt, s.hint, s.dirty, s.unsure, s.crashed = false, "", false, false, false
	s.stopTimer(timerResync, out)
	*out = append(*out, watch{s.driver})
	if i := s.strayIndex(d.Driver); i >= 0 { // back to it before it was stopped
		s.spec, s.unsure = s.strays[i].spec, true
		s.strays = slices.Delete(s.strays, i, i+1)
	}
}

func (s *state) strayIndex(driver string) int {
	return slices.IndexFunc(s.strays, func(x stray) bool { return x.driver == driver })
}

// leave remembers a driver whose VM is or may be up.
func (s *state) leave(x stray) {
	if x.driver != "" && s.strayIndex(x.driver) < 0 {
		s.strays = append(s.strays, x)
	}
}

// forgive forgets failures: there is a new reason to try.
func (s *state) forgive(out *[]effect) {
	s.failures, s.permanent, s.failed, s.why, s.crashes = 0, false, opNone, "", 0
	s.stopTimer(timerRetry, out)
}

func (s *state) fail(op operation, f *failure, out *[]effect) {
	if s.busyGeneration != s.want.Generation || s.busyRetry != s.want.Retry {
		return // it was asked for an older desire: try at once
	}
	s.failures++
	s.permanent, s.failed, s.why = f.permanent, op, f.text
	delay := retryMax
	if s.terminal() {
		s.finished = s.want.Generation
	} else {
		delay = backoff(s.failures)
	}
	s.startTimer(timerRetry, delay, out)
}

func (s *state) terminal() bool { return s.permanent || s.failures > startRetries }

func backoff(n int) time.Duration {
	return min(retryMax, retryMin<<min(n-1, 10))
}

func (s *state) inspectDone(e inspected, out *[]effect) {
	s.busy = opNone
	for _, d := range e.strays {
		if d != s.driver {
			s.leave(stray{driver: d})
		}
	}
	if e.driver != s.driver {
		if e.failed == nil && e.seen.Phase == vmdriver.Running && s.drivers[e.driver].OwnsEngine {
			s.leave(stray{driver: e.driver})
		}
		return
	}
	was, owns := s.seen, s.drivers[s.driver].OwnsEngine
	s.doubt = false
	switch {
	case e.failed != nil && was == vmdriver.Running:
		// A VM we know to run, and no news of it: look again at the next resync.
		s.startTimer(timerResync, resyncPeriod, out)
		return
	case e.failed != nil:
		s.fail(opInspect, e.failed, out)
		return
	}
	s.observed, s.unsure = true, false
	s.seen, s.detail, s.endpoint = e.seen.Phase, e.seen.Message, nil
	if !s.want.Running && !owns && was != vmdriver.Running {
		s.seen = vmdriver.Stopped // it is somebody else's, and we are not attached
	}
	s.doubt = s.hint != "" && s.hint != s.seen && (s.want.Running || owns)
	switch s.seen {
	case vmdriver.Running:
		s.created, s.endpoint = true, e.endpoint
		if was != vmdriver.Running { // adopted
			s.run++
			s.crashed = false
			if s.spec == (vmdriver.Spec{}) {
				s.spec = s.wantedSpec()
			}
		}
		s.startTimer(timerResync, resyncPeriod, out)
	case vmdriver.Stopped, vmdriver.Absent:
		s.created = s.seen == vmdriver.Stopped
		s.spec = vmdriver.Spec{}
	}
	if was == vmdriver.Running && s.seen != vmdriver.Running {
		s.stopTimer(timerResync, out)
		if s.want.Running {
			s.crashed = true
			s.crashes++
			s.startTimer(timerRetry, backoff(s.crashes), out)
		}
	}
}

func (s *state) startDone(e started, out *[]effect) {
	s.busy, s.aborted = opNone, false
	if e.driver != s.driver {
		s.leave(stray{e.driver, e.spec}) // up, or half up
		return
	}
	s.spec = e.spec
	if e.failed != nil {
		s.seen, s.endpoint, s.dirty, s.doubt = "", nil, true, false
		s.fail(opStart, e.failed, out)
		return
	}
	s.observed, s.created, s.crashed, s.dirty = true, true, false, false
	s.seen, s.detail, s.endpoint = vmdriver.Running, "", e.endpoint
	s.doubt = s.hint != "" && s.hint != vmdriver.Running
	s.run++
	s.startTimer(timerResync, resyncPeriod, out)
}

func (s *state) stopDone(e stopped, out *[]effect) {
	s.busy = opNone
	if e.failed != nil {
		s.doubt = s.doubt || e.driver == s.driver // half down? (only asked when the stop is not wanted any more)
		s.fail(opStop, e.failed, out)
		return
	}
	s.failures, s.permanent, s.failed, s.why = 0, false, opNone, ""
	if e.driver != s.driver {
		if i := s.strayIndex(e.driver); i >= 0 {
			s.strays = slices.Delete(s.strays, i, i+1)
		}
		return
	}
	s.stopTimer(timerResync, out)
	s.seen, s.detail, s.endpoint, s.spec = vmdriver.Stopped, "", nil, vmdriver.Spec{}
	s.doubt, s.dirty, s.unsure = false, false, false
}

// fired clears the timer; false = it was not meant any more.
func (s *state) fired(e timerFired) bool {
	id := s.timer(e.timer)
	if *id == 0 || *id != e.id {
		return false
	}
	*id = 0
	switch e.timer {
	case timerQuiesce:
		s.patienceOver = true
	case timerResync:
		s.doubt, s.crashes = true, 0
	}
	return true
}

func (s *state) timer(t timer) *int {
	switch t {
	case timerRetry:
		return &s.retry
	case timerQuiesce:
		return &s.quiesce
	}
	return &s.resync
}

func (s *state) startTimer(t timer, delay time.Duration, out *[]effect) {
	s.timerID++
	*s.timer(t) = s.timerID
	*out = append(*out, schedule{t, s.timerID, delay})
}

func (s *state) stopTimer(t timer, out *[]effect) {
	if id := s.timer(t); *id != 0 {
		*id = 0
		*out = append(*out, cancel{t})
	}
}

func (s *state) wantedSpec() vmdriver.Spec {
	return vmdriver.Spec{Backend: s.want.Backend, VM: s.want.VM}
}

// outdated: the VM runs with a config that only a restart changes.
func (s *state) outdated() bool {
	a, b, c := s.spec, s.wantedSpec(), s.drivers[s.driver]
	switch {
	case !c.OwnsEngine:
		return a.VM.Socket != b.VM.Socket
	case a.Backend != b.Backend:
		return true
	case c.Resizable:
		return a.VM.CPUs != b.VM.CPUs || a.VM.Memory != b.VM.Memory || a.VM.Disk != b.VM.Disk || a.VM.Image != b.VM.Image
	}
	return false
}

// mustStop: the driver to stop before anything else, if any.
func (s *state) mustStop() (string, bool) {
	switch {
	case len(s.strays) > 0:
		return s.strays[0].driver, true
	case s.seen == vmdriver.Running && s.want.Running:
		return s.driver, s.outdated()
	case !s.want.Running && (s.seen == vmdriver.Running || s.seen == vmdriver.Broken || s.dirty && s.seen != ""):
		return s.driver, true
	}
	return "", false
}

// goal: what is observed is what is desired.
func (s *state) goal() bool {
	if !s.known || !s.observed || s.doubt || s.busy == opStart || s.busy == opStop {
		return false
	}
	if _, must := s.mustStop(); must {
		return false
	}
	if s.want.Running {
		return s.seen == vmdriver.Running
	}
	return s.seen == vmdriver.Stopped || s.seen == vmdriver.Absent
}

// letGo: no effect of the engine starts any more on what is to be stopped. A stop of the application is announced to the engine
// by app; a change of driver or config by our report of Running=False.
func (s *state) letGo() bool {
	switch {
	case s.patienceOver:
		return true
	case !s.engineKnown:
		return false
	case s.want.Running:
		return !s.engineReady && !s.engineBusy && s.spoke && !s.reported.Running
	}
	return s.quiesced >= s.want.Generation
}

// decide compares desired with observed: at most one operation.
func (s *state) decide(out *[]effect) {
	driver, mustStop := s.mustStop()
	if !mustStop {
		s.stopTimer(timerQuiesce, out)
	}
	if s.goal() {
		s.finished = s.want.Generation
		s.patienceOver = false
		if s.failures > 0 {
			s.failures, s.permanent, s.failed, s.why = 0, false, opNone, ""
		}
		if !s.want.Running {
			s.crashed = false
		}
		s.stopTimer(timerRetry, out)
		if s.seen == vmdriver.Running {
			s.spec = s.wantedSpec() // what differs needs no restart
		}
	}
	switch {
	case !s.known || s.busy != opNone || s.retry != 0:
	case !s.observed:
		s.begin(opInspect, s.driver, out)
	case mustStop && !s.letGo():
		if s.quiesce == 0 {
			s.startTimer(timerQuiesce, quiesceLimit, out)
		}
	case mustStop:
		s.stopTimer(timerQuiesce, out)
		s.begin(opStop, driver, out)
	case s.seen == "" || s.doubt:
		s.begin(opInspect, s.driver, out)
	case s.want.Running && s.seen != vmdriver.Running:
		s.begin(opStart, s.driver, out)
	}
}

func (s *state) begin(op operation, driver string, out *[]effect) {
	s.busy, s.target, s.busyGeneration, s.busyRetry = op, driver, s.want.Generation, s.want.Retry
	s.hint = ""
	switch op {
	case opInspect:
		*out = append(*out, inspect{driver, s.wantedSpec(), !s.observed})
	case opStart:
		*out = append(*out, start{driver, s.wantedSpec()})
	case opStop:
		*out = append(*out, stop{driver, s.failed == opStop && s.failures >= gracefulStops})
	}
}

func (s state) phase() phase {
	_, mustStop := s.mustStop()
	switch {
	case !s.known:
		return phaseUnknown
	case s.busy == opStart:
		return phaseStarting
	case s.busy == opStop:
		return phaseStopping
	case s.busy == opInspect && s.seen == "":
		return phaseInspecting
	case s.retry != 0 && s.failures > 0 && s.terminal():
		return phaseFailed
	case s.retry != 0:
		return phaseBackoff
	case mustStop:
		return phaseQuiescing
	case s.seen == vmdriver.Running:
		return phaseRunning
	}
	return phaseStopped
}

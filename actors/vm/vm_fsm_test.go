package vm

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
)

var update = flag.Bool("update", false, "rewrite the table in vm_fsm.go")

var testDrivers = map[string]vmdriver.Capabilities{
	"lima":     {Backends: []string{"moby", "containerd"}, OwnsEngine: true, Resizable: true},
	"native":   {Backends: []string{"moby"}, OwnsEngine: true},
	"external": {Backends: []string{"moby"}},
}

func want(gen int64, driver string, running bool) desired {
	return desired{control.VMDesire{Generation: gen, Running: running, Driver: driver, Backend: "moby"}}
}

func saw(driver string, p vmdriver.Phase) inspected {
	e := inspected{driver: driver, seen: vmdriver.Observation{Phase: p}}
	if p == vmdriver.Running {
		e.endpoint = &messages.Endpoint{Host: "unix:///" + driver}
	}
	return e
}

func startOK(driver string) started {
	return started{driver: driver, spec: vmdriver.Spec{Backend: "moby"}, endpoint: &messages.Endpoint{Host: "unix:///" + driver}}
}

func transient(text string) *failure { return &failure{text: text} }
func permanent(text string) *failure { return &failure{permanent: true, text: text} }

func engineReady() engineReported {
	return engineReported{ready: true, reason: messages.ReasonConnected}
}

// run applies events; a pending timer is named by its kind: timer("retry").
func run(t require.TestingT, s state, events ...event) (state, []effect) {
	var out []effect
	for _, e := range events {
		if tm, ok := e.(timer); ok {
			require.NotZero(t, *s.timer(tm), "timer %s does not run", tm)
			e = timerFired{tm, *s.timer(tm)}
		}
		s, out = s.apply(e)
	}
	return s, out
}

func lastReport(t require.TestingT, s state) control.VMReport {
	r, ok := s.report()
	require.True(t, ok)
	return r
}

func operations(effects []effect) []effect {
	var out []effect
	for _, e := range effects {
		switch e.(type) {
		case inspect, start, stop:
			out = append(out, e)
		}
	}
	return out
}

type row struct {
	phase  phase
	events []event
}

func rows() []row {
	on, off := want(1, "native", true), want(1, "native", false)
	up := []event{on, saw("native", vmdriver.Stopped), startOK("native"), engineReady()}
	with := func(base []event, more ...event) []event { return append(append([]event{}, base...), more...) }
	return []row{
		{phaseUnknown, nil},
		{phaseInspecting, []event{on}},
		{phaseStopped, []event{off, saw("native", vmdriver.Stopped)}},
		{phaseStarting, []event{on, saw("native", vmdriver.Stopped)}},
		{phaseRunning, up},
		{phaseQuiescing, with(up, want(2, "native", false))},
		{phaseStopping, with(up, want(2, "native", false), engineReported{quiesced: 2, reason: messages.ReasonStopped})},
		{phaseBackoff, []event{on, saw("native", vmdriver.Stopped), started{driver: "native", failed: transient("busy")}}},
		{phaseFailed, []event{on, saw("native", vmdriver.Stopped), started{driver: "native", failed: permanent("no")}}},
	}
}

func columns() []struct {
	name string
	e    event
} {
	return []struct {
		name string
		e    event
	}{
		{"desired: run", want(3, "native", true)},
		{"desired: run, other driver", want(3, "lima", true)},
		{"desired: stop", want(3, "native", false)},
		{"inspected: down", saw("native", vmdriver.Stopped)},
		{"inspected: up", saw("native", vmdriver.Running)},
		{"inspect failed", inspected{driver: "native", failed: transient("busy")}},
		{"started", startOK("native")},
		{"start failed", started{driver: "native", failed: transient("busy")}},
		{"start failed for good", started{driver: "native", failed: permanent("no")}},
		{"stopped", stopped{driver: "native"}},
		{"stop failed", stopped{driver: "native", failed: transient("busy")}},
		{"watch: down", watched{"native", vmdriver.Stopped}},
		{"engine let go", engineReported{quiesced: 3, reason: messages.ReasonStopped}},
		{"engine lost it", engineReported{reason: messages.ReasonDisconnected}},
		{"retry due", timerRetry},
		{"quiesce limit", timerQuiesce},
		{"resync due", timerResync},
	}
}

func show(e effect) string {
	switch e := e.(type) {
	case inspect:
		return "inspect " + e.driver
	case start:
		return "start " + e.driver
	case stop:
		if e.force {
			return "stop " + e.driver + " by force"
		}
		return "stop " + e.driver
	case watch:
		return "watch " + e.driver
	case abort:
		return "abort"
	case schedule:
		return fmt.Sprintf("%s in %s", e.timer, e.delay)
	case cancel:
		return "no " + string(e.timer)
	case report:
		return fmt.Sprintf("report Running=%t %s", e.r.Running, e.r.Reason)
	}
	return fmt.Sprintf("%T", e)
}

func busyFor(e event) operation {
	switch e.(type) {
	case inspected:
		return opInspect
	case started:
		return opStart
	case stopped:
		return opStop
	}
	return opNone
}

func renderTable(t *testing.T) string {
	var b strings.Builder
	for _, r := range rows() {
		fmt.Fprintf(&b, "//\t%s\n", r.phase)
		for _, c := range columns() {
			s, _ := run(t, newState(testDrivers), r.events...)
			require.Equal(t, r.phase, s.phase())
			if tm, ok := c.e.(timer); ok && *s.timer(tm) == 0 {
				continue
			}
			if op := busyFor(c.e); op != opNone && s.busy != op {
				continue // an answer that nobody waits for does not come
			}
			next, effects := run(t, s, c.e)
			if len(effects) == 0 && next.phase() == s.phase() {
				continue
			}
			words := make([]string, len(effects))
			for i, e := range effects {
				words[i] = show(e)
			}
			fmt.Fprintf(&b, "//\t  %-26s → %-10s  %s\n", c.name, next.phase(), strings.Join(words, "; "))
		}
	}
	return b.String()
}

func TestTable(t *testing.T) {
	source, err := os.ReadFile("vm_fsm.go")
	require.NoError(t, err)
	const before, after = "rendered from the code by TestTable:\n//\n", "type state struct {"
	head, rest, ok := strings.Cut(string(source), before)
	require.True(t, ok)
	had, tail, ok := strings.Cut(rest, after)
	require.True(t, ok)
	table := renderTable(t)
	if *update {
		require.NoError(t, os.WriteFile("vm_fsm.go", []byte(head+before+table+after+tail), 0o644))
		return
	}
	require.Equal(t, table, had, "the table in vm_fsm.go is not what the code does; -update rewrites it")
}

func TestFSMNeverStartedSettlesAtOnce(t *testing.T) {
	s, out := run(t, newState(testDrivers), want(1, "native", false))
	require.Equal(t, []effect{watch{"native"}, inspect{"native", vmdriver.Spec{Backend: "moby"}, true}}, out, "and no report yet")
	s, out = run(t, s, saw("native", vmdriver.Absent))
	require.Equal(t, []effect{report{control.VMReport{Generation: 1, Reason: messages.ReasonStopped}}}, out)
	_, out = run(t, s, want(2, "native", false))
	require.Equal(t, []effect{report{control.VMReport{Generation: 2, Reason: messages.ReasonStopped}}}, out)
}

func TestFSMRestartAdoptsAndNeverReboots(t *testing.T) {
	for _, driver := range []string{"native", "lima", "external"} {
		s, out := run(t, newState(testDrivers), engineReady(), want(7, driver, true))
		require.Len(t, operations(out), 1)
		s, out = run(t, s, saw(driver, vmdriver.Running))
		require.Empty(t, operations(out))
		r := lastReport(t, s)
		require.True(t, r.Running)
		require.Equal(t, int64(7), r.Generation)
		require.Equal(t, "unix:///"+driver, r.Endpoint.Host)
		_, out = run(t, s, want(7, driver, true))
		require.Empty(t, out, "the same desire again is no news")
	}
}

func TestFSMStartFailures(t *testing.T) {
	s, _ := run(t, newState(testDrivers), want(1, "native", true), saw("native", vmdriver.Stopped))
	for attempt := 1; attempt <= startRetries+1; attempt++ {
		var out []effect
		s, out = run(t, s, started{driver: "native", failed: transient(fmt.Sprintf("start VM: cause %d", attempt))})
		r := lastReport(t, s)
		require.Contains(t, r.Message, fmt.Sprintf("cause %d", attempt))
		if attempt <= startRetries {
			require.Equal(t, messages.ReasonStarting, r.Reason)
			require.Less(t, r.Generation, int64(1))
			require.Contains(t, out, schedule{timerRetry, s.retry, backoff(attempt)})
		} else {
			require.Equal(t, messages.ReasonStartFailed, r.Reason, "terminal for whoever waits")
			require.Equal(t, int64(1), r.Generation, "finished")
			require.Contains(t, out, schedule{timerRetry, s.retry, retryMax})
		}
		s, out = run(t, s, timerRetry)
		require.Equal(t, []effect{inspect{"native", vmdriver.Spec{Backend: "moby"}, false}}, operations(out))
		s, out = run(t, s, saw("native", vmdriver.Stopped))
		require.Equal(t, []effect{start{"native", vmdriver.Spec{Backend: "moby"}}}, operations(out))
	}
	require.Equal(t, messages.ReasonStartFailed, lastReport(t, s).Reason, "the slow retries do not pretend to be news")
	s, _ = run(t, s, startOK("native"))
	r := lastReport(t, s)
	require.True(t, r.Running)
	require.Equal(t, messages.ReasonStarted, r.Reason)
}

func TestFSMPermanentFailsAtOnceAndRetryIsHeeded(t *testing.T) {
	s, _ := run(t, newState(testDrivers), want(1, "native", true), saw("native", vmdriver.Stopped), started{driver: "native", failed: permanent("no dockerd")})
	r := lastReport(t, s)
	require.Equal(t, messages.ReasonStartFailed, r.Reason)
	require.Contains(t, r.Message, "no dockerd")
	require.Equal(t, int64(1), r.Generation)

	again := want(1, "native", true)
	again.d.Retry = 1
	s, out := run(t, s, again)
	require.Equal(t, []effect{inspect{"native", vmdriver.Spec{Backend: "moby"}, false}}, operations(out), "tried at once")
	r = lastReport(t, s)
	require.Equal(t, messages.ReasonStarting, r.Reason, "said before any answer, so that app sees the failure as over")
	require.Equal(t, int64(0), r.Generation)
}

// app shows "waiting for vm" until vm has spoken of a desire: it speaks of each, also when it has nothing else to say than before.
func TestFSMEveryDesireIsAnswered(t *testing.T) {
	s, _ := run(t, newState(testDrivers), want(1, "native", true), saw("native", vmdriver.Stopped))
	before := lastReport(t, s)
	s, out := run(t, s, want(2, "native", true))
	require.Equal(t, []effect{report{before}}, out)
	_, out = run(t, s, want(2, "native", true))
	require.Empty(t, out, "once")
}

// A VM that could never be looked at: the retry is told before it fails again, with the same words.
func TestFSMAFailureIsToldAgainForEachRetry(t *testing.T) {
	broken := inspected{driver: "native", failed: permanent("no such context")}
	s, _ := run(t, newState(testDrivers), want(1, "native", true), broken)
	failed := lastReport(t, s)
	require.Equal(t, messages.ReasonStartFailed, failed.Reason)
	again := want(1, "native", true)
	again.d.Retry = 1
	s, out := run(t, s, again)
	require.Equal(t, []string{"no retry", "inspect native", "report Running=false Starting"}, shown(out))
	_, out = run(t, s, broken)
	require.Contains(t, out, report{failed})
}

func shown(effects []effect) []string {
	var out []string
	for _, e := range effects {
		out = append(out, show(e))
	}
	return out
}

func TestFSMStopWaitsForTheEngine(t *testing.T) {
	up, _ := run(t, newState(testDrivers), want(1, "native", true), saw("native", vmdriver.Stopped), startOK("native"), engineReady())

	s, out := run(t, up, want(2, "native", false))
	require.Empty(t, operations(out))
	require.Contains(t, out, schedule{timerQuiesce, s.quiesce, quiesceLimit})
	require.True(t, lastReport(t, s).Running, "the engine needs it until it has quiesced")
	waiting := s
	s, out = run(t, waiting, engineReported{quiesced: 1, reason: messages.ReasonStopped})
	require.Empty(t, operations(out), "an older generation")
	s, out = run(t, s, engineReported{quiesced: 2, reason: messages.ReasonStopped})
	require.Equal(t, []effect{stop{"native", false}}, operations(out))
	s, _ = run(t, s, stopped{driver: "native"})
	require.Equal(t, control.VMReport{Generation: 2, Created: true, Reason: messages.ReasonStopped, Run: 1}, lastReport(t, s))

	_, out = run(t, waiting, timerQuiesce)
	require.Equal(t, []effect{stop{"native", false}}, operations(out), "the engine never answered")

	s, out = run(t, waiting, want(3, "native", true))
	require.Empty(t, operations(out))
	require.Contains(t, out, cancel{timerQuiesce})
	require.Equal(t, messages.ReasonStarted, lastReport(t, s).Reason)
	require.Equal(t, int64(3), lastReport(t, s).Generation)
}

func TestFSMStopFailures(t *testing.T) {
	s, _ := run(t, newState(testDrivers), engineReported{quiesced: 1, reason: messages.ReasonStopped}, want(1, "native", false), saw("native", vmdriver.Running))
	for attempt := 1; attempt <= startRetries+1; attempt++ {
		var out []effect
		s, _ = run(t, s, stopped{driver: "native", failed: transient("stop VM: stuck")})
		s, out = run(t, s, timerRetry)
		require.Equal(t, []effect{stop{"native", attempt >= gracefulStops}}, operations(out))
	}
	r := lastReport(t, s)
	require.Equal(t, messages.ReasonStopFailed, r.Reason)
	require.Contains(t, r.Message, "stuck")
	require.Equal(t, int64(1), r.Generation)
	s, _ = run(t, s, stopped{driver: "native"})
	require.Equal(t, messages.ReasonStopped, lastReport(t, s).Reason)
}

func TestFSMCrash(t *testing.T) {
	s, _ := run(t, newState(testDrivers), want(1, "native", true), saw("native", vmdriver.Stopped), startOK("native"), engineReady())
	for crash := 1; crash <= 3; crash++ {
		var out []effect
		s, out = run(t, s, watched{"native", vmdriver.Stopped})
		require.Len(t, operations(out), 1, "a hint is checked")
		down := saw("native", vmdriver.Stopped)
		down.seen.Message = "signal: killed"
		s, out = run(t, s, down)
		r := lastReport(t, s)
		require.False(t, r.Running)
		require.Equal(t, messages.ReasonCrashed, r.Reason)
		require.Contains(t, r.Message, "signal: killed")
		require.Contains(t, out, schedule{timerRetry, s.retry, backoff(crash)})
		s, out = run(t, s, timerRetry)
		require.Equal(t, []effect{start{"native", vmdriver.Spec{Backend: "moby"}}}, operations(out))
		s, _ = run(t, s, startOK("native"))
		require.Equal(t, int64(crash+1), lastReport(t, s).Run)
	}
	s, _ = run(t, s, timerResync, saw("native", vmdriver.Running))
	require.Zero(t, s.crashes, "a VM that stays up is forgiven")

	s, out := run(t, s, watched{"native", vmdriver.Stopped}, saw("native", vmdriver.Running))
	require.Empty(t, operations(out), "a false alarm")
	require.True(t, lastReport(t, s).Running)

	_, out = run(t, s, engineReported{reason: messages.ReasonDisconnected})
	require.Len(t, operations(out), 1, "the engine lost it: look")
}

func TestFSMCrashSeenWhileStarting(t *testing.T) {
	s, _ := run(t, newState(testDrivers), want(1, "native", true), saw("native", vmdriver.Stopped))
	s, _ = run(t, s, watched{"native", vmdriver.Running}, watched{"native", vmdriver.Stopped})
	_, out := run(t, s, startOK("native"))
	require.Equal(t, []effect{inspect{"native", vmdriver.Spec{Backend: "moby"}, false}}, operations(out))
}

func TestFSMDriverChange(t *testing.T) {
	up, _ := run(t, newState(testDrivers), want(1, "native", true), saw("native", vmdriver.Stopped), startOK("native"), engineReady())
	s, out := run(t, up, want(2, "lima", true))
	require.Empty(t, operations(out))
	require.False(t, lastReport(t, s).Running, "the word on which the engine lets go")
	switching := s
	s, out = run(t, s, engineReported{reason: messages.ReasonDisconnected})
	require.Equal(t, []effect{stop{"native", false}}, operations(out))
	s, out = run(t, s, stopped{driver: "native"})
	require.Equal(t, []effect{inspect{"lima", vmdriver.Spec{Backend: "moby"}, false}}, operations(out))
	s, out = run(t, s, saw("lima", vmdriver.Absent))
	require.Equal(t, []effect{start{"lima", vmdriver.Spec{Backend: "moby"}}}, operations(out))
	s, _ = run(t, s, startOK("lima"))
	r := lastReport(t, s)
	require.Equal(t, int64(2), r.Generation)
	require.Equal(t, "unix:///lima", r.Endpoint.Host)
	require.Equal(t, int64(2), r.Run)

	// Changed our mind before the old one was stopped: it is adopted again.
	s, out = run(t, switching, want(3, "native", true))
	require.Equal(t, []effect{inspect{"native", vmdriver.Spec{Backend: "moby"}, false}}, operations(out))
	s, out = run(t, s, saw("native", vmdriver.Running))
	require.Empty(t, operations(out))
	require.Equal(t, int64(3), lastReport(t, s).Generation)

	// Changed it while it is being stopped: started again.
	s, _ = run(t, switching, timerQuiesce)
	s, out = run(t, s, want(3, "native", true))
	require.Empty(t, operations(out))
	_, out = run(t, s, stopped{driver: "native"})
	require.Equal(t, []effect{start{"native", vmdriver.Spec{Backend: "moby"}}}, operations(out))
}

func TestFSMStrayOfAnEarlierLifeIsStopped(t *testing.T) {
	first := saw("lima", vmdriver.Absent)
	first.strays = []string{"native"}
	s, out := run(t, newState(testDrivers), engineReported{reason: messages.ReasonStopped}, want(2, "lima", true), first)
	require.Equal(t, []effect{stop{"native", false}}, operations(out))
	_, out = run(t, s, stopped{driver: "native"})
	require.Equal(t, []effect{start{"lima", vmdriver.Spec{Backend: "moby"}}}, operations(out))
}

func TestFSMConfigChange(t *testing.T) {
	type change func(*control.VMDesire)
	for _, c := range []struct {
		name    string
		driver  string
		change  change
		restart bool
	}{
		{"cpus of a resizable VM", "lima", func(d *control.VMDesire) { d.VM.CPUs = 4 }, true},
		{"cpus that have no effect", "native", func(d *control.VMDesire) { d.VM.CPUs = 4 }, false},
		{"backend", "lima", func(d *control.VMDesire) { d.Backend = "containerd" }, true},
		{"socket of the external engine", "external", func(d *control.VMDesire) { d.VM.Socket = "/x" }, true},
		{"socket that has no effect", "native", func(d *control.VMDesire) { d.VM.Socket = "/x" }, false},
		{"auto resolved to the same", "native", func(d *control.VMDesire) { d.VM.Driver = "auto" }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := run(t, newState(testDrivers), want(1, c.driver, true), saw(c.driver, vmdriver.Stopped), startOK(c.driver), engineReady())
			d := want(2, c.driver, true)
			c.change(&d.d)
			s, _ = run(t, s, d)
			if !c.restart {
				require.Equal(t, int64(2), lastReport(t, s).Generation)
				return
			}
			require.Less(t, lastReport(t, s).Generation, int64(2))
			s, out := run(t, s, engineReported{reason: messages.ReasonDisconnected})
			require.Equal(t, []effect{stop{c.driver, false}}, operations(out))
			s, out = run(t, s, stopped{driver: c.driver})
			spec := vmdriver.Spec{Backend: d.d.Backend, VM: d.d.VM}
			require.Equal(t, []effect{start{c.driver, spec}}, operations(out))
			s, _ = run(t, s, started{driver: c.driver, spec: spec, endpoint: &messages.Endpoint{Host: "unix:///new"}})
			require.Equal(t, int64(2), lastReport(t, s).Generation)
			require.Equal(t, "unix:///new", lastReport(t, s).Endpoint.Host)
		})
	}
}

func TestFSMExternalEngineIsNotOurs(t *testing.T) {
	s, out := run(t, newState(testDrivers), want(1, "external", false), saw("external", vmdriver.Running))
	require.Empty(t, operations(out))
	require.Equal(t, messages.ReasonStopped, lastReport(t, s).Reason)
	s, out = run(t, s, watched{"external", vmdriver.Running})
	require.Empty(t, out)

	s, _ = run(t, s, want(2, "external", true), startOK("external"), engineReady(), want(3, "external", false))
	require.Equal(t, phaseQuiescing, s.phase())
	s, out = run(t, s, engineReported{quiesced: 3})
	require.Equal(t, []effect{stop{"external", false}}, operations(out), "the phases are the same; the driver's Stop does nothing")
	s, _ = run(t, s, stopped{driver: "external"})
	require.Equal(t, int64(3), lastReport(t, s).Generation)
}

func TestFSMStopDuringStartAborts(t *testing.T) {
	s, _ := run(t, newState(testDrivers), want(1, "lima", true), saw("lima", vmdriver.Absent))
	s, out := run(t, s, want(2, "lima", false))
	require.Equal(t, []effect{abort{}}, out[:1])
	s, out = run(t, s, engineReported{quiesced: 2}, started{driver: "lima", failed: transient("canceled")})
	require.Equal(t, []effect{inspect{"lima", vmdriver.Spec{Backend: "moby"}, false}}, operations(out), "no backoff: nothing failed")
	s, out = run(t, s, saw("lima", vmdriver.Stopped))
	require.Equal(t, []effect{stop{"lima", false}}, operations(out), "half-way up, whatever inspect says")
	s, _ = run(t, s, stopped{driver: "lima"})
	require.Equal(t, messages.ReasonStopped, lastReport(t, s).Reason)
	require.Equal(t, int64(2), lastReport(t, s).Generation)
}

func TestFSMInspectFailureIsNoCrash(t *testing.T) {
	s, _ := run(t, newState(testDrivers), want(1, "native", true), saw("native", vmdriver.Running), timerResync)
	s, _ = run(t, s, inspected{driver: "native", failed: transient("busy")})
	require.True(t, lastReport(t, s).Running)
	require.NotZero(t, s.resync)
}

func TestFSMUnknownDesireReportsNothing(t *testing.T) {
	s := newState(testDrivers)
	_, ok := s.report()
	require.False(t, ok)
	s, _ = run(t, s, engineReady(), want(1, "native", true))
	_, ok = s.report()
	require.False(t, ok, "a restart of the actor says nothing before it has looked: the engine's session goes on")
}

func TestBackoff(t *testing.T) {
	require.Equal(t, 500*time.Millisecond, backoff(1))
	require.Equal(t, time.Second, backoff(2))
	require.Equal(t, retryMax, backoff(7))
	require.Equal(t, retryMax, backoff(1000))
}

// world is a simulated set of drivers, the engine and app around the machine.
type world struct {
	t       *rapid.T
	s       state
	up      map[string]bool
	op      effect
	gen     int64
	desire  control.VMDesire
	engine  engineReported
	waited  bool // the quiesce timer fired for the present desire
	faults  bool
	boots   int
	stops   int
	reports []control.VMReport
}

func (w *world) apply(e event) {
	if x, ok := e.(timerFired); ok && x.timer == timerQuiesce {
		w.waited = true
	}
	var out []effect
	w.s, out = w.s.apply(e)
	for _, e := range out {
		switch e := e.(type) {
		case inspect, start:
			require.Nil(w.t, w.op, "two operations at once")
			w.op = e
		case stop:
			require.Nil(w.t, w.op, "two operations at once")
			w.op = e
			quiet := w.waited || !w.desire.Running && w.engine.quiesced >= w.desire.Generation || w.desire.Running && !w.engine.ready
			require.True(w.t, quiet, "stop before the engine let go")
		case report:
			w.reports = append(w.reports, e.r)
			require.LessOrEqual(w.t, e.r.Generation, w.desire.Generation)
			require.Equal(w.t, e.r.Running, e.r.Endpoint != nil)
		}
	}
}

// finish lets the operation in flight end, with its effect on the world.
func (w *world) finish() {
	op := w.op
	w.op = nil
	fail := func() *failure {
		if !w.faults {
			return nil
		}
		switch rapid.IntRange(0, 5).Draw(w.t, "fault") {
		case 0:
			return transient("flaky")
		case 1:
			return permanent("broken")
		}
		return nil
	}
	switch op := op.(type) {
	case inspect:
		e := saw(op.driver, vmdriver.Stopped)
		if w.up[op.driver] {
			e = saw(op.driver, vmdriver.Running)
		}
		if e.failed = fail(); e.failed == nil && op.strays {
			for d, up := range w.up {
				if up && d != op.driver && testDrivers[d].OwnsEngine {
					e.strays = append(e.strays, d)
				}
			}
		}
		w.apply(e)
	case start:
		e := started{driver: op.driver, spec: op.spec, endpoint: &messages.Endpoint{Host: "unix:///" + op.driver}}
		e.failed = fail()
		if e.failed == nil || rapid.Bool().Draw(w.t, "half up") {
			if !w.up[op.driver] {
				w.boots++
			}
			w.up[op.driver] = true
		}
		w.apply(e)
	case stop:
		e := stopped{driver: op.driver, failed: fail()}
		if e.failed == nil {
			if testDrivers[op.driver].OwnsEngine {
				w.up[op.driver] = false
				w.stops++
			}
		}
		w.apply(e)
	}
}

func (w *world) fire() {
	var running []timer
	for _, tm := range []timer{timerRetry, timerQuiesce, timerResync} {
		if *w.s.timer(tm) != 0 {
			running = append(running, tm)
		}
	}
	if len(running) > 0 {
		tm := rapid.SampledFrom(running).Draw(w.t, "timer")
		w.apply(timerFired{tm, *w.s.timer(tm)})
	}
}

func (w *world) restartActor() {
	w.s, w.op = newState(testDrivers), nil // the lane makes the old call end before the next begins
	w.apply(w.engine)
	w.apply(desired{w.desire})
}

func TestFSMSchedules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, s: newState(testDrivers), up: map[string]bool{"external": true}, faults: true}
		drivers := []string{"native", "lima", "external"}
		next := func() {
			w.gen++
			w.waited = false
			w.desire = control.VMDesire{
				Generation: w.gen, Running: rapid.Bool().Draw(t, "running"), Driver: rapid.SampledFrom(drivers).Draw(t, "driver"), Backend: "moby",
				VM: messages.VirtualMachineSpec{CPUs: rapid.Int32Range(0, 1).Draw(t, "cpus")},
			}
			w.apply(desired{w.desire})
		}
		next()
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 8).Draw(t, "step") {
			case 0:
				next()
			case 1, 2:
				w.finish()
			case 3:
				w.fire()
			case 4:
				d := rapid.SampledFrom(drivers).Draw(t, "crashing")
				w.up[d] = d == "external" && rapid.Bool().Draw(t, "external up")
				w.apply(watched{d, vmdriver.Stopped})
			case 5:
				w.engine = engineReported{quiesced: rapid.Int64Range(w.engine.quiesced, w.gen).Draw(t, "quiesced"), ready: rapid.Bool().Draw(t, "ready"), reason: messages.ReasonConnected}
				w.apply(w.engine)
			case 6:
				w.restartActor()
			case 7:
				w.desire.Retry++
				w.waited = false
				w.apply(desired{w.desire})
			case 8:
				w.apply(watched{rapid.SampledFrom(drivers).Draw(t, "noise"), vmdriver.Running})
			}
		}
		// The faults stop. Everything in flight ends, timers fire, crashes are noticed: it converges.
		w.faults = false
		w.up["external"] = true
		w.engine = engineReported{quiesced: w.gen, reason: messages.ReasonStopped}
		w.apply(w.engine)
		settled := false
		for range 40 {
			for w.op != nil {
				w.finish()
			}
			for _, tm := range []timer{timerRetry, timerQuiesce} {
				if *w.s.timer(tm) != 0 && w.op == nil {
					w.apply(timerFired{tm, *w.s.timer(tm)})
					break
				}
			}
			if w.op == nil && w.s.retry == 0 && w.s.quiesce == 0 {
				settled = true
				break
			}
		}
		require.True(t, settled, "still busy: %+v", w.s)
		// One more look, as the resync would take.
		if w.s.resync != 0 {
			w.apply(timerFired{timerResync, w.s.resync})
			for w.op != nil || w.s.retry != 0 {
				if w.op != nil {
					w.finish()
				} else {
					w.apply(timerFired{timerRetry, w.s.retry})
				}
			}
		}
		r := lastReport(t, w.s)
		require.Equal(t, w.gen, r.Generation)
		require.Equal(t, w.desire.Running, r.Running)
		for _, d := range drivers {
			if testDrivers[d].OwnsEngine {
				require.Equal(t, w.desire.Running && d == w.desire.Driver, w.up[d], "driver %s", d)
			}
		}
		// A restart of the actor changes nothing in the world.
		boots, stops := w.boots, w.stops
		w.restartActor()
		for w.op != nil {
			w.finish()
		}
		require.Equal(t, boots, w.boots)
		require.Equal(t, stops, w.stops)
		require.Equal(t, r.Running, lastReport(t, w.s).Running)
		require.Equal(t, w.gen, lastReport(t, w.s).Generation)
	})
}

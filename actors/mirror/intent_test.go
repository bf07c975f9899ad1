package mirror

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/tests/tables"
)

var allStatuses = []string{
	messages.ContainerCreated, messages.ContainerExited, messages.ContainerRunning, messages.ContainerPaused,
	messages.ContainerRestarting, messages.ContainerRemoving, messages.ContainerDead,
}

// ready is an intent that knows everything and does nothing.
func ready() intent {
	return intent{State: messages.StateUnknown, Policy: messages.PolicyOnce, Generation: 1, Observed: 1, Loaded: true, Live: true, Prefix: "t"}
}

// does is the decision of a state, in words.
func (s intent) does(was intent) string {
	switch {
	case s.Op.ID != was.Op.ID:
		return s.Op.Verb
	case s.Receipt.State != was.Receipt.State:
		return strings.TrimSuffix(s.Receipt.State+": "+s.Receipt.Error, ": ")
	case s.Outcome == hopeless && was.Outcome != hopeless:
		return "Failed: " + s.Why
	case s.Outcome == applied && was.Outcome != applied:
		return "applied"
	case s.Waiting:
		return "Drifted, later: corrected"
	case s.drifted():
		return "Drifted"
	}
	return "nothing"
}

func TestDecideTable(t *testing.T) {
	var rows []tables.Row
	add := func(name string, s intent) {
		for _, status := range allStatuses {
			next, _ := s.apply(saw{Seen: sight{Status: status}, Proof: true})
			rows = append(rows, tables.Row{State: name, Event: status, Next: next.does(s)})
		}
	}
	for _, state := range messages.ContainerStates()[1:] {
		s := ready()
		s.State, s.Generation = state, 2
		add("Once "+state, s)
		s.Observed, s.Outcome = 2, applied
		add(state+" was applied", s)
		s.Policy = messages.PolicyEnforce
		add("Enforce "+state, s)
	}
	for _, action := range messages.Actions() {
		s := ready()
		s.Receipt = receipt{ID: "a", Verb: action, State: messages.ActionPending, Grace: -1}
		add("action "+action, s)
	}
	s := ready()
	s.State, s.Generation, s.Deleting = messages.StateRunning, 2, true
	add("being deleted", s)
	tables.Check(t, "intent_fsm.go", "decide", rows)
}

func TestOperationTable(t *testing.T) {
	began := dockerio.UnixTime(100)
	running := sight{Status: messages.ContainerRunning, StartedAt: began, Grace: 10 * time.Second}
	type named struct {
		name string
		s    intent
	}
	with := func(verb string, p phase, w saving) named {
		s := ready()
		s.Phase, s.Saving, s.Seen = p, w, running
		s.Receipt = receipt{ID: "a", Verb: verb, State: messages.ActionPending, Grace: -1}
		s.Op = operation{ID: "t-1", Verb: verb, Action: "a", StartedAt: began, SentAt: dockerio.UnixTime(200), Grace: 10 * time.Second}
		return named{verb + ": " + p.String(), s}
	}
	replayed := func(verb string) named {
		n := with(verb, proving, notSaving)
		n.name, n.s.Result = verb+" replayed", result{Replayed: true, Unsure: true}
		return n
	}
	stop, again := running, running
	stop.Status, again.StartedAt = messages.ContainerExited, dockerio.UnixTime(300)
	events := []struct {
		name string
		e    event
		only []phase
	}{
		{"written", saved{OK: true}, []phase{sending}}, {"journal refused", saved{}, []phase{sending}},
		{"done", called{ID: "t-1", OK: true}, []phase{atWork}},
		{"failed", called{ID: "t-1", Class: messages.ClassTransient, Message: "no"}, []phase{atWork}},
		{"no session", called{ID: "t-1", NoSession: true}, []phase{atWork}},
		{"clock read", clockRead{Now: dockerio.UnixTime(205)}, []phase{timing, gauging}},
		{"no old call", fenced{}, []phase{fencing}},
		{"time is up", holdOver{}, []phase{holding}},
		{"seen running", saw{Seen: running, Proof: true}, []phase{proving}},
		{"seen stopped", saw{Seen: stop, Proof: true}, []phase{proving}},
		{"seen started anew", saw{Seen: again, Proof: true}, []phase{proving}},
		{"online", online{}, []phase{timing, fencing, gauging}},
	}
	states := []named{
		with("stop", sending, savingOperation), with("stop", atWork, notSaving), with("stop", proving, notSaving),
		with("restart", timing, notSaving), with("stop", fencing, notSaving),
		replayed("stop"), replayed("restart"), replayed("kill"),
		with("restart", gauging, notSaving), with("restart", holding, notSaving),
	}
	name := func(s intent) string {
		if s.Receipt.State != messages.ActionPending {
			return s.Receipt.State
		}
		if s.Stuck {
			return "later again"
		}
		if s.Phase == resting {
			return "wanted"
		}
		return s.Op.Verb + ": " + s.Phase.String()
	}
	var rows []tables.Row
	for _, n := range states {
		for _, e := range events {
			fits := false
			for _, p := range e.only {
				fits = fits || p == n.s.Phase
			}
			if !fits {
				continue
			}
			next, effects := n.s.apply(e.e)
			rows = append(rows, tables.Row{State: n.name, Event: e.name, Next: name(next), Effects: tables.Names(effects)})
		}
	}
	tables.Check(t, "intent_fsm.go", "operation", rows)
}

// fakeEngine does what a container engine does, for the schedules.
type fakeEngine struct {
	status string
	starts int64
	calls  map[string]int // by verb
}

func (f *fakeEngine) sight() sight {
	return sight{Status: f.status, StartedAt: dockerio.UnixTime(f.starts), Grace: time.Second}
}

// do carries a verb out as the conformance suite says engines do.
func (f *fakeEngine) do(verb string) error {
	f.calls[verb]++
	refuse := fmt.Errorf("%s: it is %s", verb, f.status)
	run := func() { f.status, f.starts = messages.ContainerRunning, f.starts+1 }
	switch running, paused := f.status == messages.ContainerRunning, f.status == messages.ContainerPaused; {
	case verb == messages.ActionStart && paused, verb == messages.ActionPause && !running, verb == messages.ActionUnpause && !paused,
		verb == messages.ActionKill && !running && !paused:
		return refuse
	case verb == messages.ActionStart && !running, verb == messages.ActionRestart:
		run()
	case verb == messages.ActionStop || verb == messages.ActionKill:
		if running || paused {
			f.status = messages.ContainerExited
		}
	case verb == messages.ActionPause:
		f.status = messages.ContainerPaused
	case verb == messages.ActionUnpause:
		f.status = messages.ContainerRunning
	}
	return nil
}

// lab runs an intent against the fake engine: what is on its way arrives in any order, and the process may end at any moment.
type lab struct {
	t       *rapid.T
	s       intent
	journal intent // as last written
	engine  fakeEngine
	pending []event // answers on their way
	acting  int     // calls under way
	writing []intent
	// offering is the record of an action that is being accepted.
	offering intent
	life     int
	timers   []event
	sent     map[string]int // calls per value change or action
}

func (l *lab) step(e event) {
	next, effects := l.s.apply(e)
	l.s = next
	for _, eff := range effects {
		switch eff := eff.(type) {
		case look:
			l.s.Proof = false
			l.pending = append(l.pending, saw{Proof: true})
		case save:
			require.Empty(l.t, l.writing, "two commits at once")
			l.writing = []intent{l.s}
			l.pending = append(l.pending, saved{OK: true})
		case readClock:
			l.pending = append(l.pending, clockRead{Now: dockerio.UnixTime(1000)})
		case act:
			require.False(l.t, l.s.Deleting && eff.Op.Action == "", "acts on what is being deleted")
			require.Zero(l.t, l.acting, "two operations at once")
			require.Equal(l.t, eff.Op.ID, l.journal.Op.ID, "called before it was written down")
			l.acting++
			l.pending = append(l.pending, eff)
		case fence:
			l.pending = append(l.pending, fenced{})
		case hold:
			l.timers = append(l.timers, holdOver{})
		case scheduleIntent:
			l.timers = append(l.timers, intentDue{Round: eff.Round})
		case scheduleCalm:
			l.timers = append(l.timers, calm(eff))
		}
	}
}

// arrive lets the i-th of what is on its way arrive.
func (l *lab) arrive(i int, ok bool) {
	e := l.pending[i]
	l.pending = append(l.pending[:i:i], l.pending[i+1:]...)
	switch e := e.(type) {
	case saw:
		// What is asked last is answered last: an inspect that began before the last look is none of these.
		for _, p := range l.pending[i:] {
			if _, later := p.(saw); later {
				return
			}
		}
		e.Seen = l.engine.sight()
		l.step(e)
	case offerKept:
		if ok {
			l.journal = l.offering
		}
		l.step(offerKept{OK: ok})
	case saved:
		w := l.writing[0]
		l.writing = nil
		if ok {
			l.journal = w
		}
		l.step(saved{OK: ok})
	case act:
		l.acting--
		l.sent[fmt.Sprint(e.Op.Action, e.Op.Verb, l.s.Generation)]++
		c := called{ID: e.Op.ID, OK: true}
		if err := l.engine.do(e.Op.Verb); err != nil {
			c = called{ID: e.Op.ID, Class: messages.ClassConflict, Message: err.Error()}
		} else if !ok {
			c = called{ID: e.Op.ID, Class: messages.ClassTransient, Message: "lost", Unsure: true}
		}
		l.step(c)
	default:
		l.step(e)
	}
}

// crash ends the process; what the journal has is what the next one knows. A commit under way may or may not be on disk.
func (l *lab) crash(committed, called bool) {
	if len(l.writing) > 0 && committed {
		l.journal = l.writing[0]
	}
	for _, e := range l.pending {
		if a, ok := e.(act); ok && called {
			_ = l.engine.do(a.Op.Verb) // the engine goes on after we are gone
		}
	}
	l.life++
	spec := l.s // spec is in a record of its own
	l.pending, l.writing, l.timers, l.acting = nil, nil, nil, 0
	l.s = intent{State: messages.StateUnknown, Policy: messages.PolicyOnce, Prefix: fmt.Sprint("life", l.life)}
	l.step(adopted{State: spec.State, Policy: spec.Policy, Generation: spec.Generation})
	j := l.journal
	r := j.Receipt
	if j.Offer.ID != "" {
		r = j.Offer
	}
	l.step(recalled{Observed: j.Observed, Outcome: j.Outcome, Why: j.Why, Receipt: r, Op: j.Op})
	l.step(online{})
	l.pending = append(l.pending, saw{Proof: true})
}

func newLab(t *rapid.T) *lab {
	l := &lab{t: t, s: ready(), engine: fakeEngine{status: messages.ContainerCreated, calls: map[string]int{}}, sent: map[string]int{}}
	l.journal = l.s
	l.step(saw{Seen: l.engine.sight(), Proof: true})
	return l
}

// calm lets everything on its way arrive, in order, without faults.
func (l *lab) settleDown() {
	for n := 0; len(l.pending)+len(l.timers) > 0; n++ {
		require.Less(l.t, n, 500, "it does not come to rest: %+v", l.s)
		if len(l.pending) > 0 {
			l.arrive(0, true)
			continue
		}
		e := l.timers[0]
		l.timers = l.timers[1:]
		l.step(e)
	}
}

// Whatever comes in whatever order, with refused commits, lost answers and crashes: at most one operation is under way, each written
// down before; and when the faults end, the container is where it was wanted last, or somebody else was there later.
func TestIntentSchedules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLab(t)
		n, actions, crashes := rapid.IntRange(1, 60).Draw(t, "steps"), 0, 0
		for range n {
			switch k := rapid.IntRange(0, 11).Draw(t, "what"); {
			case k == 0:
				l.step(wrote{
					State:  rapid.SampledFrom(messages.ContainerStates()).Draw(t, "state"),
					Policy: rapid.SampledFrom(messages.ContainerPolicies()).Draw(t, "policy"), Generation: l.s.Generation + 1,
				})
			case k == 1 && l.s.Offer.ID == "" && l.s.Loaded && l.s.Op.Action == "":
				actions++
				l.pending = append(l.pending, offerKept{})
				l.step(offered{receipt{ID: fmt.Sprint("a", actions), Verb: rapid.SampledFrom(messages.Actions()).Draw(t, "action"),
					State: messages.ActionPending, Grace: -1}})
				l.offering = l.s
			case k == 2:
				_ = l.engine.do(rapid.SampledFrom(messages.Actions()).Draw(t, "by others"))
				l.step(saw{Seen: l.engine.sight()})
			case k == 3 && len(l.timers) > 0:
				e := l.timers[0]
				l.timers = l.timers[1:]
				l.step(e)
			case k == 4 && crashes < 3:
				crashes++
				l.crash(rapid.Bool().Draw(t, "committed"), rapid.Bool().Draw(t, "called"))
			case k == 5:
				l.step(online{})
				l.pending = append(l.pending, saw{Proof: true})
			case len(l.pending) > 0:
				l.arrive(rapid.IntRange(0, len(l.pending)-1).Draw(t, "which"), rapid.IntRange(0, 4).Draw(t, "fault") > 0)
			}
		}
		l.settleDown()
		s := l.s
		require.Equal(t, resting, s.Phase, "%+v", s)
		require.False(t, s.Receipt.pending(), "an accepted action has no end: %+v", s)
		require.Equal(t, s.Generation, s.Observed, "%+v", s)
		if s.Policy == messages.PolicyEnforce && s.State != messages.StateUnknown {
			require.True(t, satisfies(s.State, l.engine.status), "%s is enforced, it is %s", s.State, l.engine.status)
		}
		require.False(t, s.open())
	})
}

// Each change of the value acts once: what happens to the container afterwards is shown, and left alone.
func TestIntentOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLab(t)
		state := rapid.SampledFrom(messages.ContainerStates()[1:]).Draw(t, "state")
		l.step(wrote{State: state, Policy: messages.PolicyOnce, Generation: 2})
		l.settleDown()
		require.True(t, satisfies(state, l.engine.status))
		require.Equal(t, applied, l.s.Outcome)
		clear(l.sent)
		for range rapid.IntRange(1, 10).Draw(t, "others") {
			_ = l.engine.do(rapid.SampledFrom(messages.Actions()).Draw(t, "by others"))
			l.step(saw{Seen: l.engine.sight(), Proof: true})
			if rapid.Bool().Draw(t, "crash") {
				l.crash(true, true)
			}
			l.settleDown()
			require.Empty(t, l.sent, "it was applied once")
			require.Equal(t, !satisfies(state, l.engine.status), l.s.drifted())
		}
		l.step(wrote{State: messages.StateUnknown, Policy: messages.PolicyOnce, Generation: 3})
		l.settleDown()
		require.Empty(t, l.sent)
		require.False(t, l.s.drifted())
		require.Equal(t, undecided, l.s.Outcome)
	})
}

// A job that ends at once was started: it is not started for ever.
func TestIntentOnce_JobEndsAtOnce(t *testing.T) {
	s := ready()
	step := func(e event) []effect {
		next, effects := s.apply(e)
		s = next
		return effects
	}
	step(wrote{State: messages.StateRunning, Policy: messages.PolicyOnce, Generation: 2})
	exited := sight{Status: messages.ContainerExited, StartedAt: dockerio.UnixTime(1)}
	step(saw{Seen: exited, Proof: true})
	step(saved{OK: true})
	step(called{ID: s.Op.ID, OK: true})
	exited.StartedAt = dockerio.UnixTime(2)
	step(saw{Seen: exited, Proof: true})
	require.Equal(t, applied, s.Outcome)
	require.True(t, s.drifted())
	require.Equal(t, resting, s.Phase)
	require.Contains(t, s.By, "its own end")
}

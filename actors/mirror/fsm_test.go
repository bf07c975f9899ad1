package mirror

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/tests/tables"
)

// name of a probe's state, for the table.
func (p probe) name() string {
	n := map[existence]string{unseen: "fresh", present: "present", gone: "gone"}[p.Exist]
	switch {
	case p.Asking:
		n += " asking"
	case p.Waiting:
		n += " waiting"
	case !p.Live:
		n += " idle"
	}
	if p.Dirty {
		n += "+"
	}
	if p.Destroyed || p.AskedDestroyed {
		n += " destroyed"
	}
	return n
}

func TestProbeTable(t *testing.T) {
	events := []struct {
		name string
		e    event
	}{
		{"session began", began{}}, {"session began, listed", began{Answered: true}},
		{"marked", marked{}}, {"marked destroyed", marked{Destroyed: true}},
		{"found", found{}}, {"missing", missing{}}, {"failed", failed{}}, {"failed, no session", failed{NoSession: true}},
		{"stale", stale{}}, {"retry due", retryDue{}},
	}
	states := []probe{
		{Dirty: true, Credit: 1},
		{Live: true, Exist: present, Credit: 1},
		{Live: true, Asking: true, Credit: 1},
		{Live: true, Asking: true, Dirty: true, Credit: 1},
		{Live: true, Exist: present, Asking: true, AskedDestroyed: true, Credit: 1},
		{Live: true, Exist: present, Dirty: true, Waiting: true, Fails: 1, Credit: 1},
	}
	var rows []tables.Row
	for _, s := range states {
		for _, e := range events {
			_, isAnswer := e.e.(found)
			_, isMissing := e.e.(missing)
			_, isFailed := e.e.(failed)
			_, isStale := e.e.(stale)
			if (isAnswer || isMissing || isFailed || isStale) && !s.Asking {
				continue // there is no answer without a question
			}
			next, effects := s.apply(e.e)
			rows = append(rows, tables.Row{State: s.name(), Event: e.name, Next: next.name(), Effects: tables.Names(effects)})
		}
	}
	tables.Check(t, "probe_fsm.go", "probe", rows)
}

func TestRemovalTable(t *testing.T) {
	events := []struct {
		name string
		e    event
	}{
		{"delete asked", deleteAsked{}}, {"recorded", recorded{OK: true}}, {"journal refused", recorded{}}, {"replayed", replayed{}},
		{"removed", callDone{OK: true}}, {"not found", callDone{Class: messages.ClassNotFound}},
		{"in use", callDone{Class: messages.ClassConflict}}, {"failed", callDone{Class: messages.ClassTransient}},
		{"no session", callDone{NoSession: true, Class: messages.ClassTransient}},
		{"object gone", objectGone{}}, {"orphaned", orphaned{}}, {"remove due", removeDue{}}, {"online", online{}},
		{"online after a gap", online{Prove: true}}, {"the same", proved{Same: true}}, {"another object", proved{}},
		{"mirror reset", ended{}}, {"mirror reset, held", ended{Held: true}},
	}
	name := func(r removal) string {
		if !r.Live {
			return r.Phase.String() + " offline"
		}
		return r.Phase.String()
	}
	var rows []tables.Row
	for _, live := range []bool{true, false} {
		for phase := noRemoval; phase <= removed; phase++ {
			if phase == due && live || (phase == calling || phase == unproved) && !live {
				continue // not a state to rest in
			}
			s := removal{Phase: phase, Live: live, Prove: phase == unproved}
			for _, e := range events {
				next, effects := s.apply(e.e)
				rows = append(rows, tables.Row{State: name(s), Event: e.name, Next: name(next), Effects: tables.Names(effects)})
			}
		}
	}
	tables.Check(t, "removal_fsm.go", "removal", rows)
}

func count[E comparable](effects []effect, e E) int {
	n := 0
	for _, x := range effects {
		if x == effect(e) {
			n++
		}
	}
	return n
}

// Whatever comes in whatever order: at most one question is in flight, and when the faults end and a session is there, the
// newest mark has been asked about.
func TestProbeSchedules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, flying, credits := newProbe(), 0, 0
		step := func(e event) {
			next, effects := p.apply(e)
			flying += count(effects, inspect{})
			credits += count(effects, earnCredit{})
			p = next
			require.LessOrEqual(t, flying, 1)
			require.Equal(t, flying == 1, p.Asking)
			require.GreaterOrEqual(t, p.Credit, 0)
		}
		answer := func(e event) {
			if flying == 1 {
				flying--
				step(e)
			}
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 10).Draw(t, "event") {
			case 0:
				step(began{})
			case 1, 2, 3:
				step(marked{Destroyed: rapid.Bool().Draw(t, "destroyed")})
			case 4:
				answer(found{})
			case 5:
				answer(missing{})
			case 6:
				answer(failed{})
			case 7:
				answer(failed{NoSession: true})
			case 8:
				answer(stale{})
			case 9:
				step(retryDue{})
			case 10:
				if credits > 0 {
					credits--
					step(creditBack{})
				}
			}
		}
		step(marked{})
		step(began{})
		for range 10 {
			answer(found{})
			if credits > 0 {
				credits--
				step(creditBack{})
			}
		}
		require.False(t, p.Dirty)
		require.True(t, p.known())
		require.Equal(t, present, p.Exist)
	})
}

// The engine is never called before the journal has the deletion; what was accepted ends as removed as soon as the engine lets
// it; nothing is rejected after it was accepted.
func TestRemovalSchedules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, accepted, flying := removal{Live: true}, false, 0
		step := func(e event) {
			if c, ok := e.(callDone); ok {
				if flying == 0 {
					return
				}
				flying--
				_ = c
			}
			if rec, ok := e.(recorded); ok && rec.OK && r.Phase == recording {
				accepted = true
			}
			next, effects := r.apply(e)
			calls := count(effects, callRemove{})
			flying += calls
			if calls > 0 {
				require.False(t, next.Prove, "called before the object was proved to be the same")
			}
			if calls > 0 {
				require.True(t, accepted, "called before it was accepted")
			}
			if accepted {
				require.Zero(t, count(effects, reject{}))
			}
			require.LessOrEqual(t, flying, 1)
			r = next
		}
		events := []event{deleteAsked{}, recorded{OK: true}, recorded{}, removeDue{}, online{}, online{Prove: true}, proved{Same: true},
			callDone{Class: messages.ClassConflict}, callDone{Class: messages.ClassTransient}, callDone{NoSession: true}}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			step(events[rapid.IntRange(0, len(events)-1).Draw(t, "event")])
		}
		if !accepted {
			return
		}
		for range 5 {
			step(online{})
			step(removeDue{})
			step(callDone{OK: true})
		}
		require.Equal(t, removed, r.Phase)
	})
}

func TestARecreatedObjectIsAnotherIncarnation(t *testing.T) {
	p := probe{Live: true, Exist: present, Credit: maxCredit}
	p, _ = p.apply(marked{Destroyed: true})
	require.True(t, p.AskedDestroyed)
	_, effects := p.apply(found{})
	require.True(t, slices.Contains(effects, effect(observed{Recreated: true})))
}

// A destroy was seen, and the question what is there now failed: the next one is about another incarnation all the same.
func TestADestroySurvivesAFailedQuestion(t *testing.T) {
	p := newProbe()
	for _, e := range []event{began{}, found{}, marked{Destroyed: true}, failed{}, creditBack{}, retryDue{}} {
		p, _ = p.apply(e)
	}
	require.True(t, p.Asking)
	require.True(t, p.AskedDestroyed)
}

package mirror

import (
	"fmt"
	"slices"
	"time"

	"github.com/rdd-desktop/rdd/messages"
)

// outcomeUnknown begins the error of an action of which nobody knows whether the engine did it.
const outcomeUnknown = "OutcomeUnknown"

// decide compares what is wanted with what is known, and begins at most one thing.
func (s intent) decide(at time.Time, out []effect) (intent, []effect) {
	if s.Saving != notSaving || s.Offer.ID != "" || !s.Loaded || s.Generation == 0 {
		return s, out
	}
	if s.Phase == proving && s.Proof {
		s, out = s.judge(at, out)
	}
	if s.Phase != resting {
		return s, out
	}
	s, out = s.settle(at, out)
	if s.Stuck {
		return s, out
	}
	if s.Unsaved {
		s.Saving, s.Unsaved = savingOutcome, false
		return s, append(out, save{savingOutcome})
	}
	return s.begin(at, out)
}

// judge says what came of the operation, by its answer and by what an inspect saw since.
func (s intent) judge(at time.Time, out []effect) (intent, []effect) {
	op, r := s.Op, s.Result
	did := op.took(s.Seen)
	late := r.Replayed && op.Verb == messages.ActionRestart && !did && !r.Held && !s.Deleting
	if late {
		s.Phase = gauging
		return s, append(out, readClock{})
	}
	if op.Action == "" {
		s, out = s.judgeState(did, out)
	} else if op.Action == s.Receipt.ID && s.Receipt.pending() {
		switch {
		case r.OK || did:
			s = s.end(messages.ActionSucceeded, "", at)
			if !s.satisfied() {
				s.By = "by action " + op.Verb
			}
		case r.Replayed && op.Verb == messages.ActionKill:
			s = s.end(messages.ActionFailed, outcomeUnknown+": rdd ended while it was under way; it is not done twice", at)
		case r.Replayed: // it is begun again
		case r.Unsure:
			s = s.end(messages.ActionFailed, outcomeUnknown+": "+r.Message, at)
		default:
			s = s.end(messages.ActionFailed, r.Message, at)
		}
	}
	s.Phase, s.Op, s.Result, s.Unsaved = resting, operation{}, result{}, true
	return s, append(out, showIntent{})
}

// judgeState says what a step towards spec.state came to.
func (s intent) judgeState(did bool, out []effect) (intent, []effect) {
	op, r := s.Op, s.Result
	switch {
	case !slices.Contains(stepsTo[s.State], op.Verb): // another state is wanted by now
	case (r.OK || did) && brings(op.Verb, s.State):
		// Done, whatever has become of it since: a program that ends at once was started all the same.
		s = s.settled(applied, "")
		if !s.satisfied() {
			s.By = s.suspect(s.Seen)
		} else if s.Corrections > 0 {
			out = append(out, scheduleCalm{s.Corrections})
		}
	case did:
	case r.Replayed: // not done: it is begun again
	case r.Class == messages.ClassPermanent && !r.OK:
		s = s.settled(hopeless, r.Message)
	case r.Class == messages.ClassNotFound && !r.OK: // the mirror of it goes
	case r.OK:
		s, out = s.again(fmt.Sprintf("%s had no effect: it is %s", op.Verb, s.Seen.Status), out)
	default:
		s, out = s.again(r.Message, out)
	}
	return s, out
}

// settle notes what is so without our doing.
func (s intent) settle(at time.Time, out []effect) (intent, []effect) {
	switch {
	case s.Deleting:
		if s.Receipt.pending() {
			why := "the container is being deleted"
			out = append(out, tellSuperseded{s.Receipt, why})
			s = s.end(messages.ActionSuperseded, why, at)
		}
	case s.Observed == s.Generation:
	case s.State == messages.StateUnknown:
		s = s.settled(undecided, "")
	case s.Proof && s.satisfied():
		s = s.settled(applied, "")
	}
	return s, out
}

// begin picks the next operation.
func (s intent) begin(at time.Time, out []effect) (intent, []effect) {
	if !s.Live || !s.Proof || s.Deleting {
		return s, out
	}
	if s.Receipt.pending() {
		switch verb, end, why := actionStep(s.Receipt.Verb, s.Seen.Status); end {
		case "":
			return s.send(verb, s.Receipt.ID, out)
		default:
			s = s.end(end, why, at)
			return s.decide(at, out)
		}
	}
	if !s.wanted() || s.satisfied() {
		s.Waiting, s.Due = false, false
		return s, out
	}
	verb, why := stateStep(s.State, s.Seen.Status)
	enforced := s.Observed == s.Generation
	switch {
	case why != "" && enforced: // what is dead or being removed is not enforced
	case why != "":
		s = s.settled(hopeless, why)
		return s.decide(at, out)
	case verb == "" || s.Waiting:
	case enforced && !s.Due:
		s.Corrections++
		s.Round++
		s.Waiting = true
		out = append(out, scheduleIntent{Round: s.Round, Tries: s.Corrections, Enforced: true}, showIntent{})
	default:
		s.Due = false
		return s.send(verb, "", out)
	}
	return s, out
}

// send begins an operation: first of all it is written down.
func (s intent) send(verb, action string, out []effect) (intent, []effect) {
	s.Serial++
	s.Op = operation{ID: fmt.Sprintf("%s-%d", s.Prefix, s.Serial), Verb: verb, Action: action, StartedAt: s.Seen.StartedAt, Grace: s.Seen.Grace}
	if action != "" {
		if s.Receipt.Grace >= 0 {
			s.Op.Grace = s.Receipt.Grace
		}
		if s.Observed < s.Generation && s.Policy != messages.PolicyEnforce {
			s = s.settled(superseded, "action "+verb+" came after it")
		}
	}
	if verb == messages.ActionRestart {
		s.Phase = timing
		return s, append(out, readClock{})
	}
	s.Phase, s.Saving, s.Unsaved = sending, savingOperation, false
	return s, append(out, save{savingOperation})
}

// settled ends the present generation of spec.state.
func (s intent) settled(o outcome, why string) intent {
	s.Outcome, s.Why, s.By, s.Observed, s.Unsaved = o, why, "", s.Generation, true
	s.Tries, s.Waiting, s.Due = 0, false, false
	return s
}

// again tries spec.state once more, after a while.
func (s intent) again(why string, out []effect) (intent, []effect) {
	s.Why = why
	s.Tries++
	s.Round++
	s.Waiting = true
	return s, append(out, scheduleIntent{Round: s.Round, Tries: s.Tries})
}

// end ends the action.
func (s intent) end(state, why string, at time.Time) intent {
	s.Receipt.State, s.Receipt.Error, s.Receipt.Completed, s.Unsaved = state, why, at, true
	if s.Receipt.Observed.IsZero() {
		s.Receipt.Observed = at
	}
	return s
}

// took reports whether what an operation does can be seen to have happened.
func (o operation) took(now sight) bool {
	again := !now.StartedAt.IsZero() && !now.StartedAt.Equal(o.StartedAt)
	switch o.Verb {
	case messages.ActionStart:
		return again || now.Status == messages.ContainerRunning
	case messages.ActionRestart:
		return again
	case messages.ActionStop, messages.ActionKill:
		return stopped(now.Status)
	case messages.ActionPause:
		return now.Status == messages.ContainerPaused
	case messages.ActionUnpause:
		return now.Status == messages.ContainerRunning
	}
	return false
}

func stopped(status string) bool {
	return status == messages.ContainerCreated || status == messages.ContainerExited || status == messages.ContainerDead
}

// satisfies reports whether a container of that status is where spec.state wants it.
func satisfies(state, status string) bool {
	switch state {
	case messages.StateRunning:
		return status == messages.ContainerRunning
	case messages.StatePaused:
		return status == messages.ContainerPaused
	case messages.StateCreated:
		return status == messages.ContainerCreated || status == messages.ContainerExited
	}
	return true
}

// stepsTo are the operations that lead to a state.
var stepsTo = map[string][]string{
	messages.StateRunning: {messages.ActionStart, messages.ActionUnpause},
	messages.StateCreated: {messages.ActionUnpause, messages.ActionStop},
	messages.StatePaused:  {messages.ActionStart, messages.ActionPause},
}

// brings reports whether verb is the last step to a state.
func brings(verb, state string) bool {
	switch state {
	case messages.StateRunning:
		return verb == messages.ActionStart || verb == messages.ActionUnpause
	case messages.StateCreated:
		return verb == messages.ActionStop
	case messages.StatePaused:
		return verb == messages.ActionPause
	}
	return false
}

// stateStep is the next operation on the way from a status to a state; none while the engine is at it itself. why is set when there
// is no way.
func stateStep(state, status string) (verb, why string) {
	switch status {
	case messages.ContainerDead, messages.ContainerRemoving:
		return "", "the container is " + status
	case messages.ContainerRestarting:
		if state == messages.StateCreated {
			return messages.ActionStop, ""
		}
		return "", ""
	case messages.ContainerPaused:
		return messages.ActionUnpause, ""
	case messages.ContainerRunning:
		if state == messages.StateCreated {
			return messages.ActionStop, ""
		}
		return messages.ActionPause, ""
	}
	return messages.ActionStart, ""
}

// actionStep is what an action does to a container of that status: an operation, or its end at once.
func actionStep(action, status string) (verb, end, why string) {
	done := func() (string, string, string) { return "", messages.ActionSucceeded, "" }
	refuse := func() (string, string, string) {
		return "", messages.ActionFailed, fmt.Sprintf("%s: the container is %s", action, status)
	}
	switch ends := action == messages.ActionStop || action == messages.ActionKill; {
	case ends && stopped(status):
		return done()
	case status == messages.ContainerDead || status == messages.ContainerRemoving:
		return refuse()
	case action == messages.ActionStart && status == messages.ContainerRunning,
		action == messages.ActionUnpause && status == messages.ContainerRunning,
		action == messages.ActionPause && status == messages.ContainerPaused:
		return done()
	case action == messages.ActionStart && status == messages.ContainerPaused,
		action == messages.ActionPause && status != messages.ContainerRunning,
		action == messages.ActionUnpause && status != messages.ContainerPaused:
		return refuse()
	}
	return action, "", ""
}

// opposes reports whether an action leads away from a state that is enforced.
func opposes(action, state string) bool {
	switch state {
	case messages.StateRunning:
		return action == messages.ActionStop || action == messages.ActionKill || action == messages.ActionPause
	case messages.StateCreated:
		return action != messages.ActionStop && action != messages.ActionKill
	case messages.StatePaused:
		return action != messages.ActionPause
	}
	return false
}

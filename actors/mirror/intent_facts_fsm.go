package mirror

import (
	"fmt"

	"github.com/rdd-desktop/rdd/messages"
)

// resume asks again what a lost session has left without an answer.
func (s intent) resume(out []effect) []effect {
	switch s.Phase {
	case fencing:
		out = append(out, fence{})
	case timing, gauging:
		out = append(out, readClock{})
	}
	return out
}

// written takes a new spec. Only another value of spec.state arms Once: any other change moves Observed along.
func (s intent) written(e wrote, out []effect) (intent, []effect) {
	if e.Generation == s.Generation && e.State == s.State && e.Policy == s.Policy {
		return s, out
	}
	settled := s.Observed == s.Generation
	changed := e.State != s.State
	unfit := e.Policy == messages.PolicyEnforce && (s.Policy != e.Policy || s.Outcome == hopeless)
	s.State, s.Policy, s.Generation = e.State, e.Policy, e.Generation
	switch {
	case changed, unfit:
		s.Outcome, s.Why, s.By, s.Tries, s.Corrections, s.Waiting, s.Due = undecided, "", "", 0, 0, false, false
		if s.State != messages.StateUnknown {
			s.Proof = false
			out = append(out, look{})
		}
	case settled:
		s.Observed, s.Unsaved = e.Generation, true
	}
	return s, append(out, showIntent{})
}

// remember takes what an earlier incarnation, or an earlier daemon, had written down. What it was doing may have been done.
func (s intent) remember(e recalled, out []effect) (intent, []effect) {
	if s.Loaded {
		return s, out
	}
	s.Loaded = true
	if e.Observed > s.Observed {
		s.Observed = e.Observed
	}
	s.Outcome, s.Why, s.Receipt, s.Op = e.Outcome, e.Why, e.Receipt, e.Op
	if s.Op.ID != "" {
		s.Phase, s.Result = fencing, result{Replayed: true, Unsure: true}
		if s.Live {
			out = append(out, fence{})
		}
	}
	return s, append(out, showIntent{})
}

// kept is the journal's answer.
func (s intent) kept(e saved, out []effect) (intent, []effect) {
	what := s.Saving
	s.Saving = notSaving
	switch {
	case what == savingOperation && !e.OK:
		s.Phase, s.Op = resting, operation{}
		s, out = s.refusedByJournal(out)
	case what == savingOperation:
		if s.Receipt.ID == s.Op.Action && s.Receipt.Observed.IsZero() {
			s.Receipt.Observed = e.At
		}
		s.Phase = atWork
		out = append(out, act{s.Op})
	case what == savingOutcome && !e.OK:
		s, out = s.refusedByJournal(out)
	case what == savingOutcome:
		out = append(out, showIntent{})
	}
	return s, out
}

// considered ends an offer. Once the journal has it, it is an action; what waited before it and was not begun is superseded.
func (s intent) considered(e offerKept, out []effect) (intent, []effect) {
	offer := s.Offer
	s.Offer = receipt{}
	if !e.OK || offer.ID == "" {
		s.Unsaved = s.Unsaved || e.Touched
		return s, out
	}
	if s.Receipt.pending() {
		out = append(out, tellSuperseded{s.Receipt, "action " + offer.Verb + " came after it"})
	}
	s.Receipt, s.Proof = offer, false
	return s, append(out, showIntent{}, look{})
}

// refusedByJournal keeps what is to be written for later; nothing else is begun until then.
func (s intent) refusedByJournal(out []effect) (intent, []effect) {
	s.Stuck, s.Unsaved = true, true
	s.Tries++
	s.Round++
	return s, append(out, scheduleIntent{Round: s.Round, Tries: s.Tries})
}

// looked takes what the engine says.
func (s intent) looked(e saw) intent {
	if s.Outcome == applied && s.State != messages.StateUnknown && s.satisfied() && !satisfies(s.State, e.Seen.Status) {
		s.By = s.suspect(e.Seen)
	}
	s.Seen = e.Seen
	s.Proof = s.Proof || e.Proof
	return s
}

// suspect says who changed the container, as far as that can be known.
func (s intent) suspect(now sight) string {
	switch {
	case s.Op.ID != "" && s.Op.Action != "":
		return "by action " + s.Op.Verb
	case now.Restarts > s.Seen.Restarts:
		return "by its restart policy (" + now.Policy + ")"
	case now.Status == messages.ContainerRunning && now.Policy != "" && now.Policy != "no":
		return "outside rdd, or by its restart policy (" + now.Policy + ")"
	case now.Status == messages.ContainerExited:
		return fmt.Sprintf("outside rdd, or by its own end (exit code %d)", now.ExitCode)
	}
	return "outside rdd"
}

// timed takes the engine's clock: before a restart, or to know how long one of before may still take.
func (s intent) timed(e clockRead, out []effect) (intent, []effect) {
	switch {
	case s.Phase != timing && s.Phase != gauging:
	case e.NoSession:
		s.Live, s.Proof = false, false
	case s.Phase == timing:
		s.Op.SentAt = e.Now
		s.Phase, s.Saving, s.Unsaved = sending, savingOperation, false
		out = append(out, save{savingOperation})
	default:
		left := s.Op.Grace + restartSlack
		if !e.Now.IsZero() && !s.Op.SentAt.IsZero() {
			left = min(left, s.Op.SentAt.Add(left).Sub(e.Now))
		}
		s.Phase = holding
		out = append(out, hold{For: max(left, 0)})
	}
	return s, out
}

// answered takes the outcome of a call. What it did is for an inspect to say.
func (s intent) answered(e called, out []effect) (intent, []effect) {
	if s.Phase != atWork || e.ID != s.Op.ID {
		return s, out
	}
	if e.NoSession { // it was never made
		s.Live, s.Proof, s.Phase, s.Op, s.Unsaved = false, false, resting, operation{}, true
		return s, out
	}
	s.Phase, s.Proof = proving, false
	s.Result = result{OK: e.OK, Class: e.Class, Message: e.Message, Unsure: e.Unsure}
	return s, append(out, look{})
}

func (s intent) unfenced(e fenced, out []effect) (intent, []effect) {
	switch {
	case s.Phase != fencing:
	case e.NoSession:
		s.Live = false
	default:
		s.Phase, s.Proof = proving, false
		out = append(out, look{})
	}
	return s, out
}

// satisfied: the container is where spec.state wants it.
func (s intent) satisfied() bool { return satisfies(s.State, s.Seen.Status) }

// wanted: spec.state is something to be brought about, or to be kept.
func (s intent) wanted() bool {
	if s.State == messages.StateUnknown || s.State == "" || s.Outcome == hopeless && s.Observed == s.Generation {
		return false
	}
	return s.Observed < s.Generation || s.Policy == messages.PolicyEnforce
}

// open: something is still to be done, which a sweep ends.
func (s intent) open() bool {
	return !s.Deleting && s.wanted() && (s.Observed < s.Generation || !s.satisfied())
}

// drifted: what had been applied is not so any more.
func (s intent) drifted() bool {
	return s.Outcome == applied && s.State != messages.StateUnknown && s.Seen.Status != "" && !s.satisfied()
}

package mirror

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/messages"
)

// stamp writes into a container that is about to be published what its intent has to say. What readers see of observedGeneration and
// lastAction is in the journal already.
func (w *will) stamp(con *messages.Container) {
	if w.s.Generation == 0 {
		return
	}
	con.Status.ObservedGeneration = max(w.durable.Observed, con.Status.ObservedGeneration)
	if w.durable.Receipt.ID != "" {
		con.Status.LastAction = w.durable.Receipt.message()
	}
	w.condition(con, messages.ConditionIntentApplied, w.appliedCondition(con))
	w.condition(con, messages.ConditionDrifted, w.driftedCondition(con))
}

func (w *will) condition(con *messages.Container, kind string, cond *metav1.Condition) {
	if cond == nil {
		con.SetConditions(messages.RemoveCondition(con.Conditions(), kind))
		return
	}
	cond.Type, cond.ObservedGeneration = kind, con.Generation
	con.SetConditions(messages.SetCondition(con.Conditions(), *cond, w.o.d.Now()))
}

// appliedCondition says how far spec.state is; nil when there is nothing to say.
func (w *will) appliedCondition(con *messages.Container) *metav1.Condition {
	if con.Spec.State == messages.StateUnknown {
		return nil
	}
	d := w.durable
	settled := d.Observed == con.Generation
	switch {
	case w.s.Tries > 0 && (w.s.Waiting || w.s.Stuck):
		why := w.s.Why
		if w.s.Stuck {
			why = "the journal could not take what is to be done"
		}
		return &metav1.Condition{Status: metav1.ConditionFalse, Reason: messages.ReasonRetrying,
			Message: fmt.Sprintf("attempt %d failed: %s; next try at %s", w.s.Tries, why, w.next.UTC().Format(time.RFC3339))}
	case !settled && w.s.Seen.Status == messages.ContainerRestarting && w.s.Proof:
		return &metav1.Condition{Status: metav1.ConditionFalse, Reason: messages.ReasonRetrying,
			Message: "waits for its restart policy (" + w.s.Seen.Policy + ")"}
	case !settled:
		return &metav1.Condition{Status: metav1.ConditionUnknown, Reason: messages.ReasonProgressing, Message: "spec.state=" + con.Spec.State + " is accepted"}
	case d.Outcome == applied:
		return &metav1.Condition{Status: metav1.ConditionTrue, Reason: messages.ReasonApplied, Message: "spec.state=" + con.Spec.State + " was applied"}
	case d.Outcome == hopeless:
		return &metav1.Condition{Status: metav1.ConditionFalse, Reason: messages.ReasonFailed, Message: d.Why}
	case d.Outcome == superseded:
		return &metav1.Condition{Status: metav1.ConditionFalse, Reason: messages.ReasonSuperseded, Message: d.Why}
	}
	return nil
}

// driftedCondition says whether what had been applied is still so.
func (w *will) driftedCondition(con *messages.Container) *metav1.Condition {
	if w.s.State == messages.StateUnknown || w.durable.Outcome != applied || w.durable.Observed != con.Generation {
		return nil
	}
	if !w.s.drifted() {
		return &metav1.Condition{Status: metav1.ConditionFalse, Reason: messages.ReasonApplied}
	}
	message := fmt.Sprintf("spec.state=%s (generation %d) was applied; it is %s now", w.s.State, con.Generation, w.s.Seen.Status)
	if w.s.By != "" {
		message += ", changed " + w.s.By
	}
	if w.s.Policy == messages.PolicyEnforce && w.s.Waiting {
		message += fmt.Sprintf("; to be corrected at %s (correction %d)", w.next.UTC().Format(time.RFC3339), w.s.Corrections)
	}
	return &metav1.Condition{Status: metav1.ConditionTrue, Reason: messages.ReasonDrifted, Message: message}
}

// message is the receipt as readers see it.
func (r receipt) message() *messages.ActionReceipt {
	return &messages.ActionReceipt{ID: r.ID, Action: r.Verb, State: r.State, Error: r.Error,
		RequestedAt: microTime(r.Requested), ObservedAt: optionalTime(r.Observed), CompletedAt: optionalTime(r.Completed)}
}

func microTime(t time.Time) metav1.MicroTime {
	return metav1.NewMicroTime(t.UTC().Truncate(time.Microsecond))
}

func optionalTime(t time.Time) *metav1.MicroTime {
	if t.IsZero() {
		return nil
	}
	m := microTime(t)
	return &m
}

// record is what the journal keeps of s.
func (w *will) record(s intent) journal.OperationRecord {
	r := journal.OperationRecord{
		Kind: w.o.ops.kind.Name, Name: w.o.ops.name(w.o.id), Owner: w.o.id, EngineID: w.o.session.EngineID, Identity: w.o.id,
		ObservedGeneration: s.Observed, Outcome: string(s.Outcome), Why: s.Why,
	}
	action := s.Receipt
	if s.Offer.ID != "" {
		action = s.Offer
	}
	if action.ID != "" {
		r.Action = action.message()
		if action.Grace >= 0 {
			r.Grace = &action.Grace
		}
	}
	if s.Op.ID != "" {
		r.Operation = &journal.Operation{ID: s.Op.ID, Verb: s.Op.Verb, Action: s.Op.Action,
			StartedAt: s.Op.StartedAt, SentAt: s.Op.SentAt, Grace: s.Op.Grace}
	}
	return r
}

func receiptOf(rec journal.OperationRecord) receipt {
	a := rec.Action
	if a == nil {
		return receipt{}
	}
	r := receipt{ID: a.ID, Verb: a.Action, State: a.State, Error: a.Error, Grace: -1, Requested: a.RequestedAt.Time}
	if rec.Grace != nil {
		r.Grace = *rec.Grace
	}
	if a.ObservedAt != nil {
		r.Observed = a.ObservedAt.Time
	}
	if a.CompletedAt != nil {
		r.Completed = a.CompletedAt.Time
	}
	return r
}

func operationOf(rec journal.OperationRecord) operation {
	o := rec.Operation
	if o == nil {
		return operation{}
	}
	return operation{ID: o.ID, Verb: o.Verb, Action: o.Action, StartedAt: o.StartedAt, SentAt: o.SentAt, Grace: o.Grace}
}

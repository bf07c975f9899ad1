package mirror

import "github.com/rdd-desktop/rdd/messages"

// removalPhase is how far the deletion of one resource is.
type removalPhase int

const (
	// noRemoval: nobody asked.
	noRemoval removalPhase = iota
	// recording: asked for; the journal is writing it down. Nothing has been done in the engine.
	recording
	// due: accepted; the engine's object is to be removed now.
	due
	// calling: the engine is removing it.
	calling
	// blocked: the engine refused; the timer and the blocker's end both wake it.
	blocked
	// removed: the engine's object is gone; the resource follows.
	removed
)

var removalNames = map[removalPhase]string{
	noRemoval: "none", recording: "recording", due: "due", calling: "calling", blocked: "blocked", removed: "removed",
}

func (p removalPhase) String() string { return removalNames[p] }

// removal is the deletion of one resource: its own operation, its own retry clock.
//
// The table ("offline": there is no session):
//
// BEGIN TABLE removal
//
//	state                  event                  next                   effects
//	none                   delete asked           recording              record
//	none                   replayed               calling                showDeleting, callRemove
//	none                   orphaned               removed                finishRemoval
//	recording              recorded               calling                showDeleting, callRemove
//	recording              journal refused        none                   reject
//	calling                removed                removed                finishRemoval
//	calling                not found              removed                finishRemoval
//	calling                in use                 blocked                watchBlockers, showDeleting, scheduleRemove
//	calling                failed                 blocked                showDeleting, scheduleRemove
//	calling                no session             due offline            showDeleting
//	calling                object gone            removed                finishRemoval
//	blocked                object gone            removed                finishRemoval
//	blocked                remove due             calling                callRemove
//	blocked                online                 calling                callRemove
//	none offline           delete asked           recording offline      record
//	none offline           replayed               due offline            showDeleting
//	none offline           orphaned               removed offline        finishRemoval
//	none offline           online                 none
//	recording offline      recorded               due offline            showDeleting
//	recording offline      journal refused        none offline           reject
//	recording offline      online                 recording
//	due offline            object gone            removed offline        finishRemoval
//	due offline            online                 calling                callRemove
//	blocked offline        object gone            removed offline        finishRemoval
//	blocked offline        remove due             due offline
//	blocked offline        online                 calling                callRemove
//	removed offline        online                 removed
//
// END TABLE
type removal struct {
	Phase removalPhase
	// Tries counts refused calls in a row.
	Tries int
	// Live: there is a session; Vanished: the engine's object went by itself.
	Live bool
	// Reason and Message say why it is blocked.
	Reason  string
	Message string
}

// Events of a removal.
type (
	deleteAsked struct{}
	// recorded: the journal has it (OK), or could not take it.
	recorded struct{ OK bool }
	// replayed: the journal had it when the owner started.
	replayed struct{}
	// callDone: the engine answered.
	callDone struct {
		Class messages.Class
		OK    bool
		// NoSession: the call was never made.
		NoSession bool
		Message   string
	}
	// objectGone: the engine's object is not there any more.
	objectGone struct{}
	// orphaned: so it is, nobody asked for it, and others hold the resource.
	orphaned  struct{}
	removeDue struct{} // the retry timer, or a blocker that went
	// online: there is a session.
	online struct{}
)

// Effects of a removal.
type (
	record     struct{}
	reject     struct{}
	callRemove struct{}
	// showDeleting: publish the deletionTimestamp and why it takes longer, if it does.
	showDeleting struct{}
	// scheduleRemove: try again after a delay for that number of tries.
	scheduleRemove struct{ Tries int }
	// watchBlockers: ask to be told when the users of the object change.
	watchBlockers struct{}
	// finishRemoval: drop the journal record and the resource.
	finishRemoval struct{}
)

func (r removal) apply(e event) (removal, []effect) {
	var out []effect
	switch e := e.(type) {
	case online:
		r.Live = true
		if r.Phase == blocked {
			r.Phase, r.Tries = due, 0
		}
	case deleteAsked:
		if r.Phase == noRemoval {
			r.Phase = recording
			return r, []effect{record{}}
		}
	case recorded:
		if r.Phase != recording {
			break
		}
		if !e.OK {
			r.Phase = noRemoval
			return r, []effect{reject{}}
		}
		r.Phase = due
		r, out = r.accepted(out)
	case replayed:
		if r.Phase == noRemoval {
			r.Phase = due
			r, out = r.accepted(out)
		}
	case callDone:
		r, out = r.called(e, out)
	case objectGone:
		if r.Phase != noRemoval && r.Phase != recording && r.Phase != removed {
			r.Phase = removed
			return r, append(out, finishRemoval{})
		}
	case orphaned:
		if r.Phase == noRemoval {
			r.Phase = removed
			return r, append(out, finishRemoval{})
		}
	case removeDue:
		if r.Phase == blocked {
			r.Phase = due
		}
	}
	return r.decide(out)
}

// accepted shows the deletion; without a session also why nothing happens yet.
func (r removal) accepted(out []effect) (removal, []effect) {
	if !r.Live {
		r.Reason, r.Message = messages.ReasonEngineDown, "no session with the engine; it is tried when there is one"
	}
	return r, append(out, showDeleting{})
}

func (r removal) called(e callDone, out []effect) (removal, []effect) {
	if r.Phase != calling {
		return r, out
	}
	switch {
	case e.OK || e.Class == messages.ClassNotFound:
		r.Phase = removed
		return r, append(out, finishRemoval{})
	case e.NoSession:
		r.Phase, r.Reason, r.Message, r.Live = due, messages.ReasonEngineDown, e.Message, false
		return r, append(out, showDeleting{})
	case e.Class == messages.ClassConflict:
		r.Reason = messages.ReasonInUse
		out = append(out, watchBlockers{})
	default:
		r.Reason = messages.ReasonRemoveFailed
	}
	r.Phase, r.Message = blocked, e.Message
	r.Tries++
	return r, append(out, showDeleting{}, scheduleRemove{Tries: r.Tries})
}

func (r removal) decide(out []effect) (removal, []effect) {
	if r.Phase == due && r.Live {
		r.Phase = calling
		out = append(out, callRemove{})
	}
	return r, out
}

// deleting reports whether the resource carries a deletionTimestamp.
func (r removal) deleting() bool {
	return r.Phase != noRemoval && r.Phase != recording
}

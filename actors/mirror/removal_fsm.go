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
	// unproved: there was a gap in what we saw; whether the name still stands for the same object is being looked at.
	unproved
	// removed: there is no engine object behind the resource any more; it follows, unless somebody else's finalizer holds it.
	removed
)

var removalNames = map[removalPhase]string{
	noRemoval: "none", recording: "recording", due: "due", calling: "calling", blocked: "blocked", unproved: "unproved", removed: "removed",
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
//	none                   mirror reset           none                   forgetIt
//	none                   mirror reset, held     removed                leave
//	recording              recorded               calling                showDeleting, callRemove
//	recording              journal refused        none                   reject
//	recording              object gone            removed                finishRemoval
//	recording              mirror reset           none                   reject, forgetIt
//	recording              mirror reset, held     removed                reject, leave
//	calling                removed                removed                finishRemoval
//	calling                not found              removed                finishRemoval
//	calling                in use                 blocked                watchBlockers, showDeleting, scheduleRemove
//	calling                failed                 blocked                showDeleting, scheduleRemove
//	calling                no session             due offline            showDeleting
//	calling                object gone            removed                finishRemoval
//	calling                mirror reset           none                   supersede, forgetIt
//	calling                mirror reset, held     removed                supersede, leave
//	blocked                object gone            removed                finishRemoval
//	blocked                remove due             calling                callRemove
//	blocked                online                 calling                callRemove
//	blocked                online after a gap     unproved
//	blocked                mirror reset           none                   supersede, forgetIt
//	blocked                mirror reset, held     removed                supersede, leave
//	unproved               object gone            removed                finishRemoval
//	unproved               online                 calling                callRemove
//	unproved               the same               calling                callRemove
//	unproved               another object         none                   supersede, forgetIt
//	unproved               mirror reset           none                   supersede, forgetIt
//	unproved               mirror reset, held     removed                supersede, leave
//	removed                mirror reset           none                   forgetIt
//	none offline           delete asked           recording offline      record
//	none offline           replayed               due offline            showDeleting
//	none offline           orphaned               removed offline        finishRemoval
//	none offline           online                 none
//	none offline           online after a gap     none
//	none offline           mirror reset           none offline           forgetIt
//	none offline           mirror reset, held     removed offline        leave
//	recording offline      recorded               due offline            showDeleting
//	recording offline      journal refused        none offline           reject
//	recording offline      object gone            removed offline        finishRemoval
//	recording offline      online                 recording
//	recording offline      online after a gap     recording
//	recording offline      mirror reset           none offline           reject, forgetIt
//	recording offline      mirror reset, held     removed offline        reject, leave
//	due offline            object gone            removed offline        finishRemoval
//	due offline            online                 calling                callRemove
//	due offline            online after a gap     unproved
//	due offline            mirror reset           none offline           supersede, forgetIt
//	due offline            mirror reset, held     removed offline        supersede, leave
//	blocked offline        object gone            removed offline        finishRemoval
//	blocked offline        remove due             due offline
//	blocked offline        online                 calling                callRemove
//	blocked offline        online after a gap     unproved
//	blocked offline        mirror reset           none offline           supersede, forgetIt
//	blocked offline        mirror reset, held     removed offline        supersede, leave
//	removed offline        online                 removed
//	removed offline        online after a gap     removed
//	removed offline        mirror reset           none offline           forgetIt
//
// END TABLE
type removal struct {
	Phase removalPhase
	// Tries counts refused calls in a row.
	Tries int
	// Live: there is a session.
	Live bool
	// Prove: nothing is removed before the object was seen to be the one it was asked for.
	Prove bool
	// Reason and Message say why it is blocked.
	Reason  string
	Message string
}

// Events of a removal.
type (
	deleteAsked struct{}
	// recorded: the journal has it (OK), or could not take it.
	recorded struct{ OK bool }
	// replayed: the journal had it when the owner started. Prove: as in online.
	replayed struct{ Prove bool }
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
	// online: there is a session. Prove: the name may stand for another object since the one before.
	online struct{ Prove bool }
	// proved: the object was seen, and is the one that the deletion was asked for, or not.
	proved struct{ Same bool }
	// ended: a sweep ends the mirror of it. Held: a foreign finalizer keeps the resource.
	ended struct{ Held bool }
)

// Effects of a removal.
type (
	record struct{}
	// reject: tell those who asked that nothing has been done. With a Reason something else was first, and the journal is to forget it.
	reject     struct{ Reason string }
	callRemove struct{}
	// showDeleting: publish the deletionTimestamp and why it takes longer, if it does.
	showDeleting struct{}
	// scheduleRemove: try again after a delay for that number of tries.
	scheduleRemove struct{ Tries int }
	// watchBlockers: ask to be told when the users of the object change.
	watchBlockers struct{}
	// finishRemoval: drop the journal record and the resource.
	finishRemoval struct{}
	// supersede: the accepted deletion ends without having been done; say so.
	supersede struct{ Reason string }
	// leave: show that since the sweep only foreign finalizers are waited for. forgetIt: end the resource.
	leave    struct{}
	forgetIt struct{ Reason string }
)

func (r removal) apply(e event) (removal, []effect) {
	var out []effect
	switch e := e.(type) {
	case online:
		r.Live, r.Prove = true, e.Prove && r.asked()
		if r.Phase == blocked || r.Phase == unproved {
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
			r.Phase, r.Prove = due, e.Prove
			r, out = r.accepted(out)
		}
	case callDone:
		r, out = r.called(e, out)
	case objectGone:
		if r.Phase != noRemoval && r.Phase != removed {
			r.Phase, r.Prove = removed, false
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
	case proved:
		switch {
		case !r.Prove || !r.asked():
		case !e.Same:
			out = r.undone(messages.ReasonIdentityChanged, out)
			return removal{Live: r.Live}, append(out, forgetIt{})
		default:
			r.Prove = false
			if r.Phase == unproved {
				r.Phase = due
			}
		}
	case ended:
		return r.end(e, out)
	}
	return r.decide(out)
}

// end ends the mirror, and a deletion that is not done with it.
func (r removal) end(e ended, out []effect) (removal, []effect) {
	if r.Phase == removed && e.Held {
		return r, out
	}
	out = r.undone(messages.ReasonMirrorReset, out)
	r = removal{Live: r.Live}
	if e.Held {
		r.Phase = removed
		return r, append(out, leave{})
	}
	return r, append(out, forgetIt{Reason: messages.ReasonMirrorReset})
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
	switch {
	case r.Phase == due && r.Live && r.Prove:
		r.Phase = unproved
	case r.Phase == due && r.Live:
		r.Phase = calling
		out = append(out, callRemove{})
	}
	return r, out
}

// undone ends what was asked for and not done: if it was accepted already everybody is told, else only those who asked.
func (r removal) undone(reason string, out []effect) []effect {
	switch {
	case r.Phase == recording:
		return append(out, reject{Reason: reason})
	case r.asked():
		return append(out, supersede{Reason: reason})
	}
	return out
}

// asked reports whether a deletion was asked for and is not done.
func (r removal) asked() bool { return r.Phase != noRemoval && r.Phase != removed }

// deleting reports whether the resource carries a deletionTimestamp.
func (r removal) deleting() bool {
	return r.Phase != noRemoval && r.Phase != recording
}

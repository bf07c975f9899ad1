package virtual

import (
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// wish is a deletion that rdd was asked for.
type wish struct {
	what string
	// call is what it lets rdd do to the engine.
	call sim.Call
	// accepted: rdd said that it is. Else nobody knows.
	accepted bool
}

// wishes notes a deletion that rdd is about to be asked for; the function is told what came of that.
func (h *house) wishes(o messages.Object) (told func(error)) {
	uid, w := o.GetUID(), wish{what: messages.NameOf(o)}
	switch o := o.(type) {
	case *messages.Container:
		w.call = sim.Call{Op: sim.OpRemoveContainer, Name: o.Name}
	case *messages.Image:
		w.call = sim.Call{Op: sim.OpRemoveImage, Name: o.Status.RepoTag}
		if w.call.Name == "" {
			w.call.Name = o.Status.ID
		}
	case *messages.Volume:
		w.call = sim.Call{Op: sim.OpRemoveVolume, Name: o.Name}
	}
	w.accepted = h.asked[uid].accepted
	h.asked[uid] = w
	return func(err error) {
		w.accepted = w.accepted || err == nil
		h.asked[uid] = w
	}
}

// wanted says whether somebody asked rdd for that call.
func (h *house) wanted(c sim.Call) bool {
	if c.Op == sim.OpRemoveVolume {
		c.Name = messages.VolumeName(c.Name)
	}
	for _, w := range h.asked {
		if w.call == c {
			return true
		}
	}
	return false
}

// checkWishes: what was accepted is done or goes on, and what is done gives no right to anything any more.
func (h *house) checkWishes() {
	there := map[string]bool{}
	for _, kind := range []string{messages.KindContainer, messages.KindImage, messages.KindVolume} {
		for _, o := range h.list(kind) {
			uid := o.GetUID()
			if w, ok := h.asked[uid]; ok {
				there[string(uid)] = o.GetDeletionTimestamp() != nil
				if w.accepted && o.GetDeletionTimestamp() == nil {
					h.fatal("the deletion of %s was accepted, and is forgotten", w.what)
				}
			}
		}
	}
	for uid := range h.asked {
		if !there[string(uid)] {
			delete(h.asked, uid)
		}
	}
}

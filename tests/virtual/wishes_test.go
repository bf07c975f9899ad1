package virtual

import (
	"context"
	"encoding/json"
	"slices"

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
	uid, w := o.GetUID(), wish{what: messages.NameOf(o)} // of a namespace: nothing is done to the engine
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

// erase asks rdd to delete a resource, and notes what that allows it.
func (h *house) erase(ctx context.Context, r messages.DeleteRequest) error {
	told := func(error) {}
	if o, err := h.client.Get(ctx, r.Kind, r.Name); err == nil && !r.Detach {
		told = h.wishes(o)
	}
	_, err := h.client.Delete(ctx, r)
	told(err)
	return err
}

// callsOf an action, or on the way to a state.
var (
	callsOf = map[string]string{
		messages.ActionStart: sim.OpStartContainer, messages.ActionStop: sim.OpStopContainer, messages.ActionKill: sim.OpKillContainer,
		messages.ActionRestart: sim.OpRestartContainer, messages.ActionPause: sim.OpPauseContainer, messages.ActionUnpause: sim.OpUnpauseContainer,
	}
	callsTo = map[string][]string{
		messages.StateRunning: {sim.OpStartContainer, sim.OpUnpauseContainer},
		messages.StateCreated: {sim.OpUnpauseContainer, sim.OpStopContainer},
		messages.StatePaused:  {sim.OpUnpauseContainer, sim.OpStartContainer, sim.OpPauseContainer},
	}
)

// intend notes what a container's wish lets rdd do to it.
func (h *house) intend(name string, ops ...string) {
	h.intended[name] = append(h.intended[name], ops...)
}

// write asks rdd to write, and notes what a spec.state in it allows.
func (h *house) write(ctx context.Context, r messages.WriteRequest) error {
	var words struct{ Spec messages.ContainerSpec }
	if o, err := h.client.Get(ctx, r.Kind, r.Name); err == nil && json.Unmarshal(r.Patch, &words) == nil {
		h.intend(o.GetName(), callsTo[words.Spec.State]...)
	}
	_, err := h.client.Write(ctx, r)
	return err
}

// act asks rdd for an action, and notes that.
func (h *house) act(ctx context.Context, r messages.ActionRequest) error {
	if o, err := h.client.Get(ctx, messages.KindContainer, r.Name); err == nil {
		h.intend(o.GetName(), callsOf[r.Action])
	}
	_, err := h.client.Action(ctx, r)
	return err
}

// wanted says whether somebody asked rdd for that call.
func (h *house) wanted(c sim.Call) bool {
	if slices.Contains(h.intended[c.Name], c.Op) {
		return true
	}
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
	clear(h.intended)
	for _, o := range h.list(messages.KindContainer) {
		c := o.(*messages.Container)
		if c.Spec.Policy == messages.PolicyEnforce || c.Status.ObservedGeneration < c.Generation {
			h.intend(c.Name, callsTo[c.Spec.State]...)
		}
		if a := c.Status.LastAction; a != nil && a.State == messages.ActionPending {
			h.intend(c.Name, callsOf[a.Action])
		}
	}
}

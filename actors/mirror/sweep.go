package mirror

import (
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
)

// sweep removes every mirror of the kind, each by its owner; what an owner cannot do in time is done for it.
func (f *family) sweep(c *kit.Context) {
	f.online, f.sweeping, f.away = false, true, nil
	// What is still on its way from the session before, a list or marks, is of mirrors that shall not be: it is of no epoch now.
	f.session.Epoch, f.listing, f.relist = 0, 0, false
	f.open = map[string]bool{}
	f.extra.swept()
	for id, k := range inOrder(f.kids) {
		k.pending = nil
		switch {
		case k.quarantined != nil:
			f.removeAll(c, id, messages.ReasonMirrorReset)
			delete(f.kids, id)
			f.extra.ended(c, f, id)
		case !k.stopping:
			c.TellChild(id, sweepNow{})
		}
	}
	f.sweeps++
	c.After(sweepDeadline, sweepOverdue{sweep: f.sweeps})
	f.checkSwept(c)
}

// sweepRest ends the owners that did not.
func (f *family) sweepRest(c *kit.Context) {
	if !f.sweeping {
		return
	}
	for id, k := range inOrder(f.kids) {
		if !k.stopping {
			k.stopping = true
			f.removeAll(c, id, messages.ReasonMirrorReset)
			c.StopChild(id)
		}
	}
	f.checkSwept(c)
}

func (f *family) checkSwept(c *kit.Context) {
	if f.sweeping && len(f.kids) == 0 && len(f.writes) == 0 {
		f.sweeping = false
		f.first = firstPass{}
		c.Tell(control.Engine, Swept{Kind: f.ops.kind.Name})
		f.label(c)
	}
}

package mirror

import (
	"cmp"
	"slices"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
)

// audit compares a list with the store, a moment after it was taken so that what events have told of meanwhile is no difference any
// more. What differs is inspected; only what then proves wrong counts as a repair.
func (f *family) audit(c *kit.Context, m compare) {
	if m.epoch != f.session.Epoch || !f.online {
		return
	}
	root := f.d.Table.Load()
	there := make(map[string]bool, len(m.rows))
	differing := 0
	for _, r := range m.rows {
		there[r.ID] = true
		what := f.ops.differs(r.Data, root.OwnedBy(f.ops.kind.Name, r.ID))
		if what == "" {
			continue
		}
		differing++
		switch {
		case f.ops.listOnly:
			f.healed(c, healed{ID: r.ID, What: what, Epoch: m.epoch})
		case f.kids[r.ID] == nil:
			f.tell(c, r.ID, observe{Missed: true, Changed: true, Row: r.Data, Seq: m.seq})
		default:
			f.tell(c, r.ID, observe{Audit: true})
		}
	}
	for id, k := range f.kids {
		if !there[id] && !k.stopping {
			f.tell(c, id, observe{Absent: true, Audit: true, Seq: m.seq})
		}
	}
	if f.ops.listOnly && differing > 0 {
		f.handOut(c, m.rows, m.seq, false)
	}
	f.reprobe(c)
	f.progress(c, "")
}

// reprobe inspects some objects for what lists do not tell, the longest unseen first, so that each has its turn.
func (f *family) reprobe(c *kit.Context) {
	if !f.ops.reprobe || len(f.kids) == 0 {
		return
	}
	ids := make([]string, 0, len(f.kids))
	for id, k := range f.kids {
		if !k.stopping && k.quarantined == nil {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int {
		return cmp.Or(f.kids[a].probed.Compare(f.kids[b].probed), cmp.Compare(a, b))
	})
	for _, id := range ids[:(len(ids)+reprobeEvery-1)/reprobeEvery] {
		f.kids[id].probed = f.d.Now()
		f.tell(c, id, observe{Reprobe: true})
	}
}

// healed counts a repair and tells the watcher: an event should have announced it.
func (f *family) healed(c *kit.Context, m healed) {
	f.repairs++
	c.House.Events.Add(messages.HouseEvent{Type: messages.EventRepaired, Actor: c.Path(), Message: f.ops.kind.Name + " " + m.ID + ": " + m.What})
	f.progress(c, "")
	c.Tell(control.Engine, Repaired{Kind: f.ops.kind.Name, Epoch: m.Epoch, What: m.ID + ": " + m.What})
}

package mirror

import (
	"slices"
	"time"

	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/dockerio"
)

// loserDeadline is how long a tag waits for the image it has left to let go of it.
const loserDeadline = time.Second

// tagHandout hands every list of images out as whole tag sets. A tag that moved is taken away from its loser first, and given to its
// gainer when the loser's mirror is gone: at no moment do two mirrors claim one tag.
type tagHandout struct {
	// owned is who had which tag by the last list.
	owned map[string]string
	// held are tags on the move: from whom, and since which list.
	held map[string]heldTag
	// full are the rows of which something is held back.
	full map[string]fullRow
}

type heldTag struct {
	loser string
	seq   uint64
}

type fullRow struct {
	data dockerio.ImageRow
	seq  uint64
}

type loserOverdue struct{ seq uint64 }

func newTagHandout() *tagHandout {
	return &tagHandout{owned: map[string]string{}, held: map[string]heldTag{}, full: map[string]fullRow{}}
}

func (h *tagHandout) rows(c *kit.Context, _ *family, rows []row, seq uint64) ([]row, map[string]bool) {
	owned := make(map[string]string, len(h.owned))
	losers := map[string]bool{}
	for _, r := range rows {
		for _, tag := range r.Data.(dockerio.ImageRow).Tags {
			owned[tag] = r.ID
			if old := h.owned[tag]; old != "" && old != r.ID {
				h.held[tag] = heldTag{loser: old, seq: seq}
				losers[old] = true
			}
		}
	}
	for tag, held := range h.held {
		if owned[tag] == "" || owned[tag] == held.loser {
			delete(h.held, tag)
		}
	}
	h.owned, h.full = owned, map[string]fullRow{}
	if len(h.held) == 0 {
		return rows, losers
	}
	c.After(loserDeadline, loserOverdue{seq: seq})
	out := make([]row, 0, len(rows))
	for _, r := range rows {
		out = append(out, h.without(r, seq))
	}
	return out, losers
}

// without is the row without the tags that are held back; with no tag left it says nothing at all, or it would look dangling.
func (h *tagHandout) without(r row, seq uint64) row {
	data := r.Data.(dockerio.ImageRow)
	rest := slices.DeleteFunc(slices.Clone(data.Tags), func(tag string) bool {
		held, ok := h.held[tag]
		return ok && held.loser != r.ID
	})
	if len(rest) == len(data.Tags) {
		return r
	}
	h.full[r.ID] = fullRow{data: data, seq: seq}
	if len(rest) == 0 {
		return row{ID: r.ID}
	}
	data.Tags = rest
	return row{ID: r.ID, Data: data}
}

func (h *tagHandout) receive(c *kit.Context, f *family, msg any) bool {
	switch m := msg.(type) {
	case released:
		h.release(c, f, func(t heldTag) bool { return t.loser == m.ID && t.seq <= m.Seq })
	case loserOverdue:
		h.release(c, f, func(t heldTag) bool { return t.seq <= m.seq })
	default:
		return false
	}
	return true
}

// release gives the tags to their gainers.
func (h *tagHandout) release(c *kit.Context, f *family, which func(heldTag) bool) {
	for tag, held := range h.held {
		if which(held) {
			delete(h.held, tag)
		}
	}
	for id, r := range h.full {
		if !slices.ContainsFunc(r.data.Tags, func(tag string) bool { _, ok := h.held[tag]; return ok }) {
			delete(h.full, id)
			f.tell(c, id, observe{Row: r.data, Seq: r.seq})
		}
	}
}

func (h *tagHandout) ended(_ *kit.Context, _ *family, id string) {
	delete(h.full, id)
}

// swept: nobody has a tag that could move.
func (h *tagHandout) swept() { *h = *newTagHandout() }

func (h *tagHandout) begun(*kit.Context) {}

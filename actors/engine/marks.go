package engine

import (
	"sync"

	"github.com/rdd-desktop/rdd/actors/mirror"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// hint is what one event means: which object of which kind may have changed, or that a kind must be listed, or both.
type hint struct {
	Kind   string
	ID     string
	Mark   mirror.Mark
	Relist bool
}

// noise are actions of containers that change nothing a mirror shows; health checks alone make most of all events with them.
var noise = map[string]bool{
	"exec_create": true, "exec_start": true, "exec_die": true, "exec_detach": true, "top": true, "attach": true,
	"detach": true, "resize": true, "archive-path": true, "extract-to-dir": true, "copy": true, "export": true, "commit": true,
}

// hintOf says what an event means. Unknown actions are taken as a change: an inspect too many does no harm.
func hintOf(e dockerio.Event) (hint, bool) {
	switch e.Type {
	case dockerio.TypeContainer:
		switch {
		case e.Action == "prune":
			return hint{Kind: messages.KindContainer, Relist: true}, true
		case noise[e.Action] || e.ID == "":
			return hint{}, false
		}
		return hint{Kind: messages.KindContainer, ID: e.ID,
			Mark: mirror.Mark{Destroyed: e.Action == "destroy", Settle: e.Action == "die"}}, true
	case dockerio.TypeImage:
		// No image event tells which tags there are now; one list does.
		if e.Action == "save" || e.Action == "push" {
			return hint{}, false
		}
		h := hint{Kind: messages.KindImage, Relist: true}
		if e.Action == "tag" {
			h.ID = e.ID // a tag that it had already moves the time of its last one, which no list tells
		}
		return h, true
	case dockerio.TypeVolume:
		switch {
		case e.Action == "prune":
			return hint{Kind: messages.KindVolume, Relist: true}, true
		case e.Action == "mount" || e.Action == "unmount" || e.ID == "":
			return hint{}, false
		}
		return hint{Kind: messages.KindVolume, ID: e.ID, Mark: mirror.Mark{Destroyed: e.Action == "destroy"}}, true
	case dockerio.TypeNetwork:
		// The only trace of a container that failed to start.
		if id := e.Attributes["container"]; id != "" && (e.Action == "connect" || e.Action == "disconnect") {
			return hint{Kind: messages.KindContainer, ID: id}, true
		}
	}
	return hint{}, false
}

// dirtySet is what the reader of the stream fills and the session empties. The reader never waits: memory is bounded by
// the number of objects, not of events.
type dirtySet struct {
	mu     sync.Mutex
	marks  map[string]map[string]mirror.Mark
	relist map[string]bool
	events int64
	// told: the session has been told that there is something.
	told bool
}

func newDirtySet() *dirtySet {
	return &dirtySet{marks: map[string]map[string]mirror.Mark{}, relist: map[string]bool{}}
}

// add records an event. It reports whether the session must be told.
func (d *dirtySet) add(e dockerio.Event) bool {
	h, ok := hintOf(e)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events++
	if !ok {
		return false
	}
	if h.Relist {
		d.relist[h.Kind] = true
	}
	if h.ID != "" {
		if d.marks[h.Kind] == nil {
			d.marks[h.Kind] = map[string]mirror.Mark{}
		}
		m := d.marks[h.Kind][h.ID]
		m.Destroyed, m.Settle = m.Destroyed || h.Mark.Destroyed, m.Settle || h.Mark.Settle
		d.marks[h.Kind][h.ID] = m
	}
	tell := !d.told
	d.told = true
	return tell
}

// take empties the set.
func (d *dirtySet) take() (marks map[string]map[string]mirror.Mark, relist map[string]bool, events int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	marks, relist = d.marks, d.relist
	d.marks, d.relist, d.told = map[string]map[string]mirror.Mark{}, map[string]bool{}, false
	return marks, relist, d.events
}

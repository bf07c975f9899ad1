package mirror

import (
	"strings"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
)

// skeletonPrefix marks the owner of a resource that a client made: no engine object has such an identity.
const skeletonPrefix = "skeleton:"

// skeletonName is the metadata.name of the skeleton that an owner has; empty when it is the owner of an engine object.
func skeletonName(owner string) string {
	name, ok := strings.CutPrefix(owner, skeletonPrefix)
	if !ok {
		return ""
	}
	return name
}

// isEngineID reports whether the engine can have an object of that identity (images and volumes).
func isEngineID(id string) bool { return id != "" && skeletonName(id) == "" }

// skeleton is the actor of a resource without an engine object, made by a client. Nothing the engine says concerns it; its deletion
// completes at once.
//
//	address   rdd/containers/skeleton:<name>, rdd/images/…, rdd/volumes/…
//	parent    the kind's supervisor
//	messages  Write, Delete; observe, which it only takes; sweepNow; acknowledgements of store and journal
//	restart   loses the message being handled; re-reads store and journal
type skeleton struct{ owner }

func newSkeleton(d *Deps, ops *kindOps, id string, load bool) kit.Actor {
	s := &skeleton{newOwner(d, ops, id, load)}
	s.identify = func(messages.Object) string { return skeletonPrefix }
	return s
}

// Receive implements kit.Actor.
func (s *skeleton) Receive(c *kit.Context, msg any) {
	switch m := msg.(type) {
	case *actor.Started:
		s.start(c)
		c.Label("Skeleton", "")
		return
	case *actor.Restarting:
		s.restarting(c)
		return
	case observe:
		c.Reply(taken{ID: s.id})
		if m.Pass != 0 {
			s.pass = m.Pass
		}
		s.finished = false
		s.passed()
	case Write:
		s.write(c, m)
	case Delete:
		s.askDelete(c, m, c.Sender())
	case sweepNow:
		s.sweep(c)
	case journal.Loaded:
		s.loaded(c, m)
		s.replayRecords(c, s.identify(nil))
	case journal.Committed:
		s.committed(c, m)
	default:
		s.writes(c, m)
	}
	s.finishing = len(s.targets) == 0
	s.endTurn(c)
}

// write makes the resource when there is none.
func (s *skeleton) write(c *kit.Context, m Write) {
	if m.Request.Create {
		s.target(m.Name, "")
	}
	s.askWrite(c, m, c.Sender())
	if t := s.targets.get(m.Name); t != nil && t.want == nil && t.stored == nil && t.writing == nil && len(t.writes) == 0 {
		s.targets.remove(m.Name) // refused, or a dry run
	}
}

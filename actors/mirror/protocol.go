// Package mirror is the mirror of the engine: under each kind's supervisor (containers, images, volumes) one actor per
// engine object, and the namespace. An object's actor owns its resources: it inspects, publishes, removes. The supervisors only
// list, compare, spawn and route.
//
// The watcher tells the supervisors what may have changed; only an inspect or a list tells what is. See docs/architecture.md.
package mirror

import (
	"time"

	"github.com/rdd-desktop/rdd/actors/calls"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

// Deps is what every actor of this package is made with.
type Deps struct {
	Table *store.Table
	Calls *calls.Scheduler
	// Now is the host's clock: deletionTimestamp, lastTransitionTime. Default time.Now.
	Now func() time.Time
	// Instance goes into every uid.
	Instance string
}

// Session is a connection to the engine, announced to the supervisors when it is subscribed and before anything is listed.
type Session struct {
	Epoch    uint64
	EngineID string
	// Sweep counts the sweeps of this instance: it goes into every uid.
	Sweep int64
	// Namespace is the metadata.namespace of every mirror.
	Namespace string
}

// Dirty is what the stream's reader collected since the last one, coalesced per object.
type Dirty struct {
	Epoch uint64
	Marks map[string]Mark
	// Relist: something happened that names no object.
	Relist bool
}

// Mark is what may have changed about one object.
type Mark struct {
	// Destroyed: a destroy was among the events.
	Destroyed bool
	// Settle: it died; its restart policy may be at work without a word.
	Settle bool
}

// Messages from the watcher to the supervisors.
type (
	// SessionEnded says that the session of that epoch is over.
	SessionEnded struct{ Epoch uint64 }
	// AuditDue asks for a comparison of the mirror with a whole list.
	AuditDue struct{ Epoch uint64 }
	// Unreachable says that the engine has been away for so long that the mirrors say so. Stopping: it is about to be stopped.
	Unreachable struct{ Stopping bool }
	// Sweep removes every mirror of the kind (reason MirrorReset); answered with Swept. The journal has it already.
	Sweep struct{}
)

// Messages from the supervisors to the watcher.
type (
	// Progress tells how far the first pass of an epoch is, and how fresh the mirror.
	Progress struct {
		Kind  string
		Epoch uint64
		// Listed objects; ListErr while the list fails.
		Objects int
		ListErr string
		// Complete: every listed object has an answer or one failed try.
		Complete  bool
		Repairs   int64
		LastProof time.Time
	}
	// Repaired says that the audit found what an event should have told.
	Repaired struct {
		Kind  string
		Epoch uint64
		What  string
	}
	// Swept says that no mirror of the kind is left but what foreign finalizers hold, and how many accepted wishes ended undone by it.
	Swept struct {
		Kind       string
		Superseded int
	}
)

// Delete asks the owner of a resource to delete it; the sender gets Deleted.
type Delete struct {
	// Owner is the engine identity of the owning actor, Name the resource's metadata.name.
	Owner string
	Name  string
	UID   string
	// Detach forgets only the mirror.
	Detach bool
}

// Deleted answers Delete: the resource as stored with its deletionTimestamp (or as it was when it is gone already).
type Deleted struct {
	Object messages.Object
	Err    error
}

// Write asks the owner of a resource for a client's change (of a Create: for a skeleton, Owner is then its name); the sender gets
// Written.
type Write struct {
	Owner   string
	Name    string
	Request messages.WriteRequest
}

// Written answers Write.
type Written struct {
	Reply *messages.WriteReply
	Err   error
}

// Act asks the owner of a container for an action; the sender gets Acted.
type Act struct {
	Owner   string
	Name    string
	Request messages.ActionRequest
}

// Acted answers Act: the container with the receipt in it.
type Acted struct {
	Object messages.Object
	Err    error
}

// Messages between a supervisor and its objects.
type (
	// observe tells an object everything new at once; it is answered with taken, and only then the next one is sent.
	observe struct {
		Session Session
		// Changed, Destroyed, Settle: marks. Absent: a list did not have it. Audit: the list had something else than the mirror.
		Changed, Destroyed, Settle, Absent, Audit bool
		// Missed: the audit found it, no event had told of it.
		Missed bool
		// Release: say with released when the store knows of everything that went with Row or Absent.
		Release bool
		// Reprobe: inspect, for what lists do not tell.
		Reprobe bool
		// Rewatch: who keeps the index of users has forgotten who waits for them.
		Rewatch bool
		// Row is what a list said (nil = nothing new), Seq when that list was asked for.
		Row any
		Seq uint64
		// Pass, when not 0, is to be answered with passed as soon as there is an answer or one failed try.
		Pass uint64
	}
	taken struct{ ID string }
	// released: what the list asked for at Seq took away is gone from the store.
	released struct {
		ID  string
		Seq uint64
	}
	// passed: the first answer, or the first failed try, for that pass.
	passed struct {
		ID   string
		Pass uint64
	}
	// healed: what the audit of that epoch saw was a difference indeed, and is mended.
	healed struct {
		ID, What string
		Epoch    uint64
	}
	// finished: the engine has no such object, and neither has the store.
	finished struct{ ID string }
	// held: of what a sweep ended, foreign finalizers keep something. endedUndone: an accepted wish ended undone by a sweep.
	held        struct{ ID string }
	endedUndone struct{}
	// resync asks an object to show that the engine is unreachable or stopping.
	showReason struct{ Reason, Message string }
	sweepNow   struct{}
	// using tells the containers' supervisor what a container uses; it is shared, and never changed.
	using struct {
		ID, Name string
		Image    string
		Volumes  []string
	}
	// watchUsers asks the containers' supervisor who uses an image or a volume, now and whenever it changes.
	watchUsers struct {
		Ref  userRef
		From string // path of the owner
	}
	unwatchUsers struct {
		Ref  userRef
		From string
	}
	// usersLost: the index of users begins anew.
	usersLost struct{}
	// users answers watchUsers.
	users struct {
		Ref   userRef
		Names []string
	}
)

// userRef is what a container can use.
type userRef struct{ Kind, ID string }

// row is one line of a list, whatever the kind.
type row struct {
	ID   string
	Data any // dockerio.ContainerRow, dockerio.ImageRow or dockerio.Volume
}

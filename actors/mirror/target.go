package mirror

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/messages"
)

// target is one resource: one write path, one deletion, one retry clock.
type target struct {
	name string // metadata.name
	ref  string // what the engine calls it
	// want is what shall be stored; nil = nothing. dropFirst: the stored incarnation ends before.
	want      messages.Object
	dropFirst bool
	reason    string
	stored    messages.Object
	// sent is the token of the Put or Remove in flight, 0 when none is; sending what was put.
	sent    uint64
	sending messages.Object
	// overdue cancels putOverdue.
	overdue  func()
	removing bool
	// rem is the deletion; asked wait for its acceptance.
	rem       removal
	deletedAt *metav1.Time
	asked     []*actor.PID
	replying  []*actor.PID
	// early are deletions asked for by who saw the resource before its owner was told that it is stored.
	early []earlyDelete
	// uid and created of a deletion replayed after a restart of the daemon.
	replay *journal.DeletionRecord
	// proof tells the engine object apart from another one of that name; empty = nothing does. moved is when it last was another, noted
	// what the journal has of it for the deletion.
	proof string
	moved time.Time
	noted string
	// retry cancels the timer of the next try to remove.
	retry func()
	// record is what clients wrote, as the journal has it; nil = nothing. writing is the write on its way, writes wait for it.
	record  *journal.ObjectRecord
	writing *write
	writes  []*write
	// blockers are the users of the engine object while it is blocked; nil = not known.
	blockers []string
	watching bool
}

// held: the first publication waits for what the journal has, so that nobody sees the resource without what was written to it.
func (t *target) held(loading bool) bool {
	return loading && t.stored == nil && t.want != nil && !t.dropFirst
}

// identity gives what is wanted a uid and a time of creation. What was sent before is not touched: the store may be reading it.
func (t *target) identity(uid types.UID, created metav1.Time) {
	if now := t.want.GetCreationTimestamp(); t.want.GetUID() == uid && now.Equal(&created) {
		return
	}
	t.want = messages.ShallowCopy(t.want)
	t.want.SetUID(uid)
	t.want.SetCreationTimestamp(created)
}

// current is what t shall be, to be changed and published; nil when there is nothing. It shares with what was published all that its
// fields refer to: fields are replaced, what they refer to is never changed.
func (t *target) current() messages.Object {
	if t.want == nil {
		return nil
	}
	return messages.ShallowCopy(t.want)
}

// cancelRetry ends the timer of the next try to remove.
func (t *target) cancelRetry() {
	if t.retry != nil {
		t.retry()
		t.retry = nil
	}
}

// targets are an owner's, by name: most have one, so that a map of their own would cost more than all they hold.
type targets []*target

func (ts targets) find(name string) (int, bool) {
	return slices.BinarySearchFunc(ts, name, func(t *target, name string) int { return cmp.Compare(t.name, name) })
}

// get gives the target of that name, or nil.
func (ts targets) get(name string) *target {
	if i, ok := ts.find(name); ok {
		return ts[i]
	}
	return nil
}

// add takes in one whose name is new.
func (ts *targets) add(t *target) {
	i, _ := ts.find(t.name)
	*ts = slices.Insert(*ts, i, t)
}

func (ts *targets) remove(name string) {
	if i, ok := ts.find(name); ok {
		*ts = slices.Delete(*ts, i, i+1)
	}
}

// all goes through them in the order of names; they may be removed meanwhile.
func (ts *targets) all() iter.Seq[*target] {
	return func(yield func(*target) bool) {
		for i := 0; i < len(*ts); {
			t := (*ts)[i]
			if !yield(t) {
				return
			}
			var there bool
			if i, there = ts.find(t.name); there {
				i++
			}
		}
	}
}

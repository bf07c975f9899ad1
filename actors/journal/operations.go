package journal

import (
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// OperationRecord is what is under way, and what became of it, for one object: the whole of its intent but for spec, which is in its
// ObjectRecord. Written before a call that changes the engine, and after it.
type OperationRecord struct {
	Kind  string `json:"kind"`
	Name  string `json:"name"`  // metadata.name
	Owner string `json:"owner"` // engine id of the owning actor
	// EngineID and Identity of the engine object: nothing is called for another one.
	EngineID string `json:"engineID"`
	Identity string `json:"identity"`
	// ObservedGeneration of spec that is settled, Outcome how, Why with the words for people.
	ObservedGeneration int64  `json:"observedGeneration,omitempty"`
	Outcome            string `json:"outcome,omitempty"`
	Why                string `json:"why,omitempty"`
	// Action is the newest; Grace what was asked for with it, absent = the container's own.
	Action *messages.ActionReceipt `json:"action,omitempty"`
	Grace  *time.Duration          `json:"grace,omitempty"`
	// Operation may have been called; nil: nothing is under way.
	Operation *Operation `json:"operation,omitempty"`
}

// Operation is one call that changes the engine.
type Operation struct {
	ID   string `json:"id"`
	Verb string `json:"verb"`
	// Action it was for; empty = spec.state.
	Action string `json:"action,omitempty"`
	// StartedAt is the container's as last observed, SentAt the engine's clock before the call (restart only).
	StartedAt dockerio.Time `json:"startedAt"`
	SentAt    dockerio.Time `json:"sentAt"`
	Grace     time.Duration `json:"grace"`
}

// PutOperation stores it.
func PutOperation(r OperationRecord) Op {
	return Op{Bucket: BucketOperations, Key: ObjectKey(r.Kind, r.Name), Value: encode(r)}
}

// DropOperation forgets it: the object is gone.
func DropOperation(kind, name string) Op {
	return Op{Bucket: BucketOperations, Key: ObjectKey(kind, name)}
}

// DecodeOperation reads an entry of BucketOperations.
func DecodeOperation(e Entry) (OperationRecord, error) {
	return decode[OperationRecord](BucketOperations, e)
}

package journal

import (
	"encoding/json"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/messages"
)

// AppRecord is the App as accepted.
type AppRecord struct {
	Spec       messages.AppSpec `json:"spec"`
	Generation int64            `json:"generation"`
	UID        types.UID        `json:"uid"`
	Created    time.Time        `json:"created"`
	// Driver is what "auto" was resolved to.
	Driver string `json:"driver,omitempty"`
}

// DeletionRecord is one accepted deletion, until it is done.
type DeletionRecord struct {
	Kind  string    `json:"kind"`
	Name  string    `json:"name"`  // metadata.name
	Owner string    `json:"owner"` // engine id / volume name of the owning actor
	UID   types.UID `json:"uid"`
	// Asked is the deletionTimestamp (host clock).
	Asked time.Time `json:"asked"`
	// Tag of an image resource.
	Tag string `json:"tag,omitempty"`
	// Identity of the engine object; replayed only against the same one.
	Identity string `json:"identity"`
	// Created is the resource's creationTimestamp.
	Created time.Time `json:"created"`
	// Done: the engine object is gone, and others hold the resource. Nothing is to be called any more.
	Done bool `json:"done,omitempty"`
}

// ObjectRecord is what clients wrote into a resource, kept as long as the resource is there. Only resources that a client ever wrote
// have one.
type ObjectRecord struct {
	Kind  string `json:"kind"`
	Name  string `json:"name"`  // metadata.name
	Owner string `json:"owner"` // engine id / volume name of the owning actor
	// Identity of the engine object; replayed only against the same one. Empty for a skeleton, which has no engine object.
	Identity string `json:"identity,omitempty"`
	Skeleton bool   `json:"skeleton,omitempty"`
	// UID and Created are the resource's own.
	UID        types.UID         `json:"uid"`
	Created    time.Time         `json:"created"`
	Generation int64             `json:"generation,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	// Annotations as written, but for the one that is consumed.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Finalizers of others.
	Finalizers []string `json:"finalizers,omitempty"`
	// Of a container.
	Spec               *messages.ContainerSpec `json:"spec,omitempty"`
	ObservedGeneration int64                   `json:"observedGeneration,omitempty"`
	LastAction         *messages.ActionReceipt `json:"lastAction,omitempty"`
}

const appKey = "app"

// PutApp stores the App as accepted.
func PutApp(r AppRecord) Op { return Op{Bucket: BucketApp, Key: appKey, Value: encode(r)} }

// DecodeApp reads an entry of BucketApp.
func DecodeApp(e Entry) (AppRecord, error) { return decode[AppRecord](BucketApp, e) }

// DeletionKey is the key of a deletion in BucketDeletions.
func DeletionKey(kind, name string) string { return kind + "/" + name }

// PutDeletion stores an accepted deletion.
func PutDeletion(r DeletionRecord) Op {
	return Op{Bucket: BucketDeletions, Key: DeletionKey(r.Kind, r.Name), Value: encode(r)}
}

// DropDeletion forgets a deletion: it is done, or superseded.
func DropDeletion(kind, name string) Op {
	return Op{Bucket: BucketDeletions, Key: DeletionKey(kind, name)}
}

// DecodeDeletion reads an entry of BucketDeletions.
func DecodeDeletion(e Entry) (DeletionRecord, error) {
	return decode[DeletionRecord](BucketDeletions, e)
}

// ObjectKey is the key of a resource's record in BucketObjects.
func ObjectKey(kind, name string) string { return kind + "/" + name }

// PutObject stores what clients wrote.
func PutObject(r ObjectRecord) Op {
	return Op{Bucket: BucketObjects, Key: ObjectKey(r.Kind, r.Name), Value: encode(r)}
}

// DropObject forgets it: the resource is gone.
func DropObject(kind, name string) Op { return Op{Bucket: BucketObjects, Key: ObjectKey(kind, name)} }

// DecodeObject reads an entry of BucketObjects.
func DecodeObject(e Entry) (ObjectRecord, error) { return decode[ObjectRecord](BucketObjects, e) }

// PutSalt stores how often the object of a uid seed was seen to come back.
func PutSalt(seed string, salt int64) Op {
	return Op{Bucket: BucketSalts, Key: seed, Value: decimal(salt)}
}

// DropSalt forgets it.
func DropSalt(seed string) Op { return Op{Bucket: BucketSalts, Key: seed} }

// DecodeSalt reads an entry of BucketSalts.
func DecodeSalt(e Entry) (seed string, salt int64, err error) {
	salt, err = parseDecimal(BucketSalts+"/"+e.Key, e.Value)
	return e.Key, salt, err
}

// PutEngineID stores which engine the mirrors belong to.
func PutEngineID(id string) Op {
	return Op{Bucket: BucketMeta, Key: keyEngineID, Value: append([]byte{}, id...)}
}

// SweepOps are one transaction of a sweep: its number, the engine the mirrors belong to from now on (empty: none), and
// nothing left of the swept mirrors: no deletion, no salt, nothing that clients wrote, no operation.
func SweepOps(sweep int64, engineID string) []Op {
	return []Op{
		{Bucket: BucketMeta, Key: keySweep, Value: decimal(sweep)},
		PutEngineID(engineID),
		{Bucket: BucketDeletions},
		{Bucket: BucketSalts},
		{Bucket: BucketObjects},
		{Bucket: BucketOperations},
	}
}

// DecodeMeta reads the entries of BucketMeta.
func DecodeMeta(entries []Entry) (Meta, error) {
	var m Meta
	for _, e := range entries {
		var err error
		switch e.Key {
		case keyBoot:
			m.Boot, err = parseDecimal(keyBoot, e.Value)
		case keySweep:
			m.Sweep, err = parseDecimal(keySweep, e.Value)
		case keyEngineID:
			m.EngineID = string(e.Value)
		}
		if err != nil {
			return Meta{}, err
		}
	}
	return m, nil
}

// formatOf reads the format of the entries of BucketMeta; 0 when there is none.
func formatOf(entries []Entry) (int64, error) {
	for _, e := range entries {
		if e.Key == keyFormat {
			return strconv.ParseInt(string(e.Value), 10, 64)
		}
	}
	return 0, nil
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("journal: a record cannot be encoded: " + err.Error()) // plain structs of strings, numbers and times
	}
	return b
}

func decode[T any](bucket string, e Entry) (T, error) {
	var r T
	if err := json.Unmarshal(e.Value, &r); err != nil {
		return r, messages.WrapError(messages.CodeInternal, "read", "journal record", bucket+"/"+e.Key, err)
	}
	return r, nil
}

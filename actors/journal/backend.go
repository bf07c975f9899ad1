package journal

import (
	"fmt"
	"strconv"

	"github.com/rdd-desktop/rdd/messages"
)

// Backend is where records are kept: a bbolt file, or memory for tests. Its methods may be called from any goroutine; they
// take turns.
type Backend interface {
	// Load returns all entries of a bucket whose key has the prefix, in the order of keys.
	Load(bucket, prefix string) ([]Entry, error)
	// Commit makes all ops durable in one transaction, in their order.
	Commit(ops []Op) error
	// Close waits for a transaction in progress, then releases the file and its lock. Closing twice is fine.
	Close() error
	// Reopen takes the file and its lock again; an open backend stays as it is.
	Reopen() error
}

// Buckets.
const (
	BucketMeta       = "meta"       // format, boot, sweep, engine id
	BucketApp        = "app"        // AppRecord under "app"
	BucketDeletions  = "deletions"  // DeletionRecord under kind/name
	BucketSalts      = "salts"      // decimal under uid seed
	BucketObjects    = "objects"    // ObjectRecord under kind/name (since format 2)
	BucketOperations = "operations" // calls that change the engine, while their outcome is open (since format 2)
)

var buckets = []string{BucketMeta, BucketApp, BucketDeletions, BucketSalts, BucketObjects, BucketOperations}

// bucketsSince is the first format that has a bucket; 1 for those not named.
var bucketsSince = map[string]int64{BucketObjects: 2, BucketOperations: 2}

// Keys of BucketMeta. The first two belong to Open: nobody else writes them.
const (
	keyFormat   = "format"
	keyBoot     = "boot"
	keySweep    = "sweep"
	keyEngineID = "engineID"
)

// Format is the version of the records this rdd writes. It reads every older one, and makes it its own on opening; a newer one it
// refuses.
const Format = 2

// maxKey is bbolt's limit.
const maxKey = 32768

// Entry is one record as it is stored.
type Entry struct {
	Key   string
	Value []byte
}

// Op sets a key (Value), deletes it (Value nil), or clears a whole bucket (Key "").
type Op struct {
	Bucket string
	Key    string
	Value  []byte
}

// check refuses what no backend can do.
func (o Op) check() error {
	known := false
	for _, b := range buckets {
		known = known || b == o.Bucket
	}
	switch {
	case !known:
		return messages.NewError(messages.CodeBadRequest, "commit", "journal record", o.Key, fmt.Sprintf("there is no bucket %q", o.Bucket))
	case len(o.Key) > maxKey:
		return messages.NewError(messages.CodeBadRequest, "commit", "journal record", o.Key[:64]+"…",
			fmt.Sprintf("the key has %d bytes, the most is %d", len(o.Key), maxKey))
	case o.Bucket == BucketMeta && (o.Key == "" || o.Key == keyFormat || o.Key == keyBoot):
		return messages.NewError(messages.CodeBadRequest, "commit", "journal record", o.Key, "it is changed by opening the journal only")
	}
	return nil
}

func checkOps(ops []Op) error {
	for _, o := range ops {
		if err := o.check(); err != nil {
			return err
		}
	}
	return nil
}

// Meta is what supervisor.Start learns on opening.
type Meta struct {
	Boot     int64 // already raised for this serve
	Sweep    int64
	EngineID string
}

func decimal(n int64) []byte { return strconv.AppendInt(nil, n, 10) }

func parseDecimal(what string, value []byte) (int64, error) {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || n < 0 {
		return 0, messages.NewError(messages.CodeInternal, "read", "journal record", what, fmt.Sprintf("%q is not a number", value))
	}
	return n, nil
}

package journal

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/rdd-desktop/rdd/messages"
)

// MemoryBackend is a journal in memory, for tests: no goroutine, no file, and faults on demand. What it holds survives Close;
// NextServe is what another Open of a file is.
type MemoryBackend struct {
	turn    turn // serialises what the file's mutex serialises
	buckets map[string]map[string][]byte
	closed  bool

	mu           sync.Mutex
	failures     int
	failure      error
	reopenError  error
	transactions int
	hook         func(ops []Op) error
}

// Memory makes an empty journal in memory, opened for its first serve. The Backend is a *MemoryBackend.
func Memory() (Backend, Meta) {
	m := &MemoryBackend{turn: newTurn(), buckets: map[string]map[string][]byte{}}
	for _, b := range buckets {
		m.buckets[b] = map[string][]byte{}
	}
	m.buckets[BucketMeta][keyFormat] = decimal(Format)
	return m, m.NextServe()
}

// NextServe is the next daemon opening the same journal: boot is raised.
func (m *MemoryBackend) NextServe() Meta {
	m.turn.take()
	defer m.turn.give()
	m.closed = false
	meta, err := DecodeMeta(m.entries(BucketMeta, ""))
	if err != nil {
		panic("journal: " + err.Error()) // check lets nobody else write it
	}
	meta.Boot++
	m.buckets[BucketMeta][keyBoot] = decimal(meta.Boot)
	return meta
}

// FailNext lets the next n transactions fail with err (class Transient); nothing of them is kept.
func (m *MemoryBackend) FailNext(n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures, m.failure = n, err
}

// FailReopen lets Reopen of the closed backend fail with err, until called with nil.
func (m *MemoryBackend) FailReopen(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reopenError = err
}

// OnCommit calls f in each transaction before anything is kept; it may block (a slow disk) or return an error. nil = none.
func (m *MemoryBackend) OnCommit(f func(ops []Op) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = f
}

// Transactions counts the transactions so far, failed ones included.
func (m *MemoryBackend) Transactions() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.transactions
}

// Load implements Backend.
func (m *MemoryBackend) Load(bucket, prefix string) ([]Entry, error) {
	m.turn.take()
	defer m.turn.give()
	if m.closed {
		return nil, messages.NewError(messages.CodeUnavailable, "use", "journal", "memory", "it is closed")
	}
	if m.buckets[bucket] == nil {
		return nil, messages.NewError(messages.CodeInternal, "read", "journal", "memory", fmt.Sprintf("there is no bucket %q", bucket))
	}
	return m.entries(bucket, prefix), nil
}

func (m *MemoryBackend) entries(bucket, prefix string) []Entry {
	var out []Entry
	for _, k := range slices.Sorted(maps.Keys(m.buckets[bucket])) {
		if strings.HasPrefix(k, prefix) {
			out = append(out, Entry{Key: k, Value: bytes.Clone(m.buckets[bucket][k])})
		}
	}
	return out
}

// Commit implements Backend.
func (m *MemoryBackend) Commit(ops []Op) error {
	if err := checkOps(ops); err != nil {
		return err
	}
	m.turn.take()
	defer m.turn.give()
	if m.closed {
		return messages.NewError(messages.CodeUnavailable, "use", "journal", "memory", "it is closed")
	}
	if err := m.fault(ops); err != nil {
		return messages.WrapError(messages.CodeUnavailable, "write", "journal", "memory", err)
	}
	for _, o := range ops {
		switch {
		case o.Key == "":
			clear(m.buckets[o.Bucket])
		case o.Value == nil:
			delete(m.buckets[o.Bucket], o.Key)
		default:
			m.buckets[o.Bucket][o.Key] = append([]byte{}, o.Value...)
		}
	}
	return nil
}

// Close implements Backend.
func (m *MemoryBackend) Close() error {
	m.turn.take()
	defer m.turn.give()
	m.closed = true
	return nil
}

// Reopen implements Backend.
func (m *MemoryBackend) Reopen() error {
	m.turn.take()
	defer m.turn.give()
	if !m.closed {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reopenError != nil {
		return messages.WrapError(messages.CodeConflict, "open", "journal", "memory", m.reopenError)
	}
	m.closed = false
	return nil
}

// fault is what a test wants to happen to this transaction.
func (m *MemoryBackend) fault(ops []Op) error {
	m.mu.Lock()
	m.transactions++
	hook := m.hook
	if m.failures > 0 {
		m.failures--
		err := m.failure
		m.mu.Unlock()
		return err
	}
	m.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(ops)
}

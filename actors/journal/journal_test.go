package journal_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
)

// house runs the journal actor and a probe that stands for its clients.
func house(t *testing.T, b journal.Backend) *kit.TestHouse {
	h, err := kit.StartTest(kit.TestConfig{
		House:  kit.HouseConfig{Hooks: true},
		Actors: map[string]kit.ChildSpec{control.Journal: {New: journal.New(b), Max: 3, Period: 10 * time.Second, GiveUp: kit.Report}},
		Probes: []string{client},
	})
	require.NoError(t, err)
	h.Probes[client].Answer = func(c *kit.Context, msg any) {
		if a, ok := msg.(ask); ok {
			c.Tell(control.Journal, a.msg)
		}
	}
	t.Cleanup(func() { stop(t, h) })
	return h
}

const client = "rdd/client"

// ask lets the client send msg.
type ask struct{ msg any }

func stop(t *testing.T, h *kit.TestHouse) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, h.Stop(ctx))
}

func tell(h *kit.TestHouse, msg any) { h.Tell(client, ask{msg}) }

// answers takes that many answers of the journal.
func answers(t *testing.T, h *kit.TestHouse, n int) []any {
	var out []any
	for len(out) < n {
		msg, err := h.Probes[client].Next(10 * time.Second)
		require.NoError(t, err, "after %d of %d", len(out), n)
		if _, own := msg.(ask); !own {
			out = append(out, msg)
		}
	}
	return out
}

func set(bucket, key, value string) journal.Op {
	return journal.Op{Bucket: bucket, Key: key, Value: []byte(value)}
}

func commit(token uint64, ops ...journal.Op) journal.Commit {
	return journal.Commit{Token: token, Ops: ops}
}

// hold makes the backend's transactions wait until release is called.
func hold(m *journal.MemoryBackend) (began chan int, release func()) {
	began, gate := make(chan int, 100), make(chan struct{})
	m.OnCommit(func(ops []journal.Op) error {
		began <- len(ops)
		<-gate
		return nil
	})
	return began, func() { close(gate) }
}

func TestGroupCommit(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	synctest.Test(t, func(t *testing.T) {
		b, _ := journal.Memory()
		m := b.(*journal.MemoryBackend)
		began, release := hold(m)
		h := house(t, b)
		tell(h, commit(0, set(journal.BucketSalts, "first", "1")))
		require.Equal(t, 1, <-began)
		const n = 1100
		for i := 1; i <= n; i++ {
			if i == 300 {
				tell(h, journal.Load{Token: 300, Bucket: journal.BucketSalts, Prefix: "s"})
				continue
			}
			tell(h, commit(uint64(i), set(journal.BucketSalts, fmt.Sprintf("s%04d", i), "1")))
		}
		synctest.Wait()
		for _, msg := range h.Probes[client].Drain() {
			require.IsType(t, ask{}, msg, "nothing is acknowledged before it is on disk")
		}
		release()
		for i, msg := range answers(t, h, n+1) {
			if i == 300 {
				l := msg.(journal.Loaded)
				require.EqualValues(t, 300, l.Token)
				require.GreaterOrEqual(t, len(l.Entries), 299)
				continue
			}
			require.Equal(t, journal.Committed{Token: uint64(i)}, msg)
		}
		require.Equal(t, 1+3, m.Transactions(), "512 requests, 512, 76")
	})
}

func TestABadRequestFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := journal.Memory()
		m := b.(*journal.MemoryBackend)
		began, release := hold(m)
		h := house(t, b)
		tell(h, commit(0))
		tell(h, commit(1, set(journal.BucketApp, "app", "0")))
		<-began
		tell(h, commit(2, set(journal.BucketApp, "app", "2")))
		tell(h, commit(3, set("nosuch", "k", "v")))
		tell(h, commit(4))
		tell(h, commit(5, set(journal.BucketSalts, "s", "5")))
		synctest.Wait()
		release()
		for i, msg := range answers(t, h, 6) {
			c := msg.(journal.Committed)
			require.EqualValues(t, i, c.Token)
			if i == 3 {
				require.ErrorIs(t, c.Err, messages.ErrPermanent)
			} else {
				require.NoError(t, c.Err)
			}
		}
		tell(h, journal.Load{Bucket: journal.BucketApp})
		require.Equal(t, []journal.Entry{{Key: "app", Value: []byte("2")}}, answers(t, h, 1)[0].(journal.Loaded).Entries)
	})
}

func TestAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := journal.Memory()
		m := b.(*journal.MemoryBackend)
		h := house(t, b)
		m.FailNext(1, errors.New("no space left on device"))
		tell(h, commit(1, set(journal.BucketApp, "app", "1")))
		c := answers(t, h, 1)[0].(journal.Committed)
		require.ErrorIs(t, c.Err, messages.ErrTransient)
		require.ErrorContains(t, c.Err, "no space left on device")
		tell(h, journal.Load{Token: 2, Bucket: journal.BucketApp})
		require.Equal(t, journal.Loaded{Token: 2, Bucket: journal.BucketApp}, answers(t, h, 1)[0])
		tell(h, commit(3, set(journal.BucketApp, "app", "1")))
		require.Equal(t, journal.Committed{Token: 3}, answers(t, h, 1)[0])
		tell(h, journal.Load{Token: 4, Bucket: "nosuch"})
		require.Error(t, answers(t, h, 1)[0].(journal.Loaded).Err)
	})
}

func TestTheQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := journal.Memory()
		began, release := hold(b.(*journal.MemoryBackend))
		h := house(t, b)
		tell(h, commit(0, set(journal.BucketApp, "app", "0")))
		<-began
		for i := 1; i <= 4096; i++ {
			tell(h, commit(uint64(i)))
		}
		tell(h, commit(4097))
		tell(h, journal.Load{Token: 4098})
		got := answers(t, h, 2)
		require.EqualValues(t, 4097, got[0].(journal.Committed).Token)
		require.ErrorIs(t, got[0].(journal.Committed).Err, messages.ErrUnavailable)
		require.ErrorIs(t, got[1].(journal.Loaded).Err, messages.ErrUnavailable)
		release()
		for i, msg := range answers(t, h, 4097) {
			require.Equal(t, journal.Committed{Token: uint64(i)}, msg)
		}
	})
}

func TestARestartWaitsForTheTransactionAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := journal.Memory()
		m := b.(*journal.MemoryBackend)
		began, release := hold(m)
		h := house(t, b)
		tell(h, commit(1, set(journal.BucketApp, "app", "1")))
		<-began
		h.Hooks.Arm(messages.DebugRequest{Actor: control.Journal, Action: "panic", Count: 1})
		tell(h, commit(2, set(journal.BucketSalts, "s", "2")))
		time.Sleep(time.Second) // the restart waits: had it closed under the transaction, this one would be done
		require.Equal(t, 1, m.Transactions())
		release()
		require.Equal(t, journal.Committed{Token: 2}, answers(t, h, 1)[0], "what was queued in the mailbox is done; the answer to 1 is lost")
		entries, err := b.Load(journal.BucketApp, "")
		require.NoError(t, err)
		require.Len(t, entries, 1, "the transaction of the earlier incarnation was finished")
	})
}

func TestAJournalThatCannotBeOpenedAgainIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := journal.Memory()
		h := house(t, b)
		b.(*journal.MemoryBackend).FailReopen(errors.New("another has it"))
		h.Hooks.Arm(messages.DebugRequest{Actor: control.Journal, Action: "panic", Count: 1})
		select {
		case <-h.Failed():
			require.ErrorContains(t, h.Err(), "another has it")
		case <-time.After(time.Minute):
			t.Fatal("the embedder heard nothing")
		}
	})
}

func TestTheFileIsFreeAfterAStop(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	path := filepath.Join(t.TempDir(), "journal.db")
	b, _, err := journal.Open(path)
	require.NoError(t, err)
	h := house(t, b)
	for i := range 10 {
		tell(h, commit(uint64(i), set(journal.BucketSalts, fmt.Sprint(i), "1")))
		if i == 5 {
			answers(t, h, 6)
			h.Hooks.Arm(messages.DebugRequest{Actor: control.Journal, Action: "panic", Count: 1})
		}
	}
	answers(t, h, 4)
	stop(t, h)
	b, m, err := journal.Open(path)
	require.NoError(t, err)
	require.EqualValues(t, 2, m.Boot)
	entries, err := b.Load(journal.BucketSalts, "")
	require.NoError(t, err)
	require.Len(t, entries, 10)
	require.NoError(t, b.Close())
}

// BenchmarkGroupCommit: many clients, one file.
func BenchmarkGroupCommit(b *testing.B) {
	back, _, err := journal.Open(filepath.Join(b.TempDir(), "journal.db"))
	require.NoError(b, err)
	h, err := kit.StartTest(kit.TestConfig{Actors: map[string]kit.ChildSpec{control.Journal: {New: journal.New(back)}}})
	require.NoError(b, err)
	defer func() { _ = h.Stop(context.Background()) }()
	var n atomic.Int64
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1)
			got, err := h.Ask(context.Background(), control.Journal, commit(uint64(i), set(journal.BucketSalts, fmt.Sprint(i%1000), strings.Repeat("x", 100))))
			if err != nil || got.(journal.Committed).Err != nil {
				b.Error(err, got)
			}
		}
	})
}

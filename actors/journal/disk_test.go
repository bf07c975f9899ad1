package journal_test

import (
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
)

// A disk without room: nothing is acknowledged, what is there can be read, app is told, and told again when there is room.
func Test_F29_AFullDiskRefusesAndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := journal.Memory()
		m := b.(*journal.MemoryBackend)
		h, err := kit.StartTest(kit.TestConfig{
			Actors: map[string]kit.ChildSpec{control.Journal: {New: journal.New(b)}},
			Probes: []string{client, control.App},
		})
		require.NoError(t, err)
		h.Probes[client].Answer = func(c *kit.Context, msg any) {
			if a, ok := msg.(ask); ok {
				c.Tell(control.Journal, a.msg)
			}
		}
		defer stop(t, h)
		tell(h, commit(1, set(journal.BucketObjects, "a", "1")))
		require.NoError(t, answers(t, h, 1)[0].(journal.Committed).Err)
		m.OnCommit(func([]journal.Op) error { return syscall.ENOSPC })
		h.Probes[control.App].Drain()

		tell(h, commit(2, set(journal.BucketObjects, "b", "2")))
		tell(h, journal.Load{Token: 3, Bucket: journal.BucketObjects})
		got := answers(t, h, 2)
		refused := got[0].(journal.Committed)
		require.ErrorIs(t, refused.Err, syscall.ENOSPC)
		require.Equal(t, messages.ClassTransient, messages.ClassOf(refused.Err))
		require.Equal(t, []journal.Entry{{Key: "a", Value: []byte("1")}}, got[1].(journal.Loaded).Entries, "reads go on; nothing of the refused one is kept")
		report, err := kit.Await(h.Probes[control.App], time.Minute, func(r control.DiskReport) bool { return r.Full })
		require.NoError(t, err)
		require.Contains(t, report.Message, "no space")
		time.Sleep(time.Minute)
		h.Probes[control.App].Drain()

		m.OnCommit(nil)
		report, err = kit.Await(h.Probes[control.App], time.Minute, func(r control.DiskReport) bool { return !r.Full })
		require.NoError(t, err, "nobody writes: it looks by itself")
		require.Empty(t, report.Message)
		synctest.Wait()
		left, err := b.Load(journal.BucketMeta, "probe")
		require.NoError(t, err)
		require.Empty(t, left, "and leaves nothing behind")
	})
}

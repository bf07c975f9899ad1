package supervisor

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
)

func lockable(t *testing.T) Instance {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_DATA_HOME", "")
	i, err := NewInstance("lock")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(i.Dir(), 0o700))
	return i
}

// Holders come and go while others try: there are never two, although each removes the file that the others may have open.
func TestNeverTwoHolders(t *testing.T) {
	i := lockable(t)
	var holders, times atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				l, err := lockInstance(i, "start")
				if err != nil {
					if !assert.ErrorIs(t, err, messages.ErrConflict) {
						return
					}
					continue
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d holders at once", n)
				}
				times.Add(1)
				holders.Add(-1)
				unlockInstance(l)
			}
		})
	}
	wg.Wait()
	require.Greater(t, times.Load(), int32(100), "the lock changed hands")
	require.NoFileExists(t, i.Lock())
}

func TestALockOnAFileThatIsGoneIsNone(t *testing.T) {
	i := lockable(t)
	require.False(t, i.Held())
	require.NoFileExists(t, i.Lock(), "asking makes no file")
	first, err := lockInstance(i, "start")
	require.NoError(t, err)
	_, err = lockInstance(i, "start")
	require.ErrorIs(t, err, messages.ErrConflict)
	require.True(t, i.Held())
	require.NoError(t, os.Remove(i.Lock()))
	require.False(t, lockCounts(first))
	second := flock.New(i.Lock())
	held, err := second.TryLock()
	require.NoError(t, err)
	require.True(t, held)
	unlockInstance(first)
	require.FileExists(t, i.Lock(), "it is the other one's")
	unlockInstance(second)
	require.NoFileExists(t, i.Lock())
	require.NoError(t, os.WriteFile(i.Lock(), nil, 0o600))
	require.False(t, i.Held(), "a dead holder's")
}

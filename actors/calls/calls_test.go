package calls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a scheduler with a session, and the order in which calls ended.
type rig struct {
	*testing.T
	s     *Scheduler
	mu    sync.Mutex
	ended []string
	outs  map[string]Outcome
	end   context.CancelFunc
}

func newRig(t *testing.T) *rig {
	world := sim.New(sim.Options{})
	client, err := world.Dialer().Dial(t.Context(), world.Endpoint())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	r := &rig{T: t, s: New(nil), outs: map[string]Outcome{}, end: cancel}
	r.s.Open(ctx, 1, client)
	t.Cleanup(func() { cancel(); _ = client.Close(); world.Close() })
	return r
}

// submit a call of that id that takes d.
func (r *rig) submit(lane Lane, id string, d time.Duration, changes bool) {
	r.s.Submit(Call{Key: Key{"Container", id}, Lane: lane, Name: "inspect", Changes: changes,
		Do: func(ctx context.Context, _ dockerio.Engine) (any, error) {
			select {
			case <-time.After(d):
				return id, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
		Done: func(o Outcome) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.ended, r.outs[id] = append(r.ended, id), o
		}})
}

func (r *rig) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.ended, id)
}

func (r *rig) out(id string) Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.outs[id]
}

func (r *rig) order() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ended)
}

func TestFourAtATimeByPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.submit(Sync, "1", 100*time.Millisecond, false)
		for _, id := range []string{"2", "3", "4"} {
			r.submit(Sync, id, 240*time.Millisecond, false)
		}
		r.submit(Audit, "audit", time.Millisecond, false)
		r.submit(Retry, "retry", time.Millisecond, false)
		r.submit(Live, "live", time.Millisecond, false)
		r.submit(Intent, "intent", time.Millisecond, false)
		require.Equal(t, 4, r.s.Waiting(), "four run, four wait")
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"1", "intent", "live", "retry", "audit"}, r.order()[:5])
		require.Len(t, r.order(), 8)
	})
}

func TestHungReadsHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for _, id := range []string{"1", "2", "3", "4", "5", "6", "7", "8"} {
			r.submit(Live, id, time.Hour, false)
		}
		r.submit(Audit, "other", time.Millisecond, false)
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, r.has("other"), "within a second")
		require.False(t, r.has("1"))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.True(t, IsTimeout(r.out("1").Err))
		// An id that timed out goes through the slow lane: one at a time, ten seconds each, and nobody waits for it.
		began := time.Now()
		for _, id := range []string{"1", "2"} {
			r.submit(Live, id, 9*time.Second, false)
		}
		r.submit(Audit, "another", time.Millisecond, false)
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		require.True(t, r.has("another"))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		require.NoError(t, r.out("1").Err)
		require.NoError(t, r.out("2").Err)
		require.GreaterOrEqual(t, time.Since(began), 18*time.Second)
	})
}

func TestAChangeIsOnePerObjectAndOutlivesTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.submit(Intent, "x", 500*time.Millisecond, true)
		r.submit(Intent, "y", 500*time.Millisecond, true)
		require.Zero(t, r.s.Waiting(), "of different objects: together")
		r.submit(Intent, "x", time.Millisecond, true)
		require.Equal(t, 1, r.s.Waiting(), "of the same object: after it")
		r.submit(Live, "read", time.Hour, false)
		r.end()
		r.s.Close(1)
		synctest.Wait()
		require.ErrorIs(t, r.out("read").Err, context.Canceled, "a read ends with its session")
		require.ErrorIs(t, r.out("x").Err, ErrNoSession, "what waited was never made")
		time.Sleep(time.Second)
		synctest.Wait()
		require.NoError(t, r.out("y").Err, "what was under way goes on")
		require.Len(t, r.order(), 4)
	})
}

func TestWithoutASessionACallFailsAtOnce(t *testing.T) {
	var got Outcome
	New(nil).Submit(Call{Key: Key{"Image", "i"}, Name: "inspect", Done: func(o Outcome) { got = o }})
	require.ErrorIs(t, got.Err, ErrNoSession)
	require.ErrorContains(t, got.Err, `inspect image "i"`)
	require.Zero(t, got.Epoch)
}

func TestAnOldEpochTakesNothingAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.s.Close(0)
		r.submit(Live, "x", time.Millisecond, false)
		time.Sleep(time.Second)
		synctest.Wait()
		require.NoError(t, r.out("x").Err)
	})
}

func TestAPanicIsAnOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var got Outcome
		r.s.Submit(Call{Key: Key{"Image", "i"}, Name: "inspect",
			Do:   func(context.Context, dockerio.Engine) (any, error) { panic(errors.New("bug")) },
			Done: func(o Outcome) { got = o }})
		synctest.Wait()
		require.NotNil(t, got.Panic)
		require.Contains(t, got.Panic.Stack, "calls_test.go")
		r.submit(Live, "x", 0, false)
		synctest.Wait()
		require.True(t, r.has("x"), "its slot is free again")
	})
}

func TestChangesThatTakeLongHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 100 {
			r.submit(Intent, fmt.Sprint("stop ", i), time.Second, true)
		}
		r.submit(Intent, "another", time.Millisecond, true)
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		require.True(t, r.has("another"), "before the first of them has ended")
		require.False(t, r.has("stop 0"))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Len(t, r.order(), 101)
		require.Equal(t, [3]int{}, [3]int{r.s.changes, r.s.long, len(r.s.changing)}, "every slot is free again")
	})
}

// A call that does nothing waits until what changes the object has ended, whatever incarnation asked for that.
func TestAFenceWaitsForTheCallBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.submit(Intent, "x", time.Second, true)
		began, over := time.Now(), time.Duration(0)
		r.s.Submit(Call{Key: Key{"Container", "x"}, Name: "fence", Changes: true, Done: func(Outcome) { over = time.Since(began) }})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, time.Second, over)
	})
}

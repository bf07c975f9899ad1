package kit

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
)

type (
	retryLater struct{ object string }
	retriedNow struct{ object string }
)

// The tree tells what is tried again and when, for as long as that is so: by an actor's word, and of a restart by itself.
func TestTheTreeTellsWhatIsTriedAgain(t *testing.T) {
	worker := always(func(c *Context, msg any) {
		switch m := msg.(type) {
		case retryLater:
			c.Retrying(m.object, "remove", 2, time.Minute)
		case retriedNow:
			c.NotRetrying(m.object)
		case boom:
			panic("boom")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := NewHouse(HouseConfig{Jitter: func() float64 { return 0.5 }})
		require.NoError(t, h.Root(t.Context(), ChildSpec{Name: "rdd", Children: []ChildSpec{
			{Name: "worker", New: worker, Backoff: Backoff{Min: 10 * time.Second, Max: 10 * time.Second}},
		}}))
		tell := func(msg any) []messages.Retry {
			h.Tell("rdd/worker", msg)
			synctest.Wait()
			return h.Nodes.Tree().Children[0].Retries
		}
		tell(retryLater{"a"})
		tell(retryLater{"b"})
		got := tell(retryLater{"a"})
		require.Len(t, got, 2, "one for each object")
		require.Equal(t, "a", got[1].Object)
		require.Equal(t, "remove", got[1].What)
		require.Equal(t, 2, got[1].Tries)
		require.Equal(t, time.Minute, time.Until(got[1].Next.Time))
		got = tell(retriedNow{"a"})
		require.Len(t, got, 1)
		require.Equal(t, "b", got[0].Object)

		got = tell(boom{})
		require.Len(t, got, 1, "what the incarnation waited for went with it")
		require.Equal(t, "restart", got[0].What)
		require.Equal(t, 1, got[0].Tries)
		wait := time.Until(got[0].Next.Time)
		require.Positive(t, wait)
		time.Sleep(wait + time.Millisecond)
		synctest.Wait()
		require.Empty(t, h.Nodes.Tree().Children[0].Retries)
		require.NoError(t, h.Stop(t.Context()))
	})
}

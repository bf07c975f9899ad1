package kit

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/stretchr/testify/require"
)

// A path of the tree may be told something while its actor is being spawned. Nothing may be lost from the moment its name is
// known, nothing may come before Started, and the race detector must have nothing to say.
func TestTellingAPathThatIsBeingSpawned(t *testing.T) {
	for i := range 200 {
		m := newMailbox(nil)
		got := &invoker{}
		var senders sync.WaitGroup
		for s := range 4 {
			senders.Go(func() {
				for n := range 10 {
					m.PostUserMessage(fmt.Sprint(i, s, n))
				}
			})
		}
		m.RegisterHandlers(got, actor.NewDefaultDispatcher(10))
		m.PostSystemMessage(&actor.Started{})
		m.Start()
		senders.Wait()
		require.Eventually(t, func() bool { return got.count() == 41 }, 10*time.Second, time.Millisecond)
		require.Equal(t, &actor.Started{}, got.first())
	}
}

// invoker keeps what a mailbox hands out.
type invoker struct {
	mu  sync.Mutex
	got []any
}

func (i *invoker) InvokeSystemMessage(m any) { i.add(m) }
func (i *invoker) InvokeUserMessage(m any)   { i.add(m) }
func (i *invoker) EscalateFailure(any, any)  {}
func (i *invoker) add(m any)                 { i.mu.Lock(); i.got = append(i.got, m); i.mu.Unlock() }
func (i *invoker) count() int                { i.mu.Lock(); defer i.mu.Unlock(); return len(i.got) }
func (i *invoker) first() any                { i.mu.Lock(); defer i.mu.Unlock(); return i.got[0] }

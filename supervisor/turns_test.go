package supervisor

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/stretchr/testify/require"
)

// Whatever peers ask for, in whatever order: the bounds hold, none is forgotten, and one that asks for little does not wait for
// one that asks for much.
func TestTurns(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	turns := newTurns()
	running := map[*call]bool{}
	asked, ended, refused := 0, 0, 0
	for range 50_000 {
		if r.IntN(3) > 0 {
			peer := min(r.IntN(10), 3) // the last one asks most
			q := &call{sender: actor.NewPID(fmt.Sprint(peer), answersName)}
			asked++
			if len(running) < maxCalls && turns.free(q.sender.Address) {
				turns.begun(q.sender.Address)
				running[q] = true
			} else if gone := turns.push(q); gone != nil {
				refused++
				if gone != q || len(turns.waiting[q.sender.Address])+1 < len(turns.waiting["3"]) {
					require.Equal(t, "3", gone.sender.Address)
				}
			}
		} else {
			for q := range running {
				delete(running, q)
				turns.done(q.sender.Address)
				ended++
				break
			}
			if q := turns.next(); q != nil {
				turns.begun(q.sender.Address)
				running[q] = true
			}
		}
		require.LessOrEqual(t, turns.n, maxQueue)
		require.Len(t, turns.all(), turns.n)
		require.Len(t, turns.order, len(turns.waiting))
		for address, n := range turns.running {
			require.LessOrEqual(t, n, maxCallsOfOne, address)
		}
	}
	require.Equal(t, asked, ended+refused+len(running)+turns.n)
	require.Positive(t, refused)
}

func TestTurnsAreTaken(t *testing.T) {
	turns := newTurns()
	of := func(peer string) *call { return &call{sender: actor.NewPID(peer, answersName)} }
	for range maxQueue {
		require.Nil(t, turns.push(of("flood")))
	}
	own := of("flood")
	require.Same(t, own, turns.push(own), "its queue is full")
	small := of("small")
	require.Equal(t, "flood", turns.push(small).sender.Address, "who has most makes room")
	require.Equal(t, "flood", turns.next().sender.Address)
	require.Same(t, small, turns.next())
	for range maxCallsOfOne {
		turns.begun("flood")
	}
	require.Nil(t, turns.next(), "the flood works on as much as it may")
	require.False(t, turns.free("flood"))
	require.True(t, turns.free("small"))
}

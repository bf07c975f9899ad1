package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// A client's patch races with the first publication, with a restart of the actor, with a resync and with other patches: it is never
// overwritten. The seed of a failure is in its message.
func TestVirtual_APatchIsNeverOverwritten(t *testing.T) {
	seeds := 1000
	if testing.Short() {
		seeds = 50
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { raceOnce(t, uint64(seed)) })
	}
}

func raceOnce(t *testing.T, seed uint64) {
	const what = "seed %d"
	rng := rand.New(rand.NewPCG(seed, 0))
	world := sim.New(sim.Options{})
	_, err := world.Import("busybox:latest", "")
	require.NoError(t, err)
	r, err := supervisor.Start(t.Context(), supervisor.Config{
		TestHooks: true, Dialer: world.Dialer(), Drivers: map[string]vmdriver.Driver{messages.DriverExternal: place{world}},
	})
	require.NoError(t, err)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, r.Stop(ctx))
		world.Close()
	}()
	h := &house{T: t, world: world, client: r.Client()}
	h.set("running=true", "virtualMachine.driver=external")
	h.settled()

	id := h.run("web")
	for h.get("container", id) == nil { // the first reader that sees it patches it
		time.Sleep(time.Duration(rng.IntN(200)) * time.Microsecond)
	}
	accepted, maybe := map[string]string{}, 0
	type result struct {
		key   string
		reply *messages.WriteReply
		err   error
	}
	results := make(chan result, 16)
	patches := 4 + rng.IntN(8)
	for i := range patches {
		key, wait := fmt.Sprintf("k%d", i), time.Duration(rng.IntN(3000))*time.Microsecond
		if i == 0 {
			wait = 0
		}
		go func() {
			time.Sleep(wait)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			reply, err := h.client.Write(ctx, messages.WriteRequest{Kind: "container", Name: id,
				Patch: json.RawMessage(fmt.Sprintf(`{"metadata":{"labels":{%q:"v"}}}`, key))})
			if err == nil {
				now, gone := h.client.Get(ctx, "container", id)
				require.NoError(t, gone, what, seed)
				require.Equal(t, "v", now.GetLabels()[key], what, seed) // whoever reads after the reply sees it
			}
			results <- result{key, reply, err}
		}()
	}
	for range 1 + rng.IntN(4) {
		time.Sleep(time.Duration(rng.IntN(1500)) * time.Microsecond)
		disturb(t, h, id, rng)
	}
	for range patches {
		got := <-results
		if got.err != nil {
			require.Equal(t, messages.ClassTransient, messages.AsError(got.err).Class, what+": %v", seed, got.err)
			maybe++
			continue
		}
		require.Equal(t, "v", got.reply.Object.GetLabels()[got.key], what, seed)
		accepted[got.key] = "v"
	}
	require.NotEmpty(t, accepted, what, seed)
	time.Sleep(2 * time.Minute) // restarts, resyncs and audits go by
	synctest.Wait()
	now := h.get("container", id)
	require.NotNil(t, now, what, seed)
	require.Subset(t, now.GetLabels(), accepted, what, seed)
	require.LessOrEqual(t, len(now.GetLabels()), len(accepted)+maybe, what, seed)
	require.Equal(t, messages.ReasonMirrored, h.synced("container", id).Reason, what, seed)
}

// disturb does one of the things that publish, restart or resync.
func disturb(t *testing.T, h *house, id string, rng *rand.Rand) {
	switch rng.IntN(5) {
	case 0:
		_, err := h.client.Debug(t.Context(), messages.DebugRequest{Actor: "rdd/containers/" + id, Action: "panic"})
		require.NoError(t, err)
	case 1:
		_, err := h.client.Debug(t.Context(), messages.DebugRequest{Actor: "rdd/containers/" + id, Action: "panic", NoTrigger: true})
		require.NoError(t, err)
		_ = h.world.Pause("web")
	case 2:
		h.world.Down()
		time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
		h.world.Up()
	case 3:
		_ = h.world.Pause("web")
		_ = h.world.Unpause("web")
	case 4:
		_, err := h.client.Debug(t.Context(), messages.DebugRequest{Actor: "rdd/journal", Action: "panic", NoTrigger: true})
		require.NoError(t, err)
	}
}

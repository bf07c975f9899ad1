package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/tests/enginetest"
)

// More events than the engine remembers happen between the first list call and Ready: nothing may be lost. The stream was
// subscribed before the list, so that each leaves its mark. A list that then replays `since` would have got 256 of 1 125 events:
// 869 lost, as measured below.
func TestAStormBetweenListAndReadyLosesNothing(t *testing.T) {
	e := enginetest.ForTest(t)
	e.Clean(t)
	e.ImportBusybox(t, "busybox:latest")
	for i := range 5 {
		e.Docker(t, "create", "--name", fmt.Sprint("c", i), "busybox", "true")
	}
	p := e.Proxy(t)
	var unhold []func()
	for _, path := range []string{"/containers/json", "/images/json", "/volumes", "/containers/*/json", "/images/*/json", "/volumes/*"} {
		unhold = append(unhold, p.Hold(enginetest.Route("GET", path), 200*time.Millisecond))
	}
	release := p.Hang(enginetest.Route("GET", "/containers/json"))
	h := startExternal(t, &e.Client, p.Host(), supervisor.Intervals{Audit: time.Hour})
	require.NoError(t, p.Await(t.Context(), enginetest.Route("GET", "/containers/json"), 1))
	began := e.Docker(t, "info", "-f", "{{.SystemTime}}")
	events := storm(h, 500)
	replay := e.Docker(t, "events", "--since", began, "--until", e.Docker(t, "info", "-f", "{{.SystemTime}}"), "--format", "{{.Action}}")
	t.Logf("a list that then replays since would get %d of %d events", len(strings.Fields(replay)), events)
	require.Less(t, len(strings.Fields(replay)), events)
	c := h.condition("app", "app", messages.ConditionContainerEngineReady)
	require.Equal(t, messages.ReasonSyncing, c.Reason, "all of it happened before Ready: %s", c.Message)
	release()
	h.settled()
	for _, undo := range unhold {
		undo()
	}
	h.equalWithin(patience, fmt.Sprint(events, " events"))
	e.Clean(t)
}

// storm makes 2n+ events: volumes come (some go again), tags come.
func storm(h *house, n int) (events int) {
	post := func(path string, body any) {
		_, err := h.engine.API(h.Context(), "POST", path, body)
		require.NoError(h, err)
	}
	var w sync.WaitGroup
	w.Go(func() {
		for i := range n {
			post("/volumes/create", map[string]string{"Name": fmt.Sprint("storm", i)})
			if i%4 == 0 {
				_, err := h.engine.API(h.Context(), "DELETE", fmt.Sprint("/volumes/storm", i), nil)
				require.NoError(h, err)
			}
		}
	})
	w.Go(func() {
		for i := range n {
			post(fmt.Sprintf("/images/busybox:latest/tag?repo=storm&tag=%d", i%100), nil)
		}
	})
	w.Wait()
	return 2*n + n/4
}

// Fifty volumes and fifty containers go as fast with an image that cannot be deleted as without: the retry of one is nobody else's.
func TestAStuckImageDelaysNoOtherDeletion(t *testing.T) { onEach(t, aStuckImageDelaysNoOtherDeletion) }

func aStuckImageDelaysNoOtherDeletion(t *testing.T, e place) {
	e.ImportBusybox(t, "busybox:latest")
	e.Docker(t, "create", "--name", "holder", "busybox", "true")
	h := e.start(t, supervisor.Intervals{}).settled()
	var without, with []time.Duration
	for range 5 { // in turn, so that a machine that gets slower does so for both
		without = append(without, h.deleteAll(50))
		_, err := h.client.Delete(t.Context(), messages.DeleteRequest{Kind: "image", Name: "busybox:latest"})
		require.NoError(t, err)
		h.within(patience, "blocked", func() bool {
			return h.condition("image", "busybox:latest", messages.ConditionDeletionBlocked).Reason == messages.ReasonInUse
		})
		with = append(with, h.deleteAll(50))
		// The image goes with its user; both come back for the next round.
		e.Docker(t, "rm", "holder")
		h.within(patience, "the image is gone", func() bool { return h.get("image", "busybox:latest") == nil })
		e.ImportBusybox(t, "busybox:latest")
		e.Docker(t, "create", "--name", "holder", "busybox", "true")
		h.within(patience, "both are back", func() bool { return h.get("image", "busybox:latest") != nil && h.container("holder") != nil })
	}
	slices.Sort(without)
	slices.Sort(with)
	t.Logf("50 volumes and 50 containers: %s without, %s with a stuck image: ratio %.2f", without[2].Round(time.Millisecond),
		with[2].Round(time.Millisecond), float64(with[2])/float64(without[2]))
	// The best of each five: noise only adds to it. The goal is 1.2, and measured by make bench.
	require.Less(t, with[0], without[0]*3/2)
	e.Clean(t)
}

// deleteAll makes n volumes and n containers, and says how long it took to delete them through rdd.
func (h *house) deleteAll(n int) time.Duration {
	for i := range n {
		_, err := h.engine.API(h.Context(), "POST", "/volumes/create", map[string]string{"Name": fmt.Sprint("v", i)})
		require.NoError(h, err)
		_, err = h.engine.API(h.Context(), "POST", fmt.Sprint("/containers/create?name=d", i), map[string]any{"Image": "busybox", "Cmd": []string{"true"}})
		require.NoError(h, err)
	}
	h.within(patience, "all are mirrored", func() bool { return len(h.list("volume")) == n && len(h.list("container")) == n+1 })
	began := time.Now()
	for i := range n {
		for kind, name := range map[string]string{"volume": fmt.Sprint("v", i), "container": fmt.Sprint("d", i)} {
			_, err := h.client.Delete(h.Context(), messages.DeleteRequest{Kind: kind, Name: name})
			require.NoError(h, err)
		}
	}
	h.within(patience, "all are gone", func() bool { return len(h.list("volume")) == 0 && len(h.list("container")) == 1 })
	return time.Since(began)
}

package virtual

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// Everything restarts, each second: what waits is bounded by the number of objects, and what is new is seen at once.
func Test_F47_ManyContainersThatRestartFillNoMailbox(t *testing.T) {
	const n, seconds, budget = 200, 18, 100 * time.Millisecond
	in(t, options{seed: 1, seeded: true}, func(t *testing.T, h *house) {
		for i := range n {
			_, err := h.world.Run(sim.ContainerOptions{Name: fmt.Sprint("w", i), Image: "busybox", RestartPolicy: "always"})
			require.NoError(t, err)
		}
		h.converge(soon, true)
		h.world.Faults().Slow(sim.OpInspectContainer, "", 500*time.Microsecond) // what a real one takes
		h.order.(*seeded).takeLongest()                                         // of the start
		inspects := h.world.Calls(sim.OpInspectContainer)
		for second := range seconds {
			probe, began, seen := "", time.Now(), time.Duration(0)
			for i := range n {
				require.NoError(t, h.world.Restart(fmt.Sprint("w", i)))
				if i == n/2 {
					var err error
					probe, err = h.world.Run(sim.ContainerOptions{Name: "probe", Image: "busybox"})
					require.NoError(t, err)
					began = time.Now()
				}
				if second%6 == 5 {
					if i%50 == 49 {
						h.pass(time.Microsecond) // the engine's own buffer has room for the events of that many, and then loses some
					}
					continue // now and then all of them at once
				}
				h.pass(time.Second / n)
				if probe != "" && seen == 0 && h.shows(probe) {
					seen = time.Since(began)
				}
			}
			if second%6 == 5 {
				h.pass(time.Second)
			} else {
				require.NotZero(t, seen)
				require.Less(t, seen, budget, "in second %d a new container is not seen", second)
			}
			require.NoError(t, h.world.Rm("probe", true))
			h.always() // watchers read
		}
		for who, waited := range h.order.(*seeded).takeLongest() {
			most := 4 // messages at once for an object
			if strings.Count(who, "/") < 2 {
				most = 4 * n // for who has to do with all of them
			}
			require.LessOrEqual(t, waited, most, who)
		}
		require.Less(t, h.world.Calls(sim.OpInspectContainer)-inspects, 4*n*seconds, "five events of a restart are one look, or few")
		h.world.Faults().Clear()
		h.converge(soon, true)
	})
}

// shows tells whether a container is mirrored as running.
func (h *house) shows(id string) bool {
	for _, o := range h.list(messages.KindContainer) {
		if o.GetName() == id {
			return o.(*messages.Container).Status.Status == messages.ContainerRunning
		}
	}
	return false
}

package virtual

import (
	"testing"
	"time"

	"github.com/rdd-desktop/rdd/actors/kit"
)

// broken is what a house panics with whose test wants to know that a check failed.
type broken struct{ how string }

// caught lives days with a watcher that is wrong by design, until a check fails.
func caught(t *testing.T, o options) {
	t.Helper()
	const days, long = 3, 24 * time.Hour
	for seed := uint64(1); seed <= days; seed++ {
		o.seed, o.seeded = seed, true
		how := ""
		in(t, o, func(t *testing.T, h *house) {
			defer func() {
				if v := recover(); v != nil {
					how = v.(broken).how
				}
			}()
			h.hunting = true
			h.day(long)
		})
		if how != "" {
			t.Logf("seed %d: %.300s", seed, how)
			return
		}
	}
	t.Fatalf("it lived through %d days of %s: the suite has a hole", days, long)
}

func TestAWatcherWithoutAuditIsCaught(t *testing.T) {
	t.Parallel()
	caught(t, options{audit: 1000 * time.Hour})
}

func TestAWatcherWithoutHeartbeatIsCaught(t *testing.T) {
	t.Parallel()
	caught(t, options{heartbeat: 1000 * time.Hour})
}

func TestAWatcherThatSubscribesByTheHostsClockIsCaught(t *testing.T) {
	t.Parallel()
	caught(t, options{change: func(p *port, _ *kit.Lab) { p.hostClock = true }})
}

func TestAWatcherThatReplaysInsteadOfListingIsCaught(t *testing.T) {
	t.Parallel()
	caught(t, options{change: func(p *port, _ *kit.Lab) { p.replays = true }})
}

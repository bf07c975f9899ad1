package virtual

import (
	"flag"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

var (
	seeds   = flag.Int("seeds", 3, "how many days TestADay lives through, each with a seed of its own")
	oneSeed = flag.Uint64("seed", 0, "the one seed to live through; 0 = all")
	long    = flag.Duration("long", 24*time.Hour, "how long a day is")
)

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(m)
}

// replays is the command that repeats a day.
func replays(seed uint64) string {
	return fmt.Sprintf("go test -race ./tests/virtual -run TestADay -seed %d -long %s", seed, *long)
}

// A day with every fault there is, one after the other, while a user goes on; after each, everything is right again in the time
// that its kind allows. Odd seeds run in a seeded order, which a replay repeats exactly; even ones as the Go scheduler likes, where
// only the faults and what the user does repeat.
func TestADay(t *testing.T) {
	first, last := uint64(1), uint64(*seeds)
	if *oneSeed != 0 {
		first, last = *oneSeed, *oneSeed
	}
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Log("again: ", replays(seed))
				}
			})
			in(t, options{seed: seed, seeded: seed%2 == 1}, func(t *testing.T, h *house) { h.day(*long) })
		})
	}
}

// day lives through faults for that long.
func (h *house) day(long time.Duration) {
	h.converge(soon, true)
	// reprobed is when what only an inspect tells is right again after events were lost.
	reprobed := time.Now()
	for step := 0; time.Since(h.began) < long; step++ {
		t := h.trouble()
		words, end := t.begin(h)
		h.tell("trouble: %s", words)
		for range h.rng.IntN(6) {
			h.live()
		}
		h.pass(time.Duration(h.rng.IntN(60_000)) * time.Millisecond)
		for range h.rng.IntN(3) {
			h.live()
		}
		if t.blind {
			h.uids.blind()
		}
		end()
		h.world.Faults().Clear()
		h.tap()
		if t.lossy {
			reprobed = time.Now().Add(afterReprobe)
		}
		h.converge(t.within, time.Now().After(reprobed))
		if step%50 == 0 {
			if n := goroutines(); n > maxGoroutines {
				h.fatal("%d goroutines", n)
			}
		}
		// No more than three panics of one actor in five minutes: that is what its supervisor bears.
		h.pass(110*time.Second + time.Duration(h.rng.IntN(480_000))*time.Millisecond)
	}
	h.pass(afterReprobe)
	h.converge(soon, true)
}

// actionID is another in each run.
var actionID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// transcript is everything that was said and done in a day of that seed.
func transcript(t *testing.T, seed uint64, long time.Duration) []string {
	var out []string
	in(t, options{seed: seed, seeded: true}, func(t *testing.T, h *house) {
		h.all = true
		h.day(long)
		for _, w := range h.said {
			out = append(out, w.String())
		}
		out = append(out, h.told...)
	})
	for i, line := range out {
		out[i] = actionID.ReplaceAllString(line, "ID")
	}
	return out
}

func TestASeedRepeatsExactly(t *testing.T) {
	for seed := uint64(1); seed <= 2; seed++ {
		first, again := transcript(t, seed, time.Hour), transcript(t, seed, time.Hour)
		for i := range first {
			if i >= len(again) || first[i] != again[i] {
				from := max(0, i-5)
				t.Fatalf("seed %d: line %d of %d and %d is\n%s\nand\n%s\nafter\n%s", seed, i, len(first), len(again), first[i],
					again[min(i, len(again)-1)], strings.Join(first[from:i], "\n"))
			}
		}
		require.Len(t, again, len(first))
		require.NotEqual(t, first, transcript(t, seed+10, time.Hour), "another seed is another day")
	}
}

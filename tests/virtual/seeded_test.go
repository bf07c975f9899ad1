package virtual

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/rdd-desktop/rdd/actors/kit"
)

// order is who runs when. Under protoactor's own dispatcher that is the Go scheduler's choice; a seeded order repeats exactly.
type order interface {
	lab() *kit.Lab
	// do calls f, which may wait for the house, and returns when it has returned and everything that follows at once has happened.
	do(f func())
	// pass lets d go by and everything that follows at once happen.
	pass(d time.Duration)
}

// free is protoactor's own dispatcher.
type free struct{}

func (free) lab() *kit.Lab { return &kit.Lab{} }

func (free) do(f func()) {
	f()
	synctest.Wait()
}

func (free) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// seeded runs one thing at a time, an actor's turn for one message or a piece of work up to where it waits and on from there: chosen by
// the seed of all that could run, whoever came first. No two begin at the same moment, so that no two timers end at the same.
type seeded struct {
	rng   *rand.Rand // of the one goroutine that calls do and pass
	wake  chan struct{}
	steps int

	mu sync.Mutex
	// ready has by actor or work what waits, system messages apart; longest is the most messages that waited for each.
	ready   map[string]*waiting
	longest map[string]int
}

type waiting struct{ system, other []func() }

func newSeeded(seed uint64) *seeded {
	return &seeded{rng: rand.New(rand.NewPCG(seed, 1)), wake: make(chan struct{}, 1), ready: map[string]*waiting{}, longest: map[string]int{}}
}

func (o *seeded) lab() *kit.Lab {
	jitter := rand.New(rand.NewPCG(o.rng.Uint64(), 2))
	var mu sync.Mutex
	return &kit.Lab{Deliver: o.add, Spawn: func(work string, f func()) { o.add(work, false, f) }, Resume: func(work string) {
		turn := make(chan struct{})
		o.add(work, false, func() { close(turn) })
		<-turn
	}, Jitter: func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return jitter.Float64()
	}}
}

func (o *seeded) add(who string, system bool, run func()) {
	o.mu.Lock()
	w := o.ready[who]
	if w == nil {
		w = &waiting{}
		o.ready[who] = w
	}
	if system {
		w.system = append(w.system, run)
	} else {
		w.other = append(w.other, run)
		o.longest[who] = max(o.longest[who], len(w.other))
	}
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// takeLongest gives what longest has, and begins anew.
func (o *seeded) takeLongest() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	longest := o.longest
	o.longest = map[string]int{}
	return longest
}

func (o *seeded) next() func() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.ready) == 0 {
		return nil
	}
	all := slices.Sorted(maps.Keys(o.ready))
	who := all[o.rng.IntN(len(all))]
	w := o.ready[who]
	queue := &w.system
	if len(w.system) == 0 {
		queue = &w.other
	}
	run := (*queue)[0]
	*queue = (*queue)[1:]
	if len(w.system)+len(w.other) == 0 {
		delete(o.ready, who)
	}
	return run
}

func (o *seeded) do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	o.until(done)
}

func (o *seeded) pass(d time.Duration) {
	over := make(chan struct{})
	time.AfterFunc(d, func() { close(over) })
	o.until(over)
}

// until runs what can run, until over is closed and nothing can run.
func (o *seeded) until(over <-chan struct{}) {
	for {
		synctest.Wait()
		run := o.next()
		if run == nil {
			select {
			case <-over:
				return
			default:
			}
			select {
			case <-over:
			case <-o.wake:
			}
			continue
		}
		o.steps++
		go run()
		synctest.Wait()
		time.Sleep(time.Duration(1 + o.rng.IntN(1000)))
	}
}

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rdd-desktop/rdd/tests/enginetest"
)

// sides are rdd and the bare loop, in turn.
var sides = []string{followOurs, followBare}

// simulatedEvents: full sync, CPU per event and event → visible on a simulated engine.
func simulatedEvents(ctx context.Context, s *setting, n int) {
	engines := map[string]engine{}
	for _, side := range sides {
		e := startEngine(n, others, others)
		defer e.close()
		engines[side] = e
	}
	events(s, "sim", n, engines)
}

// dockerdEvents: the same on a real dockerd. There is one for both sides: while one is measured, the other is not there.
func dockerdEvents(ctx context.Context, s *setting) {
	if err := enginetest.Available(); err != nil {
		s.add(row{what: "dockerd", engine: "dockerd", unit: "", note: "no dockerd can be started here: " + err.Error()})
		return
	}
	n := s.pick(100, 20)
	d := startDockerd(ctx, n)
	defer d.close()
	events(s, "dockerd", n, map[string]engine{followOurs: d, followBare: d})
	f := followJournal(d)
	defer f.end()
	calm(f)
	commit, took := deleteInTurn(s.pick(30, 5), f)
	s.add(deletionRow("dockerd", n, took[0], commit))
}

// measured are the figures of one side in several rounds.
type measured struct{ sync, cpu, watched, p50, p99 []float64 }

func events(s *setting, kind string, n int, engines map[string]engine) {
	all := map[string]*measured{followOurs: {}, followBare: {}}
	for range s.pick(3, 1) {
		for _, side := range sides {
			e, m := engines[side], all[side]
			f := follow(side, e)
			m.sync = append(m.sync, f.synced)
			m.cpu = append(m.cpu, cpuOf(s, e, f, n))
			f.order("watch")
			m.watched = append(m.watched, cpuOf(s, e, f, n))
			p50, p99 := latencyOf(s, e, f, n)
			m.p50, m.p99 = append(m.p50, p50), append(m.p99, p99)
			f.end()
		}
	}
	o, b := all[followOurs], all[followBare]
	compare := func(what, unit, goal string, ours, bare []float64, factor float64) row {
		r := row{what: what, engine: kind, n: n, ours: median(ours), bare: median(bare), unit: unit, goal: goal}
		r.met = r.ours <= factor*r.bare
		return r
	}
	s.add(
		compare("full sync", "ms", "≤ 1.3 × bare", o.sync, b.sync, 1.3),
		compare("CPU per event", "µs", "≤ 1.5 × bare", o.cpu, b.cpu, 1.5),
		compare("CPU per event, two watches open", "µs", "", o.watched, b.watched, 1.5),
		compare("event → visible in process, p50", "ms", "≤ 1.2 × bare", o.p50, b.p50, 1.2),
	)
	tail := compare("event → visible in process, p99", "ms", "< 10 ms", o.p99, b.p99, 1)
	tail.met = tail.ours < 10
	s.add(tail)
	overEdge(s, kind, n, engines[followOurs], median(o.p50))
}

// cpuOf is what the follower uses for an event, in µs. Each event is about another container, as long as there are enough, so that
// none is coalesced.
func cpuOf(s *setting, e engine, f *follower, n int) float64 {
	count := s.pick(400, 100)
	time.Sleep(200 * time.Millisecond)
	before := f.number("cpu")
	e.burst(count, 200, min(n, count))
	time.Sleep(200 * time.Millisecond)
	return (f.number("cpu") - before) / 1e3 / float64(count)
}

// latencyOf is from the engine's change to its being visible, in ms, for single events.
func latencyOf(s *setting, e engine, f *follower, n int) (p50, p99 float64) {
	var all []float64
	for i := range s.pick(200, 30) {
		f.order("mark")
		name, at := e.toggle(i % min(n, 100))
		all = append(all, ms(f.time("await %s", name).Sub(at)))
		time.Sleep(30 * time.Millisecond) // single
	}
	return median(all), quantile(all, 0.99)
}

// overEdge is event → visible for a client in another process.
func overEdge(s *setting, kind string, n int, e engine, inProcess float64) {
	home := "HOME=" + tempDir()
	rdd := follow(followDisk, e, home, "XDG_DATA_HOME=")
	defer rdd.end()
	f := follow(followEdge, e, home, "XDG_DATA_HOME=")
	defer f.end()
	f.order("watch")
	p50, p99 := latencyOf(s, e, f, n)
	s.add(row{what: "event → visible over the edge, p50", engine: kind, n: n, ours: p50, bare: inProcess, unit: "ms",
		goal: "≤ in process + 0.5 ms", met: p50 <= inProcess+0.5, note: "bare: in process"},
		row{what: "event → visible over the edge, p99", engine: kind, n: n, ours: p99, unit: "ms", goal: "< 10 ms", met: p99 < 10})
}

// cpuAcrossSizes: what an event costs does not depend on how much there is.
func cpuAcrossSizes(_ context.Context, s *setting) {
	small, big := s.sizes[0], s.sizes[len(s.sizes)-1]
	var engines [2]*simulated
	var followers [2]*follower
	for i, n := range []int{small, big} {
		engines[i] = startEngine(n, others, others)
		defer engines[i].close()
		followers[i] = follow(followOurs, engines[i])
		defer followers[i].end()
	}
	var ratios, costs, smalls []float64
	for range s.pick(5, 1) {
		little := cpuOf(s, engines[0], followers[0], small)
		much := cpuOf(s, engines[1], followers[1], small)
		ratios, costs, smalls = append(ratios, much/little), append(costs, much), append(smalls, little)
	}
	ratio := median(ratios)
	s.add(row{what: "CPU per event, beside that at " + fmt.Sprint(small), engine: "sim", n: big, ours: median(costs), bare: median(smalls),
		unit: "µs", goal: "ratio ≤ 1.2", met: ratio <= 1.2, note: fmt.Sprintf("median of ratios %.2f", ratio)})
}

// bursts: a new object right after many events is the proof that nothing is queued.
func bursts(_ context.Context, s *setting) {
	n := 1000
	engines, followers := map[string]*simulated{}, map[string]*follower{}
	for _, side := range sides {
		engines[side] = startEngine(n, others, others)
		defer engines[side].close()
		followers[side] = follow(side, engines[side])
		defer followers[side].end()
		followers[side].order("watch")
	}
	for _, c := range []struct {
		what                 string
		count, rate, objects int
	}{
		{"new volume after 2 000 events at 100/s", s.pick(2000, 300), 100, n},
		{"new volume after 20 000 events at 10 000/s over 1 000 objects", 20000, 10000, n},
	} {
		probes := map[string]float64{}
		reached := 0.0
		for _, side := range sides {
			if side == followBare && c.rate > 1000 {
				continue // it does not keep up: the engine drops events of so slow a reader
			}
			e, f := engines[side], followers[side]
			f.order("mark")
			rate := e.burst(c.count, c.rate, c.objects)
			name := fmt.Sprint("probe-", c.rate)
			at := e.volume(name)
			probes[side] = ms(f.time("await %s", name).Sub(at))
			if side == followOurs {
				reached = rate
			}
		}
		s.add(row{what: c.what, engine: "sim", n: n, ours: probes[followOurs], bare: probes[followBare], unit: "ms", goal: "< 100 ms",
			met: probes[followOurs] < 100, note: fmt.Sprintf("%.0f/s reached", reached)})
	}
	more := func() {
		engines[followOurs].burst(20000, 10000, n)
		time.Sleep(time.Second) // no look at it: the pages of a list are kept for a minute
	}
	for range s.pick(5, 1) {
		more() // until history has all that it keeps
	}
	before := followers[followOurs].number("heap")
	more()
	after := followers[followOurs].number("heap")
	s.add(row{what: "live heap after 20 000 more", engine: "sim", n: n, ours: after / (1 << 20), bare: before / (1 << 20), unit: "MiB",
		goal: "ratio ≤ 1.1", met: after <= 1.1*before, note: "bare: before them"})
	diverged := followers[followOurs].number("diverged")
	s.add(row{what: "containers that differ from the engine after that", engine: "sim", n: n, ours: diverged, goal: "0", met: diverged == 0})
	distinct(s, n, engines, followers)
}

// distinct: events of different objects cannot be coalesced; each is inspected.
func distinct(s *setting, n int, engines map[string]*simulated, followers map[string]*follower) {
	var ours, bare []float64
	for range s.pick(5, 1) {
		f, e := followers[followOurs], engines[followOurs]
		f.order("mark")
		began := time.Now()
		e.burst(n, 1000000, n)
		ours = append(ours, float64(n)/f.time("all %d", n).Sub(began).Seconds())
		bare = append(bare, float64(n+others)*1e3/followers[followBare].number("inspect"))
	}
	r := row{what: "different objects per second, beside bare inspects", engine: "sim", n: n, ours: median(ours), bare: median(bare), unit: "/s",
		goal: "≥ 0.8 × bare"}
	r.met = r.ours >= 0.8*r.bare
	s.add(r)
}

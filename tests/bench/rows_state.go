package main

import (
	"context"
	"fmt"
	"time"
)

// memory is what a container costs: the live heap beside that of rdd on an empty engine, and what is resident after five churns.
func memory(ctx context.Context, s *setting) {
	empty := startEngine(0, others, others)
	f := follow(followOurs, empty)
	heap0, rss0 := f.number("heap"), f.number("rss")
	f.end()
	empty.close()
	for _, n := range s.sizes {
		if n < 1000 {
			continue // too few to tell them from noise
		}
		e := startEngine(n, others, others)
		f := follow(followOurs, e)
		kib := (f.number("heap") - heap0) / 1024 / float64(n)
		s.add(row{what: "live heap per container", engine: "sim", n: n, ours: kib, unit: "KiB", goal: "≤ 6 KiB", met: kib <= 6})
		for range s.pick(5, 1) {
			e.order("churn %d", n)
			calm(f)
		}
		kib = (f.number("rss") - rss0) / float64(n)
		converge(f)
		s.add(row{what: "resident per container after five full churns", engine: "sim", n: n, ours: kib, unit: "KiB", goal: "≤ 12 KiB", met: kib <= 12})
		kib = (f.number("heap") - heap0) / 1024 / float64(n)
		s.add(row{what: "live heap per container after five full churns", engine: "sim", n: n, ours: kib, unit: "KiB"})
		f.end()
		e.close()
	}
}

// calm waits until the follower has nothing to do. To ask what it knows would cost it memory that is not the mirror's.
func calm(f *follower) {
	const look = 500 * time.Millisecond
	used := func() time.Duration { return time.Duration(f.number("cpu")) }
	for limit, before := time.Now().Add(patience), used(); ; {
		time.Sleep(look)
		now := used()
		if now-before < look/20 {
			return
		}
		if before = now; time.Now().After(limit) {
			fail("the follower is still busy after %s", patience)
		}
	}
}

// converge waits until mirror and engine agree.
func converge(f *follower) {
	for limit := time.Now().Add(patience); f.number("diverged") > 0; {
		if time.Now().After(limit) {
			fail("the mirror does not agree with the engine after %s: %s; %s", patience, f.order("diverged"), f.order("events"))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// idle: both at once, they are processes of their own and do nothing.
func idle(ctx context.Context, s *setting) {
	n, long := 1000, time.Duration(s.pick(61, 5))*time.Second
	engines := []*simulated{startEngine(n, others, others), startEngine(n, others, others)}
	var rdd, bare [2]*follower
	for i, e := range engines {
		defer e.close()
		rdd[i], bare[i] = follow(followOurs, e), follow(followBare, e)
		defer rdd[i].end()
		defer bare[i].end()
	}
	time.Sleep(2 * time.Second)
	used := func() (all [4]float64) {
		for i := range 2 {
			all[i], all[2+i] = rdd[i].number("cpu"), bare[i].number("cpu")
		}
		return all
	}
	before, began := used(), time.Now()
	engines[1].order("noise %d %d %d", int(float64(n)/30*long.Seconds()), n/30, n)
	time.Sleep(time.Until(began.Add(long)))
	took := time.Since(began).Seconds()
	for i, v := range used() {
		before[i] = 100 * (v - before[i]) / 1e9 / took
	}
	s.add(row{what: "idle CPU", engine: "sim", n: n, ours: before[0], bare: before[2], unit: "% of a core", goal: "< 0.1 %", met: before[0] < 0.1},
		row{what: "idle CPU, a health check each per 30 s", engine: "sim", n: n, ours: before[1], bare: before[3], unit: "% of a core",
			goal: "< 0.3 %", met: before[1] < 0.3})
}

// deletions: from the request to the engine's being called, with a journal on disk; idle, and in turn with that while half as many
// images as there are containers are in use and cannot go and a call of the engine hangs.
func deletions(ctx context.Context, s *setting) {
	n := s.pick(2000, 200)
	idle, stuck := startEngine(n, n/2, others), startEngine(n, n/2, others)
	defer idle.close()
	defer stuck.close()
	quiet, busy := followJournal(idle), followJournal(stuck)
	defer quiet.end()
	defer busy.end()
	last := containerName(n - 1)
	stuck.order("hang RemoveContainer %s", last)
	busy.order("remove images all")
	busy.order("delete container %s", last)
	calm(busy) // stuck, not on their first tries
	calm(quiet)
	commit, took := deleteInTurn(s.pick(100, 10), quiet, busy)
	s.add(deletionRow("sim", n, took[0], commit),
		row{what: fmt.Sprintf("delete → engine call, p50, %d images in use are to go and a call hangs", n/2), engine: "sim", n: n, ours: took[1],
			bare: took[0], unit: "ms", goal: "≤ 1.2 × idle", met: took[1] <= 1.2*took[0], note: "bare: the same, idle"})
}

// followJournal is rdd with its journal on disk.
func followJournal(e engine) *follower {
	return follow(followDisk, e, "HOME="+tempDir(), "XDG_DATA_HOME=")
}

// deleteInTurn deletes the first containers, with each follower in turn and after a bare commit, so that what the machine does meanwhile
// is the same for all. It returns medians, in ms.
func deleteInTurn(count int, followers ...*follower) (commit float64, took []float64) {
	var commits []float64
	all := make([][]float64, len(followers))
	for i := range count {
		for j := range followers {
			k := (i + j) % len(followers)
			if k == 0 {
				commits = append(commits, followers[0].number("commit"))
			}
			all[k] = append(all[k], followers[k].number("delete container %s", containerName(i)))
		}
	}
	for _, each := range all {
		took = append(took, median(each))
	}
	return median(commits), took
}

func deletionRow(kind string, n int, took, commit float64) row {
	return row{what: "delete → engine call, p50", engine: kind, n: n, ours: took, bare: commit, unit: "ms", goal: "≤ bare commit + 1 ms",
		met: took <= commit+1, note: "bare: one commit"}
}

// outage: the engine is away, and things change meanwhile.
func outage(ctx context.Context, s *setting) {
	for _, n := range s.sizes {
		if n < 1000 {
			continue
		}
		e := startEngine(n, others, others)
		f := follow(followOurs, e)
		f.order("watch")
		bare := follow(followBare, e)
		away := s.pick(45, 3)
		e.order("down")
		time.Sleep(time.Duration(away) * time.Second)
		const changed = 100
		for i := range changed {
			e.order("toggle %s", containerName(i*n/changed))
		}
		f.order("mark")
		f.order("settling")
		at := e.time("up")
		state := ms(f.time("all %d", changed).Sub(at))
		full := f.time("settled")
		what := fmt.Sprintf("after %d s without the engine: ", away)
		s.add(row{what: what + "the state of 100 changed containers is right", engine: "sim", n: n, ours: state, unit: "ms", goal: "< 1 s", met: state < 1000})
		r := row{what: what + "everything is right", engine: "sim", n: n, ours: ms(full.Sub(at)), bare: bare.synced, unit: "ms", goal: "≤ 1 s + 1.3 × bare sync"}
		r.met = r.ours <= 1000+1.3*r.bare
		s.add(r)
		bare.end()
		f.end()
		e.close()
	}
}

// heal: an inspect fails once.
func heal(ctx context.Context, s *setting) {
	e := startEngine(100, others, others)
	defer e.close()
	f := follow(followOurs, e)
	defer f.end()
	f.order("watch")
	var all []float64
	for i := range s.pick(5, 1) {
		name := containerName(i)
		e.order("fail InspectContainer %s", name)
		began := time.Now()
		f.order("mark")
		e.order("toggle %s", name)
		all = append(all, ms(f.time("await %s", name).Sub(began)))
		converge(f)
	}
	healed := quantile(all, 1)
	s.add(row{what: "one inspect fails once: right again, slowest", engine: "sim", n: 100, ours: healed, unit: "ms", goal: "< 2 s", met: healed < 2000})
}

// scale: memory and full sync grow as the number of objects does.
func scale(ctx context.Context, s *setting) {
	small, big := s.pick(10000, 1000), s.pick(100000, 5000)
	var syncs, heaps [2]float64
	for i, n := range []int{small, big} {
		e := startEngine(n, others, others)
		f := follow(followOurs, e)
		syncs[i], heaps[i] = f.synced, f.number("heap")
		f.end()
		bare := follow(followBare, e)
		s.add(row{what: "full sync, once", engine: "sim", n: n, ours: syncs[i], bare: bare.synced, unit: "ms", goal: "≤ 1.3 × bare", met: syncs[i] <= 1.3*bare.synced})
		bare.end()
		e.close()
	}
	times := float64(big) / float64(small)
	for _, r := range []row{
		{what: "full sync per object", ours: syncs[1] / times, bare: syncs[0], unit: "ms"},
		{what: "live heap per object", ours: heaps[1] / times / (1 << 20), bare: heaps[0] / (1 << 20), unit: "MiB"},
	} {
		r.what, r.engine, r.n = fmt.Sprintf("%s, for %d of them, beside that of %d objects", r.what, small, small), "sim", big
		r.goal, r.met = "linear: ratio ≤ 1.2", r.ours <= 1.2*r.bare
		s.add(r)
	}
}

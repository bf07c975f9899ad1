package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// others is how many images and volumes there are beside the containers.
const others = 100

// row is one figure beside its bare loop.
type row struct {
	name       string
	n          int
	ours, bare float64 // bare: 0 = there is none
	unit       string
	goal       string
	met        bool
}

// benchmark makes rows for one number of containers.
type benchmark struct {
	name string
	// sizes it is run for; nil = all that were asked for.
	sizes []int
	run   func(ctx context.Context, n int) ([]row, error)
}

var benchmarks = []benchmark{
	{"sync", nil, fullSync},
	{"cpu", nil, cpuPerEvent},
	{"latency", nil, latency},
	{"burst", []int{1000}, burst},
	{"memory", nil, memory},
	{"idle", []int{1000}, idle},
	{"delete", []int{1000}, deletion},
	{"outage", []int{1000}, outage},
	{"start", []int{100}, coldStart},
	{"binary", []int{100}, binarySize},
}

// pair runs rdd and the bare loop in turn on engines of their own, several times, and gives the medians of what measure measures.
func pair(ctx context.Context, n, rounds int, measure func(e *engine, l *loop) float64) (o, b float64, err error) {
	var all [2][]float64
	for range rounds {
		for side := range all {
			e, err := startEngine(n)
			if err != nil {
				return 0, 0, err
			}
			l, err := follow(ctx, e, side == 0)
			if err != nil {
				return 0, 0, err
			}
			all[side] = append(all[side], measure(e, l))
			l.stop()
			e.close()
		}
	}
	return median(all[0]), median(all[1]), nil
}

func follow(ctx context.Context, e *engine, rdd bool) (*loop, error) {
	if rdd {
		return ours(ctx, "unix://"+e.socket, nil)
	}
	return bare(ctx, "unix://"+e.socket)
}

func median(v []float64) float64 { return quantile(v, 0.5) }

func quantile(v []float64, q float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[min(len(v)-1, int(q*float64(len(v))))]
}

func fullSync(ctx context.Context, n int) ([]row, error) {
	o, b, err := pair(ctx, n, 3, func(_ *engine, l *loop) float64 { return ms(l.synced) })
	return []row{{"full sync", n, o, b, "ms", "≤ 1.3 × bare", o <= 1.3*b}}, err
}

// cpuPerEvent is without what the engine uses: it is another process. Each event is about another container, so that none is
// coalesced as long as there are enough.
func cpuPerEvent(ctx context.Context, n int) ([]row, error) {
	const events = 400
	o, b, err := pair(ctx, n, 3, func(e *engine, l *loop) float64 {
		runtime.GC()
		before := cpu()
		e.order("events %d 200 %d", events, min(n, events))
		l.drain(500 * time.Millisecond)
		return float64((cpu() - before).Microseconds()) / events
	})
	return []row{{"CPU per event", n, o, b, "µs", "≤ 1.5 × bare", o <= 1.5*b}}, err
}

// latency is from the engine's change to its being visible, for single events.
func latency(ctx context.Context, n int) ([]row, error) {
	var tails [2][]float64
	side := 0
	o, b, err := pair(ctx, n, 3, func(e *engine, l *loop) float64 {
		var all []float64
		for i := range 100 {
			name := fmt.Sprintf("c%06d", i%min(n, 100))
			began := at(e.order("toggle %s", name))
			all = append(all, ms(l.await(name).Sub(began)))
			time.Sleep(60 * time.Millisecond) // single: what a coalescing window would hold back is over
		}
		tails[side%2] = append(tails[side%2], quantile(all, 0.99))
		side++
		return median(all)
	})
	if err != nil {
		return nil, err
	}
	p99 := median(tails[0])
	return []row{
		{"event → visible, p50", n, o, b, "ms", "≤ 1.2 × bare", o <= 1.2*b},
		{"event → visible, p99", n, p99, median(tails[1]), "ms", "< 10 ms", p99 < 10},
	}, nil
}

// burst: a new object right after many events is the proof that nothing is queued.
func burst(ctx context.Context, n int) ([]row, error) {
	var rows []row
	for _, c := range []struct {
		name                 string
		count, rate, objects int
	}{{"new volume after 2 000 events at 100/s", 2000, 100, 1000}, {"new volume after 20 000 events at 10 000/s", 20000, 10000, 1000}} {
		probe := 0
		o, b, err := pair(ctx, n, 1, func(e *engine, l *loop) float64 {
			e.order("events %d %d %d", c.count, c.rate, c.objects)
			probe++
			name := fmt.Sprint("probe", probe)
			began := at(e.order("volume %s", name))
			return ms(l.await(name).Sub(began))
		})
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{c.name, n, o, b, "ms", "< 100 ms", o < 100})
	}
	return rows, nil
}

func memory(ctx context.Context, n int) ([]row, error) {
	e, err := startEngine(n)
	if err != nil {
		return nil, err
	}
	defer e.close()
	before := heap()
	l, err := ours(ctx, "unix://"+e.socket, nil)
	if err != nil {
		return nil, err
	}
	defer l.stop()
	per := float64(heap()-before) / 1024 / float64(n)
	return []row{{"live heap per container", n, per, 0, "KiB", "≤ 6 KiB", per <= 6}}, nil
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func idle(ctx context.Context, n int) ([]row, error) {
	o, b, err := pair(ctx, n, 1, func(_ *engine, l *loop) float64 {
		const long = 20 * time.Second
		l.drain(2 * time.Second)
		before := cpu()
		time.Sleep(long)
		return 100 * float64(cpu()-before) / float64(long)
	})
	return []row{{"idle CPU", n, o, b, "% of a core", "< 0.1 %", o < 0.1}}, err
}

// deletion is from the request to the engine's being called, with a journal on disk.
func deletion(ctx context.Context, n int) ([]row, error) {
	e, err := startEngine(n)
	if err != nil {
		return nil, err
	}
	defer e.close()
	home, err := os.MkdirTemp("/tmp", "rddb")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(home) }()
	if err := os.Setenv("HOME", home); err != nil {
		return nil, err
	}
	l, err := ours(ctx, "unix://"+e.socket, &supervisor.Instance{Name: "bench"})
	if err != nil {
		return nil, err
	}
	defer l.stop()
	called, err := strconv.Atoi(e.order("calls RemoveContainer"))
	if err != nil {
		return nil, err
	}
	var all []float64
	for i := range 50 {
		began := time.Now()
		if _, err := l.client.Delete(ctx, messages.DeleteRequest{Kind: "container", Name: fmt.Sprintf("c%06d", i)}); err != nil {
			return nil, err
		}
		all = append(all, ms(at(e.order("await RemoveContainer %d", called+i+1)).Sub(began)))
	}
	commit, err := bareCommit(home)
	if err != nil {
		return nil, err
	}
	p50 := median(all)
	return []row{{"delete → engine call, p50", n, p50, commit, "ms", "≤ bare commit + 1 ms", p50 <= commit+1}}, nil
}

// outage: the state is right again soon after the engine's return.
func outage(ctx context.Context, n int) ([]row, error) {
	o, b, err := pair(ctx, n, 1, func(e *engine, l *loop) float64 {
		if l.client == nil {
			return ms(l.synced)
		}
		e.order("down")
		time.Sleep(5 * time.Second)
		e.order("toggle c000001")
		began := at(e.order("up"))
		return ms(l.await("c000001").Sub(began))
	})
	return []row{{"right again after an outage", n, o, b, "ms", "< 1 s + 1.3 × bare sync", o < 1000+1.3*b}}, err
}

// coldStart is from the start of the daemon's process to its first answer, and one get of the command line.
func coldStart(ctx context.Context, n int) ([]row, error) {
	home, err := os.MkdirTemp("/tmp", "rddb")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(home) }()
	environment := append(os.Environ(), "HOME="+home, "XDG_DATA_HOME=", "RDD_INSTANCE=bench")
	run := func(args ...string) (took time.Duration, out []byte, err error) {
		c := exec.CommandContext(ctx, rddBinary, args...)
		c.Env = environment
		began := time.Now()
		out, err = c.Output()
		if err != nil {
			err = fmt.Errorf("rdd %s: %w", strings.Join(args, " "), err)
		}
		return time.Since(began), out, err
	}
	var took [3][]float64 // of starts, gets, and a command that asks nobody
	timed := func(what int, args ...string) error {
		t, _, err := run(args...)
		took[what] = append(took[what], ms(t))
		return err
	}
	var rss float64
	for range 5 {
		if err := timed(0, "svc", "start"); err != nil {
			return nil, err
		}
		for range 10 {
			if err := errors.Join(timed(1, "ctl", "get", "app"), timed(2, "svc", "paths")); err != nil {
				return nil, err
			}
		}
		_, status, err := run("svc", "status", "-o", "json")
		if err == nil {
			rss, err = residentMiB(status)
		}
		if err != nil {
			return nil, err
		}
		if _, _, err := run("svc", "stop"); err != nil {
			return nil, err
		}
	}
	start, get, none, p95 := median(took[0]), median(took[1]), median(took[2]), quantile(took[1], 0.95)
	return []row{
		{"svc start until it serves", 0, start, none, "ms", "< 150 ms", start < 150},
		{"one get at a shell, p50 (bare: svc paths)", 0, get, none, "ms", "< bare + 60 ms", get < none+60},
		{"one get at a shell, p95", 0, p95, none, "ms", "< bare + 120 ms", p95 < none+120},
		{"resident memory, empty", 0, rss, 0, "MiB", "≤ 40 MiB", rss <= 40},
	}, nil
}

// residentMiB of the daemon that the answer of svc status is about.
func residentMiB(status []byte) (float64, error) {
	var v messages.VersionReply
	if err := json.Unmarshal(status, &v); err != nil {
		return 0, err
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.PID))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	var kib float64
	_, err = fmt.Sscan(rest, &kib)
	return kib / 1024, err
}

func binarySize(context.Context, int) ([]row, error) {
	info, err := os.Stat(rddBinary)
	if err != nil {
		return nil, err
	}
	size := float64(info.Size()) / (1 << 20)
	return []row{{"binary", 0, size, 0, "MiB", "≤ 60 MiB", size <= 60}}, nil
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

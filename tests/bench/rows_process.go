package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/rdd-desktop/rdd/messages"
)

// start is from the start of the daemon's process to its first answer, and one get of the command line.
func start(ctx context.Context, s *setting) {
	environment := append(os.Environ(), "HOME="+tempDir(), "XDG_DATA_HOME=", "RDD_INSTANCE="+instanceName)
	run := func(args ...string) (float64, []byte) {
		c := exec.CommandContext(ctx, s.rdd, args...)
		c.Env = environment
		began := time.Now()
		out, err := c.Output()
		if err != nil {
			fail("rdd %s: %w", strings.Join(args, " "), err)
		}
		return ms(time.Since(began)), out
	}
	var starts, gets, empties, rss []float64
	for range s.pick(5, 2) {
		took, _ := run("svc", "start")
		starts = append(starts, took)
		for range s.pick(20, 5) {
			get, _ := run("ctl", "get", "app")
			empty, _ := run("svc", "paths")
			gets, empties = append(gets, get), append(empties, empty)
		}
		_, status := run("svc", "status", "-o", "json")
		var v messages.VersionReply
		must(json.Unmarshal(status, &v))
		kib, err := residentKiB(v.PID)
		must(err)
		rss = append(rss, kib/1024)
		run("svc", "stop")
	}
	none := median(empties)
	begun, p50, p95, empty := median(starts), median(gets), quantile(gets, 0.95), median(rss)
	s.add(
		row{what: "cold start to serving", ours: begun, bare: none, unit: "ms", goal: "< 150 ms", met: begun < 150, note: "bare: a process that asks nobody"},
		row{what: "one get at a shell, p50", ours: p50, bare: none, unit: "ms", goal: "< bare + 60 ms", met: p50 < none+60},
		row{what: "one get at a shell, p95", ours: p95, bare: quantile(empties, 0.95), unit: "ms", goal: "< 120 ms above the bare p50", met: p95 < none+120},
		row{what: "resident memory, no engine", ours: empty, unit: "MiB", goal: "≤ 40 MiB", met: empty <= 40},
	)
}

func binary(_ context.Context, s *setting) {
	info, err := os.Stat(s.rdd)
	must(err)
	size := float64(info.Size()) / (1 << 20)
	s.add(row{what: "binary", ours: size, unit: "MiB", goal: "≤ 60 MiB", met: size <= 60, note: "without Lima"})
}

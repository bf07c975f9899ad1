package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one figure beside its bare loop.
type row struct {
	what   string
	engine string // "sim", "dockerd"; "" = neither
	n      int
	ours   float64
	bare   float64 // 0 = there is none
	unit   string
	goal   string
	met    bool
	note   string
}

func (r row) verdict() string {
	switch {
	case r.goal == "":
		return "–"
	case r.met:
		return "met"
	}
	return "**not met**"
}

func median(v []float64) float64 { return quantile(v, 0.5) }

func quantile(v []float64, q float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[min(len(v)-1, int(q*float64(len(v))))]
}

// figure has three digits, and never an exponent.
func figure(f float64) string {
	switch {
	case f >= 100 || f == 0:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	case f >= 1:
		return fmt.Sprintf("%.2f", f)
	}
	return fmt.Sprintf("%.3f", f)
}

// briefly are the rows of the short table; of each the one with most containers on a simulated engine, but for the largest.
var briefly = []string{"full sync", "CPU per event", "event → visible in process, p50", "new volume after 2 000 events at 100/s",
	"different objects per second, beside bare inspects", "live heap per container", "delete → engine call, p50", "idle CPU",
	"cold start to serving", "one get at a shell, p50"}

func brief(all []row) (out []row) {
	for _, what := range briefly {
		found := row{}
		for _, r := range all {
			if r.what == what && r.engine != "dockerd" {
				found = r
			}
		}
		if found.what != "" {
			out = append(out, found)
		}
	}
	return out
}

// machine says where and when, and how much else there was to do.
func machine() string {
	text := fmt.Sprintf("%s, %d CPUs, %s/%s, %s", runtime.Version(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, time.Now().Format(time.DateOnly))
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		minutes := strings.Fields(string(data))
		text += fmt.Sprintf("; load average of the last 15 minutes %s", minutes[2])
	}
	return text + "."
}

// table writes the rows as a table of Markdown.
func table(out io.Writer, all []row) {
	fmt.Fprintln(out, machine())
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| what\t| engine\t| containers\t| rdd\t| bare\t| ratio\t| goal\t| verdict\t|")
	fmt.Fprintln(w, "|---\t|---\t|---:\t|---:\t|---:\t|---:\t|---\t|---\t|")
	for _, r := range all {
		size, base, ratio, goal, what := "–", "–", "–", "–", r.what
		if r.n > 0 {
			size = fmt.Sprint(r.n)
		}
		if r.bare > 0 {
			base, ratio = figure(r.bare), fmt.Sprintf("%.2f", r.ours/r.bare)
		}
		if r.goal != "" {
			goal = r.goal
		}
		if r.note != "" {
			what += " (" + r.note + ")"
		}
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %s %s\t| %s\t| %s\t| %s\t| %s\t|\n",
			what, orDash(r.engine), size, figure(r.ours), r.unit, base, ratio, goal, r.verdict())
	}
	_ = w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// Marks around a table in a file of other text.
const beginTable, endTable = "<!-- BEGIN make bench -->", "<!-- END make bench -->"

// writeTable puts the table between the marks of a file; a file without them is the table.
func writeTable(path string, all []row) error {
	var b strings.Builder
	table(&b, all)
	text := b.String()
	if old, err := os.ReadFile(path); err == nil {
		before, rest, ok := strings.Cut(string(old), beginTable)
		if _, after, closed := strings.Cut(rest, endTable); ok && closed {
			text = before + beginTable + "\n" + text + endTable + after
		}
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// benchstat is the figures in the form of Go's benchmarks.
func benchstat(all []row) string {
	var b strings.Builder
	plain := regexp.MustCompile(`[^A-Za-z0-9]+`)
	for _, r := range all {
		name := strings.Trim(plain.ReplaceAllString(strings.ToUpper(r.what[:1])+r.what[1:], "_"), "_")
		if r.engine != "" {
			name += "/" + r.engine
		}
		unit := strings.NewReplacer("µ", "u", "% of a core", "%core", " ", "").Replace(r.unit)
		for _, side := range []struct {
			name  string
			value float64
		}{{"rdd", r.ours}, {"bare", r.bare}} {
			if side.value > 0 {
				fmt.Fprintf(&b, "Benchmark%s/n=%d/%s 1 %g %s\n", name, r.n, side.name, side.value, unit)
			}
		}
	}
	return b.String()
}

package main

import (
	"fmt"
	"io"
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

// table writes the rows as a table of Markdown.
func table(out io.Writer, all []row) {
	fmt.Fprintf(out, "%s, %d CPUs, %s/%s, %s\n\n", runtime.Version(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, time.Now().Format(time.DateOnly))
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

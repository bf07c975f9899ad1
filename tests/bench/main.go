// Command bench measures rdd beside the bare loop (list, inspect, read events, nothing else) on a simulated engine in a process of
// its own, prints a table, and writes the same figures for benchstat. Only ratios mean something on another machine.
//
// Usage: bench [-sizes 100,1000,10000] [-rows REGEXP] [-out FILE] RDD-BINARY
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"go.etcd.io/bbolt"
)

var rddBinary string

func main() {
	serve := flag.String("serve", "", "be the engine, on this socket")
	containers := flag.Int("containers", 0, "of the engine")
	sizes := flag.String("sizes", "100,1000,10000", "numbers of containers")
	rows := flag.String("rows", ".", "which benchmarks")
	out := flag.String("out", "", "file for benchstat")
	flag.Parse()
	if *serve != "" {
		check(serveEngine(*serve, *containers, others))
		return
	}
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: bench [-sizes N,…] [-rows REGEXP] [-out FILE] RDD-BINARY")
		os.Exit(2)
	}
	var err error
	rddBinary, err = filepath.Abs(flag.Arg(0))
	check(err)
	pattern, err := regexp.Compile(*rows)
	check(err)
	var all []row
	for _, b := range benchmarks {
		if !pattern.MatchString(b.name) {
			continue
		}
		ns := b.sizes
		if ns == nil {
			for _, s := range strings.Split(*sizes, ",") {
				n, err := strconv.Atoi(s)
				check(err)
				ns = append(ns, n)
			}
		}
		for _, n := range ns {
			fmt.Fprintf(os.Stderr, "%s, %d containers …\n", b.name, n)
			made, err := b.run(context.Background(), n)
			check(err)
			all = append(all, made...)
		}
	}
	print(all)
	if *out != "" {
		check(os.WriteFile(*out, []byte(benchstat(all)), 0o644))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func print(all []row) {
	fmt.Printf("%s, %d CPUs, %s/%s, %s\n\n", runtime.Version(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, time.Now().Format(time.DateOnly))
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| what\t| containers\t| rdd\t| bare\t| ratio\t| goal\t| met\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, r := range all {
		size, base, ratio, met := "–", "–", "–", "no"
		if r.n > 0 {
			size = fmt.Sprint(r.n)
		}
		if r.bare > 0 {
			base, ratio = fmt.Sprintf("%.3g", r.bare), fmt.Sprintf("%.2f", r.ours/r.bare)
		}
		if r.met {
			met = "yes"
		}
		fmt.Fprintf(w, "| %s\t| %s\t| %.3g %s\t| %s\t| %s\t| %s\t| %s\t|\n", r.name, size, r.ours, r.unit, base, ratio, r.goal, met)
	}
	_ = w.Flush()
}

// benchstat is the figures in the form of Go's benchmarks.
func benchstat(all []row) string {
	var b strings.Builder
	plain := regexp.MustCompile(`[^A-Za-z0-9]+`)
	for _, r := range all {
		name := plain.ReplaceAllString(r.name, "_")
		for side, v := range map[string]float64{"rdd": r.ours, "bare": r.bare} {
			if v > 0 {
				fmt.Fprintf(&b, "Benchmark%s/n=%d/%s 1 %g %s\n", name, r.n, side, v, plain.ReplaceAllString(r.unit, ""))
			}
		}
	}
	return b.String()
}

// bareCommit is the median time in ms of one commit of a small record to a file beside the journal.
func bareCommit(dir string) (float64, error) {
	db, err := bbolt.Open(filepath.Join(dir, "bare.db"), 0o600, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = db.Close() }()
	var all []float64
	for i := range 50 {
		began := time.Now()
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			return b.Put(fmt.Append(nil, i), make([]byte, 300))
		})
		if err != nil {
			return 0, err
		}
		all = append(all, ms(time.Since(began)))
	}
	return median(all), nil
}

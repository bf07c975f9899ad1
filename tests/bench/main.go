// Command bench measures rdd beside the bare loop (list, inspect, read events, nothing else) in the same run, prints a table, and
// writes the same figures for benchstat. Only ratios mean something on another machine. Engine, rdd and bare loop are processes of
// their own, so that none pays for another.
//
// Usage: bench [-quick] [-sizes 100,1000,10000] [-rows REGEXP] [-out FILE] [-markdown FILE] [-short FILE] RDD-BINARY
//
// With BENCH_PROFILE=DIR each follower writes a CPU profile there, and one of its heap where that is measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// setting is what was asked for.
type setting struct {
	rdd    string // the binary
	sizes  []int
	rows   *regexp.Regexp
	quick  bool
	report []row
	// files: for benchstat, for the table, for the short table
	out, markdown, short string
}

func (s *setting) wants(name string) bool { return s.rows.MatchString(name) }

// pick is the full value, or the one for a quick look.
func (s *setting) pick(full, quick int) int {
	if s.quick {
		return quick
	}
	return full
}

// try runs one benchmark; what fails does not keep the others from running.
func (s *setting) try(name string, run func()) (err error) {
	defer func() {
		if err = recovered(recover()); err != nil {
			s.add(row{what: name, goal: "to be measured", note: "failed: " + err.Error()})
		}
	}()
	run()
	return nil
}

// recovered is the failure that a panic was.
func recovered(v any) error {
	switch v := v.(type) {
	case nil:
		return nil
	case failure:
		return v.err
	default:
		panic(v)
	}
}

func (s *setting) add(rows ...row) { s.report = append(s.report, rows...) }

// benchmarks by name; each adds its rows.
var benchmarks = []struct {
	name string
	run  func(ctx context.Context, s *setting)
}{
	{"events", each(simulatedEvents)},
	{"cpuscale", cpuAcrossSizes},
	{"dockerd", dockerdEvents},
	{"burst", bursts},
	{"memory", memory},
	{"idle", idle},
	{"delete", deletions},
	{"outage", outage},
	{"heal", heal},
	{"large", scale},
	{"start", start},
	{"binary", binary},
}

// each runs a benchmark for each size.
func each(run func(ctx context.Context, s *setting, n int)) func(context.Context, *setting) {
	return func(ctx context.Context, s *setting) {
		for _, n := range s.sizes {
			run(ctx, s, n)
		}
	}
}

// temp is removed at the end.
var temp string

func tempDir() string {
	dir, err := os.MkdirTemp(temp, "")
	must(err)
	return dir
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	defer func() {
		if failed := recovered(recover()); failed != nil {
			err = failed
		}
	}()
	serve := flag.String("serve", "", "be the engine, on this socket")
	following := flag.String("follow", "", "be a follower of that kind")
	sizes := flag.String("sizes", "100,1000,10000", "numbers of containers")
	rows := flag.String("rows", ".", "which benchmarks")
	out := flag.String("out", "", "file for benchstat")
	markdown := flag.String("markdown", "", "file for the table too: between its marks, if it has any")
	short := flag.String("short", "", "file for a table of a few rows")
	quick := flag.Bool("quick", false, "fewer rounds and shorter waits: a look, no figures to publish")
	flag.Parse()
	switch {
	case *serve != "":
		serveEngine(*serve, flag.Args())
		return nil
	case *following != "":
		serveFollower(*following, flag.Arg(0))
		return nil
	case flag.NArg() != 1:
		return fmt.Errorf("usage: bench [-quick] [-sizes N,…] [-rows REGEXP] [-out FILE] [-markdown FILE] [-short FILE] RDD-BINARY")
	}
	s := &setting{quick: *quick, out: *out, markdown: *markdown, short: *short}
	s.rdd, err = filepath.Abs(flag.Arg(0))
	must(err)
	s.rows, err = regexp.Compile(*rows)
	must(err)
	for _, text := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(text)
		must(err)
		s.sizes = append(s.sizes, n)
	}
	temp, err = os.MkdirTemp("/tmp", "rddb")
	must(err)
	defer func() { _ = os.RemoveAll(temp) }()
	for _, b := range benchmarks {
		if s.wants(b.name) {
			fmt.Fprintln(os.Stderr, b.name, "…")
			err = errors.Join(err, s.try(b.name, func() { b.run(context.Background(), s) }), s.write())
		}
	}
	table(os.Stdout, s.report)
	return err
}

func (s *setting) write() error {
	var errs []error
	if s.out != "" {
		errs = append(errs, os.WriteFile(s.out, []byte(benchstat(s.report)), 0o644))
	}
	if s.markdown != "" {
		errs = append(errs, writeTable(s.markdown, s.report))
	}
	if s.short != "" {
		errs = append(errs, writeTable(s.short, brief(s.report)))
	}
	return errors.Join(errs...)
}

// Command suite runs all tests of the repository through gotestsum and closes with a plain line of counts:
//
//	1234 passed, 0 failed, 2 skipped
//
// Before it, it lists the skipped tests with their reasons. The counts are those of `go test`: each test and each subtest that
// ended is one; a package that failed outside of its tests (it did not compile, or its process died) is one failed.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rdd-desktop/rdd/tests/enginetest"
)

func main() {
	limit := flag.Duration("limit", 14*time.Minute, "when to give up; 0 = never, and a failure is still explained")
	started := flag.Int64("started", time.Now().Unix(), "when the limit began to count, in Unix seconds")
	flag.Parse()
	ctx, cancel := context.WithCancel(context.Background())
	perPackage := "0"
	if *limit > 0 {
		deadline := time.Unix(*started, 0).Add(*limit)
		ctx, cancel = context.WithDeadline(ctx, deadline)
		// A package gives up, with the stacks of its goroutines, before we do.
		perPackage = max(time.Until(deadline)-30*time.Second, time.Second).Round(time.Second).String()
	}
	defer cancel()
	ok, err := run(ctx, perPackage)
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

func run(ctx context.Context, perPackage string) (ok bool, err error) {
	dir, err := os.MkdirTemp("", "rdd-suite-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	events := filepath.Join(dir, "events.json")

	// Nothing out of Go's cache: the engine, the kernel and the disk are inputs of these tests that it knows nothing of.
	args := []string{"tool", "gotestsum", "--format", "pkgname", "--format-hide-empty-pkg", "--hide-summary", "skipped",
		"--jsonfile", events, "--", "-count", "1", "-p", "2", "-timeout", perPackage}
	if hasCompiler() {
		args = append(args, "-race")
	} else {
		fmt.Println("suite: no C compiler: WITHOUT THE RACE DETECTOR")
	}
	args = append(args, "./...")
	run := time.Now().Format("20060102-150405")
	dog := newWatchdog(run, filepath.Join("bin", "failure-"+run))
	failure := watched(ctx, dog, append([]string{"go"}, args...))
	// A test process that died may have left its engine.
	failure = errors.Join(failure, enginetest.Sweep())
	if failure != nil {
		if data, err := os.ReadFile(events); err == nil {
			_ = os.WriteFile(filepath.Join(dog.dir, "events.json"), data, 0o644) // the bundle has the rest
		}
	}

	file, err := os.Open(events)
	if err != nil {
		return false, errors.Join(failure, err)
	}
	defer file.Close()
	sum, err := count(file)
	if err != nil {
		return false, errors.Join(failure, err)
	}
	if failure != nil {
		fmt.Fprintln(os.Stderr, "suite:", failure)
		sum.failed = max(sum.failed, 1)
	}
	fmt.Print(sum.String())
	return sum.failed == 0, nil
}

// defaultPatience is what the tests get to end in order when their time is over.
const defaultPatience = 20 * time.Second

// watched runs a command. When it fails, or its time is over, a bundle is written and what is left of it is ended; its error says
// where the bundle is.
func watched(ctx context.Context, dog *watchdog, args []string) error {
	command := exec.CommandContext(ctx, args[0], args[1:]...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.Env = append(dog.environment(), "GOTESTSUM_FORMAT_ICONS=text")
	if enginetest.Available() == nil {
		// A dockerd can run, so that a test that skips for want of one is wrong.
		command.Env = append(command.Env, enginetest.RequireEnv+"=1")
	}
	var late error
	command.Cancel = func() error { // while everything still is as it hangs
		late = errors.Join(errors.New("the time limit has passed"), dog.bundle("the time limit has passed"))
		return command.Process.Signal(os.Interrupt)
	}
	command.WaitDelay = dog.patience
	failure := command.Run()
	if failure == nil {
		return dog.end()
	}
	if late == nil {
		late = dog.bundle("the tests failed: " + failure.Error())
	}
	return errors.Join(failure, late, dog.end(), fmt.Errorf("what there was to see is in %s", dog.dir))
}

func hasCompiler() bool {
	cc, err := exec.Command("go", "env", "CC").Output()
	if err != nil {
		return false
	}
	name, _, _ := strings.Cut(strings.TrimSpace(string(cc)), " ")
	_, err = exec.LookPath(name)
	return err == nil
}

// event is one line of `go test -json`.
type event struct {
	Action, Package, Test, Output string
}

type summary struct {
	passed, failed int
	skips          []skip
}

type skip struct{ test, reason string }

// count reads the events of a test run.
func count(r io.Reader) (summary, error) {
	type key struct{ pkg, test string }
	var (
		sum     summary
		output  = map[key][]string{}
		running = map[key]bool{} // tests that began and did not end
		failed  = map[string]bool{}
	)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return sum, fmt.Errorf("read the events of the tests: %w", err)
		}
		k := key{e.Package, e.Test}
		switch e.Action {
		case "run":
			running[k] = true
		case "output":
			output[k] = append(output[k], e.Output)
			continue
		case "pass", "fail", "skip":
			delete(running, k)
		}
		switch {
		case e.Test == "":
			// A package: counted only when it failed and none of its tests did.
			if e.Action == "fail" {
				for r := range running {
					if r.pkg == e.Package { // its process died under them
						delete(running, r)
						failed[e.Package] = true
						sum.failed++
					}
				}
				if !failed[e.Package] {
					sum.failed++
				}
			}
		case e.Action == "pass":
			sum.passed++
		case e.Action == "fail":
			sum.failed++
			failed[e.Package] = true
		case e.Action == "skip":
			sum.skips = append(sum.skips, skip{e.Package + " " + e.Test, reason(output[k])})
		}
		if e.Action != "output" && e.Action != "run" {
			delete(output, k)
		}
	}
	sum.failed += len(running)
	return sum, lines.Err()
}

// reason finds why a test was skipped: what it logged, without the marks of go test.
func reason(output []string) string {
	var words []string
	for _, o := range output {
		o = strings.TrimSpace(o)
		if o != "" && !strings.HasPrefix(o, "===") && !strings.HasPrefix(o, "---") {
			words = append(words, o)
		}
	}
	if len(words) == 0 {
		return "no reason given"
	}
	return strings.Join(words, " ")
}

func (s summary) String() string {
	var b strings.Builder
	slices.SortFunc(s.skips, func(x, y skip) int { return strings.Compare(x.test, y.test) })
	for _, k := range s.skips {
		fmt.Fprintf(&b, "skipped: %s: %s\n", k.test, k.reason)
	}
	fmt.Fprintf(&b, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, len(s.skips))
	return b.String()
}

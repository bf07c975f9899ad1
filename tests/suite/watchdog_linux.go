package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rdd-desktop/rdd/vmdriver/native/host"
)

const (
	// askLimit bounds one question to a daemon that may hang.
	askLimit = 5 * time.Second
	// dumpLimit is how long a process may take to write its goroutines and end.
	dumpLimit = 3 * time.Second
	// endLimit is how long leftovers get to end by themselves.
	endLimit = 5 * time.Second
	// keepLog is how much of the end of a log is kept.
	keepLog = 4 << 20
)

// watchdog knows the processes of one run: all that inherited its mark, and nobody else. The mark is a whole variable of the
// environment, so that run "t" has nothing of run "t-2".
type watchdog struct {
	mark string
	dir  string // of the bundle
	// patience is what the tests get to end in order when their time is over.
	patience time.Duration
}

const markName = "RDDTEST_RUN"

func newWatchdog(run, dir string) *watchdog {
	return &watchdog{mark: markName + "=" + run, dir: dir, patience: defaultPatience}
}

// environment has the mark: for a child whose whole offspring is to be known.
func (w *watchdog) environment() []string { return append(os.Environ(), w.mark) }

// processes are the living ones of the run, but not we ourselves.
func (w *watchdog) processes() []host.Running {
	return slices.DeleteFunc(host.Scan(), func(r host.Running) bool {
		return r.PID == os.Getpid() || !slices.Contains(environmentOf(r.PID), w.mark)
	})
}

func environmentOf(pid int) []string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)) // of another user, or gone: none of ours
	return strings.Split(string(data), "\x00")
}

// bundle writes what somebody who was not there needs to understand the failure: why, the processes, their files, the machine's state, the
// resources of each daemon, the goroutines of each Go process, which ends it, and the logs.
func (w *watchdog) bundle(why string) error {
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return err
	}
	all := w.processes()
	logs := openLogs(all)
	errs := []error{
		w.write("reason.txt", why+"\n"),
		w.write("processes.txt", processTree(all)),
		w.write("files.txt", openFiles(all)),
		w.write("machine.txt", machine()),
	}
	for _, r := range all {
		if isDaemon(r) {
			errs = append(errs, w.write(fmt.Sprintf("daemon-%d.txt", r.PID), ask(r)))
		}
	}
	errs = append(errs, quit(all))
	for _, log := range logs {
		errs = append(errs, w.copyEnd(log))
	}
	return errors.Join(errs...)
}

func (w *watchdog) write(name, text string) error {
	return os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644)
}

// copyEnd keeps the end of a log under its path with other separators.
func (w *watchdog) copyEnd(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // its test has cleaned up
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > keepLog {
		_, _ = f.Seek(-keepLog, io.SeekEnd)
	}
	data, err := io.ReadAll(f)
	return errors.Join(err, w.write("log"+strings.ReplaceAll(path, "/", "_"), string(data)))
}

// end ends what is left of the run, by pid and start time, and removes what its engines left.
func (w *watchdog) end() error {
	left := w.processes()
	var engines []host.Engine
	for _, r := range left {
		if e, ok := engineOf(r); ok {
			engines = append(engines, e)
		}
	}
	var all []host.Process
	for _, r := range left {
		_ = r.Signal(syscall.SIGTERM) // whoever does not hear it is killed below
		all = append(all, r.Process)
	}
	ctx, cancel := context.WithTimeout(context.Background(), endLimit)
	defer cancel()
	for _, p := range all {
		p.Wait(ctx)
	}
	errs := []error{host.Kill(all)}
	for _, e := range engines {
		errs = append(errs, e.Remove())
	}
	return errors.Join(errs...)
}

// engineOf says where a dockerd that rdd started has its traces.
func engineOf(r host.Running) (host.Engine, bool) {
	i := slices.Index(r.Args, "--config-file")
	if r.Command != "dockerd" || i < 0 || i+1 == len(r.Args) {
		return host.Engine{}, false
	}
	e, err := host.ReadEngine(r.Args[i+1])
	return e, err == nil
}

func isDaemon(r host.Running) bool {
	return slices.Contains(r.Args, "serve") && slices.Contains(r.Args, "svc")
}

// ask asks a daemon for its resources and its tree, with the daemon's own program and environment.
func ask(r host.Running) string {
	var b strings.Builder
	for _, question := range [][]string{{"ctl", "get", "all", "-o", "json"}, {"tree", "--all"}, {"events", "--stack"}} {
		ctx, cancel := context.WithTimeout(context.Background(), askLimit)
		args := question
		if i := slices.Index(r.Args, "--instance"); i >= 0 && i+1 < len(r.Args) {
			args = append([]string{"--instance", r.Args[i+1]}, question...)
		}
		command := exec.CommandContext(ctx, fmt.Sprintf("/proc/%d/exe", r.PID), args...)
		command.Env = environmentOf(r.PID)
		out, err := command.CombinedOutput()
		cancel()
		fmt.Fprintf(&b, "$ %s\n%s\n", strings.Join(question, " "), out)
		if err != nil {
			fmt.Fprintf(&b, "error: %v\n", err)
		}
	}
	return b.String()
}

// quit makes every Go process of the tests write its goroutines, to where its errors go, and end.
func quit(all []host.Running) error {
	var errs []error
	var told []host.Process
	for _, r := range all {
		if isDaemon(r) || strings.HasSuffix(r.Args[0], ".test") {
			errs = append(errs, r.Signal(syscall.SIGQUIT))
			told = append(told, r.Process)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), dumpLimit)
	defer cancel()
	for _, p := range told {
		p.Wait(ctx) // who does not end is ended later
	}
	return errors.Join(errs...)
}

func processTree(all []host.Running) string {
	var b strings.Builder
	var show func(parent, depth int)
	known := map[int]bool{}
	for _, r := range all {
		known[r.PID] = true
	}
	show = func(parent, depth int) {
		for _, r := range all {
			if r.Parent == parent || parent == 0 && !known[r.Parent] {
				fmt.Fprintf(&b, "%s%d %c start %d: %s\n", strings.Repeat("  ", depth), r.PID, r.State, r.Stat.Start, strings.Join(r.Args, " "))
				show(r.PID, depth+1)
			}
		}
	}
	show(0, 0)
	return b.String()
}

// eachFile tells the open files of processes.
func eachFile(all []host.Running, tell func(r host.Running, fd, target string)) {
	for _, r := range all {
		dir := fmt.Sprintf("/proc/%d/fd", r.PID)
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			target, _ := os.Readlink(filepath.Join(dir, e.Name()))
			tell(r, e.Name(), target)
		}
	}
}

func openFiles(all []host.Running) string {
	var b strings.Builder
	eachFile(all, func(r host.Running, fd, target string) { fmt.Fprintf(&b, "%d %s %s\n", r.PID, fd, target) })
	return b.String()
}

// openLogs are the logs that the processes have open.
func openLogs(all []host.Running) []string {
	var logs []string
	eachFile(all, func(_ host.Running, _, target string) {
		if ext := filepath.Ext(target); (ext == ".log" || ext == ".err") && !slices.Contains(logs, target) {
			logs = append(logs, target)
		}
	})
	return logs
}

func machine() string {
	var b strings.Builder
	for _, f := range []string{"/proc/loadavg", "/proc/pressure/memory", "/proc/pressure/cpu", "/proc/pressure/io", "/proc/meminfo"} {
		data, err := os.ReadFile(f)
		if err != nil {
			data = []byte(err.Error() + "\n")
		}
		fmt.Fprintf(&b, "%s\n%s\n", f, data)
	}
	return b.String()
}

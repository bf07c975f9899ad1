package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stat is what we read from /proc/PID/stat.
type stat struct {
	command string
	state   byte
	parent  int
	start   uint64
}

func readStat(pid int) (stat, error) { return readStatFile(fmt.Sprintf("/proc/%d/stat", pid)) }

func readStatFile(file string) (stat, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return stat{}, err
	}
	// "PID (COMMAND) STATE PPID …"; the command may hold blanks and parentheses.
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("%s: no command", file)
	}
	fields := strings.Fields(string(b[end+1:])) // begins with field 3
	if len(fields) < 20 {
		return stat{}, fmt.Errorf("%s: %d fields", file, len(fields)+2)
	}
	parent, err1 := strconv.Atoi(fields[1])
	start, err2 := strconv.ParseUint(fields[19], 10, 64)
	return stat{command: string(b[open+1 : end]), state: fields[0][0], parent: parent, start: start}, errors.Join(err1, err2)
}

// identify names the process that has this pid now.
func identify(pid int) (process, error) {
	s, err := readStat(pid)
	return process{PID: pid, Start: s.start}, err
}

// alive tells whether exactly this process runs; a zombie does not.
func (p process) alive() bool {
	if p.PID <= 0 {
		return false
	}
	s, err := readStat(p.PID)
	return err == nil && s.start == p.Start && s.state != 'Z' && s.state != 'X'
}

// signal sends a signal to exactly this process. One that has ended is no error.
func (p process) signal(sig syscall.Signal) error {
	if p.PID <= 0 {
		return nil
	}
	handle, err := os.FindProcess(p.PID) // a pidfd: it stays with the process it was opened on
	if err != nil {
		return err
	}
	defer handle.Release()
	if !p.alive() { // compared after the handle was opened: now both mean the same process
		return nil
	}
	if err := handle.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %v to process %d: %w", sig, p.PID, err)
	}
	return nil
}

// stopped tells whether every thread of the process stands still. SIGSTOP takes effect thread by thread, after the call returned.
func (p process) stopped() bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.PID))
	if err != nil || len(threads) == 0 {
		return false
	}
	for _, t := range threads {
		if s, err := readStatFile(t); err == nil && s.state != 'T' {
			return false
		}
	}
	return true
}

// waitEnd waits until the process has ended or the context is done, and tells whether it has.
func (p process) waitEnd(ctx context.Context) bool {
	for p.alive() {
		select {
		case <-ctx.Done():
			return !p.alive()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return true
}

// kill sends SIGKILL to the processes and waits for their end, five seconds at most.
func kill(processes []process) error {
	var errs []error
	for _, p := range processes {
		errs = append(errs, p.signal(syscall.SIGKILL))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, p := range processes {
		if !p.waitEnd(ctx) {
			errs = append(errs, fmt.Errorf("process %d survived SIGKILL", p.PID))
		}
	}
	return errors.Join(errs...)
}

// running is one process of the machine, as a scan of /proc found it.
type running struct {
	process
	stat
	args []string
}

// scan lists the living processes.
func scan() []running {
	entries, _ := os.ReadDir("/proc")
	var found []running
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		s, err := readStat(pid)
		if err != nil || s.state == 'Z' || s.state == 'X' {
			continue
		}
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		found = append(found, running{process: process{PID: pid, Start: s.start}, stat: s, args: args})
	}
	return found
}

// mentions tells whether an argument names a path inside the directory. The directory's name is random: only its own processes
// can.
func (r running) mentions(dir string) bool {
	for _, a := range r.args {
		if strings.Contains(a+"/", dir+"/") {
			return true
		}
	}
	return false
}

// processes finds everything that belongs to the engine but dockerd itself: its containerd, the shims, what runs in the
// containers (children of a shim), and the proxies of published ports.
func (e *Engine) processes() []process {
	all := scan()
	shims := map[int]bool{}
	var found []process
	for _, r := range all {
		if r.PID == e.proc.PID || r.PID == os.Getpid() || !strings.HasPrefix(r.command, "containerd") && r.command != "docker-proxy" {
			continue
		}
		if r.mentions(e.execRoot()) {
			shims[r.PID] = strings.HasPrefix(r.command, "containerd-shim")
			found = append(found, r.process)
		}
		if r.command == "docker-proxy" && strings.Contains(strings.Join(r.args, " ")+" ", "-container-ip "+e.rec.Subnet+".") {
			found = append(found, r.process)
		}
	}
	for _, r := range all {
		if shims[r.parent] {
			found = append(found, r.process)
		}
	}
	return found
}

// bootID changes with every start of the machine; pids and start times are unique only within one.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return strings.TrimSpace(string(b))
}

package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// killLimit is how long processes may take to end after SIGKILL.
const killLimit = 5 * time.Second

// Stat is what we read of /proc/PID/stat.
type Stat struct {
	Command string
	State   byte
	Parent  int
	Start   uint64
}

// ReadStat reads a stat file of /proc.
func ReadStat(file string) (Stat, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Stat{}, err
	}
	// "PID (COMMAND) STATE PPID …"; the command may hold blanks and parentheses.
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return Stat{}, fmt.Errorf("%s: no command", file)
	}
	fields := strings.Fields(string(b[end+1:])) // begins with field 3
	if len(fields) < 20 {
		return Stat{}, fmt.Errorf("%s: %d fields", file, len(fields)+2)
	}
	parent, err1 := strconv.Atoi(fields[1])
	start, err2 := strconv.ParseUint(fields[19], 10, 64)
	return Stat{Command: string(b[open+1 : end]), State: fields[0][0], Parent: parent, Start: start}, errors.Join(err1, err2)
}

func (s Stat) dead() bool { return s.State == 'Z' || s.State == 'X' }

// Identify names the process that has this pid now.
func Identify(pid int) (Process, error) {
	s, err := ReadStat(fmt.Sprintf("/proc/%d/stat", pid))
	return Process{PID: pid, Start: s.Start}, err
}

// Alive tells whether exactly this process runs; a zombie does not. One that is our own child and has ended is collected.
func (p Process) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	s, err := ReadStat(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil || s.Start != p.Start {
		return false
	}
	if s.dead() && s.Parent == os.Getpid() {
		_, _ = unix.Wait4(p.PID, nil, unix.WNOHANG, nil)
	}
	return !s.dead()
}

// Signal sends a signal to exactly this process. One that has ended is no error.
func (p Process) Signal(sig syscall.Signal) error {
	if p.PID <= 0 {
		return nil
	}
	handle, err := os.FindProcess(p.PID) // a pidfd: it stays with the process it was opened on
	if err != nil {
		return err
	}
	defer func() { _ = handle.Release() }()
	if !p.Alive() { // compared after the handle was opened: now both mean the same process
		return nil
	}
	if err := handle.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %v to process %d: %w", sig, p.PID, err)
	}
	return nil
}

// Wait waits until the process has ended or the context is done, and tells whether it has. It works for any process, not only
// for children.
func (p Process) Wait(ctx context.Context) bool {
	if !p.Alive() {
		return true
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return p.poll(ctx)
	}
	defer func() { _ = unix.Close(fd) }()
	var wake [2]int
	if err := unix.Pipe2(wake[:], unix.O_CLOEXEC); err != nil {
		return p.poll(ctx)
	}
	defer func() { _ = unix.Close(wake[0]) }()
	stop := context.AfterFunc(ctx, func() { _ = unix.Close(wake[1]) })
	defer func() {
		if stop() {
			_ = unix.Close(wake[1])
		}
	}()
	for p.Alive() && ctx.Err() == nil {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake[0]), Events: unix.POLLIN}}, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return p.poll(ctx)
		}
	}
	return !p.Alive()
}

// poll is Wait where the kernel (before 5.3) has no pidfd.
func (p Process) poll(ctx context.Context) bool {
	for p.Alive() {
		select {
		case <-ctx.Done():
			return !p.Alive()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return true
}

// Kill sends SIGKILL to the processes and waits for their end, five seconds at most.
func Kill(processes []Process) error {
	var errs []error
	for _, p := range processes {
		errs = append(errs, p.Signal(syscall.SIGKILL))
	}
	ctx, cancel := context.WithTimeout(context.Background(), killLimit)
	defer cancel()
	for _, p := range processes {
		if !p.Wait(ctx) {
			errs = append(errs, fmt.Errorf("process %d survived SIGKILL", p.PID))
		}
	}
	return errors.Join(errs...)
}

// Running is one process of the machine, as a scan of /proc found it.
type Running struct {
	Process
	Stat
	Args []string
}

// Scan lists the living processes.
func Scan() []Running {
	entries, _ := os.ReadDir("/proc")
	var found []Running
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		s, err := ReadStat(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil || s.dead() {
			continue
		}
		found = append(found, Running{Process: Process{PID: pid, Start: s.Start}, Stat: s, Args: Arguments(pid)})
	}
	return found
}

// Arguments is the command line of the process that has this pid now.
func Arguments(pid int) []string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
}

// Mentions tells whether an argument of the process names a path inside the directory, or the directory.
func (r Running) Mentions(dir string) bool {
	for _, a := range r.Args {
		if strings.Contains(a+"/", dir+"/") {
			return true
		}
	}
	return false
}

// owned tells whether the pid belongs to a living process with an argument inside the directory.
func owned(pid int, dir string) (Process, bool) {
	p, err := Identify(pid)
	if err != nil || !p.Alive() {
		return p, false
	}
	return p, Running{Args: Arguments(pid)}.Mentions(dir)
}

// RemoveStalePIDFiles removes pid files that a killed engine in dir left, when the process they name is no longer one of this engine.
// dockerd compares only the pid: until init has collected a dead containerd, it waits 15 s for it and gives up; and it refuses to
// start while its own pid file names a living process, be it a stranger. The context limits the wait for one that is ours and ends.
func RemoveStalePIDFiles(ctx context.Context, dir string, files ...string) error {
	for _, f := range files {
		content, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(content))); err == nil {
			if p, ours := owned(pid, dir); ours && !p.Wait(ctx) {
				return fmt.Errorf("process %d of %s still runs", pid, f)
			}
		}
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// BootID changes with every start of the machine; pids and start times are unique only within one.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// DockerdMajor is the major version of the dockerd at hand.
func DockerdMajor(ctx context.Context) (int, error) {
	path, err := LookPath("dockerd")
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output() // "Docker version 20.10.24+dfsg1, build 5d6db84"
	if err != nil {
		return 0, fmt.Errorf("dockerd --version: %w", err)
	}
	_, version, _ := strings.Cut(string(out), "version ")
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		return 0, fmt.Errorf("dockerd --version: unexpected %q", strings.TrimSpace(string(out)))
	}
	return n, nil
}

// Missing tells why no private dockerd can run here; nil when one can.
func Missing() error {
	if os.Geteuid() != 0 {
		return errors.New("a private dockerd needs root")
	}
	for _, need := range []struct{ command, pkg string }{
		{"dockerd", "docker.io"}, {"containerd", "containerd"}, {"runc", "runc"}, {"ip", "iproute2"}, {"iptables", "iptables"},
	} {
		if _, err := LookPath(need.command); err != nil {
			return fmt.Errorf("there is no %s (Debian: apt-get install %s)", need.command, need.pkg)
		}
	}
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), "\nCapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	capabilities, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil {
		return fmt.Errorf("read our capabilities: %w", err)
	}
	if capabilities&(1<<unix.CAP_NET_ADMIN) == 0 || capabilities&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return errors.New("a private dockerd needs the capabilities NET_ADMIN and SYS_ADMIN (a privileged container has them)")
	}
	return nil
}

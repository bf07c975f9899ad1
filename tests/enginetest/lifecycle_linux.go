package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The capabilities a dockerd cannot do without.
const (
	capNetAdmin = 12
	capSysAdmin = 21
)

// Available tells why no private dockerd can be started here; nil when one can.
func Available() error {
	if os.Geteuid() != 0 {
		return errors.New("a private dockerd needs root")
	}
	for _, need := range []struct{ command, pkg string }{
		{"dockerd", "docker.io"}, {"containerd", "containerd"}, {"runc", "runc"}, {"docker", "docker.io"},
		{"ip", "iproute2"}, {"iptables", "iptables"},
	} {
		if _, err := lookPath(need.command); err != nil {
			return fmt.Errorf("there is no %s (Debian: apt-get install %s)", need.command, need.pkg)
		}
	}
	if _, err := staticBusybox(); err != nil {
		return err
	}
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), "\nCapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	capabilities, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil {
		return fmt.Errorf("read our capabilities: %w", err)
	}
	if capabilities&(1<<capNetAdmin) == 0 || capabilities&(1<<capSysAdmin) == 0 {
		return errors.New("a private dockerd needs the capabilities NET_ADMIN and SYS_ADMIN (a privileged container has them)")
	}
	return nil
}

// lookPath finds a command also in the folders that hold administrators' tools and may be missing from PATH.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// Start starts a private engine and waits until it answers. The caller must Close it. Engines of dead test processes are removed
// first.
func Start(ctx context.Context, options Options) (*Engine, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	if options.StartTimeout == 0 {
		options.StartTimeout = 30 * time.Second
	}
	e := &Engine{opts: options}
	if err := e.prepare(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	e.mu.Lock()
	err := e.launch(ctx)
	e.mu.Unlock()
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// base is the directory of all private engines of this user, short enough for socket paths.
func base() string {
	parent := os.TempDir()
	if len(parent) > 40 {
		parent = "/tmp"
	}
	return filepath.Join(parent, "rdd-engines-"+strconv.Itoa(os.Geteuid()))
}

// lockBase makes and locks the directory of all engines: one process at a time picks names and subnets, or removes what a dead one
// left.
func lockBase() (unlock func(), err error) {
	for {
		if err := os.Mkdir(base(), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		dir, err := os.Open(base())
		if errors.Is(err, os.ErrNotExist) {
			continue // removed by the last engine's Close
		}
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
			dir.Close()
			return nil, fmt.Errorf("lock %s: %w", base(), err)
		}
		locked, err := dir.Stat()
		if err != nil {
			dir.Close()
			return nil, err
		}
		if owner := locked.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
			dir.Close()
			return nil, fmt.Errorf("%s belongs to the user %d", base(), owner)
		}
		if now, err := os.Lstat(base()); err == nil && os.SameFile(locked, now) {
			return func() {
				_ = os.Remove(base()) // only when it is empty
				dir.Close()
			}, nil
		}
		dir.Close()
	}
}

// prepare makes all that one dockerd needs: directory, record, bridge, configuration file.
func (e *Engine) prepare() error {
	unlock, err := lockBase()
	if err != nil {
		return err
	}
	defer unlock()
	_ = sweep() // what a dead test left does not stand in our way; Sweep reports the errors
	id := randomName(3)
	dir := filepath.Join(base(), id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	e.dir = dir
	owner, err := identify(os.Getpid())
	if err != nil {
		return err
	}
	subnet, err := freeSubnet()
	if err != nil {
		return err
	}
	e.rec = record{
		Boot: bootID(), Owner: owner, Bridge: "rddt" + id, Subnet: subnet, Cgroup: "/rddt" + id,
		IPTables: e.opts.IPTables,
	}
	if e.opts.IPTables && !hasSharedChains() {
		if err := os.WriteFile(chainsFile(), nil, 0o600); err != nil {
			return err
		}
	}
	if err := e.save(); err != nil {
		return err
	}
	if err := addBridge(e.rec.Bridge, e.rec.Subnet); err != nil {
		return err
	}
	config := map[string]any{
		"data-root":    e.dataRoot(),
		"exec-root":    e.execRoot(),
		"pidfile":      e.pidFile(),
		"hosts":        []string{e.Host()},
		"bridge":       e.rec.Bridge,
		"live-restore": e.opts.LiveRestore,
		"iptables":     e.opts.IPTables,
		"ip-masq":      e.opts.IPTables,
		// Otherwise dockerd turns forwarding on for the whole host, and makes DROP the policy of its FORWARD chain.
		"ip-forward":    false,
		"cgroup-parent": e.rec.Cgroup,
		"exec-opts":     []string{"native.cgroupdriver=cgroupfs"},
	}
	if hasDeprecatedKey() {
		// Up to version 22 the engine's id is the fingerprint of this key, by default in /etc/docker: one id for all engines of a host.
		config["deprecated-key-path"] = filepath.Join(e.dir, "key.json")
	}
	maps.Copy(config, e.opts.Config)
	content, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(e.configFile(), content, 0o600)
}

// hasDeprecatedKey tells whether dockerd knows the option; a newer one refuses to start with it.
func hasDeprecatedKey() bool {
	path, err := lookPath("dockerd")
	if err != nil {
		return false
	}
	out, _ := exec.Command(path, "--version").Output() // "Docker version 20.10.24+dfsg1, build 5d6db84"
	_, version, _ := strings.Cut(string(out), "version ")
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	return err == nil && n < 23
}

func (e *Engine) save() error {
	content, err := json.Marshal(e.rec)
	if err != nil {
		return err
	}
	// Written aside and renamed: another process that sweeps must not read half a record.
	if err := os.WriteFile(e.recordFile()+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(e.recordFile()+".new", e.recordFile())
}

// launch starts dockerd in a session of its own and waits until it answers. The caller holds e.mu.
func (e *Engine) launch(ctx context.Context) error {
	if err := e.removeStalePIDFiles(ctx); err != nil {
		return err
	}
	path, err := lookPath("dockerd")
	if err != nil {
		return err
	}
	log, err := os.OpenFile(e.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	environment := append(environmentWithoutDocker(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin:/usr/bin:/bin")
	e.process, err = os.StartProcess(path, []string{"dockerd", "--config-file", e.configFile()}, &os.ProcAttr{
		Dir: "/", Env: environment, Files: []*os.File{null, log, log}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start dockerd: %w", err)
	}
	if e.proc, err = identify(e.process.Pid); err != nil {
		return err
	}
	e.frozen = false
	e.rec.Daemon = e.proc
	if err := e.save(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, e.opts.StartTimeout)
	defer cancel()
	for e.Ping(ctx) != nil {
		if !e.proc.alive() {
			e.reap()
			return fmt.Errorf("dockerd ended while it started; the end of its log:\n%s", tail(e.logWithoutNoise(), 20))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("dockerd does not answer: %w; the end of its log:\n%s", ctx.Err(), tail(e.logWithoutNoise(), 20))
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// reap collects the exit status of a dockerd that has ended.
func (e *Engine) reap() {
	if e.process != nil && !e.proc.alive() {
		_, _ = e.process.Wait()
		e.process = nil
	}
}

// removeStalePIDFiles removes the pid files that a killed dockerd left, when the process they name is no longer one of this
// engine. dockerd compares only the pid: until init has collected a dead containerd, it waits 15 s for it and gives up.
func (e *Engine) removeStalePIDFiles(ctx context.Context) error {
	for _, f := range []string{filepath.Join(e.execRoot(), "containerd", "containerd.pid"), e.pidFile()} {
		content, err := os.ReadFile(f)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(content))); err == nil {
			if p, ours := e.ownProcess(pid); ours && !p.waitEnd(ctx) {
				return fmt.Errorf("process %d of %s still runs", pid, f)
			}
		}
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// ownProcess tells whether the pid belongs to a living process of this engine.
func (e *Engine) ownProcess(pid int) (process, bool) {
	p, err := identify(pid)
	if err != nil || !p.alive() {
		return p, false
	}
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return p, running{args: strings.Split(string(line), "\x00")}.mentions(e.dir)
}

// Kill ends dockerd with SIGKILL and returns when it and its containerd are gone. Containers live on; [Engine.Restart] takes them
// back with live-restore, and ends them without.
func (e *Engine) Kill() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.end(syscall.SIGKILL, 5*time.Second)
}

// Stop ends dockerd with SIGTERM and returns when it and its containerd are gone. Without live-restore it stops the containers
// first, ten seconds for one that ignores its signal.
func (e *Engine) Stop() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.end(syscall.SIGTERM, 30*time.Second)
}

// end sends one signal and waits for the end of dockerd and of its containerd. The caller holds e.mu.
func (e *Engine) end(sig syscall.Signal, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := errors.Join(e.proc.signal(sig), e.proc.signal(syscall.SIGCONT)); err != nil {
		return err
	}
	if !e.proc.waitEnd(ctx) {
		return fmt.Errorf("dockerd (process %d) still runs %v after signal %v", e.proc.PID, limit, sig)
	}
	e.frozen = false
	e.reap()
	for _, r := range scan() { // containerd has asked the kernel to be killed with dockerd
		if r.command == "containerd" && r.mentions(e.execRoot()) && !r.waitEnd(ctx) {
			return fmt.Errorf("containerd (process %d) outlived dockerd", r.PID)
		}
	}
	return nil
}

// Freeze stops dockerd with SIGSTOP and returns when it stands still: its socket still takes connections, and nothing answers.
func (e *Engine) Freeze() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.proc.alive() {
		return errors.New("there is no dockerd to freeze")
	}
	e.frozen = true
	if err := e.proc.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for deadline := time.Now().Add(5 * time.Second); !e.proc.stopped(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("dockerd (process %d) still runs after SIGSTOP", e.proc.PID)
		}
	}
	return nil
}

// Thaw ends a [Engine.Freeze].
func (e *Engine) Thaw() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.frozen {
		return nil
	}
	if err := e.proc.signal(syscall.SIGCONT); err != nil {
		return err
	}
	e.frozen = false
	return nil
}

// Restart starts dockerd again on the same directories and waits until it answers. One that still runs is stopped first.
func (e *Engine) Restart(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errors.New("the engine is closed")
	}
	if e.proc.alive() {
		if err := e.end(syscall.SIGTERM, 30*time.Second); err != nil {
			return err
		}
	}
	e.reap()
	return e.launch(ctx)
}

// Close ends the engine and removes all that it was: containers, processes, mounts, bridges, packet filter rules, control groups,
// files. A second call does nothing.
func (e *Engine) Close() error {
	if e.dir == "" {
		return nil
	}
	err := e.remove()
	unlock, lockErr := lockBase()
	if lockErr != nil {
		return errors.Join(err, lockErr)
	}
	defer unlock()
	if e.rec.IPTables {
		err = errors.Join(err, removeSharedChains())
	}
	return err
}

// remove is Close but for what the engines share.
func (e *Engine) remove() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	var errs []error
	if e.proc.alive() {
		_ = e.proc.signal(syscall.SIGCONT)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		// Best effort: a broken engine's containers are ended below.
		_ = e.removeContainers(ctx)
		_ = e.removeNetworks(ctx)
		cancel()
		if err := e.end(syscall.SIGTERM, 5*time.Second); err != nil {
			errs = append(errs, e.end(syscall.SIGKILL, 5*time.Second))
		}
	}
	e.reap()
	bridges := append(e.networkBridges(), e.rec.Bridge)
	sockets := e.shimSockets()
	errs = append(errs, kill(e.processes()))
	errs = append(errs, unmount(e.dir))
	for _, s := range sockets {
		_ = os.Remove(s)
	}
	errs = append(errs, removeCgroups(e.rec.Cgroup))
	if e.rec.Bridge != "" {
		errs = append(errs, removeFilterRules(bridges, e.rec.Subnet))
		for _, b := range bridges {
			errs = append(errs, removeBridge(b))
		}
	}
	if len(mounts(e.dir)) == 0 { // never into something mounted there
		errs = append(errs, os.RemoveAll(e.dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the engine in %s: %w", e.dir, err)
	}
	return nil
}

// Sweep removes the engines whose test process has died without closing them.
func Sweep() error {
	if _, err := os.Stat(base()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	unlock, err := lockBase()
	if err != nil {
		return err
	}
	defer unlock()
	return sweep()
}

// sweep is Sweep for a caller that holds the lock of the base directory.
func sweep() error {
	entries, err := os.ReadDir(base())
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		e := &Engine{dir: filepath.Join(base(), entry.Name())}
		content, err := os.ReadFile(e.recordFile())
		if errors.Is(err, os.ErrNotExist) {
			_ = os.Remove(e.recordFile() + ".new") // its maker died before it had written the record, which is the first file
			_ = os.Remove(e.dir)
			continue
		}
		if err == nil {
			err = json.Unmarshal(content, &e.rec)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.recordFile(), err))
			continue
		}
		sameBoot := e.rec.Boot == bootID()
		if sameBoot && e.rec.Owner.alive() {
			continue
		}
		if sameBoot {
			e.proc = e.rec.Daemon
		}
		errs = append(errs, e.remove())
		if e.rec.IPTables {
			errs = append(errs, removeSharedChains())
		}
	}
	return errors.Join(errs...)
}

package enginetest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rdd-desktop/rdd/vmdriver/native/host"
)

// Available tells why no private dockerd can be started here; nil when one can.
func Available() error {
	if err := host.Missing(); err != nil {
		return err
	}
	if _, err := host.LookPath("docker"); err != nil {
		return errors.New("there is no docker (Debian: apt-get install docker.io)")
	}
	_, err := staticBusybox()
	return err
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

// lockBase makes and locks the directory of all engines: one process at a time picks names, or removes what a dead one left.
func lockBase() (unlock func(), err error) { return host.LockDir(base()) }

// prepare makes all that one dockerd needs: directory, record, bridge, configuration file.
func (e *Engine) prepare() error {
	unlock, err := lockBase()
	if err != nil {
		return err
	}
	defer unlock()
	_ = sweep() // what a dead test left does not stand in our way; Sweep reports the errors
	id := strings.ToLower(rand.Text()[:6])
	dir := filepath.Join(base(), id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	e.dir, e.Client = dir, *At(filepath.Join(dir, "d.sock"), dir)
	owner, err := host.Identify(os.Getpid())
	if err != nil {
		return err
	}
	e.rec = record{Boot: host.BootID(), Owner: owner, Bridge: "rddt" + id, Cgroup: "/rddt" + id}
	if err := e.save(); err != nil {
		return err
	}
	e.rec.Subnet, err = host.Take(host.Claim{Dir: e.dir, Bridge: e.rec.Bridge})
	if err != nil {
		return err
	}
	config := map[string]any{
		"data-root":    e.dataRoot(),
		"exec-root":    e.execRoot(),
		"pidfile":      e.pidFile(),
		"hosts":        []string{e.Host()},
		"bridge":       e.rec.Bridge,
		"live-restore": e.opts.LiveRestore,
		"iptables":     false,
		"ip-masq":      false,
		// Otherwise dockerd turns forwarding on for the whole host, and makes DROP the policy of its FORWARD chain.
		"ip-forward":            false,
		"default-address-pools": []map[string]any{{"base": e.rec.Subnet.String(), "size": 24}},
		"cgroup-parent":         e.rec.Cgroup,
		"exec-opts":             []string{"native.cgroupdriver=cgroupfs"},
	}
	if major, err := host.DockerdMajor(context.Background()); err == nil && major < 23 {
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
	if err := host.RemoveStalePIDFiles(ctx, e.dir, filepath.Join(e.execRoot(), "containerd", "containerd.pid"), e.pidFile()); err != nil {
		return err
	}
	path, err := host.LookPath("dockerd")
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
	environment := append(environmentWithoutDocker(), "PATH="+host.Path())
	e.process, err = os.StartProcess(path, []string{"dockerd", "--config-file", e.configFile()}, &os.ProcAttr{
		Dir: "/", Env: environment, Files: []*os.File{null, log, log}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start dockerd: %w", err)
	}
	if e.proc, err = host.Identify(e.process.Pid); err != nil {
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
		if !e.proc.Alive() {
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
	if e.process != nil && !e.proc.Alive() {
		_, _ = e.process.Wait()
		e.process = nil
	}
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
	if err := errors.Join(e.proc.Signal(sig), e.proc.Signal(syscall.SIGCONT)); err != nil {
		return err
	}
	if !e.proc.Wait(ctx) {
		return fmt.Errorf("dockerd (process %d) still runs %v after signal %v", e.proc.PID, limit, sig)
	}
	e.frozen = false
	e.reap()
	for _, p := range e.onHost().Helpers().Containerd {
		if !p.Wait(ctx) {
			return fmt.Errorf("containerd (process %d) outlived dockerd", p.PID)
		}
	}
	return nil
}

// Freeze stops dockerd with SIGSTOP and returns when it stands still: its socket still takes connections, and nothing answers.
func (e *Engine) Freeze() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.proc.Alive() {
		return errors.New("there is no dockerd to freeze")
	}
	e.frozen = true
	if err := e.proc.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for deadline := time.Now().Add(5 * time.Second); !stopped(e.proc); time.Sleep(time.Millisecond) {
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
	if err := e.proc.Signal(syscall.SIGCONT); err != nil {
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
	if e.proc.Alive() {
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
	unlock, err := lockBase()
	if err != nil {
		return errors.Join(e.remove(), err)
	}
	defer unlock()
	return e.remove()
}

// remove is Close for a caller that holds the lock of the base directory.
func (e *Engine) remove() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	var errs []error
	if e.proc.Alive() {
		_ = e.proc.Signal(syscall.SIGCONT)
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
	errs = append(errs, e.onHost().Remove())
	if len(host.Mounts(e.dir)) == 0 { // never into something mounted there
		errs = append(errs, os.RemoveAll(e.dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the engine in %s: %w", e.dir, err)
	}
	return nil
}

// onHost says where the engine's traces on the machine are.
func (e *Engine) onHost() host.Engine {
	return host.Engine{
		Dir: e.dir, DataRoot: e.dataRoot(), ExecRoot: e.execRoot(), Bridge: e.rec.Bridge, Subnet: e.rec.Subnet, Cgroup: e.rec.Cgroup,
	}
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
		sameBoot := e.rec.Boot == host.BootID()
		if sameBoot && e.rec.Owner.Alive() {
			continue
		}
		if sameBoot {
			e.proc = e.rec.Daemon
		}
		errs = append(errs, e.remove())
	}
	return errors.Join(errs...)
}

package native

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
	"github.com/rdd-desktop/rdd/vmdriver/native/host"
)

const (
	// startPause is how often a starting dockerd is asked whether it answers.
	startPause = 10 * time.Millisecond
	// staleLimit bounds the wait for a containerd that is about to end with its dockerd.
	staleLimit = 5 * time.Second
	// maxLog is the size at which dockerd's log begins anew, at a start; one old log is kept.
	maxLog = 16 << 20
)

// Create implements [vmdriver.Driver]: it makes the directories.
func (d *Driver) Create(_ context.Context, spec vmdriver.Spec) error {
	if spec.Backend != "" && spec.Backend != messages.EngineMoby {
		return messages.NewError(messages.CodeUnsupported, "create", "vm", messages.DriverNative, "this driver cannot run the backend "+spec.Backend)
	}
	if err := d.Available(); err != nil {
		return err
	}
	d.change.Lock()
	defer d.change.Unlock()
	d.step("make directories")
	for _, dir := range []string{d.c.Dir, d.c.RunDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return failed("create", err)
		}
	}
	r, err := d.load()
	if errors.Is(err, fs.ErrNotExist) {
		d.step("first record")
		err = d.save(r)
	}
	return failed("create", err)
}

// Start implements [vmdriver.Driver]: it returns when dockerd answers. One that runs is adopted, be it in the first steps of a stop;
// one in the last steps of a stop is ended first. Containers that outlived their dockerd are taken back.
func (d *Driver) Start(ctx context.Context, _ vmdriver.Spec) error {
	if err := d.Available(); err != nil {
		return err
	}
	d.change.Lock()
	defer d.change.Unlock()
	return failed("start", d.start(ctx))
}

func (d *Driver) start(ctx context.Context) error {
	r, err := d.loadOrNew()
	if err != nil {
		return err
	}
	if r.Stage == stageEnding {
		if err := d.stop(ctx, r, false); err != nil {
			return fmt.Errorf("finish the stop before: %w", err)
		}
		if r, err = d.load(); err != nil {
			return err
		}
	}
	p, alive := d.find(r)
	switch {
	case alive && r.Stage == stageLeaving:
		if err := d.liveRestore(ctx, r, p, true); err != nil {
			return err
		}
	case !alive:
		if p, err = d.launch(ctx, &r); err != nil {
			return err
		}
	}
	r.Stage, r.Daemon = stageUp, p
	d.step("record the process")
	if err := d.save(r); err != nil {
		return err
	}
	d.saw(p)
	return d.awaitAnswer(ctx, p)
}

// launch starts a dockerd in a session of its own; what it takes over from the one before it finds itself.
func (d *Driver) launch(ctx context.Context, r *record) (host.Process, error) {
	r.Stage = stageUp
	d.step("record the start")
	if err := d.save(*r); err != nil {
		return host.Process{}, err
	}
	d.step("claim bridge and subnet")
	subnet, err := host.Take(host.Claim{Dir: d.c.Dir, Bridge: d.c.mark(), Subnet: r.Subnet, Outside: true})
	if err != nil {
		return host.Process{}, fmt.Errorf("make the bridge %s: %w", d.c.mark(), err)
	}
	r.Subnet = subnet
	d.step("record the subnet")
	if err := d.save(*r); err != nil {
		return host.Process{}, err
	}
	d.step("write the configuration")
	if err := d.configure(ctx, subnet, true); err != nil {
		return host.Process{}, err
	}
	d.step("remove stale files")
	wait, cancel := context.WithTimeout(ctx, staleLimit)
	defer cancel()
	err = host.RemoveStalePIDFiles(wait, d.c.Dir, d.c.pidFile())
	if err == nil {
		err = host.RemoveStalePIDFiles(wait, d.c.execRoot(), filepath.Join(d.c.execRoot(), "containerd", "containerd.pid"))
	}
	if err != nil {
		return host.Process{}, fmt.Errorf("remove what the last dockerd left: %w", err)
	}
	d.step("start dockerd")
	return d.spawn()
}

// spawn starts the process: it gets no file of ours but its log.
func (d *Driver) spawn() (host.Process, error) {
	path, err := host.LookPath("dockerd")
	if err != nil {
		return host.Process{}, err
	}
	if info, err := os.Stat(d.c.file(logName)); err == nil && info.Size() > maxLog {
		_ = os.Rename(d.c.file(logName), d.c.file(logName)+".1")
	}
	log, err := os.OpenFile(d.c.file(logName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return host.Process{}, err
	}
	defer func() { _ = log.Close() }()
	if info, err := log.Stat(); err == nil {
		d.logBegan.Store(info.Size())
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return host.Process{}, err
	}
	defer func() { _ = null.Close() }()
	child, err := os.StartProcess(path, []string{"dockerd", "--config-file", d.c.file(configName)}, &os.ProcAttr{
		Dir: "/", Env: environment(), Files: []*os.File{null, log, log}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return host.Process{}, fmt.Errorf("start dockerd: %w", err)
	}
	// Never waited for: the next rdd may have to do without. Alive collects it when it has ended.
	defer func() { _ = child.Release() }()
	d.step("look at dockerd")
	return host.Identify(child.Pid)
}

// environment of dockerd: ours (proxies, for instance), without what would point it elsewhere.
func environment() []string {
	kept := []string{"PATH=" + host.Path()}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if name != "PATH" && name != "NOTIFY_SOCKET" && name != "LISTEN_FDS" && name != "LISTEN_PID" &&
			!strings.HasPrefix(name, "DOCKER_") && !strings.HasPrefix(name, "RDD_") {
			kept = append(kept, v)
		}
	}
	return kept
}

// configure writes dockerd's configuration file.
func (d *Driver) configure(ctx context.Context, subnet netip.Prefix, liveRestore bool) error {
	config := map[string]any{
		"data-root":     d.c.file(dataDir),
		"exec-root":     d.c.execRoot(),
		"pidfile":       d.c.pidFile(),
		"hosts":         []string{"unix://" + d.c.Socket},
		"bridge":        d.c.mark(),
		"live-restore":  liveRestore,
		"cgroup-parent": "/" + d.c.mark(),
		"exec-opts":     []string{"native.cgroupdriver=cgroupfs"},
		// Rules and forwarding are the driver's: dockerd flushes the chains of all others on the host when it starts, and makes
		// DROP the policy of FORWARD. Published ports are forwarded by docker-proxy.
		"iptables":   false,
		"ip-masq":    false,
		"ip-forward": false,
		// The networks of users too have addresses that the rules are about. The bridge has the first network.
		"default-address-pools": []map[string]any{{"base": subnet.String(), "size": 24}},
	}
	major, err := host.DockerdMajor(ctx)
	if err != nil {
		return err
	}
	if major < 23 {
		// The engine's id is the fingerprint of this key, by default in /etc/docker: one id for all engines of a host.
		config["deprecated-key-path"] = d.c.file(keyName)
	}
	content, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(d.c.file(configName), append(content, '\n'), 0o600)
}

// awaitAnswer waits until dockerd answers, as long as it lives.
func (d *Driver) awaitAnswer(ctx context.Context, p host.Process) error {
	for {
		err := d.call(ctx, "/_ping", nil)
		if err == nil {
			return nil
		}
		if !p.Alive() {
			return errors.New("dockerd ended while it started" + d.lastWords())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("dockerd does not answer (%w): %w", err, ctx.Err())
		case <-time.After(startPause):
		}
	}
}

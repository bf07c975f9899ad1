package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
	"github.com/rdd-desktop/rdd/vmdriver/native/host"
)

// maxSocketPath is the longest path a unix socket can have everywhere.
const maxSocketPath = 103

// systemContainerd is where a containerd of the system listens; dockerd takes it for its own when the socket is there.
const systemContainerd = "/run/containerd/containerd.sock"

// Driver is the driver. Its methods may be called from several goroutines; what changes the engine goes one after the other.
type Driver struct {
	c      Config
	change sync.Mutex
	// step is called before every effect of Start, Stop and Delete: tests end the process there.
	step func(name string)

	// logBegan is where in the log the words of the dockerd begin that this driver started.
	logBegan atomic.Int64

	mu sync.Mutex
	// daemon as last seen; moved is closed when it becomes another one.
	daemon host.Process
	moved  chan struct{}
}

// New makes the driver. It reads nothing yet.
func New(c Config) *Driver {
	if c.Grace == 0 {
		c.Grace = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Driver{c: c, step: func(string) {}, moved: make(chan struct{})}
}

// Available tells why the driver cannot run here; nil when it can. It changes nothing.
func (d *Driver) Available() error {
	if err := host.Missing(); err != nil {
		return refuse("start", err.Error())
	}
	if _, err := os.Lstat(systemContainerd); err == nil {
		return refuse("start", "a containerd of the system runs ("+systemContainerd+"), and a second dockerd would share it: stop it, or use driver=external")
	}
	longest := []string{d.c.Socket, d.c.execRoot() + "/containerd/containerd-debug.sock", d.c.execRoot() + "/libnetwork/123456789abc.sock"}
	slices.SortFunc(longest, func(a, b string) int { return len(b) - len(a) })
	if n := len(longest[0]); n > maxSocketPath {
		return refuse("start", fmt.Sprintf("the socket path %s has %d bytes, a system takes at most %d: use a shorter home directory",
			longest[0], n, maxSocketPath))
	}
	return nil
}

func (d *Driver) onHost(r record) host.Engine {
	return host.Engine{
		Dir: d.c.Dir, DataRoot: d.c.file(dataDir), ExecRoot: d.c.execRoot(),
		Bridge: d.c.mark(), Subnet: r.Subnet, Cgroup: "/" + d.c.mark(),
	}
}

// Inspect implements [vmdriver.Driver]: Running while dockerd runs and no stop of it has begun; Broken when it went down by itself,
// or something of it is left.
func (d *Driver) Inspect(context.Context, vmdriver.Spec) (vmdriver.Observation, error) {
	seen, err := d.observe()
	return seen, failed("inspect", err)
}

func (d *Driver) observe() (vmdriver.Observation, error) {
	r, err := d.load()
	if errors.Is(err, fs.ErrNotExist) {
		return vmdriver.Observation{Phase: vmdriver.Absent}, nil
	}
	if err != nil {
		return vmdriver.Observation{}, err
	}
	p, alive := d.find(r)
	d.saw(p)
	switch {
	case alive && r.Stage == stageUp:
		return vmdriver.Observation{Phase: vmdriver.Running}, nil
	case alive:
		return vmdriver.Observation{Phase: vmdriver.Broken, Message: "a stop of dockerd was interrupted"}, nil
	case r.Stage != stageDown:
		return vmdriver.Observation{Phase: vmdriver.Broken, Message: "dockerd has ended" + d.lastWords()}, nil
	}
	return vmdriver.Observation{Phase: vmdriver.Stopped}, nil
}

// find is the engine's dockerd, if one runs: the one on record, or one that was started and not yet recorded.
func (d *Driver) find(r record) (host.Process, bool) {
	if r.Daemon.Alive() && (host.Running{Args: host.Arguments(r.Daemon.PID)}).Mentions(d.c.Dir) {
		return r.Daemon, true
	}
	if r.Stage == stageDown {
		return host.Process{}, false
	}
	return d.onHost(r).Daemon()
}

// saw remembers the process that Watch is to watch.
func (d *Driver) saw(p host.Process) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p != d.daemon {
		d.daemon = p
		close(d.moved)
		d.moved = make(chan struct{})
	}
}

func (d *Driver) watched() (host.Process, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.daemon, d.moved
}

// Watch implements [vmdriver.Driver]: it sends when the dockerd that Start or Inspect last saw has ended, at once, and when there
// is another one.
func (d *Driver) Watch(ctx context.Context) (<-chan vmdriver.Observation, error) {
	out := make(chan vmdriver.Observation)
	go func() {
		defer close(out)
		for ctx.Err() == nil {
			p, moved := d.watched()
			if p.PID != 0 && p.Alive() {
				if !send(ctx, out, vmdriver.Observation{Phase: vmdriver.Running}) || !p.Wait(ctx) {
					return
				}
				if seen, err := d.observe(); err == nil && seen.Phase != vmdriver.Running && !send(ctx, out, seen) {
					return
				}
				continue
			}
			select {
			case <-moved:
			case <-ctx.Done():
			}
		}
	}()
	return out, nil
}

func send(ctx context.Context, to chan<- vmdriver.Observation, o vmdriver.Observation) bool {
	select {
	case to <- o:
		return true
	case <-ctx.Done():
		return false
	}
}

// Endpoint implements [vmdriver.Driver].
func (d *Driver) Endpoint(context.Context, vmdriver.Spec) (messages.Endpoint, error) {
	return messages.Endpoint{Host: "unix://" + d.c.Socket, Source: messages.DriverNative}, nil
}

// logPause is how often a followed log is looked at.
const logPause = 250 * time.Millisecond

// Logs implements [vmdriver.Driver]: what dockerd wrote since its log began.
func (d *Driver) Logs(ctx context.Context, w io.Writer, follow bool) error {
	f, err := os.Open(d.c.file(logName))
	if errors.Is(err, fs.ErrNotExist) {
		return messages.NewError(messages.CodeNotFound, "read the log of", "vm", messages.DriverNative, "it was never started")
	}
	if err != nil {
		return failed("read the log of", err)
	}
	defer func() { _ = f.Close() }()
	for {
		if _, err := io.Copy(w, f); err != nil || !follow {
			return failed("read the log of", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(logPause):
		}
	}
}

// lastWords are what the present dockerd's log says last that is no mere information, for an error; empty when there is nothing.
func (d *Driver) lastWords() string {
	f, err := os.Open(d.c.file(logName))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	const most = 16 << 10
	if info, err := f.Stat(); err == nil {
		_, _ = f.Seek(max(d.logBegan.Load(), info.Size()-most), io.SeekStart)
	}
	data, _ := io.ReadAll(f)
	last := ""
	for line := range strings.Lines(string(data)) {
		noise := strings.Contains(line, "level=info") || strings.Contains(line, "level=debug") || strings.Contains(line, "module=grpc")
		if line = strings.TrimSpace(line); line != "" && !noise {
			last = ": " + line
		}
	}
	return last
}

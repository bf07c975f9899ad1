// Package simulated is the VM driver whose engine is in memory (dockerio/sim), in the process that started it, and answers Docker's
// HTTP API on a socket. No container does anything: it is for demos, tests and measurements, and is never chosen by "auto".
//
// Its containers, images and volumes are kept in one file of its directory, written at a stop and shortly after each change: they are
// there again after the next Start, in another process too. When the process ends its containers have ended with exit code 255, as
// after a power failure, and those whose restart policy says so are started again.
package simulated

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// Config of the driver.
type Config struct {
	// Dir is where the engine keeps its objects. It names the engine: two drivers of a process with one Dir run one engine.
	Dir string
	// Socket is where the engine listens; at most 103 bytes.
	Socket string
	// Log. Nil = discard.
	Log *slog.Logger
}

const contentName = "engine.json"

// Driver is the driver. Its methods may be called from several goroutines.
type Driver struct {
	c Config
	*place
}

var _ vmdriver.Driver = (*Driver)(nil)

// place is one directory and the VM in it, if one runs.
type place struct {
	change sync.Mutex // held through Start, Stop and Delete

	mu    sync.Mutex
	vm    *vm
	moved chan struct{} // closed and replaced when vm changes
}

// places are those of this process, by directory: the engine lives in the process, not in the driver.
var places sync.Map

// New makes the driver. It reads nothing yet.
func New(c Config) *Driver {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	p, _ := places.LoadOrStore(c.Dir, &place{moved: make(chan struct{})})
	return &Driver{c, p.(*place)}
}

// Name implements [vmdriver.Driver].
func (*Driver) Name() string { return messages.DriverSimulated }

// Capabilities implements [vmdriver.Driver].
func (*Driver) Capabilities() vmdriver.Capabilities {
	return vmdriver.Capabilities{Backends: []string{messages.EngineMoby}, OwnsEngine: true}
}

func (p *place) look() (*vm, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.vm, p.moved
}

func (p *place) set(v *vm) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.vm = v
	close(p.moved)
	p.moved = make(chan struct{})
}

// Inspect implements [vmdriver.Driver]: Running while the engine runs in this process.
func (d *Driver) Inspect(context.Context, vmdriver.Spec) (vmdriver.Observation, error) {
	if v, _ := d.look(); v != nil {
		return v.observe(), nil
	}
	_, err := os.Stat(d.c.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return vmdriver.Observation{Phase: vmdriver.Absent}, nil
	case err != nil:
		return vmdriver.Observation{}, failed("inspect", err)
	}
	return vmdriver.Observation{Phase: vmdriver.Stopped}, nil
}

// Create implements [vmdriver.Driver]: it makes the directories of the engine and of its socket.
func (d *Driver) Create(_ context.Context, spec vmdriver.Spec) error {
	if spec.Backend != "" && spec.Backend != messages.EngineMoby {
		return messages.NewError(messages.CodeUnsupported, "create", "vm", d.Name(), "this driver cannot run the backend "+spec.Backend)
	}
	for _, dir := range []string{d.c.Dir, filepath.Dir(d.c.Socket)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return failed("create", err)
		}
	}
	return nil
}

// Start implements [vmdriver.Driver].
func (d *Driver) Start(ctx context.Context, _ vmdriver.Spec) error {
	d.change.Lock()
	defer d.change.Unlock()
	if err := ctx.Err(); err != nil {
		return failed("start", err)
	}
	if v, _ := d.look(); v != nil {
		if v.observe().Phase == vmdriver.Running {
			return nil
		}
		d.end(v, true)
	}
	v, err := d.boot(ctx)
	if err != nil {
		return failed("start", err)
	}
	d.set(v)
	return nil
}

// boot makes the engine of what is on disk and lets it listen.
func (d *Driver) boot(ctx context.Context) (*vm, error) {
	if err := removeDead(ctx, d.c.Socket); err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", d.c.Socket)
	if err != nil {
		return nil, err
	}
	engine, err := d.load()
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	engine.Boot()
	return run(engine, listener, d.save, d.c.Log), nil
}

// load makes the engine with what was saved.
func (d *Driver) load() (*sim.Engine, error) {
	sum := sha256.Sum256([]byte(d.c.Dir))
	engine := sim.New(sim.Options{Name: "simulated", Seed: binary.BigEndian.Uint64(sum[:])})
	engine.PublishCatalogue()
	content, err := os.Open(d.file())
	if errors.Is(err, fs.ErrNotExist) {
		return engine, nil
	}
	if err == nil {
		err = errors.Join(engine.Restore(content), content.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.file(), err)
	}
	return engine, nil
}

// removeDead removes the socket of a process that has ended; one that answers is somebody's.
func removeDead(ctx context.Context, socket string) error {
	if _, err := os.Lstat(socket); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if connection, err := (&net.Dialer{}).DialContext(ctx, "unix", socket); err == nil {
		_ = connection.Close()
		return messages.NewError(messages.CodeConflict, "start", "vm", messages.DriverSimulated, "another process listens at "+socket)
	}
	return os.Remove(socket)
}

// Stop implements [vmdriver.Driver]: containers are stopped and everything is saved; with force they end as in a power failure.
func (d *Driver) Stop(_ context.Context, force bool) error {
	d.change.Lock()
	defer d.change.Unlock()
	return failed("stop", d.stop(force))
}

func (d *Driver) stop(force bool) error {
	v, _ := d.look()
	if v == nil {
		return nil
	}
	return d.end(v, force)
}

func (d *Driver) end(v *vm, force bool) error {
	err := v.end(force)
	d.set(nil)
	if gone := os.Remove(d.c.Socket); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// Delete implements [vmdriver.Driver].
func (d *Driver) Delete(context.Context) error {
	d.change.Lock()
	defer d.change.Unlock()
	return failed("delete", errors.Join(d.stop(true), os.RemoveAll(d.c.Dir)))
}

func (d *Driver) file() string { return filepath.Join(d.c.Dir, contentName) }

// save writes the engine's objects, all or nothing.
func (d *Driver) save(engine *sim.Engine) error {
	file, err := os.CreateTemp(d.c.Dir, contentName+".*")
	if err != nil {
		return err
	}
	err = errors.Join(engine.Dump(file), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), d.file())
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

// Watch implements [vmdriver.Driver].
func (d *Driver) Watch(ctx context.Context) (<-chan vmdriver.Observation, error) {
	out := make(chan vmdriver.Observation)
	go func() {
		defer close(out)
		for told := vmdriver.Phase(""); ctx.Err() == nil; {
			v, moved := d.look()
			var ended <-chan struct{}
			seen := vmdriver.Observation{Phase: vmdriver.Stopped}
			if v != nil {
				ended, seen = v.ended, v.observe()
			}
			if seen.Phase != vmdriver.Running {
				ended = nil // seen already
			}
			if seen.Phase != told && (told != "" || seen.Phase == vmdriver.Running) {
				select {
				case out <- seen:
				case <-ctx.Done():
					return
				}
			}
			told = seen.Phase
			select {
			case <-moved:
			case <-ended:
			case <-ctx.Done():
			}
		}
	}()
	return out, nil
}

// Endpoint implements [vmdriver.Driver].
func (d *Driver) Endpoint(context.Context, vmdriver.Spec) (messages.Endpoint, error) {
	return messages.Endpoint{Host: "unix://" + d.c.Socket, Source: messages.DriverSimulated}, nil
}

// Logs implements [vmdriver.Driver]: there are none.
func (d *Driver) Logs(context.Context, io.Writer, bool) error {
	return messages.NewError(messages.CodeUnsupported, "read the log of", "vm", d.Name(), "there is none: the engine is simulated; docker events shows what it does")
}

// failed makes an error of ours: what one call could not do, the next one may.
func failed(verb string, err error) error {
	if e := (*messages.Error)(nil); err == nil || errors.As(err, &e) {
		return err
	}
	return messages.WrapError(messages.CodeUnavailable, verb, "vm", messages.DriverSimulated, err)
}

package virtual

import (
	"context"
	"sync"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// port is the engine as the house sees it. It can make a subscription begin late, and a watcher of the house that is wrong by design,
// for the suite to catch.
type port struct {
	dockerio.Dialer

	mu sync.Mutex
	// late is how long after a subscription its first event is read.
	late time.Duration

	// panicAfter is a call that is made, and panics before its answer comes, once.
	panicAfter string

	// hostClock: the watcher subscribes from the host's clock on, not from the engine's.
	hostClock bool
	// replays: the watcher lists in its first session only; of later ones it reads what the engine has of events since the last one.
	replays bool
	known   replayed
}

// replayed is what a watcher that does not list again believes to know.
type replayed struct {
	containers []dockerio.ContainerRow
	images     []dockerio.ImageRow
	volumes    []dockerio.Volume
	listed     bool
	last       dockerio.Time
}

func (p *port) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *port) faithful() {
	p.set(func() { p.late = 0 })
}

// Dial implements dockerio.Dialer.
func (p *port) Dial(ctx context.Context, at messages.Endpoint) (dockerio.Engine, error) {
	e, err := p.Dialer.Dial(ctx, at)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return &engine{Engine: e, port: p, again: p.replays && p.known.listed}, nil
}

type engine struct {
	dockerio.Engine
	port *port
	// again: it is not the first session of a watcher that lists only once.
	again bool
}

func (e *engine) Events(ctx context.Context, since dockerio.Time) (dockerio.Stream, error) {
	p := e.port
	p.mu.Lock()
	if p.hostClock {
		since = dockerio.EngineTime(time.Now())
	}
	if e.again && !p.known.last.IsZero() {
		since = p.known.last
	}
	p.mu.Unlock()
	s, err := e.Engine.Events(ctx, since)
	if err != nil {
		return nil, err
	}
	return &stream{Stream: s, port: p}, nil
}

// listed gives what the watcher of a later session believes; else it asks, and remembers.
func listed[T any](e *engine, known *[]T, ask func() ([]T, error)) ([]T, error) {
	if e.again {
		e.port.mu.Lock()
		defer e.port.mu.Unlock()
		return *known, nil
	}
	rows, err := ask()
	if err == nil {
		e.port.set(func() { *known, e.port.known.listed = rows, true })
	}
	return rows, err
}

func (e *engine) ListContainers(ctx context.Context) ([]dockerio.ContainerRow, error) {
	return listed(e, &e.port.known.containers, func() ([]dockerio.ContainerRow, error) { return e.Engine.ListContainers(ctx) })
}

func (e *engine) ListImages(ctx context.Context) ([]dockerio.ImageRow, error) {
	return listed(e, &e.port.known.images, func() ([]dockerio.ImageRow, error) { return e.Engine.ListImages(ctx) })
}

func (e *engine) ListVolumes(ctx context.Context) ([]dockerio.Volume, error) {
	return listed(e, &e.port.known.volumes, func() ([]dockerio.Volume, error) { return e.Engine.ListVolumes(ctx) })
}

// answered is where the answer to a call that changes something comes back.
func (p *port) answered(op string) {
	p.mu.Lock()
	hit := p.panicAfter == op
	if hit {
		p.panicAfter = ""
	}
	p.mu.Unlock()
	if hit {
		panic("injected: the answer of " + op)
	}
}

func (e *engine) RemoveContainer(ctx context.Context, id string) error {
	err := e.Engine.RemoveContainer(ctx, id)
	e.port.answered(sim.OpRemoveContainer)
	return err
}

func (e *engine) RemoveImage(ctx context.Context, ref string) error {
	err := e.Engine.RemoveImage(ctx, ref)
	e.port.answered(sim.OpRemoveImage)
	return err
}

func (e *engine) RemoveVolume(ctx context.Context, name string) error {
	err := e.Engine.RemoveVolume(ctx, name)
	e.port.answered(sim.OpRemoveVolume)
	return err
}

type stream struct {
	dockerio.Stream
	port *port
	read bool
}

// Next implements dockerio.Stream.
func (s *stream) Next() (dockerio.Event, error) {
	p := s.port
	if !s.read {
		s.read = true
		p.mu.Lock()
		late := p.late
		p.mu.Unlock()
		time.Sleep(late)
	}
	e, err := s.Stream.Next()
	if err != nil {
		return e, err
	}
	p.set(func() { p.known.last = e.Time })
	return e, nil
}

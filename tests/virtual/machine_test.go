package virtual

import (
	"context"
	"sync"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// machine is a driver whose VM starts, stops and crashes, the engine in memory with it.
type machine struct {
	Place

	mu      sync.Mutex
	phase   vmdriver.Phase
	watches []chan vmdriver.Observation
}

func newMachine(world *sim.Engine) *machine {
	world.Down()
	return &machine{Place: Place{world}, phase: vmdriver.Absent}
}

func (m *machine) Inspect(context.Context, vmdriver.Spec) (vmdriver.Observation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return vmdriver.Observation{Phase: m.phase}, nil
}

func (m *machine) Start(context.Context, vmdriver.Spec) error {
	m.turn(vmdriver.Running)
	m.World.Up()
	return nil
}

func (m *machine) Stop(context.Context, bool) error {
	m.crash()
	return nil
}

// crash ends the VM; who watches is told.
func (m *machine) crash() {
	m.World.Down()
	m.turn(vmdriver.Stopped)
}

func (m *machine) turn(phase vmdriver.Phase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.phase = phase
	for _, w := range m.watches {
		select {
		case w <- vmdriver.Observation{Phase: phase}:
		default: // nobody reads it any more
		}
	}
}

func (m *machine) Watch(context.Context) (<-chan vmdriver.Observation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := make(chan vmdriver.Observation, 100)
	m.watches = append(m.watches, w)
	return w, nil
}

// endWatches ends every Watch there is.
func (m *machine) endWatches() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.watches {
		close(w)
	}
	m.watches = nil
}

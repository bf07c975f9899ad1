// Package virtual runs the whole tree on the engine in memory, in virtual time: a day of faults in seconds. See docs/testing.md.
package virtual

import (
	"context"
	"io"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// Place is a driver whose VM is always there: the engine in memory.
type Place struct{ World *sim.Engine }

var _ vmdriver.Driver = Place{}

// Name implements vmdriver.Driver.
func (Place) Name() string { return "place" }

// Capabilities implements vmdriver.Driver.
func (Place) Capabilities() vmdriver.Capabilities {
	return vmdriver.Capabilities{Backends: []string{messages.EngineMoby}}
}

// Inspect implements vmdriver.Driver.
func (Place) Inspect(context.Context, vmdriver.Spec) (vmdriver.Observation, error) {
	return vmdriver.Observation{Phase: vmdriver.Running}, nil
}

// Create implements vmdriver.Driver.
func (Place) Create(context.Context, vmdriver.Spec) error { return nil }

// Start implements vmdriver.Driver.
func (Place) Start(context.Context, vmdriver.Spec) error { return nil }

// Stop implements vmdriver.Driver.
func (Place) Stop(context.Context, bool) error { return nil }

// Delete implements vmdriver.Driver.
func (Place) Delete(context.Context) error { return nil }

// Watch implements vmdriver.Driver.
func (Place) Watch(ctx context.Context) (<-chan vmdriver.Observation, error) {
	c := make(chan vmdriver.Observation)
	context.AfterFunc(ctx, func() { close(c) })
	return c, nil
}

// Endpoint implements vmdriver.Driver.
func (p Place) Endpoint(context.Context, vmdriver.Spec) (messages.Endpoint, error) {
	return p.World.Endpoint(), nil
}

// Logs implements vmdriver.Driver.
func (Place) Logs(context.Context, io.Writer, bool) error { return nil }

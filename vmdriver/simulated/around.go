package simulated

import (
	"context"
	"io"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// Around is a driver for a test that has made its engine already: the VM runs for ever, there is no socket and no file, and the engine
// is reached with its own Dialer. It works in virtual time.
func Around(engine *sim.Engine) vmdriver.Driver { return around{engine} }

type around struct{ engine *sim.Engine }

func (around) Name() string { return messages.DriverSimulated }

// Capabilities: the engine is the test's, and outlives rdd.
func (around) Capabilities() vmdriver.Capabilities {
	return vmdriver.Capabilities{Backends: []string{messages.EngineMoby}}
}

func (around) Inspect(context.Context, vmdriver.Spec) (vmdriver.Observation, error) {
	return vmdriver.Observation{Phase: vmdriver.Running}, nil
}

func (around) Create(context.Context, vmdriver.Spec) error { return nil }
func (around) Start(context.Context, vmdriver.Spec) error  { return nil }
func (around) Stop(context.Context, bool) error            { return nil }
func (around) Delete(context.Context) error                { return nil }

func (around) Watch(ctx context.Context) (<-chan vmdriver.Observation, error) {
	none := make(chan vmdriver.Observation)
	context.AfterFunc(ctx, func() { close(none) })
	return none, nil
}

func (a around) Endpoint(context.Context, vmdriver.Spec) (messages.Endpoint, error) {
	return a.engine.Endpoint(), nil
}

func (around) Logs(context.Context, io.Writer, bool) error {
	return messages.NewError(messages.CodeUnsupported, "read the log of", "vm", messages.DriverSimulated, "there is none: the engine is simulated")
}

//go:build !linux

package native

import (
	"context"
	"io"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// Driver is the driver; on this system it can do nothing.
type Driver struct{}

// New makes the driver.
func New(Config) *Driver { return &Driver{} }

func unsupported(verb string) error {
	return messages.NewError(messages.CodeUnsupported, verb, "vm", messages.DriverNative, "a private dockerd needs Linux")
}

// Available tells why the driver cannot run here.
func (*Driver) Available() error { return unsupported("start") }

// Inspect implements [vmdriver.Driver]: there is nothing.
func (*Driver) Inspect(context.Context, vmdriver.Spec) (vmdriver.Observation, error) {
	return vmdriver.Observation{Phase: vmdriver.Absent}, nil
}

// Create implements [vmdriver.Driver].
func (*Driver) Create(context.Context, vmdriver.Spec) error { return unsupported("create") }

// Start implements [vmdriver.Driver].
func (*Driver) Start(context.Context, vmdriver.Spec) error { return unsupported("start") }

// Stop implements [vmdriver.Driver]: nothing runs.
func (*Driver) Stop(context.Context, bool) error { return nil }

// Delete implements [vmdriver.Driver]: nothing is there.
func (*Driver) Delete(context.Context) error { return nil }

// Watch implements [vmdriver.Driver]: it sends nothing.
func (*Driver) Watch(ctx context.Context) (<-chan vmdriver.Observation, error) {
	none := make(chan vmdriver.Observation)
	context.AfterFunc(ctx, func() { close(none) })
	return none, nil
}

// Endpoint implements [vmdriver.Driver].
func (*Driver) Endpoint(context.Context, vmdriver.Spec) (messages.Endpoint, error) {
	return messages.Endpoint{}, unsupported("find the socket of")
}

// Logs implements [vmdriver.Driver].
func (*Driver) Logs(context.Context, io.Writer, bool) error { return unsupported("read the log of") }

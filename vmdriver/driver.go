// Package vmdriver is the port to the place a container engine lives in: a VM, a private dockerd, or something that is there
// already. Adapters are its subpackages; each passes one conformance suite.
//
// Every error is a messages.Error; only its class decides: Transient is retried with backoff, Permanent ends in
// StartFailed or StopFailed until the spec changes.
package vmdriver

import (
	"context"
	"io"

	"github.com/rdd-desktop/rdd/messages"
)

// Phase is what a driver sees of its VM.
type Phase string

// Phases of a VM.
const (
	// Absent: not created.
	Absent Phase = "Absent"
	// Stopped: created, not running.
	Stopped Phase = "Stopped"
	// Running: up; Endpoint answers where the engine listens (whether it answers is the watcher's question).
	Running Phase = "Running"
	// Broken: neither; Observation.Message says why.
	Broken Phase = "Broken"
)

// Observation is what an Inspect or a Watch saw.
type Observation struct {
	Phase   Phase
	Message string
}

// Capabilities are facts about a driver, as data.
type Capabilities struct {
	// Backends the driver can run, e.g. "moby".
	Backends []string
	// OwnsEngine: start and stop end in a start and stop of the engine. False for an engine that belongs to somebody else.
	OwnsEngine bool
	// Resizable: cpus, memory and disk of the spec have an effect.
	Resizable bool
}

// Spec is what a driver needs of App.spec.
type Spec struct {
	Backend string
	VM      messages.VirtualMachineSpec
}

// Driver runs one VM. The vm actor makes one call at a time, except that Watch and Logs run beside the others.
type Driver interface {
	Name() string
	Capabilities() Capabilities
	// Inspect tells what is; it changes nothing.
	Inspect(ctx context.Context, spec Spec) (Observation, error)
	// Create makes what Start needs. Created already = success.
	Create(ctx context.Context, spec Spec) error
	// Start returns when the VM runs. Running already = success: the VM is adopted, never rebooted.
	Start(ctx context.Context, spec Spec) error
	// Stop returns when the VM is down; force skips what is graceful. Down already = success.
	Stop(ctx context.Context, force bool) error
	// Delete removes everything Create and Start made. Absent already = success.
	Delete(ctx context.Context) error
	// Watch sends an observation whenever the phase changes, without being asked; it ends (and closes the channel) with ctx.
	// A driver that cannot notice changes sends none.
	Watch(ctx context.Context) (<-chan Observation, error)
	// Endpoint is where the engine listens while the VM runs.
	Endpoint(ctx context.Context, spec Spec) (messages.Endpoint, error)
	// Logs copies the VM's log to w, and goes on with follow until ctx ends.
	Logs(ctx context.Context, w io.Writer, follow bool) error
}

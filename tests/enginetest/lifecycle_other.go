//go:build !linux

package enginetest

import (
	"context"
	"errors"
)

var errNotLinux = errors.New("a private dockerd needs Linux")

// Available tells why no private dockerd can be started here; nil when one can.
func Available() error { return errNotLinux }

// Start starts a private engine and waits until it answers. The caller must Close it.
func Start(context.Context, Options) (*Engine, error) { return nil, errNotLinux }

// Kill ends dockerd with SIGKILL.
func (e *Engine) Kill() error { return errNotLinux }

// Stop ends dockerd with SIGTERM.
func (e *Engine) Stop() error { return errNotLinux }

// Freeze stops dockerd with SIGSTOP.
func (e *Engine) Freeze() error { return errNotLinux }

// Thaw ends a [Engine.Freeze].
func (e *Engine) Thaw() error { return errNotLinux }

// Restart starts dockerd again on the same directories.
func (e *Engine) Restart(context.Context) error { return errNotLinux }

// Close ends the engine and removes all that it was.
func (e *Engine) Close() error { return nil }

// Sweep removes the engines whose test process has died without closing them.
func Sweep() error { return nil }

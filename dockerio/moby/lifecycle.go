package moby

import (
	"context"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

var _ dockerio.Lifecycle = (*engine)(nil)

// StartContainer implements [dockerio.Lifecycle].
func (e *engine) StartContainer(ctx context.Context, id string) error {
	return change(ctx, e, "start", id, func(ctx context.Context) (client.ContainerStartResult, error) {
		return e.api.ContainerStart(ctx, id, client.ContainerStartOptions{})
	})
}

// StopContainer implements [dockerio.Lifecycle].
func (e *engine) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	return change(ctx, e, "stop", id, func(ctx context.Context) (client.ContainerStopResult, error) {
		return e.api.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: seconds(grace)})
	})
}

// RestartContainer implements [dockerio.Lifecycle].
func (e *engine) RestartContainer(ctx context.Context, id string, grace time.Duration) error {
	return change(ctx, e, "restart", id, func(ctx context.Context) (client.ContainerRestartResult, error) {
		return e.api.ContainerRestart(ctx, id, client.ContainerRestartOptions{Timeout: seconds(grace)})
	})
}

// KillContainer implements [dockerio.Lifecycle].
func (e *engine) KillContainer(ctx context.Context, id string) error {
	return change(ctx, e, "kill", id, func(ctx context.Context) (client.ContainerKillResult, error) {
		return e.api.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "KILL"})
	})
}

// PauseContainer implements [dockerio.Lifecycle].
func (e *engine) PauseContainer(ctx context.Context, id string) error {
	return change(ctx, e, "pause", id, func(ctx context.Context) (client.ContainerPauseResult, error) {
		return e.api.ContainerPause(ctx, id, client.ContainerPauseOptions{})
	})
}

// UnpauseContainer implements [dockerio.Lifecycle].
func (e *engine) UnpauseContainer(ctx context.Context, id string) error {
	err := change(ctx, e, "unpause", id, func(ctx context.Context) (client.ContainerUnpauseResult, error) {
		return e.api.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
	})
	if known := messages.AsError(err); known != nil && known.Code == messages.CodeUnavailable && strings.HasSuffix(known.Message, "is not paused") {
		// The engine calls it an internal error of its own; trying again would get the same answer for ever.
		return messages.NewError(messages.CodeConflict, known.Verb, known.Kind, known.Name, known.Message)
	}
	return err
}

// change makes a call that changes one container.
func change[T any](ctx context.Context, e *engine, verb, id string, f func(context.Context) (T, error)) error {
	w := what{verb, messages.KindContainer, id}
	if err := w.checkName(); err != nil {
		return err
	}
	_, err := call(ctx, e, w, f)
	return err
}

// seconds is the engine's unit of a grace; a part of one counts whole, for 0 means to kill at once.
func seconds(grace time.Duration) *int {
	n := int((grace + time.Second - 1) / time.Second)
	return &n
}

package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// Scheme of the addresses a simulated engine answers at; Dial takes any address.
const Scheme = "sim://"

// Version and API version the engine tells: its behaviour is this version's.
const (
	Version    = "20.10.24"
	APIVersion = "1.41"
	// MinAPIVersion is the oldest it takes.
	MinAPIVersion = "1.12"
)

// Endpoint is an address for the engine, for code that wants one; Dial does not look at it.
func (e *Engine) Endpoint() messages.Endpoint {
	return messages.Endpoint{Host: Scheme + e.options.Name, Source: "simulated"}
}

// Dialer makes clients of the engine, at whatever address.
func (e *Engine) Dialer() dockerio.Dialer { return dialer{e} }

// Clients is how many clients are dialled and not closed.
func (e *Engine) Clients() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.clients
}

type dialer struct{ engine *Engine }

func (d dialer) Dial(ctx context.Context, _ messages.Endpoint) (dockerio.Engine, error) {
	e := d.engine
	// A client connects at its first call: Dial works while the engine is down.
	e.mu.Lock()
	e.count(OpDial, "", false)
	hits := e.faults.hits(OpDial, "", "", false)
	e.mu.Unlock()
	if err := e.suffer(ctx, hits); err != nil {
		return nil, callError(OpDial, "", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.clients++
	return &client{engine: e}, nil
}

type client struct {
	engine *Engine
	closed sync.Once
}

// brokenOff is how streams end when the engine dies.
func brokenOff() error {
	err := fmt.Errorf("the stream broke off: %w", io.ErrUnexpectedEOF)
	return messages.WrapError(messages.CodeEngineUnreachable, "read", "events", "", err)
}

// words are verb and kind of each call's errors.
var words = map[string][2]string{
	OpDial:             {"connect", "engine"},
	OpInfo:             {"read info of", "engine"},
	OpPing:             {"ping", "engine"},
	OpEvents:           {"read", "events"},
	OpListContainers:   {"list", "containers"},
	OpInspectContainer: {"inspect", messages.KindContainer},
	OpRemoveContainer:  {"remove", messages.KindContainer},
	OpStartContainer:   {"start", messages.KindContainer},
	OpStopContainer:    {"stop", messages.KindContainer},
	OpRestartContainer: {"restart", messages.KindContainer},
	OpKillContainer:    {"kill", messages.KindContainer},
	OpPauseContainer:   {"pause", messages.KindContainer},
	OpUnpauseContainer: {"unpause", messages.KindContainer},
	OpListImages:       {"list", "images"},
	OpInspectImage:     {"inspect", messages.KindImage},
	OpRemoveImage:      {"remove", messages.KindImage},
	OpListVolumes:      {"list", "volumes"},
	OpInspectVolume:    {"inspect", messages.KindVolume},
	OpRemoveVolume:     {"remove", messages.KindVolume},
}

// callError makes every error of a call one of ours.
func callError(op, name string, err error) error {
	var ours *messages.Error
	if err == nil || errors.As(err, &ours) {
		return err
	}
	code := messages.CodeUnavailable
	switch {
	case errors.Is(err, ErrDown):
		code = messages.CodeEngineUnreachable
	case errors.Is(err, context.DeadlineExceeded):
		code = messages.CodeTimeout
	}
	w := words[op]
	return messages.WrapError(code, w[0], w[1], name, err)
}

// do is one call: it arrives, suffers its faults, and f answers it under the lock.
func do[T any](ctx context.Context, c *client, op, name string, mutating bool, f func(e *Engine) (T, error)) (answer T, err error) {
	e := c.engine
	var none T
	human, before := e.arrive(op, name, mutating)
	if err := ctx.Err(); err != nil {
		return none, callError(op, name, err)
	}
	if err := e.thawed(ctx); err != nil {
		return none, callError(op, name, err)
	}
	if err := e.suffer(ctx, before); err != nil {
		return none, callError(op, name, err)
	}
	var after []*rule
	for {
		if err := e.thawed(ctx); err != nil {
			return none, callError(op, name, err)
		}
		frozen := false
		err = e.change(func() error {
			if frozen = e.frozen; frozen {
				return nil // between the two looks
			}
			if e.down {
				return ErrDown
			}
			if floor := e.faults.floor; floor != "" && op != OpPing {
				refusal := TooOld(APIVersion, floor)
				return messages.WrapError(messages.CodeUnavailable, words[op][0], words[op][1], name, refusal)
			}
			after = e.faults.hits(op, name, human, true)
			var err error
			answer, err = f(e)
			return err
		})
		if !frozen {
			break
		}
	}
	if failed := e.suffer(ctx, after); failed != nil {
		return none, callError(op, name, failed)
	}
	if err != nil {
		return none, callError(op, name, err)
	}
	return answer, nil
}

// thawed waits while the engine is frozen; ErrDown if it is down.
func (e *Engine) thawed(ctx context.Context) error {
	for {
		e.mu.Lock()
		down, frozen, life := e.down, e.frozen, e.life
		e.mu.Unlock()
		switch {
		case down:
			return ErrDown
		case !frozen:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-life:
		}
	}
}

func (c *client) Info(ctx context.Context) (dockerio.Info, error) {
	return do(ctx, c, OpInfo, "", false, func(e *Engine) (dockerio.Info, error) {
		return e.info(), nil
	})
}

func (e *Engine) info() dockerio.Info {
	info := dockerio.Info{ID: e.id, Name: e.options.Name, Version: Version, APIVersion: APIVersion}
	if !e.faults.noClock {
		info.Now = dockerio.EngineTime(e.now())
	}
	return info
}

func (c *client) Ping(ctx context.Context) error {
	_, err := do(ctx, c, OpPing, "", false, func(*Engine) (struct{}, error) { return struct{}{}, nil })
	return err
}

func (c *client) Events(ctx context.Context, since dockerio.Time) (dockerio.Stream, error) {
	s, err := do(ctx, c, OpEvents, "", false, func(e *Engine) (*stream, error) { return e.subscribe(ctx, since), nil })
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (c *client) Close() error {
	c.closed.Do(func() {
		c.engine.mu.Lock()
		defer c.engine.mu.Unlock()
		c.engine.clients--
	})
	return nil
}

func (c *client) ListContainers(ctx context.Context) ([]dockerio.ContainerRow, error) {
	return do(ctx, c, OpListContainers, "", false, func(e *Engine) ([]dockerio.ContainerRow, error) {
		list := make([]dockerio.ContainerRow, 0, e.containers.len())
		for c := range e.containers.newest() {
			list = append(list, e.containerRow(c))
		}
		return list, nil
	})
}

func (c *client) InspectContainer(ctx context.Context, id string) (dockerio.Container, error) {
	return do(ctx, c, OpInspectContainer, id, false, func(e *Engine) (dockerio.Container, error) {
		found, err := e.findContainer("inspect", id)
		if err != nil {
			return dockerio.Container{}, err
		}
		return e.inspectContainer(found), nil
	})
}

func (c *client) RemoveContainer(ctx context.Context, id string) error {
	_, err := do(ctx, c, OpRemoveContainer, id, true, func(e *Engine) (struct{}, error) {
		return struct{}{}, e.removeContainer(id, true)
	})
	return err
}

// change is one call that changes a container.
func (c *client) change(ctx context.Context, op, id string, f func(e *Engine, c *container) error) error {
	_, err := do(ctx, c, op, id, true, func(e *Engine) (struct{}, error) {
		found, err := e.findContainer(words[op][0], id)
		if err != nil {
			return struct{}{}, err
		}
		err = f(e, found)
		var ours *messages.Error
		if errors.As(err, &ours) {
			named := *ours // people are told the name they used, and rdd its own
			named.Name = id
			err = &named
		}
		return struct{}{}, err
	})
	return err
}

func (c *client) StartContainer(ctx context.Context, id string) error {
	return c.change(ctx, OpStartContainer, id, (*Engine).userStarts)
}

// StopContainer takes no time, whatever the grace: a fault can give it some.
func (c *client) StopContainer(ctx context.Context, id string, _ time.Duration) error {
	return c.change(ctx, OpStopContainer, id, (*Engine).userStops)
}

func (c *client) RestartContainer(ctx context.Context, id string, _ time.Duration) error {
	return c.change(ctx, OpRestartContainer, id, (*Engine).userRestarts)
}

func (c *client) KillContainer(ctx context.Context, id string) error {
	return c.change(ctx, OpKillContainer, id, func(e *Engine, c *container) error { return e.userSignals(c, id, sigKill) })
}

func (c *client) PauseContainer(ctx context.Context, id string) error {
	return c.change(ctx, OpPauseContainer, id, (*Engine).userPauses)
}

func (c *client) UnpauseContainer(ctx context.Context, id string) error {
	return c.change(ctx, OpUnpauseContainer, id, func(e *Engine, c *container) error {
		if !c.paused {
			// The HTTP API calls it an internal error; the port does not.
			return conflict("unpause", c, "Container %s is not paused", c.id)
		}
		e.unpause(c)
		return nil
	})
}

func (c *client) ListImages(ctx context.Context) ([]dockerio.ImageRow, error) {
	return do(ctx, c, OpListImages, "", false, func(e *Engine) ([]dockerio.ImageRow, error) {
		list := make([]dockerio.ImageRow, 0, e.images.len())
		for i := range e.images.newest() {
			list = append(list, i.row())
		}
		return list, nil
	})
}

func (c *client) InspectImage(ctx context.Context, ref string) (dockerio.Image, error) {
	return do(ctx, c, OpInspectImage, ref, false, func(e *Engine) (dockerio.Image, error) {
		i, _, err := e.findImage("inspect", ref)
		if err != nil {
			return dockerio.Image{}, err
		}
		return i.inspect(), nil
	})
}

func (c *client) RemoveImage(ctx context.Context, ref string) error {
	_, err := do(ctx, c, OpRemoveImage, ref, true, func(e *Engine) (struct{}, error) {
		_, err := e.removeImage(ref, false)
		return struct{}{}, err
	})
	return err
}

func (c *client) ListVolumes(ctx context.Context) ([]dockerio.Volume, error) {
	return do(ctx, c, OpListVolumes, "", false, func(e *Engine) ([]dockerio.Volume, error) {
		list := make([]dockerio.Volume, 0, e.volumes.len())
		for v := range e.volumes.all() {
			list = append(list, v.inspect())
		}
		return list, nil
	})
}

func (c *client) InspectVolume(ctx context.Context, name string) (dockerio.Volume, error) {
	return do(ctx, c, OpInspectVolume, name, false, func(e *Engine) (dockerio.Volume, error) {
		if name == "" {
			return dockerio.Volume{}, messages.NewError(messages.CodeInvalid, "inspect", messages.KindVolume, "", "no name")
		}
		v := e.volumes.get(name)
		if v == nil {
			return dockerio.Volume{}, noSuchVolume("inspect", name)
		}
		return v.inspect(), nil
	})
}

func (c *client) RemoveVolume(ctx context.Context, name string) error {
	_, err := do(ctx, c, OpRemoveVolume, name, true, func(e *Engine) (struct{}, error) {
		return struct{}{}, e.removeVolume(name)
	})
	return err
}

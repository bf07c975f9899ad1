package sim

import (
	"slices"
	"strconv"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// Exit lets the container's process end by itself.
func (e *Engine) Exit(ref string, code int) error {
	return e.onContainer("exit", ref, func(c *container) error {
		if err := alive("exit", c); err != nil {
			return err
		}
		e.end(c, code)
		return nil
	})
}

// OOM lets the kernel kill the container for its use of memory.
func (e *Engine) OOM(ref string) error {
	return e.onContainer("oom", ref, func(c *container) error {
		if err := alive("oom", c); err != nil {
			return err
		}
		c.oom = true
		e.emitContainer(c, "oom", nil)
		e.end(c, 137)
		return nil
	})
}

// Stop is docker stop. It does nothing to a stopped container.
func (e *Engine) Stop(ref string) error {
	return e.onContainer("stop", ref, e.userStops)
}

func (e *Engine) userStops(c *container) error {
	if !c.running {
		return nil
	}
	c.stopping = true
	e.stop(c)
	e.autoRemove(c)
	return nil
}

func (e *Engine) stop(c *container) {
	if c.restarting {
		c.giveUp()
	} else {
		e.emitKill(c, c.stopSignal)
		e.unpause(c)
		code, heeded := c.program.Traps[c.stopSignal]
		if !heeded {
			e.emitKill(c, sigKill)
			code = 128 + sigKill
		}
		e.die(c, code)
	}
	e.emitContainer(c, "stop", nil)
}

// giveUp ends the wait of the restart policy; there is no process.
func (c *container) giveUp() {
	c.stopTimers()
	c.running, c.restarting = false, false
}

func (e *Engine) unpause(c *container) {
	if c.paused {
		c.paused = false
		e.emitContainer(c, "unpause", nil)
	}
}

// Kill is docker kill. A container that waits for its restart policy stays down, without an event.
func (e *Engine) Kill(ref string) error { return e.Signal(ref, sigKill) }

// Signal is docker kill with a signal. The process ends if it is SIGKILL, or one that it asked for.
func (e *Engine) Signal(ref string, signal int) error {
	return e.onContainer("kill", ref, func(c *container) error { return e.userSignals(c, ref, signal) })
}

func (e *Engine) userSignals(c *container, ref string, signal int) error {
	code, heeded := c.program.Traps[signal]
	if signal == sigKill {
		code, heeded = 128+sigKill, true
	}
	ends := signal == sigKill || signal == c.stopSignal
	switch {
	case c.restarting && ends:
		c.stopping = true
		c.giveUp()
		return nil
	case !c.running || c.restarting:
		return conflict("kill", c, "Cannot kill container: %s: Container %s is not running", ref, c.id)
	}
	c.stopping = c.stopping || ends
	e.emitKill(c, signal)
	if heeded {
		e.end(c, code)
	}
	return nil
}

func (e *Engine) emitKill(c *container, signal int) {
	e.emitContainer(c, "kill", map[string]string{"signal": strconv.Itoa(signal)})
}

// Restart is docker restart; it starts a stopped container.
func (e *Engine) Restart(ref string) error {
	return e.onContainer("restart", ref, e.userRestarts)
}

func (e *Engine) userRestarts(c *container) error {
	if c.dead {
		return conflict("restart", c, "container is marked for removal and cannot be started")
	}
	if c.running {
		c.stopping = true
		e.stop(c)
	}
	c.restarts, c.backoff, c.stopping = 0, 0, false
	if err := e.start(c); err != nil {
		return err
	}
	e.emitContainer(c, "restart", nil)
	return nil
}

// Pause is docker pause.
func (e *Engine) Pause(ref string) error {
	return e.onContainer("pause", ref, e.userPauses)
}

func (e *Engine) userPauses(c *container) error {
	if err := alive("pause", c); err != nil {
		return err
	}
	if c.paused {
		return conflict("pause", c, "Container %s is already paused", c.id)
	}
	c.paused = true
	if c.health {
		c.healthStatus = "unhealthy"
	}
	e.emitContainer(c, "pause", nil)
	return nil
}

// Unpause is docker unpause. Docker calls it an internal error when the container is not paused.
func (e *Engine) Unpause(ref string) error {
	return e.onContainer("unpause", ref, func(c *container) error {
		if !c.paused {
			return refuse(messages.CodeUnavailable, "unpause", messages.KindContainer, c.name, "Container %s is not paused", c.id)
		}
		e.unpause(c)
		return nil
	})
}

// Rename is docker rename.
func (e *Engine) Rename(ref, name string) error {
	return e.onContainer("rename", ref, func(c *container) error {
		switch {
		case name == "" || name == c.name:
			return refuse(messages.CodeInvalid, "rename", messages.KindContainer, c.name, "Renaming a container with the same name as its current name")
		case !validName.MatchString(name):
			return refuse(messages.CodeInvalid, "rename", messages.KindContainer, c.name,
				"Error when allocating new name: Invalid container name (/%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
		case e.names[name] != nil:
			return e.nameTaken("rename", name)
		}
		old := c.name
		delete(e.names, old)
		c.name = name
		e.names[name] = c
		e.emitContainer(c, "rename", map[string]string{"oldName": "/" + old})
		return nil
	})
}

// UpdatePolicy is docker update --restart.
func (e *Engine) UpdatePolicy(ref, policy string) error {
	return e.onContainer("update", ref, func(c *container) error {
		name, retries, err := parsePolicy("update", c.name, policy)
		if err != nil {
			return err
		}
		c.policy, c.retries = name, retries
		e.emitContainer(c, "update", nil)
		return nil
	})
}

// Rm is docker rm; volumes stay.
func (e *Engine) Rm(ref string, force bool) error {
	return e.change(func() error { return e.removeContainer(ref, force) })
}

func (e *Engine) removeContainer(ref string, force bool) error {
	c, err := e.findContainer("remove", ref)
	if err != nil {
		return err
	}
	switch {
	case c.running && !force && c.paused:
		return conflict("remove", c,
			"You cannot remove a paused container %s. Unpause and then stop the container before attempting removal or force remove", c.id)
	case c.running && !force:
		return conflict("remove", c,
			"You cannot remove a %s container %s. Stop the container before attempting removal or force remove", c.state(), c.id)
	}
	c.stopping = true
	if c.pid != 0 {
		e.emitKill(c, sigKill)
		e.die(c, 128+sigKill)
	}
	e.forget(c)
	return nil
}

// ContainerPrune is docker container prune.
func (e *Engine) ContainerPrune(pick Pick) (removed []string) {
	_ = e.change(func() error {
		var list []*container
		for c := range e.containers.all() {
			if !c.running && pick.takes(c.labels, c.created) {
				list = append(list, c)
			}
		}
		for _, c := range list {
			e.forget(c)
			removed = append(removed, c.id)
		}
		e.emitPrune(dockerio.TypeContainer)
		return nil
	})
	return removed
}

// SetHealth is the result of a probe: "healthy" or "unhealthy". The probe's noise comes always, health_status when it changed.
// "starting" sets the state without any event.
func (e *Engine) SetHealth(ref, status string) error {
	return e.onContainer("set health of", ref, func(c *container) error {
		if err := alive("set health of", c); err != nil {
			return err
		}
		if !c.health || !slices.Contains([]string{"starting", "healthy", "unhealthy"}, status) {
			why := "no health check, or no result " + strconv.Quote(status)
			return messages.NewError(messages.CodeInvalid, "set health of", messages.KindContainer, c.name, why)
		}
		if status == "starting" {
			c.healthStatus = status
			return nil
		}
		e.probed(c, status)
		return nil
	})
}

// Noise is one probe or docker exec: three events, and nothing changed.
func (e *Engine) Noise(ref string) error {
	return e.onContainer("exec", ref, func(c *container) error {
		if err := alive("exec", c); err != nil {
			return err
		}
		e.noise(c)
		return nil
	})
}

func (e *Engine) noise(c *container) {
	id := e.newID("exec")
	e.emitContainer(c, "exec_create: true", map[string]string{"execID": id})
	e.emitContainer(c, "exec_start: true", map[string]string{"execID": id})
	e.emitContainer(c, "exec_die", map[string]string{"execID": id, "exitCode": "0"})
}

// MarkDead leaves a container as a removal that failed half way does.
func (e *Engine) MarkDead(ref string) error {
	return e.onContainer("mark", ref, func(c *container) error {
		if c.running {
			return conflict("mark", c, "Container %s is %s", c.id, c.state())
		}
		c.dead = true
		return nil
	})
}

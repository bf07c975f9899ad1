package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// Run is CreateContainer and Start.
func (e *Engine) Run(options ContainerOptions) (id string, err error) {
	if id, err = e.CreateContainer(options); err != nil {
		return "", err
	}
	return id, e.Start(id)
}

// Start is docker start. It does nothing to a running container.
func (e *Engine) Start(ref string) error {
	return e.onContainer("start", ref, e.userStarts)
}

func (e *Engine) userStarts(c *container) error {
	switch {
	case c.paused:
		return conflict("start", c, "cannot start a paused container, try unpause instead")
	case c.dead:
		return conflict("start", c, "container is marked for removal and cannot be started")
	case c.running:
		return nil
	}
	c.restarts, c.backoff, c.stopping = 0, 0, false
	if err := e.start(c); err != nil {
		e.autoRemove(c)
		return err
	}
	return nil
}

// start starts the process.
func (e *Engine) start(c *container) error {
	c.stopTimers()
	e.emitNetwork(c, "connect")
	c.connected = true
	if why, code, class := e.cannotStart(c); why != "" {
		e.emitNetwork(c, "disconnect")
		c.running, c.restarting, c.exitCode, c.errorText = false, false, code, why
		return refuse(class, "start", messages.KindContainer, c.name, "%s", why)
	}
	e.pid++
	e.address++
	c.running, c.restarting, c.paused, c.oom, c.dead = true, false, false, false, false
	c.pid, c.address, c.exitCode, c.errorText = e.pid, e.address, 0, ""
	c.started, c.since = e.now(), e.options.Clock()
	for i := range c.published {
		p := &c.published[i]
		if p.now = p.host; p.now == 0 {
			p.now = e.port
			e.port++
		}
	}
	for _, m := range c.mounts {
		if m.volume != nil {
			e.emitVolume(m.volume, "mount", map[string]string{
				"container": c.id, "destination": m.destination, "read/write": strconv.FormatBool(m.writable), "propagation": "",
			})
		}
	}
	if c.health {
		c.healthStatus, c.failures = "starting", 0
	}
	e.emitContainer(c, "start", nil)
	e.run(c)
	e.probeLater(c)
	return nil
}

// run lets the program write and end in its time.
func (e *Engine) run(c *container) {
	var last []Output // of its last moment
	for _, line := range c.program.Output {
		switch {
		case line.After == 0:
			c.write(dockerio.EngineTime(e.now()), line)
		case c.program.Ends && line.After >= c.program.RunFor:
			last = append(last, line)
		default:
			e.whileRunning(c, line.After, func() { c.write(dockerio.EngineTime(e.now()), line) })
		}
	}
	if !c.program.Ends {
		return
	}
	// A process that has nothing to do still outlives its start.
	e.whileRunning(c, max(c.program.RunFor, time.Millisecond), func() {
		for _, line := range last {
			c.write(dockerio.EngineTime(e.now()), line)
		}
		e.end(c, c.program.Code)
	})
}

// cannotStart tells why a container's process cannot be started; the engine's words, the exit code, and the class of the refusal.
func (e *Engine) cannotStart(c *container) (why string, code int, class messages.Code) {
	if c.program.Missing != "" {
		return c.program.Missing, 127, messages.CodeInvalid
	}
	for _, p := range c.published {
		if p.host == 0 {
			continue
		}
		for other := range e.containers.all() {
			if other != c && other.pid != 0 && slices.ContainsFunc(other.published, func(q published) bool { return q.now == p.host && q.overlaps(p) }) {
				return fmt.Sprintf("driver failed programming external connectivity on endpoint %s (%s): Bind for %s:%d failed: port is already allocated",
					c.name, e.newID("endpoint"), cmp.Or(p.address, "0.0.0.0"), p.host), 128, messages.CodeUnavailable
			}
		}
	}
	return "", 0, ""
}

// whileRunning does something later, if the present process of the container still runs then.
func (e *Engine) whileRunning(c *container, d time.Duration, f func()) {
	pid := c.pid
	c.timers = append(c.timers, e.after(d, func() {
		if c.pid == pid && e.containers.get(c.id) == c {
			f()
		}
	}))
}

// probeLater has the health check run again and again.
func (e *Engine) probeLater(c *container) {
	if c.probe == nil {
		return
	}
	e.whileRunning(c, cmp.Or(c.probe.Interval, 30*time.Second), func() {
		status := "healthy"
		if c.failures++; c.probe.Code == 0 {
			c.failures = 0
		} else if status = "unhealthy"; c.failures < cmp.Or(c.probe.Retries, 3) {
			status = c.healthStatus
		}
		e.probed(c, status)
		c.timers = nil // this one is spent, and a process with a check by itself has few others
		e.probeLater(c)
	})
}

// probed is the end of a health check.
func (e *Engine) probed(c *container, status string) {
	was := c.healthStatus
	c.healthStatus = status
	e.noise(c)
	if status != was {
		e.emitContainer(c, "health_status: "+status, nil)
	}
}

// end is the end of the process by itself: the restart policy and automatic removal apply.
func (e *Engine) end(c *container, code int) {
	e.die(c, code)
	if !c.restarting {
		e.autoRemove(c)
	}
}

// die is the end of the process.
func (e *Engine) die(c *container, code int) {
	c.stopTimers()
	c.exits++
	c.finished, c.exitCode, c.pid, c.paused = e.now(), code, 0, false
	if c.health {
		c.healthStatus = "unhealthy" // Docker's word for a check that ended
	}
	again := !c.stopping
	switch c.policy {
	case "always", "unless-stopped":
	case "on-failure":
		again = again && code != 0 && (c.retries == 0 || c.restarts < c.retries)
	default:
		again = false
	}
	c.running, c.restarting = again, again
	if again {
		c.restarts++
	}
	e.emitContainer(c, "die", map[string]string{"exitCode": strconv.Itoa(code)})
	e.emitNetwork(c, "disconnect")
	for _, m := range c.mounts {
		if m.volume != nil {
			e.emitVolume(m.volume, "unmount", map[string]string{"container": c.id})
		}
	}
	if !again {
		return
	}
	// As Docker's restart manager: from 100 ms on doubling to a minute, and from the beginning after 10 s of life.
	switch {
	case c.backoff == 0, e.options.Clock().Sub(c.since) >= 10*time.Second:
		c.backoff = 100 * time.Millisecond
	case c.backoff < time.Minute:
		c.backoff *= 2
	}
	attempt := c.restarts
	c.timers = append(c.timers, e.after(c.backoff, func() {
		if c.restarting && c.restarts == attempt && !e.down && e.containers.get(c.id) == c {
			e.policyStart(c)
		}
	}))
}

// policyStart starts what waits for its restart policy.
func (e *Engine) policyStart(c *container) { _ = e.start(c) }

func (e *Engine) autoRemove(c *container) {
	if !c.autoRemove {
		return
	}
	for _, m := range c.mounts {
		if m.volume != nil && m.volume.anonymous {
			delete(m.volume.users, c)
			_ = e.removeVolume(m.volume.name) // stays, if another uses it
		}
	}
	e.forget(c)
}

// forget removes a container that does not run.
func (e *Engine) forget(c *container) {
	c.stopTimers()
	e.containers.remove(c.id)
	delete(e.names, c.name)
	delete(c.image.users, c)
	for _, m := range c.mounts {
		if m.volume != nil {
			delete(m.volume.users, c)
		}
	}
	e.emitContainer(c, "destroy", nil)
}

// alive refuses what needs a process.
func alive(verb string, c *container) error {
	switch {
	case c.restarting:
		return conflict(verb, c, "Container %s is restarting, wait until the container is running", c.id)
	case !c.running:
		return conflict(verb, c, "Container %s is not running", c.id)
	}
	return nil
}

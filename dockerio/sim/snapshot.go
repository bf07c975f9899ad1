package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// saved is an engine on disk: what a real one keeps there.
type saved struct {
	ID         string
	Serial     uint64
	Network    string
	Images     []savedImage
	Volumes    []savedVolume
	Containers []savedContainer
}

type savedImage struct {
	ImageOptions
	Tags, Digests    []string
	Created, LastTag time.Time
}

type savedVolume struct {
	VolumeOptions
	Created   time.Time
	Anonymous bool
}

type savedContainer struct {
	ID, Name, ImageID, Policy   string
	Retries, ExitCode, Restarts int
	Options                     ContainerOptions
	// Volumes by destination.
	Volumes                    map[string]string
	Created, Started, Finished time.Time
	Running, Stopped           bool // Stopped: by the user
	OOM, Connected             bool
	Error                      string
	Log                        []LogLine
}

// Dump writes the engine's objects, as a real engine has them on its disk. Processes, events and faults are not among them.
func (e *Engine) Dump(w io.Writer) error {
	e.mu.Lock()
	s := saved{ID: e.id, Serial: e.serial, Network: e.network}
	for i := range e.images.all() {
		s.Images = append(s.Images, savedImage{i.archive().Options(), slices.Clone(i.tags), i.digests, i.created, i.lastTag})
	}
	for v := range e.volumes.all() {
		s.Volumes = append(s.Volumes, savedVolume{VolumeOptions{v.name, v.labels, v.options}, v.created, v.anonymous})
	}
	for c := range e.containers.all() {
		s.Containers = append(s.Containers, c.saved())
	}
	e.mu.Unlock()
	if err := json.NewEncoder(w).Encode(s); err != nil {
		return fmt.Errorf("dump the simulated engine: %w", err)
	}
	return nil
}

func (c *container) saved() savedContainer {
	s := savedContainer{
		ID: c.id, Name: c.name, ImageID: c.image.id, Policy: c.policy, Retries: c.retries, ExitCode: c.exitCode, Restarts: c.restarts,
		Options: c.options, Volumes: map[string]string{}, Created: c.created, Started: c.started, Finished: c.finished, Running: c.running,
		Stopped: c.stopping, OOM: c.oom, Connected: c.connected, Error: c.errorText, Log: slices.Clone(c.log),
	}
	for _, m := range c.mounts {
		if m.volume != nil {
			s.Volumes[m.destination] = m.volume.name
		}
	}
	return s
}

// Restore puts what Dump wrote in place of everything the engine has, as after a power failure: containers that ran have ended
// with exit code 255. What was published stays. Nothing is told; Boot starts what is to run.
func (e *Engine) Restore(r io.Reader) error {
	var s saved
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return fmt.Errorf("restore the simulated engine: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reset()
	e.id, e.serial, e.network = s.ID, s.Serial, s.Network
	for _, i := range s.Images {
		made := MakeArchive(i.ID, i.Tags, i.ImageOptions).image
		made.digests, made.created, made.lastTag = i.Digests, i.Created, i.LastTag
		e.images.put(made.id, &made)
		for _, tag := range made.tags {
			e.tags[tag] = &made
		}
	}
	for _, v := range s.Volumes {
		e.volumes.put(v.Name, &volume{name: v.Name, labels: v.Labels, options: v.Options, created: v.Created, anonymous: v.Anonymous})
	}
	for _, one := range s.Containers {
		if err := e.restore(one); err != nil {
			return err
		}
	}
	e.lifeChanged()
	return nil
}

func (e *Engine) restore(s savedContainer) error {
	c := newContainer(s.Options)
	c.id, c.name, c.policy, c.retries, c.exitCode, c.restarts = s.ID, s.Name, s.Policy, s.Retries, s.ExitCode, s.Restarts
	c.created, c.started, c.finished, c.stopping = s.Created, s.Started, s.Finished, s.Stopped
	c.oom, c.connected, c.errorText, c.log = s.OOM, s.Connected, s.Error, s.Log
	if s.Running {
		c.powerless(e.now())
	}
	if c.image = e.images.get(s.ImageID); c.image == nil {
		c.image = &image{id: s.ImageID} // removed by force under it
	}
	c.image.use(c)
	for _, text := range s.Options.Ports {
		p, err := parsePublished(text)
		if err != nil {
			return fmt.Errorf("restore container %q: %w", s.Name, err)
		}
		c.published = append(c.published, p)
	}
	c.expose(s.Options.ExposedPorts)
	c.mountAll(s.Options.Volumes)
	for i := range c.mounts {
		if v := e.volumes.get(s.Volumes[c.mounts[i].destination]); v != nil {
			c.mounts[i].volume = v
			v.use(c)
		}
	}
	e.names[c.name] = c
	e.containers.put(c.id, c)
	return nil
}

// powerless ends the process as a power failure does: nobody saw it end.
func (c *container) powerless(now time.Time) {
	c.stopTimers()
	c.running, c.paused, c.restarting, c.pid = false, false, false, 0
	c.exitCode, c.finished = 255, now
	c.exits++
}

// PowerOff is Down with the machine the engine is on: its containers end unseen, with exit code 255.
func (e *Engine) PowerOff() {
	e.Down()
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.containers.all() {
		if c.running {
			c.powerless(e.now())
		}
	}
	e.changed()
}

// Shutdown ends the engine in order: its containers are stopped, but not as by the user, and then it is Down.
func (e *Engine) Shutdown() {
	_ = e.change(func() error {
		var ephemeral []*container
		for c := range e.containers.all() {
			if !c.running {
				continue
			}
			c.stopping = true
			e.stop(c)
			c.stopping = false
			if c.autoRemove {
				ephemeral = append(ephemeral, c)
			}
		}
		for _, c := range ephemeral {
			e.autoRemove(c)
		}
		return nil
	})
	e.Down()
}

// Boot is Up after PowerOff, Shutdown or Restore: containers whose restart policy says so are started.
func (e *Engine) Boot() {
	_ = e.change(func() error {
		e.down = false
		e.history = nil
		for c := range e.containers.all() {
			again := c.policy == "always" || !c.stopping && (c.policy == "unless-stopped" || c.policy == "on-failure" && c.exitCode != 0)
			if again && !c.running {
				c.stopping = false
				e.policyStart(c)
			}
		}
		e.lifeChanged()
		return nil
	})
}

// Changed is closed at the next change of the world.
func (e *Engine) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.upcoming()
}

package sim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// MissingCommand is the command that no image has: starting a container with it fails.
const MissingCommand = "missing"

// ContainerOptions of a container to create.
type ContainerOptions struct {
	// Name; empty = one is made.
	Name string
	// Image is a reference or an id.
	Image string
	// Cmd; empty = sh. MissingCommand fails to start.
	Cmd    []string
	Labels map[string]string
	// Entrypoint in front of Cmd, for those who tell them apart.
	Entrypoint []string
	// Program is what the process does. Nil: it runs until it is stopped, and RunFor, ExitCode and IgnoreTerm say otherwise.
	Program *Program
	// Ports to publish on IPv4 and IPv6 while the container runs: "8080:80/tcp", "80" (a free host port), "127.0.0.1:8080:80".
	Ports []string
	// ExposedPorts are declared and not published: "53/udp", "9000".
	ExposedPorts []string
	// Volumes to mount: "name:/path", "name:/path:ro", "/path" (anonymous), "/host/path:/path" (bind). Volumes that do not
	// exist are created.
	Volumes []string
	// RestartPolicy is "no" (default), "always", "unless-stopped", "on-failure" or "on-failure:3".
	RestartPolicy string
	// Health says that there is a health check; SetHealth is its result.
	Health bool
	// Probe, if not nil, is a health check that runs by itself.
	Probe *Probe
	// AutoRemove removes the container, and its anonymous volumes, when it ends.
	AutoRemove bool
	// IgnoreTerm: stop needs a second signal, and the exit code is 137 instead of 143. (It takes no longer.)
	IgnoreTerm bool
	// RunFor lets the container end by itself with ExitCode, so long after each start. Default 0: never.
	RunFor   time.Duration
	ExitCode int
	// StopSignal is the one that stop sends. Default SIGTERM.
	StopSignal int
	// Extra is kept for whoever asks (ContainerDetail), and means nothing to the engine.
	Extra json.RawMessage
}

// Probe is a health check.
type Probe struct {
	Command  string
	Interval time.Duration
	Retries  int
	// Code of its end: 0 is healthy.
	Code int
}

// validName is what Docker takes as a container's name.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

type container struct {
	id        string
	name      string
	image     *image
	imageName string
	path      string
	args      []string
	labels    map[string]string
	published []published
	exposed   []string // without the published
	mounts    []mount  // sorted
	policy    string
	retries   int // of on-failure; 0 = without end

	health, autoRemove bool
	probe              *Probe
	program            Program
	stopSignal         int
	options            ContainerOptions // as told
	log                []LogLine
	dropped            int // lines of the log
	exits              int // how often the process has ended
	failures           int // of the probe, in a row

	created, started, finished                       time.Time
	running, paused, restarting, oom, dead, stopping bool // stopping: stopped by the user, the restart policy does not apply
	connected                                        bool // was in a network once
	pid, exitCode, restarts                          int
	errorText, healthStatus                          string
	address                                          uint32
	since                                            time.Time // start on the host's clock
	backoff                                          time.Duration
	timers                                           []*time.Timer
}

type mount struct {
	volume      *volume
	source      string // of a bind
	destination string
	writable    bool
}

func (c *container) stopTimers() {
	for _, timer := range c.timers {
		timer.Stop()
	}
	c.timers = nil
}

func (c *container) state() string {
	switch {
	case c.paused:
		return messages.ContainerPaused
	case c.restarting:
		return messages.ContainerRestarting
	case c.running:
		return messages.ContainerRunning
	case c.dead:
		return messages.ContainerDead
	case c.started.IsZero():
		return messages.ContainerCreated
	}
	return messages.ContainerExited
}

func (c *container) portMounts() []messages.ContainerMount {
	var list []messages.ContainerMount
	for _, m := range c.mounts {
		if m.volume == nil {
			list = append(list, messages.ContainerMount{Type: "bind", Source: m.source, Destination: m.destination, ReadWrite: m.writable})
			continue
		}
		list = append(list, messages.ContainerMount{
			Type: "volume", Name: m.volume.name, Source: m.volume.path(), Destination: m.destination, ReadWrite: m.writable,
		})
	}
	return list
}

// row is what a list tells.
func (e *Engine) containerRow(c *container) dockerio.ContainerRow {
	row := dockerio.ContainerRow{
		ID: c.id, Name: c.name, ImageName: c.imageName, ImageID: c.image.id, Labels: filledMap(c.labels), State: c.state(),
		Created: dockerio.UnixTime(c.created.Unix()), Mounts: c.portMounts(),
	}
	if c.imageName != c.image.id {
		if now, _, err := e.findImage("list", c.imageName); err != nil || now != c.image {
			row.ImageName = c.image.id // the name is gone, or another's
		}
	}
	switch row.State {
	case messages.ContainerRunning:
		row.Health = c.healthStatus
	case messages.ContainerExited, messages.ContainerRestarting:
		code := c.exitCode
		row.ExitCode = &code
	}
	return row
}

func (e *Engine) inspectContainer(c *container) dockerio.Container {
	out := dockerio.Container{
		ID: c.id, Name: c.name, Path: c.path, Args: filled(c.args), ImageID: c.image.id, ImageName: c.imageName,
		Labels: filledMap(c.labels), Mounts: c.portMounts(), Status: c.state(),
		Running: c.running, Paused: c.paused, Restarting: c.restarting, OOMKilled: c.oom, Dead: c.dead,
		Pid: c.pid, ExitCode: c.exitCode, Error: c.errorText, Health: c.healthStatus,
		RestartCount: c.restarts, RestartPolicy: c.policy, StopTimeout: dockerio.DefaultGrace,
		Created: dockerio.EngineTime(c.created), StartedAt: dockerio.EngineTime(c.started), FinishedAt: dockerio.EngineTime(c.finished),
	}
	for _, p := range c.published {
		port := messages.ContainerPort{Name: p.name}
		if c.running && !c.restarting {
			port.Bindings = p.bindings()
		}
		out.Ports = append(out.Ports, port)
	}
	for _, name := range c.exposed {
		out.Ports = append(out.Ports, messages.ContainerPort{Name: name})
	}
	slices.SortFunc(out.Ports, func(a, b messages.ContainerPort) int { return comparePorts(a.Name, b.Name) })
	network := messages.ContainerNetwork{Name: "bridge"}
	if c.connected {
		network.NetworkID = e.network
	}
	if c.pid != 0 {
		network.IPAddress = fmt.Sprintf("172.17.%d.%d", c.address>>8&0xff, c.address&0xff)
	}
	out.Networks = []messages.ContainerNetwork{network}
	return out
}

// findContainer resolves an id, a name or, for people, a unique prefix of an id.
func (e *Engine) findContainer(verb, ref string) (*container, error) {
	if ref == "" {
		return nil, messages.NewError(messages.CodeInvalid, verb, messages.KindContainer, "", "no id")
	}
	if c := e.containers.get(ref); c != nil {
		return c, nil
	}
	if c := e.names[strings.TrimPrefix(ref, "/")]; c != nil {
		return c, nil
	}
	if len(ref) < 64 && isHex(ref) {
		c, ambiguous := e.containers.byPrefix(ref)
		if ambiguous {
			return nil, messages.NewError(messages.CodeAmbiguous, verb, messages.KindContainer, ref, "several ids begin with it")
		}
		if c != nil {
			return c, nil
		}
	}
	return nil, noSuchContainer(verb, ref)
}

// onContainer changes one container.
func (e *Engine) onContainer(verb, ref string, f func(c *container) error) error {
	return e.change(func() error {
		c, err := e.findContainer(verb, ref)
		if err != nil {
			return err
		}
		return f(c)
	})
}

// CreateContainer is docker create.
func (e *Engine) CreateContainer(options ContainerOptions) (id string, err error) {
	err = e.change(func() error {
		c, volumes, err := e.parse(options)
		if err != nil {
			return err
		}
		now := e.now()
		c.id, c.created = e.newID("container"), now
		if c.name == "" {
			c.name = "sim_" + c.id[:12]
		}
		if _, taken := e.names[c.name]; taken {
			return e.nameTaken("create", c.name)
		}
		for i := range c.mounts {
			if m := &c.mounts[i]; m.source == "" {
				m.volume = e.ensureVolume(VolumeOptions{Name: volumes[m.destination]})
				m.volume.use(c)
			}
		}
		c.image.use(c)
		e.names[c.name] = c
		e.containers.put(c.id, c)
		e.emitContainer(c, "create", nil)
		id = c.id
		return nil
	})
	return id, err
}

// parse checks options and makes a container of them; volumes are the names of volumes by destination.
func (e *Engine) parse(options ContainerOptions) (c *container, volumes map[string]string, err error) {
	policy, limit, err := parsePolicy("create", options.Name, options.RestartPolicy)
	if err != nil {
		return nil, nil, err
	}
	invalid := func(format string, a ...any) error {
		return refuse(messages.CodeInvalid, "create", messages.KindContainer, options.Name, format, a...)
	}
	if options.AutoRemove && policy != "no" {
		return nil, nil, invalid("can't create 'AutoRemove' container with restart policy")
	}
	i, _, err := e.findImage("create", options.Image)
	if err != nil {
		return nil, nil, err
	}
	if options.Name != "" && !validName.MatchString(options.Name) {
		return nil, nil, invalid("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", options.Name)
	}
	c = newContainer(options)
	c.policy, c.retries, c.image = policy, limit, i
	for _, text := range options.Ports {
		p, err := parsePublished(text)
		if err != nil {
			return nil, nil, invalid("invalid port specification: %q", text)
		}
		c.published = append(c.published, p)
	}
	c.expose(options.ExposedPorts)
	return c, c.mountAll(options.Volumes), nil
}

// newContainer is what options say without looking at the engine.
func newContainer(options ContainerOptions) *container {
	c := &container{
		name: options.Name, imageName: options.Image, path: "sh", labels: maps.Clone(options.Labels), policy: "no",
		health: options.Health || options.Probe != nil, probe: options.Probe, autoRemove: options.AutoRemove,
		stopSignal: cmp.Or(options.StopSignal, sigTerm), options: options, program: options.program(),
	}
	if command := slices.Concat(options.Entrypoint, options.Cmd); len(command) > 0 {
		c.path, c.args = command[0], command[1:]
	}
	return c
}

func parsePolicy(verb, name, text string) (policy string, limit int, err error) {
	policy, retries, limited := strings.Cut(cmp.Or(text, "no"), ":")
	if !slices.Contains([]string{"no", "always", "unless-stopped", "on-failure"}, policy) {
		return "", 0, refuse(messages.CodeInvalid, verb, messages.KindContainer, name, "invalid restart policy '%s'", policy)
	}
	if limited {
		if limit, err = strconv.Atoi(retries); err != nil || policy != "on-failure" {
			return "", 0, refuse(messages.CodeInvalid, verb, messages.KindContainer, name,
				"maximum retry count cannot be used with restart policy '%s'", policy)
		}
	}
	return policy, limit, nil
}

func (c *container) expose(ports []string) {
	for _, text := range ports {
		name := portName(text)
		if !slices.ContainsFunc(c.published, func(p published) bool { return p.name == name }) {
			c.exposed = append(c.exposed, name)
		}
	}
}

// mountAll makes the mounts, sorted; of volumes it returns the names by destination.
func (c *container) mountAll(list []string) (volumes map[string]string) {
	volumes = map[string]string{}
	for _, text := range list {
		part := strings.Split(text, ":")
		if len(part) == 1 {
			part = []string{"", part[0]}
		}
		m := mount{destination: part[1], writable: len(part) < 3 || part[2] != "ro"}
		if strings.HasPrefix(part[0], "/") {
			m.source = part[0]
		} else {
			volumes[m.destination] = part[0]
		}
		c.mounts = append(c.mounts, m)
	}
	slices.SortFunc(c.mounts, func(a, b mount) int { return strings.Compare(a.destination, b.destination) })
	return volumes
}

// program is what the process does.
func (o ContainerOptions) program() Program {
	if o.Program != nil {
		return *o.Program
	}
	p := Program{Ends: o.RunFor > 0, RunFor: o.RunFor, Code: o.ExitCode, Traps: map[int]int{sigTerm: 128 + sigTerm}}
	if o.IgnoreTerm {
		p.Traps = nil
	}
	if len(o.Cmd) > 0 && o.Cmd[0] == MissingCommand {
		p.Missing = fmt.Sprintf("exec: %q: executable file not found in $PATH: unknown", MissingCommand)
	}
	return p
}

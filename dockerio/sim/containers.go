package sim

import (
	"cmp"
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
	// Ports to publish on IPv4 and IPv6 while the container runs: "8080:80/tcp", "80" (a free host port).
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
	// AutoRemove removes the container, and its anonymous volumes, when it ends.
	AutoRemove bool
	// IgnoreTerm: stop needs a second signal, and the exit code is 137 instead of 143. (It takes no longer.)
	IgnoreTerm bool
	// RunFor lets the container end by itself with ExitCode, so long after each start. Default 0: never.
	RunFor   time.Duration
	ExitCode int
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

	health, autoRemove, ignoreTerm bool
	runFor                         time.Duration
	runCode                        int

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

type published struct {
	name string // "80/tcp"
	host int    // 0 = a free one
	now  int    // while it runs
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
		RestartCount: c.restarts, RestartPolicy: c.policy,
		Created: dockerio.EngineTime(c.created), StartedAt: dockerio.EngineTime(c.started), FinishedAt: dockerio.EngineTime(c.finished),
	}
	for _, p := range c.published {
		port := messages.ContainerPort{Name: p.name}
		if c.running && !c.restarting {
			host := strconv.Itoa(p.now)
			port.Bindings = []messages.PortBinding{{HostIP: "0.0.0.0", HostPort: host}, {HostIP: "::", HostPort: host}}
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
	return nil, notFound(verb, messages.KindContainer, ref)
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

func conflict(verb string, c *container, why string) error {
	return messages.NewError(messages.CodeConflict, verb, messages.KindContainer, c.name, why)
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
			return nameTaken("create", c.name)
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

// parse makes a container of options; volumes are the names of volumes by destination.
func (e *Engine) parse(options ContainerOptions) (c *container, volumes map[string]string, err error) {
	invalid := func(format string, a ...any) error {
		return messages.NewError(messages.CodeInvalid, "create", messages.KindContainer, options.Name, fmt.Sprintf(format, a...))
	}
	if options.Name != "" && !validName.MatchString(options.Name) {
		return nil, nil, invalid("invalid name")
	}
	i, _, err := e.findImage("create", options.Image)
	if err != nil {
		return nil, nil, err
	}
	c = &container{
		name: options.Name, image: i, imageName: options.Image, path: "sh", labels: maps.Clone(options.Labels),
		health: options.Health, autoRemove: options.AutoRemove, ignoreTerm: options.IgnoreTerm,
		runFor: options.RunFor, runCode: options.ExitCode,
	}
	if len(options.Cmd) > 0 {
		c.path, c.args = options.Cmd[0], slices.Clone(options.Cmd[1:])
	}
	policy, retries, limited := strings.Cut(options.RestartPolicy, ":")
	switch policy {
	case "":
		policy = "no"
	case "no", "always", "unless-stopped", "on-failure":
	default:
		return nil, nil, invalid("no restart policy %q", options.RestartPolicy)
	}
	c.policy = policy
	if limited {
		if c.retries, err = strconv.Atoi(retries); err != nil || policy != "on-failure" {
			return nil, nil, invalid("no restart policy %q", options.RestartPolicy)
		}
	}
	if c.autoRemove && policy != "no" {
		return nil, nil, invalid("a restart policy and automatic removal exclude each other")
	}
	for _, text := range options.Ports {
		host, port, both := strings.Cut(text, ":")
		if !both {
			host, port = "0", text
		}
		p := published{name: portName(port)}
		if p.host, err = strconv.Atoi(host); err != nil {
			return nil, nil, invalid("no port %q", text)
		}
		c.published = append(c.published, p)
	}
	for _, text := range options.ExposedPorts {
		name := portName(text)
		if !slices.ContainsFunc(c.published, func(p published) bool { return p.name == name }) {
			c.exposed = append(c.exposed, name)
		}
	}
	volumes = map[string]string{}
	for _, text := range options.Volumes {
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
	return c, volumes, nil
}

// comparePorts is the order of ports: by number, then by protocol.
func comparePorts(a, b string) int {
	numberA, protocolA, _ := strings.Cut(a, "/")
	numberB, protocolB, _ := strings.Cut(b, "/")
	return cmp.Or(cmp.Compare(len(numberA), len(numberB)), cmp.Compare(numberA, numberB), cmp.Compare(protocolA, protocolB))
}

func portName(text string) string {
	if !strings.Contains(text, "/") {
		return text + "/tcp"
	}
	return text
}

// Run is CreateContainer and Start.
func (e *Engine) Run(options ContainerOptions) (id string, err error) {
	if id, err = e.CreateContainer(options); err != nil {
		return "", err
	}
	return id, e.Start(id)
}

// Start is docker start. It does nothing to a running container.
func (e *Engine) Start(ref string) error {
	return e.onContainer("start", ref, func(c *container) error {
		switch {
		case c.paused:
			return conflict("start", c, "it is paused")
		case c.dead:
			return conflict("start", c, "it is dead")
		case c.running:
			return nil
		}
		c.restarts, c.backoff, c.stopping = 0, 0, false
		if err := e.start(c); err != nil {
			e.autoRemove(c)
			return err
		}
		return nil
	})
}

// start starts the process.
func (e *Engine) start(c *container) error {
	c.stopTimers()
	e.emitNetwork(c, "connect")
	c.connected = true
	if c.path == MissingCommand {
		e.emitNetwork(c, "disconnect")
		c.running, c.restarting, c.exitCode = false, false, 127
		c.errorText = fmt.Sprintf("exec: %q: executable file not found in $PATH: unknown", c.path)
		return messages.NewError(messages.CodeInvalid, "start", messages.KindContainer, c.name, c.errorText)
	}
	e.pid++
	e.address++
	c.running, c.restarting, c.paused, c.oom, c.dead = true, false, false, false, false
	c.pid, c.address, c.exitCode, c.errorText = e.pid, e.address, 0, ""
	c.started, c.since = e.now(), e.options.Clock()
	if c.health {
		c.healthStatus = "starting"
	}
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
	e.emitContainer(c, "start", nil)
	if c.runFor > 0 {
		pid := c.pid
		c.timers = append(c.timers, e.after(c.runFor, func() {
			if c.pid == pid && e.containers.get(c.id) == c {
				e.end(c, c.runCode)
			}
		}))
	}
	return nil
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
		return conflict(verb, c, "it is restarting")
	case !c.running:
		return conflict(verb, c, "it is not running")
	}
	return nil
}

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
	return e.onContainer("stop", ref, func(c *container) error {
		if !c.running {
			return nil
		}
		c.stopping = true
		e.stop(c)
		e.autoRemove(c)
		return nil
	})
}

func (e *Engine) stop(c *container) {
	if c.restarting {
		c.giveUp()
	} else {
		e.emitContainer(c, "kill", map[string]string{"signal": "15"})
		e.unpause(c)
		code := 143
		if c.ignoreTerm {
			e.emitContainer(c, "kill", map[string]string{"signal": "9"})
			code = 137
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
func (e *Engine) Kill(ref string) error {
	return e.onContainer("kill", ref, func(c *container) error {
		if c.restarting {
			c.stopping = true
			c.giveUp()
			return nil
		}
		if err := alive("kill", c); err != nil {
			return err
		}
		c.stopping = true
		e.emitContainer(c, "kill", map[string]string{"signal": "9"})
		e.end(c, 137)
		return nil
	})
}

// Restart is docker restart; it starts a stopped container.
func (e *Engine) Restart(ref string) error {
	return e.onContainer("restart", ref, func(c *container) error {
		if c.dead {
			return conflict("restart", c, "it is dead")
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
	})
}

// Pause is docker pause.
func (e *Engine) Pause(ref string) error {
	return e.onContainer("pause", ref, func(c *container) error {
		if err := alive("pause", c); err != nil {
			return err
		}
		if c.paused {
			return conflict("pause", c, "it is paused")
		}
		c.paused = true
		if c.health {
			c.healthStatus = "unhealthy"
		}
		e.emitContainer(c, "pause", nil)
		return nil
	})
}

// Unpause is docker unpause. Docker calls it an internal error when the container is not paused.
func (e *Engine) Unpause(ref string) error {
	return e.onContainer("unpause", ref, func(c *container) error {
		if !c.paused {
			return messages.NewError(messages.CodeUnavailable, "unpause", messages.KindContainer, c.name, "it is not paused")
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
			return messages.NewError(messages.CodeInvalid, "rename", messages.KindContainer, c.name, "needs another name")
		case !validName.MatchString(name):
			return messages.NewError(messages.CodeInvalid, "rename", messages.KindContainer, c.name, "to an invalid name: "+name)
		case e.names[name] != nil:
			return nameTaken("rename", name)
		}
		old := c.name
		delete(e.names, old)
		c.name = name
		e.names[name] = c
		e.emitContainer(c, "rename", map[string]string{"oldName": "/" + old})
		return nil
	})
}

// UpdatePolicy is docker update --restart; on-failure has no limit then.
func (e *Engine) UpdatePolicy(ref, policy string) error {
	return e.onContainer("update", ref, func(c *container) error {
		if !slices.Contains([]string{"no", "always", "unless-stopped", "on-failure"}, policy) {
			return messages.NewError(messages.CodeInvalid, "update", messages.KindContainer, c.name, "no restart policy "+strconv.Quote(policy))
		}
		c.policy, c.retries = policy, 0
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
	if c.running && !force {
		return conflict("remove", c, "it is "+c.state())
	}
	c.stopping = true
	if c.pid != 0 {
		e.emitContainer(c, "kill", map[string]string{"signal": "9"})
		e.die(c, 137)
	}
	e.forget(c)
	return nil
}

// ContainerPrune is docker container prune.
func (e *Engine) ContainerPrune() (removed []string) {
	_ = e.change(func() error {
		var list []*container
		for c := range e.containers.all() {
			if !c.running {
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
		was := c.healthStatus
		c.healthStatus = status
		if status == "starting" {
			return nil
		}
		e.noise(c)
		if status != was {
			e.emitContainer(c, "health_status: "+status, nil)
		}
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
			return conflict("mark", c, "it is "+c.state())
		}
		c.dead = true
		return nil
	})
}

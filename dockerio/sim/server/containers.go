package server

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

var containerRoutes = []route{
	{"GET /containers/json", sim.OpListContainers, false, listContainers},
	{"POST /containers/create", sim.OpCreateContainer, true, createContainer},
	{"POST /containers/prune", sim.OpPruneContainers, true, pruneContainers},
	{"GET /containers/{name}/json", sim.OpInspectContainer, false, inspectContainer},
	{"POST /containers/{name}/start", sim.OpStartContainer, true, startContainer},
	{"POST /containers/{name}/stop", sim.OpStopContainer, true, stopContainer},
	{"POST /containers/{name}/kill", sim.OpKillContainer, true, killContainer},
	{"POST /containers/{name}/restart", sim.OpRestartContainer, true, simply((*sim.Engine).Restart)},
	{"POST /containers/{name}/pause", sim.OpPauseContainer, true, simply((*sim.Engine).Pause)},
	{"POST /containers/{name}/unpause", sim.OpUnpauseContainer, true, simply((*sim.Engine).Unpause)},
	{"POST /containers/{name}/rename", sim.OpRenameContainer, true, renameContainer},
	{"POST /containers/{name}/update", sim.OpUpdateContainer, true, updateContainer},
	{"DELETE /containers/{name}", sim.OpRemoveContainer, true, removeContainer},
	{"POST /containers/{name}/wait", sim.OpWait, false, waitContainer},
	{"GET /containers/{name}/logs", sim.OpLogs, false, logs},
	{"POST /containers/{name}/attach", sim.OpAttach, false, attach},
	{"POST /containers/{name}/resize", sim.OpInspectContainer, false, func(*call) (any, error) { return nothing{}, nil }},
	{"POST /containers/{name}/exec", sim.OpInspectContainer, false, func(c *call) (any, error) {
		if _, err := c.engine.ContainerByRef(c.name); err != nil {
			return nil, err
		}
		return nil, &sim.Refusal{Status: http.StatusNotImplemented, Text: "exec is not simulated"}
	}},
}

// createRequest is what the server reads of the body of a create; the rest is kept and shown again.
type createRequest struct {
	Image, StopSignal string
	Cmd, Entrypoint   []string
	Tty, OpenStdin    bool
	Labels            map[string]string
	ExposedPorts      map[string]struct{}
	Volumes           map[string]struct{}
	Healthcheck       *struct {
		Test     []string
		Interval time.Duration
		Retries  int
	}
	HostConfig hostConfig
}

type hostConfig struct {
	Binds         []string
	PortBindings  map[string][]struct{ HostIP, HostPort string }
	RestartPolicy struct {
		Name              string
		MaximumRetryCount int
	}
	PublishAllPorts bool
	AutoRemove      bool
	NetworkMode     string
	Mounts          []struct {
		Type, Source, Target string
		ReadOnly             bool
	}
}

func createContainer(c *call) (any, error) {
	body, err := io.ReadAll(c.Body)
	if err != nil {
		return nil, err
	}
	var q createRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, invalid("%v", err)
	}
	image, err := c.engine.ImageByRef(q.Image)
	if err != nil && q.Image == "" {
		return nil, invalid("no image was named")
	}
	options, err := q.options(image)
	if err != nil {
		return nil, err
	}
	options.Name, options.Extra = c.query("name"), body
	id, err := c.engine.CreateContainer(options)
	if err != nil {
		return nil, err
	}
	return created{map[string]any{"Id": id, "Warnings": []string{}}}, nil
}

// options are the request's and, where it says nothing, the image's.
func (q createRequest) options(image sim.ImageDetail) (sim.ContainerOptions, error) {
	o := sim.ContainerOptions{
		Image: q.Image, Cmd: q.Cmd, Entrypoint: q.Entrypoint, AutoRemove: q.HostConfig.AutoRemove, Labels: map[string]string{},
		RestartPolicy: q.HostConfig.RestartPolicy.Name,
	}
	for _, labels := range []map[string]string{image.Labels, q.Labels} {
		for k, v := range labels {
			o.Labels[k] = v
		}
	}
	if n := q.HostConfig.RestartPolicy.MaximumRetryCount; n != 0 {
		o.RestartPolicy += ":" + strconv.Itoa(n)
	}
	if len(o.Entrypoint) == 0 {
		o.Entrypoint = image.Config.Entrypoint
		if len(o.Cmd) == 0 {
			o.Cmd = image.Config.Cmd
		}
	}
	if len(o.Entrypoint) == 1 && o.Entrypoint[0] == "" { // how --entrypoint "" comes
		o.Entrypoint = nil
	}
	if len(o.Entrypoint)+len(o.Cmd) == 0 && image.ID != "" {
		return o, invalid("No command specified")
	}
	program := sim.ParseProgram(slices.Concat(o.Entrypoint, o.Cmd), q.Tty || q.OpenStdin)
	o.Program = &program
	if signal := cmp.Or(q.StopSignal, image.Config.StopSignal); signal != "" {
		n, ok := sim.SignalNumber(signal)
		if !ok {
			return o, invalid("Invalid signal: %s", signal)
		}
		o.StopSignal = n
	}
	if h := q.Healthcheck; h != nil && len(h.Test) > 0 && h.Test[0] != "NONE" {
		command := strings.Join(h.Test[1:], " ")
		probe := sim.ParseProgram([]string{"sh", "-c", command}, false)
		o.Probe = &sim.Probe{Command: command, Interval: h.Interval, Retries: h.Retries, Code: probe.Code}
	}
	q.ports(&o, image)
	return o, q.volumes(&o, image)
}

func (q createRequest) ports(o *sim.ContainerOptions, image sim.ImageDetail) {
	for _, set := range []map[string]struct{}{image.Config.ExposedPorts, q.ExposedPorts} {
		for port := range set {
			if q.HostConfig.PublishAllPorts && len(q.HostConfig.PortBindings[port]) == 0 {
				o.Ports = append(o.Ports, port)
			} else if !slices.Contains(o.ExposedPorts, port) {
				o.ExposedPorts = append(o.ExposedPorts, port)
			}
		}
	}
	for port, bindings := range q.HostConfig.PortBindings {
		for _, b := range bindings {
			text := cmp.Or(b.HostPort, "0") + ":" + port
			if b.HostIP != "" {
				text = b.HostIP + ":" + text
			}
			o.Ports = append(o.Ports, text)
		}
	}
	slices.Sort(o.Ports)
	slices.Sort(o.ExposedPorts)
}

func (q createRequest) volumes(o *sim.ContainerOptions, image sim.ImageDetail) error {
	mounted := map[string]bool{}
	for _, bind := range q.HostConfig.Binds {
		part := strings.Split(bind, ":")
		if len(part) < 2 || !strings.HasPrefix(part[1], "/") {
			return invalid("invalid volume specification: '%s'", bind)
		}
		mounted[part[1]] = true
		o.Volumes = append(o.Volumes, bind)
	}
	for _, m := range q.HostConfig.Mounts {
		if m.Type == "tmpfs" {
			continue
		}
		text := m.Source + ":" + m.Target
		if m.ReadOnly {
			text += ":ro"
		}
		mounted[m.Target] = true
		o.Volumes = append(o.Volumes, text)
	}
	for _, set := range []map[string]struct{}{image.Config.Volumes, q.Volumes} {
		for destination := range set {
			if !mounted[destination] {
				mounted[destination] = true
				o.Volumes = append(o.Volumes, destination)
			}
		}
	}
	slices.Sort(o.Volumes)
	return nil
}

// simply makes a handler of what is done to one container.
func simply(do func(e *sim.Engine, ref string) error) handler {
	return func(c *call) (any, error) { return nothing{}, do(c.engine, c.name) }
}

func startContainer(c *call) (any, error) {
	if one, err := c.engine.ContainerByRef(c.name); err == nil && one.Running && !one.Paused {
		return unchanged{}, nil
	}
	return nothing{}, c.engine.Start(c.name)
}

func stopContainer(c *call) (any, error) {
	if one, err := c.engine.ContainerByRef(c.name); err == nil && !one.Running {
		return unchanged{}, nil
	}
	return nothing{}, c.engine.Stop(c.name)
}

func killContainer(c *call) (any, error) {
	signal, ok := 9, true
	if text := c.query("signal"); text != "" {
		if signal, ok = sim.SignalNumber(text); !ok {
			return nil, invalid("Invalid signal: %s", text)
		}
	}
	err := c.engine.Signal(c.name, signal)
	if is(err, messages.ClassNotFound) {
		err = &sim.Refusal{Status: http.StatusNotFound, Text: "Cannot kill container: " + c.name + ": No such container: " + c.name}
	}
	return nothing{}, err
}

func renameContainer(c *call) (any, error) {
	name := strings.TrimPrefix(c.query("name"), "/")
	if name == "" {
		return nil, invalid("Neither old nor new names may be empty")
	}
	return nothing{}, c.engine.Rename(c.name, name)
}

func updateContainer(c *call) (any, error) {
	var q hostConfig
	if err := c.decode(&q); err != nil {
		return nil, err
	}
	if _, err := c.engine.ContainerByRef(c.name); err != nil {
		return nil, err
	}
	if q.RestartPolicy.Name != "" {
		if err := c.engine.UpdatePolicy(c.name, q.RestartPolicy.Name); err != nil {
			return nil, err
		}
	}
	return map[string]any{"Warnings": nil}, nil
}

func removeContainer(c *call) (any, error) {
	one, err := c.engine.ContainerByRef(c.name)
	if err != nil {
		return nil, err
	}
	if err := c.engine.Rm(one.ID, c.flag("force")); err != nil {
		return nil, err
	}
	if c.flag("v") {
		for _, m := range one.Mounts {
			if m.Type == "volume" && c.engine.Anonymous(m.Name) {
				_ = c.engine.VolumeRm(m.Name) // another container may use it
			}
		}
	}
	return nothing{}, nil
}

func pruneContainers(c *call) (any, error) {
	f, err := c.filters("label", "label!", "until")
	if err != nil {
		return nil, err
	}
	pick, err := f.pick()
	if err != nil {
		return nil, err
	}
	return map[string]any{"ContainersDeleted": c.engine.ContainerPrune(pick), "SpaceReclaimed": 0}, nil
}

func listContainers(c *call) (any, error) {
	f, err := c.filters("ancestor", "before", "exited", "health", "id", "label", "name", "network", "publish", "expose", "since", "status",
		"volume", "is-task", "isolation")
	if err != nil {
		return nil, err
	}
	all := c.engine.Containers()
	pick, err := f.containers(c, all)
	if err != nil {
		return nil, err
	}
	limit, _ := strconv.Atoi(c.query("limit"))
	_, byState := f["status"]
	_, byCode := f["exited"]
	everything := c.flag("all") || limit > 0 || byState || byCode
	now, rows := c.engine.Now(), []any{}
	for _, one := range all {
		if (!everything && !one.Running) || !pick(one) {
			continue
		}
		rows = append(rows, containerRow(one, now))
		if limit > 0 && len(rows) == limit {
			break
		}
	}
	return rows, nil
}

// containers is the filters of a list of containers.
func (f filters) containers(c *call, all []sim.ContainerDetail) (func(sim.ContainerDetail) bool, error) {
	states := []string{"created", "restarting", "running", "removing", "paused", "exited", "dead"}
	for _, s := range f["status"] {
		if !slices.Contains(states, s) {
			return nil, invalid("Invalid filter 'status=%s'", s)
		}
	}
	var before, since dockerio.Time
	for key, at := range map[string]*dockerio.Time{"before": &before, "since": &since} {
		for _, ref := range f[key] {
			one, err := c.engine.ContainerByRef(ref)
			if err != nil {
				return nil, &sim.Refusal{Status: http.StatusNotFound, Text: "no such container " + ref}
			}
			*at = one.Created
		}
	}
	ancestors := map[string]bool{}
	for _, ref := range f["ancestor"] {
		if i, err := c.engine.ImageByRef(ref); err == nil {
			ancestors[i.ID] = true
		}
	}
	return func(one sim.ContainerDetail) bool {
		return f.labels(one.Labels) && f.exact("status", one.Status) && f.match("id", one.ID) &&
			f.any("name", func(v string) bool {
				return filters{"name": {v}}.match("name", "/"+one.Name) || filters{"name": {v}}.match("name", one.Name)
			}) &&
			(len(f["ancestor"]) == 0 || ancestors[one.ImageID]) &&
			(before.IsZero() || one.Created.Sub(before) < 0) && (since.IsZero() || one.Created.Sub(since) > 0) &&
			f.exact("exited", exitedWith(one)) && f.exact("health", cmp.Or(one.Health, "none")) &&
			f.any("network", func(v string) bool { return v == "bridge" || v == c.engine.Network() }) &&
			f.any("volume", func(v string) bool {
				return slices.ContainsFunc(one.Mounts, func(m messages.ContainerMount) bool { return m.Name == v || m.Destination == v || m.Source == v })
			})
	}, nil
}

// exitedWith is the exit code of a container that has ended.
func exitedWith(one sim.ContainerDetail) string {
	if one.Running || one.StartedAt.IsZero() {
		return ""
	}
	return strconv.Itoa(one.ExitCode)
}

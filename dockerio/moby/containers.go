package moby

import (
	"cmp"
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unique"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// ListContainers implements [dockerio.Containers].
func (e *engine) ListContainers(ctx context.Context) ([]dockerio.ContainerRow, error) {
	w := what{"list", kindContainers, ""}
	r, err := call(ctx, e, w, func(ctx context.Context) (client.ContainerListResult, error) {
		return e.api.ContainerList(ctx, client.ContainerListOptions{All: true})
	})
	if err != nil {
		return nil, err
	}
	rows := make([]dockerio.ContainerRow, 0, len(r.Items))
	for _, c := range r.Items {
		if !canBeAsked(c.ID) {
			return nil, w.unreadable("a container without an id")
		}
		rows = append(rows, containerRow(c))
	}
	return rows, nil
}

func containerRow(c container.Summary) dockerio.ContainerRow {
	row := dockerio.ContainerRow{
		ID:        c.ID,
		Name:      ownName(c.Names),
		ImageName: shared(c.Image),
		ImageID:   shared(c.ImageID),
		Labels:    notEmpty(c.Labels),
		State:     shared(string(c.State)),
		Created:   dockerio.UnixTime(c.Created),
		Mounts:    mounts(c.Mounts),
	}
	row.ExitCode, row.Health = parseStatus(c.Status)
	if c.Health != nil { // engines from API 1.52 on
		row.Health = health(c.Health.Status)
	}
	return row
}

// InspectContainer implements [dockerio.Containers].
func (e *engine) InspectContainer(ctx context.Context, id string) (dockerio.Container, error) {
	w := what{"inspect", messages.KindContainer, id}
	if err := w.checkName(); err != nil {
		return dockerio.Container{}, err
	}
	r, err := call(ctx, e, w, func(ctx context.Context) (client.ContainerInspectResult, error) {
		return e.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	})
	if err != nil {
		return dockerio.Container{}, err
	}
	c := r.Container
	if c.ID == "" || c.State == nil || c.State.Status == "" {
		return dockerio.Container{}, w.unreadable("a container without an id or a state")
	}
	return inspected(c), nil
}

func inspected(c container.InspectResponse) dockerio.Container {
	out := dockerio.Container{
		ID:            c.ID,
		Name:          strings.TrimPrefix(c.Name, "/"),
		Path:          shared(c.Path),
		ImageID:       shared(c.Image),
		Mounts:        mounts(c.Mounts),
		Status:        shared(string(c.State.Status)),
		Running:       c.State.Running,
		Paused:        c.State.Paused,
		Restarting:    c.State.Restarting,
		OOMKilled:     c.State.OOMKilled,
		Dead:          c.State.Dead,
		Pid:           c.State.Pid,
		ExitCode:      c.State.ExitCode,
		Error:         c.State.Error,
		RestartCount:  c.RestartCount,
		RestartPolicy: string(container.RestartPolicyDisabled),
		StopTimeout:   dockerio.DefaultGrace,
		Created:       dockerio.ParseTime(c.Created),
		StartedAt:     dockerio.ParseTime(c.State.StartedAt),
		FinishedAt:    dockerio.ParseTime(c.State.FinishedAt),
	}
	if len(c.Args) > 0 {
		out.Args = c.Args
	}
	if c.State.Health != nil {
		out.Health = health(c.State.Health.Status)
	}
	if c.HostConfig != nil && c.HostConfig.RestartPolicy.Name != "" {
		out.RestartPolicy = string(c.HostConfig.RestartPolicy.Name)
	}
	var declared network.PortSet
	if c.Config != nil {
		out.ImageName = shared(c.Config.Image)
		out.Labels = notEmpty(c.Config.Labels)
		declared = c.Config.ExposedPorts
		if c.Config.StopTimeout != nil {
			out.StopTimeout = time.Duration(*c.Config.StopTimeout) * time.Second
		}
	}
	var bound network.PortMap
	if c.NetworkSettings != nil {
		bound = c.NetworkSettings.Ports
		out.Networks = networks(c.NetworkSettings.Networks)
	}
	out.Ports = ports(declared, bound)
	return out
}

// RemoveContainer implements [dockerio.Containers].
func (e *engine) RemoveContainer(ctx context.Context, id string) error {
	w := what{"remove", messages.KindContainer, id}
	if err := w.checkName(); err != nil {
		return err
	}
	_, err := call(ctx, e, w, func(ctx context.Context) (client.ContainerRemoveResult, error) {
		return e.api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true})
	})
	return err
}

// shared is one copy of a text that many containers have: the engine's answers repeat it, the mirror keeps it.
func shared(text string) string { return unique.Make(text).Value() }

// ownName finds the container's own name among its names: "/web"; a link's alias has a second slash: "/proxy/web".
func ownName(names []string) string {
	for _, n := range names {
		if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") {
			return n
		}
	}
	return ""
}

var (
	exitText   = regexp.MustCompile(`^(?:Exited|Restarting) \((-?\d+)\)`)
	healthText = regexp.MustCompile(`\((?:health: )?(starting|healthy|unhealthy)\)$`)
)

// parseStatus reads what only the human text of a list tells: "Exited (137) 2 minutes ago", "Up 5 minutes (healthy)".
func parseStatus(text string) (exitCode *int, health string) {
	if m := exitText.FindStringSubmatch(text); m != nil {
		if code, err := strconv.Atoi(m[1]); err == nil {
			exitCode = &code
		}
	}
	if m := healthText.FindStringSubmatch(text); m != nil {
		health = m[1]
	}
	return exitCode, health
}

// health is empty without a health check.
func health(s container.HealthStatus) string {
	if s == container.NoHealthcheck {
		return ""
	}
	return string(s)
}

// ports joins the declared ports with those that the network has now: the latter are there only while the container runs.
func ports(declared network.PortSet, bound network.PortMap) []messages.ContainerPort {
	all := make([]network.Port, 0, len(declared)+len(bound))
	for p := range declared {
		all = append(all, p)
	}
	for p := range bound {
		all = append(all, p)
	}
	all = slices.DeleteFunc(all, network.Port.IsZero)
	slices.SortFunc(all, func(a, b network.Port) int {
		return cmp.Or(cmp.Compare(a.Num(), b.Num()), cmp.Compare(a.Proto(), b.Proto()))
	})
	var out []messages.ContainerPort
	for _, p := range slices.Compact(all) {
		out = append(out, messages.ContainerPort{Name: p.String(), Bindings: bindings(bound[p])})
	}
	return out
}

// bindings are sorted by address, IPv4 before IPv6, then by port.
func bindings(list []network.PortBinding) []messages.PortBinding {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b network.PortBinding) int {
		return cmp.Or(a.HostIP.Compare(b.HostIP), cmp.Compare(len(a.HostPort), len(b.HostPort)), cmp.Compare(a.HostPort, b.HostPort))
	})
	var out []messages.PortBinding
	for _, b := range list {
		out = append(out, messages.PortBinding{HostIP: address(b.HostIP), HostPort: b.HostPort})
	}
	return slices.Compact(out)
}

func mounts(list []container.MountPoint) []messages.ContainerMount {
	var out []messages.ContainerMount
	if len(list) > 0 {
		out = make([]messages.ContainerMount, 0, len(list))
	}
	for _, m := range list {
		out = append(out, messages.ContainerMount{
			Type: shared(string(m.Type)), Name: shared(m.Name), Source: shared(m.Source), Destination: shared(m.Destination), ReadWrite: m.RW,
		})
	}
	slices.SortFunc(out, func(a, b messages.ContainerMount) int {
		return cmp.Or(cmp.Compare(a.Destination, b.Destination), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func networks(m map[string]*network.EndpointSettings) []messages.ContainerNetwork {
	var out []messages.ContainerNetwork
	for name, n := range m {
		row := messages.ContainerNetwork{Name: shared(name)}
		if n != nil {
			row.NetworkID, row.IPAddress = shared(n.NetworkID), address(n.IPAddress)
		}
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b messages.ContainerNetwork) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

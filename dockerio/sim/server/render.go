package server

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// containerRow is a container in a list.
func containerRow(one sim.ContainerDetail, now dockerio.Time) map[string]any {
	command := one.Path
	for _, arg := range one.Args {
		if strings.Contains(arg, " ") {
			arg = "'" + arg + "'"
		}
		command += " " + arg
	}
	return map[string]any{
		"Id": one.ID, "Names": []string{"/" + one.Name}, "Image": one.ListedImage, "ImageID": one.ImageID, "Command": command,
		"Created": one.Created.Unix(), "Ports": listedPorts(one), "Labels": filled(one.Labels), "State": one.Status,
		"Status": statusText(one, now), "HostConfig": map[string]string{"NetworkMode": networkMode(one)},
		"NetworkSettings": map[string]any{"Networks": networksOf(one)}, "Mounts": mountsOf(one),
	}
}

// statusText is the state in words.
func statusText(one sim.ContainerDetail, now dockerio.Time) string {
	up := func() string { return units.HumanDuration(max(0, now.Sub(one.StartedAt))) }
	down := func() string { return units.HumanDuration(max(0, now.Sub(one.FinishedAt))) }
	switch {
	case one.Paused:
		return "Up " + up() + " (Paused)"
	case one.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", one.ExitCode, down())
	case one.Running && one.Health == "starting":
		return "Up " + up() + " (health: starting)"
	case one.Running && one.Health != "":
		return "Up " + up() + " (" + one.Health + ")"
	case one.Running:
		return "Up " + up()
	case one.Dead:
		return "Dead"
	case one.StartedAt.IsZero():
		return "Created"
	}
	return fmt.Sprintf("Exited (%d) %s ago", one.ExitCode, down())
}

func listedPorts(one sim.ContainerDetail) []any {
	list := []any{}
	if !one.Running || one.Restarting {
		return list
	}
	for _, p := range one.Ports {
		private, kind, _ := strings.Cut(p.Name, "/")
		number, _ := strconv.Atoi(private)
		if len(p.Bindings) == 0 {
			list = append(list, map[string]any{"PrivatePort": number, "Type": kind})
		}
		for _, b := range p.Bindings {
			public, _ := strconv.Atoi(b.HostPort)
			list = append(list, map[string]any{"IP": b.HostIP, "PrivatePort": number, "PublicPort": public, "Type": kind})
		}
	}
	return list
}

func networkMode(one sim.ContainerDetail) string {
	var q createRequest
	_ = json.Unmarshal(one.Options.Extra, &q) // a container made in Go has none
	return cmp.Or(q.HostConfig.NetworkMode, "default")
}

func networksOf(one sim.ContainerDetail) map[string]any {
	networks := map[string]any{}
	for _, n := range one.Networks {
		settings := map[string]any{"IPAMConfig": nil, "Links": nil, "Aliases": nil, "NetworkID": n.NetworkID, "EndpointID": "", "Gateway": "",
			"IPAddress": n.IPAddress, "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "MacAddress": "",
			"DriverOpts": nil}
		if n.IPAddress != "" {
			settings["Gateway"], settings["IPPrefixLen"] = "172.17.0.1", 16
		}
		networks[n.Name] = settings
	}
	return networks
}

func mountsOf(one sim.ContainerDetail) []any {
	list := []any{}
	for _, m := range one.Mounts {
		row := map[string]any{"Type": m.Type, "Source": m.Source, "Destination": m.Destination, "Mode": modeOf(one, m), "RW": m.ReadWrite, "Propagation": ""}
		if m.Type == "volume" {
			row["Name"], row["Driver"] = m.Name, "local"
		} else {
			row["Propagation"] = "rprivate"
		}
		list = append(list, row)
	}
	return list
}

// modeOf is what stands behind the last colon; a named volume without a mode shows "z".
func modeOf(one sim.ContainerDetail, m messages.ContainerMount) string {
	for _, text := range one.Options.Volumes {
		part := strings.Split(text, ":")
		switch {
		case len(part) == 3 && part[1] == m.Destination:
			return part[2]
		case len(part) == 2 && part[1] == m.Destination && m.Type == "volume":
			return "z"
		}
	}
	return ""
}

func inspectContainer(c *call) (any, error) {
	one, err := c.engine.ContainerByRef(c.name)
	if err != nil {
		return nil, err
	}
	state := map[string]any{"Status": one.Status, "Running": one.Running, "Paused": one.Paused, "Restarting": one.Restarting,
		"OOMKilled": one.OOMKilled, "Dead": one.Dead, "Pid": one.Pid, "ExitCode": one.ExitCode, "Error": one.Error,
		"StartedAt": moment(one.StartedAt), "FinishedAt": moment(one.FinishedAt)}
	if one.Health != "" {
		state["Health"] = map[string]any{"Status": one.Health, "FailingStreak": one.Failures, "Log": []any{}}
	}
	config, host := configOf(c, one)
	ports := map[string]any{}
	if one.Running && !one.Restarting {
		for _, p := range one.Ports {
			ports[p.Name] = nil
			var bindings []map[string]string
			for _, b := range p.Bindings {
				bindings = append(bindings, map[string]string{"HostIp": b.HostIP, "HostPort": b.HostPort})
			}
			if bindings != nil {
				ports[p.Name] = bindings
			}
		}
	}
	networks := networksOf(one)
	bridge := networks["bridge"].(map[string]any)
	dir := "/var/lib/docker/containers/" + one.ID + "/"
	return map[string]any{
		"Id": one.ID, "Created": moment(one.Created), "Path": one.Path, "Args": orEmpty(one.Args), "State": state, "Image": one.ImageID,
		"ResolvConfPath": dir + "resolv.conf", "HostnamePath": dir + "hostname", "HostsPath": dir + "hosts", "LogPath": dir + one.ID + "-json.log",
		"Name": "/" + one.Name, "RestartCount": one.RestartCount, "Driver": "overlay2", "Platform": "linux", "MountLabel": "", "ProcessLabel": "",
		"AppArmorProfile": "", "ExecIDs": nil, "HostConfig": host, "GraphDriver": map[string]any{"Name": "overlay2", "Data": nil},
		"Mounts": mountsOf(one), "Config": config,
		"NetworkSettings": map[string]any{"Bridge": "", "SandboxID": "", "SandboxKey": "", "HairpinMode": false, "Ports": ports, "Networks": networks,
			"IPAddress": bridge["IPAddress"], "Gateway": bridge["Gateway"], "IPPrefixLen": bridge["IPPrefixLen"], "MacAddress": "", "EndpointID": ""},
	}, nil
}

// configOf is Config and HostConfig: what create was told, and what the image says where it was told nothing.
func configOf(c *call, one sim.ContainerDetail) (config, host map[string]any) {
	config = map[string]any{}
	_ = json.Unmarshal(one.Options.Extra, &config) // a container made in Go has none
	host, _ = config["HostConfig"].(map[string]any)
	delete(config, "HostConfig")
	delete(config, "NetworkingConfig")
	if host == nil {
		host = map[string]any{"NetworkMode": "default", "AutoRemove": one.Options.AutoRemove}
	}
	host["RestartPolicy"] = map[string]any{"Name": one.RestartPolicy, "MaximumRetryCount": one.MaxRetries}
	image, _ := c.engine.ImageByRef(one.ImageID) // it may be gone
	config["Image"], config["Labels"] = one.ImageName, filled(one.Labels)
	setDefault(config, "Hostname", one.ID[:12])
	setDefault(config, "Entrypoint", list(one.Options.Entrypoint))
	setDefault(config, "Cmd", list(one.Options.Cmd))
	setDefault(config, "WorkingDir", image.Config.WorkingDir)
	setDefault(config, "Env", list(image.Config.Env))
	if environment, ok := config["Env"].([]any); ok {
		config["Env"] = merged(environment, image.Config.Env)
	}
	if len(one.Ports) > 0 {
		exposed := map[string]any{}
		for _, p := range one.Ports {
			exposed[p.Name] = map[string]any{}
		}
		config["ExposedPorts"] = exposed
	} else {
		delete(config, "ExposedPorts")
	}
	return config, host
}

// setDefault sets what is absent or empty.
func setDefault(m map[string]any, key string, value any) {
	switch v := m[key].(type) {
	case nil:
		m[key] = value
	case string:
		if v == "" {
			m[key] = value
		}
	case []any:
		if len(v) == 0 {
			m[key] = value
		}
	}
}

// merged adds the image's variables that the container does not set.
func merged(own []any, image []string) []any {
	for _, v := range image {
		key, _, _ := strings.Cut(v, "=")
		if !slices.ContainsFunc(own, func(o any) bool { return strings.HasPrefix(fmt.Sprint(o), key+"=") }) {
			own = append(own, v)
		}
	}
	return own
}

// list is null when empty.
func list(s []string) any {
	if len(s) == 0 {
		return nil
	}
	return s
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// filled makes {} of no labels.
func filled(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}

// moment is a time as the API writes it.
func moment(t dockerio.Time) string {
	if t.IsZero() {
		return time.Time{}.Format(time.RFC3339Nano)
	}
	return t.String()
}

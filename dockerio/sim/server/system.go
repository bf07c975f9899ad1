package server

import (
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

var systemRoutes = []route{
	{"GET /_ping", sim.OpPing, false, ping},
	{"GET /version", sim.OpVersion, false, version},
	{"GET /info", sim.OpInfo, false, info},
	{"GET /events", sim.OpEvents, false, events},
	{"GET /system/df", sim.OpDiskUsage, false, diskUsage},
	{"GET /networks", sim.OpNetworks, false, listNetworks},
	{"GET /networks/{name}", sim.OpNetworks, false, inspectNetwork},
	{"GET /plugins/{name...}", sim.OpVersion, false, func(c *call) (any, error) {
		return nil, &sim.Refusal{Status: http.StatusNotFound, Text: fmt.Sprintf("plugin %q not found", strings.TrimSuffix(c.name, "/json"))}
	}},
}

func ping(*call) (any, error) {
	return streamed(func(w http.ResponseWriter) error {
		w.Header().Set("Cache-Control", "no-cache, no-store, must-revalidate")
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, err := w.Write([]byte("OK"))
		return err
	}), nil
}

func version(c *call) (any, error) {
	facts := map[string]any{
		"Version": sim.Version, "ApiVersion": sim.APIVersion, "MinAPIVersion": c.engine.Faults().Floor(), "Os": "linux", "Arch": runtime.GOARCH,
		"GitCommit": "simulated", "GoVersion": runtime.Version(), "KernelVersion": "simulated", "BuildTime": "2023-04-04T00:00:00.000000000+00:00",
	}
	details := map[string]string{}
	for _, key := range []string{"ApiVersion", "Arch", "BuildTime", "GitCommit", "GoVersion", "KernelVersion", "MinAPIVersion", "Os"} {
		details[key] = facts[key].(string)
	}
	details["Experimental"] = "false"
	facts["Platform"] = map[string]string{"Name": "rdd simulated engine"}
	facts["Components"] = []any{map[string]any{"Name": "Engine", "Version": sim.Version, "Details": details}}
	return facts, nil
}

func info(c *call) (any, error) {
	me := c.engine.Describe()
	now := ""
	if !me.Now.IsZero() {
		now = me.Now.String()
	}
	count := map[string]int{}
	for _, one := range c.engine.Containers() {
		switch {
		case one.Paused:
			count["paused"]++
		case one.Running:
			count["running"]++
		default:
			count["stopped"]++
		}
	}
	return map[string]any{
		"ID": me.ID, "Name": me.Name, "ServerVersion": me.Version, "SystemTime": now,
		"Containers": count["running"] + count["paused"] + count["stopped"], "ContainersRunning": count["running"],
		"ContainersPaused": count["paused"], "ContainersStopped": count["stopped"], "Images": len(c.engine.Images()),
		"Driver": "overlay2", "DriverStatus": [][2]string{{"Backing Filesystem", "memory"}}, "LoggingDriver": "json-file", "CgroupDriver": "none",
		"KernelVersion": "simulated", "OperatingSystem": "rdd simulated engine", "OSType": "linux", "Architecture": runtime.GOARCH,
		"NCPU": runtime.NumCPU(), "DockerRootDir": "/var/lib/docker", "IndexServerAddress": "https://index.docker.io/v1/",
		"DefaultRuntime": "runc", "Runtimes": map[string]any{"runc": map[string]string{"path": "runc"}}, "NEventsListener": c.engine.Streams(),
		"Plugins": map[string]any{"Volume": []string{"local"}, "Network": []string{"bridge", "host", "null"}, "Log": []string{"json-file"}},
		"Swarm":   map[string]any{"LocalNodeState": "inactive"}, "MemoryLimit": true, "SwapLimit": true, "Warnings": nil,
		"ContainerdCommit": commit, "RuncCommit": commit, "InitCommit": commit, "SecurityOptions": []string{"name=seccomp,profile=default"},
	}, nil
}

var commit = map[string]string{"ID": "simulated", "Expected": "simulated"}

// networks are those that every engine has.
func networks(c *call) []map[string]any {
	var list []map[string]any
	for _, n := range [][2]string{{"bridge", "bridge"}, {"host", "host"}, {"none", "null"}} {
		id := c.engine.Network()
		if n[0] != "bridge" {
			id = strings.Repeat(fmt.Sprintf("%02x", n[0][0]), 32)
		}
		list = append(list, map[string]any{"Name": n[0], "Id": id, "Driver": n[1], "Scope": "local", "Labels": map[string]string{},
			"Options": map[string]string{}, "Created": "2023-01-01T00:00:00Z", "Internal": false, "Attachable": false, "Ingress": false,
			"EnableIPv6": false, "IPAM": map[string]any{"Driver": "default", "Config": []any{}}, "Containers": map[string]any{}})
	}
	return list
}

func listNetworks(c *call) (any, error) { return networks(c), nil }

func inspectNetwork(c *call) (any, error) {
	for _, n := range networks(c) {
		if n["Name"] == c.name || n["Id"] == c.name {
			return n, nil
		}
	}
	return nil, &sim.Refusal{Status: http.StatusNotFound, Text: "network " + c.name + " not found"}
}

func diskUsage(c *call) (any, error) {
	now := c.engine.Now()
	var total int64
	images := []any{}
	for _, i := range c.engine.Images() {
		row := imageRow(i)
		row["Containers"], row["SharedSize"] = len(i.Users), 0
		images = append(images, row)
		total += i.Size
	}
	containers := []any{}
	for _, one := range c.engine.Containers() {
		row := containerRow(one, now)
		row["SizeRootFs"] = 0
		containers = append(containers, row)
	}
	volumes := []any{}
	for _, v := range c.engine.Volumes() {
		row := volumeRow(v)
		row["UsageData"] = map[string]any{"RefCount": len(v.Users), "Size": 0}
		volumes = append(volumes, row)
	}
	return map[string]any{"LayersSize": total, "Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": []any{}, "BuilderSize": 0}, nil
}

// parseMoment reads "seconds[.nanoseconds]" or RFC 3339; empty is the zero Time.
func parseMoment(text string) (dockerio.Time, error) {
	if text == "" {
		return dockerio.Time{}, nil
	}
	if at := dockerio.ParseTime(text); !at.IsZero() {
		return at, nil
	}
	whole, part, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return dockerio.Time{}, &sim.Refusal{Status: http.StatusBadRequest, Text: err.Error()}
	}
	nanos, _ := strconv.ParseInt((part + "000000000")[:9], 10, 64)
	return dockerio.EngineTime(time.Unix(seconds, nanos)), nil
}

// is tells whether an error has this class.
func is(err error, class messages.Class) bool { return err != nil && messages.ClassOf(err) == class }

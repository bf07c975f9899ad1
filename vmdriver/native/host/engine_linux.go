package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Engine says where the traces of one private dockerd are.
type Engine struct {
	// Dir has its configuration file, which its dockerd names as an argument.
	Dir string
	// DataRoot and ExecRoot of its configuration; they may be below Dir.
	DataRoot, ExecRoot string
	// Bridge is the name of its bridge.
	Bridge string
	// Subnet of its networks; zero = not known.
	Subnet netip.Prefix
	// Cgroup is the parent of its containers' control groups, "/name".
	Cgroup string
}

// Helpers are the processes of an engine beside dockerd itself.
type Helpers struct {
	// Containerd is dockerd's own; it asks the kernel to be killed with dockerd.
	Containerd []Process
	// Shims have one container each; Containers are the processes that a shim started.
	Shims, Containers []Process
	// Proxies forward published ports; they end with dockerd.
	Proxies []Process
}

// All lists them.
func (h Helpers) All() []Process {
	return slices.Concat(h.Shims, h.Containers, h.Containerd, h.Proxies)
}

// Helpers finds the helpers that run.
func (e Engine) Helpers() Helpers {
	var h Helpers
	all := Scan()
	shims := map[int]bool{}
	for _, r := range all {
		switch {
		case strings.HasPrefix(r.Command, "containerd-shim") && r.Mentions(e.ExecRoot):
			shims[r.PID] = true
			h.Shims = append(h.Shims, r.Process)
		case r.Command == "containerd" && r.Mentions(e.ExecRoot):
			h.Containerd = append(h.Containerd, r.Process)
		case r.Command == "docker-proxy" && e.forwardedTo(r.Args):
			h.Proxies = append(h.Proxies, r.Process)
		}
	}
	for _, r := range all {
		if shims[r.Parent] {
			h.Containers = append(h.Containers, r.Process)
		}
	}
	return h
}

// forwardedTo tells whether the arguments of a proxy name a container of the engine.
func (e Engine) forwardedTo(args []string) bool {
	i := slices.Index(args, "-container-ip")
	if i < 0 || i+1 == len(args) || !e.Subnet.IsValid() {
		return false
	}
	address, err := netip.ParseAddr(args[i+1])
	return err == nil && e.Subnet.Contains(address)
}

// Daemon finds a dockerd that was started with the engine's configuration file, by whomever.
func (e Engine) Daemon() (Process, bool) {
	for _, r := range Scan() {
		if r.Command == "dockerd" && r.Mentions(e.Dir) {
			return r.Process, true
		}
	}
	return Process{}, false
}

// KillContainers ends the processes of containers, paused or not, by SIGKILL.
func (e Engine) KillContainers() error {
	thaw(e.Cgroup)
	return Kill(e.Helpers().Containers)
}

// Remove removes what a dockerd that has ended left on the host: helpers (by SIGKILL), mounts, sockets of shims, control groups,
// packet filter rules, bridges, the claim. It goes on after an error. Files below DataRoot stay.
func (e Engine) Remove() error {
	bridges, sockets := NetworkBridges(e.DataRoot), ShimSockets(e.ExecRoot)
	errs := []error{e.KillContainers(), Kill(e.Helpers().All()), Unmount(e.ExecRoot), Unmount(e.DataRoot)}
	for _, s := range sockets {
		_ = os.Remove(s) // containerd removes it too
	}
	if e.Cgroup != "" {
		errs = append(errs, RemoveCgroups(e.Cgroup))
	}
	errs = append(errs, Release(e.Dir, e.Bridge, bridges...))
	return errors.Join(errs...)
}

// Traces are what an engine has on the host beside its files.
type Traces struct {
	Processes, Mounts, Links, Rules, Cgroups, ShimSockets []string
}

// Empty says that there are none.
func (t Traces) Empty() bool {
	return len(t.Processes)+len(t.Mounts)+len(t.Links)+len(t.Rules)+len(t.Cgroups)+len(t.ShimSockets) == 0
}

// Traces looks for all of them.
func (e Engine) Traces() Traces {
	var t Traces
	for _, r := range Scan() {
		if r.Mentions(e.Dir) || r.Mentions(e.ExecRoot) {
			t.Processes = append(t.Processes, strings.Join(r.Args, " "))
		}
	}
	for _, p := range e.Helpers().All() {
		t.Processes = append(t.Processes, fmt.Sprint(p))
	}
	t.Mounts = append(Mounts(e.DataRoot), Mounts(e.ExecRoot)...)
	for _, b := range append(NetworkBridges(e.DataRoot), e.Bridge) {
		if bridgeExists(b) {
			t.Links = append(t.Links, b)
		}
	}
	for _, rule := range filterRulesOf(e.Bridge) {
		t.Rules = append(t.Rules, strings.Join(rule, " "))
	}
	if e.Cgroup != "" {
		t.Cgroups = cgroups(e.Cgroup)
	}
	for _, s := range ShimSockets(e.ExecRoot) {
		if _, err := os.Stat(s); err == nil {
			t.ShimSockets = append(t.ShimSockets, s)
		}
	}
	return t
}

// ReadEngine reads where an engine's traces are from its dockerd's configuration file.
func ReadEngine(file string) (Engine, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Engine{}, err
	}
	var c struct {
		DataRoot string                        `json:"data-root"`
		ExecRoot string                        `json:"exec-root"`
		Bridge   string                        `json:"bridge"`
		Cgroup   string                        `json:"cgroup-parent"`
		Pools    []struct{ Base netip.Prefix } `json:"default-address-pools"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return Engine{}, fmt.Errorf("%s: %w", file, err)
	}
	e := Engine{Dir: filepath.Dir(file), DataRoot: c.DataRoot, ExecRoot: c.ExecRoot, Bridge: c.Bridge, Cgroup: c.Cgroup}
	if len(c.Pools) > 0 {
		e.Subnet = c.Pools[0].Base
	}
	if e.DataRoot == "" || e.ExecRoot == "" || e.Bridge == "" || e.Cgroup == "" {
		return Engine{}, fmt.Errorf("%s is not a configuration of a private engine", file)
	}
	return e, nil
}

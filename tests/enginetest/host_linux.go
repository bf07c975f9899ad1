package enginetest

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// What an engine needs from the host, and what it leaves there: bridge, mounts, cgroups, packet filter rules.

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func randomName(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// freeSubnet finds three numbers "10.213.N" whose /24 no interface and no route of the machine touches.
func freeSubnet() (string, error) {
	var used []netip.Prefix
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			used = append(used, p.Masked())
		}
	}
	routes, _ := os.ReadFile("/proc/net/route")
	used = append(used, parseRoutes(string(routes))...)
	for n := range 256 {
		subnet := fmt.Sprintf("10.213.%d", n)
		candidate := netip.MustParsePrefix(subnet + ".0/24")
		if !slices.ContainsFunc(used, candidate.Overlaps) {
			return subnet, nil
		}
	}
	return "", errors.New("no free subnet in 10.213.0.0/16")
}

// parseRoutes reads the destinations of /proc/net/route but the default route. Numbers there are hexadecimal, lowest byte first.
func parseRoutes(table string) []netip.Prefix {
	var found []netip.Prefix
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			continue
		}
		destination, err1 := strconv.ParseUint(fields[1], 16, 32)
		mask, err2 := strconv.ParseUint(fields[7], 16, 32)
		if err1 != nil || err2 != nil || mask == 0 {
			continue
		}
		quad := func(n uint64) [4]byte { return [4]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)} }
		m := quad(mask)
		ones, _ := net.IPv4Mask(m[0], m[1], m[2], m[3]).Size()
		found = append(found, netip.PrefixFrom(netip.AddrFrom4(quad(destination)), ones))
	}
	return found
}

func addBridge(name, subnet string) error {
	if err := run("ip", "link", "add", "name", name, "type", "bridge"); err != nil {
		return err
	}
	return errors.Join(
		run("ip", "addr", "add", subnet+".1/24", "dev", name),
		run("ip", "link", "set", name, "up"),
	)
}

// removeBridge removes a bridge; one that is not there, or is no bridge, is left alone.
func removeBridge(name string) error {
	if _, err := os.Stat(filepath.Join("/sys/class/net", name, "bridge")); err != nil {
		return nil
	}
	return run("ip", "link", "del", name)
}

// networkBridges finds the bridges that dockerd made for user-defined networks: br- and the first 12 digits of a network's id. They
// are ours when the engine's own network database knows the id.
func (e *Engine) networkBridges() []string {
	known, err := os.ReadFile(filepath.Join(e.dataRoot(), "network", "files", "local-kv.db"))
	if err != nil {
		return nil
	}
	links, _ := os.ReadDir("/sys/class/net")
	var found []string
	for _, l := range links {
		if id, ok := strings.CutPrefix(l.Name(), "br-"); ok && len(id) == 12 && bytes.Contains(known, []byte(id)) {
			found = append(found, l.Name())
		}
	}
	return found
}

var octal = regexp.MustCompile(`\\[0-7]{3}`)

// mounts lists the mount points in the directory, the latest first, which is the order to unmount them in.
func mounts(dir string) []string {
	table, _ := os.ReadFile("/proc/self/mountinfo")
	var found []string
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := octal.ReplaceAllStringFunc(fields[4], func(s string) string {
			n, _ := strconv.ParseUint(s[1:], 8, 8)
			return string([]byte{byte(n)})
		})
		if strings.HasPrefix(point+"/", dir+"/") {
			found = append(found, point)
		}
	}
	slices.Reverse(found)
	return found
}

func unmount(dir string) error {
	var errs []error
	for _, point := range mounts(dir) {
		err := syscall.Unmount(point, 0)
		if errors.Is(err, syscall.EBUSY) {
			err = syscall.Unmount(point, syscall.MNT_DETACH)
		}
		if err != nil && !errors.Is(err, syscall.EINVAL) { // EINVAL: it went with another one
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}

// cgroups lists the directories of a control group in all hierarchies, the deepest first.
func cgroups(name string) []string {
	if name == "" {
		return nil
	}
	table, _ := os.ReadFile("/proc/self/mountinfo")
	var found []string
	for line := range strings.Lines(string(table)) {
		left, right, ok := strings.Cut(line, " - ")
		fields := strings.Fields(left)
		if !ok || len(fields) < 5 || !strings.HasPrefix(right, "cgroup") {
			continue
		}
		_ = filepath.WalkDir(filepath.Join(fields[4], name), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				found = append(found, path)
			}
			return nil
		})
	}
	slices.Reverse(found)
	return found
}

func removeCgroups(name string) error {
	var errs []error
	for _, dir := range cgroups(name) {
		if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
			errs = append(errs, fmt.Errorf("remove the cgroup %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

// shimSockets finds the sockets of this engine's shims. They lie outside of its directory, and a killed shim leaves its socket.
func (e *Engine) shimSockets() []string {
	files, _ := filepath.Glob(filepath.Join(e.execRoot(), "containerd/daemon/io.containerd.runtime.v2.task/*/*/address"))
	var found []string
	for _, f := range files {
		address, err := os.ReadFile(f)
		path, ok := strings.CutPrefix(strings.TrimSpace(string(address)), "unix://")
		if err == nil && ok && strings.HasPrefix(path, "/run/containerd/s/") {
			found = append(found, path)
		}
	}
	return found
}

// filterRules lists the rules of the packet filter as "TABLE", "-A", CHAIN, …; nil where the tool does not work.
func filterRules(tool string) [][]string {
	out, err := exec.Command(tool + "-save").Output()
	if err != nil {
		return nil
	}
	table := ""
	var rules [][]string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "*"); ok {
			table = name
		}
		if strings.HasPrefix(line, "-A ") {
			rules = append(rules, append([]string{table}, strings.Fields(line)...))
		}
	}
	return rules
}

// removeFilterRules removes the rules that name one of the bridges or an address of the subnet.
func removeFilterRules(bridges []string, subnet string) error {
	var errs []error
	for _, tool := range []string{"iptables", "ip6tables"} {
		for _, rule := range filterRules(tool) {
			ours := slices.ContainsFunc(rule, func(word string) bool {
				return slices.Contains(bridges, word) || subnet != "" && strings.HasPrefix(word, subnet+".")
			})
			if ours {
				errs = append(errs, run(tool, append([]string{"-w", "10", "-t", rule[0], "-D"}, rule[2:]...)...))
			}
		}
	}
	return errors.Join(errs...)
}

// hasSharedChains tells whether a dockerd has set up the packet filter: the chains it shares with all others on the machine.
func hasSharedChains() bool {
	out, _ := exec.Command("iptables-save").Output()
	return bytes.Contains(out, []byte("\n:DOCKER"))
}

// chainsFile marks that there were no shared chains before an engine of ours made them: they are ours to remove.
func chainsFile() string { return filepath.Join(base(), "made-shared-chains") }

// filterUser tells whether a dockerd runs that may use the packet filter: any but our own engines that were told not to.
func filterUser() bool {
	return slices.ContainsFunc(scan(), func(r running) bool {
		if r.command != "dockerd" {
			return false
		}
		for _, a := range r.args {
			if filepath.Dir(filepath.Dir(a)) != base() {
				continue
			}
			var rec record
			content, err := os.ReadFile((&Engine{dir: filepath.Dir(a)}).recordFile())
			if err == nil && json.Unmarshal(content, &rec) == nil && !rec.IPTables {
				return false
			}
		}
		return true
	})
}

// removeSharedChains removes the DOCKER chains if they are ours, unless a rule in them names an interface or somebody may use them.
func removeSharedChains() error {
	if _, err := os.Stat(chainsFile()); err != nil || filterUser() {
		return nil
	}
	var errs []error
	for _, tool := range []string{"iptables", "ip6tables"} {
		rules := filterRules(tool)
		docker := func(word string) bool { return strings.HasPrefix(word, "DOCKER") }
		inUse := slices.ContainsFunc(rules, func(rule []string) bool {
			return docker(rule[2]) && (slices.Contains(rule, "-i") || slices.Contains(rule, "-o"))
		})
		if inUse {
			continue
		}
		for _, rule := range rules {
			if slices.ContainsFunc(rule[2:], docker) {
				errs = append(errs, run(tool, append([]string{"-w", "10", "-t", rule[0], "-D"}, rule[2:]...)...))
			}
		}
		out, _ := exec.Command(tool + "-save").Output()
		table := ""
		for line := range strings.Lines(string(out)) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "*"); ok {
				table = name
			}
			if chain, ok := strings.CutPrefix(line, ":DOCKER"); ok {
				chain, _, _ = strings.Cut(chain, " ")
				errs = append(errs, run(tool, "-w", "10", "-t", table, "-X", "DOCKER"+chain))
			}
		}
	}
	if !hasSharedChains() {
		errs = append(errs, os.Remove(chainsFile()))
	}
	return errors.Join(errs...)
}

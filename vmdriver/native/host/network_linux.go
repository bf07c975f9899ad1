package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

func run(name string, args ...string) error {
	path, err := LookPath(name)
	if err != nil {
		return err
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// pools is where engines get their subnets from, each one of this many bits: sixteen networks of 254 containers.
var pools = netip.MustParsePrefix("10.208.0.0/13")

const subnetBits = 20

// freeSubnet finds a subnet in pools that no interface, no route and no claim touches; liked if that is free.
func freeSubnet(liked netip.Prefix, claims []Claim) (netip.Prefix, error) {
	var used []netip.Prefix
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			used = append(used, p.Masked())
		}
	}
	routes, _ := os.ReadFile("/proc/net/route")
	used = append(used, parseRoutes(string(routes))...)
	for _, c := range claims {
		used = append(used, c.Subnet)
	}
	free := func(p netip.Prefix) bool { return p.IsValid() && !slices.ContainsFunc(used, p.Overlaps) }
	if free(liked) {
		return liked, nil
	}
	for n := range 1 << (subnetBits - pools.Bits()) {
		at := pools.Addr().As4()
		binary.BigEndian.PutUint32(at[:], binary.BigEndian.Uint32(at[:])+uint32(n)<<(32-subnetBits))
		if p := netip.PrefixFrom(netip.AddrFrom4(at), subnetBits); free(p) {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("no free subnet in %s", pools)
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

// addBridge makes a bridge that has the first address of the first /24 of the subnet.
func addBridge(name string, subnet netip.Prefix) error {
	if err := run("ip", "link", "add", "name", name, "type", "bridge"); err != nil {
		return err
	}
	return errors.Join(
		run("ip", "addr", "add", netip.PrefixFrom(subnet.Addr().Next(), 24).String(), "dev", name),
		run("ip", "link", "set", name, "up"),
	)
}

// removeBridge removes a bridge; one that is not there, or is no bridge, is left alone.
func removeBridge(name string) error {
	if !bridgeExists(name) {
		return nil
	}
	return run("ip", "link", "del", name)
}

func bridgeExists(name string) bool {
	_, err := os.Stat(filepath.Join("/sys/class/net", name, "bridge"))
	return name != "" && err == nil
}

// NetworkBridges finds the bridges that dockerd made for user-defined networks: br- and the first 12 digits of a network's id. They
// are ours when the engine's own network database knows the id.
func NetworkBridges(dataRoot string) []string {
	known, err := os.ReadFile(filepath.Join(dataRoot, "network", "files", "local-kv.db"))
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

// letOut makes the rules with which containers of the subnet reach the outside, marked with the bridge's name. dockerd's own rules
// (iptables=true) are not for a host with several: each start of one flushes the chains of all.
func letOut(mark string, subnet netip.Prefix) error {
	comment := []string{"-m", "comment", "--comment", mark}
	var errs []error
	for _, rule := range []struct{ where, what []string }{
		{[]string{"-t", "nat", "-A", "POSTROUTING"}, []string{"-s", subnet.String(), "!", "-d", subnet.String(), "-j", "MASQUERADE"}},
		{[]string{"-I", "FORWARD"}, []string{"-s", subnet.String(), "-j", "ACCEPT"}},
		{[]string{"-I", "FORWARD"}, []string{"-d", subnet.String(), "-j", "ACCEPT"}},
	} {
		errs = append(errs, run("iptables", slices.Concat([]string{"-w", "10"}, rule.where, comment, rule.what)...))
	}
	return errors.Join(errs...)
}

// filterRules lists the rules of the packet filter as "TABLE", "-A", CHAIN, …; nil where the tool does not work.
func filterRules() [][]string {
	path, err := LookPath("iptables-save")
	if err != nil {
		return nil
	}
	out, err := exec.Command(path).Output()
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

// filterRulesOf lists the rules that name the bridge: as an interface, or as their mark.
func filterRulesOf(bridge string) [][]string {
	return slices.DeleteFunc(filterRules(), func(rule []string) bool { return bridge == "" || !slices.Contains(rule, bridge) })
}

func removeFilterRules(bridge string) error {
	var errs []error
	for _, rule := range filterRulesOf(bridge) {
		errs = append(errs, run("iptables", append([]string{"-w", "10", "-t", rule[0], "-D"}, rule[2:]...)...))
	}
	return errors.Join(errs...)
}

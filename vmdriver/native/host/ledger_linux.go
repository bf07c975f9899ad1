package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
)

// ledgerDir holds what the private engines of this machine share: who has which subnet, and how the host was before the first of them.
// It is gone when the last of them is.
const ledgerDir = "/run/rdd-engines"

const forwardingFile = "/proc/sys/net/ipv4/ip_forward"

// Claim is the part of the host one engine has.
type Claim struct {
	// Dir is a directory that an argument of its dockerd names a path in.
	Dir string `json:"dir"`
	// Bridge is the name of its bridge, at most 15 bytes; it marks its packet filter rules too.
	Bridge string `json:"bridge"`
	// Subnet is where its bridge and its other networks get their addresses from.
	Subnet netip.Prefix `json:"subnet"`
	// Outside: its containers reach the outside, for which the host must forward packets.
	Outside bool `json:"outside"`
}

type ledger struct {
	Claims []Claim `json:"claims"`
	// MadeForwarding: the host did not forward before one of ours needed it.
	MadeForwarding bool `json:"madeForwarding,omitempty"`
}

// Take claims the bridge and a free subnet for the engine in c.Dir and makes the bridge; c.Subnet is the one it would like. Taking
// again what one has changes nothing. The subnet claimed is returned.
func Take(c Claim) (netip.Prefix, error) {
	err := withLedger(func(l *ledger) error {
		if i := l.find(c.Dir); i >= 0 && bridgeExists(l.Claims[i].Bridge) {
			c = l.Claims[i]
			return nil
		}
		l.forget(c.Dir)
		// Claimed by nobody, and the name is ours: a crash left it.
		if err := errors.Join(removeFilterRules(c.Bridge), removeBridge(c.Bridge)); err != nil {
			return err
		}
		var err error
		if c.Subnet, err = freeSubnet(c.Subnet, l.Claims); err != nil {
			return err
		}
		if c.Outside {
			l.MadeForwarding = forward() || l.MadeForwarding
			err = letOut(c.Bridge, c.Subnet)
		}
		l.Claims = append(l.Claims, c)
		return errors.Join(err, addBridge(c.Bridge, c.Subnet))
	})
	return c.Subnet, err
}

// Release removes the packet filter rules of the bridge, it and the other bridges, and the claim of the engine in dir; after the
// last one also what they shared. Nothing claimed = success.
func Release(dir, bridge string, others ...string) error {
	return withLedger(func(l *ledger) error {
		errs := []error{removeFilterRules(bridge)}
		for _, b := range append(others, bridge) {
			errs = append(errs, removeBridge(b))
		}
		err := errors.Join(errs...)
		if err == nil {
			l.forget(dir)
		}
		outside := slices.ContainsFunc(l.Claims, func(x Claim) bool { return x.Outside })
		if l.MadeForwarding && !outside && !l.stranger() {
			err = errors.Join(err, os.WriteFile(forwardingFile, []byte("0\n"), 0))
			l.MadeForwarding = false
		}
		return err
	})
}

func (l *ledger) find(dir string) int {
	return slices.IndexFunc(l.Claims, func(x Claim) bool { return x.Dir == dir })
}

// forget drops the claim of the engine in dir, and claims whose bridge is gone: somebody else cleaned up.
func (l *ledger) forget(dir string) {
	l.Claims = slices.DeleteFunc(l.Claims, func(x Claim) bool { return x.Dir == dir || !bridgeExists(x.Bridge) })
}

// stranger tells whether a dockerd runs that is none of ours: it may rely on forwarding by now.
func (l *ledger) stranger() bool {
	return slices.ContainsFunc(Scan(), func(r Running) bool {
		return r.Command == "dockerd" && !slices.ContainsFunc(l.Claims, func(c Claim) bool { return r.Mentions(c.Dir) })
	})
}

// forward lets the host forward packets; false = it did, or cannot (a read-only /proc/sys: then containers do not reach the outside).
func forward() bool {
	now, err := os.ReadFile(forwardingFile)
	if err != nil || strings.TrimSpace(string(now)) != "0" {
		return false
	}
	return os.WriteFile(forwardingFile, []byte("1\n"), 0) == nil
}

// withLedger calls f with the ledger while no other process has it, and saves what f made of it, also when f fails.
func withLedger(f func(l *ledger) error) error {
	unlock, err := LockDir(ledgerDir)
	if err != nil {
		return fmt.Errorf("claim a part of the host: %w", err)
	}
	defer unlock()
	file := filepath.Join(ledgerDir, "claims.json")
	var l ledger
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &l)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", file, err)
	}
	err = f(&l)
	if len(l.Claims) == 0 && !l.MadeForwarding {
		if gone := os.Remove(file); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return err
	}
	data, failed := json.Marshal(l)
	if failed != nil {
		return errors.Join(err, failed)
	}
	return errors.Join(err, renameio.WriteFile(file, data, 0o600))
}

// LockDir makes a directory and locks it: one process at a time. unlock removes it when it is empty. Another user's directory is
// an error.
func LockDir(path string) (unlock func(), err error) {
	for {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		dir, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed by the last one's unlock
		}
		if err != nil {
			return nil, err
		}
		mine, err := lockOpen(dir, path)
		if err != nil {
			return nil, errors.Join(err, dir.Close())
		}
		if mine {
			return func() {
				_ = os.Remove(path) // only when it is empty
				_ = dir.Close()
			}, nil
		}
		_ = dir.Close()
	}
}

// lockOpen locks an open directory; false = it was removed meanwhile.
func lockOpen(dir *os.File, path string) (bool, error) {
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return false, fmt.Errorf("lock %s: %w", path, err)
	}
	locked, err := dir.Stat()
	if err != nil {
		return false, err
	}
	if owner := locked.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
		return false, fmt.Errorf("%s belongs to the user %d", path, owner)
	}
	now, err := os.Lstat(path)
	return err == nil && os.SameFile(locked, now), nil
}

// Package native is the VM driver that runs a private dockerd as a process of the host: the "VM" on Linux without KVM.
//
// Its dockerd has a configuration file, data root, exec root, bridge, pid file and socket of its own, and live-restore on: containers
// outlive a crash of dockerd and of rdd, and the next Start takes them back. A process is known by pid, start time, boot id and the
// path of the configuration file among its arguments; signals go through a pidfd only. Stop ends in order: live-restore off, SIGTERM,
// and only then by force; after it nothing of the engine is left on the host but its files.
//
// It needs Linux, root, dockerd, ip and iptables. No containerd of the system may run: dockerd would use that one, for which it is
// not made to share.
package native

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// Config of the driver.
type Config struct {
	// Dir is where the engine keeps its configuration, data and log. It names the engine: two drivers with one Dir run one engine.
	Dir string
	// RunDir has exec root and pid file: its path must be short, for the sockets in it.
	RunDir string
	// Socket is where the engine listens; at most 103 bytes.
	Socket string
	// Grace is how long containers get to stop, before dockerd kills them. Default 10 s, which is Docker's own.
	Grace time.Duration
	// Log. Nil = discard.
	Log *slog.Logger
}

// Names of files below Config.Dir.
const (
	dataDir    = "data"
	configName = "daemon.json"
	recordName = "engine.json"
	keyName    = "key.json"
	logName    = "dockerd.log"
)

func (c Config) file(name string) string { return filepath.Join(c.Dir, name) }
func (c Config) execRoot() string        { return filepath.Join(c.RunDir, "exec") }
func (c Config) pidFile() string         { return filepath.Join(c.RunDir, "dockerd.pid") }

// mark names the engine on the host: bridge (at most 15 bytes) and control group.
func (c Config) mark() string {
	sum := sha256.Sum256([]byte(c.Dir))
	return "rdd" + hex.EncodeToString(sum[:])[:10]
}

// Name implements [vmdriver.Driver].
func (*Driver) Name() string { return messages.DriverNative }

// Capabilities implements [vmdriver.Driver].
func (*Driver) Capabilities() vmdriver.Capabilities {
	return vmdriver.Capabilities{Backends: []string{messages.EngineMoby}, OwnsEngine: true}
}

var _ vmdriver.Driver = (*Driver)(nil)

func refuse(verb, why string) error {
	return messages.NewError(messages.CodeInvalid, verb, "vm", messages.DriverNative, why)
}

// failed makes an error of ours: what one call could not do, the next one may.
func failed(verb string, err error) error {
	if e := (*messages.Error)(nil); err == nil || errors.As(err, &e) {
		return err
	}
	return messages.WrapError(messages.CodeUnavailable, verb, "vm", messages.DriverNative, err)
}

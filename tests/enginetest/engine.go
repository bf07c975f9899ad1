package enginetest

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rdd-desktop/rdd/vmdriver/native/host"
)

// Options of a private engine. The zero value is what most tests want.
type Options struct {
	// LiveRestore keeps containers running while dockerd is away (killed, stopped or restarted).
	LiveRestore bool
	// Config holds further keys of dockerd's configuration file; they win over the harness's own.
	Config map[string]any
	// StartTimeout limits one start of dockerd; default 30 s.
	StartTimeout time.Duration
}

// Engine is one private dockerd. Its methods may be called from several goroutines.
type Engine struct {
	Client
	opts Options
	dir  string
	rec  record

	mu      sync.Mutex // guards what follows, and is held through every change of the process
	proc    host.Process
	process *os.Process
	frozen  bool
	closed  bool
}

// record is what another process needs to know to remove this engine when its owner died. It stands in the engine's directory.
type record struct {
	Boot   string       `json:"boot"`
	Owner  host.Process `json:"owner"`
	Daemon host.Process `json:"daemon"`
	Bridge string       `json:"bridge"`
	Subnet netip.Prefix `json:"subnet"`
	Cgroup string       `json:"cgroup"`
}

// Dir is the engine's directory; everything it writes is in there.
func (e *Engine) Dir() string { return e.dir }

// Bridge is the name of the engine's network bridge.
func (e *Engine) Bridge() string { return e.rec.Bridge }

// PID of the running dockerd; 0 while there is none.
func (e *Engine) PID() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.proc.Alive() {
		return 0
	}
	return e.proc.PID
}

// Log is everything dockerd has written so far.
func (e *Engine) Log() string {
	b, _ := os.ReadFile(e.logFile())
	return string(b)
}

// logWithoutNoise is the log without the lines about dockerd's connections to its containerd.
func (e *Engine) logWithoutNoise() string {
	var b strings.Builder
	for line := range strings.Lines(e.Log()) {
		if !strings.Contains(line, "module=grpc") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func (e *Engine) dataRoot() string   { return filepath.Join(e.dir, "data") }
func (e *Engine) execRoot() string   { return filepath.Join(e.dir, "exec") }
func (e *Engine) pidFile() string    { return filepath.Join(e.dir, "pid") }
func (e *Engine) logFile() string    { return filepath.Join(e.dir, "log") }
func (e *Engine) configFile() string { return filepath.Join(e.dir, "daemon.json") }
func (e *Engine) recordFile() string { return filepath.Join(e.dir, "record.json") }

// tail returns the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

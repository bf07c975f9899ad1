// STUB: Config, Intervals, Rdd and Start; to be replaced by start.go and tree.go.

package supervisor

import (
	"context"
	"log/slog"
	"time"

	"github.com/rdd-desktop/rdd/vmdriver"
)

// Config of a running rdd. The zero value works (for an in-memory journal, driver external, no edge).
type Config struct {
	// Dir empty = in-memory journal, no lock, no files at all.
	Instance   *Instance
	Log        *slog.Logger
	Edge       bool
	TestHooks  bool
	Version    string
	Drivers    map[string]vmdriver.Driver
	Intervals  Intervals
	OnShutdown func()
}

// Intervals are the clocks of the watcher; zero = default.
type Intervals struct {
	Audit     time.Duration // 60 s, jittered
	Heartbeat time.Duration // 10 s
	Deadline  time.Duration // 2 s for each engine call
}

// Rdd is a running tree.
type Rdd struct{}

func Start(ctx context.Context, cfg Config) (*Rdd, error) { return nil, nil }
func (r *Rdd) Client() *Client                            { return nil }
func (r *Rdd) Stop(ctx context.Context) error             { return nil }
func (r *Rdd) Failed() <-chan error                       { return nil }

//go:build !linux

package main

import (
	"os"
	"path/filepath"
	"time"
)

// watchdog knows no processes here: without /proc nothing proves whose they are.
type watchdog struct {
	dir      string
	patience time.Duration
}

func newWatchdog(_, dir string) *watchdog { return &watchdog{dir: dir, patience: defaultPatience} }

func (w *watchdog) environment() []string { return os.Environ() }

func (w *watchdog) bundle(why string) error {
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.dir, "reason.txt"), []byte(why+"\n"), 0o644)
}

func (w *watchdog) end() error { return nil }

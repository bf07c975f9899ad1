package native

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
	"github.com/rdd-desktop/rdd/vmdriver/conformance"
	"github.com/rdd-desktop/rdd/vmdriver/native/host"
)

// place makes directories for one engine and removes what is left of it at the end. Paths of sockets are short.
func place(t *testing.T) Config {
	t.Helper()
	if err := New(Config{}).Available(); err != nil {
		t.Skip("no dockerd can be run here: ", err)
	}
	dir, err := os.MkdirTemp("/tmp", "rddn")
	require.NoError(t, err)
	c := Config{Dir: filepath.Join(dir, "native"), RunDir: filepath.Join(dir, "run"), Socket: filepath.Join(dir, "docker.sock"), Grace: 2 * time.Second}
	t.Cleanup(func() {
		require.NoError(t, New(c).Delete(t.Context()))
		require.NoError(t, os.RemoveAll(dir))
	})
	return c
}

// residue is what the engine has on the machine beside its files, and the files that speak of a run.
func residue(t *testing.T, d *Driver) []string {
	r, err := d.loadOrNew()
	require.NoError(t, err)
	tr := d.onHost(r).Traces()
	var left []string
	for _, l := range [][]string{tr.Processes, tr.Mounts, tr.Links, tr.Rules, tr.Cgroups, tr.ShimSockets} {
		left = append(left, l...)
	}
	for _, f := range []string{d.c.Socket, d.c.pidFile(), d.c.execRoot()} {
		if _, err := os.Lstat(f); err == nil {
			left = append(left, f)
		}
	}
	return left
}

func (d *Driver) running(t *testing.T) host.Process {
	t.Helper()
	r, err := d.load()
	require.NoError(t, err)
	p, alive := d.find(r)
	require.True(t, alive, "dockerd runs")
	return p
}

func TestConformance(t *testing.T) {
	conformance.Run(t, func(t *testing.T) conformance.Fixture {
		c := place(t)
		d := New(c)
		return conformance.Fixture{
			New:  func() vmdriver.Driver { return New(c) },
			Spec: vmdriver.Spec{Backend: messages.EngineMoby},
			Crash: func(t *testing.T) {
				p := d.running(t)
				require.NoError(t, p.Signal(syscall.SIGKILL))
				require.True(t, p.Wait(t.Context()))
			},
			Boot:    func(t *testing.T) string { return fmt.Sprint(d.running(t)) },
			Residue: func(t *testing.T) []string { return residue(t, d) },
		}
	})
}

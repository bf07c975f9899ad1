package e2e

import (
	"context"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/tests/enginetest"
	"github.com/rdd-desktop/rdd/vmdriver"
	"github.com/rdd-desktop/rdd/vmdriver/external"
)

// Ten lives of rdd on a real engine leave no file descriptor and no goroutine behind.
func TestNothingIsLeftOpen(t *testing.T) {
	e := enginetest.ForTest(t)
	e.Clean(t)
	e.ImportBusybox(t, "busybox:latest")
	life := func() {
		r, err := supervisor.Start(t.Context(), supervisor.Config{Drivers: map[string]vmdriver.Driver{
			messages.DriverExternal: external.New(external.Config{Getenv: func(string) string { return e.Host() }, Home: t.TempDir()}),
		}})
		require.NoError(t, err)
		h := &house{T: t, engine: &e.Client, client: r.Client()}
		h.set("running=true", "virtualMachine.driver=external", "virtualMachine.socket="+e.Socket())
		h.settled()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, r.Stop(ctx))
	}
	count := func() (fds, goroutines int) {
		list, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(list), runtime.NumGoroutine()
	}
	life() // what is opened once and for all
	fds, goroutines := count()
	for range 10 {
		life()
	}
	// Not within a helper that starts goroutines of its own.
	f, g := count()
	for end := time.Now().Add(patience); (f > fds || g > goroutines) && time.Now().Before(end); f, g = count() {
		runtime.Gosched()
	}
	require.LessOrEqual(t, f, fds, "file descriptors")
	require.LessOrEqual(t, g, goroutines, "goroutines")
}

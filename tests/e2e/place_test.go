package e2e

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/tests/enginetest"
)

// place is an empty engine, and how rdd is started on it.
type place struct {
	*enginetest.Client
	start func(t *testing.T, intervals supervisor.Intervals) *house
}

// onEach runs a test on an engine that is there already, and on one that rdd itself has started and adopts.
func onEach(t *testing.T, test func(t *testing.T, e place)) {
	t.Run("external", func(t *testing.T) {
		e := enginetest.ForTest(t)
		e.Clean(t)
		test(t, place{&e.Client, func(t *testing.T, intervals supervisor.Intervals) *house {
			return startExternal(t, &e.Client, e.Host(), intervals)
		}})
	})
	t.Run("native", func(t *testing.T) {
		i := nativeInstance(t)
		r := startNative(t, i, supervisor.Intervals{})
		h := &house{T: t, client: r.Client()}
		h.set("running=true", "virtualMachine.driver=native")
		h.settled()
		detach(t, r)
		c := enginetest.At(i.DockerSocket(), t.TempDir())
		test(t, place{c, func(t *testing.T, intervals supervisor.Intervals) *house {
			r := startNative(t, i, intervals)
			t.Cleanup(func() { detach(t, r) })
			return &house{T: t, engine: c, client: r.Client()}
		}})
	})
}

// nativeInstance is an instance in a home of its own, with a short path for the sockets in it; it is deleted at the end.
func nativeInstance(t *testing.T) supervisor.Instance {
	t.Helper()
	if err := enginetest.Available(); err != nil {
		t.Skip("no dockerd can be run here: ", err)
	}
	home := shortDir(t)
	t.Setenv("HOME", home)
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("RDD_LOG_DIR", "")
	i, err := supervisor.NewInstance("e2e")
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, i.Delete(context.Background(), slog.New(slog.DiscardHandler)))
		require.NoDirExists(t, i.Dir())
	})
	return i
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "rdde")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func startNative(t *testing.T, i supervisor.Instance, intervals supervisor.Intervals) *supervisor.Rdd {
	t.Helper()
	r, err := supervisor.Start(t.Context(), supervisor.Config{Instance: &i, TestHooks: true, Intervals: intervals})
	require.NoError(t, err)
	return r
}

func detach(t *testing.T, r *supervisor.Rdd) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, r.Detach(ctx))
}

package conformance_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/dockerio/sim/server"
	"github.com/rdd-desktop/rdd/tests/conformance"
	"github.com/rdd-desktop/rdd/tests/enginetest"
)

// The real docker CLI says the same of the simulated engine as of a real one; exceptions.txt has what may differ, and why.
func TestCLI_Conformance(t *testing.T) {
	real := conformance.RunCLI(t, &enginetest.ForTest(t).Client)
	simulated := conformance.RunCLI(t, serve(t, sim.New(sim.Options{})))
	text, err := os.ReadFile("exceptions.txt")
	require.NoError(t, err)
	accepted, err := conformance.Exceptions(string(text))
	require.NoError(t, err)
	differences, unused := conformance.Compare(real, simulated, accepted)
	for _, d := range differences {
		t.Error(d)
	}
	require.Empty(t, unused, "exceptions that nothing needs")
	t.Logf("%d cases with the docker CLI, %d exceptions", len(real), len(accepted))
}

// serve puts a simulated engine on a socket.
func serve(t *testing.T, engine *sim.Engine) *enginetest.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "rdds") // short: it gets a socket
	require.NoError(t, err)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	require.NoError(t, err)
	s := server.New(engine)
	s.Serve(l)
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		engine.Close()
		require.NoError(t, os.RemoveAll(dir))
	})
	return enginetest.At(filepath.Join(dir, "s"), dir)
}

package conformance_test

import (
	"net"
	"os"
	"os/exec"
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
	registry := conformance.Registry(t)
	dockerd := &enginetest.ForTest(t).Client
	engine := sim.New(sim.Options{})
	engine.Publish(sim.ImageOptions{Tag: registry + "/" + conformance.PulledImage, Config: sim.ImageConfig{Cmd: conformance.PulledCommand}})
	simulation := serve(t, engine)
	var real, simulated []conformance.Step
	t.Run("type", func(t *testing.T) {
		t.Run("real", func(t *testing.T) {
			t.Parallel()
			real = conformance.RunCLI(t, dockerd, registry)
		})
		t.Run("simulated", func(t *testing.T) {
			t.Parallel()
			simulated = conformance.RunCLI(t, simulation, registry)
		})
	})
	if t.Failed() {
		return // there is nothing to compare
	}
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

func TestExceptions(t *testing.T) {
	accepted, err := conformance.Exceptions("# why\n\na/1: clocks differ\nb/1: nobody knows\n")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a/1": "clocks differ", "b/1": "nobody knows"}, accepted)
	for _, bad := range []string{"a/1", "a/1:", "a/1: "} {
		_, err = conformance.Exceptions(bad)
		require.Error(t, err, "%q has no reason", bad)
	}
	said := func(a, b, c string) []conformance.Step {
		return []conformance.Step{{Case: "a/1", Said: a}, {Case: "b/1", Said: b}, {Case: "c/1", Said: c}}
	}
	differences, unused := conformance.Compare(said("1", "2", "3"), said("one", "2", "three"), accepted)
	require.Len(t, differences, 1)
	require.Contains(t, differences[0], "c/1")
	require.Equal(t, []string{"b/1"}, unused)
}

// serve puts a simulated engine on a socket, for the docker command.
func serve(t *testing.T, engine *sim.Engine) *enginetest.Client {
	t.Helper()
	if _, err := exec.LookPath("docker"); err != nil {
		if os.Getenv(enginetest.RequireEnv) != "" {
			t.Fatalf("%s is set, but there is no docker command: %v", enginetest.RequireEnv, err)
		}
		t.Skipf("NO DOCKER COMMAND: %v", err)
	}
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

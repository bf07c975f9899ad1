package conformance_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdd-desktop/rdd/dockerio/moby"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/tests/conformance"
	"github.com/rdd-desktop/rdd/tests/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }

// open gives a test the real engine that this binary shares, empty, behind the real adapter.
func open(t *testing.T) conformance.Fixture {
	t.Helper()
	real := enginetest.ForTest(t)
	real.Clean(t)
	leaks := goleak.IgnoreCurrent()
	engine, err := moby.Dialer{}.Dial(t.Context(), messages.Endpoint{Host: real.Host()})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, engine.Close())
		goleak.VerifyNone(t, leaks)
	})
	return conformance.Fixture{Engine: engine, World: conformance.DockerWorld{Engine: &real.Client, Processes: true}}
}

func TestMoby_Conformance(t *testing.T) { conformance.Run(t, open) }

// Links are old Docker, and the simulated engine has none.
func TestMoby_LinkAliasIsNoName(t *testing.T) {
	f := open(t)
	f.World.Import(t, "busybox:latest")
	real := enginetest.ForTest(t)
	id := real.Docker(t, "run", "--detach", "--name", "web", "busybox", "sleep", "1000")
	real.Docker(t, "run", "--detach", "--name", "a-proxy", "--link", "web:backend", "busybox", "sleep", "1000")
	rows, err := f.Engine.ListContainers(t.Context())
	require.NoError(t, err)
	names := map[string]string{}
	for _, r := range rows {
		names[r.Name] = r.ID
	}
	require.Len(t, names, 2)
	require.Equal(t, id, names["web"])
	c, err := f.Engine.InspectContainer(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "web", c.Name)
}

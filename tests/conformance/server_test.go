package conformance_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdd-desktop/rdd/dockerio/moby"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/tests/conformance"
)

// The whole way: the docker CLI is the user, our own adapter the port, both over the socket of a simulated engine.
func TestServer_Conformance(t *testing.T) {
	conformance.Run(t, func(t *testing.T) conformance.Fixture {
		leaks := goleak.IgnoreCurrent()
		t.Cleanup(func() { goleak.VerifyNone(t, leaks) }) // after the server has ended
		socket := serve(t, sim.New(sim.Options{}))
		engine, err := moby.Dialer{}.Dial(t.Context(), messages.Endpoint{Host: socket.Host()})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, engine.Close()) })
		return conformance.Fixture{Engine: engine, World: conformance.DockerWorld{Engine: socket}}
	})
}

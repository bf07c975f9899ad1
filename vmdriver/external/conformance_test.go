package external

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
	"github.com/rdd-desktop/rdd/vmdriver/conformance"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, func(t *testing.T) conformance.Fixture {
		dir, err := os.MkdirTemp("", "rdde") // short: it gets a socket
		require.NoError(t, err)
		socket := filepath.Join(dir, "s")
		listener, err := net.Listen("unix", socket)
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, listener.Close())
			require.NoError(t, os.RemoveAll(dir))
		})
		return conformance.Fixture{
			New:  func() vmdriver.Driver { return New(Config{}) },
			Spec: vmdriver.Spec{Backend: messages.EngineMoby, VM: messages.VirtualMachineSpec{Socket: socket}},
			Boot: func(*testing.T) string { return "somebody else's" },
		}
	})
}

package faults

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/dockerio/moby"
	"github.com/rdd-desktop/rdd/dockerio/sim/server"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/tests/enginetest"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// behind is a driver whose engine is reached through a proxy.
type behind struct {
	place
	host string
}

func (b behind) Endpoint(context.Context, vmdriver.Spec) (messages.Endpoint, error) {
	return messages.Endpoint{Host: b.host, Source: "proxy"}, nil
}

// The bytes stop and the connections stay, between a real client and an engine on a socket.
func Test_F02_AConnectionThatCarriesNoByteIsNoticedByTheHeartbeat(t *testing.T) {
	world := withBusybox(t)
	dir, err := os.MkdirTemp("", "rddf") // short: it gets a socket
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	s := server.New(world)
	s.Serve(l)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	proxy := enginetest.NewProxy(t, socket)
	r, err := supervisor.Start(t.Context(), supervisor.Config{
		Dialer: moby.Dialer{}, Drivers: map[string]vmdriver.Driver{messages.DriverExternal: behind{place{world}, proxy.Host()}},
		Intervals: supervisor.Intervals{Heartbeat: 100 * time.Millisecond},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, r.Stop(ctx))
	})
	h := &house{T: t, world: world, client: r.Client()}
	h.set("running=true", "virtualMachine.driver=external")
	id := h.mirrored("web")
	h.settled()
	uid := h.get("container", id).GetUID()

	proxy.Blackhole(true)
	h.eventually("noticed, though nothing was closed", func() bool { return h.ready() == metav1.ConditionFalse })
	require.NoError(t, world.Pause("web"))
	proxy.Blackhole(false)
	h.eventually("and mended", func() bool {
		return h.ready() == metav1.ConditionTrue && h.status(id) == messages.ContainerPaused
	})
	require.Equal(t, uid, h.get("container", id).GetUID())
}

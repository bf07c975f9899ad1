package example

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver"
	"github.com/rdd-desktop/rdd/vmdriver/simulated"
)

func TestAStopThatTheEngineDidNotAnnounce(t *testing.T) {
	docker := sim.New(sim.Options{}) // a Docker Engine in memory
	docker.PublishCatalogue()
	_, err := docker.Pull("nginx")
	require.NoError(t, err)
	id, err := docker.Run(sim.ContainerOptions{Name: "web", Image: "nginx"})
	require.NoError(t, err)
	rdd, err := supervisor.Start(t.Context(), supervisor.Config{ // the whole tree
		Dialer: docker.Dialer(), Drivers: map[string]vmdriver.Driver{messages.DriverSimulated: simulated.Around(docker)}})
	require.NoError(t, err)
	defer func() { require.NoError(t, rdd.Stop(context.Background())) }()
	_, err = rdd.Client().Set(t.Context(), messages.SetRequest{Patch: []byte(`{"running":true,"virtualMachine":{"driver":"simulated"}}`)})
	require.NoError(t, err)
	_, err = rdd.Client().WaitSettled(t.Context(), supervisor.SettleOptions{Timeout: 10 * time.Second})
	require.NoError(t, err)

	docker.Faults().StopEvents()           // what goes wrong
	require.NoError(t, docker.Stop("web")) // what happens meanwhile
	docker.Faults().CutStreams()           // the next session lists
	exited, err := supervisor.ParseFor(`jsonpath={.status.status}=exited`)
	require.NoError(t, err)
	_, err = rdd.Client().Wait(t.Context(), "container", supervisor.WaitOptions{Name: id, For: exited, Timeout: 10 * time.Second})
	require.NoError(t, err) // what rdd must show
}

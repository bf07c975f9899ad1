package sim_test

import (
	"context"
	"fmt"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

func Example() {
	ctx := context.Background()
	world := sim.New(sim.Options{})
	defer world.Close()
	_, _ = world.Import("busybox:latest", "")

	// rdd's side: the port.
	client, _ := world.Dialer().Dial(ctx, world.Endpoint())
	defer client.Close()
	info, _ := client.Info(ctx)
	events, _ := client.Events(ctx, info.Now)
	defer events.Close()

	// The user's side.
	id, _ := world.Run(sim.ContainerOptions{Name: "web", Image: "busybox", Volumes: []string{"data:/data"}})
	_ = world.Exit("web", 3)
	for range 8 {
		event, _ := events.Next()
		fmt.Println(event.Type, event.Action)
	}
	container, _ := client.InspectContainer(ctx, id)
	fmt.Println(container.Name, container.Status, container.ExitCode)

	// What goes wrong, on script.
	broken := messages.NewError(messages.CodeUnavailable, "inspect", "container", "web", "broken")
	world.Faults().Fail(sim.OpInspectContainer, "web", 1, broken)
	_, err := client.InspectContainer(ctx, id)
	fmt.Println(err)
	err = client.RemoveVolume(ctx, "data")
	fmt.Println(messages.ClassOf(err))

	// Output:
	// volume create
	// container create
	// network connect
	// volume mount
	// container start
	// container die
	// network disconnect
	// volume unmount
	// web exited 3
	// inspect container "web": broken
	// Conflict
}

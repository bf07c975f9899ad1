// Package conformance says what rdd takes for granted of a container engine behind port dockerio. The adapter for a real Docker
// Engine passes it against a real dockerd, and the simulated engine passes it too: that is what makes the simulation honest.
//
// The suite sees an engine from two sides. The port ([dockerio.Engine]) is what it examines. A [World] is what everybody else
// does to the engine meanwhile: the user with the docker command, containers that end, restart policies.
//
// Where the two differ, the fake is wrong. Where a newer dockerd differs from what the suite says, the suite is wrong, and so is
// perhaps the code that relied on it.
package conformance

import (
	"testing"

	"github.com/rdd-desktop/rdd/dockerio"
)

// Fixture is an engine without any object in it, and the world around it.
type Fixture struct {
	Engine dockerio.Engine
	World  World
}

// World does to an engine what a user does with the docker command. A method that cannot do what it is told fails the test. Ids are
// full ids.
type World interface {
	// Import makes a runnable image under a reference and returns its id: docker import. Each call makes another image.
	Import(t testing.TB, ref string) (id string)
	// Tag gives an image, by reference or id, one more reference: docker tag. It takes the reference away from the image that had it.
	Tag(t testing.TB, image, ref string)
	// Untag is docker rmi of a reference.
	Untag(t testing.TB, ref string)
	// Load loads an archive of an image that the engine has already: docker save, docker load.
	Load(t testing.TB, ref string)
	// PruneImages removes dangling images that nobody uses: docker image prune.
	PruneImages(t testing.TB)

	// Create makes a container and returns its id: docker create.
	Create(t testing.TB, o Container) (id string)
	// Start starts a container. The error is the engine's.
	Start(t testing.TB, id string) error
	// Stop is docker stop with a grace of one second.
	Stop(t testing.TB, id string)
	// Kill sends SIGKILL: docker kill.
	Kill(t testing.TB, id string)
	// Restart is docker restart with a grace of one second.
	Restart(t testing.TB, id string)
	Pause(t testing.TB, id string)
	Unpause(t testing.TB, id string)
	// Rename gives a container another name.
	Rename(t testing.TB, id, name string)
	// Remove is docker rm --force; the container's anonymous volumes stay.
	Remove(t testing.TB, id string)
	// PruneContainers removes all that do not run: docker container prune.
	PruneContainers(t testing.TB)

	// CreateVolume makes a volume of driver local.
	CreateVolume(t testing.TB, name string, labels map[string]string)
	// RemoveVolume is docker volume rm.
	RemoveVolume(t testing.TB, name string)
	// PruneVolumes removes all volumes, named ones too, that no container has.
	PruneVolumes(t testing.TB)
}

// Program is what runs in a container.
type Program int

// Programs.
const (
	// Runs until it is told to end, and then does so at once.
	Runs Program = iota
	// Stubborn runs and ignores SIGTERM.
	Stubborn
	// Exits ends at once with Container.ExitCode.
	Exits
	// Missing is a command that is not in the image: it cannot be started.
	Missing
)

// Container is what to create a container from.
type Container struct {
	// Name without a slash.
	Name string
	// Image is the reference, or the id, to create it from.
	Image    string
	Program  Program
	ExitCode int
	Labels   map[string]string
	// Publish are ports to publish on any free port of all addresses: "80/tcp".
	Publish []string
	// Expose are ports to declare without publishing them: "53/udp".
	Expose []string
	// Volumes maps destinations in the container to names of volumes; an empty name is an anonymous volume.
	Volumes map[string]string
	// Restart is "", "always", "unless-stopped", "on-failure" or "on-failure:2".
	Restart string
	// Health is the result of the container's health check, "healthy" or "unhealthy"; empty without a check. The check runs often
	// enough for a test.
	Health string
	// AutoRemove removes the container when it ends: docker create --rm.
	AutoRemove bool
}

// Run runs the suite. open is called for each test, and gives it an engine without containers, images and volumes; what it needs
// to clean up it registers with the test.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	for _, g := range []struct {
		name  string
		cases []testCase
	}{
		{"System", systemCases},
		{"Containers", containerCases},
		{"Lifecycle", lifecycleCases},
		{"Images", imageCases},
		{"Volumes", volumeCases},
		{"Events", eventCases},
	} {
		t.Run(g.name, func(t *testing.T) {
			for _, c := range g.cases {
				t.Run(c.name, func(t *testing.T) {
					f := open(t)
					c.run(t, &bench{Fixture: f})
				})
			}
		})
	}
}

type testCase struct {
	name string
	run  func(*testing.T, *bench)
}

package conformance_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/tests/conformance"
)

func TestSim_Conformance(t *testing.T) {
	conformance.Run(t, func(t *testing.T) conformance.Fixture {
		world := sim.New(sim.Options{})
		t.Cleanup(world.Close)
		engine, err := world.Dialer().Dial(t.Context(), world.Endpoint())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, engine.Close()) })
		return conformance.Fixture{Engine: engine, World: simWorld{world, map[string]string{}}}
	})
}

// simWorld does to a simulated engine what [conformance.DockerWorld] does to a real one.
type simWorld struct {
	engine *sim.Engine
	health map[string]string // the result of a container's check
}

func (w simWorld) Import(t testing.TB, ref string) string {
	t.Helper()
	id, err := w.engine.Import(ref, "")
	require.NoError(t, err)
	return id
}

func (w simWorld) Tag(t testing.TB, image, ref string) {
	t.Helper()
	require.NoError(t, w.engine.Tag(image, ref))
}

func (w simWorld) Untag(t testing.TB, ref string) {
	t.Helper()
	require.NoError(t, w.engine.Rmi(ref, false))
}

func (w simWorld) Load(t testing.TB, ref string) {
	t.Helper()
	archive, err := w.engine.Save(ref)
	require.NoError(t, err)
	_, err = w.engine.Load(archive)
	require.NoError(t, err)
}

func (w simWorld) PruneImages(testing.TB) { w.engine.ImagePrune(false, nil) }

func (w simWorld) Create(t testing.TB, o conformance.Container) string {
	t.Helper()
	options := sim.ContainerOptions{
		Name: o.Name, Image: o.Image, Cmd: []string{"sleep", "1000"}, Labels: o.Labels, Ports: o.Publish, ExposedPorts: o.Expose,
		RestartPolicy: o.Restart, Health: o.Health != "", AutoRemove: o.AutoRemove, IgnoreTerm: o.Program == conformance.Stubborn,
	}
	switch o.Program {
	case conformance.Exits:
		options.RunFor, options.ExitCode = time.Millisecond, o.ExitCode
	case conformance.Missing:
		options.Cmd = []string{sim.MissingCommand}
	}
	for destination, name := range o.Volumes {
		if name != "" {
			name += ":"
		}
		options.Volumes = append(options.Volumes, name+destination)
	}
	slices.Sort(options.Volumes)
	id, err := w.engine.CreateContainer(options)
	require.NoError(t, err)
	w.health[id] = o.Health
	return id
}

func (w simWorld) Start(t testing.TB, id string) error {
	t.Helper()
	err := w.engine.Start(id)
	if err == nil && w.health[id] != "" {
		require.NoError(t, w.engine.SetHealth(id, w.health[id]))
	}
	return err
}

func (w simWorld) Stop(t testing.TB, id string) {
	t.Helper()
	require.NoError(t, w.engine.Stop(id))
}

func (w simWorld) Kill(t testing.TB, id string) {
	t.Helper()
	require.NoError(t, w.engine.Kill(id))
}

func (w simWorld) Restart(t testing.TB, id string) {
	t.Helper()
	require.NoError(t, w.engine.Restart(id))
}

func (w simWorld) Pause(t testing.TB, id string) {
	t.Helper()
	require.NoError(t, w.engine.Pause(id))
}

func (w simWorld) Unpause(t testing.TB, id string) {
	t.Helper()
	require.NoError(t, w.engine.Unpause(id))
}

func (w simWorld) Rename(t testing.TB, id, name string) {
	t.Helper()
	require.NoError(t, w.engine.Rename(id, name))
}

func (w simWorld) Remove(t testing.TB, id string) {
	t.Helper()
	require.NoError(t, w.engine.Rm(id, true))
}

func (w simWorld) PruneContainers(testing.TB) { w.engine.ContainerPrune(nil) }

func (w simWorld) CreateVolume(t testing.TB, name string, labels map[string]string) {
	t.Helper()
	_, err := w.engine.VolumeCreate(sim.VolumeOptions{Name: name, Labels: labels})
	require.NoError(t, err)
}

func (w simWorld) RemoveVolume(t testing.TB, name string) {
	t.Helper()
	require.NoError(t, w.engine.VolumeRm(name))
}

func (w simWorld) PruneVolumes(testing.TB) { w.engine.VolumePrune(nil) }

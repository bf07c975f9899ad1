package conformance

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

const busybox = "conformance:latest"

var containerCases = []testCase{
	{"created", func(t *testing.T, b *bench) {
		image := b.World.Import(t, busybox)
		r := b.record(t)
		id := b.World.Create(t, Container{Name: "web", Image: busybox})
		require.Len(t, id, 64)
		r.require(t, dockerio.TypeContainer, id, "create")

		c := b.inspect(t, id)
		require.Equal(t, id, c.ID)
		require.Equal(t, "web", c.Name)
		require.Equal(t, image, c.ImageID)
		require.Equal(t, busybox, c.ImageName)
		require.NotEmpty(t, c.Path)
		require.Equal(t, messages.ContainerCreated, c.Status)
		require.False(t, c.Running || c.Paused || c.Restarting || c.OOMKilled || c.Dead)
		require.Zero(t, c.Pid)
		require.Zero(t, c.ExitCode)
		require.Empty(t, c.Error)
		require.Empty(t, c.Health)
		require.Zero(t, c.RestartCount)
		require.Equal(t, "no", c.RestartPolicy)
		require.False(t, c.Created.IsZero())
		require.True(t, c.StartedAt.IsZero())
		require.True(t, c.FinishedAt.IsZero())

		row := b.mustRow(t, id)
		require.Equal(t, messages.ContainerCreated, row.State)
		require.Nil(t, row.ExitCode)
	}},

	{"started", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.run(t, Container{Name: "web", Image: busybox})
		r.require(t, dockerio.TypeContainer, id, "create", "start")
		c := b.inspect(t, id)
		require.Equal(t, messages.ContainerRunning, c.Status)
		require.True(t, c.Running)
		require.False(t, c.Paused || c.Restarting || c.OOMKilled || c.Dead)
		require.Positive(t, c.Pid)
		require.False(t, c.StartedAt.IsZero())
		require.True(t, c.FinishedAt.IsZero())
		require.Positive(t, c.StartedAt.Sub(c.Created))
		require.NotEmpty(t, c.Networks)
		require.NotEmpty(t, c.Networks[0].Name)
		require.NotEmpty(t, c.Networks[0].NetworkID)
		require.NotEmpty(t, c.Networks[0].IPAddress)

		// The network is connected before the start: who sees a connect without a start looks for a failed start.
		order := r.seen()
		connect := slices.IndexFunc(order, func(e dockerio.Event) bool {
			return e.Type == dockerio.TypeNetwork && e.Action == "connect" && e.Attributes["container"] == id
		})
		start := slices.IndexFunc(order, func(e dockerio.Event) bool { return e.ID == id && e.Action == "start" })
		require.GreaterOrEqual(t, connect, 0)
		require.Less(t, connect, start)

		// Started again: no error, no event, no restart.
		require.NoError(t, b.World.Start(t, id))
		r.require(t, dockerio.TypeContainer, id, "create", "start")
		require.True(t, c.StartedAt.Equal(b.inspect(t, id).StartedAt))
	}},

	{"attributes of an event", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.World.Create(t, Container{Name: "web", Image: busybox, Labels: map[string]string{"a.b/c": "d e"}})
		e := r.waitFor(t, dockerio.TypeContainer, id, "create")
		require.Equal(t, "web", e.Attributes["name"])
		require.Equal(t, busybox, e.Attributes["image"])
		require.Equal(t, "d e", e.Attributes["a.b/c"])
		require.False(t, e.Time.IsZero())
	}},

	{"exits", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.run(t, Container{Name: "job", Image: busybox, Program: Exits, ExitCode: 3})
		die := r.waitFor(t, dockerio.TypeContainer, id, "die")
		require.Equal(t, "3", die.Attributes["exitCode"])
		// Who inspects as soon as the event is there sees what it announced.
		c := b.inspect(t, id)
		require.Equal(t, messages.ContainerExited, c.Status)
		require.False(t, c.Running)
		require.Zero(t, c.Pid)
		require.Equal(t, 3, c.ExitCode)
		require.False(t, c.StartedAt.IsZero())
		require.False(t, c.FinishedAt.IsZero())
		// Two processes take these times: the end of a short one can lie a millisecond before its start.
		require.Less(t, c.StartedAt.Sub(c.FinishedAt), 100*time.Millisecond)
		row := b.mustRow(t, id)
		require.Equal(t, messages.ContainerExited, row.State)
		require.NotNil(t, row.ExitCode)
		require.Equal(t, 3, *row.ExitCode)
		r.require(t, dockerio.TypeContainer, id, "create", "start", "die")
	}},

	{"exits with success", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.run(t, Container{Name: "job", Image: busybox, Program: Exits})
		r.waitFor(t, dockerio.TypeContainer, id, "die")
		// A list does not wait for the end of what the event announced, and may still show the container running. An inspect does
		// wait; from then on the list is right, too.
		require.Zero(t, b.inspect(t, id).ExitCode)
		row := b.mustRow(t, id)
		require.Equal(t, messages.ContainerExited, row.State)
		require.NotNil(t, row.ExitCode)
		require.Zero(t, *row.ExitCode)
	}},

	{"removes itself", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.run(t, Container{Name: "job", Image: busybox, Program: Exits, AutoRemove: true})
		r.waitFor(t, dockerio.TypeContainer, id, "destroy")
		_, err := b.Engine.InspectContainer(t.Context(), id)
		requireError(t, err, messages.ErrNotFound, messages.KindContainer, id)
		r.require(t, dockerio.TypeContainer, id, "create", "start", "die", "destroy")
	}},

	{"stopped", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.run(t, Container{Name: "web", Image: busybox})
		b.World.Stop(t, id)
		r.require(t, dockerio.TypeContainer, id, "create", "start", "kill", "die", "stop")
		require.Equal(t, "15", r.waitFor(t, dockerio.TypeContainer, id, "kill").Attributes["signal"])
		c := b.inspect(t, id)
		require.Equal(t, messages.ContainerExited, c.Status)
		require.Equal(t, strconv.Itoa(c.ExitCode), r.waitFor(t, dockerio.TypeContainer, id, "die").Attributes["exitCode"])
		require.Empty(t, c.Networks[0].IPAddress)

		// Stopped again: no error, no event.
		b.World.Stop(t, id)
		r.require(t, dockerio.TypeContainer, id, "create", "start", "kill", "die", "stop")
	}},

	{"stopped against its will", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.run(t, Container{Name: "web", Image: busybox, Program: Stubborn})
		b.World.Stop(t, id)
		r.require(t, dockerio.TypeContainer, id, "create", "start", "kill", "kill", "die", "stop")
		require.Equal(t, 137, b.inspect(t, id).ExitCode)
	}},

	{"killed", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.run(t, Container{Name: "web", Image: busybox})
		b.World.Kill(t, id)
		r.waitFor(t, dockerio.TypeContainer, id, "die")
		r.require(t, dockerio.TypeContainer, id, "create", "start", "kill", "die")
		require.Equal(t, "9", r.waitFor(t, dockerio.TypeContainer, id, "kill").Attributes["signal"])
		c := b.inspect(t, id)
		require.Equal(t, messages.ContainerExited, c.Status)
		require.Equal(t, 137, c.ExitCode)
	}},

	{"restarted by the user", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.run(t, Container{Name: "web", Image: busybox})
		before := b.inspect(t, id)
		b.World.Restart(t, id)
		r.require(t, dockerio.TypeContainer, id, "create", "start", "kill", "die", "stop", "start", "restart")
		after := b.inspect(t, id)
		require.Equal(t, messages.ContainerRunning, after.Status)
		require.False(t, after.StartedAt.Equal(before.StartedAt))
		require.False(t, after.FinishedAt.IsZero())
		require.Zero(t, after.RestartCount)
	}},

	{"restarted by its policy", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.run(t, Container{Name: "job", Image: busybox, Program: Exits, ExitCode: 1, Restart: "on-failure:2"})
		r.wait(t, 3, func(e dockerio.Event) bool { return e.ID == id && e.Action == "die" }, "die")
		require.Eventually(t, func() bool { return b.inspect(t, id).Status == messages.ContainerExited }, patience, 10*time.Millisecond)
		r.require(t, dockerio.TypeContainer, id, "create", "start", "die", "start", "die", "start", "die")
		c := b.inspect(t, id)
		require.Equal(t, "on-failure", c.RestartPolicy)
		require.Equal(t, 2, c.RestartCount)
		require.Equal(t, 1, c.ExitCode)
	}},

	{"waits for its restart", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.run(t, Container{Name: "job", Image: busybox, Program: Exits, ExitCode: 4, Restart: "always"})
		var (
			c   dockerio.Container
			row dockerio.ContainerRow
		)
		require.Eventually(t, func() bool {
			row, c = b.mustRow(t, id), b.inspect(t, id)
			return c.Status == messages.ContainerRestarting && row.State == messages.ContainerRestarting
		}, patience, time.Millisecond)
		require.True(t, c.Restarting)
		require.True(t, c.Running, "the engine counts a container that waits for its restart as running")
		require.Equal(t, "always", c.RestartPolicy)
		require.Equal(t, 4, c.ExitCode)
		require.NotNil(t, row.ExitCode)
		require.Equal(t, 4, *row.ExitCode)
		require.NoError(t, b.Engine.RemoveContainer(t.Context(), id))
		r.waitFor(t, dockerio.TypeContainer, id, "destroy")
		require.NotContains(t, r.actions(dockerio.TypeContainer, id), "restart")
	}},

	{"paused", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.run(t, Container{Name: "web", Image: busybox})
		b.World.Pause(t, id)
		c := b.inspect(t, id)
		require.Equal(t, messages.ContainerPaused, c.Status)
		require.True(t, c.Paused && c.Running)
		require.Positive(t, c.Pid)
		row := b.mustRow(t, id)
		require.Equal(t, messages.ContainerPaused, row.State)
		require.Nil(t, row.ExitCode)
		b.World.Unpause(t, id)
		require.Equal(t, messages.ContainerRunning, b.inspect(t, id).Status)
		r.require(t, dockerio.TypeContainer, id, "create", "start", "pause", "unpause")
	}},

	{"renamed", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.World.Create(t, Container{Name: "old", Image: busybox})
		b.World.Rename(t, id, "new")
		r.require(t, dockerio.TypeContainer, id, "create", "rename")
		e := r.waitFor(t, dockerio.TypeContainer, id, "rename")
		require.Equal(t, "new", e.Attributes["name"])
		require.Equal(t, "/old", e.Attributes["oldName"])
		require.Equal(t, "new", b.inspect(t, id).Name)
		require.Equal(t, "new", b.mustRow(t, id).Name)
	}},

	{"fails to start", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.World.Create(t, Container{Name: "bad", Image: busybox, Program: Missing})
		require.Error(t, b.World.Start(t, id))
		r.require(t, dockerio.TypeContainer, id, "create") // neither start nor die: only the network tells
		var network []string
		for _, e := range r.seen() {
			if e.Type == dockerio.TypeNetwork && e.Attributes["container"] == id {
				network = append(network, e.Action)
			}
		}
		require.Equal(t, []string{"connect", "disconnect"}, network)
		c := b.inspect(t, id)
		require.Equal(t, messages.ContainerCreated, c.Status)
		require.False(t, c.Running)
		require.Equal(t, 127, c.ExitCode)
		require.NotEmpty(t, c.Error)
		require.Equal(t, messages.ContainerCreated, b.mustRow(t, id).State)
	}},

	{"health", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		for _, health := range []string{"healthy", "unhealthy"} {
			r := b.record(t)
			id := b.run(t, Container{Name: health, Image: busybox, Health: health})
			r.waitFor(t, dockerio.TypeContainer, id, "health_status") // what follows the colon is cut off
			require.Equal(t, health, b.inspect(t, id).Health)
			require.Equal(t, health, b.mustRow(t, id).Health)
			b.World.Remove(t, id)
		}
	}},

	{"ports", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		id := b.World.Create(t, Container{Name: "web", Image: busybox,
			Publish: []string{"8080/tcp", "80/tcp"}, Expose: []string{"443/tcp", "53/udp", "53/tcp"}})
		names := func() (out []string) {
			for _, p := range b.inspect(t, id).Ports {
				out = append(out, p.Name)
			}
			return out
		}
		all := []string{"53/tcp", "53/udp", "80/tcp", "443/tcp", "8080/tcp"} // by number, then protocol
		require.Equal(t, all, names())
		for _, p := range b.inspect(t, id).Ports {
			require.Empty(t, p.Bindings, "published before the start: %v", p)
		}

		require.NoError(t, b.World.Start(t, id))
		require.Equal(t, all, names())
		for _, p := range b.inspect(t, id).Ports {
			if p.Name != "80/tcp" && p.Name != "8080/tcp" {
				require.Empty(t, p.Bindings)
				continue
			}
			require.NotEmpty(t, p.Bindings)
			require.Equal(t, "0.0.0.0", p.Bindings[0].HostIP)
			if len(p.Bindings) > 1 { // a host without IPv6 has one
				require.Equal(t, "::", p.Bindings[1].HostIP)
				require.Len(t, p.Bindings, 2)
			}
			for _, binding := range p.Bindings {
				port, err := strconv.Atoi(binding.HostPort)
				require.NoError(t, err)
				require.Positive(t, port)
			}
		}

		b.World.Stop(t, id)
		require.Equal(t, all, names())
		for _, p := range b.inspect(t, id).Ports {
			require.Empty(t, p.Bindings, "published after the stop: %v", p)
		}
	}},

	{"the list agrees with the inspect", func(t *testing.T, b *bench) {
		image := b.World.Import(t, busybox)
		b.World.CreateVolume(t, "data", nil)
		id := b.run(t, Container{Name: "web", Image: busybox, Labels: map[string]string{"a": "1", "b": ""},
			Volumes: map[string]string{"/z": "data", "/a": ""}})
		row, c := b.mustRow(t, id), b.inspect(t, id)
		require.Equal(t, "web", row.Name)
		require.Equal(t, c.Name, row.Name)
		require.Equal(t, image, row.ImageID)
		require.Equal(t, c.ImageID, row.ImageID)
		require.Equal(t, c.ImageName, row.ImageName)
		require.Equal(t, map[string]string{"a": "1", "b": ""}, row.Labels)
		require.Equal(t, c.Labels, row.Labels)
		require.Equal(t, c.Status, row.State)
		require.Equal(t, c.Health, row.Health)
		require.Nil(t, row.ExitCode)
		require.Less(t, c.Created.Sub(row.Created), time.Second)
		require.GreaterOrEqual(t, c.Created.Sub(row.Created), time.Duration(0))

		require.Len(t, c.Mounts, 2)
		require.Len(t, row.Mounts, 2)
		for i, want := range []string{"/a", "/z"} {
			require.Equal(t, want, c.Mounts[i].Destination)
			require.Equal(t, "volume", c.Mounts[i].Type)
			require.True(t, c.Mounts[i].ReadWrite)
			require.NotEmpty(t, c.Mounts[i].Source)
			require.NotEmpty(t, c.Mounts[i].Name)
			require.Equal(t, c.Mounts[i].Destination, row.Mounts[i].Destination)
			require.Equal(t, c.Mounts[i].Type, row.Mounts[i].Type)
			require.Equal(t, c.Mounts[i].Name, row.Mounts[i].Name)
		}
		require.Equal(t, "data", c.Mounts[1].Name)
	}},

	{"the image's name after its tag went", func(t *testing.T, b *bench) {
		image := b.World.Import(t, busybox)
		id := b.World.Create(t, Container{Name: "web", Image: busybox})
		b.World.Import(t, busybox) // takes the tag
		require.Equal(t, image, b.mustRow(t, id).ImageName, "a list shows the id")
		require.Equal(t, busybox, b.inspect(t, id).ImageName, "an inspect shows what it was created from")
		require.Equal(t, image, b.inspect(t, id).ImageID)
	}},

	{"the list has all states", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		ids := []string{
			b.World.Create(t, Container{Name: "created", Image: busybox}),
			b.run(t, Container{Name: "running", Image: busybox}),
			b.run(t, Container{Name: "exited", Image: busybox}),
		}
		b.World.Kill(t, ids[2])
		for _, id := range ids {
			b.mustRow(t, id)
		}
		rows, err := b.Engine.ListContainers(t.Context())
		require.NoError(t, err)
		require.Len(t, rows, len(ids))
	}},

	{"remove a stopped one", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.World.Create(t, Container{Name: "web", Image: busybox})
		require.NoError(t, b.Engine.RemoveContainer(t.Context(), id))
		_, found := b.row(t, id)
		require.False(t, found)
		_, err := b.Engine.InspectContainer(t.Context(), id)
		requireError(t, err, messages.ErrNotFound, messages.KindContainer, id)
		requireError(t, b.Engine.RemoveContainer(t.Context(), id), messages.ErrNotFound, messages.KindContainer, id)
		r.require(t, dockerio.TypeContainer, id, "create", "destroy")
	}},

	{"remove a running one", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		b.World.CreateVolume(t, "data", nil)
		id := b.run(t, Container{Name: "web", Image: busybox, Volumes: map[string]string{"/d": "data", "/anonymous": ""}})
		anonymous := b.inspect(t, id).Mounts[0].Name
		r := b.record(t)
		require.NoError(t, b.Engine.RemoveContainer(t.Context(), id))
		_, found := b.row(t, id)
		require.False(t, found)
		for _, name := range []string{"data", anonymous} {
			_, found = b.volume(t, name)
			require.True(t, found, "the volume %s went with the container", name)
		}
		r.require(t, dockerio.TypeContainer, id, "kill", "die", "destroy")
	}},

	{"remove a paused one", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		id := b.run(t, Container{Name: "web", Image: busybox})
		b.World.Pause(t, id)
		require.NoError(t, b.Engine.RemoveContainer(t.Context(), id))
		_, found := b.row(t, id)
		require.False(t, found)
	}},

	{"prune", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		gone := b.World.Create(t, Container{Name: "gone", Image: busybox})
		kept := b.run(t, Container{Name: "kept", Image: busybox})
		r := b.record(t)
		b.World.PruneContainers(t)
		r.require(t, dockerio.TypeContainer, gone, "destroy")
		r.require(t, dockerio.TypeContainer, "", "prune")
		require.Empty(t, r.actions(dockerio.TypeContainer, kept))
		b.mustRow(t, kept)
	}},

	{"the same name again", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		first := b.World.Create(t, Container{Name: "web", Image: busybox})
		b.World.Remove(t, first)
		second := b.World.Create(t, Container{Name: "web", Image: busybox})
		require.NotEqual(t, first, second)
		require.Equal(t, "web", b.inspect(t, second).Name)
		_, err := b.Engine.InspectContainer(t.Context(), first)
		require.ErrorIs(t, err, messages.ErrNotFound)
	}},
}

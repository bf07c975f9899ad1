package sim_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a world with a client and a reader of its events.
type bench struct {
	*sim.Engine
	t      *testing.T
	client dockerio.Engine
	stream dockerio.Stream
}

func newBench(t *testing.T, options sim.Options) *bench {
	t.Helper()
	b := &bench{Engine: sim.New(options), t: t}
	t.Cleanup(b.Close)
	var err error
	b.client, err = b.Dialer().Dial(t.Context(), b.Endpoint())
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.client.Close() })
	b.subscribe()
	return b
}

func (b *bench) subscribe() {
	b.t.Helper()
	info, err := b.client.Info(b.t.Context())
	require.NoError(b.t, err)
	b.stream, err = b.client.Events(b.t.Context(), info.Now)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = b.stream.Close() })
}

// events reads the events there are; a volume of its own marks the end.
func (b *bench) events() []dockerio.Event {
	b.t.Helper()
	mark, err := b.VolumeCreate(sim.VolumeOptions{})
	require.NoError(b.t, err)
	var list []dockerio.Event
	for {
		event, err := b.stream.Next()
		require.NoError(b.t, err)
		if event.ID == mark {
			break
		}
		list = append(list, event)
	}
	require.NoError(b.t, b.VolumeRm(mark))
	event, err := b.stream.Next()
	require.NoError(b.t, err)
	require.Equal(b.t, mark, event.ID)
	return list
}

// said is events in short: type, action and what tells them apart.
func (b *bench) said() []string {
	b.t.Helper()
	list := []string{}
	for _, e := range b.events() {
		text := e.Type + " " + e.Action
		if signal := e.Attributes["signal"]; signal != "" {
			text += " " + signal
		}
		if code := e.Attributes["exitCode"]; code != "" {
			text += " " + code
		}
		list = append(list, text)
	}
	return list
}

func (b *bench) image(tag string) string {
	b.t.Helper()
	id, err := b.Import(tag, "")
	require.NoError(b.t, err)
	return id
}

func (b *bench) run(options sim.ContainerOptions) string {
	b.t.Helper()
	if options.Image == "" {
		options.Image = "busybox"
	}
	id, err := b.Run(options)
	require.NoError(b.t, err)
	return id
}

func (b *bench) inspect(id string) dockerio.Container {
	b.t.Helper()
	c, err := b.client.InspectContainer(b.t.Context(), id)
	require.NoError(b.t, err)
	return c
}

func (b *bench) row(id string) dockerio.ContainerRow {
	b.t.Helper()
	rows, err := b.client.ListContainers(b.t.Context())
	require.NoError(b.t, err)
	i := slices.IndexFunc(rows, func(r dockerio.ContainerRow) bool { return r.ID == id })
	require.GreaterOrEqual(b.t, i, 0)
	return rows[i]
}

func code(err error) messages.Code {
	var e *messages.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestContainerEvents(t *testing.T) {
	t.Parallel()
	b := newBench(t, sim.Options{})
	b.image("busybox")
	id := b.run(sim.ContainerOptions{Name: "web", Volumes: []string{"data:/data"}})
	started := []string{"network connect", "volume mount", "container start"}
	ended := []string{"network disconnect", "volume unmount"}
	expect := func(what string, err error, list ...string) {
		t.Helper()
		require.NoError(t, err, what)
		require.Equal(t, append([]string{}, list...), b.said(), what)
	}
	expect("run", nil, append([]string{"image tag", "image import", "volume create", "container create"}, started...)...)
	expect("start again", b.Start(id))
	expect("exit", b.Exit(id, 3), append([]string{"container die 3"}, ended...)...)
	expect("start", b.Start("web"), started...)
	expect("stop", b.Stop("web"), "container kill 15", "container die 143", ended[0], ended[1], "container stop")
	expect("stop again", b.Stop("web"))
	expect("restart of a stopped one", b.Restart("web"), append(slices.Clone(started), "container restart")...)
	expect("restart", b.Restart("web"), "container kill 15", "container die 143", ended[0], ended[1], "container stop",
		started[0], started[1], started[2], "container restart")
	expect("pause", b.Pause("web"), "container pause")
	expect("unpause", b.Unpause("web"), "container unpause")
	expect("noise", b.Noise("web"), "container exec_create", "container exec_start", "container exec_die 0")
	expect("update", b.UpdatePolicy("web", "no"), "container update")
	expect("kill", b.Kill("web"), append([]string{"container kill 9", "container die 137"}, ended...)...)
	require.NoError(t, b.Start("web"))
	b.events()
	expect("oom", b.OOM("web"), append([]string{"container oom", "container die 137"}, ended...)...)
	require.True(t, b.inspect(id).OOMKilled)
	require.NoError(t, b.Start("web"))
	b.events()

	require.NoError(t, b.Rename("web", "shop"))
	renamed := b.events()
	require.Len(t, renamed, 1)
	require.Equal(t, "rename", renamed[0].Action)
	require.Equal(t, map[string]string{"name": "shop", "oldName": "/web", "image": "busybox"}, renamed[0].Attributes)

	expect("rm -f", b.Rm("shop", true), "container kill 9", "container die 137", ended[0], ended[1], "container destroy")
	_, err := b.Run(sim.ContainerOptions{Image: "busybox", Cmd: []string{sim.MissingCommand}, Name: "bad"})
	require.Equal(t, messages.CodeInvalid, code(err))
	expect("failed start", nil, "container create", "network connect", "network disconnect")
	bad := b.Snapshot().Containers[0]
	require.Equal(t, "created", bad.Status)
	require.Equal(t, 127, bad.ExitCode)
	require.Contains(t, bad.Error, "missing")
	require.True(t, bad.StartedAt.IsZero())
	require.Nil(t, b.row(bad.ID).ExitCode)
	require.Equal(t, []string{bad.ID}, b.ContainerPrune(nil))
	expect("prune", nil, "container destroy", "container prune")

	b.run(sim.ContainerOptions{Name: "once", AutoRemove: true, Volumes: []string{"/tmp"}})
	b.events()
	expect("--rm", b.Exit("once", 0), "container die 0", ended[0], ended[1], "volume destroy", "container destroy")
}

func TestHealth(t *testing.T) {
	t.Parallel()
	b := newBench(t, sim.Options{})
	b.image("busybox")
	id := b.run(sim.ContainerOptions{Name: "web", Health: true})
	b.events()
	require.Equal(t, "starting", b.inspect(id).Health)
	require.NoError(t, b.SetHealth(id, "healthy"))
	noise := []string{"container exec_create", "container exec_start", "container exec_die 0"}
	require.Equal(t, append(slices.Clone(noise), "container health_status"), b.said())
	require.NoError(t, b.SetHealth(id, "healthy"))
	require.Equal(t, noise, b.said())
	require.Equal(t, "healthy", b.row(id).Health)
	require.NoError(t, b.Stop(id))
	require.Equal(t, "unhealthy", b.inspect(id).Health)
	require.Empty(t, b.row(id).Health)
}

func TestImageEvents(t *testing.T) {
	t.Parallel()
	b := newBench(t, sim.Options{})
	one := b.image("app:1")
	require.Equal(t, []string{"image tag", "image import"}, b.said())

	// The loser of a moved tag is not announced.
	two := b.image("app:1")
	moved := b.events()
	require.Len(t, moved, 2)
	require.Equal(t, two, moved[0].ID)
	require.Equal(t, "app:1", moved[0].Attributes["name"])
	dangling, err := b.client.InspectImage(t.Context(), one)
	require.NoError(t, err)
	require.Nil(t, dangling.Tags)

	// An untag names the image, not the tag.
	require.NoError(t, b.Tag("app:1", "app:2"))
	require.Equal(t, []string{"image tag"}, b.said())
	require.NoError(t, b.client.RemoveImage(t.Context(), "app:2"))
	untagged := b.events()
	require.Len(t, untagged, 1)
	require.Equal(t, "untag", untagged[0].Action)
	require.Equal(t, two, untagged[0].ID)
	require.Equal(t, two, untagged[0].Attributes["name"])

	archive, err := b.Save("app:1")
	require.NoError(t, err)
	require.Equal(t, []string{"image save"}, b.said())
	require.NoError(t, b.Rmi("app:1", false))
	require.Equal(t, []string{"image untag", "image delete"}, b.said())
	loaded, err := b.Load(archive)
	require.NoError(t, err)
	require.Equal(t, two, loaded)
	require.Equal(t, []string{"image load"}, b.said())
	again, err := b.client.InspectImage(t.Context(), "app:1")
	require.NoError(t, err)
	require.Equal(t, two, again.ID)

	removed, _ := b.ImagePrune(false, nil)
	require.Equal(t, one, removed[0].Deleted)
	require.Equal(t, []string{"image delete", "image prune"}, b.said())
	_, err = b.Build(sim.ImageOptions{Tag: "built"})
	require.NoError(t, err)
	require.Equal(t, []string{"image tag"}, b.said())
	published := b.Publish(sim.ImageOptions{Tag: "remote"})
	pulled, err := b.Pull("remote")
	require.NoError(t, err)
	require.Equal(t, published, pulled)
	event := b.events()
	require.Len(t, event, 1)
	require.Equal(t, "remote:latest", event[0].ID)
	b.ImagePrune(true, nil)
	require.Empty(t, b.Snapshot().Images)
	_, err = b.Pull("remote")
	require.NoError(t, err)
	require.Equal(t, published, b.Snapshot().Images[0].ID)
	require.Len(t, b.Snapshot().Images[0].Digests, 1)
	_, err = b.Pull("nothing")
	require.ErrorIs(t, err, messages.ErrNotFound)
}

func TestVolumeEvents(t *testing.T) {
	t.Parallel()
	b := newBench(t, sim.Options{})
	name, err := b.VolumeCreate(sim.VolumeOptions{Name: "data", Labels: map[string]string{"a": "b"}})
	require.NoError(t, err)
	created := b.events()
	require.Len(t, created, 1)
	require.Equal(t, map[string]string{"driver": "local"}, created[0].Attributes)
	_, err = b.VolumeCreate(sim.VolumeOptions{Name: name})
	require.NoError(t, err)
	require.Empty(t, b.said())
	require.NoError(t, b.VolumeTouch(name))
	require.NoError(t, b.VolumeRm(name))
	require.Equal(t, []string{"volume destroy"}, b.said())
	_, err = b.VolumeCreate(sim.VolumeOptions{Name: name})
	require.NoError(t, err)
	b.events()
	require.Equal(t, []string{name}, b.VolumePrune(nil))
	pruned := b.events()
	require.Len(t, pruned, 1)
	require.Equal(t, "prune", pruned[0].Action)
	require.Empty(t, pruned[0].ID)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := newBench(t, sim.Options{})
	id := b.image("busybox")
	web := b.run(sim.ContainerOptions{Name: "web", Volumes: []string{"data:/data:ro"}})

	check := func(want messages.Code, err error) {
		t.Helper()
		require.Equal(t, want, code(err), "%v", err)
	}
	_, err := b.CreateContainer(sim.ContainerOptions{Name: "web", Image: "busybox"})
	check(messages.CodeAlreadyExists, err)
	require.ErrorIs(t, err, messages.ErrConflict)
	_, err = b.CreateContainer(sim.ContainerOptions{Image: "nothing"})
	check(messages.CodeNotFound, err)
	check(messages.CodeConflict, b.Rm("web", false))
	check(messages.CodeUnavailable, b.Unpause("web"))
	check(messages.CodeNotFound, b.client.RemoveContainer(ctx, strings.Repeat("0", 64)))
	check(messages.CodeNotFound, b.client.RemoveVolume(ctx, "nothing"))
	check(messages.CodeNotFound, b.client.RemoveImage(ctx, "nothing"))
	check(messages.CodeInvalid, b.client.RemoveImage(ctx, ""))
	_, err = b.client.InspectContainer(ctx, "")
	check(messages.CodeInvalid, err)

	// In use by a running container.
	err = b.client.RemoveVolume(ctx, "data")
	check(messages.CodeInUse, err)
	require.EqualError(t, err, `remove volume "data": remove data: volume is in use - [`+web+`]`)
	err = b.client.RemoveImage(ctx, "busybox:latest")
	check(messages.CodeInUse, err)
	require.ErrorContains(t, err, "is using its referenced image")
	check(messages.CodeInUse, b.client.RemoveImage(ctx, id))
	check(messages.CodeInUse, b.Rmi(id, true))
	require.NoError(t, b.Tag("busybox", "other"))
	require.NoError(t, b.client.RemoveImage(ctx, "other"), "one of several tags")

	// In use by a stopped one.
	require.NoError(t, b.Stop("web"))
	check(messages.CodeConflict, b.Kill("web"))
	check(messages.CodeInUse, b.client.RemoveVolume(ctx, "data"))
	check(messages.CodeInUse, b.client.RemoveImage(ctx, "busybox"))
	require.Equal(t, "busybox", b.row(web).ImageName)
	archive, err := b.Save("busybox")
	require.NoError(t, err)
	require.NoError(t, b.Start("web"))
	require.NoError(t, b.Rmi("busybox", true), "by force, of a running container: only the tag")
	require.Equal(t, id, b.row(web).ImageName)
	require.Equal(t, "busybox", b.inspect(web).ImageName)
	require.Len(t, b.Snapshot().Images, 1)
	require.NoError(t, b.Stop("web"))
	require.NoError(t, b.Tag(id, "busybox"))
	require.NoError(t, b.Rmi("busybox", true), "by force, of a stopped container: the image")
	require.Empty(t, b.Snapshot().Images)
	require.Equal(t, id, b.row(web).ImageName)
	_, err = b.Load(archive)
	require.NoError(t, err)
	require.Equal(t, "busybox", b.row(web).ImageName)
	check(messages.CodeInUse, b.client.RemoveImage(ctx, "busybox"))

	require.NoError(t, b.client.RemoveContainer(ctx, web))
	require.NoError(t, b.client.RemoveVolume(ctx, "data"))
	require.NoError(t, b.Tag(id, "a"))
	require.NoError(t, b.Tag(id, "b"))
	require.NoError(t, b.Rmi("busybox", false))
	check(messages.CodeConflict, b.client.RemoveImage(ctx, id))
	require.NoError(t, b.Rmi("b", false))
	require.NoError(t, b.Rmi("a", false))
	_, err = b.Load(archive)
	require.NoError(t, err)
	require.NoError(t, b.client.RemoveImage(ctx, id))
	truth := b.Snapshot()
	require.Empty(t, truth.Containers)
	require.Empty(t, truth.Images)
	require.Empty(t, truth.Volumes)
	require.Equal(t, sim.Call{Op: sim.OpRemoveImage, Name: id}, b.MutatingCalls()[len(b.MutatingCalls())-1])
}

func TestInspect(t *testing.T) {
	t.Parallel()
	b := newBench(t, sim.Options{})
	b.image("busybox")
	id := b.run(sim.ContainerOptions{
		Name: "web", Cmd: []string{"httpd", "-f"}, Labels: map[string]string{"a": "b"}, Ports: []string{"8080:80", "443"},
		ExposedPorts: []string{"53/udp", "80"}, Volumes: []string{"data:/data", "/etc:/host:ro"}, RestartPolicy: "unless-stopped",
	})
	c := b.inspect(id)
	require.Regexp(t, "^[0-9a-f]{64}$", id)
	require.Equal(t, "httpd", c.Path)
	require.Equal(t, []string{"-f"}, c.Args)
	require.Equal(t, []messages.ContainerPort{
		{Name: "53/udp"},
		{Name: "80/tcp", Bindings: []messages.PortBinding{{HostIP: "0.0.0.0", HostPort: "8080"}, {HostIP: "::", HostPort: "8080"}}},
		{Name: "443/tcp", Bindings: []messages.PortBinding{{HostIP: "0.0.0.0", HostPort: "49153"}, {HostIP: "::", HostPort: "49153"}}},
	}, c.Ports)
	require.Equal(t, []messages.ContainerMount{
		{Type: "volume", Name: "data", Source: "/var/lib/docker/volumes/data/_data", Destination: "/data", ReadWrite: true},
		{Type: "bind", Source: "/etc", Destination: "/host"},
	}, c.Mounts)
	require.NotZero(t, c.Pid)
	require.NotEmpty(t, c.Networks[0].IPAddress)

	require.NoError(t, b.Pause(id))
	c = b.inspect(id)
	require.True(t, c.Running && c.Paused)
	require.Equal(t, messages.ContainerPaused, c.Status)
	require.NoError(t, b.Stop(id))
	c = b.inspect(id)
	require.False(t, c.Running || c.Paused || c.Restarting)
	require.Nil(t, c.Ports[1].Bindings)
	require.Zero(t, c.Pid)
	require.Empty(t, c.Networks[0].IPAddress)
	require.Equal(t, 143, *b.row(id).ExitCode)
	require.NoError(t, b.MarkDead(id))
	require.Equal(t, messages.ContainerDead, b.inspect(id).Status)
}

func TestIDsComeFromTheSeed(t *testing.T) {
	t.Parallel()
	make := func(seed uint64) sim.Snapshot {
		b := newBench(t, sim.Options{Seed: seed, Clock: func() time.Time { return time.Unix(1000, 0) }})
		b.image("busybox")
		b.run(sim.ContainerOptions{Volumes: []string{"/data"}})
		return b.Snapshot()
	}
	require.Equal(t, make(7), make(7))
	require.NotEqual(t, make(7).Containers[0].ID, make(8).Containers[0].ID)
}

func TestHistory(t *testing.T) {
	t.Parallel()
	b := newBench(t, sim.Options{})
	for range 400 {
		_, err := b.VolumeCreate(sim.VolumeOptions{})
		require.NoError(t, err)
	}
	log := b.EventLog()
	require.Len(t, log, sim.History)
	count := func(since dockerio.Time) int {
		b.stream, _ = b.client.Events(t.Context(), since)
		return len(b.events())
	}
	require.Equal(t, sim.History, count(log[0].Time.Add(-time.Hour)))
	log = b.EventLog()
	require.Equal(t, 10, count(log[len(log)-10].Time), "since is inclusive")
	log = b.EventLog()
	require.Equal(t, 9, count(log[len(log)-10].Time.Add(1)))
	require.Equal(t, 0, count(dockerio.Time{}))
}

func TestRestartPolicy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, sim.Options{})
		b.image("busybox")
		id := b.run(sim.ContainerOptions{Name: "loop", RestartPolicy: "on-failure:3", RunFor: time.Second, ExitCode: 2})
		b.events()
		began := time.Now()
		time.Sleep(time.Second + time.Millisecond)
		c := b.inspect(id)
		require.Equal(t, messages.ContainerRestarting, c.Status)
		require.True(t, c.Running && c.Restarting)
		require.Equal(t, 2, *b.row(id).ExitCode)
		require.Equal(t, []string{"container die 2", "network disconnect"}, b.said())
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, messages.ContainerRunning, b.inspect(id).Status)
		require.Equal(t, []string{"network connect", "container start"}, b.said(), "no restart event")
		for b.inspect(id).Running {
			time.Sleep(100 * time.Millisecond)
		}
		// Four lives of 1 s, with 100, 200 and 400 ms between them.
		require.InDelta(t, 4.7, time.Since(began).Seconds(), 0.2)
		require.Equal(t, 3, b.inspect(id).RestartCount)
		require.Equal(t, messages.ContainerExited, b.inspect(id).Status)

		// A user's stop ends the loop, also between two lives.
		require.NoError(t, b.UpdatePolicy(id, "always"))
		require.NoError(t, b.Start(id))
		time.Sleep(time.Second + time.Millisecond)
		require.Equal(t, messages.ContainerRestarting, b.inspect(id).Status)
		b.events()
		require.NoError(t, b.Stop(id))
		require.Equal(t, []string{"container stop"}, b.said())
		time.Sleep(time.Hour)
		require.Equal(t, messages.ContainerExited, b.inspect(id).Status)
		require.NoError(t, b.Start(id))
		time.Sleep(time.Second + time.Millisecond)
		b.events()
		require.NoError(t, b.Kill(id))
		require.Empty(t, b.said())
		require.Equal(t, messages.ContainerExited, b.inspect(id).Status)

		// What waits when the engine dies starts with it.
		require.NoError(t, b.Start(id))
		time.Sleep(time.Second + time.Millisecond)
		b.Down()
		time.Sleep(time.Hour)
		require.Equal(t, messages.ContainerRestarting, b.Snapshot().Containers[0].Status)
		b.Up()
		require.Equal(t, messages.ContainerRunning, b.inspect(id).Status)
	})
}

func TestDownAndUp(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := newBench(t, sim.Options{})
	b.image("busybox")
	id := b.run(sim.ContainerOptions{Name: "web"})
	was := b.inspect(id)
	b.Down()
	_, err := b.stream.Next()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorIs(t, err, messages.ErrEngineUnreachable)
	_, err = b.client.Info(ctx)
	require.ErrorIs(t, err, messages.ErrEngineUnreachable)
	require.ErrorIs(t, b.client.Ping(ctx), messages.ErrTransient)
	_, err = b.client.Events(ctx, dockerio.Time{})
	require.ErrorIs(t, err, messages.ErrEngineUnreachable)
	_, err = b.Dialer().Dial(ctx, b.Endpoint())
	require.NoError(t, err)
	b.Up()
	require.Equal(t, was, b.inspect(id))
	require.Empty(t, b.EventLog())
	b.subscribe()
	require.NoError(t, b.Stop(id))
	require.Len(t, b.said(), 4)

	old := b.ID()
	b.Replace("ANOTHER")
	_, err = b.stream.Next()
	require.Error(t, err)
	info, err := b.client.Info(ctx)
	require.NoError(t, err)
	require.Equal(t, "ANOTHER", info.ID)
	require.NotEqual(t, old, info.ID)
	require.Empty(t, b.Snapshot().Containers)
}

func TestFreeze(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, sim.Options{})
		b.image("busybox")
		b.events()
		b.Freeze()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := b.client.Ping(ctx)
		require.ErrorIs(t, err, messages.ErrTimeout)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))

		b.run(sim.ContainerOptions{Name: "web"})
		got := make(chan dockerio.Event, 10)
		go func() {
			for {
				event, err := b.stream.Next()
				if err != nil {
					return
				}
				got <- event
			}
		}()
		pinged := make(chan error, 1)
		go func() { pinged <- b.client.Ping(t.Context()) }()
		time.Sleep(time.Minute)
		require.Empty(t, got)
		require.Empty(t, pinged)
		b.Thaw()
		synctest.Wait()
		require.Len(t, got, 3)
		require.NoError(t, <-pinged)

		// Killed while frozen: nobody hangs any longer.
		b.Freeze()
		go func() { pinged <- b.client.Ping(t.Context()) }()
		synctest.Wait()
		b.Down()
		require.ErrorIs(t, <-pinged, messages.ErrEngineUnreachable)
	})
}

func TestCallFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		b := newBench(t, sim.Options{})
		b.image("busybox")
		web, db := b.run(sim.ContainerOptions{Name: "web"}), b.run(sim.ContainerOptions{Name: "db"})
		f := b.Faults()

		undo := f.Hang(sim.OpInspectContainer, "web")
		limited, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := b.client.InspectContainer(limited, web)
		require.ErrorIs(t, err, messages.ErrTimeout)
		b.inspect(db)
		released := make(chan error, 1)
		go func() { _, err := b.client.InspectContainer(ctx, web); released <- err }()
		synctest.Wait()
		undo()
		undo()
		require.NoError(t, <-released)

		undo = f.Slow(sim.OpListImages, "", time.Second)
		began := time.Now()
		_, err = b.client.ListImages(ctx)
		require.NoError(t, err)
		require.Equal(t, time.Second, time.Since(began))
		undo()

		broken := messages.NewError(messages.CodeUnavailable, "list", "volumes", "", "broken")
		f.Fail(sim.OpListVolumes, "", 2, broken)
		for range 2 {
			_, err = b.client.ListVolumes(ctx)
			require.Equal(t, broken, err)
		}
		_, err = b.client.ListVolumes(ctx)
		require.NoError(t, err)
		f.Fail(sim.OpPing, "", 0, errors.New("plain"))
		require.ErrorIs(t, b.client.Ping(ctx), messages.ErrUnavailable)

		f.LoseAnswer(sim.OpRemoveContainer, "db", 1, broken)
		require.Error(t, b.client.RemoveContainer(ctx, db))
		require.ErrorIs(t, b.client.RemoveContainer(ctx, db), messages.ErrNotFound)

		// A late answer tells an old state.
		f.Add(sim.Rule{Op: sim.OpInspectContainer, Times: 1, After: true, Delay: time.Second})
		time.AfterFunc(time.Millisecond, func() { _ = b.Stop("web") })
		require.Equal(t, messages.ContainerRunning, b.inspect(web).Status)
		require.Equal(t, messages.ContainerExited, b.inspect(web).Status)

		f.PanicOn(sim.OpInspectContainer, "web")
		require.Panics(t, func() { _, _ = b.client.InspectContainer(ctx, web) })
		f.Clear()
		b.inspect(web)
		require.NoError(t, b.client.Ping(ctx))

		require.Equal(t, 2, b.CallsFor(sim.OpRemoveContainer, db))
		require.Equal(t, []sim.Call{{Op: sim.OpRemoveContainer, Name: db}, {Op: sim.OpRemoveContainer, Name: db}}, b.MutatingCalls())
		require.Equal(t, 3, b.Calls(sim.OpListVolumes))
		require.Equal(t, b.CallsFor(sim.OpInspectContainer, web), b.CallsFor(sim.OpInspectContainer, "web"))
		b.ResetCalls()
		require.Zero(t, b.Calls(sim.OpListVolumes))
	})
}

func TestEventFaults(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := newBench(t, sim.Options{})
	f := b.Faults()
	undo := f.DropEvents(func(e dockerio.Event) bool { return e.Action == "tag" })
	b.image("busybox")
	require.Equal(t, []string{"image import"}, b.said())
	require.Equal(t, 1, f.Dropped())
	undo()

	undo = f.StopEvents()
	id := b.run(sim.ContainerOptions{})
	require.NoError(t, b.client.Ping(ctx))
	undo()
	require.Empty(t, b.said())

	info, err := b.client.Info(ctx)
	require.NoError(t, err)
	f.MuteStreams()
	require.NoError(t, b.Pause(id))
	b.stream, err = b.client.Events(ctx, info.Now)
	require.NoError(t, err)
	require.Equal(t, []string{"container pause"}, b.said(), "a new subscription works")

	undo = f.SubscribeLate()
	s, err := b.client.Events(ctx, dockerio.Time{})
	require.NoError(t, err)
	require.NoError(t, b.Unpause(id))
	undo()
	go func() { time.Sleep(20 * time.Millisecond); _ = b.Stop(id) }()
	event, err := s.Next()
	require.NoError(t, err)
	require.Equal(t, "kill", event.Action, "what came before the subscription is missed")
	require.NoError(t, s.Close())
	_, err = s.Next()
	require.Error(t, err)

	f.CutStreams()
	_, err = b.stream.Next()
	require.Equal(t, io.EOF, err)
	require.Zero(t, b.Streams())

	f.SkewBy(-time.Hour)
	info, err = b.client.Info(ctx)
	require.NoError(t, err)
	require.InDelta(t, -3600, info.Now.Skew(time.Now()).Seconds(), 5)
	f.NoSystemTime()
	info, err = b.client.Info(ctx)
	require.NoError(t, err)
	require.True(t, info.Now.IsZero())
}

func TestStreamEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, sim.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		s, err := b.client.Events(ctx, dockerio.Time{})
		require.NoError(t, err)
		ended := make(chan error)
		go func() { _, err := s.Next(); ended <- err }()
		synctest.Wait()
		require.Equal(t, 2, b.Streams())
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.Equal(t, 1, b.Streams())
		_, err = s.Next()
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 1, b.Clients())
	})
}

func TestSlowReader(t *testing.T) {
	t.Parallel()
	b := newBench(t, sim.Options{Buffer: 3})
	for range 5 {
		_, err := b.VolumeCreate(sim.VolumeOptions{})
		require.NoError(t, err)
	}
	require.Equal(t, 2, b.Lost())

	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, sim.Options{Buffer: 3, Stall: 100 * time.Millisecond})
		began := time.Now()
		for range 5 {
			_, err := b.VolumeCreate(sim.VolumeOptions{})
			require.NoError(t, err)
		}
		require.Equal(t, 2, b.Lost())
		require.Equal(t, 200*time.Millisecond, time.Since(began), "a slow reader slows the engine down")
		// A reader that comes back in time loses nothing more.
		go func() {
			time.Sleep(50 * time.Millisecond)
			for range 6 {
				if _, err := b.stream.Next(); err != nil {
					return
				}
			}
		}()
		for range 3 {
			_, err := b.VolumeCreate(sim.VolumeOptions{})
			require.NoError(t, err)
		}
		require.Equal(t, 2, b.Lost())
		require.Equal(t, 250*time.Millisecond, time.Since(began))
		synctest.Wait()
	})
}

// TestConcurrently is for the race detector: users, readers and faults at once; in the end list, inspects and truth agree.
func TestConcurrently(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := newBench(t, sim.Options{Buffer: 50})
	b.image("busybox")
	var users sync.WaitGroup
	for n := range 8 {
		users.Go(func() {
			name := "c" + strconv.Itoa(n)
			for range 30 {
				id, err := b.Run(sim.ContainerOptions{
					Name: name, Image: "busybox", Volumes: []string{"shared:/data"}, RestartPolicy: "always",
					Labels: map[string]string{"a": "b"},
				})
				if err != nil {
					continue
				}
				_, _ = b.client.InspectContainer(ctx, id)
				_ = b.Exit(id, 1)
				_, _ = b.client.ListContainers(ctx)
				_ = b.Tag("busybox", name)
				_, _ = b.client.ListImages(ctx)
				_ = b.client.RemoveImage(ctx, name)
				_ = b.client.RemoveVolume(ctx, "shared")
				_ = b.client.RemoveContainer(ctx, id)
			}
			_ = b.Restart(name)
		})
	}
	done := make(chan struct{})
	readers, stop := context.WithCancel(ctx)
	var others sync.WaitGroup
	others.Go(func() {
		for readers.Err() == nil {
			s, err := b.client.Events(readers, dockerio.Time{})
			for err == nil {
				var event dockerio.Event
				if event, err = s.Next(); err == nil {
					event.Attributes["mine"] = "yes"
				}
			}
		}
	})
	others.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			b.Freeze()
			b.Thaw()
			b.Down()
			b.Up()
			b.Faults().CutStreams()
			undo := b.Faults().Fail("", "", 1, errors.New("broken"))
			time.Sleep(time.Millisecond)
			undo()
		}
	})
	users.Wait()
	close(done)
	stop()
	others.Wait()
	b.Faults().Clear()
	truth := b.Snapshot()
	rows, err := b.client.ListContainers(ctx)
	require.NoError(t, err)
	require.Len(t, rows, len(truth.Containers))
	for _, c := range truth.Containers {
		require.Equal(t, c.ID, b.inspect(c.ID).ID)
	}
}

func TestPopulate(t *testing.T) {
	t.Parallel()
	b := newBench(t, sim.Options{})
	size := 100_000
	if testing.Short() {
		size = 1000
	}
	require.NoError(t, b.Populate(size, 100, 100))
	require.Empty(t, b.EventLog())
	rows, err := b.client.ListContainers(t.Context())
	require.NoError(t, err)
	require.Len(t, rows, size)
	c := b.inspect(rows[1].ID)
	require.Equal(t, messages.ContainerRunning, c.Status)
	require.Equal(t, c.Name, rows[1].Name)
	require.NoError(t, b.Populate(10, 1, 0))
}

func TestOrderOfLists(t *testing.T) {
	t.Parallel()
	b := newBench(t, sim.Options{})
	require.NoError(t, b.Populate(1000, 10, 10))
	rows, err := b.client.ListContainers(t.Context())
	require.NoError(t, err)
	var want []string
	for n, row := range rows {
		if n%4 == 1 {
			want = append(want, row.ID)
			continue
		}
		require.NoError(t, b.client.RemoveContainer(t.Context(), row.ID))
	}
	var got []string
	rows, err = b.client.ListContainers(t.Context())
	require.NoError(t, err)
	for _, row := range rows {
		got = append(got, row.ID)
	}
	require.Equal(t, want, got)
}

func BenchmarkInspect(b *testing.B) {
	world := sim.New(sim.Options{})
	defer world.Close()
	require.NoError(b, world.Populate(100_000, 100, 100))
	client, err := world.Dialer().Dial(b.Context(), world.Endpoint())
	require.NoError(b, err)
	rows, err := client.ListContainers(b.Context())
	require.NoError(b, err)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		_, _ = client.InspectContainer(b.Context(), rows[n%len(rows)].ID)
	}
}

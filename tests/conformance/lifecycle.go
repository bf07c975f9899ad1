package conformance

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

type verb struct {
	name string
	call func(e dockerio.Engine, ctx context.Context, id string) error
}

// verbs change whether a container runs; the graces are short, for a stubborn one.
var verbs = []verb{
	{"start", dockerio.Engine.StartContainer},
	{"stop", func(e dockerio.Engine, ctx context.Context, id string) error {
		return e.StopContainer(ctx, id, time.Second)
	}},
	{"restart", func(e dockerio.Engine, ctx context.Context, id string) error {
		return e.RestartContainer(ctx, id, time.Second)
	}},
	{"kill", dockerio.Engine.KillContainer},
	{"pause", dockerio.Engine.PauseContainer},
	{"unpause", dockerio.Engine.UnpauseContainer},
}

// lifecycleCases are each verb on a container in each state: what becomes of it, and of which class the refusal is. The decide table
// of rdd's intents stands on them.
var lifecycleCases = func() []testCase {
	refused, none := messages.ErrConflict, error(nil)
	const created, running, paused, exited = messages.ContainerCreated, messages.ContainerRunning, messages.ContainerPaused, messages.ContainerExited
	cases := []testCase{{"verbs", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		for _, c := range []struct {
			verb, from string
			want       error
			after      string
		}{
			{"start", created, none, running}, {"start", running, none, running}, {"start", paused, refused, paused}, {"start", exited, none, running},
			{"stop", created, none, created}, {"stop", running, none, exited}, {"stop", paused, none, exited}, {"stop", exited, none, exited},
			{"restart", created, none, running}, {"restart", running, none, running}, {"restart", paused, none, running}, {"restart", exited, none, running},
			{"kill", created, refused, created}, {"kill", running, none, exited}, {"kill", paused, none, exited}, {"kill", exited, refused, exited},
			{"pause", created, refused, created}, {"pause", running, none, paused}, {"pause", paused, refused, paused}, {"pause", exited, refused, exited},
			{"unpause", created, refused, created}, {"unpause", running, refused, running}, {"unpause", paused, none, running}, {"unpause", exited, refused, exited},
		} {
			t.Run(c.verb+" "+c.from, func(t *testing.T) { b.verb(t, c.verb, c.from, c.want, c.after) })
		}
	}}}
	return append(cases, lifecycleSpecials...)
}()

// verb uses one verb on a container in one state.
func (b *bench) verb(t *testing.T, name, from string, want error, after string) {
	t.Helper()
	id := b.World.Create(t, Container{Name: "web", Image: busybox})
	defer b.World.Remove(t, id)
	if from != messages.ContainerCreated {
		require.NoError(t, b.World.Start(t, id))
	}
	switch from {
	case messages.ContainerPaused:
		b.World.Pause(t, id)
	case messages.ContainerExited:
		b.World.Stop(t, id)
	}
	before := b.inspect(t, id)
	require.Equal(t, from, before.Status)
	for _, v := range verbs {
		if v.name != name {
			continue
		}
		if err := v.call(b.Engine, t.Context(), id); want == nil {
			require.NoError(t, err)
		} else {
			requireError(t, err, want, messages.KindContainer, id)
		}
	}
	// A kill returns when the signal is sent.
	require.Eventually(t, func() bool { return b.inspect(t, id).Status == after }, patience, time.Millisecond)
	ran, again := after == messages.ContainerRunning, from == messages.ContainerCreated || from == messages.ContainerExited
	if name == "restart" || ran && again {
		require.False(t, b.inspect(t, id).StartedAt.Equal(before.StartedAt), "another start, another startedAt")
	} else {
		require.True(t, b.inspect(t, id).StartedAt.Equal(before.StartedAt), "no start, the same startedAt")
	}
}

var lifecycleSpecials = []testCase{
	{"start of what cannot run", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		id := b.World.Create(t, Container{Name: "bad", Image: busybox, Program: Missing})
		requireError(t, b.Engine.StartContainer(t.Context(), id), messages.ErrPermanent, messages.KindContainer, id)
		require.Equal(t, messages.ContainerCreated, b.inspect(t, id).Status)
	}},

	{"stop of one that ignores it", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		id := b.run(t, Container{Name: "web", Image: busybox, Program: Stubborn})
		require.NoError(t, b.Engine.StopContainer(t.Context(), id, time.Second))
		require.Equal(t, 137, b.inspect(t, id).ExitCode)
	}},

	{"stop keeps the restart policy quiet", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		r := b.record(t)
		id := b.run(t, Container{Name: "web", Image: busybox, Restart: "always"})
		require.NoError(t, b.Engine.StopContainer(t.Context(), id, time.Second))
		r.require(t, dockerio.TypeContainer, id, "create", "start", "kill", "die", "stop")
		require.Equal(t, messages.ContainerExited, b.inspect(t, id).Status)
	}},

	{"the grace of a stop", func(t *testing.T, b *bench) {
		b.World.Import(t, busybox)
		id := b.World.Create(t, Container{Name: "web", Image: busybox})
		require.Equal(t, dockerio.DefaultGrace, b.inspect(t, id).StopTimeout)
	}},
}

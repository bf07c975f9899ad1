package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/moby"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/dockerio/sim/server"
	"github.com/rdd-desktop/rdd/messages"
)

// serve puts an engine on a socket until the test ends.
func serve(t *testing.T, engine *sim.Engine) (socket string) {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	dir, err := os.MkdirTemp("", "rdds") // short: it gets a socket
	require.NoError(t, err)
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	s := server.New(engine)
	s.Serve(l)
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		engine.Close()
		require.NoError(t, os.RemoveAll(dir))
	})
	return socket
}

// open serves an engine with a running container web, and dials it twice: through the socket, and in memory.
func open(t *testing.T) (engine *sim.Engine, clients map[string]dockerio.Engine, id string) {
	t.Helper()
	engine = sim.New(sim.Options{})
	_, err := engine.Import("busybox", "")
	require.NoError(t, err)
	id, err = engine.Run(sim.ContainerOptions{Name: "web", Image: "busybox"})
	require.NoError(t, err)
	socket := serve(t, engine)
	clients = map[string]dockerio.Engine{}
	for name, dialer := range map[string]dockerio.Dialer{"socket": moby.Dialer{}, "memory": engine.Dialer()} {
		clients[name], err = dialer.Dial(t.Context(), messages.Endpoint{Host: "unix://" + socket})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, clients[name].Close()) })
	}
	return engine, clients, id
}

// Each fault looks the same through the socket and our adapter as it does in memory.
func TestFaultsOfCalls(t *testing.T) {
	broken := messages.NewError(messages.CodeUnavailable, "inspect", "container", "web", "broken")
	for name, c := range map[string]struct {
		cause func(*sim.Engine) (undo func())
		code  messages.Code
	}{
		"fails":     {func(e *sim.Engine) func() { return e.Faults().Fail(sim.OpInspectContainer, "web", 1, broken) }, messages.CodeUnavailable},
		"hangs":     {func(e *sim.Engine) func() { return e.Faults().Hang(sim.OpInspectContainer, "web") }, messages.CodeTimeout},
		"slow":      {func(e *sim.Engine) func() { return e.Faults().Slow(sim.OpInspectContainer, "web", time.Hour) }, messages.CodeTimeout},
		"garbage":   {func(e *sim.Engine) func() { return e.Faults().Corrupt(sim.OpInspectContainer, "web", 1, sim.Garbage) }, messages.CodeUnavailable},
		"truncated": {func(e *sim.Engine) func() { return e.Faults().Corrupt(sim.OpInspectContainer, "", 1, sim.Truncated) }, messages.CodeUnavailable},
		"frozen":    {func(e *sim.Engine) func() { e.Freeze(); return e.Thaw }, messages.CodeTimeout},
		"down":      {func(e *sim.Engine) func() { e.Down(); return e.Up }, messages.CodeEngineUnreachable},
		"upgraded":  {func(e *sim.Engine) func() { return e.Faults().RaiseFloor("1.99") }, messages.CodeUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			engine, clients, id := open(t)
			for where, client := range clients {
				_, err := client.InspectContainer(t.Context(), id)
				require.NoError(t, err, where)
				undo := c.cause(engine)
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				_, err = client.InspectContainer(ctx, id)
				cancel()
				require.Error(t, err, where)
				require.Equal(t, c.code, messages.AsError(err).Code, "%s: %v", where, err)
				undo()
				_, err = client.InspectContainer(t.Context(), id)
				require.NoError(t, err, where)
			}
		})
	}
}

func TestFaultsOfStreams(t *testing.T) {
	for name, c := range map[string]struct {
		cause func(*sim.Engine)
		is    func(error) bool
	}{
		"ends":     {func(e *sim.Engine) { e.Faults().CutStreams() }, func(err error) bool { return err == io.EOF }},
		"cut":      {func(e *sim.Engine) { e.Down(); e.Up() }, func(err error) bool { return messages.AsError(err).Code == messages.CodeEngineUnreachable }},
		"garbage":  {func(e *sim.Engine) { e.Faults().CorruptStreams(sim.Garbage) }, func(err error) bool { return messages.AsError(err).Code == messages.CodeUnavailable }},
		"replaced": {func(e *sim.Engine) { e.Replace("OTHER") }, func(err error) bool { return messages.AsError(err).Code == messages.CodeEngineUnreachable }},
	} {
		t.Run(name, func(t *testing.T) {
			engine, clients, _ := open(t)
			for where, client := range clients {
				stream, err := client.Events(t.Context(), dockerio.Time{})
				require.NoError(t, err)
				require.Eventually(t, func() bool { return engine.Streams() == 1 }, 10*time.Second, time.Millisecond)
				c.cause(engine)
				_, err = stream.Next()
				require.True(t, c.is(err), "%s: %v", where, err)
				require.NoError(t, stream.Close())
			}
		})
	}
}

// names are the volumes whose creation a stream tells, up to the one called last.
func names(t *testing.T, stream dockerio.Stream, last string) (seen []string) {
	t.Helper()
	for {
		e, err := stream.Next()
		require.NoError(t, err)
		if e.Type != dockerio.TypeVolume {
			continue
		}
		if e.ID == last {
			return seen
		}
		seen = append(seen, e.ID)
	}
}

func TestFaultsOfEvents(t *testing.T) {
	one := func(e dockerio.Event) bool { return e.ID == "one" }
	for name, c := range map[string]struct {
		fault sim.EventFault
		want  []string
	}{
		"none":       {sim.EventFault{Match: func(dockerio.Event) bool { return false }, Drop: true}, []string{"one", "two", "three"}},
		"dropped":    {sim.EventFault{Match: one, Drop: true}, []string{"two", "three"}},
		"duplicated": {sim.EventFault{Match: one, Duplicates: 2}, []string{"one", "one", "one", "two", "three"}},
		"reordered":  {sim.EventFault{Match: one, Hold: true}, []string{"two", "one", "three"}},
		"late":       {sim.EventFault{Match: one, Delay: time.Hour}, []string{"two", "three"}},
	} {
		t.Run(name, func(t *testing.T) {
			engine, clients, _ := open(t)
			for where, client := range clients {
				stream, err := client.Events(t.Context(), engine.Now())
				require.NoError(t, err)
				undo := engine.Faults().AddEvents(c.fault)
				for _, v := range []string{"one", "two", "three"} {
					_, err := engine.VolumeCreate(sim.VolumeOptions{Name: v})
					require.NoError(t, err)
				}
				undo()
				_, err = engine.VolumeCreate(sim.VolumeOptions{Name: "last"})
				require.NoError(t, err)
				require.Equal(t, c.want, names(t, stream, "last"), where)
				require.NoError(t, stream.Close())
				engine.VolumePrune(nil)
			}
		})
	}
}

// The same seed and the same moments hit the same events.
func TestAShareIsChosenByTheSeed(t *testing.T) {
	run := func(seed uint64) (kept []string) {
		now := time.Unix(1_000_000, 0)
		engine := sim.New(sim.Options{Seed: seed, Clock: func() time.Time { now = now.Add(time.Millisecond); return now }})
		defer engine.Close()
		engine.Faults().AddEvents(sim.EventFault{Share: 0.5, Drop: true})
		for i := range 200 {
			_, err := engine.VolumeCreate(sim.VolumeOptions{Name: fmt.Sprint("v", i)})
			require.NoError(t, err)
		}
		for _, e := range engine.EventLog() {
			kept = append(kept, e.ID)
		}
		return kept
	}
	first := run(1)
	require.InDelta(t, 100, len(first), 40)
	require.Equal(t, first, run(1))
	require.False(t, slices.Equal(first, run(2)))
}

package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// death ends a tree as SIGKILL ends a process: from the n-th passing of a point on, nothing it does reaches the journal or the engine.
type death struct {
	at kit.KillPoint

	mu     sync.Mutex
	armed  bool
	dead   bool
	passed map[string]int
	happen chan struct{} // closed when it is dead
	end    chan struct{} // closed when the test lets it go
}

func newDeath(at kit.KillPoint) *death {
	return &death{at: at, passed: map[string]int{}, happen: make(chan struct{}), end: make(chan struct{})}
}

func (d *death) point(name string) {
	d.mu.Lock()
	if d.armed && !d.dead {
		d.passed[name]++
		if d.at.Point == name && int64(d.passed[name]) == d.at.N {
			d.dead = true
			close(d.happen)
		}
	}
	dead := d.dead
	d.mu.Unlock()
	if dead {
		<-d.end
		panic("the process has ended")
	}
}

func (d *death) arm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = true
}

// live runs rdd on the journal in a directory.
func live(t *testing.T, world *sim.Engine, home string, d *death) (h *house, r *supervisor.Rdd) {
	t.Helper()
	i := instanceIn(t, home)
	ctx := t.Context()
	if d != nil {
		ctx = kit.WithLab(ctx, &kit.Lab{Point: d.point})
	}
	r, err := supervisor.Start(ctx, supervisor.Config{
		Instance: &i, Dialer: world.Dialer(), Drivers: map[string]vmdriver.Driver{messages.DriverExternal: place{world}},
	})
	require.NoError(t, err)
	return &house{T: t, world: world, client: r.Client()}, r
}

func instanceIn(t *testing.T, home string) supervisor.Instance {
	require.NoError(t, os.Setenv("HOME", home)) // put back by who called Setenv
	i, err := supervisor.NewInstance("x")
	require.NoError(t, err)
	return i
}

func finish(t *testing.T, r *supervisor.Rdd) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if err := r.Stop(ctx); err != nil {
		t.Log(err)
	}
}

// scene is something a user wants of a container, and what must have become of it.
type scene struct {
	name, from string
	wish       func(h *house, id string) error
	after      string // of the container; empty = gone
	op         string // the last call of it
	action     bool
	// twice: the call may be made again when nobody knows whether it was made.
	twice bool
}

func scenes() []scene {
	spec := func(state string) func(h *house, id string) error {
		return func(h *house, id string) error {
			_, err := h.write(messages.WriteRequest{Kind: "container", Name: id, Patch: fmt.Appendf(nil, `{"spec":{"state":%q}}`, state)})
			return err
		}
	}
	action := func(verb string) func(h *house, id string) error {
		return func(h *house, id string) error { _, err := h.act(id, verb); return err }
	}
	const created, running, paused, exited = messages.ContainerCreated, messages.ContainerRunning, messages.ContainerPaused, messages.ContainerExited
	return []scene{
		{name: "spec.state running", from: exited, wish: spec(messages.StateRunning), after: running, op: sim.OpStartContainer, twice: true},
		{name: "spec.state created", from: running, wish: spec(messages.StateCreated), after: exited, op: sim.OpStopContainer, twice: true},
		{name: "spec.state paused", from: created, wish: spec(messages.StatePaused), after: paused, op: sim.OpPauseContainer, twice: true},
		{name: "start", from: exited, wish: action(messages.ActionStart), after: running, op: sim.OpStartContainer, action: true, twice: true},
		{name: "stop", from: running, wish: action(messages.ActionStop), after: exited, op: sim.OpStopContainer, action: true, twice: true},
		{name: "pause", from: running, wish: action(messages.ActionPause), after: paused, op: sim.OpPauseContainer, action: true, twice: true},
		{name: "unpause", from: paused, wish: action(messages.ActionUnpause), after: running, op: sim.OpUnpauseContainer, action: true, twice: true},
		{name: "restart", from: running, wish: action(messages.ActionRestart), after: running, op: sim.OpRestartContainer, action: true},
		{name: "kill", from: running, wish: action(messages.ActionKill), after: exited, op: sim.OpKillContainer, action: true},
		{name: "action by annotation", from: running, after: exited, op: sim.OpStopContainer, action: true, twice: true,
			wish: func(h *house, id string) error {
				_, err := h.write(messages.WriteRequest{Kind: "container", Name: id,
					Patch: []byte(`{"metadata":{"annotations":{"` + messages.ActionAnnotation + `":"stop"}}}`)})
				return err
			}},
		{name: "deletion", from: running, wish: func(h *house, id string) error { return h.delete("container", id) }, op: sim.OpRemoveContainer, twice: true},
	}
}

// started is when a container was started last; zero when it is gone.
func started(world *sim.Engine, id string) string {
	for _, c := range world.Snapshot().Containers {
		if c.ID == id {
			return c.StartedAt.String()
		}
	}
	return ""
}

// play lets the process die at a point of a scene (or not, with the zero point), starts the next one on what the first has left, and
// checks. It returns how often each point was passed.
func (s scene) play(t *testing.T, at kit.KillPoint) map[string]int {
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("HOME", t.TempDir())
	first, second := t.TempDir(), t.TempDir()
	passed := map[string]int{}
	synctest.Test(t, func(t *testing.T) {
		world := sim.New(sim.Options{})
		defer world.Close()
		_, err := world.Import("busybox:latest", "")
		require.NoError(t, err)
		d := newDeath(at)
		h, r := live(t, world, first, d)
		defer finish(t, r)
		defer close(d.end)
		h.set("running=true", "virtualMachine.driver=external")
		h.settled()
		bystander, id := h.run("bystander"), h.in(s.from)
		pass(time.Second)
		untouched, before := started(world, bystander), started(world, id)
		world.ResetCalls()
		d.arm()
		accepted := s.wish(h, id) == nil
		if at.N == 0 {
			pass(time.Minute)
			passed = d.passed
		} else {
			<-d.happen
			synctest.Wait()
		}
		calledThen, startedThen := world.Calls(s.op), started(world, id)

		bequeath(t, first, second)
		h, r = live(t, world, second, nil)
		defer finish(t, r)
		h.settled()
		pass(time.Minute)
		require.Equal(t, untouched, started(world, bystander), "nobody wanted anything of it")
		s.check(h, id, accepted, calledThen, startedThen, before)
		if s.op == sim.OpKillContainer && at.Point == kit.PointEngine {
			require.Equal(t, messages.ActionFailed, h.container(id).Status.LastAction.State, "whether it was made cannot be known")
		}
	})
	return passed
}

// bequeath gives the next process the journal of the one that died.
func bequeath(t *testing.T, from, to string) {
	t.Helper()
	journal := instanceIn(t, from).Journal()
	data, err := os.ReadFile(journal)
	require.NoError(t, err)
	next := instanceIn(t, to).Journal()
	require.NoError(t, os.MkdirAll(filepath.Dir(next), 0o700))
	require.NoError(t, os.WriteFile(next, data, 0o600))
}

func (s scene) check(h *house, id string, accepted bool, calledThen int, startedThen, before string) {
	calls := h.world.Calls(s.op)
	if s.after == "" {
		if accepted {
			require.Nil(h, h.get("container", id))
			require.Empty(h, started(h.world, id))
		}
		return
	}
	c := h.container(id)
	done := calls > 0
	if !accepted && !done {
		require.Equal(h, s.from, h.status(id), "a wish that was not accepted does nothing")
		return
	}
	limit := 1
	if s.twice {
		limit = 2
	}
	require.LessOrEqual(h, calls, limit)
	if s.action {
		last := c.Status.LastAction
		require.NotNil(h, last)
		require.NotEqual(h, messages.ActionPending, last.State, "it has an end")
		if s.op == sim.OpKillContainer && last.State == messages.ActionFailed {
			require.Contains(h, last.Error, "OutcomeUnknown")
			require.Zero(h, calls, "nobody knows, and so it is not done twice")
			return
		}
		require.Equal(h, messages.ActionSucceeded, last.State, last.Error)
	} else {
		require.Equal(h, c.Generation, c.Status.ObservedGeneration)
		require.Equal(h, messages.ReasonApplied, h.says(id, messages.ConditionIntentApplied).Reason)
	}
	require.Equal(h, s.after, h.status(id))
	if calledThen > 0 && (s.op == sim.OpStartContainer || s.op == sim.OpRestartContainer) {
		require.Equal(h, startedThen, started(h.world, id), "what was done is not done again")
	}
	if s.op == sim.OpRestartContainer {
		require.Equal(h, 1, calls)
		require.NotEqual(h, before, started(h.world, id))
	}
}

// At each commit of the journal and each call to the engine, before and after: whatever was accepted is applied once.
func TestF18_DeathAtEveryStepOfAnIntent(t *testing.T) {
	total := 0
	for _, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			passed := s.play(t, kit.KillPoint{})
			require.NotZero(t, passed[kit.PointJournal])
			require.NotZero(t, passed[kit.PointEngine])
			for point, n := range passed {
				for i := range n {
					at := kit.KillPoint{Point: point, N: int64(i + 1)}
					t.Run(fmt.Sprint(at.Point, " ", at.N), func(t *testing.T) { s.play(t, at) })
					total++
				}
			}
		})
	}
	t.Log(total, "deaths")
}

// A container that went while nobody looked takes its intents along; another engine is not told what the first one was to do.
func TestF17_AnIntentWhoseContainerIsGone(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("HOME", t.TempDir())
	first, second := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		world := sim.New(sim.Options{})
		defer world.Close()
		_, err := world.Import("busybox:latest", "")
		require.NoError(t, err)
		h, r := live(t, world, first, nil)
		h.set("running=true", "virtualMachine.driver=external")
		h.settled()
		id, other := h.in(messages.ContainerRunning), h.in(messages.ContainerRunning)
		pass(time.Second)
		world.Down()
		pass(time.Second)
		_, err = h.act(id, messages.ActionStop)
		require.NoError(t, err)
		h.wants(other, messages.StatePaused, messages.PolicyOnce)
		finish(t, r)
		require.NoError(t, world.Rm(id, true))
		name := world.Snapshot().Containers[0].Name
		require.NoError(t, world.Rm(other, true))
		world.Up()
		again, err := world.Run(sim.ContainerOptions{Name: name, Image: "busybox"})
		require.NoError(t, err)

		bequeath(t, first, second)
		h, r = live(t, world, second, nil)
		h.settled()
		pass(time.Minute)
		require.Contains(t, h.supersededWords(), id)
		require.Empty(t, h.calls(), "the name is not the container")
		require.Equal(t, messages.StateUnknown, h.container(again).Spec.State)
		finish(t, r)
		back, _, err := journal.Open(instanceIn(t, second).Journal())
		require.NoError(t, err)
		defer back.Close()
		for _, bucket := range []string{journal.BucketOperations, journal.BucketObjects} {
			left, err := back.Load(bucket, "")
			require.NoError(t, err)
			require.Empty(t, left, bucket)
		}
	})
}

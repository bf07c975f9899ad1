package faults

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// stumble lets a container's actor panic on its n-th step: a message it gets, or an effect of it that begins.
type stumble struct {
	mu    sync.Mutex
	id    string
	n     int
	steps int
}

func (s *stumble) step(path string) {
	s.mu.Lock()
	hit := false
	if s.id != "" && strings.Contains(path, s.id) {
		s.steps++
		hit = s.steps == s.n
	}
	s.mu.Unlock()
	if hit {
		panic("it stumbles")
	}
}

func (s *stumble) arm(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = id
}

// stumbles plays a scene with a panic at a step, 0 = none. It returns how many steps there were.
func (s scene) stumbles(t *testing.T, n int) int {
	st := &stumble{n: n}
	synctest.Test(t, func(t *testing.T) {
		world := sim.New(sim.Options{})
		defer world.Close()
		_, err := world.Import("busybox:latest", "")
		require.NoError(t, err)
		lab := &kit.Lab{
			Message: func(path string, _ any) { st.step(path) },
			Effect:  func(path, _ string) { st.step(path) },
		}
		r, err := supervisor.Start(kit.WithLab(context.Background(), lab), supervisor.Config{
			Dialer: world.Dialer(), Drivers: map[string]vmdriver.Driver{messages.DriverExternal: place{world}},
		})
		require.NoError(t, err)
		defer finish(t, r)
		h := &house{T: t, world: world, client: r.Client()}
		h.set("running=true", "virtualMachine.driver=external")
		h.settled()
		id := h.in(s.from)
		pass(time.Second)
		before := started(world, id)
		world.ResetCalls()
		st.arm(id)
		accepted := s.wish(h, id) == nil
		pass(5 * time.Minute)
		s.check(h, id, accepted, 0, "", before)
	})
	return st.steps
}

// Whatever step of an intent a container's actor panics on: what was accepted is applied, by the next incarnation, once.
func TestF51_APanicAtEveryStepOfAnIntent(t *testing.T) {
	for _, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			steps := s.stumbles(t, 0)
			require.Greater(t, steps, 5)
			for n := range min(steps, 40) {
				t.Run(fmt.Sprint("step ", n+1), func(t *testing.T) { s.stumbles(t, n+1) })
			}
		})
	}
}

// The engine goes on with a restart after rdd has died: the next rdd waits for that, and does not restart it again.
func TestF18_ARestartThatGoesOnWithoutUs(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("HOME", t.TempDir())
	first, second := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		world := sim.New(sim.Options{})
		defer world.Close()
		_, err := world.Import("busybox:latest", "")
		require.NoError(t, err)
		d := newDeath(kit.KillPoint{Point: kit.PointEngineAfter, N: 1})
		h, r := live(t, world, first, d)
		defer finish(t, r)
		defer close(d.end)
		h.set("running=true", "virtualMachine.driver=external")
		h.settled()
		id := h.in(messages.ContainerRunning)
		pass(time.Second)
		before := started(world, id)
		d.arm()
		world.Faults().Slow(sim.OpRestartContainer, id, 8*time.Second)
		_, err = h.act(id, messages.ActionRestart)
		require.NoError(t, err)
		pass(time.Second)

		bequeath(t, first, second)
		h, r = live(t, world, second, nil)
		defer finish(t, r)
		h.settled()
		pass(5 * time.Second)
		require.Equal(t, before, started(world, id))
		require.Equal(t, messages.ActionPending, h.container(id).Status.LastAction.State)
		pass(time.Minute)
		require.NotEqual(t, before, started(world, id))
		require.Equal(t, 1, world.Calls(sim.OpRestartContainer))
		require.Equal(t, messages.ActionSucceeded, h.container(id).Status.LastAction.State)
	})
}

package faults

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// virtuallyOnMachine runs test in virtual time on a machine that runs and is settled.
func virtuallyOnMachine(t *testing.T, test func(t *testing.T, h *house, m *machine)) {
	synctest.Test(t, func(t *testing.T) {
		world := sim.New(sim.Options{})
		m := newMachine(world)
		r, err := supervisor.Start(t.Context(), supervisor.Config{
			TestHooks: true, Dialer: world.Dialer(), Drivers: map[string]vmdriver.Driver{messages.DriverLima: m},
		})
		require.NoError(t, err)
		defer func() {
			world.Faults().Clear()
			m.mu.Lock()
			if m.hold != nil {
				close(m.hold)
				m.hold = nil
			}
			m.mu.Unlock()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			require.NoError(t, r.Stop(ctx))
			world.Close()
		}()
		h := &house{T: t, world: world, client: r.Client()}
		h.set("running=true", "virtualMachine.driver=lima")
		h.settled()
		_, err = world.Import("busybox:latest", "")
		require.NoError(t, err)
		test(t, h, m)
	})
}

// mirrored is every mirror by kind and name, with its uid.
func (h *house) uids() map[string]string {
	out := map[string]string{}
	for _, kind := range []string{messages.KindContainer, messages.KindImage, messages.KindVolume, messages.KindContainerNamespace} {
		for _, o := range h.list(kind) {
			out[kind+"/"+o.GetName()] = string(o.GetUID())
		}
	}
	return out
}

func Test_S5_ABackendThatIsNotMirroredIsNeitherReadyNorWaitedFor(t *testing.T) {
	virtuallyOnMachine(t, func(t *testing.T, h *house, m *machine) {
		id := h.run("web")
		h.volume("data")
		pass(time.Second)
		before := h.uids()
		require.Len(t, before, 4)
		l, err := h.client.List(t.Context(), messages.KindContainer, supervisor.ListOptions{})
		require.NoError(t, err)

		release := m.holdStarts()
		h.set("containerEngine.name=containerd")
		generation := h.app().Generation
		_, err = h.client.WaitSettled(t.Context(), supervisor.SettleOptions{Timeout: 10 * time.Second})
		require.ErrorIs(t, err, messages.ErrTimeout, "not before it took effect")
		require.Empty(t, met(h.app(), generation))
		require.Less(t, h.condition(messages.ConditionContainerEngineReady).ObservedGeneration, generation)
		require.Equal(t, before, h.uids(), "what was is shown until then")
		require.Equal(t, messages.ReasonEngineStopping, h.synced("container", id).Reason)
		require.Equal(t, messages.ReasonEngineStopping, h.synced("volume", "data").Reason)

		release()
		_, err = h.client.WaitSettled(t.Context(), supervisor.SettleOptions{Generation: generation, Timeout: time.Minute})
		require.NoError(t, err)
		require.Equal(t, messages.EngineContainerd, m.booted()[len(m.booted())-1].Backend)
		notApplicable := func() {
			ready := h.condition(messages.ConditionContainerEngineReady)
			require.Equal(t, metav1.ConditionUnknown, ready.Status)
			require.Equal(t, messages.ReasonNotApplicable, ready.Reason)
			require.GreaterOrEqual(t, ready.ObservedGeneration, generation)
			settled := h.condition(messages.ConditionSettled)
			require.Equal(t, metav1.ConditionTrue, settled.Status)
			require.Equal(t, h.app().Generation, settled.ObservedGeneration)
			require.Empty(t, h.uids(), "no mirror, and no namespace moby")
		}
		notApplicable()
		w, err := h.client.Watch(t.Context(), messages.KindContainer, supervisor.WatchOptions{ResourceVersion: l.ResourceVersion})
		require.NoError(t, err)
		for e := (messages.WatchEvent{}); e.Type != messages.Deleted; {
			e, err = w.Next(t.Context())
			require.NoError(t, err)
			require.True(t, e.Type != messages.Deleted || e.Reason == messages.ReasonMirrorReset)
		}
		w.Close()

		// set and start take it for done; a wait for the condition goes on, as kubectl's would.
		h.set("running=true")
		_, err = h.client.WaitSettled(t.Context(), supervisor.SettleOptions{Timeout: time.Second})
		require.NoError(t, err)
		isReady, err := supervisor.ParseFor("condition=" + messages.ConditionContainerEngineReady)
		require.NoError(t, err)
		_, err = h.client.Wait(t.Context(), messages.KindApp, supervisor.WaitOptions{Name: messages.AppName, For: isReady, Timeout: time.Hour})
		require.ErrorIs(t, err, messages.ErrTimeout)
		notApplicable()
		require.Zero(t, h.world.Streams())

		h.set("containerEngine.name=moby")
		h.settled()
		pass(time.Second)
		after := h.uids()
		require.Len(t, after, len(before))
		for name, uid := range before {
			require.NotEmpty(t, after[name], name)
			require.NotEqual(t, uid, after[name], name)
		}
		require.Len(t, h.world.Snapshot().Containers, 1)
	})
}

// While nothing has been stopped yet, a change of mind costs nothing.
func Test_S5_BackToMobyBeforeItTookEffectKeepsTheMirrors(t *testing.T) {
	virtuallyOnMachine(t, func(t *testing.T, h *house, m *machine) {
		h.run("web")
		pass(time.Second)
		before := h.uids()
		release := m.holdStarts()
		h.set("containerEngine.name=containerd")
		pass(5 * time.Second)
		h.set("containerEngine.name=moby")
		pass(5 * time.Second)
		release()
		h.settled()
		pass(time.Second)
		require.Equal(t, before, h.uids())
		require.Equal(t, messages.EngineMoby, m.booted()[len(m.booted())-1].Backend)
	})
}

func Test_S5_ADriverWithoutTheBackendRejectsIt(t *testing.T) {
	h := start(t, nil).settled()
	before := h.app()
	for _, dry := range []bool{true, false} {
		_, err := h.client.Set(t.Context(), messages.SetRequest{Patch: json.RawMessage(`{"containerEngine":{"name":"containerd"}}`), DryRun: dry})
		require.ErrorIs(t, err, messages.ErrInvalid)
		require.ErrorContains(t, err, `containerEngine.name`)
		require.ErrorContains(t, err, `"containerd" cannot run with driver external: valid with it: moby`)
	}
	require.Equal(t, before, h.app())
}

// The order of a stop: no new effect starts, those that run get two seconds, the mirrors say why they may not be right, the engine is
// stopped, and only then they go.
func TestAStopLetsRunningEffectsEndThenStopsThenSweeps(t *testing.T) {
	for name, hang := range map[string]time.Duration{"ends in time": time.Second, "does not": time.Hour} {
		t.Run(name, func(t *testing.T) {
			virtuallyOnMachine(t, func(t *testing.T, h *house, m *machine) {
				web, other := h.run("web"), h.run("other")
				h.volume("data")
				pass(time.Second)
				h.world.Faults().Slow(sim.OpRemoveContainer, web, hang)
				require.NoError(t, h.delete("container", web))
				synctest.Wait()
				before := h.app().Status.LastReset
				require.Nil(t, before)
				h.set("running=false")
				synctest.Wait()
				require.NoError(t, h.delete("volume", "data"), "accepted, and not begun")
				pass(900 * time.Millisecond)
				require.Equal(t, vmdriver.Running, m.seen(), "it waits for what runs")
				require.Equal(t, messages.ReasonEngineStopping, h.synced("container", other).Reason)
				require.Equal(t, metav1.ConditionUnknown, h.synced("container", other).Status)
				if hang > time.Minute {
					pass(time.Second)
					require.Equal(t, vmdriver.Running, m.seen())
				}
				h.settled()
				require.Equal(t, vmdriver.Stopped, m.seen())
				require.Empty(t, h.uids())
				undone := 1
				if hang > time.Minute {
					undone = 2
				}
				require.Equal(t, undone, h.app().Status.LastReset.Superseded)
				require.Equal(t, undone, h.undone(messages.ReasonMirrorReset))
				require.Len(t, h.world.Snapshot().Containers, undone, "what was begun and ended is done")
				require.Len(t, h.world.Snapshot().Volumes, 1)
			})
		})
	}
}

func (m *machine) seen() vmdriver.Phase {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.phase
}

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// machine is a driver whose VM owns its engine: the engine goes down and comes up with it. Its size counts, and it runs two
// backends.
type machine struct {
	place
	mu    sync.Mutex
	phase vmdriver.Phase
	// boots are the specs it was started with.
	boots []vmdriver.Spec
	// hold, if not nil, keeps the next starts from their end until it is closed.
	hold chan struct{}
	// broken, if not nil, is the answer to Inspect.
	broken error
}

func newMachine(world *sim.Engine) *machine {
	world.Down()
	return &machine{place: place{world}, phase: vmdriver.Absent}
}

func (m *machine) Capabilities() vmdriver.Capabilities {
	return vmdriver.Capabilities{Backends: []string{messages.EngineMoby, messages.EngineContainerd}, OwnsEngine: true, Resizable: true}
}

func (m *machine) Inspect(context.Context, vmdriver.Spec) (vmdriver.Observation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return vmdriver.Observation{Phase: m.phase}, m.broken
}

func (m *machine) Start(ctx context.Context, spec vmdriver.Spec) error {
	m.mu.Lock()
	m.boots = append(m.boots, spec)
	hold := m.hold
	m.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.phase = vmdriver.Running
	m.world.Up()
	return nil
}

func (m *machine) Stop(context.Context, bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.phase = vmdriver.Stopped
	m.world.Down()
	return nil
}

func (m *machine) booted() []vmdriver.Spec {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]vmdriver.Spec{}, m.boots...)
}

// holdStarts keeps starts from their end until release is called.
func (m *machine) holdStarts() (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	hold := make(chan struct{})
	m.hold = hold
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.hold = nil
		close(hold)
	})
}

// onMachine runs rdd with a machine that was never started.
func onMachine(t *testing.T) (*house, *machine) {
	t.Helper()
	world := sim.New(sim.Options{})
	m := newMachine(world)
	return &house{T: t, world: world, client: inProcess(t, world, messages.DriverLima, m)}, m
}

func (h *house) app() *messages.App { return h.get(messages.KindApp, messages.AppName).(*messages.App) }

func (h *house) condition(name string) metav1.Condition {
	if c := messages.Condition(h.app(), name); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// versions follows the App from now on; what stop returns is every version of it there was.
func (h *house) versions() (stop func() []*messages.App) {
	h.Helper()
	l, err := h.client.List(h.Context(), messages.KindApp, supervisor.ListOptions{})
	require.NoError(h, err)
	w, err := h.client.Watch(h.Context(), messages.KindApp, supervisor.WatchOptions{ResourceVersion: l.ResourceVersion})
	require.NoError(h, err)
	return func() []*messages.App {
		last := h.app().ResourceVersion
		var out []*messages.App
		for len(out) == 0 || out[len(out)-1].ResourceVersion != last {
			e, err := w.Next(h.Context())
			require.NoError(h, err)
			out = append(out, e.Object.(*messages.App))
		}
		w.Close()
		return out
	}
}

// settle waits in the background.
func (h *house) settle() <-chan error {
	done := make(chan error, 1)
	generation := h.app().Generation
	go func() {
		_, err := h.client.WaitSettled(h.Context(), supervisor.SettleOptions{Generation: generation, Timeout: patience})
		done <- err
	}()
	return done
}

// met are the conditions that claim to hold for the generation.
func met(a *messages.App, generation int64) []string {
	var out []string
	for _, c := range a.Status.ConditionList {
		if c.Status == metav1.ConditionTrue && c.ObservedGeneration >= generation {
			out = append(out, c.Type)
		}
	}
	return out
}

func Test_D3_SettledOnlyAfterTheRestartThatTheChangeNeeds(t *testing.T) {
	h, m := onMachine(t)
	h.set("running=true", "virtualMachine.driver=lima")
	h.settled()
	require.Len(t, m.booted(), 1)

	for i, change := range []struct {
		set   string
		ready metav1.ConditionStatus
	}{
		{"virtualMachine.cpus=3", metav1.ConditionTrue},
		{"containerEngine.name=containerd", metav1.ConditionUnknown},
		{"containerEngine.name=moby", metav1.ConditionTrue},
	} {
		boots, generation := i+2, int64(i+3)
		release := m.holdStarts()
		t.Cleanup(release)
		history := h.versions()
		h.set(change.set)
		done := h.settle()
		h.eventually("it is started again", func() bool { return len(m.booted()) == boots })
		h.eventually("the blocker is named", func() bool {
			return h.condition(messages.ConditionSettled).Reason == messages.ReasonStarting
		})
		require.Empty(t, met(h.app(), generation), change.set)
		select {
		case err := <-done:
			t.Fatal(change.set, "was settled before it took effect:", err)
		default:
		}
		release()
		require.NoError(t, <-done)
		require.Equal(t, change.ready, h.condition(messages.ConditionContainerEngineReady).Status)
		require.Equal(t, generation, h.app().Status.ObservedGeneration)
		require.Equal(t, metav1.ConditionTrue, h.condition(messages.ConditionSettled).Status)
		requireOrder(t, history(), generation)
	}
	last := m.booted()[3]
	require.Equal(t, int32(3), last.VM.CPUs)
	require.Equal(t, messages.EngineMoby, last.Backend)
	h.set("virtualMachine.cpus=3")
	h.settled()
	require.Len(t, m.booted(), 4, "what is so already needs no restart")
}

// requireOrder: the accepted spec comes in one Put with all conditions unknown; then Running holds, then the engine, then Settled.
func requireOrder(t *testing.T, versions []*messages.App, generation int64) {
	t.Helper()
	require.Equal(t, generation, versions[0].Generation)
	for _, c := range versions[0].Status.ConditionList {
		require.Equal(t, metav1.ConditionUnknown, c.Status, c.Type)
		require.Equal(t, messages.ReasonProgressing, c.Reason, c.Type)
		require.Less(t, c.ObservedGeneration, generation, c.Type)
	}
	running := false
	for _, a := range versions {
		holds := met(a, generation)
		running = running || slices.Contains(holds, messages.ConditionRunning)
		require.True(t, running || len(holds) == 0, "%s hold for generation %d before the VM runs with it", holds, generation)
	}
	require.True(t, running)
}

func Test_S3_WritersOfTheAppNeverConflictAndNothingIsLost(t *testing.T) {
	h := start(t, nil).settled()
	const writers, each = 8, 25
	var mu sync.Mutex
	accepted := map[int64]messages.AppSpec{}
	stop := make(chan struct{})
	var status, clients sync.WaitGroup
	status.Go(func() { // the other half of the App is written all the while
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				h.world.Faults().CutStreams()
			}
		}
	})
	for i := range writers {
		clients.Go(func() {
			for j := range each {
				patch := fmt.Sprintf(`{"virtualMachine":{"cpus":%d}}`, 1+i*each+j)
				if i%2 == 1 {
					patch = fmt.Sprintf(`{"virtualMachine":{"memory":%d}}`, 1024+i*each+j)
				}
				reply, err := h.client.Set(t.Context(), messages.SetRequest{Patch: json.RawMessage(patch)})
				if err != nil {
					t.Errorf("%s: %v", patch, err)
					return
				}
				mu.Lock()
				accepted[reply.App.Generation] = reply.App.Spec
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	close(stop)
	status.Wait()
	require.Len(t, accepted, writers*each, "each was accepted, each as a generation of its own")
	last := int64(2 + writers*each)
	h.settled()
	app := h.app()
	require.Equal(t, last, app.Generation)
	require.Equal(t, accepted[last], app.Spec, "the last accepted write wins")
	require.Equal(t, last, app.Status.ObservedGeneration)
	require.Equal(t, last, h.condition(messages.ConditionSettled).ObservedGeneration)
	for g := int64(4); g <= last; g++ {
		was, is := accepted[g-1].VirtualMachine, accepted[g].VirtualMachine
		require.True(t, was.CPUs == is.CPUs || was.Memory == is.Memory, "generation %d took another one's value back", g)
	}
}

// Whoever fails around a change of a condition, and so loses the message or the write: in the end the condition is the truth.
func Test_S6_AConditionIsAValueThatNoFailureLoses(t *testing.T) {
	h := start(t, nil).settled()
	ready := func(want metav1.ConditionStatus) func() bool { return func() bool { return h.ready() == want } }
	for _, actor := range []string{"rdd/app", "rdd/store", "rdd/engine"} {
		for _, move := range []struct {
			do   func()
			want metav1.ConditionStatus
		}{{h.world.Down, metav1.ConditionFalse}, {h.world.Up, metav1.ConditionTrue}} {
			failed := h.failsOnItsNextTurn(actor)
			move.do()
			h.eventually(actor+" failed at it", failed)
			h.eventually(fmt.Sprintf("%s failed; ContainerEngineReady=%s", actor, move.want), ready(move.want))
		}
	}
	h.settled()
	for _, running := range []bool{false, true} {
		failed := h.failsOnItsNextTurn("rdd/journal#commit")
		_, err := h.client.Set(t.Context(), messages.SetRequest{Patch: json.RawMessage(fmt.Sprintf(`{"running":%t}`, running))})
		require.NoError(t, err, "it is asked again")
		require.True(t, failed(), "the journal failed at the commit")
		h.settled()
		require.Equal(t, running, h.app().Spec.Running)
		require.Equal(t, h.app().Generation, h.condition(messages.ConditionSettled).ObservedGeneration)
		h.eventually("the engine is what it says", ready(map[bool]metav1.ConditionStatus{
			true: metav1.ConditionTrue, false: metav1.ConditionFalse}[running]))
	}
}

// failsOnItsNextTurn arms a panic, of the actor or of its work ("actor#work"); what it returns tells whether it came.
func (h *house) failsOnItsNextTurn(at string) func() bool {
	h.Helper()
	actor, _, _ := strings.Cut(at, "#")
	failures := func() (n int) {
		r, err := h.client.Events(h.Context(), messages.EventsRequest{})
		require.NoError(h, err)
		for _, e := range r.Events {
			if e.Type == messages.EventActorFailed && e.Actor == actor {
				n++
			}
		}
		return n
	}
	before := failures()
	_, err := h.client.Debug(h.Context(), messages.DebugRequest{Actor: at, Action: "panic", NoTrigger: true})
	require.NoError(h, err)
	return func() bool { return failures() > before }
}

// A spec accepted while the VM starts changes nothing in what the parts have to say: they say it all the same.
func TestTheBlockerIsNamedAlsoForASpecAcceptedMeanwhile(t *testing.T) {
	h, m := onMachine(t)
	release := m.holdStarts()
	t.Cleanup(release)
	h.set("running=true", "virtualMachine.driver=lima")
	h.eventually("it starts", func() bool { return len(m.booted()) == 1 })
	h.set("virtualMachine.cpus=3")
	h.eventually("Settled says that it starts", func() bool {
		return h.condition(messages.ConditionSettled).Reason == messages.ReasonStarting
	})
	h.eventually("and the engine that there is nothing to connect to", func() bool {
		return h.condition(messages.ConditionContainerEngineReady).Reason == messages.ReasonDisconnected
	})
	_, err := h.client.WaitSettled(t.Context(), supervisor.SettleOptions{Timeout: 50 * time.Millisecond})
	require.ErrorIs(t, err, messages.ErrTimeout)
	require.ErrorContains(t, err, "Settled=False, reason Starting: vm: Running=False Starting: starting the Lima VM")
	require.Equal(t, messages.ReasonStarting, messages.AsError(err).Details["reason"])
	release()
	h.settled()
}

// A VM that cannot be looked at fails for good; whoever asks again is told again, and does not wait for the time-out.
func TestAFailureThatRepeatsItselfEndsEachWait(t *testing.T) {
	h, m := onMachine(t)
	m.mu.Lock()
	m.broken = messages.NewError(messages.CodeInvalid, "inspect", "vm", "lima", "its files are of another version")
	m.mu.Unlock()
	for range 3 {
		h.set("running=true", "virtualMachine.driver=lima")
		_, err := h.client.WaitSettled(t.Context(), supervisor.SettleOptions{Timeout: patience})
		require.ErrorIs(t, err, messages.ErrTerminal)
		require.ErrorContains(t, err, "its files are of another version")
	}
}

// Bursts of toggles, on an engine of somebody else's and on a machine: each ends settled in what was asked for last, with all
// mirrors or with none, and none waits for a time-out of ours. The pauses are the schedule under test, not a wait for anything.
func TestAfterEachBurstOfTogglesItIsWhatWasAskedForLast(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *house{
		"external": func(t *testing.T) *house { return start(t, nil) },
		"machine": func(t *testing.T) *house {
			h, _ := onMachine(t)
			h.set("running=true", "virtualMachine.driver=lima")
			return h
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t).settled()
			_, err := h.world.Import("busybox:latest", "")
			require.NoError(t, err)
			const containers = 5
			for i := range containers {
				h.run(fmt.Sprint("c", i))
			}
			random := rand.New(rand.NewPCG(1, 2))
			for burst := range 30 {
				running := burst%2 == 0
				for range 1 + random.IntN(6) {
					running = !running
					h.set(fmt.Sprint("running=", running))
					time.Sleep(time.Duration(random.IntN(8)) * time.Millisecond)
				}
				_, err := h.client.WaitSettled(t.Context(), supervisor.SettleOptions{Timeout: 4 * time.Second})
				require.NoError(t, err, "burst %d", burst)
				require.Equal(t, running, h.app().Spec.Running)
				require.Equal(t, h.app().Generation, h.condition(messages.ConditionSettled).ObservedGeneration)
				require.Len(t, h.list("container"), map[bool]int{true: containers}[running], "burst %d", burst)
			}
		})
	}
}

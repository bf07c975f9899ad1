package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// fake is a small working driver.
type fake struct {
	name string
	caps vmdriver.Capabilities

	mu     sync.Mutex
	phase  vmdriver.Phase
	boots  int
	stops  int
	forced int
	calls  int // in progress
	most   int
	// startFails are the errors of the next starts; startTakes is how long one takes.
	startFails []error
	startTakes time.Duration
	stopHangs  bool
	deaf       bool // ignores its context
	panics     bool
	watchers   map[chan vmdriver.Observation]bool
	watches    int
}

func newFake(name string, owns bool) *fake {
	f := &fake{name: name, caps: vmdriver.Capabilities{Backends: []string{"moby"}, OwnsEngine: owns}, phase: vmdriver.Absent, watchers: map[chan vmdriver.Observation]bool{}}
	if !owns {
		f.phase = vmdriver.Running
	}
	return f
}

func (f *fake) call() func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	f.most = max(f.most, f.calls)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.calls--
	}
}

func (f *fake) set(p vmdriver.Phase) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.phase = p
	for w := range f.watchers {
		select {
		case w <- vmdriver.Observation{Phase: p}:
		default:
		}
	}
}

func (f *fake) Name() string                        { return f.name }
func (f *fake) Capabilities() vmdriver.Capabilities { return f.caps }

func (f *fake) Inspect(context.Context, vmdriver.Spec) (vmdriver.Observation, error) {
	defer f.call()()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.panics {
		f.panics = false
		panic("bug in a driver")
	}
	return vmdriver.Observation{Phase: f.phase}, nil
}

func (f *fake) Create(context.Context, vmdriver.Spec) error {
	defer f.call()()
	return nil
}

func (f *fake) Start(ctx context.Context, _ vmdriver.Spec) error {
	defer f.call()()
	f.mu.Lock()
	takes, deaf := f.startTakes, f.deaf
	var err error
	if len(f.startFails) > 0 {
		err, f.startFails = f.startFails[0], f.startFails[1:]
	}
	running := f.phase == vmdriver.Running
	f.mu.Unlock()
	if err != nil || running {
		return err
	}
	if deaf {
		ctx = context.Background()
	}
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	f.mu.Lock()
	f.boots++
	f.mu.Unlock()
	f.set(vmdriver.Running)
	return nil
}

func (f *fake) Stop(ctx context.Context, force bool) error {
	defer f.call()()
	f.mu.Lock()
	hangs := f.stopHangs && !force
	if force {
		f.forced++
	}
	f.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if f.caps.OwnsEngine {
		f.mu.Lock()
		f.stops++
		f.mu.Unlock()
		f.set(vmdriver.Stopped)
	}
	return nil
}

func (f *fake) Delete(context.Context) error { return nil }

func (f *fake) Watch(ctx context.Context) (<-chan vmdriver.Observation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := make(chan vmdriver.Observation, 16)
	f.watchers[w] = true
	f.watches++
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.watchers[w] {
			delete(f.watchers, w)
			close(w)
		}
	})
	return w, nil
}

// hangUp ends every Watch, as a driver that lost its source would.
func (f *fake) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watchers {
		delete(f.watchers, w)
		close(w)
	}
}

func (f *fake) Endpoint(context.Context, vmdriver.Spec) (messages.Endpoint, error) {
	return messages.Endpoint{Host: "unix:///" + f.name, Source: f.name}, nil
}

func (f *fake) Logs(context.Context, io.Writer, bool) error { return nil }

type rig struct {
	*kit.TestHouse
	t           *testing.T
	app, engine *kit.Probe
	drivers     map[string]*fake
	last        control.VMReport
	reports     int
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, drivers: map[string]*fake{
		"native": newFake("native", true), "lima": newFake("lima", true), "external": newFake("external", false),
	}}
	deps := Deps{Drivers: map[string]vmdriver.Driver{}}
	for name, d := range r.drivers {
		deps.Drivers[name] = d
	}
	house, err := kit.StartTest(kit.TestConfig{
		House: kit.HouseConfig{Hooks: true}, Probes: []string{control.App, control.Engine},
		Actors: map[string]kit.ChildSpec{control.VM: {New: New(deps)}},
	})
	require.NoError(t, err)
	r.TestHouse, r.app, r.engine = house, house.Probes[control.App], house.Probes[control.Engine]
	return r
}

func (r *rig) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	require.NoError(r.t, r.Stop(ctx))
}

func (r *rig) desire(gen int64, driver string, running bool) {
	r.Tell(control.VM, control.VMDesire{Generation: gen, Running: running, Driver: driver, Backend: "moby"})
	synctest.Wait()
}

func (r *rig) engineSays(quiesced int64, ready metav1.ConditionStatus, reason string) {
	r.Tell(control.VM, control.EngineReport{Quiesced: quiesced, Ready: ready, Reason: reason})
	synctest.Wait()
}

// report is the newest report; app and engine are told the same.
func (r *rig) report() control.VMReport {
	synctest.Wait()
	var app, engine []control.VMReport
	for _, m := range r.app.Drain() {
		if x, ok := m.(control.VMReport); ok {
			app = append(app, x)
		}
	}
	for _, m := range r.engine.Drain() {
		if x, ok := m.(control.VMReport); ok {
			engine = append(engine, x)
		}
	}
	require.Equal(r.t, app, engine)
	if len(app) > 0 {
		r.last, r.reports = app[len(app)-1], r.reports+len(app)
	}
	return r.last
}

func TestVMStartStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.stop()
		synctest.Wait()
		require.Equal(t, []any{control.Hello{From: control.VM}}, r.app.Drain())
		require.Equal(t, []any{control.Hello{From: control.VM}}, r.engine.Drain())
		native := r.drivers["native"]
		native.startTakes = 20 * time.Second
		r.desire(1, "native", true)
		require.Equal(t, messages.ReasonStarting, r.report().Reason)
		time.Sleep(21 * time.Second)
		require.Equal(t, control.VMReport{
			Generation: 1, Running: true, Created: true, Reason: messages.ReasonStarted, Message: "the native engine runs", Run: 1,
			Endpoint: &messages.Endpoint{Host: "unix:///native", Source: "native"},
		}, r.report())

		r.Tell(control.VM, control.Hello{From: control.App})
		synctest.Wait()
		require.Equal(t, []any{r.last}, r.app.Drain())

		r.engineSays(0, metav1.ConditionTrue, messages.ReasonConnected)
		r.desire(2, "native", false)
		require.Equal(t, messages.ReasonStopping, r.report().Reason)
		require.True(t, r.last.Running)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Zero(t, native.stops)
		r.engineSays(2, metav1.ConditionFalse, messages.ReasonStopped)
		require.Equal(t, control.VMReport{Generation: 2, Created: true, Reason: messages.ReasonStopped, Run: 1}, r.report())
		require.Equal(t, 1, native.stops)

		r.desire(3, "native", true)
		time.Sleep(21 * time.Second)
		require.Equal(t, int64(2), r.report().Run)
		r.desire(4, "native", false)
		time.Sleep(quiesceLimit + time.Second)
		require.Equal(t, messages.ReasonStopped, r.report().Reason, "an engine that never answers holds it up for 5 s")
	})
}

func TestVMActorRestartAdopts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.stop()
		r.desire(1, "native", true)
		require.True(t, r.report().Running)
		before := r.reports
		r.Hooks.Arm(messages.DebugRequest{Actor: control.VM, Action: "panic"})
		time.Sleep(time.Second)
		var hellos int
		for _, m := range r.app.Drain() {
			require.IsType(t, control.Hello{}, m)
			hellos++
		}
		require.Equal(t, 1, hellos)
		r.engine.Drain()
		r.desire(1, "native", true)
		require.True(t, r.report().Running)
		require.Equal(t, before+1, r.reports, "it says nothing before it has looked, and then that it runs")
		require.Equal(t, 1, r.drivers["native"].boots, "never rebooted")
		require.Zero(t, r.drivers["native"].stops)
	})
}

// A new incarnation waits for the old one's call, which does not heed its context.
func TestVMRestartWaitsForTheOldCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.stop()
		native := r.drivers["native"]
		native.startTakes, native.deaf = 8*time.Second, true
		r.desire(1, "native", true)
		time.Sleep(time.Second)
		r.Hooks.Arm(messages.DebugRequest{Actor: control.VM, Action: "panic"})
		time.Sleep(time.Second)
		r.desire(1, "native", true)
		time.Sleep(time.Minute)
		require.True(t, r.report().Running)
		require.Equal(t, 1, native.most, "never two calls at once")
		require.Equal(t, 1, native.boots)
	})
}

func TestVMStartFailuresAndGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.stop()
		native := r.drivers["native"]
		for i := range 6 {
			native.startFails = append(native.startFails, messages.NewError(messages.CodeUnavailable, "start", "dockerd", "native", fmt.Sprint("cause ", i)))
		}
		r.desire(1, "native", true)
		require.Equal(t, messages.ReasonStarting, r.report().Reason)
		require.Contains(t, r.last.Message, "cause 0")
		time.Sleep(5 * time.Second)
		require.Equal(t, messages.ReasonStartFailed, r.report().Reason)
		require.Contains(t, r.last.Message, "cause 3")
		require.Equal(t, int64(1), r.last.Generation)
		time.Sleep(2 * time.Minute)
		require.Equal(t, messages.ReasonStarted, r.report().Reason, "it went on trying")

		lima := r.drivers["lima"]
		lima.startFails = []error{messages.NewError(messages.CodeInvalid, "start", "VM", "lima", "no KVM"), errors.New("flaky")}
		r.desire(2, "lima", true)
		time.Sleep(10 * time.Second)
		require.Equal(t, messages.ReasonStartFailed, r.report().Reason)
		require.Contains(t, r.last.Message, "no KVM")
		r.Tell(control.VM, control.VMDesire{Generation: 2, Running: true, Driver: "lima", Backend: "moby", Retry: 1})
		time.Sleep(2 * time.Second)
		require.Equal(t, messages.ReasonStarted, r.report().Reason)
		require.Equal(t, int64(2), r.last.Generation)

		r.desire(3, "vbox", true)
		time.Sleep(10 * time.Second)
		require.Equal(t, messages.ReasonStartFailed, r.report().Reason)
		require.Contains(t, r.last.Message, "vbox")
	})
}

func TestVMCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.stop()
		native := r.drivers["native"]
		r.desire(1, "native", true)
		r.report()
		native.set(vmdriver.Stopped)
		require.Equal(t, messages.ReasonCrashed, r.report().Reason)
		require.False(t, r.last.Running)
		time.Sleep(time.Second)
		require.Equal(t, messages.ReasonStarted, r.report().Reason)
		require.Equal(t, int64(2), r.last.Run)

		// A Watch that ends is begun anew; what it missed is found by the resync.
		native.hangUp()
		synctest.Wait()
		native.mu.Lock()
		native.phase = vmdriver.Stopped
		native.mu.Unlock()
		time.Sleep(2 * resyncPeriod)
		require.Equal(t, int64(3), r.report().Run)
		native.set(vmdriver.Stopped)
		require.Equal(t, messages.ReasonCrashed, r.report().Reason)

		// A driver whose code panics is a failure of the actor, and no reboot.
		time.Sleep(10 * time.Second)
		synctest.Wait()
		boots := native.boots
		native.mu.Lock()
		native.panics = true
		native.mu.Unlock()
		time.Sleep(2 * resyncPeriod)
		synctest.Wait()
		require.Equal(t, boots, native.boots)
		events := r.Events.Since(0).Events
		require.Contains(t, fmt.Sprint(events), "bug in a driver")
		r.report()
		r.desire(1, "native", true)
		require.True(t, r.report().Running)
	})
}

func TestVMDriverChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.stop()
		r.desire(1, "native", true)
		r.engineSays(0, metav1.ConditionTrue, messages.ReasonConnected)
		r.desire(2, "external", true)
		require.False(t, r.report().Running)
		require.Zero(t, r.drivers["native"].stops)
		r.engineSays(0, metav1.ConditionFalse, messages.ReasonDisconnected)
		require.Equal(t, int64(2), r.report().Generation)
		require.Equal(t, "unix:///external", r.last.Endpoint.Host)
		require.Equal(t, 1, r.drivers["native"].stops)
		native := r.drivers["native"]
		require.Empty(t, native.watchers, "nobody listens to it any more")
		require.Len(t, r.drivers["external"].watchers, 1)

		r.desire(3, "external", false)
		r.engineSays(3, metav1.ConditionFalse, messages.ReasonStopped)
		require.Equal(t, messages.ReasonStopped, r.report().Reason)
		require.Equal(t, vmdriver.Running, r.drivers["external"].phase, "it is not ours")
	})
}

func TestVMStrayIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.stop()
		r.drivers["lima"].phase = vmdriver.Running // the daemon died between the change of driver and its execution
		r.desire(5, "native", true)
		time.Sleep(10 * time.Second)
		require.Equal(t, messages.ReasonStarted, r.report().Reason)
		require.Equal(t, vmdriver.Stopped, r.drivers["lima"].phase)
	})
}

func TestVMStopDuringAStartThatTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.stop()
		r.drivers["lima"].startTakes = 5 * time.Minute
		r.desire(1, "lima", true)
		time.Sleep(time.Minute)
		r.engineSays(2, metav1.ConditionFalse, messages.ReasonStopped)
		r.desire(2, "lima", false)
		time.Sleep(time.Second)
		require.Equal(t, messages.ReasonStopped, r.report().Reason)
		require.Equal(t, int64(2), r.last.Generation)
	})
}

func TestVMStopThatHangsIsForced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.stop()
		native := r.drivers["native"]
		native.stopHangs = true
		r.desire(1, "native", true)
		r.engineSays(2, metav1.ConditionFalse, messages.ReasonStopped)
		r.desire(2, "native", false)
		time.Sleep(stopTimeout + time.Second)
		require.Contains(t, r.report().Message, "no answer in time")
		time.Sleep(stopTimeout + 10*time.Second)
		require.Equal(t, messages.ReasonStopped, r.report().Reason)
		require.Equal(t, 1, native.forced)
	})
}

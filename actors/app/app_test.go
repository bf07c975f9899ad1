package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

// rig is the actor with a real journal and store, and probes for vm and engine.
type rig struct {
	*kit.TestHouse
	t          *testing.T
	table      *store.Table
	backend    *journal.MemoryBackend
	vm, engine *kit.Probe
}

type options struct {
	backend *journal.MemoryBackend
	deps    Deps
	// probeStore and probeJournal put a probe in the place of the real one.
	probeStore, probeJournal bool
}

func newRig(t *testing.T, o options) *rig {
	if o.backend == nil {
		b, _ := journal.Memory()
		o.backend = b.(*journal.MemoryBackend)
	}
	r := &rig{t: t, table: store.NewTable(1), backend: o.backend}
	o.deps.Table = r.table
	if o.deps.Resolve == nil {
		o.deps.Resolve = func(messages.AppSpec) (string, error) { return messages.DriverNative, nil }
	}
	cfg := kit.TestConfig{
		House:  kit.HouseConfig{Hooks: true},
		Probes: []string{control.VM, control.Engine},
		Actors: map[string]kit.ChildSpec{control.App: {New: New(o.deps)}},
	}
	if o.probeJournal {
		cfg.Probes = append(cfg.Probes, control.Journal)
	} else {
		cfg.Actors[control.Journal] = kit.ChildSpec{New: journal.New(r.backend)}
	}
	if o.probeStore {
		cfg.Probes = append(cfg.Probes, control.Store)
	} else {
		cfg.Actors[control.Store] = kit.ChildSpec{New: store.New(r.table)}
	}
	house, err := kit.StartTest(cfg)
	require.NoError(t, err)
	r.TestHouse = house
	r.vm, r.engine = house.Probes[control.VM], house.Probes[control.Engine]
	if !o.probeStore && !o.probeJournal {
		time.Sleep(2 * askAgain) // here app starts before its elders: its first questions are lost
		synctest.Wait()
	}
	return r
}

func (r *rig) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.NoError(r.t, r.Stop(ctx))
}

func (r *rig) app() *messages.App {
	item, ok := r.table.Load().Get(store.Key{Kind: messages.KindApp, Name: messages.AppName})
	require.True(r.t, ok, "there is no App in the store")
	return item.Object.(*messages.App)
}

func (r *rig) condition(conditionType string) metav1.Condition {
	c := messages.Condition(r.app(), conditionType)
	require.NotNil(r.t, c)
	return *c
}

func (r *rig) ask(request messages.SetRequest) (messages.SetReply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	answer, err := r.Ask(ctx, control.App, Set{request})
	if err != nil {
		return messages.SetReply{}, err
	}
	return answer.(messages.SetReply), nil
}

func (r *rig) set(format string, args ...any) messages.SetReply {
	reply, err := r.ask(messages.SetRequest{Patch: json.RawMessage(fmt.Sprintf(format, args...))})
	require.NoError(r.t, err)
	return reply
}

// desire is the newest VMDesire that vm was told, the engine's must agree.
func (r *rig) desire() (control.VMDesire, bool) {
	synctest.Wait()
	var vm control.VMDesire
	var engine control.EngineDesire
	found := false
	for _, m := range r.vm.Drain() {
		if d, ok := m.(control.VMDesire); ok {
			vm, found = d, true
		}
	}
	for _, m := range r.engine.Drain() {
		if d, ok := m.(control.EngineDesire); ok {
			engine = d
		}
	}
	require.Equal(r.t, vm.Generation, engine.Generation)
	require.Equal(r.t, vm.Running, engine.Running)
	require.Equal(r.t, vm.Driver, engine.Driver)
	return vm, found
}

func (r *rig) report(m any) {
	r.Tell(control.App, m)
	synctest.Wait()
}

func TestAppFirstStartAndSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options{deps: Deps{DefaultNamespace: "elsewhere"}})
		defer r.stop()
		d, ok := r.desire()
		require.True(t, ok)
		require.Equal(t, control.VMDesire{Generation: 1, Backend: "moby", VM: messages.VirtualMachineSpec{Driver: "auto"}}, d)
		a := r.app()
		require.NotEmpty(t, a.UID)
		require.Equal(t, "elsewhere", a.Spec.Namespace)
		require.Equal(t, metav1.ConditionUnknown, r.condition(messages.ConditionSettled).Status)

		// A never started instance.
		r.report(vmDown(1))
		r.report(engineDown(1))
		require.Equal(t, metav1.ConditionTrue, r.condition(messages.ConditionSettled).Status)
		require.Equal(t, int64(1), r.app().Status.ObservedGeneration)

		transactions := r.backend.Transactions()
		reply := r.set(`{"running":false}`)
		require.False(t, reply.Changed)
		require.Equal(t, int64(1), reply.App.Generation)
		require.Equal(t, transactions, r.backend.Transactions(), "a no-op writes nothing")

		version := r.app().ResourceVersion
		r.report(vmDown(1))
		r.report(engineDown(1))
		require.Equal(t, version, r.app().ResourceVersion, "reports that say nothing new publish nothing")
	})
}

func TestAppSetOrderAndConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options{})
		defer r.stop()
		r.report(vmDown(1))
		r.report(engineDown(1))
		r.desire()
		uid := r.app().UID

		reply := r.set(`{"running":true}`)
		require.True(t, reply.Changed)
		require.Equal(t, int64(2), reply.App.Generation)
		require.Equal(t, uid, reply.App.UID)
		require.Equal(t, "native", reply.App.Status.Driver, "auto was resolved")
		for _, c := range reply.App.Status.ConditionList {
			require.Equal(t, messages.ReasonProgressing, c.Reason, c.Type)
			require.Equal(t, metav1.ConditionUnknown, c.Status, c.Type)
		}
		d, _ := r.desire()
		require.Equal(t, control.VMDesire{Generation: 2, Running: true, Driver: "native", Backend: "moby", VM: messages.VirtualMachineSpec{Driver: "auto"}}, d)

		r.report(control.VMReport{Generation: 1, Created: true, Reason: messages.ReasonStarting, Message: "booting"})
		require.Equal(t, "vm: Running=False Starting: booting", r.condition(messages.ConditionSettled).Message)
		r.report(vmUp(2))
		require.Equal(t, messages.ReasonProgressing, r.condition(messages.ConditionSettled).Reason)
		r.report(engineUp(2))
		require.Equal(t, metav1.ConditionTrue, r.condition(messages.ConditionSettled).Status)
		require.Equal(t, int64(2), r.condition(messages.ConditionSettled).ObservedGeneration)

		// Whoever says Hello is told everything again.
		r.report(control.Hello{From: control.VM})
		r.report(control.Hello{From: control.Engine})
		again, ok := r.desire()
		require.True(t, ok)
		require.Equal(t, d, again)

		// Stop: nothing old counts.
		r.set(`{"running":false}`)
		require.Equal(t, metav1.ConditionUnknown, r.condition(messages.ConditionSettled).Status)
		r.report(engineUp(2))
		r.report(vmUp(2))
		require.NotEqual(t, metav1.ConditionTrue, r.condition(messages.ConditionSettled).Status)
		r.report(engineDown(3))
		r.report(vmDown(3))
		require.Equal(t, metav1.ConditionTrue, r.condition(messages.ConditionSettled).Status)
		require.Empty(t, r.app().Status.Endpoint)
	})
}

func TestAppSetRejects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options{deps: Deps{Backends: func(string) []string { return []string{"moby"} }}})
		defer r.stop()
		synctest.Wait()
		transactions := r.backend.Transactions()
		_, err := r.ask(messages.SetRequest{Patch: json.RawMessage(`{"runing":true}`)})
		require.ErrorIs(t, err, messages.ErrInvalid)
		_, err = r.ask(messages.SetRequest{Patch: json.RawMessage(`{"running":true}`), IfGeneration: 7})
		require.ErrorIs(t, err, messages.ErrConflict)
		require.ErrorContains(t, err, "its generation is 1, not 7")
		_, err = r.ask(messages.SetRequest{Patch: json.RawMessage(`{"containerEngine":{"name":"containerd"}}`)})
		require.ErrorIs(t, err, messages.ErrInvalid, "auto is resolved to find out")
		require.ErrorContains(t, err, "native")
		reply, err := r.ask(messages.SetRequest{Patch: json.RawMessage(`{"running":true}`), IfGeneration: 1, DryRun: true})
		require.NoError(t, err)
		require.True(t, reply.Changed)
		require.True(t, reply.App.Spec.Running)
		require.Equal(t, transactions, r.backend.Transactions())
		require.False(t, r.app().Spec.Running)
		require.Equal(t, int64(1), r.app().Generation)
	})
}

// What a driver makes nothing of is taken, since another driver may, and is not taken in silence.
func TestAppWarnsOfWhatTheDriverMakesNothingOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options{deps: Deps{Sizeless: func(driver string) bool { return driver == messages.DriverNative }}})
		defer r.stop()
		for _, c := range []struct {
			patch string
			want  []string
		}{
			{`{"running":true,"virtualMachine":{"cpus":2}}`, []string{"virtualMachine.cpus=2"}}, // auto, which is native here
			{`{"virtualMachine":{"memory":4096,"disk":10}}`, []string{"virtualMachine.memory=4096", "virtualMachine.disk=10"}},
			{`{"running":false}`, nil}, // said once
			{`{"virtualMachine":{"driver":"lima"}}`, nil},
			{`{"virtualMachine":{"disk":20}}`, nil},
			{`{"virtualMachine":{"driver":"native"}}`, []string{"virtualMachine.cpus=2", "virtualMachine.memory=4096", "virtualMachine.disk=20"}},
			{`{"virtualMachine":{"cpus":null}}`, nil},
		} {
			dry, err := r.ask(messages.SetRequest{Patch: json.RawMessage(c.patch), DryRun: true})
			require.NoError(t, err)
			reply := r.set("%s", c.patch)
			require.True(t, reply.Changed)
			require.Equal(t, dry.Warnings, reply.Warnings)
			require.Len(t, reply.Warnings, len(c.want), c.patch)
			for i, w := range c.want {
				require.Equal(t, w+" has no effect with driver native: it makes no machine of a size of its own", reply.Warnings[i])
			}
		}
	})
}

func TestAppUnresolvable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options{deps: Deps{Resolve: func(messages.AppSpec) (string, error) {
			return "", messages.NewError(messages.CodeUnavailable, "choose", "driver", "auto", "no KVM, no dockerd")
		}}})
		defer r.stop()
		_, err := r.ask(messages.SetRequest{Patch: json.RawMessage(`{"running":true}`)})
		require.ErrorContains(t, err, "no KVM, no dockerd")
		require.Equal(t, int64(1), r.app().Generation)
		require.True(t, r.set(`{"virtualMachine":{"driver":"simulated"},"running":true}`).Changed, "a driver by name needs no choice")
	})
}

func TestAppCommitFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options{})
		defer r.stop()
		r.desire()
		r.backend.FailNext(2, errors.New("disk full")) // the journal repeats a batch request by request
		_, err := r.ask(messages.SetRequest{Patch: json.RawMessage(`{"running":true}`)})
		require.ErrorContains(t, err, "nothing has changed")
		require.ErrorContains(t, err, "disk full")
		require.Equal(t, messages.ClassTransient, messages.ClassOf(err))
		require.Equal(t, int64(1), r.app().Generation)
		_, told := r.desire()
		require.False(t, told)
		r.backend.FailNext(0, nil)
		require.Equal(t, int64(2), r.set(`{"running":true}`).App.Generation)
	})
}

// The journal answers late: the commit was repeated, and one of the two failed. What was rejected must not be on disk.
func TestAppCommitOutcomeUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options{probeJournal: true})
		defer r.stop()
		j := r.Probes[control.Journal]
		load, err := kit.Await[journal.Load](j, time.Second, nil)
		require.NoError(t, err)
		spec := messages.DefaultAppSpec()
		old := journal.AppRecord{Spec: spec, Generation: 4, UID: "u", Created: time.Now()}
		r.report(journal.Loaded{Token: load.Token, Bucket: load.Bucket, Entries: []journal.Entry{{Key: "app", Value: journal.PutApp(old).Value}}})
		salts, err := kit.Await[journal.Load](j, time.Second, func(l journal.Load) bool { return l.Bucket == journal.BucketSalts })
		require.NoError(t, err)
		r.Tell(control.Store, journal.Loaded{Token: salts.Token, Bucket: salts.Bucket})
		synctest.Wait()

		var wg sync.WaitGroup
		var refused error
		wg.Go(func() {
			_, refused = r.ask(messages.SetRequest{Patch: json.RawMessage(`{"running":true}`)})
		})
		first, err := kit.Await[journal.Commit](j, time.Second, nil)
		require.NoError(t, err)
		second, err := kit.Await[journal.Commit](j, 5*time.Second, nil)
		require.NoError(t, err)
		require.Equal(t, first, second)
		r.report(journal.Committed{Token: first.Token, Err: errors.New("disk full")})
		undo, err := kit.Await[journal.Commit](j, time.Second, nil)
		require.NoError(t, err)
		require.NotEqual(t, first.Token, undo.Token)
		rec, err := journal.DecodeApp(journal.Entry{Key: "app", Value: undo.Ops[0].Value})
		require.NoError(t, err)
		require.Equal(t, int64(4), rec.Generation)
		r.report(journal.Committed{Token: second.Token}) // late: ignored
		require.Equal(t, int64(4), r.app().Generation)
		r.report(journal.Committed{Token: undo.Token})
		wg.Wait()
		require.ErrorContains(t, refused, "disk full")
		require.Equal(t, int64(4), r.app().Generation)
	})
}

func TestAppSetsAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options{})
		defer r.stop()
		synctest.Wait()
		block := make(chan struct{})
		r.backend.OnCommit(func([]journal.Op) error { <-block; return nil })
		var wg sync.WaitGroup
		generations := make([]int64, 20)
		for i := range generations {
			wg.Go(func() {
				generations[i] = r.set(`{"virtualMachine":{"cpus":%d}}`, i+1).App.Generation
			})
			synctest.Wait()
		}
		refused := 0
		var mu sync.Mutex
		for range maxQueue {
			wg.Go(func() {
				if _, err := r.ask(messages.SetRequest{Patch: json.RawMessage(`{}`)}); err != nil {
					mu.Lock()
					defer mu.Unlock()
					require.ErrorIs(t, err, messages.ErrUnavailable)
					refused++
				}
			})
		}
		synctest.Wait()
		close(block)
		wg.Wait()
		require.Equal(t, 19, refused, "one in progress, 256 wait")
		for i, g := range generations {
			require.Equal(t, int64(i+2), g)
		}
	})
}

func TestAppRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options{})
		defer r.stop()
		r.set(`{"running":true}`)
		failed := control.VMReport{Generation: 2, Reason: messages.ReasonStartFailed, Message: "no dockerd"}
		r.report(engineDown(1))
		r.report(failed)
		require.Equal(t, messages.ReasonStartFailed, r.condition(messages.ConditionSettled).Reason)
		require.Equal(t, int64(2), r.condition(messages.ConditionSettled).ObservedGeneration, "whoever waits fails now")
		r.desire()

		require.False(t, r.set(`{"virtualMachine":{"cpus":0}}`).Changed)
		_, told := r.desire()
		require.False(t, told, "another no-op is no wish to try again")

		reply := r.set(`{"running":true}`)
		require.False(t, reply.Changed)
		require.Equal(t, int64(2), reply.App.Generation)
		require.Equal(t, messages.ReasonProgressing, messages.Condition(reply.App, messages.ConditionSettled).Reason)
		d, _ := r.desire()
		require.Equal(t, int64(1), d.Retry)

		r.report(failed) // sent before vm had the retry
		require.Equal(t, messages.ReasonProgressing, r.condition(messages.ConditionSettled).Reason)
		r.report(control.VMReport{Generation: 1, Reason: messages.ReasonStarting})
		require.Equal(t, messages.ReasonStarting, r.condition(messages.ConditionSettled).Reason)
		r.report(failed)
		require.Equal(t, messages.ReasonStartFailed, r.condition(messages.ConditionSettled).Reason)
	})
}

func TestAppRestartKeepsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options{})
		defer r.stop()
		r.set(`{"running":true}`)
		r.report(vmUp(2))
		r.report(engineUp(2))
		require.Equal(t, metav1.ConditionTrue, r.condition(messages.ConditionSettled).Status)
		before := r.app()
		r.desire()
		r.Hooks.Arm(messages.DebugRequest{Actor: control.App, Action: "panic"})
		time.Sleep(time.Minute)
		var hellos int
		for _, m := range append(r.vm.Drain(), r.engine.Drain()...) {
			if h, ok := m.(control.Hello); ok {
				require.Equal(t, control.App, h.From)
				hellos++
			}
		}
		require.Equal(t, 2, hellos)
		require.Equal(t, before, r.app(), "nothing blinks")
		r.report(control.VMReport{Generation: 2, Reason: messages.ReasonCrashed})
		require.Equal(t, messages.ReasonCrashed, r.condition(messages.ConditionRunning).Reason)
	})
}

func TestAppDaemonRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options{})
		r.set(`{"running":true,"virtualMachine":{"cpus":3}}`)
		uid := r.app().UID
		created := r.app().CreationTimestamp
		r.stop()
		r.backend.NextServe()
		time.Sleep(time.Hour)
		r = newRig(t, options{backend: r.backend, deps: Deps{Resolve: func(messages.AppSpec) (string, error) { return "lima", nil }}})
		defer r.stop()
		d, ok := r.desire()
		require.True(t, ok)
		require.Equal(t, "native", d.Driver, "auto is resolved once")
		require.Equal(t, int64(2), d.Generation)
		require.Equal(t, int32(3), d.VM.CPUs)
		require.Equal(t, uid, r.app().UID)
		require.True(t, created.Equal(&r.app().CreationTimestamp))
		require.Equal(t, "lima", r.set(`{"virtualMachine":{"driver":"lima"}}`).App.Status.Driver)
		require.Equal(t, "lima", r.set(`{"virtualMachine":{"driver":"auto"}}`).App.Status.Driver, "chosen anew by set only")
	})
}

func TestAppPutIsRepeatedWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options{probeStore: true})
		defer r.stop()
		s := r.Probes[control.Store]
		first, err := kit.Await[store.Put](s, 5*time.Second, nil)
		require.NoError(t, err)
		_, told := r.desire()
		require.False(t, told, "no desire before the store has it")
		r.report(vmDown(1))
		r.report(engineDown(1))
		require.Empty(t, s.Drain(), "one in flight")
		again, err := kit.Await[store.Put](s, 2*time.Second, nil)
		require.NoError(t, err)
		require.Equal(t, first, again)
		r.report(store.PutDone{Token: first.Token, Object: first.Object})
		d, told := r.desire()
		require.True(t, told)
		require.Equal(t, int64(1), d.Generation)
		puts := s.Drain()
		require.Len(t, puts, 1, "what changed meanwhile, as one")
		require.Equal(t, metav1.ConditionTrue, find(t, puts[0].(store.Put).Object.(*messages.App).Status, messages.ConditionSettled).Status)
	})
}

func TestAppGivesUpOnADamagedRecord(t *testing.T) {
	b, _ := journal.Memory()
	require.NoError(t, b.Commit([]journal.Op{{Bucket: journal.BucketApp, Key: "app", Value: []byte("{")}}))
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 1)
		house, err := kit.StartTest(kit.TestConfig{
			House:  kit.HouseConfig{OnFailed: func(err error) { failed <- err }},
			Probes: []string{control.VM, control.Engine, control.Store},
			Actors: map[string]kit.ChildSpec{
				control.Journal: {New: journal.New(b)},
				control.App:     {New: New(Deps{}), Max: 2, GiveUp: kit.Report},
			},
		})
		if err == nil {
			err = <-failed
			defer func() { require.NoError(t, house.Stop(t.Context())) }()
		}
		require.ErrorContains(t, err, "record")
	})
}

// Many clients set while vm and engine report: one writer, so that nobody conflicts, nothing is lost, and in the end the status
// is that of the last reports.
func TestS3OneWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options{})
		defer r.stop()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for j := range 10 {
					require.True(t, r.set(`{"virtualMachine":{"cpus":%d}}`, 1+i*10+j).Changed)
				}
			})
			wg.Go(func() {
				for j := range 10 {
					r.Tell(control.App, control.VMReport{Generation: int64(j), Reason: messages.ReasonStopping, Message: fmt.Sprint(i, j)})
					r.Tell(control.App, engineUp(int64(j)))
				}
			})
		}
		wg.Wait()
		require.Equal(t, int64(201), r.app().Generation)
		r.report(vmDown(201))
		r.report(engineDown(201))
		require.Equal(t, metav1.ConditionTrue, r.condition(messages.ConditionSettled).Status)
		require.Equal(t, int64(201), r.app().Status.ObservedGeneration)
	})
}

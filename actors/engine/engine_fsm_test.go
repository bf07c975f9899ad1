package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/tests/tables"
)

var (
	run     = desired{control.EngineDesire{Generation: 2, Running: true, Backend: messages.EngineMoby}}
	halt    = desired{control.EngineDesire{Generation: 3, Backend: messages.EngineMoby}}
	other   = desired{control.EngineDesire{Generation: 3, Running: true, Backend: messages.EngineContainerd}}
	vmUp    = vmReported{control.VMReport{Generation: 2, Running: true, Endpoint: &messages.Endpoint{Host: "unix:///a"}}}
	vmMoved = vmReported{control.VMReport{Generation: 2, Running: true, Endpoint: &messages.Endpoint{Host: "unix:///b"}}}
	vmLost  = vmReported{control.VMReport{Generation: 2}}
	vmDown  = vmReported{control.VMReport{Generation: 3}}
	vmOther = vmReported{control.VMReport{Generation: 3, Running: true, Endpoint: &messages.Endpoint{Host: "unix:///a"}}}
	up      = subscribed{sessionUp{Epoch: 1, Info: dockerio.Info{ID: "A"}}}
	upOther = subscribed{sessionUp{Epoch: 2, Info: dockerio.Info{ID: "B"}}}
)

func after(events ...event) state {
	s := state{}
	for _, e := range append([]event{loaded{}}, events...) {
		s, _ = s.apply(e)
	}
	return s
}

func passes() []event {
	var out []event
	for _, k := range mirroredKinds {
		out = append(out, passDone{k})
	}
	return out
}

func swept() []event {
	out := []event{sweepStored{}}
	for _, k := range sweptKinds {
		out = append(out, kindSwept{Kind: k})
	}
	return out
}

func TestTable(t *testing.T) {
	liveState := after(append([]event{run, vmUp, up}, passes()...)...)
	states := []struct {
		name string
		s    state
	}{
		{"idle", after()},
		{"idle, vm up", after(vmUp)},
		{"connecting", after(run, vmUp)},
		{"connecting, mirrors of A", func() state { s := after(run, vmUp); s.EngineID, s.Mirrored = "A", true; return s }()},
		{"syncing", after(run, vmUp, up)},
		{"live", liveState},
		{"lost", func() state { s, _ := liveState.apply(sessionLost{Why: "x"}); return s }()},
		{"crashed", func() state { s, _ := liveState.apply(vmLost); return s }()},
		{"stopping", func() state { s, _ := liveState.apply(halt); return s }()},
		{"quiet", func() state { s, _ := liveState.apply(halt); s, _ = s.apply(quiesced{Stop: 1}); return s }()},
		{"changing backend", func() state { s, _ := liveState.apply(other); s, _ = s.apply(quiesced{Stop: 1}); return s }()},
		{"sweeping", func() state {
			s, _ := liveState.apply(halt)
			s, _ = s.apply(quiesced{Stop: 1})
			s, _ = s.apply(vmDown)
			return s
		}()},
	}
	events := []struct {
		name string
		e    event
	}{
		{"running=true", run}, {"running=false", halt}, {"containerd", other}, {"vm up", vmUp}, {"vm elsewhere", vmMoved},
		{"vm crashed", vmLost}, {"vm stopped", vmDown}, {"subscribed to A", up}, {"subscribed to B", upOther},
		{"session lost", sessionLost{Why: "x"}}, {"sweep stored", sweepStored{}},
		{"quiesced", quiesced{Stop: 1}}, {"vm up with containerd", vmOther},
	}
	var rows []tables.Row
	for _, s := range states {
		for _, e := range events {
			next, effects := s.s.apply(e.e)
			rows = append(rows, tables.Row{State: s.name, Event: e.name, Next: next.Phase.String(), Effects: tables.Names(effects)})
		}
	}
	tables.Check(t, "engine_fsm.go", "engine", rows)
}

func names(effects []effect) string { return tables.Names(effects) }

func TestAnotherEngineIsSweptBeforeItIsAnnounced(t *testing.T) {
	s := after(append([]event{run, vmUp, up}, passes()...)...)
	s, _ = s.apply(sessionLost{Why: "gone"})
	s, effects := s.apply(upOther)
	require.Equal(t, "storeSweep", names(effects))
	var all []effect
	for _, e := range swept() {
		var more []effect
		s, more = s.apply(e)
		all = append(all, more...)
	}
	require.Equal(t, "sweepMirrors, announce", names(all))
	require.Equal(t, "B", s.EngineID)
}

func TestASweepWaitsForEachKindsWordOfThisSweep(t *testing.T) {
	s := after(append([]event{run, vmUp, up}, passes()...)...)
	for _, e := range []event{halt, quiesced{Stop: 1}, vmDown, kindSwept{Kind: messages.KindVolume}} { // the last: of a sweep before, said twice
		s, _ = s.apply(e)
	}
	require.Equal(t, sweeping, s.Phase)
	s, effects := s.apply(sweepStored{})
	require.Equal(t, "sweepMirrors", names(effects))
	for _, k := range sweptKinds[1:] {
		s, _ = s.apply(kindSwept{Kind: k})
	}
	require.Equal(t, messages.ReasonStopping, s.report().Reason)
	require.Equal(t, "the mirrors are being removed: waiting for containers", s.report().Message)
	s, _ = s.apply(kindSwept{Kind: sweptKinds[0]})
	require.Equal(t, messages.ReasonStopped, s.report().Reason)
	require.Equal(t, int64(3), s.report().Generation)
}

// A change that vm has not carried out may restart what is connected now: it is no readiness for the new spec.
func TestReadyIsOfTheGenerationVMIsThroughWith(t *testing.T) {
	s := after(append([]event{run, vmUp, up}, passes()...)...)
	require.Equal(t, int64(2), s.report().Generation)
	s, effects := s.apply(desired{control.EngineDesire{Generation: 3, Running: true, Backend: messages.EngineMoby}})
	require.Empty(t, effects)
	require.Equal(t, messages.ReasonConnected, s.report().Reason)
	require.Equal(t, int64(2), s.report().Generation)
	r := vmUp.R
	r.Generation = 3
	s, _ = s.apply(vmReported{r})
	require.Equal(t, int64(3), s.report().Generation)
}

func TestACrashKeepsTheMirrors(t *testing.T) {
	s := after(append([]event{run, vmUp, up}, passes()...)...)
	s, effects := s.apply(vmLost)
	require.Equal(t, "sayLost, stopSession", names(effects))
	require.True(t, s.Mirrored)
	_, effects = s.apply(vmUp)
	require.Equal(t, "startSession", names(effects))
}

// A session is stopped when its word that it has subscribed is on its way already: taken for the word of its successor, it must not
// keep the successor from being announced.
// The word that the VM lets go may come before the wish that it does so for: the mirrors say all the same why they have no engine.
func TestMirrorsSayThatTheirEngineIsLeftWhoeverIsHeardFirst(t *testing.T) {
	for _, wish := range []event{halt, other} {
		for _, order := range [][]event{{wish, vmLost}, {vmLost, wish}} {
			s, said := after(append([]event{run, vmUp, up}, passes()...)...), 0
			for _, e := range order {
				var out []effect
				s, out = s.apply(e)
				said += strings.Count(names(out), "sayStopping")
			}
			require.Equal(t, 1, said, "%+v", order)
		}
	}
}

func TestTheLateWordOfAStoppedSessionIsOvertakenByItsSuccessors(t *testing.T) {
	s := after(run, vmUp, vmLost, vmUp)
	s, effects := s.apply(up)
	require.Equal(t, "storeEngine, announce", names(effects))
	s, effects = s.apply(subscribed{sessionUp{Epoch: 2, Info: dockerio.Info{ID: "A"}}})
	require.Equal(t, "sayLost, announce", names(effects))
	for _, e := range passes() {
		s, _ = s.apply(e)
	}
	require.Equal(t, live, s.Phase)
}

func TestReports(t *testing.T) {
	live := after(append([]event{run, vmUp, up}, passes()...)...)
	require.Equal(t, messages.ReasonConnected, live.report().Reason)
	stopping, _ := live.apply(halt)
	require.Zero(t, stopping.report().Quiesced, "what was begun may still run")
	require.True(t, stopping.report().Busy)
	stopping, _ = stopping.apply(quiesced{Stop: 1})
	require.Equal(t, int64(3), stopping.report().Quiesced)
	require.False(t, stopping.report().Busy)
	require.Less(t, stopping.report().Generation, int64(3), "not done while there are mirrors")
	s, _ := stopping.apply(vmDown)
	require.Equal(t, sweeping, s.Phase)
	for _, e := range swept() {
		s, _ = s.apply(e)
	}
	require.Equal(t, int64(3), s.report().Generation)
	require.Equal(t, messages.ReasonStopped, s.report().Reason)
	c := after(other, vmUp)
	require.Equal(t, messages.ReasonNotApplicable, c.report().Reason)
	lost, _ := live.apply(sessionLost{Why: "eof"})
	require.Equal(t, messages.ReasonDisconnected, lost.report().Reason)
	never, _ := after(run, vmUp).apply(sessionLost{Why: "refused"})
	require.Equal(t, messages.ReasonConnectFailed, never.report().Reason)
}

// A refusal is terminal from the second one on, until something else happens.
func TestARefusalIsTerminal(t *testing.T) {
	denied, away := sessionLost{Why: "permission denied", Permanent: true}, sessionLost{Why: "no such file"}
	for _, c := range []struct {
		name   string
		events []event
		want   string
	}{
		{"once, as while the engine makes its socket", []event{denied}, messages.ReasonConnectFailed},
		{"twice", []event{denied, denied}, messages.ReasonCannotConnect},
		{"away meanwhile", []event{denied, away, denied}, messages.ReasonConnectFailed},
		{"away since", []event{denied, denied, away}, messages.ReasonConnectFailed},
		{"let in", []event{denied, denied, up}, messages.ReasonSyncing},
		{"let in, then lost", []event{denied, denied, up, away}, messages.ReasonConnectFailed},
		{"another address", []event{denied, denied, vmMoved}, messages.ReasonConnecting},
		{"asked for anew", []event{denied, denied, desired{control.EngineDesire{Generation: 3, Running: true, Backend: messages.EngineMoby}}},
			messages.ReasonConnectFailed},
		{"not wanted any more", []event{denied, denied, halt}, messages.ReasonStopping},
	} {
		r := after(append([]event{run, vmUp}, c.events...)...).report()
		require.Equal(t, c.want, r.Reason, c.name)
		require.Equal(t, c.want == messages.ReasonCannotConnect, messages.TerminalReason(r.Reason), c.name)
	}
}

// In whatever order things happen: mirrors are never announced while they are swept, a sweep is on disk before the first mirror
// goes, and when the faults end the watcher is live.
func TestSchedules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := state{}
		stored, session := false, false
		step := func(e event) {
			next, effects := s.apply(e)
			for _, eff := range effects {
				switch eff.(type) {
				case storeSweep:
					stored = false
				case sweepMirrors:
					require.True(t, stored)
				case announce:
					require.NotEqual(t, sweeping, next.Phase)
					require.NotNil(t, next.Up)
				case startSession:
					require.False(t, session)
					session = true
				case stopSession:
					require.True(t, session)
					session = false
				}
			}
			s = next
			require.Equal(t, session, s.Session)
		}
		events := []event{run, halt, other, vmUp, vmMoved, vmLost, vmDown, vmOther, quiesced{Stop: 1}, quiesced{Stop: 2}, sessionLost{Why: "x"}, loaded{Mirrored: true, EngineID: "A"}}
		for range rapid.IntRange(0, 50).Draw(t, "steps") {
			switch i := rapid.IntRange(0, len(events)+4).Draw(t, "event"); {
			case i < len(events):
				if _, again := events[i].(loaded); again && s.Loaded {
					continue
				}
				step(events[i])
			case i == len(events) && s.Session:
				step(up)
			case i == len(events)+1 && s.Session:
				step(upOther)
			case i == len(events)+2 && s.Phase == sweeping:
				stored = true
				step(sweepStored{})
			case i == len(events)+3:
				step(kindSwept{Kind: sweptKinds[rapid.IntRange(0, len(sweptKinds)-1).Draw(t, "kind")]})
			default:
				step(passDone{mirroredKinds[0]})
			}
		}
		if !s.Loaded {
			step(loaded{})
		}
		step(run)
		step(vmUp)
		for range 4 {
			if s.Phase == sweeping {
				stored = true
				for _, e := range swept() {
					step(e)
				}
			}
			if s.Session && s.Up == nil {
				step(up)
			}
			for _, e := range passes() {
				step(e)
			}
		}
		require.Equal(t, live, s.Phase, fmt.Sprintf("%+v", s))
	})
}

func TestHints(t *testing.T) {
	ev := func(kind, action, id string) dockerio.Event {
		return dockerio.Event{Type: kind, Action: action, ID: id, Attributes: map[string]string{"container": "c"}}
	}
	for _, c := range []struct {
		e    dockerio.Event
		want string
	}{
		{ev("container", "create", "c"), "Container c"}, {ev("container", "start", "c"), "Container c"},
		{ev("container", "die", "c"), "Container c settle"}, {ev("container", "destroy", "c"), "Container c destroyed"},
		{ev("container", "rename", "c"), "Container c"}, {ev("container", "health_status", "c"), "Container c"},
		{ev("container", "something-new", "c"), "Container c"}, {ev("container", "prune", ""), "Container list"},
		{ev("container", "exec_create", "c"), ""}, {ev("container", "exec_start", "c"), ""}, {ev("container", "exec_die", "c"), ""},
		{ev("container", "top", "c"), ""}, {ev("container", "attach", "c"), ""}, {ev("container", "resize", "c"), ""},
		{ev("image", "tag", "i"), "Image i list"}, {ev("image", "untag", "i"), "Image list"}, {ev("image", "delete", "i"), "Image list"},
		{ev("image", "load", "i"), "Image list"}, {ev("image", "import", "i"), "Image list"}, {ev("image", "pull", "i"), "Image list"},
		{ev("image", "prune", ""), "Image list"}, {ev("image", "save", "i"), ""},
		{ev("volume", "create", "v"), "Volume v"}, {ev("volume", "destroy", "v"), "Volume v destroyed"},
		{ev("volume", "mount", "v"), ""}, {ev("volume", "unmount", "v"), ""}, {ev("volume", "prune", ""), "Volume list"},
		{ev("network", "connect", "n"), "Container c"}, {ev("network", "disconnect", "n"), "Container c"},
		{ev("network", "create", "n"), ""}, {ev("plugin", "enable", "p"), ""},
	} {
		got := ""
		if h, ok := hintOf(c.e); ok {
			got = h.Kind + " " + h.ID
			if h.Relist {
				got = strings.TrimSpace(got) + " list"
			}
			if h.Mark.Destroyed {
				got += " destroyed"
			}
			if h.Mark.Settle {
				got += " settle"
			}
		}
		require.Equal(t, c.want, got, "%s %s", c.e.Type, c.e.Action)
	}
}

func TestTheDirtySetIsBoundedByObjectsAndTellsOnce(t *testing.T) {
	d := newDirtySet()
	told := 0
	for i := range 1000 {
		action := []string{"start", "die", "destroy"}[i%3]
		if d.add(dockerio.Event{Type: dockerio.TypeContainer, Action: action, ID: fmt.Sprint(i % 5)}) {
			told++
		}
	}
	require.Equal(t, 1, told)
	marks, _, events := d.take()
	require.Len(t, marks[messages.KindContainer], 5)
	require.True(t, marks[messages.KindContainer]["0"].Destroyed)
	require.Equal(t, int64(1000), events)
	require.True(t, d.add(dockerio.Event{Type: dockerio.TypeVolume, Action: "create", ID: "v"}), "after a take it tells again")
}

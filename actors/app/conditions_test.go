package app

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/messages"
)

var noon = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)

func vmUp(gen int64) control.VMReport {
	return control.VMReport{
		Generation: gen, Running: true, Created: true, Reason: messages.ReasonStarted, Message: "runs", Run: 1,
		Endpoint: &messages.Endpoint{Host: "unix:///e.sock", Source: "native"},
	}
}

func vmDown(gen int64) control.VMReport {
	return control.VMReport{Generation: gen, Reason: messages.ReasonStopped}
}

func engineUp(gen int64) control.EngineReport {
	return control.EngineReport{
		Generation: gen, Ready: metav1.ConditionTrue, Reason: messages.ReasonConnected, Summary: "2 containers",
		Engine: &messages.EngineStatus{ID: "ID"}, Clock: metav1.Condition{Type: messages.ConditionClockSynced, Status: metav1.ConditionTrue, Reason: messages.ReasonInSync},
	}
}

func engineDown(gen int64) control.EngineReport {
	return control.EngineReport{Generation: gen, Quiesced: gen, Ready: metav1.ConditionFalse, Reason: messages.ReasonStopped}
}

func given(gen int64, run bool, vm control.VMReport, engine control.EngineReport) inputs {
	spec := messages.DefaultAppSpec()
	spec.Running = run
	return inputs{generation: gen, spec: spec, driver: "native", vm: vm, vmVoice: spoken, engine: engine, engineVoice: spoken, now: noon}
}

func find(t *testing.T, s messages.AppStatus, conditionType string) metav1.Condition {
	t.Helper()
	c := messages.Condition(&messages.App{Status: s}, conditionType)
	require.NotNil(t, c, conditionType)
	return *c
}

func TestD3Settled(t *testing.T) {
	starting := control.VMReport{Generation: 2, Reason: messages.ReasonStarting, Message: "waiting for the guest agent"}
	failed := control.VMReport{Generation: 3, Reason: messages.ReasonStartFailed, Message: "start VM: no"}
	stopFailed := vmUp(3)
	stopFailed.Reason = messages.ReasonStopFailed
	crashed := control.VMReport{Generation: 3, Created: true, Reason: messages.ReasonCrashed}
	syncing := engineUp(3)
	syncing.Ready, syncing.Reason, syncing.Message = metav1.ConditionFalse, messages.ReasonSyncing, "40 of 100"
	noID := engineUp(3)
	noID.Engine = nil
	notApplicable := control.EngineReport{Generation: 3, Ready: metav1.ConditionUnknown, Reason: messages.ReasonNotApplicable}
	for _, c := range []struct {
		name   string
		in     inputs
		status metav1.ConditionStatus
		reason string
		gen    int64
		says   string
	}{
		{"runs", given(3, true, vmUp(3), engineUp(3)), "True", "Settled", 3, "2 containers"},
		{"stopped", given(3, false, vmDown(3), engineDown(3)), "True", "Settled", 3, ""},
		{"D3: vm is at the generation before", given(3, true, vmUp(2), engineUp(3)), "False", "Progressing", 2, "generation 3"},
		{"D3: engine is at the generation before", given(3, true, vmUp(3), engineUp(2)), "False", "Progressing", 2, "generation 3"},
		{"starting", given(3, true, starting, engineDown(3)), "False", "Starting", 2, "vm: Running=False Starting: waiting for the guest agent"},
		{"start failed", given(3, true, failed, engineDown(2)), "False", "StartFailed", 3, "vm: Running=False StartFailed: start VM: no"},
		{"an older start failed", given(4, true, failed, engineDown(2)), "False", "Progressing", 2, "generation 4"},
		{"stop failed", given(3, false, stopFailed, engineDown(3)), "False", "StopFailed", 3, "vm: Running=True StopFailed"},
		{"crashed", given(3, true, crashed, engineUp(3)), "False", "Crashed", 3, "Crashed"},
		{"syncing", given(3, true, vmUp(3), syncing), "False", "Syncing", 3, "engine: ContainerEngineReady=False Syncing: 40 of 100"},
		{"engine id", given(3, true, vmUp(3), noID), "False", "NotSettled", 3, "id"},
		{"engine not down yet", given(3, false, vmDown(3), engineUp(3)), "False", "Connected", 3, "engine"},
		{"S5: no mirrors for moby", given(3, true, vmUp(3), notApplicable), "False", "NotApplicable", 3, "engine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := find(t, status(c.in), messages.ConditionSettled)
			require.Equal(t, c.status, got.Status, got.Message)
			require.Equal(t, c.reason, got.Reason)
			require.Equal(t, c.gen, got.ObservedGeneration)
			require.Contains(t, got.Message, c.says)
		})
	}
	t.Run("S5: containerd mirrors nothing, and says so", func(t *testing.T) {
		in := given(3, true, vmUp(3), notApplicable)
		in.spec.ContainerEngine.Name = messages.EngineContainerd
		s := status(in)
		require.Equal(t, metav1.ConditionTrue, find(t, s, messages.ConditionSettled).Status)
		ready := find(t, s, messages.ConditionContainerEngineReady)
		require.Equal(t, metav1.ConditionUnknown, ready.Status)
		require.Equal(t, messages.ReasonNotApplicable, ready.Reason)
	})
}

func TestStatusOfAnAcceptedSpecIsProgressing(t *testing.T) {
	before := status(given(3, false, vmDown(3), engineDown(3)))
	in := given(4, true, vmDown(3), engineDown(3))
	in.before, in.vmVoice, in.engineVoice, in.now = before, called, called, noon.Add(time.Hour)
	s := status(in)
	require.Len(t, s.ConditionList, 5)
	for _, c := range s.ConditionList {
		require.Equal(t, metav1.ConditionUnknown, c.Status, c.Type)
		require.Equal(t, messages.ReasonProgressing, c.Reason, c.Type)
		require.Less(t, c.ObservedGeneration, int64(4), c.Type)
	}
	require.Equal(t, int64(3), s.ObservedGeneration)
}

func TestStatusOfAnOlderFailureIsNotTerminal(t *testing.T) {
	s := status(given(4, true, control.VMReport{Generation: 3, Reason: messages.ReasonStartFailed}, engineDown(3)))
	for _, c := range s.ConditionList {
		require.False(t, messages.TerminalReason(c.Reason), c.Type)
	}
}

func TestS6StatusKeepsWhatTheStoreShowsUntilSomebodySpeaks(t *testing.T) {
	before := status(given(3, true, vmUp(3), engineUp(3)))
	in := given(3, true, control.VMReport{}, control.EngineReport{})
	in.before, in.kept, in.vmVoice, in.engineVoice, in.now = before, true, silent, silent, noon.Add(time.Hour)
	require.Equal(t, before, status(in), "a restart of app changes nothing that can be seen")

	in.vm, in.vmVoice = vmUp(3), spoken
	require.Equal(t, before, status(in))
	in.vm = control.VMReport{Generation: 3, Reason: messages.ReasonCrashed}
	require.Equal(t, messages.ReasonCrashed, find(t, status(in), messages.ConditionSettled).Reason)

	in.generation, in.kept = 4, false
	require.Equal(t, messages.ReasonProgressing, find(t, status(in), messages.ConditionContainerEngineReady).Reason)
}

func TestTransitionTimeMovesWithStatusOnly(t *testing.T) {
	in := given(3, true, control.VMReport{Generation: 2, Reason: messages.ReasonStarting, Message: "a"}, engineDown(3))
	first := status(in)
	in.before, in.now, in.vm.Message = first, noon.Add(time.Minute), "b"
	second := status(in)
	require.Equal(t, "b", find(t, second, messages.ConditionRunning).Message)
	require.Equal(t, find(t, first, messages.ConditionRunning).LastTransitionTime, find(t, second, messages.ConditionRunning).LastTransitionTime)
	in.before, in.vm, in.engine = second, vmUp(3), engineUp(3)
	third := status(in)
	require.True(t, find(t, third, messages.ConditionRunning).LastTransitionTime.Time.Equal(noon.Add(time.Minute)))
	require.Equal(t, "unix:///e.sock", third.Endpoint)
	require.Equal(t, "native", third.EndpointSource)
	require.Equal(t, "ID", third.Engine.ID)
	require.NotContains(t, find(t, second, messages.ConditionRunning).Message, "a")
	require.Equal(t, "a", find(t, first, messages.ConditionRunning).Message, "what was computed before is not touched")
}

package app

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/messages"
)

// voice says what a part's last report is worth.
type voice int

const (
	// silent: nothing was heard in this incarnation; what the store shows holds.
	silent voice = iota
	// called: a spec (or a retry) was accepted, and the part has not spoken since: Unknown/Progressing.
	called
	// spoken: its report is shown.
	spoken
)

// inputs are everything the status is made of.
type inputs struct {
	generation int64
	spec       messages.AppSpec
	driver     string

	vm          control.VMReport
	vmVoice     voice
	engine      control.EngineReport
	engineVoice voice
	disk        *control.DiskReport

	// before is the status as stored; kept says that it is of this generation.
	before messages.AppStatus
	kept   bool
	now    time.Time
}

// status computes the whole status; what it returns shares nothing with the inputs that could be changed.
func status(in inputs) messages.AppStatus {
	out := messages.AppStatus{
		Driver: in.driver, Endpoint: in.before.Endpoint, EndpointSource: in.before.EndpointSource,
		Engine: in.before.Engine, LastReset: in.before.LastReset, ObservedGeneration: in.before.ObservedGeneration,
		ConditionList: slices.Clone(in.before.ConditionList),
	}
	if in.vmVoice == spoken {
		out.Endpoint, out.EndpointSource = "", ""
		if in.vm.Endpoint != nil {
			out.Endpoint, out.EndpointSource = in.vm.Endpoint.Host, in.vm.Endpoint.Source
		}
	}
	if in.engineVoice == spoken {
		out.Engine = in.engine.Engine.DeepCopy()
		if in.engine.Reset != nil {
			out.LastReset = in.engine.Reset.DeepCopy()
		}
	}
	if in.vmVoice == spoken && in.engineVoice == spoken {
		out.ObservedGeneration = min(in.generation, in.vm.Generation, in.engine.Generation)
	}
	for _, c := range []metav1.Condition{created(in), running(in), engineReady(in), clockSynced(in), diskPressure(in), settled(in)} {
		if c.Type != "" {
			out.ConditionList = messages.SetCondition(out.ConditionList, c, in.now)
		}
	}
	return out
}

// held is true when the stored condition stays: nobody has spoken of it yet, and it is of this generation.
func (in inputs) held(v voice, conditionType string) bool {
	return v == silent && in.kept && slices.ContainsFunc(in.before.ConditionList, func(c metav1.Condition) bool { return c.Type == conditionType })
}

func progressing(conditionType string, acted, generation int64, message string) metav1.Condition {
	return metav1.Condition{
		Type: conditionType, Status: metav1.ConditionUnknown, Reason: messages.ReasonProgressing,
		ObservedGeneration: max(0, min(acted, generation-1)), Message: message,
	}
}

const (
	waitingForVM     = "waiting for vm"
	waitingForEngine = "waiting for engine"
)

func created(in inputs) metav1.Condition {
	switch {
	case in.held(in.vmVoice, messages.ConditionCreated):
		return metav1.Condition{}
	case in.vmVoice != spoken:
		return progressing(messages.ConditionCreated, in.vm.Generation, in.generation, waitingForVM)
	}
	c := metav1.Condition{
		Type: messages.ConditionCreated, Status: metav1.ConditionFalse, Reason: messages.ReasonNotCreated,
		ObservedGeneration: min(in.vm.Generation, in.generation),
	}
	if in.vm.Created {
		c.Status, c.Reason = metav1.ConditionTrue, messages.ReasonCreated
	}
	return c
}

func running(in inputs) metav1.Condition {
	switch {
	case in.held(in.vmVoice, messages.ConditionRunning):
		return metav1.Condition{}
	case in.vmVoice != spoken, messages.TerminalReason(in.vm.Reason) && in.vm.Generation < in.generation: // the failure of an older spec
		return progressing(messages.ConditionRunning, in.vm.Generation, in.generation, waitingForVM)
	}
	c := metav1.Condition{
		Type: messages.ConditionRunning, Status: metav1.ConditionFalse, Reason: reasonOr(in.vm.Reason),
		Message: in.vm.Message, ObservedGeneration: min(in.vm.Generation, in.generation),
	}
	if in.vm.Running {
		c.Status = metav1.ConditionTrue
	}
	return c
}

func engineReady(in inputs) metav1.Condition {
	switch {
	case in.held(in.engineVoice, messages.ConditionContainerEngineReady):
		return metav1.Condition{}
	case in.engineVoice != spoken:
		return progressing(messages.ConditionContainerEngineReady, in.engine.Generation, in.generation, waitingForEngine)
	}
	c := metav1.Condition{
		Type: messages.ConditionContainerEngineReady, Status: in.engine.Ready, Reason: reasonOr(in.engine.Reason),
		Message: in.engine.Message, ObservedGeneration: min(in.engine.Generation, in.generation),
	}
	if c.Status == "" {
		c.Status = metav1.ConditionUnknown
	}
	if c.Message == "" {
		c.Message = in.engine.Summary
	}
	return c
}

func clockSynced(in inputs) metav1.Condition {
	switch {
	case in.held(in.engineVoice, messages.ConditionClockSynced):
		return metav1.Condition{}
	case in.engineVoice != spoken:
		return progressing(messages.ConditionClockSynced, in.engine.Generation, in.generation, waitingForEngine)
	case in.engine.Clock.Type == "":
		return metav1.Condition{
			Type: messages.ConditionClockSynced, Status: metav1.ConditionUnknown, Reason: reasonOr(in.engine.Reason),
			Message: "no engine is connected", ObservedGeneration: min(in.engine.Generation, in.generation),
		}
	}
	c := in.engine.Clock
	c.Type, c.Reason, c.ObservedGeneration = messages.ConditionClockSynced, reasonOr(c.Reason), min(in.engine.Generation, in.generation)
	return c
}

// diskPressure is shown from the first time on that the journal's disk was full.
func diskPressure(in inputs) metav1.Condition {
	if in.disk == nil {
		return metav1.Condition{}
	}
	c := metav1.Condition{
		Type: messages.ConditionDiskPressure, Status: metav1.ConditionFalse, Reason: messages.ReasonDiskSpace, ObservedGeneration: in.generation,
	}
	if in.disk.Full {
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, messages.ReasonDiskFull, "changes are refused: "+in.disk.Message
	}
	return c
}

// settled is the one condition to wait for: everything the spec asks for has taken effect. If not, reason and message name the
// blocker; a terminal reason means that waiting does not help.
func settled(in inputs) metav1.Condition {
	acted := min(in.vm.Generation, in.engine.Generation)
	if in.engineVoice != called && in.held(in.vmVoice, messages.ConditionSettled) {
		return metav1.Condition{}
	}
	if in.vmVoice != spoken {
		return progressing(messages.ConditionSettled, acted, in.generation, waitingForVM)
	}
	c := metav1.Condition{Type: messages.ConditionSettled, Status: metav1.ConditionFalse, ObservedGeneration: max(0, min(acted, in.generation))}
	if reason, message := vmBlocks(in); reason != "" {
		c.Reason, c.Message = reason, message
		if messages.TerminalReason(reason) {
			c.ObservedGeneration = in.generation // vm is through with it, whatever else is not
		}
		return c
	}
	switch {
	case in.held(in.engineVoice, messages.ConditionSettled):
		return metav1.Condition{}
	case in.engineVoice != spoken:
		return progressing(messages.ConditionSettled, acted, in.generation, waitingForEngine)
	}
	if reason, message := engineBlocks(in); reason != "" {
		c.Reason, c.Message = reason, message
		return c
	}
	c.Status, c.Reason, c.Message, c.ObservedGeneration = metav1.ConditionTrue, messages.ReasonSettled, in.engine.Summary, in.generation
	return c
}

// vmBlocks is the reason and message why vm keeps the App from being settled; empty = it does not.
func vmBlocks(in inputs) (reason, message string) {
	want, r := messages.ReasonStopped, in.vm
	if in.spec.Running {
		want = messages.ReasonStarted
	}
	says := fmt.Sprintf("vm: %s=%s %s", messages.ConditionRunning, truth(r.Running), reasonOr(r.Reason))
	if r.Message != "" {
		says += ": " + r.Message
	}
	switch {
	case r.Generation < in.generation && (r.Reason == messages.ReasonStarted || r.Reason == messages.ReasonStopped || messages.TerminalReason(r.Reason)):
		return messages.ReasonProgressing, fmt.Sprintf("vm: generation %d is not acted on yet", in.generation)
	case r.Generation < in.generation, r.Running != in.spec.Running, r.Reason != want:
		return reasonOr(r.Reason), says
	}
	return "", ""
}

func engineBlocks(in inputs) (reason, message string) {
	e := in.engine
	says := fmt.Sprintf("engine: %s=%s %s", messages.ConditionContainerEngineReady, e.Ready, reasonOr(e.Reason))
	if e.Message != "" {
		says += ": " + e.Message
	}
	final := e.Reason == messages.ReasonConnected || e.Reason == messages.ReasonStopped || e.Reason == messages.ReasonNotApplicable
	notApplicable := e.Reason == messages.ReasonNotApplicable && e.Ready != metav1.ConditionTrue
	switch {
	case e.Generation < in.generation && final:
		return messages.ReasonProgressing, fmt.Sprintf("engine: generation %d is not acted on yet", in.generation)
	case e.Generation < in.generation:
		return reasonOr(e.Reason), says
	case !in.spec.Running:
		if notApplicable || e.Ready != metav1.ConditionTrue && e.Reason == messages.ReasonStopped {
			return "", ""
		}
	case in.spec.ContainerEngine.Name != messages.EngineMoby:
		if notApplicable {
			return "", ""
		}
	case e.Ready == metav1.ConditionTrue:
		if e.Engine == nil || e.Engine.ID == "" {
			return messages.ReasonNotSettled, "engine: its id is not known"
		}
		return "", ""
	}
	return reasonOr(e.Reason), says
}

func reasonOr(reason string) string {
	if reason == "" {
		return messages.ReasonProgressing
	}
	return reason
}

func truth(b bool) metav1.ConditionStatus {
	if b {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}

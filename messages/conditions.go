package messages

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Conditions of the App.
const (
	// ConditionCreated: the VM exists.
	ConditionCreated = "Created"
	// ConditionRunning: the VM runs (App), or the container runs (Container).
	ConditionRunning = "Running"
	// ConditionContainerEngineReady: the engine is connected and the first pass of its mirror is complete.
	ConditionContainerEngineReady = "ContainerEngineReady"
	// ConditionClockSynced: engine clock and host clock differ by less than 2 s.
	ConditionClockSynced = "ClockSynced"
	// ConditionDiskPressure: rdd's own disk is full: changes are refused, reads and what was accepted go on. Shown once it was so.
	ConditionDiskPressure = "DiskPressure"
	// ConditionSettled: everything the spec asks for has taken effect. The one thing to wait for.
	ConditionSettled = "Settled"
)

// Conditions of mirrored resources.
const (
	ConditionPaused          = "Paused"
	ConditionRestarting      = "Restarting"
	ConditionOOMKilled       = "OOMKilled"
	ConditionDead            = "Dead"
	ConditionSynced          = "Synced"
	ConditionDeletionBlocked = "DeletionBlocked"
	// ConditionIntentApplied: spec.state was brought about (True), is being tried (False/Retrying) or cannot be (False/Failed).
	ConditionIntentApplied = "IntentApplied"
	// ConditionDrifted: after spec.state was applied somebody else changed it.
	ConditionDrifted = "Drifted"
)

// Reasons. A reason is one word that a program may switch on; the message is for people.
const (
	// ReasonProgressing: accepted, not acted on yet (status Unknown).
	ReasonProgressing = "Progressing"

	ReasonCreated    = "Created"
	ReasonNotCreated = "NotCreated"

	ReasonStarting    = "Starting"
	ReasonStarted     = "Started"
	ReasonStopping    = "Stopping"
	ReasonStopped     = "Stopped"
	ReasonStartFailed = "StartFailed"
	ReasonStopFailed  = "StopFailed"
	ReasonCrashed     = "Crashed"

	ReasonConnected     = "Connected"
	ReasonConnecting    = "Connecting"
	ReasonSyncing       = "Syncing"
	ReasonConnectFailed = "ConnectFailed"
	ReasonDisconnected  = "Disconnected"
	// ReasonCannotConnect: the failure is of class Permanent (no permission, TLS refused, an engine too old).
	ReasonCannotConnect = "CannotConnect"
	ReasonNotApplicable = "NotApplicable"

	ReasonDiskFull  = "DiskFull"
	ReasonDiskSpace = "DiskSpace"

	ReasonInSync = "InSync"
	ReasonSkewed = "Skewed"

	ReasonSettled    = "Settled"
	ReasonNotSettled = "NotSettled"

	// ReasonMirrored: Synced=True.
	ReasonMirrored          = "Mirrored"
	ReasonPending           = "Pending"
	ReasonInspectFailed     = "InspectFailed"
	ReasonInspectTimeout    = "InspectTimeout"
	ReasonQuarantined       = "Quarantined"
	ReasonNoEngineObject    = "NoEngineObject"
	ReasonEngineUnreachable = "EngineUnreachable"
	ReasonEngineStopping    = "EngineStopping"

	// ReasonInUse: DeletionBlocked=True, the message names the users.
	ReasonInUse          = "InUse"
	ReasonRemoveFailed   = "RemoveFailed"
	ReasonEngineDown     = "EngineDown"
	ReasonForeignHolders = "ForeignFinalizers"

	// Of IntentApplied.
	ReasonApplied  = "Applied"
	ReasonRetrying = "Retrying"
	ReasonFailed   = "Failed"
	// ReasonSuperseded: something newer took its place, or the mirror was reset.
	ReasonSuperseded = "Superseded"
	// ReasonDrifted: Drifted=True.
	ReasonDrifted = "Drifted"

	// ReasonIdentityChanged: what the engine has under the name is not provably what was asked for; nothing was done to it.
	ReasonIdentityChanged = "IdentityChanged"

	// ReasonMirrorReset marks a DELETED that removed only the mirror, never the engine object.
	ReasonMirrorReset = "MirrorReset"

	// ReasonEngineState: the condition only repeats the engine's word on a container.
	ReasonEngineState = "EngineState"
)

// terminalReasons are those that no waiting changes: a waiter fails at once (exit 9).
var terminalReasons = []string{ReasonStartFailed, ReasonStopFailed, ReasonCannotConnect, ReasonFailed}

// TerminalReason reports whether a condition with this reason will not come true by waiting.
func TerminalReason(reason string) bool { return slices.Contains(terminalReasons, reason) }

// Condition returns the condition of that type, or nil.
func Condition(o Object, conditionType string) *metav1.Condition {
	list := o.Conditions()
	for i := range list {
		if strings.EqualFold(list[i].Type, conditionType) {
			return &list[i]
		}
	}
	return nil
}

// SetCondition is [SetConditions] of one.
func SetCondition(list []metav1.Condition, c metav1.Condition, now time.Time) []metav1.Condition {
	return SetConditions(list, now, c)
}

// SetConditions puts conditions into list and returns the new list, sorted by type; list itself is not changed, and is what is
// returned when it says all that already. lastTransitionTime moves to now only where the status differs from before.
func SetConditions(list []metav1.Condition, now time.Time, conditions ...metav1.Condition) []metav1.Condition {
	added, said := 0, 0
	for _, c := range conditions {
		i := slices.IndexFunc(list, func(o metav1.Condition) bool { return o.Type == c.Type })
		if i < 0 {
			added++
			continue
		}
		if c.LastTransitionTime = list[i].LastTransitionTime; c == list[i] {
			said++
		}
	}
	if said == len(conditions) {
		return list
	}
	out := append(make([]metav1.Condition, 0, len(list)+added), list...)
	for _, c := range conditions {
		i := slices.IndexFunc(out, func(o metav1.Condition) bool { return o.Type == c.Type })
		if i >= 0 && out[i].Status == c.Status {
			c.LastTransitionTime = out[i].LastTransitionTime
		} else {
			c.LastTransitionTime = metav1.Time{Time: now.UTC().Truncate(time.Second)}
		}
		if i >= 0 {
			out[i] = c
		} else {
			out = append(out, c)
		}
	}
	if added > 0 {
		slices.SortFunc(out, func(a, b metav1.Condition) int { return strings.Compare(a.Type, b.Type) })
	}
	return out
}

// RemoveCondition returns list without the condition of that type.
func RemoveCondition(list []metav1.Condition, conditionType string) []metav1.Condition {
	return slices.DeleteFunc(slices.Clone(list), func(c metav1.Condition) bool { return c.Type == conditionType })
}

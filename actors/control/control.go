// Package control has the addresses of the tree and the messages between app, vm and engine: what is desired (down) and
// what is (up). All of them are level-based: whole states, harmless when lost, doubled or out of order by a restart; who
// (re)starts says Hello and is told everything again.
package control

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

// Addresses of the tree.
const (
	Root       = "rdd"
	Journal    = Root + "/journal"
	Store      = Root + "/store"
	App        = Root + "/app"
	VM         = Root + "/vm"
	Engine     = Root + "/engine"
	Session    = Engine + "/session"
	Containers = Root + "/containers"
	Images     = Root + "/images"
	Volumes    = Root + "/volumes"
	Namespaces = Root + "/namespaces"
	Moby       = Namespaces + "/moby"
)

// Hello asks the receiver to tell the sender its whole present state: app answers vm and engine with VMDesire and EngineDesire;
// vm answers with VMReport, engine with EngineReport. From is the path of the one who asks.
type Hello struct{ From string }

// VMDesire tells vm what app wants.
type VMDesire struct {
	Generation int64
	Running    bool
	// Driver is the resolved driver name, never "auto".
	Driver string
	// Backend is App.spec.containerEngine.name.
	Backend string
	VM      messages.VirtualMachineSpec
	// Retry is raised by app when the user asks again for what has failed: an attempt is due now.
	Retry int64
}

// VMReport tells app and engine what vm sees. Reason is one of messages' reasons for conditions Created and Running.
type VMReport struct {
	// Generation vm has *finished* acting on; less than the desired one while it works. A terminal failure finishes it too.
	Generation int64
	// Running: the VM is up; Endpoint is then set.
	Running  bool
	Created  bool
	Reason   string
	Message  string
	Endpoint *messages.Endpoint
	// Restarts of the VM so far: another number with Running=true is another run of it.
	Run int64
}

// DiskReport tells app whether the journal's disk is full.
type DiskReport struct {
	Full    bool
	Message string
}

// EngineDesire tells engine what app wants: a session and mirrors when Running and Backend is moby and vm runs.
type EngineDesire struct {
	Generation int64
	Running    bool
	Backend    string
	// Driver: another one means another engine: mirrors are swept.
	Driver string
	// Namespace is the metadata.namespace of every mirror.
	Namespace string
}

// EngineReport tells app and vm what engine sees.
type EngineReport struct {
	// Generation engine has finished acting on.
	Generation int64
	// Quiesced is the newest generation with Running=false for which no new effect starts any more: vm may stop.
	Quiesced int64
	// Busy: calls that change the engine may still run, for a moment; vm does not stop what it runs on before.
	Busy bool
	// Ready, Reason, Message are the condition ContainerEngineReady.
	Ready   metav1.ConditionStatus
	Reason  string
	Message string
	// Clock is the condition ClockSynced (empty Type = nothing known).
	Clock metav1.Condition
	// Engine describes the engine of the present or last session.
	Engine *messages.EngineStatus
	// Reset is the last sweep; nil = none since engine was (re)started.
	Reset *messages.MirrorReset
	// Counts per kind of the last first pass, for people: "first pass: 23 containers, 41 images, 9 volumes".
	Summary string
}

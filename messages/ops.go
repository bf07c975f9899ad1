package messages

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// WireVersion is the version of the envelope (Request, Reply, Frame); it never changes. New operations are new kinds.
const WireVersion = 1

// Operations: the kind of a Request. Each has a request and a reply type below.
const (
	OpGet      = "get"      // GetRequest → the resource
	OpList     = "list"     // ListRequest → ListReply
	OpNext     = "next"     // NextRequest → Batch (a Frame)
	OpSet      = "set"      // SetRequest → SetReply
	OpDelete   = "delete"   // DeleteRequest → the resource
	OpWrite    = "write"    // WriteRequest → WriteReply
	OpAction   = "action"   // ActionRequest → the Container
	OpTree     = "tree"     // TreeRequest → TreeNode
	OpEvents   = "events"   // EventsRequest → EventsReply
	OpVersion  = "version"  // VersionRequest → VersionReply
	OpDebug    = "debug"    // DebugRequest → DebugReply
	OpShutdown = "shutdown" // ShutdownRequest → ShutdownReply
	// OpError is the kind of a Reply whose body is an Error.
	OpError = "Error"
)

// Bounds of the wire.
const (
	// MaxPage is the most objects in one page or frame.
	MaxPage = 500
	// MaxFrameBytes is the most bytes of objects in one page or frame, unless a single object is larger.
	MaxFrameBytes = 1 << 20
)

// GetRequest asks for one resource by metadata.name, human name or unique id prefix.
type GetRequest struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// ListRequest asks for a page of a kind. The first page pins the store's root for at most 60 s; the following ones read it.
type ListRequest struct {
	Kind     string   `json:"kind"`
	Selector Selector `json:"selector,omitzero"`
	// Limit is at most MaxPage; 0 = MaxPage.
	Limit int `json:"limit,omitempty"`
	// Continue is the token of the page before; empty = the first page.
	Continue string `json:"continue,omitempty"`
}

// ListReply is one page. Every page of a list has the same ResourceVersion.
type ListReply struct {
	ResourceVersion string  `json:"resourceVersion"`
	Continue        string  `json:"continue,omitempty"`
	Items           Objects `json:"items"`
}

// NextRequest pulls the changes of a kind after a cursor. The same cursor gives the same answer for as long as history
// holds it; older → Gone.
type NextRequest struct {
	Kind     string   `json:"kind"`
	Selector Selector `json:"selector,omitzero"`
	// Cursor is a resourceVersion: of a list, or of the batch before.
	Cursor string `json:"cursor"`
	// Max changes, at most MaxPage; 0 = MaxPage.
	Max int `json:"max,omitempty"`
}

// Batch answers a NextRequest: changes in order and the next cursor; no changes after 5 s without news (a bookmark).
type Batch struct {
	// Since is the cursor that was asked for: a client drops a frame it did not expect.
	Since  string       `json:"since"`
	Cursor string       `json:"cursor"`
	Events []WatchEvent `json:"events,omitempty"`
}

// WatchEventType is the type of a change, as Kubernetes names them.
type WatchEventType string

// Types of WatchEvent.
const (
	Added    WatchEventType = "ADDED"
	Modified WatchEventType = "MODIFIED"
	Deleted  WatchEventType = "DELETED"
	// Bookmark carries only a version; the first one of a watch says "initial events end".
	Bookmark WatchEventType = "BOOKMARK"
)

// AnnotationInitialEventsEnd marks the bookmark after the snapshot of a watch, as in Kubernetes.
const AnnotationInitialEventsEnd = "k8s.io/initial-events-end"

// WatchEvent is one change of one resource.
type WatchEvent struct {
	Type WatchEventType `json:"type"`
	// Reason is set on a DELETED that is no deletion of the engine object: MirrorReset.
	Reason string `json:"reason,omitempty"`
	// Version is the change's resourceVersion (for DELETED it is newer than the object's own).
	Version string `json:"version,omitempty"`
	Object  Object `json:"object"`
}

// SetRequest changes App.spec. Patch is a JSON merge patch of spec.
type SetRequest struct {
	Patch json.RawMessage `json:"patch"`
	// IfGeneration rejects the request with Conflict unless it is the present generation; 0 = any.
	IfGeneration int64 `json:"ifGeneration,omitempty"`
	// DryRun validates and persists nothing.
	DryRun bool `json:"dryRun,omitempty"`
}

// SetReply is the App as stored. Changed is false when the patch changed nothing.
type SetReply struct {
	App     *App `json:"app"`
	Changed bool `json:"changed"`
	// Warnings are for people: the change was accepted, and may not do what was meant.
	Warnings []string `json:"warnings,omitempty"`
}

// DeleteRequest starts the deletion of a resource (two phases: see docs/architecture.md).
type DeleteRequest struct {
	Kind string `json:"kind"`
	// Name as in GetRequest.
	Name string `json:"name"`
	// UID, when set, must be the resource's.
	UID types.UID `json:"uid,omitempty"`
	// Detach forgets only the mirror: nothing is removed from the engine, our finalizer goes, a deletion in progress ends. The next
	// observation publishes the object again, with a new uid.
	Detach bool `json:"detach,omitempty"`
}

// Types of WriteRequest.Patch.
const (
	PatchMerge = "merge" // JSON merge patch, RFC 7386
	PatchJSON  = "json"  // JSON patch, RFC 6902
)

// WriteRequest changes what a client may change of one resource: of a Container spec.state and spec.policy, of every mirrored kind
// labels, annotations and foreign finalizers, of the App its spec but for the namespace. Anything else is rejected by name.
type WriteRequest struct {
	Kind string `json:"kind"`
	// Name as in GetRequest.
	Name string `json:"name"`
	// Patch of the whole resource, of type PatchType (default PatchMerge).
	Patch     json.RawMessage `json:"patch"`
	PatchType string          `json:"patchType,omitempty"`
	// UID and ResourceVersion, when set, must be the resource's: Conflict. They may stand in the patch's metadata too.
	UID             types.UID `json:"uid,omitempty"`
	ResourceVersion string    `json:"resourceVersion,omitempty"`
	// Create makes the resource when there is none: a skeleton, with no engine object behind it. Name then is its metadata.name.
	Create bool `json:"create,omitempty"`
	// DryRun goes through all of admission and persists nothing.
	DryRun bool `json:"dryRun,omitempty"`
}

// WriteReply is the resource as stored (or, for a dry run, as it would be).
type WriteReply struct {
	Object  Object `json:"object"`
	Changed bool   `json:"changed"`
	Created bool   `json:"created,omitempty"`
	// Warnings are for people: the write was accepted, and may not do what was meant.
	Warnings []string `json:"warnings,omitempty"`
}

// UnmarshalJSON decodes the object by its kind.
func (r *WriteReply) UnmarshalJSON(data []byte) error {
	type plain WriteReply
	var p struct {
		plain
		Object json.RawMessage `json:"object"`
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	*r = WriteReply(p.plain)
	o, err := DecodeObject(p.Object)
	r.Object = o
	return err
}

// ActionRequest asks a container for one action; the reply is the Container with the receipt, begun, in status.lastAction.
type ActionRequest struct {
	// Name of the container as in GetRequest; UID, when set, must be its.
	Name string    `json:"name"`
	UID  types.UID `json:"uid,omitempty"`
	// Action is one of the Action constants.
	Action string `json:"action"`
	// Grace is how long stop and restart wait before they kill; nil = the engine's default (10 s).
	Grace *metav1.Duration `json:"grace,omitempty"`
}

// TreeRequest asks for the supervision tree.
type TreeRequest struct{}

// TreeNode is one actor of the supervision tree.
type TreeNode struct {
	// Path is the actor's address, e.g. rdd/containers/8eb6….
	Path string `json:"path"`
	// State is one word, Detail more of them.
	State    string            `json:"state,omitempty"`
	Detail   string            `json:"detail,omitempty"`
	Restarts int               `json:"restarts"`
	Last     string            `json:"last,omitempty"`
	LastAt   *metav1.MicroTime `json:"lastAt,omitempty"`
	// Retries are what failed and is tried again, as the actor's own timers have it.
	Retries  []Retry    `json:"retries,omitempty"`
	Children []TreeNode `json:"children,omitempty"`
}

// Retry is something that failed and is tried again.
type Retry struct {
	// What is tried, e.g. "start", "inspect", "remove", "restart".
	What string `json:"what"`
	// Object is the metadata.name of the resource it is for, where an actor owns several.
	Object string `json:"object,omitempty"`
	// Tries so far, all failed.
	Tries int `json:"tries"`
	// Next is when it is tried again.
	Next metav1.MicroTime `json:"next"`
}

// EventsRequest asks for the house's own events after Since (0 = all that are kept).
type EventsRequest struct {
	Since int64 `json:"since,omitempty"`
	// Wait holds the answer for up to 5 s when there is no news.
	Wait bool `json:"wait,omitempty"`
}

// EventsReply has the events, oldest first. Lost > 0: that many older ones are gone (the log is bounded).
type EventsReply struct {
	Events []HouseEvent `json:"events"`
	Next   int64        `json:"next"`
	Lost   int64        `json:"lost,omitempty"`
}

// Types of HouseEvent.
const (
	EventActorFailed    = "ActorFailed"
	EventActorRestarted = "ActorRestarted"
	EventEscalated      = "Escalated"
	EventGaveUp         = "GaveUp"
	EventQuarantined    = "Quarantined"
	EventSessionLost    = "SessionLost"
	EventConnected      = "Connected"
	EventRepaired       = "Repaired"
	EventStreamSuspect  = "StreamSuspect"
	EventMirrorReset    = "MirrorReset"
	EventSuperseded     = "Superseded"
	EventPhase          = "Phase"
)

// HouseEvent is one thing that happened inside rdd: restarts, escalations, repairs, reconnects, with cause.
type HouseEvent struct {
	Seq     int64            `json:"seq"`
	Time    metav1.MicroTime `json:"time"`
	Type    string           `json:"type"`
	Actor   string           `json:"actor,omitempty"`
	Message string           `json:"message,omitempty"`
	Stack   string           `json:"stack,omitempty"`
	// Attempt and Delay of a restart.
	Attempt int              `json:"attempt,omitempty"`
	Delay   *metav1.Duration `json:"delay,omitempty"`
}

// VersionRequest asks who is there.
type VersionRequest struct{}

// VersionReply tells versions and identities.
type VersionReply struct {
	Version      string        `json:"version"`
	WireVersions []int         `json:"wireVersions"`
	Operations   []string      `json:"operations"`
	Instance     string        `json:"instance"`
	Boot         int64         `json:"boot"`
	PID          int           `json:"pid"`
	Engine       *EngineStatus `json:"engine,omitempty"`
	// EngineAPIRange is the range of Docker API versions this rdd speaks.
	EngineAPIRange string `json:"engineAPIRange"`
}

// DebugRequest is a test hook; the daemon takes it only with RDD_TEST_HOOKS=1.
type DebugRequest struct {
	// Actor is the path, e.g. rdd/engine; with #effect only that effect of it, e.g. rdd/containers/8eb6…#inspect.
	Actor string `json:"actor"`
	// Action is "panic" or "delay".
	Action string `json:"action"`
	// Delay of action "delay".
	Delay metav1.Duration `json:"delay,omitempty"`
	// Count is how many messages it hits; 0 = 1, −1 = all.
	Count int `json:"count,omitempty"`
	// NoTrigger leaves it to the next message; otherwise one is sent.
	NoTrigger bool `json:"noTrigger,omitempty"`
}

// DebugReply says what was armed.
type DebugReply struct {
	Armed string `json:"armed"`
}

// ShutdownRequest ends the daemon.
type ShutdownRequest struct {
	// KeepEngine leaves the engine and its containers running; the next daemon adopts it.
	KeepEngine bool `json:"keepEngine,omitempty"`
}

// ShutdownReply is sent before the daemon ends.
type ShutdownReply struct {
	PID int `json:"pid"`
}

// Objects is a list of resources of any kind; its JSON is an array of them.
type Objects []Object

// UnmarshalJSON decodes each element by its kind.
func (l *Objects) UnmarshalJSON(data []byte) error {
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	*l = make(Objects, 0, len(raw))
	for _, r := range raw {
		o, err := DecodeObject(r)
		if err != nil {
			return err
		}
		*l = append(*l, o)
	}
	return nil
}

// UnmarshalJSON decodes the object by its kind.
func (e *WatchEvent) UnmarshalJSON(data []byte) error {
	type plain WatchEvent
	var p struct {
		plain
		Object json.RawMessage `json:"object"`
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return err
	}
	*e = WatchEvent(p.plain)
	if len(p.Object) == 0 || string(p.Object) == "null" {
		return nil
	}
	o, err := DecodeObject(p.Object)
	e.Object = o
	return err
}

// DecodeObject decodes a resource by the kind and apiVersion it names. Error: Invalid.
func DecodeObject(data []byte) (Object, error) {
	var meta metav1.TypeMeta
	if err := json.Unmarshal(data, &meta); err != nil {
		return nil, WrapError(CodeInvalid, "decode", "resource", "", err)
	}
	k, ok := KindByName(meta.Kind)
	if !ok || k.Name != meta.Kind {
		return nil, NewError(CodeInvalid, "decode", "resource", "", fmt.Sprintf("unknown kind %q", meta.Kind))
	}
	if k.APIVersion != meta.APIVersion {
		return nil, NewError(CodeInvalid, "decode", k.Name, "", fmt.Sprintf("unknown apiVersion %q (want %s)", meta.APIVersion, k.APIVersion))
	}
	o := k.New()
	if err := json.Unmarshal(data, o); err != nil {
		return nil, WrapError(CodeInvalid, "decode", k.Name, "", err)
	}
	return o, nil
}

// DeepCopy returns a copy of o of the same type that shares nothing with it.
func DeepCopy[T Object](o T) T { return o.DeepCopyObject().(T) }

package messages

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// API groups and well-known names.
const (
	AppAPIVersion       = "app.rancherdesktop.io/v1alpha1"
	ContainerAPIVersion = "containers.rancherdesktop.io/v1alpha1"

	// AppName is the name of the one App of an instance.
	AppName = "app"
	// DefaultNamespace is the metadata.namespace of every mirrored resource.
	DefaultNamespace = "rancher-desktop"
	// NamespaceMoby is the only container namespace Docker has.
	NamespaceMoby = "moby"
	// Finalizer holds a mirrored resource until its engine object is gone.
	Finalizer = "engine.rancherdesktop.io/docker-mirror"
	// ActionAnnotation asks a container for an action by its value, one of the Action constants. It is consumed when accepted.
	ActionAnnotation = "containers.rancherdesktop.io/action"
)

// Object is any resource: Kubernetes' own object and metadata interfaces, plus its conditions.
type Object interface {
	runtime.Object
	metav1.Object
	// Conditions returns the resource's conditions; the slice belongs to the resource.
	Conditions() []metav1.Condition
	// SetConditions replaces the resource's conditions.
	SetConditions([]metav1.Condition)
}

// App is the desired and the observed state of the whole application. There is one per instance, named "app"; it cannot
// be deleted.
//
// +k8s:deepcopy-gen=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type App struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AppSpec   `json:"spec"`
	Status AppStatus `json:"status,omitempty"`
}

// AppSpec is what the user wants.
//
// +k8s:deepcopy-gen=true
type AppSpec struct {
	// Running says whether VM and engine shall run. Default false.
	Running bool `json:"running"`
	// ContainerEngine chooses the backend inside the VM.
	ContainerEngine ContainerEngineSpec `json:"containerEngine"`
	// Namespace is the metadata.namespace of every mirror. Immutable. Default "rancher-desktop".
	Namespace string `json:"namespace"`
	// VirtualMachine says where the engine lives.
	VirtualMachine VirtualMachineSpec `json:"virtualMachine"`
}

// Engine backends.
const (
	EngineMoby       = "moby"
	EngineContainerd = "containerd"
)

// ContainerEngineSpec chooses the backend.
//
// +k8s:deepcopy-gen=true
type ContainerEngineSpec struct {
	// Name is "moby" (default) or "containerd".
	Name string `json:"name"`
}

// Driver names of AppSpec.VirtualMachine.Driver.
const (
	DriverAuto      = "auto"
	DriverLima      = "lima"
	DriverNative    = "native"
	DriverExternal  = "external"
	DriverSimulated = "simulated"
)

// VirtualMachineSpec says where the engine lives and how large that place is.
//
// +k8s:deepcopy-gen=true
type VirtualMachineSpec struct {
	// Driver is auto (default), lima, native, external or simulated.
	Driver string `json:"driver"`
	// CPUs of the VM; 0 = the driver's default.
	CPUs int32 `json:"cpus,omitempty"`
	// Memory of the VM in MiB; 0 = the driver's default.
	Memory int64 `json:"memory,omitempty"`
	// Disk of the VM in GiB; 0 = the driver's default.
	Disk int64 `json:"disk,omitempty"`
	// Image is the VM's disk image; empty = the driver's default.
	Image string `json:"image,omitempty"`
	// Socket is the engine's socket (driver external): an absolute path or a unix:// or tcp:// address. Empty =
	// DOCKER_HOST, else the current Docker context.
	Socket string `json:"socket,omitempty"`
}

// AppStatus is what is.
//
// +k8s:deepcopy-gen=true
type AppStatus struct {
	// ObservedGeneration is the newest spec generation every part has finished acting on.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Driver is what "auto" resolved to (or the driver asked for).
	Driver string `json:"driver,omitempty"`
	// Endpoint is the engine's address, e.g. unix:///var/run/docker.sock.
	Endpoint string `json:"endpoint,omitempty"`
	// EndpointSource says where the address came from, e.g. "DOCKER_HOST" or "context default".
	EndpointSource string `json:"endpointSource,omitempty"`
	// Engine describes the engine connected to.
	Engine *EngineStatus `json:"engine,omitempty"`
	// LastReset is the last time all mirrors were removed, in this run of the daemon.
	LastReset *MirrorReset `json:"lastReset,omitempty"`
	// ConditionList is the conditions; see the Condition constants.
	ConditionList []metav1.Condition `json:"conditions,omitempty"`
}

// MirrorReset is one removal of all mirrors: the application was stopped, or its engine became another one.
//
// +k8s:deepcopy-gen=true
type MirrorReset struct {
	// Sweep is its number, counted over the life of the instance.
	Sweep int64 `json:"sweep"`
	// Superseded is how many accepted deletions and intents ended undone by it, as Superseded/MirrorReset; rdd events names them.
	Superseded int `json:"superseded"`
}

// EngineStatus describes the engine of the present (or last) session.
//
// +k8s:deepcopy-gen=true
type EngineStatus struct {
	ID         string `json:"id,omitempty"`
	Name       string `json:"name,omitempty"`
	Version    string `json:"version,omitempty"`
	APIVersion string `json:"apiVersion,omitempty"`
	// ClockSkew is engine time − host time at connect, as a Go duration.
	ClockSkew string `json:"clockSkew,omitempty"`
	// Mirrors tells per kind how fresh the mirror is.
	Mirrors []MirrorStatus `json:"mirrors,omitempty"`
}

// MirrorStatus is the freshness of one kind's mirror.
//
// +k8s:deepcopy-gen=true
type MirrorStatus struct {
	Kind string `json:"kind"`
	// Objects is how many engine objects were known at the first pass.
	Objects int `json:"objects"`
	// Repairs counts differences the audit found and healed (mirror_repairs).
	Repairs int64 `json:"repairs"`
	// LastProof is when the mirror was last compared with a whole list of the engine.
	LastProof *metav1.MicroTime `json:"lastProof,omitempty"`
}

// Container states, as Docker names them (status.status).
const (
	ContainerCreated    = "created"
	ContainerRunning    = "running"
	ContainerPaused     = "paused"
	ContainerRestarting = "restarting"
	ContainerRemoving   = "removing"
	ContainerExited     = "exited"
	ContainerDead       = "dead"
)

// Container mirrors one container of the engine. Its name is the container's full id.
//
// +k8s:deepcopy-gen=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Container struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ContainerSpec   `json:"spec"`
	Status ContainerStatus `json:"status,omitempty"`
}

// Values of ContainerSpec.State.
const (
	StateUnknown = "unknown"
	StateRunning = "running"
	// StateCreated: stopped. A container that ran and exited satisfies it too.
	StateCreated = "created"
	StatePaused  = "paused"
)

// Values of ContainerSpec.Policy.
const (
	// PolicyOnce brings the container to spec.state once per change of its value, then lets go.
	PolicyOnce = "Once"
	// PolicyEnforce keeps it there.
	PolicyEnforce = "Enforce"
)

// ContainerStates and ContainerPolicies are the valid values, in the order people are told them.
func ContainerStates() []string {
	return []string{StateUnknown, StateRunning, StateCreated, StatePaused}
}
func ContainerPolicies() []string { return []string{PolicyOnce, PolicyEnforce} }

// ContainerSpec is the user's intent for one container.
//
// +k8s:deepcopy-gen=true
type ContainerSpec struct {
	// State wanted: running, created (stopped; exited satisfies it too) or paused; unknown (at creation) wants nothing.
	State string `json:"state"`
	// Policy is Once (default: brought about once per change of state, then let go) or Enforce (kept so).
	Policy string `json:"policy"`
}

// Actions of a container.
const (
	ActionStart   = "start"
	ActionStop    = "stop"
	ActionPause   = "pause"
	ActionUnpause = "unpause"
	ActionRestart = "restart"
	ActionKill    = "kill"
)

// Actions are all of them, in the order people are told them.
func Actions() []string {
	return []string{ActionStart, ActionStop, ActionPause, ActionUnpause, ActionRestart, ActionKill}
}

// States of ActionReceipt.
const (
	ActionPending    = "Pending" // accepted; not ended yet
	ActionSucceeded  = "Succeeded"
	ActionFailed     = "Failed"
	ActionSuperseded = "Superseded"
)

// ActionReceipt says what became of the newest action.
//
// +k8s:deepcopy-gen=true
type ActionReceipt struct {
	// ID of the action, unique.
	ID string `json:"id"`
	// Action is start, stop, pause, unpause, restart or kill.
	Action string `json:"action"`
	// State is Pending, Succeeded, Failed or Superseded.
	State string `json:"state"`
	// Error says why it Failed or was Superseded.
	Error string `json:"error,omitempty"`
	// Requested is when it was accepted, Observed when the engine was first asked, Completed when it ended (host clock).
	RequestedAt metav1.MicroTime  `json:"requestedAt"`
	ObservedAt  *metav1.MicroTime `json:"observedAt,omitempty"`
	CompletedAt *metav1.MicroTime `json:"completedAt,omitempty"`
}

// ContainerStatus is what the engine says of a container.
//
// +k8s:deepcopy-gen=true
type ContainerStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Name has no leading slash; link aliases are ignored.
	Name      string   `json:"name,omitempty"`
	Namespace string   `json:"namespace,omitempty"`
	Path      string   `json:"path,omitempty"`
	Args      []string `json:"args,omitempty"`
	// Image is the image's id.
	Image string `json:"image,omitempty"`
	// ImageName is the reference the container was created with.
	ImageName string            `json:"imageName,omitempty"`
	Ports     []ContainerPort   `json:"ports,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	// Status is one of the Container* constants.
	Status       string             `json:"status,omitempty"`
	Pid          int                `json:"pid,omitempty"`
	ExitCode     *int               `json:"exitCode,omitempty"`
	Error        string             `json:"error,omitempty"`
	CreatedAt    *metav1.MicroTime  `json:"createdAt,omitempty"`
	StartedAt    *metav1.MicroTime  `json:"startedAt,omitempty"`
	FinishedAt   *metav1.MicroTime  `json:"finishedAt,omitempty"`
	RestartCount int                `json:"restartCount,omitempty"`
	Health       string             `json:"health,omitempty"`
	Mounts       []ContainerMount   `json:"mounts,omitempty"`
	Networks     []ContainerNetwork `json:"networks,omitempty"`
	// LastAction is the receipt of the newest action; absent when there was none.
	LastAction *ActionReceipt `json:"lastAction,omitempty"`
	// ConditionList is the conditions; see the Condition constants.
	ConditionList []metav1.Condition `json:"conditions,omitempty"`
}

// ContainerPort is an exposed port; without bindings it is not published.
//
// +k8s:deepcopy-gen=true
type ContainerPort struct {
	// Name is port/protocol, e.g. "80/tcp".
	Name     string        `json:"name"`
	Bindings []PortBinding `json:"bindings,omitempty"`
}

// PortBinding is where a port is published on the engine's host.
//
// +k8s:deepcopy-gen=true
type PortBinding struct {
	HostIP   string `json:"hostIP"`
	HostPort string `json:"hostPort"`
}

// ContainerMount is one mount of a container.
//
// +k8s:deepcopy-gen=true
type ContainerMount struct {
	Type string `json:"type"`
	// Name is the volume's name (type volume only).
	Name        string `json:"name,omitempty"`
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination"`
	ReadWrite   bool   `json:"readWrite"`
}

// ContainerNetwork is one network a container is connected to.
//
// +k8s:deepcopy-gen=true
type ContainerNetwork struct {
	Name      string `json:"name"`
	NetworkID string `json:"networkID,omitempty"`
	IPAddress string `json:"ipAddress,omitempty"`
}

// Image mirrors one tag of an image, or an image without any (dangling).
//
// +k8s:deepcopy-gen=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Image struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Status ImageStatus `json:"status,omitempty"`
}

// ImageStatus is what the engine says of an image.
//
// +k8s:deepcopy-gen=true
type ImageStatus struct {
	// ID is the image's id, sha256:….
	ID string `json:"id,omitempty"`
	// RepoTag is the reference this resource stands for; empty for a dangling image.
	RepoTag      string            `json:"repoTag,omitempty"`
	RepoDigests  []string          `json:"repoDigests,omitempty"`
	CreatedAt    *metav1.MicroTime `json:"createdAt,omitempty"`
	Architecture string            `json:"architecture,omitempty"`
	OS           string            `json:"os,omitempty"`
	// Size in bytes.
	Size      int64             `json:"size,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Namespace string            `json:"namespace,omitempty"`
	// ConditionList is the conditions; see the Condition constants.
	ConditionList []metav1.Condition `json:"conditions,omitempty"`
}

// Volume mirrors one volume.
//
// +k8s:deepcopy-gen=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Volume struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Status VolumeStatus `json:"status,omitempty"`
}

// VolumeStatus is what the engine says of a volume.
//
// +k8s:deepcopy-gen=true
type VolumeStatus struct {
	Name       string            `json:"name,omitempty"`
	Driver     string            `json:"driver,omitempty"`
	Mountpoint string            `json:"mountpoint,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Scope      string            `json:"scope,omitempty"`
	Options    map[string]string `json:"options,omitempty"`
	// CreatedAt is fixed at first sight of an incarnation: Docker's own value moves.
	CreatedAt *metav1.MicroTime `json:"createdAt,omitempty"`
	Namespace string            `json:"namespace,omitempty"`
	// ConditionList is the conditions; see the Condition constants.
	ConditionList []metav1.Condition `json:"conditions,omitempty"`
}

// ContainerNamespace is the namespace the engine's containers live in; Docker has one, "moby". Deleting it deletes no
// container: it comes back with a new uid.
//
// +k8s:deepcopy-gen=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type ContainerNamespace struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Status ContainerNamespaceStatus `json:"status,omitempty"`
}

// ContainerNamespaceStatus has only conditions.
//
// +k8s:deepcopy-gen=true
type ContainerNamespaceStatus struct {
	// ConditionList is the conditions; see the Condition constants.
	ConditionList []metav1.Condition `json:"conditions,omitempty"`
}

// Conditions implements Object.
func (a *App) Conditions() []metav1.Condition { return a.Status.ConditionList }

// SetConditions implements Object.
func (a *App) SetConditions(c []metav1.Condition) { a.Status.ConditionList = c }

// Conditions implements Object.
func (c *Container) Conditions() []metav1.Condition { return c.Status.ConditionList }

// SetConditions implements Object.
func (c *Container) SetConditions(l []metav1.Condition) { c.Status.ConditionList = l }

// Conditions implements Object.
func (i *Image) Conditions() []metav1.Condition { return i.Status.ConditionList }

// SetConditions implements Object.
func (i *Image) SetConditions(c []metav1.Condition) { i.Status.ConditionList = c }

// Conditions implements Object.
func (v *Volume) Conditions() []metav1.Condition { return v.Status.ConditionList }

// SetConditions implements Object.
func (v *Volume) SetConditions(c []metav1.Condition) { v.Status.ConditionList = c }

// Conditions implements Object.
func (n *ContainerNamespace) Conditions() []metav1.Condition { return n.Status.ConditionList }

// SetConditions implements Object.
func (n *ContainerNamespace) SetConditions(c []metav1.Condition) { n.Status.ConditionList = c }

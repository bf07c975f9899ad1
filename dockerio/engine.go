// Package dockerio is the port to a container engine: the few calls rdd makes, over our own types. Adapters are
// dockerio/moby (a real Docker Engine) and dockerio/sim (one in memory, with faults on script).
//
// Every error is a messages.Error: NotFound (the object is not there), Conflict (in use, name taken), Transient (not reachable,
// deadline, 5xx, undecodable answer) or Permanent (no permission, refused for good). Only the class decides.
//
// Every call takes a context and returns soon after it ends. No method retries.
package dockerio

import (
	"context"
	"time"

	"github.com/rdd-desktop/rdd/messages"
)

// Dialer makes clients of an engine; one client per session, since an engine may be replaced in between.
type Dialer interface {
	// Dial makes a client. It need not connect yet: the first call does.
	// Errors: Permanent for an address that cannot be used.
	Dial(ctx context.Context, at messages.Endpoint) (Engine, error)
}

// Engine is a client of one container engine. Its methods may be called concurrently.
type Engine interface {
	System
	Containers
	Images
	Volumes
}

// System is the engine as a whole.
type System interface {
	// Info identifies the engine and reads its clock. It costs about 20 ms: once per connection.
	Info(ctx context.Context) (Info, error)
	// Ping proves that the engine answers, on a connection of its own.
	Ping(ctx context.Context) error
	// Events subscribes to what happens from since (inclusive, engine clock) on. It returns once the engine has accepted the
	// request; events between since and then are replayed, up to the 256 the engine keeps.
	Events(ctx context.Context, since Time) (Stream, error)
	// Close frees idle connections. Calls in flight go on until their context ends.
	Close() error
}

// Stream is a subscription to events. Its reader must never wait for anything but Next: a slow reader slows the engine down
// and loses events.
type Stream interface {
	// Next blocks until the next event. Any error ends the stream: io.EOF when the engine closed it, the context's error,
	// or what went wrong. Nothing says how much was lost.
	Next() (Event, error)
	// Close ends the stream; Next then returns an error.
	Close() error
}

// Info identifies an engine.
type Info struct {
	// ID is the engine's own, stable over its restarts.
	ID   string
	Name string
	// Version of the engine, APIVersion as negotiated.
	Version    string
	APIVersion string
	// Now is the engine's clock when it answered; zero when it told none that can be read.
	Now Time
}

// Event types (Docker's).
const (
	TypeContainer = "container"
	TypeImage     = "image"
	TypeVolume    = "volume"
	TypeNetwork   = "network"
)

// Event is a hint that something changed; only List and Inspect tell what.
type Event struct {
	// Type is one of the Type constants, or one we do not know.
	Type string
	// Action with what follows a colon cut off: "exec_start", "health_status".
	Action string
	// ID of the object: container id, image id or reference, volume name. Empty for prune.
	ID string
	// Attributes: a container's labels share this namespace with Docker's own keys.
	Attributes map[string]string
	Time       Time
}

// Containers is the engine's containers.
type Containers interface {
	// ListContainers lists all, running or not.
	ListContainers(ctx context.Context) ([]ContainerRow, error)
	// InspectContainer by full id.
	InspectContainer(ctx context.Context, id string) (Container, error)
	// RemoveContainer by full id, running or not (force); its volumes stay.
	RemoveContainer(ctx context.Context, id string) error
	Lifecycle
}

// Lifecycle is what changes whether a container runs; all by full id. Each returns when the engine has done it: a caller gives it the
// time that takes.
type Lifecycle interface {
	// StartContainer does nothing to a running one. Errors: Permanent (it cannot be run), Conflict (it is paused, or half removed).
	StartContainer(ctx context.Context, id string) error
	// StopContainer asks it to end, and kills it after grace (whole seconds, rounded up; 0 = at once). It does nothing to a stopped one,
	// and does not end with ctx: the engine goes on.
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	// RestartContainer is a stop and a start; it starts a stopped one.
	RestartContainer(ctx context.Context, id string, grace time.Duration) error
	// KillContainer ends it without asking. Error: Conflict when it does not run.
	KillContainer(ctx context.Context, id string) error
	// PauseContainer freezes it. Error: Conflict when it does not run, or is paused already.
	PauseContainer(ctx context.Context, id string) error
	// UnpauseContainer thaws it. Error: Conflict when it is not paused.
	UnpauseContainer(ctx context.Context, id string) error
}

// DefaultGrace is how long an engine waits between asking a container to end and killing it, if nobody says otherwise.
const DefaultGrace = 10 * time.Second

// ContainerRow is what a list knows of a container.
type ContainerRow struct {
	ID string
	// Name without slash, link aliases left out.
	Name string
	// ImageName is the reference as listed; the image's id once the tag is gone.
	ImageName string
	ImageID   string
	Labels    map[string]string
	// State is one of messages.Container*.
	State string
	// Health is "", "starting", "healthy" or "unhealthy"; ExitCode is set where the list's text tells it (exited, restarting).
	Health   string
	ExitCode *int
	Created  Time
	Mounts   []messages.ContainerMount
}

// Container is what an inspect knows of a container. Zero times are zero Time.
type Container struct {
	ID            string
	Name          string
	Path          string
	Args          []string
	ImageID       string
	ImageName     string
	Labels        map[string]string
	Ports         []messages.ContainerPort // sorted, exposed ones included
	Mounts        []messages.ContainerMount
	Networks      []messages.ContainerNetwork
	Status        string // one of messages.Container*
	Running       bool
	Paused        bool
	Restarting    bool
	OOMKilled     bool
	Dead          bool
	Pid           int
	ExitCode      int
	Error         string
	Health        string // "" without a health check
	RestartCount  int
	RestartPolicy string // "no", "always", "unless-stopped", "on-failure"
	// StopTimeout is the grace of a stop that names none: the container's own, else the engine's DefaultGrace; negative = without end.
	StopTimeout time.Duration
	Created     Time
	StartedAt   Time
	FinishedAt  Time
}

// Images is the engine's images.
type Images interface {
	// ListImages lists top-level images, dangling ones included.
	ListImages(ctx context.Context) ([]ImageRow, error)
	// InspectImage by id or reference.
	InspectImage(ctx context.Context, ref string) (Image, error)
	// RemoveImage by reference untags it (the last tag removes the image), by id removes the image. Never by force.
	// Error: Conflict (messages.CodeInUse) while a container uses it.
	RemoveImage(ctx context.Context, ref string) error
}

// ImageRow is what a list knows of an image.
type ImageRow struct {
	ID string
	// Tags without "<none>:<none>", sorted; empty for a dangling image.
	Tags []string
	// Digests without "<none>@…", sorted.
	Digests []string
	Created Time
	Size    int64
	Labels  map[string]string
}

// Image is what an inspect adds: for one id it never changes but for its tags.
type Image struct {
	ImageRow
	Architecture string
	OS           string
	// LastTagTime is when the image was last tagged here: with the id it identifies an incarnation. Zero when unknown.
	LastTagTime Time
}

// Volumes is the engine's volumes.
type Volumes interface {
	ListVolumes(ctx context.Context) ([]Volume, error)
	InspectVolume(ctx context.Context, name string) (Volume, error)
	// RemoveVolume without force. Error: Conflict (messages.CodeInUse) while a container uses it.
	RemoveVolume(ctx context.Context, name string) error
}

// Volume is what list and inspect know of a volume.
type Volume struct {
	Name       string
	Driver     string
	Mountpoint string
	Labels     map[string]string
	Scope      string
	Options    map[string]string
	// Created moves when the volume's directory changes: it is no identity.
	Created Time
}

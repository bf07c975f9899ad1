package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// This file is for who serves the engine to others (dockerio/sim/server): calls that suffer the faults, and everything that an
// object is.

// Corruption is an answer, or a piece of the stream of events, that cannot be read.
type Corruption string

// Kinds of Corruption.
const (
	// Garbage is no JSON at all.
	Garbage Corruption = "garbage"
	// Truncated is JSON that ends in the middle.
	Truncated Corruption = "truncated"
)

func (c Corruption) Error() string {
	return "the engine's answer cannot be read: " + string(c) + " JSON"
}

// ErrDown is the cause of the error of a call while the engine is down.
var ErrDown = errors.New("cannot connect to the engine")

// Call makes f a call of the API: it is counted, waits while the engine is frozen, and suffers its faults, before or after f. The
// error is f's, a fault's, or [ErrDown].
func (e *Engine) Call(ctx context.Context, op, name string, mutating bool, f func() error) error {
	human, before := e.arrive(op, name, mutating)
	if err := e.thawed(ctx); err != nil {
		return err
	}
	if err := e.suffer(ctx, before); err != nil {
		return err
	}
	e.mu.Lock()
	after := e.faults.hits(op, name, human, true)
	e.mu.Unlock()
	err := f()
	if failed := e.suffer(ctx, after); failed != nil {
		return failed
	}
	if failed := e.thawed(ctx); failed != nil {
		return failed
	}
	return err
}

// arrive notes a call. human is the name of the container that is called by its id, and before the faults it meets first.
func (e *Engine) arrive(op, name string, mutating bool) (human string, before []*rule) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.count(op, name, mutating)
	if c := e.containers.get(name); c != nil {
		human = c.name
	}
	return human, e.faults.hits(op, name, human, false)
}

// ContainerDetail is everything about a container.
type ContainerDetail struct {
	dockerio.Container
	// ListedImage is the image's name as a list has it: its id once the name is another's.
	ListedImage string
	// Options it was made with.
	Options    ContainerOptions
	MaxRetries int
	// Failures of the health check in a row.
	Failures int
}

func (e *Engine) detail(c *container) ContainerDetail {
	return ContainerDetail{
		Container: e.inspectContainer(c), ListedImage: e.containerRow(c).ImageName, Options: c.options, MaxRetries: c.retries, Failures: c.failures,
	}
}

// Containers is all containers, newest first.
func (e *Engine) Containers() []ContainerDetail {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]ContainerDetail, 0, e.containers.len())
	for c := range e.containers.newest() {
		list = append(list, e.detail(c))
	}
	return list
}

// ContainerByRef finds a container by id, name or a unique prefix of its id.
func (e *Engine) ContainerByRef(ref string) (ContainerDetail, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.findContainer("inspect", ref)
	if err != nil {
		return ContainerDetail{}, err
	}
	return e.detail(c), nil
}

// ImageDetail is everything about an image.
type ImageDetail struct {
	dockerio.Image
	Config ImageConfig
	// Layer it is made of, and Blob that has the layer in a registry; every image has one of its own.
	Layer, Blob string
	// Users are the ids of the containers made from it.
	Users []string
}

func (i *image) detail() ImageDetail {
	return ImageDetail{Image: i.inspect(), Config: i.config, Layer: i.digest("layer"), Blob: i.digest("blob"), Users: idsOf(i.users)}
}

// Images is all images, newest first.
func (e *Engine) Images() []ImageDetail {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]ImageDetail, 0, e.images.len())
	for i := range e.images.newest() {
		list = append(list, i.detail())
	}
	slices.SortStableFunc(list, func(a, b ImageDetail) int { return int(b.Created.Sub(a.Created) / time.Second) })
	return list
}

// ImageByRef finds an image by reference, id or a unique prefix of its id.
func (e *Engine) ImageByRef(ref string) (ImageDetail, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i, _, err := e.findImage("inspect", ref)
	if err != nil {
		return ImageDetail{}, err
	}
	return i.detail(), nil
}

// VolumeDetail is everything about a volume.
type VolumeDetail struct {
	dockerio.Volume
	// Users are the ids of the containers that mount it.
	Users []string
}

// Volumes is all volumes by age.
func (e *Engine) Volumes() []VolumeDetail {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]VolumeDetail, 0, e.volumes.len())
	for v := range e.volumes.all() {
		list = append(list, VolumeDetail{v.inspect(), idsOf(v.users)})
	}
	return list
}

// VolumeByName finds a volume.
func (e *Engine) VolumeByName(name string) (VolumeDetail, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := e.volumes.get(name)
	if v == nil {
		return VolumeDetail{}, noSuchVolume("inspect", name)
	}
	return VolumeDetail{v.inspect(), idsOf(v.users)}, nil
}

// Describe is what Info tells.
func (e *Engine) Describe() dockerio.Info {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.info()
}

// Network is the id of the bridge that containers are connected to.
func (e *Engine) Network() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.network
}

// Refused tells how the HTTP API answers an error; false when it does not: the connection breaks.
func Refused(err error) (*Refusal, bool) {
	var r *Refusal
	if errors.As(err, &r) {
		return r, true
	}
	var ours *messages.Error
	if errors.As(err, &ours) { // a fault's
		return &Refusal{StatusOf(ours.Code), ours.Error()}, true
	}
	return nil, false
}

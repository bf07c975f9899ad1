package sim

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// Options of a simulated engine; the zero value works.
type Options struct {
	// ID of the engine. Default: made from Seed.
	ID string
	// Name of the engine's host. Default "sim".
	Name string
	// Clock is the host's clock. Default time.Now.
	Clock func() time.Time
	// Skew is engine clock − host clock. Default 0; Faults.SkewBy changes it later.
	Skew time.Duration
	// Seed makes the ids: two worlds with the same seed and the same changes have the same ids. Default 0.
	Seed uint64
	// Buffer is how many events the engine keeps for a reader that does not read. Default 1024.
	Buffer int
	// Stall is how long each event waits for a reader whose buffer is full before it is lost; the call that made the event
	// takes that much longer. A real engine: 100 ms. Default 0: lost at once.
	Stall time.Duration
}

// History is how many events the engine keeps for a later subscription.
const History = 256

// tick is the least time between two readings of the engine's clock. Engine times are distinct even where the host's clock
// stands still (testing/synctest), and still distinct in microseconds, as a resource's status shows them.
const tick = time.Microsecond

// Engine is the world: a container engine with its containers, images and volumes.
type Engine struct {
	options Options
	faults  Faults

	mu     sync.Mutex
	id     string
	serial uint64
	last   time.Time // newest reading of the engine's clock
	skew   time.Duration

	down   bool
	frozen bool
	closed bool
	life   chan struct{} // closed and replaced whenever the fields above change
	next   chan struct{} // closed at the next change of the world; nil while nobody waits

	containers table[container]
	names      map[string]*container
	images     table[image]
	tags       map[string]*image
	volumes    table[volume]
	catalogue  map[string]Archive
	network    string
	address    uint32 // of the next container
	port       int    // next host port given away
	populated  int    // names used up by Populate
	pid        int

	history []dockerio.Event
	streams []*stream
	waiting []*overflow // events of the present change that wait for a slow reader
	lost    int

	calls    map[call]int
	mutating []Call
	clients  int
}

// New makes an engine that runs and holds nothing.
func New(options Options) *Engine {
	if options.Name == "" {
		options.Name = "sim"
	}
	if options.Clock == nil {
		options.Clock = time.Now
	}
	if options.Buffer <= 0 {
		options.Buffer = 1024
	}
	e := &Engine{options: options, skew: options.Skew, life: make(chan struct{}), calls: map[call]int{}}
	e.faults.engine = e
	e.reset()
	e.id = options.ID
	if e.id == "" {
		e.id = strings.ToUpper(e.newID("engine")[:24])
	}
	return e
}

// reset empties the engine. Timers of containers that were are told by the containers' absence.
func (e *Engine) reset() {
	for c := range e.containers.all() {
		c.stopTimers()
	}
	e.containers, e.images, e.volumes = table[container]{}, table[image]{}, table[volume]{}
	e.names, e.tags = map[string]*container{}, map[string]*image{}
	if e.catalogue == nil {
		e.catalogue = map[string]Archive{}
	}
	e.network = e.newID("network")
	e.address, e.port, e.pid = 2, 49153, 1000
	e.history = nil
}

// newID makes 64 hexadecimal digits that are used only once.
func (e *Engine) newID(what string) string {
	e.serial++
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], e.options.Seed)
	binary.BigEndian.PutUint64(b[8:], e.serial)
	sum := sha256.Sum256(append(b[:], what...))
	return hex.EncodeToString(sum[:])
}

// now reads the engine's clock.
func (e *Engine) now() time.Time {
	t := e.options.Clock().Add(e.skew).UTC().Round(0)
	if floor := e.last.Add(tick); t.Before(floor) {
		t = floor
	}
	e.last = t
	return t
}

// change makes one change of the world, and lets its events wait for slow readers.
func (e *Engine) change(f func() error) error {
	e.mu.Lock()
	waiting, err := func() ([]*overflow, error) {
		defer e.mu.Unlock()
		err := f()
		waiting := e.waiting
		e.waiting = nil
		e.changed()
		return waiting, err
	}()
	e.stall(waiting)
	return err
}

// changed wakes those who wait for a change. The caller holds the lock.
func (e *Engine) changed() {
	if e.next != nil {
		close(e.next)
		e.next = nil
	}
}

// upcoming is closed at the next change. The caller holds the lock.
func (e *Engine) upcoming() <-chan struct{} {
	if e.next == nil {
		e.next = make(chan struct{})
	}
	return e.next
}

// await waits until ready, which is called under the lock; ErrDown when the engine goes down before.
func (e *Engine) await(ctx context.Context, ready func() bool) error {
	for {
		e.mu.Lock()
		done, down := ready(), e.down
		next := e.upcoming()
		e.mu.Unlock()
		switch {
		case done:
			return nil
		case down:
			return ErrDown
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// after has f change the world in d, unless the engine is closed then.
func (e *Engine) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() {
		_ = e.change(func() error {
			if !e.closed {
				f()
			}
			return nil
		})
	})
}

// Faults is the script of what goes wrong.
func (e *Engine) Faults() *Faults { return &e.faults }

// ID is what Info tells as the engine's id.
func (e *Engine) ID() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.id
}

// Now reads the engine's clock.
func (e *Engine) Now() dockerio.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return dockerio.EngineTime(e.now())
}

func (e *Engine) lifeChanged() {
	close(e.life)
	e.life = make(chan struct{})
	e.changed()
	for _, s := range e.streams {
		s.signal()
	}
}

// Down kills the engine, not its containers: streams end with EngineUnreachable (io.ErrUnexpectedEOF), events not yet read are
// lost, every call is EngineUnreachable. The world can still be changed; such changes leave no event.
func (e *Engine) Down() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down, e.frozen = true, false
	e.history = nil
	e.endStreams(brokenOff())
	e.lifeChanged()
}

// Up starts the engine again: its containers are as they are, its history of events is gone. Containers that waited for their
// restart policy start now.
func (e *Engine) Up() {
	_ = e.change(func() error {
		if !e.down {
			return nil
		}
		e.down = false
		e.history = nil
		for c := range e.containers.all() {
			if c.restarting {
				c.stopTimers()
				e.policyStart(c)
			}
		}
		e.lifeChanged()
		return nil
	})
}

// Freeze stops the engine in its tracks (SIGSTOP): calls hang, streams are silent, nothing is refused. What changes meanwhile
// is told after Thaw.
func (e *Engine) Freeze() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.frozen = !e.down
	e.lifeChanged()
}

// Thaw ends Freeze: calls that still wait are answered.
func (e *Engine) Thaw() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.frozen = false
	e.lifeChanged()
}

// Replace puts another, empty engine in this one's place, at the same address: streams end, calls go to the new one.
func (e *Engine) Replace(newID string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reset()
	e.id = newID
	e.down, e.frozen = false, false
	e.endStreams(brokenOff())
	e.lifeChanged()
}

// Close is Down for ever: timers do nothing any more.
func (e *Engine) Close() {
	e.Down()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for c := range e.containers.all() {
		c.stopTimers()
	}
}

// Snapshot is everything the engine has, each list sorted by id (volumes by name), as the port's inspect calls tell it.
type Snapshot struct {
	Containers []dockerio.Container
	Images     []dockerio.Image
	Volumes    []dockerio.Volume
}

// Snapshot is the truth at this moment, whatever the engine's life and faults. It counts as no call.
func (e *Engine) Snapshot() Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Snapshot{
		Containers: make([]dockerio.Container, 0, e.containers.len()),
		Images:     make([]dockerio.Image, 0, e.images.len()),
		Volumes:    make([]dockerio.Volume, 0, e.volumes.len()),
	}
	for c := range e.containers.all() {
		s.Containers = append(s.Containers, e.inspectContainer(c))
	}
	for i := range e.images.all() {
		s.Images = append(s.Images, i.inspect())
	}
	for v := range e.volumes.all() {
		s.Volumes = append(s.Volumes, v.inspect())
	}
	slices.SortFunc(s.Containers, func(a, b dockerio.Container) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Images, func(a, b dockerio.Image) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Volumes, func(a, b dockerio.Volume) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// Populate adds containers (c000000, ..., all running), images (image-000000:latest, ...) and volumes (volume-000000, ...)
// without events, as if they had always been there. Containers are spread over the images and volumes added. A second call uses
// names of its own.
func (e *Engine) Populate(containers, images, volumes int) error {
	return e.change(func() error {
		if containers > 0 && images == 0 {
			return messages.NewError(messages.CodeInvalid, "populate", "engine", e.options.Name, "no images for the containers")
		}
		now := e.now()
		base := e.populated
		e.populated += max(containers, images, volumes)
		var madeImages []*image
		var madeVolumes []*volume
		for n := range images {
			i := e.newImage(now)
			i.lastTag = now
			e.setTag(i, fmt.Sprintf("image-%06d:latest", base+n))
			madeImages = append(madeImages, i)
		}
		for n := range volumes {
			v := &volume{name: fmt.Sprintf("volume-%06d", base+n), created: now}
			e.volumes.put(v.name, v)
			madeVolumes = append(madeVolumes, v)
		}
		for n := range containers {
			i := madeImages[n%len(madeImages)]
			c := &container{
				id: e.newID("container"), name: fmt.Sprintf("c%06d", base+n), image: i, imageName: i.tags[0],
				path: "sleep", args: populateArgs, policy: "no", created: now, program: populateProgram, stopSignal: sigTerm,
				running: true, connected: true, started: now, since: e.options.Clock(),
			}
			if _, taken := e.names[c.name]; taken {
				return e.nameTaken("populate", c.name)
			}
			e.pid++
			e.address++
			c.pid, c.address = e.pid, e.address
			if len(madeVolumes) > 0 {
				v := madeVolumes[n%len(madeVolumes)]
				c.mounts = []mount{{volume: v, destination: "/data", writable: true}}
				v.use(c)
			}
			i.use(c)
			e.names[c.name] = c
			e.containers.put(c.id, c)
		}
		return nil
	})
}

var (
	populateArgs    = []string{"1000000"}
	populateProgram = ContainerOptions{}.program()
)

// filled makes nil of an empty slice, as the port's other adapter does.
func filled[S ~[]E, E any](s S) S {
	if len(s) == 0 {
		return nil
	}
	return slices.Clone(s)
}

// filledMap makes nil of an empty map.
func filledMap[M ~map[K]V, K comparable, V any](m M) M {
	if len(m) == 0 {
		return nil
	}
	return maps.Clone(m)
}

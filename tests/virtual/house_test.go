package virtual

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// options of a house under test.
type options struct {
	seed   uint64
	seeded bool
	// audit and heartbeat are the watcher's periods; 0 = its defaults.
	audit, heartbeat time.Duration
	// change prepares port and lab before the start.
	change func(*port, *kit.Lab)
	// machine is a driver that starts, stops and crashes instead of one whose VM is always there; nothing is asked of the house yet.
	machine bool
}

// house is the whole tree on an engine in memory, in virtual time.
type house struct {
	t     testing.TB
	order order
	rng   *rand.Rand // of what is done to it
	world *sim.Engine
	port  *port
	// machine is the driver, if it is one that can stop.
	machine *machine
	rdd     *supervisor.Rdd
	client  *supervisor.Client
	began   time.Time

	watches []*replay
	// said is what watchers and the house's own events told: what two runs of a seed have in common. Only the last of it is kept,
	// unless all is.
	said   []word
	all    bool
	events int64
	uids   *identities
	// asked are the deletions that rdd was asked for and that are not done, by uid.
	asked map[types.UID]wish
	// intended are the calls that wishes and actions allow, by container.
	intended map[string][]string
	// calls are those that changed the engine, counted.
	calls map[string]int
	// told is what is printed when a check fails: what was done and when.
	told []string
	// hunting: a check that fails is what the test wants.
	hunting bool
}

// in runs test in a bubble of virtual time with a house that runs.
func in(t *testing.T, o options, test func(t *testing.T, h *house)) {
	synctest.Test(t, func(t *testing.T) {
		h := &house{t: t, rng: rand.New(rand.NewPCG(o.seed, 0)), began: time.Now(), uids: newIdentities(), asked: map[types.UID]wish{},
			intended: map[string][]string{}, calls: map[string]int{}}
		h.order = free{}
		if o.seeded {
			h.order = newSeeded(o.seed)
		}
		h.world = sim.New(sim.Options{Seed: o.seed})
		h.tap()
		h.port = &port{Dialer: h.world.Dialer()}
		lab := h.order.lab()
		if o.change != nil {
			o.change(h.port, lab)
		}
		defer h.stop()
		var driver vmdriver.Driver = Place{h.world}
		if o.machine {
			h.machine = newMachine(h.world)
			driver = h.machine
		}
		h.start(lab, supervisor.Intervals{Audit: o.audit, Heartbeat: o.heartbeat}, driver)
		if !o.machine {
			h.set("running=true", "virtualMachine.driver=external")
		}
		test(t, h)
	})
}

func (h *house) start(lab *kit.Lab, intervals supervisor.Intervals, driver vmdriver.Driver) {
	if _, err := h.world.Import("busybox:latest", ""); err != nil {
		h.t.Fatal(err)
	}
	h.order.do(func() {
		var err error
		h.rdd, err = supervisor.Start(kit.WithLab(h.t.Context(), lab), supervisor.Config{
			TestHooks: true, Dialer: h.port, Drivers: map[string]vmdriver.Driver{messages.DriverExternal: driver},
			Intervals: intervals,
		})
		if err != nil {
			h.t.Error(err)
		}
	})
	if h.rdd == nil {
		h.t.FailNow()
	}
	h.client = h.rdd.Client()
	h.watch()
}

// tap follows what the engine tells. It is taken back with the faults, and is to be set again.
func (h *house) tap() {
	h.world.Faults().DropEvents(func(e dockerio.Event) bool {
		h.uids.watched(e)
		return false
	})
}

// stop ends it; what does not end is a deadlock that synctest reports.
func (h *house) stop() {
	h.world.Faults().Clear()
	h.world.Thaw()
	if h.rdd != nil {
		h.order.do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := h.rdd.Stop(ctx); err != nil {
				h.t.Error(err)
			}
		})
	}
	h.world.Close()
	h.order.pass(time.Second)
}

// fatal ends the test with what was done so far.
func (h *house) fatal(format string, args ...any) {
	h.t.Helper()
	if h.hunting {
		panic(broken{fmt.Sprintf(format, args...)})
	}
	from := max(0, len(h.told)-40)
	h.t.Fatalf("after %s: %s\n\nthe last steps:\n%s", time.Since(h.began), fmt.Sprintf(format, args...), strings.Join(h.told[from:], "\n"))
}

func (h *house) tell(format string, args ...any) {
	h.told = append(h.told, fmt.Sprintf("%12s  ", time.Since(h.began).Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

func (h *house) pass(d time.Duration) { h.order.pass(d) }

func (h *house) set(assignments ...string) {
	h.t.Helper()
	patch, err := messages.ParseAssignments(assignments)
	if err != nil {
		h.t.Fatal(err)
	}
	h.order.do(func() {
		if _, err := h.client.Set(context.Background(), messages.SetRequest{Patch: patch}); err != nil {
			h.tell("set %v: %v", assignments, err)
		}
	})
}

// delete asks rdd to delete a resource; what it answers is the world's own business.
func (h *house) delete(kind, name string) (err error) {
	h.order.do(func() { err = h.erase(context.Background(), messages.DeleteRequest{Kind: kind, Name: name}) })
	return err
}

func (h *house) debug(actor string) {
	h.order.do(func() {
		_, err := h.client.Debug(context.Background(), messages.DebugRequest{Actor: actor, Action: "panic"})
		if err != nil {
			h.t.Error(err)
		}
	})
}

func (h *house) list(kind string) messages.Objects {
	l, err := h.client.List(context.Background(), kind, supervisor.ListOptions{})
	if err != nil {
		h.fatal("list %s: %v", kind, err)
	}
	return l.Items
}

func (h *house) app() *messages.App { return h.list(messages.KindApp)[0].(*messages.App) }

// newEvents are the house's own since the last call.
func (h *house) newEvents() []messages.HouseEvent {
	r, err := h.client.Events(context.Background(), messages.EventsRequest{Since: h.events})
	if err != nil {
		h.fatal("events: %v", err)
	}
	h.events = r.Next
	for _, e := range r.Events {
		h.say(word{event: e})
	}
	return r.Events
}

// word is one line of what was said: a change that watchers were told, or an event of the house.
type word struct {
	change *messages.WatchEvent
	event  messages.HouseEvent
}

// String leaves out what is another in each run: uids and stacks.
func (w word) String() string {
	if w.change == nil {
		e := w.event
		return fmt.Sprintf("%s %s %s %s %d", e.Time.Format(time.RFC3339Nano), e.Type, e.Actor, e.Message, e.Attempt)
	}
	o := messages.DeepCopy(w.change.Object)
	o.SetUID("")
	text, err := json.Marshal(o)
	return fmt.Sprintf("%s %s %s %v", w.change.Type, w.change.Version, text, err)
}

func (h *house) say(w word) {
	const most = 1000
	if len(h.said) >= 2*most && !h.all {
		h.said = slices.Clone(h.said[most:])
	}
	h.said = append(h.said, w)
}

// lastWords are those that are not the App's own progress.
func (h *house) lastWords(n int) string {
	lines := []string{}
	for _, w := range slices.Backward(h.said) {
		if _, app := (any)(w.object()).(*messages.App); !app && len(lines) < n {
			line := w.String()
			lines = append(lines, line[:min(len(line), 500)])
		}
	}
	slices.Reverse(lines)
	return strings.Join(lines, "\n")
}

func (w word) object() messages.Object {
	if w.change == nil {
		return nil
	}
	return w.change.Object
}

// replay is one watcher's view: what it was told, put together.
type replay struct {
	kind  string
	w     *supervisor.Watch
	has   map[string]messages.Object
	newer string
}

func (h *house) watch() {
	for _, k := range messages.Kinds() {
		w, err := h.client.Watch(context.Background(), k.Name, supervisor.WatchOptions{})
		if err != nil {
			h.fatal("watch %s: %v", k.Name, err)
		}
		h.watches = append(h.watches, &replay{kind: k.Name, w: w, has: map[string]messages.Object{}})
	}
}

// drain takes what there is, and checks that each change fits the ones before.
func (h *house) drain(r *replay) error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		e, err := r.w.Next(ended)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch %s: %w", r.kind, err)
		}
		if e.Type == messages.Bookmark {
			continue
		}
		if err := r.take(e); err != nil {
			return err
		}
		h.say(word{change: &e})
	}
}

func (r *replay) take(e messages.WatchEvent) error {
	name := e.Object.GetName()
	what := fmt.Sprintf("%s of %s %s at version %s", e.Type, r.kind, name, e.Version)
	old := r.has[name]
	switch {
	case !before(r.newer, e.Version):
		return fmt.Errorf("%s, after %s", what, r.newer)
	case e.Type == messages.Added && old != nil:
		return fmt.Errorf("%s, which was there", what)
	case e.Type != messages.Added && old == nil:
		return fmt.Errorf("%s, which was not there", what)
	case e.Type == messages.Modified && old.GetUID() != e.Object.GetUID():
		return fmt.Errorf("%s: another uid", what)
	case e.Type == messages.Modified && old.GetGeneration() > e.Object.GetGeneration():
		return fmt.Errorf("%s: generation %d after %d", what, e.Object.GetGeneration(), old.GetGeneration())
	case e.Type == messages.Modified && !before(old.GetResourceVersion(), e.Object.GetResourceVersion()):
		return fmt.Errorf("%s: resource version %s after %s", what, e.Object.GetResourceVersion(), old.GetResourceVersion())
	}
	r.newer = e.Version
	if e.Type == messages.Deleted {
		delete(r.has, name)
	} else {
		r.has[name] = e.Object
	}
	return nil
}

// before compares versions, which are decimal.
func before(a, b string) bool { return len(a) < len(b) || len(a) == len(b) && a < b }

// same compares a watcher's view with the list.
func (r *replay) same(items messages.Objects) error {
	if len(items) != len(r.has) {
		return fmt.Errorf("a watcher of %s has %d, the list %d", r.kind, len(r.has), len(items))
	}
	for _, o := range items {
		mine := r.has[o.GetName()]
		if mine == nil || mine.GetResourceVersion() != o.GetResourceVersion() || mine.GetUID() != o.GetUID() {
			return fmt.Errorf("a watcher of %s has another %s than the list", r.kind, o.GetName())
		}
	}
	return nil
}

// goroutines of this bubble.
func goroutines() int {
	stacks := make([]byte, 1<<20)
	for {
		n := runtime.Stack(stacks, true)
		if n < len(stacks) {
			stacks = stacks[:n]
			break
		}
		stacks = make([]byte, 2*len(stacks))
	}
	_, mine, _ := bytes.Cut(stacks[:bytes.IndexByte(stacks, '\n')], []byte("synctest bubble "))
	bubble := append([]byte("synctest bubble "), bytes.TrimRight(mine, "]:")...)
	return bytes.Count(stacks, append(bubble, ']')) + bytes.Count(stacks, append(bubble, ','))
}

// Package vm is the actor that brings one VM to the state the app desires: desired × observed, one driver call at a time.
// vm_fsm.go decides, vm.go acts.
package vm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// Deadlines of driver calls.
const (
	inspectTimeout = 10 * time.Second
	startTimeout   = 10 * time.Minute
	stopTimeout    = 2 * time.Minute
	// strayTimeout bounds the look at one driver that is not the desired one.
	strayTimeout = 2 * time.Second
	// watchAgain is the pause before a Watch that ended is begun anew.
	watchAgain = 5 * time.Second
)

// Deps of the actor.
type Deps struct {
	// Drivers by name. A desired driver that is not here cannot start.
	Drivers map[string]vmdriver.Driver
}

// New makes the producer of the actor at control.VM, child of the root.
//
// It takes control.VMDesire (from app), control.EngineReport (from engine), control.Hello (answered with a control.VMReport once
// something is known), and its own results. It sends control.VMReport to app and engine whenever it changes.
//
// A restart loses everything and no more: the first act is Hello to app and engine, the second is to inspect, which adopts a VM
// that runs. The lane of driver calls is outside of the actor: a new incarnation's first call waits for the end of the old
// one's last.
func New(deps Deps) func() kit.Actor {
	capabilities := map[string]vmdriver.Capabilities{}
	for name, d := range deps.Drivers {
		capabilities[name] = d.Capabilities()
	}
	lane := make(chan struct{}, 1)
	return func() kit.Actor {
		return &vmActor{drivers: deps.Drivers, lane: lane, s: newState(capabilities), timers: map[timer]func(){}}
	}
}

type vmActor struct {
	drivers map[string]vmdriver.Driver
	lane    chan struct{}
	s       state
	timers  map[timer]func()
	// abort ends the start in flight.
	abort context.CancelFunc
	// unwatch ends the Watch of watching; watchID tells it from earlier ones.
	unwatch  chan struct{}
	watching string
	watchID  uint64
}

// Messages to self beside the events.
type (
	watchSaw struct {
		id  uint64
		saw watched
	}
	watchEnded struct {
		id  uint64
		err error
	}
	watchDue struct{ id uint64 }
)

// Receive implements kit.Actor.
func (a *vmActor) Receive(c *kit.Context, msg any) {
	switch m := msg.(type) {
	case *actor.Started:
		c.Label(string(a.s.phase()), "")
		c.Tell(control.App, control.Hello{From: control.VM})
		c.Tell(control.Engine, control.Hello{From: control.VM})
	case *actor.Stopping, *actor.Restarting:
		a.close()
	case control.Hello:
		if r, ok := a.s.report(); ok && m.From != "" {
			c.Tell(m.From, r)
		}
	case control.VMDesire:
		a.do(c, desired{m})
	case control.EngineReport:
		a.do(c, engineReported{quiesced: m.Quiesced, busy: m.Busy, ready: m.Ready == "True", reason: m.Reason})
	case inspected, started, stopped, timerFired:
		a.do(c, m)
	case watchSaw:
		if m.id == a.watchID {
			a.do(c, m.saw)
		}
	case watchEnded:
		if m.id == a.watchID {
			c.House.Log.Warn("watch of the VM ended", "driver", a.watching, "error", m.err, "again", watchAgain)
			c.After(watchAgain, watchDue{m.id})
		}
	case watchDue:
		if m.id == a.watchID {
			a.watch(c, a.watching)
		}
	}
}

func (a *vmActor) do(c *kit.Context, ev event) {
	was := a.s
	next, effects := a.s.apply(ev)
	a.s = next
	if was.retry != 0 && next.retry == 0 {
		c.NotRetrying("")
	}
	a.logTransition(c, was, ev)
	for _, e := range effects {
		a.perform(c, e)
	}
}

func (a *vmActor) logTransition(c *kit.Context, was state, ev event) {
	from, to := was.phase(), a.s.phase()
	r, _ := a.s.report()
	c.Label(string(to), a.label(r))
	if from == to {
		return
	}
	c.House.Log.Info("vm "+string(to), "from", string(from), "event", fmt.Sprintf("%T", ev), "driver", a.s.driver, "message", r.Message)
	c.House.Events.Add(messages.HouseEvent{
		Type: messages.EventPhase, Actor: control.VM, Message: strings.TrimSuffix(fmt.Sprintf("%s → %s: %s", from, to, r.Message), ": "),
	})
}

func (a *vmActor) label(r control.VMReport) string {
	switch {
	case r.Endpoint != nil:
		return a.s.driver + " " + r.Endpoint.Host
	case a.s.failures > 0:
		return a.s.driver + " " + r.Message
	}
	return a.s.driver
}

func (a *vmActor) perform(c *kit.Context, e effect) {
	switch e := e.(type) {
	case inspect:
		a.inspect(c, e)
	case start:
		a.start(c, e)
	case stop:
		a.stop(c, e)
	case abort:
		if a.abort != nil {
			a.abort()
		}
	case watch:
		a.watch(c, e.driver)
	case schedule:
		a.cancel(e.timer)
		delay := jittered(c, e)
		a.timers[e.timer] = c.After(delay, timerFired{e.timer, e.id})
		if e.timer == timerRetry {
			what, tries := a.s.retried()
			c.Retrying("", what, tries, delay)
		}
	case cancel:
		a.cancel(e.timer)
	case report:
		c.Tell(control.App, e.r)
		c.Tell(control.Engine, e.r)
	}
}

// jittered spreads a retry over the upper half of its delay.
func jittered(c *kit.Context, e schedule) time.Duration {
	if e.timer != timerRetry {
		return e.delay
	}
	return e.delay/2 + time.Duration(c.House.Jitter()*float64(e.delay/2))
}

func (a *vmActor) cancel(t timer) {
	if stop := a.timers[t]; stop != nil {
		stop()
	}
	delete(a.timers, t)
}

func (a *vmActor) close() {
	for t := range a.timers {
		a.cancel(t)
	}
	if a.abort != nil {
		a.abort()
	}
	if a.unwatch != nil {
		close(a.unwatch)
		a.unwatch = nil
	}
}

// call runs work, which calls the driver, in the lane.
func (a *vmActor) call(c *kit.Context, name string, timeout time.Duration, work func(ctx context.Context) any, late func(err error) any) {
	lane := a.lane
	c.Run(name, timeout, func(ctx context.Context) any {
		select {
		case lane <- struct{}{}:
			defer func() { <-lane }()
		case <-ctx.Done():
			return late(fmt.Errorf("an earlier call of the driver has not returned: %w", ctx.Err()))
		}
		return work(ctx)
	})
}

func (a *vmActor) inspect(c *kit.Context, e inspect) {
	d := a.drivers[e.driver]
	others := map[string]vmdriver.Driver{}
	if e.strays {
		for name, other := range a.drivers {
			if name != e.driver && other.Capabilities().OwnsEngine {
				others[name] = other
			}
		}
	}
	log := c.House.Log
	failed := func(err error) any {
		return inspected{driver: e.driver, failed: failureOf("inspect", e.driver, err)}
	}
	a.call(c, "inspect", inspectTimeout, func(ctx context.Context) any {
		ev := inspected{driver: e.driver, seen: vmdriver.Observation{Phase: vmdriver.Absent}}
		if d != nil {
			obs, err := d.Inspect(ctx, e.spec)
			if err != nil {
				return failed(err)
			}
			ev.seen = obs
			if obs.Phase == vmdriver.Running {
				endpoint, err := d.Endpoint(ctx, e.spec)
				if err != nil {
					return failed(err)
				}
				ev.endpoint = &endpoint
			}
		}
		ev.strays = strays(ctx, log, others, e.spec)
		return ev
	}, failed)
}

// strays finds drivers whose VM runs, or half runs, although another one is desired: the daemon ended between the change and its execution.
func strays(ctx context.Context, log *slog.Logger, others map[string]vmdriver.Driver, spec vmdriver.Spec) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(others)) {
		ctx, cancel := context.WithTimeout(ctx, strayTimeout)
		obs, err := others[name].Inspect(ctx, spec)
		cancel()
		switch {
		case err != nil: // it is not the one we are asked for: what cannot be inspected here is not left running here
			log.Debug("inspect of another driver failed", "driver", name, "error", err)
		case obs.Phase == vmdriver.Running, obs.Phase == vmdriver.Broken:
			out = append(out, name)
		}
	}
	return out
}

func (a *vmActor) start(c *kit.Context, e start) {
	d := a.drivers[e.driver]
	wanted, abort := context.WithCancel(context.Background())
	a.abort = abort
	failed := func(err error) any {
		return started{driver: e.driver, spec: e.spec, failed: failureOf("start", e.driver, err)}
	}
	a.call(c, "start", startTimeout, func(ctx context.Context) any {
		if d == nil {
			return failed(messages.NewError(messages.CodeInvalid, "", "", "", "there is no such driver in this build"))
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(wanted, cancel)()
		err := d.Create(ctx, e.spec)
		if err == nil {
			err = d.Start(ctx, e.spec)
		}
		if err != nil {
			return failed(err)
		}
		endpoint, err := d.Endpoint(ctx, e.spec)
		if err != nil {
			return failed(err)
		}
		return started{driver: e.driver, spec: e.spec, endpoint: &endpoint}
	}, failed)
}

func (a *vmActor) stop(c *kit.Context, e stop) {
	d := a.drivers[e.driver]
	failed := func(err error) any { return stopped{driver: e.driver, failed: failureOf("stop", e.driver, err)} }
	a.call(c, "stop", stopTimeout, func(ctx context.Context) any {
		if d != nil {
			if err := d.Stop(ctx, e.force); err != nil {
				return failed(err)
			}
		}
		return stopped{driver: e.driver}
	}, failed)
}

// watch listens to the driver's Watch instead of to the one before.
func (a *vmActor) watch(c *kit.Context, driver string) {
	if a.unwatch != nil {
		close(a.unwatch)
		a.unwatch = nil
	}
	a.watchID, a.watching = c.Token(), driver
	d := a.drivers[driver]
	if d == nil {
		return
	}
	unwatch, id := make(chan struct{}), a.watchID
	a.unwatch = unwatch
	c.RunTelling("watch", 0, func(ctx context.Context, tell func(msg any)) any {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		seen, err := d.Watch(ctx)
		if err != nil {
			return watchEnded{id, err}
		}
		for {
			select {
			case obs, ok := <-seen:
				if !ok {
					return watchEnded{id, errors.New("the driver closed it")}
				}
				tell(watchSaw{id, watched{driver, obs.Phase}})
			case <-unwatch:
				return watchEnded{id, nil}
			case <-ctx.Done():
				return watchEnded{id, ctx.Err()}
			}
		}
	})
}

// failureOf is what the error decides; its text says what was tried on what.
func failureOf(verb, driver string, err error) *failure {
	text := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		text = "no answer in time: " + text
	}
	if e := (*messages.Error)(nil); !errors.As(err, &e) || e.Verb == "" {
		text = fmt.Sprintf("%s vm %q: %s", verb, driver, text)
	}
	return &failure{permanent: messages.ClassOf(err) == messages.ClassPermanent, text: text}
}

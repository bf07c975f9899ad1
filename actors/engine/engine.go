// Package engine is the watcher: it keeps a session with the container engine, and tells the kinds' supervisors what may have
// changed. It mirrors nothing itself, so that it may die at any time without a resource blinking.
package engine

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/calls"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/mirror"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

const (
	// skewLimit is the difference of the clocks from which on ClockSynced is False.
	skewLimit = 2 * time.Second
	// unreachableAfter is how long a lost engine shows only in the App; then every mirror says so.
	unreachableAfter = 30 * time.Second
	// quiesceLimit is how long calls that change the engine may still run before it is stopped; then they are left to the journal.
	quiesceLimit = 2 * time.Second
	// commitAgain is when a commit without an answer is sent again.
	commitAgain = 2 * time.Second
)

// families are the supervisors of the mirrored kinds.
var families = map[string]string{
	messages.KindContainer: control.Containers, messages.KindImage: control.Images, messages.KindVolume: control.Volumes,
}

// Deps of the watcher.
type Deps struct {
	Dialer dockerio.Dialer
	Calls  *calls.Scheduler
	Table  *store.Table
	// Now is the host's clock. Default time.Now.
	Now func() time.Time
	// Audit is the period of the comparison with whole lists. Default 60 s.
	Audit time.Duration
	// Heartbeat is the period of pings. Default 10 s.
	Heartbeat time.Duration
}

// New makes rdd/engine.
func New(d *Deps) func() kit.Actor {
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Audit <= 0 {
		d.Audit = time.Minute
	}
	if d.Heartbeat <= 0 {
		d.Heartbeat = 10 * time.Second
	}
	return func() kit.Actor { return &watcher{deps: d, progress: map[string]mirror.Progress{}} }
}

// watcher is the actor.
//
//	address   rdd/engine
//	parent    root
//	messages  EngineDesire from app, VMReport from vm, Hello; sessionUp; Progress, Repaired, Swept from the supervisors
//	restart   ends the session; asks journal, app and vm for their present state, then connects anew
type watcher struct {
	deps     *Deps
	s        state
	told     control.EngineReport
	progress map[string]mirror.Progress
	commit   uint64
	ops      []journal.Op
	sweepOps bool
	// epoch of the newest session that subscribed.
	epoch uint64
	// lostSince cancels the timer of unreachableAfter.
	cancelLost func()
	engine     *messages.EngineStatus
	clock      metav1.Condition
}

type (
	commitOverdue struct{ token uint64 }
	lostForLong   struct{}
)

// Receive implements kit.Actor.
func (w *watcher) Receive(c *kit.Context, msg any) {
	switch m := msg.(type) {
	case *actor.Started:
		w.load(c)
		w.label(c)
	case journal.Loaded:
		w.loadedMeta(c, m)
	case control.EngineDesire:
		w.told = control.EngineReport{} // it is answered, also with nothing new
		w.do(c, desired{D: m})
	case control.VMReport:
		w.do(c, vmReported{R: m})
	case control.Hello:
		w.hello(c, m.From)
	case sessionUp:
		w.up(c, m)
	case mirror.Progress:
		w.progressed(c, m)
	case mirror.Repaired:
		if w.s.Up != nil && m.Epoch == w.s.Up.Epoch {
			c.TellChild("session", suspect{what: m.Kind + " " + m.What})
		}
	case mirror.Swept:
		w.do(c, kindSwept{Kind: m.Kind, Superseded: m.Superseded})
	case quiesced:
		w.do(c, m)
	case kit.ChildFailed:
		w.do(c, sessionLost{Why: m.Failure.Error(), Permanent: !m.Failure.Counted && messages.ClassOf(m.Failure) == messages.ClassPermanent})
	case kit.ChildTerminated:
		w.startWaiting(c)
	case journal.Committed:
		w.committed(c, m)
	case commitOverdue:
		if m.token == w.commit {
			w.send(c)
		}
	case lostForLong:
		for _, path := range families {
			c.Tell(path, mirror.Unreachable{})
		}
	}
}

func (w *watcher) load(c *kit.Context) {
	w.commit = c.Token()
	c.Tell(control.Journal, journal.Load{Token: w.commit, Bucket: journal.BucketMeta})
	c.After(commitAgain, commitOverdue{token: w.commit})
}

func (w *watcher) loadedMeta(c *kit.Context, m journal.Loaded) {
	if m.Token != w.commit {
		return
	}
	meta, err := journal.DecodeMeta(m.Entries)
	if m.Err != nil || err != nil {
		panic(fmt.Errorf("load meta: %v, %w", m.Err, err))
	}
	w.commit = 0
	mirrored := false
	for _, k := range sweptKinds {
		mirrored = mirrored || w.deps.Table.Load().Count(k) > 0
	}
	w.do(c, loaded{EngineID: meta.EngineID, Sweep: meta.Sweep, Mirrored: mirrored || meta.EngineID != ""})
	c.Tell(control.App, control.Hello{From: control.Engine})
	c.Tell(control.VM, control.Hello{From: control.Engine})
}

// do is the heart: apply, log, perform, tell.
func (w *watcher) do(c *kit.Context, e event) {
	was := w.s.Phase
	next, effects := w.s.apply(e)
	w.s = next
	if was != next.Phase {
		c.House.Events.Add(messages.HouseEvent{Type: messages.EventPhase, Actor: c.Path(),
			Message: fmt.Sprintf("%s → %s %s", was, next.Phase, next.Failure)})
	}
	for _, eff := range effects {
		w.perform(c, eff)
	}
	w.tell(c)
	w.label(c)
}

func (w *watcher) perform(c *kit.Context, eff effect) {
	switch eff := eff.(type) {
	case startSession:
		w.startSession(c, eff.Endpoint)
	case stopSession:
		c.StopChild("session")
		calls, stop := w.deps.Calls, eff.Stop
		c.Run("quiesce", quiesceLimit, func(ctx context.Context) any {
			calls.Quiet(ctx)
			return quiesced{Stop: stop}
		})
	case sayStopping:
		w.cancelUnreachable()
		for _, path := range families {
			c.Tell(path, mirror.Unreachable{Stopping: true})
		}
	case storeSweep:
		w.store(c, journal.SweepOps(eff.Sweep, eff.EngineID), true)
	case storeEngine:
		w.store(c, []journal.Op{journal.PutEngineID(eff.EngineID)}, false)
	case sweepMirrors:
		c.House.Events.Add(messages.HouseEvent{Type: messages.EventMirrorReset, Actor: c.Path(), Message: "the mirrors are removed; the engine is left alone"})
		for _, path := range families {
			c.Tell(path, mirror.Sweep{})
		}
		c.Tell(control.Moby, mirror.Mirroring{})
	case announce:
		w.announce(c)
	case sayLost:
		w.lost(c)
	case tellReady:
		c.House.Events.Add(messages.HouseEvent{Type: messages.EventConnected, Actor: c.Path(), Message: w.summary()})
	}
}

// startSession starts the session's actor; while the one before is still ending, it waits for that.
func (w *watcher) startSession(c *kit.Context, at messages.Endpoint) {
	c.StartChild(c.Template("session"), "session", newSession(w.deps, at))
}

// startWaiting: the session's actor has ended. If one is wanted, now is the time.
func (w *watcher) startWaiting(c *kit.Context) {
	if w.s.Session && w.s.VM.Endpoint != nil {
		w.startSession(c, *w.s.VM.Endpoint)
	}
}

func (w *watcher) up(c *kit.Context, m sessionUp) {
	if !w.s.Session || m.Epoch < w.epoch {
		return
	}
	w.cancelUnreachable()
	w.epoch = m.Epoch
	w.engine = &messages.EngineStatus{ID: m.Info.ID, Name: m.Info.Name, Version: m.Info.Version,
		APIVersion: m.Info.APIVersion, ClockSkew: m.Skew.Round(time.Millisecond).String()}
	w.clock = metav1.Condition{Type: messages.ConditionClockSynced, Status: metav1.ConditionTrue, Reason: messages.ReasonInSync}
	if m.Skew.Abs() > skewLimit {
		w.clock.Status, w.clock.Reason = metav1.ConditionFalse, messages.ReasonSkewed
		w.clock.Message = fmt.Sprintf("the engine's clock is %s off the host's", m.Skew.Round(time.Millisecond))
	}
	clear(w.progress)
	w.do(c, subscribed{Up: m})
}

// session is what supervisors and namespace are told of the present one.
func (w *watcher) session() mirror.Session {
	return mirror.Session{Epoch: w.s.Up.Epoch, EngineID: w.s.EngineID, Sweep: w.s.Sweep, Namespace: w.s.Desire.Namespace}
}

func (w *watcher) announce(c *kit.Context) {
	for _, path := range families {
		c.Tell(path, w.session())
	}
	c.Tell(control.Moby, mirror.Mirroring{On: true, Session: w.session()})
}

func (w *watcher) lost(c *kit.Context) {
	w.cancelUnreachable()
	w.cancelLost = c.After(unreachableAfter, lostForLong{})
	for _, path := range families {
		c.Tell(path, mirror.SessionEnded{Epoch: w.epoch})
	}
}

func (w *watcher) cancelUnreachable() {
	if w.cancelLost != nil {
		w.cancelLost()
		w.cancelLost = nil
	}
}

// hello tells whoever (re)starts all it must know.
func (w *watcher) hello(c *kit.Context, from string) {
	announced := w.s.Phase == syncing || w.s.Phase == live
	switch from {
	case control.App, control.VM:
		if w.s.Desired {
			c.Tell(from, w.report())
		}
	case control.Moby:
		if announced {
			c.Tell(from, mirror.Mirroring{On: true, Session: w.session()})
		} else if w.s.Phase == sweeping && len(w.s.Unswept) > 0 {
			c.Tell(from, mirror.Mirroring{})
		}
	default:
		if announced {
			c.Tell(from, w.session())
		} else if w.s.Phase == sweeping && len(w.s.Unswept) > 0 {
			c.Tell(from, mirror.Sweep{})
		}
	}
}

func (w *watcher) progressed(c *kit.Context, m mirror.Progress) {
	if w.s.Up == nil || m.Epoch != w.s.Up.Epoch {
		return
	}
	w.progress[m.Kind] = m
	if m.Complete {
		w.do(c, passDone{Kind: m.Kind})
		return
	}
	w.tell(c)
}

// summary is what the first pass of the session found. It is not kept up to date: a condition is no counter.
func (w *watcher) summary() string {
	return fmt.Sprintf("first pass: %d containers, %d images, %d volumes", w.progress[messages.KindContainer].Objects,
		w.progress[messages.KindImage].Objects, w.progress[messages.KindVolume].Objects)
}

func (w *watcher) report() control.EngineReport {
	r := w.s.report()
	r.Clock = w.clock
	if w.engine != nil {
		e := *w.engine
		e.Mirrors = w.mirrors()
		r.Engine = &e
	}
	switch r.Reason {
	case messages.ReasonConnected:
		r.Summary = w.summary()
		r.Message = r.Summary
	case messages.ReasonSyncing:
		for _, k := range mirroredKinds {
			if p := w.progress[k]; p.ListErr != "" {
				r.Message += fmt.Sprintf("; %s: %s", k, p.ListErr)
			}
		}
	}
	return r
}

// mirrors is the freshness of each kind.
func (w *watcher) mirrors() []messages.MirrorStatus {
	var out []messages.MirrorStatus
	for _, k := range mirroredKinds {
		p, ok := w.progress[k]
		if !ok {
			continue
		}
		m := messages.MirrorStatus{Kind: k, Objects: p.Objects, Repairs: p.Repairs}
		if !p.LastProof.IsZero() {
			t := metav1.NewMicroTime(p.LastProof.UTC().Truncate(time.Microsecond))
			m.LastProof = &t
		}
		out = append(out, m)
	}
	return out
}

// tell sends the report when it is news.
func (w *watcher) tell(c *kit.Context) {
	if !w.s.Desired || !w.s.Loaded {
		return
	}
	r := w.report()
	if reflect.DeepEqual(r, w.told) {
		return
	}
	w.told = r
	c.Tell(control.App, r)
	c.Tell(control.VM, r)
}

func (w *watcher) label(c *kit.Context) {
	names := [...]string{"Idle", "Connecting", "Sweeping", "Syncing", "Live"}
	c.Label(names[w.s.Phase], w.s.Failure)
}

// store asks for durability and repeats it until it is acknowledged.
func (w *watcher) store(c *kit.Context, ops []journal.Op, sweep bool) {
	w.ops, w.sweepOps = append(w.ops, ops...), w.sweepOps || sweep
	w.send(c)
}

func (w *watcher) send(c *kit.Context) {
	if !w.s.Loaded {
		w.load(c)
		return
	}
	w.commit = c.Token()
	c.Tell(control.Journal, journal.Commit{Token: w.commit, Ops: w.ops})
	c.After(commitAgain, commitOverdue{token: w.commit})
}

func (w *watcher) committed(c *kit.Context, m journal.Committed) {
	if m.Token != w.commit || m.Err != nil {
		return // commitOverdue sends it again
	}
	sweep := w.sweepOps
	w.commit, w.ops, w.sweepOps = 0, nil, false
	if sweep {
		w.do(c, sweepStored{})
	}
}

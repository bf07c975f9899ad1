// Package app is the actor that owns the one App of an instance: it accepts changes of the spec, tells vm and engine what is
// desired, and is the only writer of the App's conditions. They are values computed from vm's and engine's reports; there is
// no write that could race or be lost.
//
// app.go is a plain handler, change.go carries one change through, conditions.go computes, validate.go rejects.
package app

import (
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

const (
	// putAgain is when a Put without an answer is sent again, whole.
	putAgain = time.Second
	// askAgain is when a question to the journal without an answer is repeated: its restart loses what it was asked.
	askAgain = 2 * time.Second
	// maxQueue is how many changes may wait behind the one in progress; one more is refused.
	maxQueue = 256
	// resolveTimeout bounds the choice of a driver for "auto".
	resolveTimeout = 10 * time.Second
)

// Deps of the actor.
type Deps struct {
	// Table is where the App of an earlier incarnation is found again.
	Table *store.Table
	// DefaultNamespace is spec.namespace of a new instance. Default messages.DefaultNamespace.
	DefaultNamespace string
	// Resolve chooses the driver for "auto". It is called off the mailbox, and its answer is journalled.
	Resolve func(spec messages.AppSpec) (driver string, err error)
	// Backends are the engine backends a driver can run; none = nothing is known of it.
	Backends func(driver string) []string
	// Sizeless: the driver is known to make no machine whose size and image could be chosen. nil = nothing is known of any.
	Sizeless func(driver string) bool
	// Now is the clock of creation and transition times. Default time.Now.
	Now func() time.Time
}

// Set asks for a change of the spec. The sender gets messages.SetReply, after the change is on disk and in the store, or
// *messages.Error, and then nothing has changed.
type Set struct{ Request messages.SetRequest }

// New makes the producer of the actor at control.App, child of the root.
//
// It takes Set, control.Hello (answered with control.VMDesire or control.EngineDesire), control.VMReport, control.EngineReport,
// control.DiskReport, and the answers of journal and store. A change goes journal → store → reply → desires, one change at a time.
//
// A restart loses the changes that wait (their senders get no answer; one that was committed is found in the journal and
// takes effect) and the reports: the first act is to load the record, the second to ask vm and engine. Until they answer
// the App stays as the store has it.
func New(deps Deps) func() kit.Actor {
	if deps.DefaultNamespace == "" {
		deps.DefaultNamespace = messages.DefaultNamespace
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return func() kit.Actor { return &appActor{deps: deps} }
}

type appActor struct {
	deps Deps

	// record is what the journal has; loaded says so. loading is the token of the question.
	record  journal.AppRecord
	loaded  bool
	loading uint64

	// stored is the App as the store has it.
	stored *messages.App
	// changes counts what must be seen in the store before anything follows from it: a record, a retry. visible is how many
	// of them are.
	changes, visible uint64
	// put is the Put in flight.
	put *put

	vm          control.VMReport
	vmVoice     voice
	engine      control.EngineReport
	engineVoice voice
	retry       int64
	// disk is what the journal said last of its disk; nil = nothing, which is good.
	disk *control.DiskReport

	now   *change
	queue []*change
}

type put struct {
	msg     store.Put
	changes uint64
}

// Messages to self.
type (
	loadDue   struct{}
	commitDue struct{ token uint64 }
	putDue    struct{ token uint64 }
	resolved  struct {
		change *change
		driver string
		err    error
	}
)

// Receive implements kit.Actor.
func (a *appActor) Receive(c *kit.Context, msg any) {
	switch m := msg.(type) {
	case *actor.Started:
		c.Label("Loading", "")
		a.load(c)
	case Set:
		a.enqueue(c, m.Request)
	case control.Hello:
		a.tell(c, m.From)
	case control.VMReport:
		a.vmReported(c, m)
	case control.EngineReport:
		a.engine = m
		if a.engineVoice != called || !a.accepting() {
			a.engineVoice = spoken
		}
		a.publish(c)
	case control.DiskReport:
		shown := a.stored != nil && messages.Condition(a.stored, messages.ConditionDiskPressure) != nil
		if m.Full || shown || a.disk != nil {
			a.disk = &m
			a.publish(c)
		}
	case journal.Loaded:
		a.onLoaded(c, m)
	case journal.Committed:
		a.committed(c, m)
	case store.PutDone:
		a.putDone(c, m)
	case resolved:
		if a.now == m.change {
			a.resolved(c, m)
		}
	case loadDue:
		if !a.loaded {
			a.load(c)
		}
	case commitDue:
		if a.now != nil && a.now.token == m.token {
			a.commit(c)
		}
	case putDue:
		if a.put != nil && a.put.msg.Token == m.token {
			a.sendPut(c)
		}
	}
}

// load asks the journal for the record, until it answers.
func (a *appActor) load(c *kit.Context) {
	if a.loading == 0 {
		a.loading = c.Token()
	}
	c.Tell(control.Journal, journal.Load{Token: a.loading, Bucket: journal.BucketApp})
	c.After(askAgain, loadDue{})
}

func (a *appActor) onLoaded(c *kit.Context, m journal.Loaded) {
	if a.loaded || m.Token != a.loading {
		return
	}
	if m.Err != nil {
		c.House.Log.Warn("the App cannot be read from the journal; trying again", "error", m.Err)
		return // loadDue asks again
	}
	a.loaded = true
	if len(m.Entries) == 0 {
		spec := messages.DefaultAppSpec()
		spec.Namespace = a.deps.DefaultNamespace
		a.now = &change{record: journal.AppRecord{
			Spec: spec, Generation: 1, UID: types.UID(uuid.NewString()), Created: a.deps.Now().UTC().Truncate(time.Second),
		}}
		a.commit(c)
		return
	}
	record, err := journal.DecodeApp(m.Entries[0])
	if err != nil {
		// Defaults would throw the user's spec away in silence.
		c.Fail(&kit.Failure{Reason: "the App's record cannot be read", Err: err, Counted: true})
	}
	a.begin(c, record)
}

// begin publishes the App of the journal, and asks the others how they are.
func (a *appActor) begin(c *kit.Context, record journal.AppRecord) {
	a.record = record
	if a.deps.Table != nil {
		if item, ok := a.deps.Table.Load().Get(store.Key{Kind: messages.KindApp, Name: messages.AppName}); ok {
			a.stored, _ = item.Object.(*messages.App)
		}
	}
	a.changes++
	c.Tell(control.VM, control.Hello{From: control.App})
	c.Tell(control.Engine, control.Hello{From: control.App})
	a.publish(c)
}

func (a *appActor) vmReported(c *kit.Context, m control.VMReport) {
	terminal := messages.TerminalReason(m.Reason)
	overtaken := a.vmVoice == called && (a.accepting() || terminal && m.Generation >= a.record.Generation && a.waitsForRetry())
	a.vm = m
	if !overtaken {
		a.vmVoice = spoken
	}
	a.publish(c)
}

// accepting: a change is on its way, and nobody can have acted on it yet.
func (a *appActor) accepting() bool { return a.visible < a.changes }

// waitsForRetry: vm was asked to try again, and has not said anything else than the old failure.
func (a *appActor) waitsForRetry() bool { return a.retry > 0 }

// publish puts the App as it is now, unless a Put is in flight (then it follows) or the store has it already.
func (a *appActor) publish(c *kit.Context) {
	if a.record.Generation == 0 || a.put != nil {
		return
	}
	app := a.build()
	if s := messages.Condition(app, messages.ConditionSettled); s != nil {
		label := fmt.Sprintf("generation %d", app.Generation)
		if s.Status != metav1.ConditionTrue {
			label += "  " + s.Message
		}
		c.Label(s.Reason, label)
	}
	if a.stored != nil && equality.Semantic.DeepEqual(app, a.stored) {
		a.seen(c, a.changes)
		return
	}
	a.put = &put{store.Put{Token: c.Token(), Object: app, Owner: messages.AppName}, a.changes}
	a.sendPut(c)
}

func (a *appActor) sendPut(c *kit.Context) {
	c.Tell(control.Store, a.put.msg)
	c.After(putAgain, putDue{a.put.msg.Token})
}

func (a *appActor) putDone(c *kit.Context, m store.PutDone) {
	if a.put == nil || m.Token != a.put.msg.Token {
		return
	}
	if m.Err != nil {
		c.House.Log.Warn("the App was not stored; trying again", "error", m.Err)
		return // putDue sends it again
	}
	changes := a.put.changes
	a.put = nil
	a.stored = m.Object.(*messages.App)
	a.seen(c, changes)
	a.publish(c)
}

// seen: everybody who reads sees those changes now. What waited for it follows: the reply, then the desires.
func (a *appActor) seen(c *kit.Context, changes uint64) {
	if changes <= a.visible {
		return
	}
	a.visible = changes
	if a.accepting() {
		return
	}
	ch := a.now
	a.now = nil
	if ch != nil {
		c.ReplyTo(ch.from, messages.SetReply{App: a.stored, Changed: !ch.retry, Warnings: ch.warnings})
	}
	a.tell(c, control.VM)
	a.tell(c, control.Engine)
	a.next(c)
}

// tell says to vm or engine what is desired, once it is visible.
func (a *appActor) tell(c *kit.Context, to string) {
	if a.visible == 0 || a.accepting() {
		return // it is told when it is
	}
	r := a.record
	switch to {
	case control.VM:
		c.Tell(to, control.VMDesire{
			Generation: r.Generation, Running: r.Spec.Running, Driver: driverOf(r), Backend: r.Spec.ContainerEngine.Name,
			VM: r.Spec.VirtualMachine, Retry: a.retry,
		})
	case control.Engine:
		c.Tell(to, control.EngineDesire{
			Generation: r.Generation, Running: r.Spec.Running, Backend: r.Spec.ContainerEngine.Name, Driver: driverOf(r),
			Namespace: r.Spec.Namespace,
		})
	}
}

// driverOf is the driver by name; empty = auto, and not resolved yet.
func driverOf(r journal.AppRecord) string {
	if d := r.Spec.VirtualMachine.Driver; d != messages.DriverAuto {
		return d
	}
	return r.Driver
}

// build makes the App as it is now.
func (a *appActor) build() *messages.App {
	app := &messages.App{TypeMeta: metav1.TypeMeta{Kind: messages.KindApp, APIVersion: messages.AppAPIVersion}}
	in := inputs{
		generation: a.record.Generation, spec: a.record.Spec, driver: driverOf(a.record),
		vm: a.vm, vmVoice: a.vmVoice, engine: a.engine, engineVoice: a.engineVoice, disk: a.disk, now: a.deps.Now(),
	}
	if a.stored != nil {
		app = a.stored.DeepCopy()
		in.before, in.kept = app.Status, a.stored.Generation == a.record.Generation
	}
	app.Name, app.UID, app.Generation = messages.AppName, a.record.UID, a.record.Generation
	app.CreationTimestamp = metav1.Time{Time: a.record.Created}
	app.Spec = a.record.Spec
	app.Status = status(in)
	return app
}

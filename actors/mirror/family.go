package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/rdd-desktop/rdd/actors/calls"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// Bounds and delays of a supervisor.
const (
	listDeadline   = 30 * time.Second
	listRetryMin   = 250 * time.Millisecond
	listRetryMax   = 10 * time.Second
	listEvery      = 50 * time.Millisecond // at most 20 lists of images a second
	auditGrace     = 300 * time.Millisecond
	reprobeEvery   = 28 // audits until every object has been inspected again
	sweepDeadline  = 10 * time.Second
	quarantineMin  = time.Minute
	quarantineMax  = 10 * time.Minute
	progressWindow = 100 * time.Millisecond
)

// objectSpec is how a supervisor's children are supervised.
var objectSpec = &kit.ChildSpec{
	Restart: kit.Transient, Backoff: kit.Backoff{Min: 50 * time.Millisecond, Max: 2 * time.Second},
	Max: 5, Period: time.Minute, Shutdown: time.Second, GiveUp: kit.Quarantine,
}

// family is a kind's supervisor: it lists, compares, spawns and routes. It parses nothing and calls nothing in its turn, so that
// it does not fail.
//
//	address   rdd/containers, rdd/images, rdd/volumes
//	parent    root
//	messages  Session, Dirty, AuditDue, Unreachable, Sweep from the watcher; Delete from clients; taken, passed, healed, finished
//	          from its objects
//	restart   its objects are stopped with it; it spawns an owner for every resource in the store, and lists
type family struct {
	d   *Deps
	ops *kindOps
	// session is the present one; Epoch 0 before the first.
	session Session
	online  bool
	kids    map[string]*kid
	// begun: the journal has told its open records.
	begun bool
	// open are the owners that had accepted deletions when this supervisor started.
	open map[string]bool

	// listing is the token of the list in flight, 0 when none is; relist: another one is wanted after it; listTimer: the next one
	// waits for its turn.
	listing   uint64
	relist    bool
	listTimer bool
	listFails int
	lastList  time.Time
	first     firstPass
	repairs   int64
	lastProof time.Time
	// Swept must be told, and by when.
	sweeping bool
	// told is the Progress told last.
	told Progress
	// extra is what only one kind does.
	extra extra
}

// extra is what only one kind does: images hand out tags, containers keep the index of users.
type extra interface {
	// rows sees every list before it is handed out. It returns what each object shall get as its row, and who must say when what it
	// lost is gone from the store.
	rows(c *kit.Context, f *family, rows []row, seq uint64) (out []row, losers map[string]bool)
	// receive handles messages only this kind knows.
	receive(c *kit.Context, f *family, msg any) bool
	// ended: the object is gone.
	ended(c *kit.Context, f *family, id string)
}

type listPurpose int

const (
	passList listPurpose = iota
	liveList
	auditList
)

// firstPass of a session.
type firstPass struct {
	id       uint64
	listed   bool
	objects  int
	waiting  int
	complete bool
}

// kid is one object as its supervisor sees it: what it has not been told yet.
type kid struct {
	// busy: a message is out and not taken yet. pending is told next.
	busy    bool
	pending *observe
	// stopping: it said it has finished; what comes now is for its successor.
	stopping bool
	// pass it still owes an answer to.
	pass uint64
	// probed is when it was last asked to inspect by rotation.
	probed      time.Time
	quarantined *quarantine
	// rounds of quarantine so far: each is longer.
	rounds int
}

type (
	listed struct {
		token   uint64
		purpose listPurpose
		out     calls.Outcome
	}
	listDue struct{}
	compare struct {
		epoch uint64
		rows  []row
		seq   uint64
	}
	sweepOverdue struct{}
)

// Containers makes rdd/containers.
func Containers(d *Deps) func() kit.Actor {
	return func() kit.Actor { return newFamily(d, containerOps(), newUserIndex()) }
}

// Images makes rdd/images.
func Images(d *Deps) func() kit.Actor {
	return func() kit.Actor { return newFamily(d, imageOps(), newTagHandout()) }
}

// Volumes makes rdd/volumes.
func Volumes(d *Deps) func() kit.Actor {
	return func() kit.Actor { return newFamily(d, volumeOps(), noExtra{}) }
}

func newFamily(d *Deps, ops *kindOps, x extra) *family {
	return &family{d: d, ops: ops, kids: map[string]*kid{}, open: map[string]bool{}, extra: x}
}

type noExtra struct{}

func (noExtra) rows(_ *kit.Context, _ *family, rows []row, _ uint64) ([]row, map[string]bool) {
	return rows, nil
}
func (noExtra) receive(*kit.Context, *family, any) bool { return false }
func (noExtra) ended(*kit.Context, *family, string)     {}

// Receive implements kit.Actor.
func (f *family) Receive(c *kit.Context, msg any) {
	switch m := msg.(type) {
	case *actor.Started:
		f.label(c)
		askRecords(c, f.ops)
	case loadOverdue:
		if !f.begun {
			askRecords(c, f.ops)
		}
	case journal.Loaded:
		if !f.begun {
			f.begin(c, m)
		}
	case Session:
		f.newSession(c, m)
	case SessionEnded:
		if m.Epoch == f.session.Epoch {
			f.online = false
		}
	case Dirty:
		f.dirty(c, m)
	case AuditDue:
		if f.online && m.Epoch == f.session.Epoch && f.listing == 0 {
			f.list(c, auditList)
		}
	case listed:
		f.gotList(c, m)
	case listDue:
		f.listTimer = false
		if f.online {
			f.wantList(c)
		}
	case listRetry:
		if f.online && m.epoch == f.session.Epoch && f.listing == 0 {
			f.list(c, m.purpose)
		}
	case compare:
		f.audit(c, m)
	case Delete:
		f.route(c, m)
	case Unreachable:
		f.broadcast(c, showReasonFor(m))
	case Sweep:
		f.sweep(c)
	case sweepOverdue:
		f.sweepRest(c)
	default:
		if !f.fromObject(c, msg) && !f.extra.receive(c, f, msg) {
			f.quarantineReceive(c, msg)
		}
	}
}

// fromObject handles what objects, and the supervision of them, say.
func (f *family) fromObject(c *kit.Context, msg any) bool {
	switch m := msg.(type) {
	case taken:
		if k := f.kids[m.ID]; k != nil {
			k.busy = false
			f.send(c, m.ID, k)
		}
	case passed:
		f.passed(c, m.ID, m.Pass)
	case healed:
		f.healed(c, m)
	case finished:
		f.finished(c, m.ID)
	case relist:
		f.wantList(c)
	case kit.ChildFailed:
		if k := f.kids[m.Name]; k != nil {
			// The message it failed on is lost, and the session it knew of: it is told to look again.
			k.busy = false
			f.passed(c, m.Name, k.pass)
			f.tell(c, m.Name, observe{Changed: true})
			if f.ops.listOnly && f.online {
				f.wantList(c)
			}
		}
	case kit.ChildGaveUp:
		f.quarantine(c, m)
	case kit.ChildTerminated:
		f.terminated(c, m.Name)
	default:
		return false
	}
	return true
}

// begin spawns an owner for every resource that is there and every deletion that is open.
func (f *family) begin(c *kit.Context, m journal.Loaded) {
	if m.Err != nil {
		return // loadOverdue asks again
	}
	f.begun = true
	for _, e := range m.Entries {
		if rec, err := journal.DecodeDeletion(e); err == nil {
			f.open[rec.Owner] = true
		}
	}
	for _, owner := range f.d.Table.Load().Owners(f.ops.kind.Name) {
		f.kid(c, owner)
	}
	c.Tell(control.Engine, control.Hello{From: f.ops.path})
}

// newSession takes the session: list, compare, tell everybody.
func (f *family) newSession(c *kit.Context, s Session) {
	if s.Epoch <= f.session.Epoch && f.online {
		return
	}
	f.session, f.online, f.sweeping = s, true, false
	f.first = firstPass{id: c.Token()}
	f.listFails, f.relist = 0, false
	f.list(c, passList)
	f.progress(c, "")
}

// dirty routes marks; objects never heard of are spawned.
func (f *family) dirty(c *kit.Context, m Dirty) {
	if m.Epoch != f.session.Epoch {
		return
	}
	for id, mark := range m.Marks {
		if f.kids[id] == nil && mark.Destroyed && !f.ops.recreates {
			continue // gone before we knew of it, and it never comes back
		}
		f.tell(c, id, observe{Changed: true, Destroyed: mark.Destroyed, Settle: mark.Settle})
	}
	if m.Relist {
		f.wantList(c)
	}
	if len(m.Marks) > 0 {
		f.label(c)
	}
}

// wantList lists at once, then at most 20 times a second.
func (f *family) wantList(c *kit.Context) {
	switch wait := listEvery - f.d.Now().Sub(f.lastList); {
	case f.listing != 0:
		f.relist = true
	case f.listTimer:
	case wait > 0:
		f.listTimer = true
		c.After(wait, listDue{})
	default:
		f.list(c, liveList)
	}
}

func (f *family) list(c *kit.Context, purpose listPurpose) {
	f.listing, f.lastList, f.relist = c.Token(), f.d.Now(), false
	token, lane := f.listing, calls.Live
	switch purpose {
	case passList:
		lane = calls.Sync
	case auditList:
		lane = calls.Audit
	}
	ops, deliver := f.ops, c.Deliver()
	f.d.Calls.Submit(calls.Call{
		Key: calls.Key{Kind: ops.kind.Name, ID: "*"}, Lane: lane, Name: "list", Actor: c.Path(), Deadline: listDeadline,
		Do: func(ctx context.Context, e dockerio.Engine) (any, error) { return ops.list(ctx, e) },
		Done: func(out calls.Outcome) {
			deliverOutcome(deliver, out, listed{token: token, purpose: purpose, out: out})
		},
	})
}

// gotList hands a list out. A list that failed prunes nothing, and is asked for again.
func (f *family) gotList(c *kit.Context, m listed) {
	if m.token != f.listing {
		return // of another session
	}
	f.listing = 0
	if errors.Is(m.out.Err, calls.ErrNoSession) {
		return // the next session lists anew
	}
	if m.out.Err != nil {
		f.listFails++
		c.After(backoff(c, listRetryMin, listRetryMax, f.listFails), listRetry{epoch: f.session.Epoch, purpose: m.purpose})
		f.progress(c, m.out.Err.Error())
		return
	}
	f.listFails, f.lastProof = 0, f.d.Now()
	rows := m.out.Value.([]row)
	if m.purpose == auditList {
		c.After(auditGrace, compare{epoch: f.session.Epoch, rows: rows, seq: m.out.Seq})
	} else {
		f.handOut(c, rows, m.out.Seq, m.purpose == passList || !f.first.listed)
	}
	if f.relist {
		f.wantList(c)
	}
}

// listRetry asks again for a list that failed.
type listRetry struct {
	epoch   uint64
	purpose listPurpose
}

// handOut tells every object what the list says of it; what the list does not have is asked for, not dropped.
func (f *family) handOut(c *kit.Context, rows []row, seq uint64, first bool) {
	there := make(map[string]bool, len(rows))
	for _, r := range rows {
		there[r.ID] = true
	}
	objects := len(rows)
	rows, losers := f.extra.rows(c, f, rows, seq)
	pass := uint64(0)
	if first {
		f.first.listed, f.first.objects, pass = true, objects, f.first.id
	}
	for _, r := range rows {
		if !first && f.kids[r.ID] != nil && !f.ops.rowIsAll && f.ops.reprobe {
			continue // a list tells nothing new of an object that is inspected on events
		}
		f.tell(c, r.ID, observe{Row: r.Data, Seq: seq, Pass: pass, Release: losers[r.ID]})
	}
	for id, k := range f.kids {
		if !there[id] && !k.stopping {
			f.tell(c, id, observe{Absent: true, Seq: seq, Pass: pass, Release: losers[id]})
		}
	}
	f.checkComplete(c)
	f.label(c)
}

// tell merges what is new into what the object has not been told yet, and sends it when the object has taken the last one.
func (f *family) tell(c *kit.Context, id string, m observe) {
	k := f.kid(c, id)
	if m.Pass != 0 && k.pass != m.Pass {
		k.pass = m.Pass
		f.first.waiting++
	}
	if k.pending == nil {
		k.pending = &observe{}
	}
	k.pending.merge(m)
	f.send(c, id, k)
}

func (m *observe) merge(n observe) {
	m.Changed = m.Changed || n.Changed
	m.Destroyed = m.Destroyed || n.Destroyed
	m.Settle = m.Settle || n.Settle
	m.Absent = (m.Absent || n.Absent) && n.Row == nil
	m.Audit = m.Audit || n.Audit
	m.Missed = m.Missed || n.Missed
	m.Reprobe = m.Reprobe || n.Reprobe
	m.Release = m.Release || n.Release
	if n.Row != nil {
		m.Row, m.Seq = n.Row, n.Seq
	}
	if n.Pass != 0 {
		m.Pass = n.Pass
	}
}

func (f *family) send(c *kit.Context, id string, k *kid) {
	if k.busy || k.stopping || k.pending == nil {
		return
	}
	if k.quarantined != nil {
		f.quarantinedNews(c, id, k)
		return
	}
	m := *k.pending
	k.pending, k.busy = nil, true
	if f.online {
		m.Session = f.session
	}
	c.TellChild(id, m)
}

// kid finds or spawns the owner of an object.
func (f *family) kid(c *kit.Context, id string) *kid {
	k := f.kids[id]
	if k == nil {
		k = &kid{probed: f.d.Now()}
		f.kids[id] = k
		f.spawn(c, id, f.open[id])
		delete(f.open, id)
	}
	return k
}

// spawn starts the owner. Its first incarnation has open records only if somebody said so; each later one looks.
func (f *family) spawn(c *kit.Context, id string, load bool) {
	again := load
	c.StartChild(objectSpec, id, func() kit.Actor {
		a := f.ops.owner(f.d, f.ops, id, again)
		again = true
		return a
	})
}

// passed counts down the first pass.
func (f *family) passed(c *kit.Context, id string, pass uint64) {
	k := f.kids[id]
	if k == nil || k.pass == 0 || pass != k.pass {
		return
	}
	k.pass = 0
	if pass == f.first.id {
		f.first.waiting--
		f.checkComplete(c)
	}
}

func (f *family) checkComplete(c *kit.Context) {
	if f.first.listed && f.first.waiting == 0 && !f.first.complete {
		f.first.complete = true
		f.progress(c, "")
	}
}

func (f *family) progress(c *kit.Context, listErr string) {
	p := Progress{
		Kind: f.ops.kind.Name, Epoch: f.session.Epoch, Objects: f.first.objects, ListErr: listErr,
		Complete: f.first.complete, Repairs: f.repairs, LastProof: f.lastProof,
	}
	if p != f.told {
		f.told = p
		c.Tell(control.Engine, p)
	}
}

// finished: the object is gone and owns nothing. Its name is free only after its actor has ended.
func (f *family) finished(c *kit.Context, id string) {
	k := f.kids[id]
	if k == nil || k.stopping {
		return
	}
	if k.busy || k.pending != nil {
		return // there is news it has not seen: it will look again, and finish again if it must
	}
	k.stopping = true
	f.passed(c, id, k.pass)
	c.StopChild(id)
}

func (f *family) terminated(c *kit.Context, id string) {
	k := f.kids[id]
	if k == nil || k.quarantined != nil {
		return
	}
	delete(f.kids, id)
	f.extra.ended(c, f, id)
	if k.pending != nil {
		pending := *k.pending
		n := f.kid(c, id)
		n.pending = &pending
		f.send(c, id, n)
	}
	f.label(c)
	f.checkSwept(c)
}

// route sends a client's deletion to the owner.
func (f *family) route(c *kit.Context, m Delete) {
	k := f.kids[m.Owner]
	switch {
	case k == nil || k.stopping:
		c.Reply(Deleted{Err: messages.NewError(messages.CodeNotFound, "delete", f.ops.kind.Name, m.Name, "not found")})
	case k.quarantined != nil:
		f.quarantinedDelete(c, m, k)
	default:
		c.Forward(actor.NewPID(c.Self().Address, c.Path()+"/"+m.Owner))
	}
}

func (f *family) broadcast(c *kit.Context, msg any) {
	for id, k := range f.kids {
		if !k.stopping && k.quarantined == nil {
			c.TellChild(id, msg)
		}
	}
}

func showReasonFor(m Unreachable) showReason {
	if m.Stopping {
		return showReason{Reason: messages.ReasonEngineStopping, Message: "the engine is being stopped"}
	}
	return showReason{Reason: messages.ReasonEngineUnreachable, Message: "the engine has been away for more than 30 s; this is what it was before"}
}

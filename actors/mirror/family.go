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
//	messages  Session, Dirty, AuditDue, Unreachable, Sweep from the watcher; Write, Act, Delete from clients; taken, passed, healed, held,
//	          finished from its objects; acknowledgements of what it writes in an owner's stead
//	restart   its objects are stopped with it; it spawns an owner for every resource in the store, and lists
type family struct {
	d   *Deps
	ops *kindOps
	// session is the present one; Epoch 0 before the first.
	session Session
	online  bool
	kids    map[string]*kid
	// begun: the journal has told its open records; got are its answers, by bucket, until then.
	begun bool
	got   map[string][]journal.Entry
	// open are the owners that had records in the journal when this supervisor started and are not there yet, with the deletions among
	// them.
	open map[string][]string

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
	// away is what objects were told to show because there is no engine; nil while there is.
	away *showReason
	// Swept must be told, and by when.
	sweeping bool
	// superseded counts the wishes that ended undone by a sweep since the newest session began.
	superseded int
	// sweeps tells the deadline of this sweep from those before.
	sweeps int
	// told is the Progress told last.
	told Progress
	// writes are those made in the stead of an owner that the store has not taken yet.
	writes standIn
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
	// swept: no mirror shall be left, and no list of before counts.
	swept()
	// begun: the supervisor has begun, for the first time or anew.
	begun(c *kit.Context)
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
	sweepOverdue struct{ sweep int }
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
	return &family{d: d, ops: ops, kids: map[string]*kid{}, open: map[string][]string{}, got: map[string][]journal.Entry{}, writes: standIn{}, extra: x}
}

type noExtra struct{}

func (noExtra) rows(_ *kit.Context, _ *family, rows []row, _ uint64) ([]row, map[string]bool) {
	return rows, nil
}
func (noExtra) receive(*kit.Context, *family, any) bool { return false }
func (noExtra) ended(*kit.Context, *family, string)     {}
func (noExtra) swept()                                  {}
func (noExtra) begun(*kit.Context)                      {}

// Receive implements kit.Actor.
func (f *family) Receive(c *kit.Context, msg any) {
	switch m := msg.(type) {
	case *actor.Started:
		f.label(c)
		askRecords(c, journal.ObjectKey(f.ops.kind.Name, ""))
	case loadOverdue:
		if !f.begun {
			askRecords(c, journal.ObjectKey(f.ops.kind.Name, ""))
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
	case usersLost:
		f.rewatch(c)
	case Delete:
		f.route(c, m)
	case Write:
		f.routeWrite(c, m)
	case Act:
		f.routeAct(c, m)
	case Unreachable:
		reason := showReasonFor(m)
		f.away = &reason
		f.broadcast(c, reason)
	case Sweep:
		if f.begun { // else there is nobody yet to be swept; the watcher is asked again when there is
			f.sweep(c)
		}
	case sweepOverdue:
		if m.sweep == f.sweeps {
			f.sweepRest(c)
		}
	default:
		if !f.fromObject(c, msg) && !f.standInReceive(c, msg) && !f.extra.receive(c, f, msg) {
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
	case held:
		if k := f.kids[m.ID]; k != nil {
			k.held = true
			f.checkSwept(c)
		}
	case endedUndone:
		f.superseded++
	case relist:
		f.wantList(c)
	case kit.ChildFailed:
		if k := f.kids[m.Name]; k != nil && f.sweeping && !k.stopping {
			c.TellChild(m.Name, sweepNow{})
		} else if k != nil {
			// The message it failed on is lost, and the session it knew of: it is told to look again.
			k.busy = false
			f.passed(c, m.Name, k.pass)
			f.tellAgain(c, m.Name)
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

// tellAgain tells an object that is about to be started once more all it may have heard of.
func (f *family) tellAgain(c *kit.Context, id string) {
	if f.sweeping {
		c.TellChild(id, sweepNow{})
		return
	}
	f.tell(c, id, observe{Changed: true})
	if f.away != nil {
		c.TellChild(id, *f.away)
	}
	if f.ops.listOnly && f.online {
		f.wantList(c)
	}
}

// begin spawns an owner for every resource that is there; those of open records follow with the first list.
func (f *family) begin(c *kit.Context, m journal.Loaded) {
	if m.Err != nil {
		return // loadOverdue asks again
	}
	f.got[m.Bucket] = m.Entries
	if len(f.got) < len(recordBuckets) {
		return
	}
	f.begun = true
	for _, e := range f.got[journal.BucketDeletions] {
		if rec, err := journal.DecodeDeletion(e); err == nil && f.kids[rec.Owner] == nil {
			f.open[rec.Owner] = append(f.open[rec.Owner], rec.Name)
		}
	}
	for _, e := range f.got[journal.BucketObjects] {
		if rec, err := journal.DecodeObject(e); err == nil && f.kids[rec.Owner] == nil && f.open[rec.Owner] == nil {
			f.open[rec.Owner] = []string{}
		}
	}
	for _, e := range f.got[journal.BucketOperations] {
		if rec, err := journal.DecodeOperation(e); err == nil && f.kids[rec.Owner] == nil && f.open[rec.Owner] == nil {
			f.open[rec.Owner] = []string{}
		}
	}
	f.got = nil
	for owner := range inOrder(f.open) {
		if !f.ops.valid(owner) {
			f.kid(c, owner) // a skeleton: the engine says nothing of it
		}
	}
	for _, owner := range f.d.Table.Load().Owners(f.ops.kind.Name) {
		f.kid(c, owner)
	}
	if f.first.listed { // the journal was slower than the engine
		f.spawnOpen(c, calls.NextSeq(), 0)
	}
	f.extra.begun(c)
	c.Tell(control.Engine, control.Hello{From: f.ops.path})
}

// newSession takes the session: list, compare, tell everybody.
func (f *family) newSession(c *kit.Context, s Session) {
	if s.Epoch <= f.session.Epoch && f.online {
		return
	}
	f.session, f.online, f.sweeping, f.away, f.superseded = s, true, false, nil, 0
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
		if f.kids[id] == nil && f.ops.listOnly {
			continue // the list that is to come tells of it
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
	c.NotRetrying("")
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
		wait := backoff(c, listRetryMin, listRetryMax, f.listFails)
		c.After(wait, listRetry{epoch: f.session.Epoch, purpose: m.purpose})
		c.Retrying("", "list", f.listFails, wait)
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
	if first {
		f.spawnOpen(c, seq, pass)
	}
	f.checkComplete(c)
	f.label(c)
}

// rewatch has those who wait for users say so again; in a sweep nobody waits any more.
func (f *family) rewatch(c *kit.Context) {
	for id := range inOrder(f.kids) {
		if !f.sweeping {
			f.tell(c, id, observe{Rewatch: true})
		}
	}
}

// spawnOpen spawns the owners that have a record and that the list does not have.
func (f *family) spawnOpen(c *kit.Context, seq, pass uint64) {
	for id := range inOrder(f.open) {
		f.tell(c, id, observe{Absent: true, Seq: seq, Pass: pass})
	}
}

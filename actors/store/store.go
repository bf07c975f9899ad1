package store

import (
	"maps"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
)

const (
	// maxWaiting is how many requests may wait for the journal, for its salts at start or for one of theirs; one more is
	// refused.
	maxWaiting = 4096
	// askAgain is when a question to the journal is repeated: a restart of the journal loses what it was asked.
	askAgain = time.Second
	// maxDropped is how many salts the journal keeps in vain before it is told.
	maxDropped = 256
)

// New makes the producer of the store actor, rdd/store, child of the root, elder sibling of all writers.
//
// It accepts Put and Remove and answers each, those of one resource in their order. A turn ends in one swap of the table's
// Root. Only an object that comes back after its removal has to wait: its new salt is journalled before anybody sees the
// new uid. Before the first request it loads the salts of earlier serves.
//
// A restart loses the message being handled and the requests that wait for the journal: whoever has no answer sends its whole
// object again. It loses no resource, revision, tombstone or subscription: they are in the Table.
func New(t *Table) func() kit.Actor {
	return func() kit.Actor {
		return &store{table: t, lanes: map[Key]*lane{}, byToken: map[uint64]*lane{}}
	}
}

type store struct {
	table *Table
	// early are the requests before the salts are here.
	early []request
	// lanes have, per resource, the Put that waits for the journal and what came for the same resource after it.
	lanes   map[Key]*lane
	byToken map[uint64]*lane
	waiting int

	loading  uint64 // token of the question for the salts
	reminder func() // cancels the next tick
}

type request struct {
	from *actor.PID
	msg  any // Put or Remove
}

type lane struct {
	key   Key
	queue []request // the first is the Put that waits
	token uint64
	salt  int64
	op    journal.Op
}

// remind is the tick that repeats unanswered questions.
type remind struct{}

// Receive implements kit.Actor.
func (s *store) Receive(c *kit.Context, msg any) {
	switch m := msg.(type) {
	case *actor.Started:
		if !s.table.saltsLoaded {
			s.askSalts(c)
		}
	case *actor.Restarting, *actor.Stopping:
		s.stopReminder()
	case Put:
		s.take(c, request{c.Sender(), m})
	case Remove:
		s.take(c, request{c.Sender(), m})
	case journal.Loaded:
		s.saltsLoaded(c, m)
	case journal.Committed:
		s.saltCommitted(c, m)
	case remind:
		s.remind(c)
	}
}

func (s *store) askSalts(c *kit.Context) {
	s.loading = c.Token()
	c.Tell(control.Journal, journal.Load{Token: s.loading, Bucket: journal.BucketSalts})
	s.armReminder(c)
}

func (s *store) saltsLoaded(c *kit.Context, m journal.Loaded) {
	if s.table.saltsLoaded || m.Token != s.loading {
		return
	}
	if m.Err != nil {
		c.House.Log.Warn("the salts cannot be read; trying again", "error", m.Err)
		return // the reminder asks again
	}
	for _, e := range m.Entries {
		seed, n, err := journal.DecodeSalt(e)
		if err != nil {
			c.House.Log.Warn("a salt is ignored", "error", err)
			continue
		}
		s.table.salts.loaded(seed, n)
	}
	s.table.saltsLoaded = true
	early := s.early
	s.early = nil
	s.waiting -= len(early)
	for _, r := range early {
		s.take(c, r)
	}
}

// take handles a request now, or queues it.
func (s *store) take(c *kit.Context, r request) {
	key, err := r.key()
	if err != nil {
		r.answer(c, nil, err)
		return
	}
	l := s.lanes[key]
	if (l != nil || !s.table.saltsLoaded) && s.waiting >= maxWaiting {
		r.refuse(c, key)
		return
	}
	switch {
	case !s.table.saltsLoaded:
		s.early = append(s.early, r)
		s.waiting++
	case l != nil:
		l.queue = append(l.queue, r)
		s.waiting++
	default:
		s.handle(c, key, r)
	}
}

// handle does a request that is first in its line; it says no when the request has to wait for the journal now.
func (s *store) handle(c *kit.Context, key Key, r request) (done bool) {
	switch m := r.msg.(type) {
	case Remove:
		s.table.remove(m)
		s.drop(c)
		r.answer(c, nil, nil)
	case Put:
		n, fresh := int64(0), false
		if _, had := s.table.Load().Get(key); !had {
			n, fresh = s.table.salts.next(m.seed(key))
			if m.Object.GetUID() != "" && fresh {
				n, fresh = n-1, false // the owner knows the uid
			}
		}
		switch {
		case fresh && s.lanes[key] == nil && s.waiting >= maxWaiting:
			r.refuse(c, key)
			return true
		case fresh:
			s.waitForSalt(c, key, r, n)
			return false
		}
		r.answer(c, s.table.put(m, key, n, time.Now()), nil)
	}
	return true
}

// waitForSalt opens (or goes on with) the lane of a resource: r is its first request.
func (s *store) waitForSalt(c *kit.Context, key Key, r request, salt int64) {
	l := s.lanes[key]
	if l == nil {
		l = &lane{key: key, queue: []request{r}}
		s.lanes[key] = l
		s.waiting++
	}
	l.salt, l.token, l.op = salt, c.Token(), journal.PutSalt(r.msg.(Put).seed(key), salt)
	s.byToken[l.token] = l
	c.Tell(control.Journal, journal.Commit{Token: l.token, Ops: []journal.Op{l.op}})
	s.armReminder(c)
}

func (s *store) saltCommitted(c *kit.Context, m journal.Committed) {
	l := s.byToken[m.Token]
	if l == nil {
		return // of an earlier incarnation, or answered twice
	}
	delete(s.byToken, m.Token)
	r := l.queue[0]
	if m.Err != nil {
		r.answer(c, nil, m.Err)
	} else {
		r.answer(c, s.table.put(r.msg.(Put), l.key, l.salt, time.Now()), nil)
	}
	for {
		l.queue = l.queue[1:]
		s.waiting--
		if len(l.queue) == 0 {
			delete(s.lanes, l.key)
			break
		}
		if !s.handle(c, l.key, l.queue[0]) {
			break
		}
	}
	if len(s.byToken) == 0 {
		s.stopReminder()
	}
}

// drop tells the journal, now and then, which salts nobody needs any more. No answer is needed: at worst they stay until the
// next sweep.
func (s *store) drop(c *kit.Context) {
	dropped := s.table.salts.dropped
	if len(dropped) < maxDropped {
		return
	}
	s.table.salts.dropped = nil
	ops := make([]journal.Op, len(dropped))
	for i, seed := range dropped {
		ops[i] = journal.DropSalt(seed)
	}
	c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: ops})
}

func (s *store) armReminder(c *kit.Context) {
	if s.reminder == nil {
		s.reminder = c.After(askAgain, remind{})
	}
}

func (s *store) stopReminder() {
	if s.reminder != nil {
		s.reminder()
		s.reminder = nil
	}
}

func (s *store) remind(c *kit.Context) {
	s.reminder = nil
	if !s.table.saltsLoaded {
		s.askSalts(c)
		return
	}
	for _, token := range slices.Sorted(maps.Keys(s.byToken)) {
		c.Tell(control.Journal, journal.Commit{Token: token, Ops: []journal.Op{s.byToken[token].op}})
	}
	if len(s.byToken) > 0 {
		s.armReminder(c)
	}
}

func (r request) key() (Key, error) {
	switch m := r.msg.(type) {
	case Put:
		return m.key()
	case Remove:
		return m.Key, nil
	}
	panic("store: a request that is neither Put nor Remove")
}

func (r request) refuse(c *kit.Context, key Key) {
	r.answer(c, nil, messages.NewError(messages.CodeUnavailable, "store", key.Kind, key.Name, "too many changes wait for the journal"))
}

func (r request) answer(c *kit.Context, o messages.Object, err error) {
	switch m := r.msg.(type) {
	case Put:
		key, _ := m.key()
		c.ReplyTo(r.from, PutDone{Token: m.Token, Key: key, Object: o, Err: err})
	case Remove:
		c.ReplyTo(r.from, RemoveDone{Token: m.Token, Key: m.Key, Err: err})
	}
}

package store

import (
	"container/list"
	"reflect"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/messages"
)

// uidSpace is the namespace of the uids (UUIDv5) that the store gives.
var uidSpace = uuid.MustParse("5cbc0c3c-6f35-5d2b-9b3e-6f1d0c2a7e41")

// maxTombs is how many removed seeds are remembered: a seed that comes back gets another salt and so another uid.
const maxTombs = 16384

// Table is outside the actor; readers never wait. Everything but the Root belongs to the actor's turn; it is changed only
// after the Root it goes with is published, by code that cannot panic.
type Table struct {
	root atomic.Pointer[Root]

	puts, noops, removes atomic.Int64

	salts salts
	// saltsLoaded says that the salts of earlier serves are here.
	saltsLoaded bool
}

// NewTable makes the empty table of a serve.
func NewTable(boot int64) *Table {
	t := &Table{}
	t.root.Store(emptyRoot(boot))
	t.salts = salts{seeds: map[uuid.UUID]*list.Element{}, max: maxTombs}
	return t
}

// Load gives the newest Root.
func (t *Table) Load() *Root { return t.root.Load() }

// Counters are for people and tests.
type Counters struct {
	// Puts that changed something, NoOps that did not, Removes of something.
	Puts, NoOps, Removes int64
	// Objects and History entries at present.
	Objects, History int
}

// Counters since the daemon was started.
func (t *Table) Counters() Counters {
	r := t.Load()
	return Counters{Puts: t.puts.Load(), NoOps: t.noops.Load(), Removes: t.removes.Load(), Objects: r.objects, History: r.history}
}

// Seed is for tests that need no journal: it puts resources into the table before an actor has it, and lets the actor begin
// without the salts of the journal.
func (t *Table) Seed(puts ...Put) {
	t.saltsLoaded = true
	for _, p := range puts {
		key, err := p.key()
		if err != nil {
			panic(err)
		}
		salt, _ := t.salts.next(p.seed(key))
		t.put(p, key, salt, time.Now())
	}
}

func (t *Table) publish(r *Root) {
	old := t.root.Swap(r)
	close(old.changed)
}

// Put stores the owner's whole object: created when it is not there, updated when it differs, else nothing happens (an ack with
// the stored one). The store assigns uid (new objects without one), creationTimestamp (new objects without one),
// resourceVersion; it never changes anything else. What the object refers to belongs to the store from then on: nobody
// changes it. The store works on a shallow copy, so that a Put may be sent again.
//
// An object with another uid than the stored one is another incarnation: DELETED, then ADDED.
type Put struct {
	Token  uint64
	Object messages.Object
	// Owner is the owning actor's engine identity (container id, image id, volume name).
	Owner string
	// UIDSeed identifies the engine object; uid = UUIDv5 of it and the salt. Empty: kind/name.
	UIDSeed string
}

// PutDone answers Put: Object is the stored one.
type PutDone struct {
	Token  uint64
	Key    Key
	Object messages.Object
	Err    error
}

// Remove removes a resource (DELETED with Reason, if any). Not there = success.
type Remove struct {
	Token  uint64
	Key    Key
	Reason string
}

// RemoveDone answers Remove.
type RemoveDone struct {
	Token uint64
	Key   Key
	Err   error
}

func (p Put) key() (Key, error) {
	if p.Object == nil || reflect.ValueOf(p.Object).IsNil() {
		return Key{}, messages.NewError(messages.CodeBadRequest, "put", "", "", "there is no object")
	}
	key := Key{Kind: p.Object.GetObjectKind().GroupVersionKind().Kind, Name: p.Object.GetName()}
	if key.Kind == "" || key.Name == "" {
		return key, messages.NewError(messages.CodeBadRequest, "put", key.Kind, key.Name, "it has no kind or no name")
	}
	return key, nil
}

func (p Put) seed(key Key) string {
	if p.UIDSeed == "" {
		return key.String()
	}
	return p.UIDSeed
}

// uid of the incarnation of a seed.
func uid(seed string, salt int64) types.UID {
	name := append(make([]byte, 0, len(seed)+20), seed...)
	name = append(name, 0)
	return types.UID(uuid.NewSHA1(uidSpace, strconv.AppendInt(name, salt, 10)).String())
}

// put does a Put and gives the stored object; salt counts for a new object without uid.
func (t *Table) put(p Put, key Key, salt int64, now time.Time) messages.Object {
	root := t.Load()
	n := &entry{Item: Item{Object: messages.ShallowCopy(p.Object), Owner: p.Owner}, salt: salt}
	old, had := root.kind(key.Kind).objects.Get([]byte(key.Name))
	recreated := had && n.Object.GetUID() != "" && n.Object.GetUID() != old.Object.GetUID()
	if had && !recreated {
		n.seed, n.salt = old.seed, old.salt
		n.Object.SetUID(old.Object.GetUID())
		if created := n.Object.GetCreationTimestamp(); created.IsZero() {
			n.Object.SetCreationTimestamp(old.Object.GetCreationTimestamp())
		}
		n.Object.SetResourceVersion(old.Object.GetResourceVersion())
		if n.Owner == old.Owner && messages.Equal(old.Object, n.Object) {
			t.noops.Add(1)
			return old.Object
		}
	} else {
		text := p.seed(key)
		n.seed = seedOf(text, salt)
		if n.Object.GetUID() == "" {
			n.Object.SetUID(uid(text, n.salt))
		}
		if created := n.Object.GetCreationTimestamp(); created.IsZero() {
			n.Object.SetCreationTimestamp(metav1.Time{Time: now.UTC().Truncate(time.Second)})
		}
	}
	e := root.edit()
	if recreated {
		e.remove(key, "")
	}
	e.set(key, n)
	t.publish(e.done())
	t.puts.Add(1)
	if !had || recreated {
		if recreated {
			t.salts.removed(old.seed, old.salt)
		}
		t.salts.born(n.seed, n.salt)
	}
	return n.Object
}

func (t *Table) remove(m Remove) {
	e := t.Load().edit()
	old, had := e.remove(m.Key, m.Reason)
	if !had {
		return
	}
	t.publish(e.done())
	t.removes.Add(1)
	t.salts.removed(old.seed, old.salt)
}

// salts remembers how often the object of a seed was seen to come back, for the seeds where that is not 0 and for those
// removed lately. Oldest removals are forgotten beyond max; a seed in use never.
type salts struct {
	seeds map[uuid.UUID]*list.Element
	order list.List // of *salt, newest first
	max   int
	// dropped are seeds whose salt the journal may forget.
	dropped []string
}

// seed is a seed as it is kept: its text, the journal's key, only where a salt needs it.
type seed struct {
	id   uuid.UUID
	text string
}

func seedOf(text string, salt int64) seed {
	s := seed{id: uuid.NewSHA1(uidSpace, []byte(text))}
	if salt > 0 {
		s.text = text
	}
	return s
}

type salt struct {
	id   uuid.UUID
	seed string // only with n > 0
	n    int64
	gone bool // removed: the next one gets n+1
	live bool // in use by a resource
}

func (s *salts) find(of seed) *salt {
	if e := s.seeds[of.id]; e != nil {
		return e.Value.(*salt)
	}
	return nil
}

// next is the salt of the next incarnation; fresh says that the journal has to learn it first.
func (s *salts) next(text string) (n int64, fresh bool) {
	switch x := s.find(seedOf(text, 0)); {
	case x == nil:
		return 0, false
	case x.gone:
		return x.n + 1, true
	default:
		return x.n, false
	}
}

func (s *salts) touch(of seed, n int64) *salt {
	e := s.seeds[of.id]
	if e == nil {
		e = s.order.PushFront(&salt{id: of.id})
		s.seeds[of.id] = e
	}
	s.order.MoveToFront(e)
	x := e.Value.(*salt)
	if n > x.n {
		x.n = n
	}
	if of.text != "" {
		x.seed = of.text
	}
	s.bound()
	return x
}

// loaded takes a salt of an earlier serve.
func (s *salts) loaded(text string, n int64) {
	of := seedOf(text, n)
	if x := s.find(of); x == nil || x.n < n {
		s.touch(of, n)
	}
}

// born says that a resource uses the seed.
func (s *salts) born(of seed, n int64) {
	if n == 0 && s.find(of) == nil {
		return
	}
	x := s.touch(of, n)
	x.gone, x.live = false, true
}

// removed says that the resource of the seed is no more.
func (s *salts) removed(of seed, n int64) {
	x := s.touch(of, n)
	x.gone, x.live = true, false
}

func (s *salts) bound() {
	for tries := 0; s.order.Len() > s.max && tries < 8; tries++ {
		e := s.order.Back()
		x := e.Value.(*salt)
		if x.live {
			s.order.MoveToFront(e)
			continue
		}
		s.order.Remove(e)
		delete(s.seeds, x.id)
		if x.n > 0 {
			s.dropped = append(s.dropped, x.seed)
		}
	}
}

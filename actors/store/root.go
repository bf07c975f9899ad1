package store

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/rdd-desktop/rdd/messages"
)

// Key names a resource.
type Key struct{ Kind, Name string }

func (k Key) String() string { return k.Kind + "/" + k.Name }

// Item is a resource and its owning actor's engine identity.
type Item struct {
	Object messages.Object
	Owner  string
}

// entry is a resource as it is held; never changed.
type entry struct {
	Item
	// seed and salt the uid was made of.
	seed seed
	salt int64
}

// minHistory is how many changes history holds at least: max(minHistory, 2 × objects).
const minHistory = 8192

// bootShift: a version is boot<<bootShift | seq.
const bootShift = 40

// Root is one immutable version of everything. Whoever holds it, holds that moment.
type Root struct {
	version uint64
	floor   uint64 // version of the newest change that history has forgotten; boot<<40 when none
	objects int
	history int
	kinds   map[string]*kindRoot // few; copied on each change
	changed chan struct{}
}

type kindRoot struct {
	objects *iradix.Tree[*entry]
	// owners has owner\0name of each resource whose owner is not called like the resource itself (a container's is).
	owners  *iradix.Tree[string]
	changes changes
}

var emptyKind = &kindRoot{objects: iradix.New[*entry](), owners: iradix.New[string]()}

func emptyRoot(boot int64) *Root {
	v := uint64(boot) << bootShift
	return &Root{version: v, floor: v, kinds: map[string]*kindRoot{}, changed: make(chan struct{})}
}

func (r *Root) kind(name string) *kindRoot {
	if k := r.kinds[name]; k != nil {
		return k
	}
	return emptyKind
}

// Version is the version of the newest change in it.
func (r *Root) Version() uint64 { return r.version }

// ResourceVersion is Version as resources show it.
func (r *Root) ResourceVersion() string { return FormatVersion(r.version) }

// FormatVersion writes a version as metadata.resourceVersion.
func FormatVersion(v uint64) string { return strconv.FormatUint(v, 10) }

// ParseVersion reads a metadata.resourceVersion.
func ParseVersion(s string) (uint64, error) {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, messages.NewError(messages.CodeBadRequest, "read", "resourceVersion", s, "it is not one of rdd's")
	}
	return v, nil
}

// Get finds a resource.
func (r *Root) Get(k Key) (Item, bool) {
	e, ok := r.kind(k.Kind).objects.Get([]byte(k.Name))
	if !ok {
		return Item{}, false
	}
	return e.Item, true
}

// Count is how many resources of the kind there are.
func (r *Root) Count(kind string) int { return r.kind(kind).objects.Len() }

// All goes through the resources of a kind, in the order of names.
func (r *Root) All(kind string) iter.Seq2[string, Item] {
	return func(yield func(string, Item) bool) {
		it := r.kind(kind).objects.Root().Iterator()
		for _, e, ok := it.Next(); ok; _, e, ok = it.Next() {
			if !yield(e.Object.GetName(), e.Item) {
				return
			}
		}
	}
}

// List gives the resources of a kind, in the order of names.
func (r *Root) List(kind string) []Item {
	out := make([]Item, 0, r.Count(kind))
	for _, i := range r.All(kind) {
		out = append(out, i)
	}
	return out
}

// Page gives at most limit resources of a kind whose names come after the given one; more says that there are others. To go on,
// ask the same Root with the last name.
func (r *Root) Page(kind, after string, limit int) (page []Item, more bool) {
	it := r.kind(kind).objects.Root().Iterator()
	if after != "" {
		it.SeekLowerBound(append([]byte(after), 0))
	}
	for _, e, ok := it.Next(); ok; _, e, ok = it.Next() {
		if len(page) == limit {
			return page, true
		}
		page = append(page, e.Item)
	}
	return page, false
}

// OwnedBy gives an owner's resources of a kind, in the order of names.
func (r *Root) OwnedBy(kind, owner string) []Item {
	k := r.kind(kind)
	var out []Item
	if e, ok := k.objects.Get([]byte(owner)); ok && e.Owner == owner {
		out = append(out, e.Item)
	}
	it := k.owners.Root().Iterator()
	it.SeekPrefix(append([]byte(owner), 0))
	for _, name, ok := it.Next(); ok; _, name, ok = it.Next() {
		if e, ok := k.objects.Get([]byte(name)); ok {
			out = append(out, e.Item)
		}
	}
	slices.SortFunc(out, func(a, b Item) int { return cmp.Compare(a.Object.GetName(), b.Object.GetName()) })
	return out
}

// Owners gives the owners of a kind's resources, in order.
func (r *Root) Owners(kind string) []string {
	k := r.kind(kind)
	var out []string
	for name, i := range r.All(kind) {
		if i.Owner == name {
			out = append(out, name)
		}
	}
	it := k.owners.Root().Iterator()
	for key, _, ok := it.Next(); ok; key, _, ok = it.Next() {
		out = append(out, string(key[:bytes.IndexByte(key, 0)]))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Changed is closed when a newer Root is in place.
func (r *Root) Changed() <-chan struct{} { return r.changed }

// Changes gives the changes of a kind (all kinds: "") after a version, in order, max at most, and the version to go on from:
// changes of other kinds are behind it too. A version that history does not reach, of another boot or of the future is Gone.
func (r *Root) Changes(kind string, after uint64, max int) (list []Change, next uint64, err error) {
	gone := func(why string) error {
		return messages.NewError(messages.CodeGone, "watch", kind, "", fmt.Sprintf("resourceVersion %d %s; list again", after, why))
	}
	switch {
	case after>>bootShift != r.version>>bootShift:
		return nil, after, gone("is from before the daemon was started")
	case after > r.version:
		return nil, after, gone("was never given out")
	case after < r.floor:
		return nil, after, gone("is older than what is kept of history")
	case max <= 0:
		return nil, after, nil
	}
	if kind != "" {
		l := r.kind(kind).changes
		i := l.after(after)
		n := min(max, l.len()-i)
		list = make([]Change, 0, n)
		for ; len(list) < n; i++ {
			list = append(list, *l.at(i))
		}
		if i < l.len() {
			return list, list[n-1].Version, nil
		}
		return list, r.version, nil
	}
	type cursor struct {
		l changes
		i int
	}
	cursors := make([]cursor, 0, len(r.kinds))
	for _, k := range r.kinds {
		cursors = append(cursors, cursor{k.changes, k.changes.after(after)})
	}
	for {
		var least *cursor
		for i := range cursors {
			c := &cursors[i]
			if c.i < c.l.len() && (least == nil || c.l.at(c.i).Version < least.l.at(least.i).Version) {
				least = c
			}
		}
		switch {
		case least == nil:
			return list, r.version, nil
		case len(list) == max:
			return list, list[max-1].Version, nil
		}
		list = append(list, *least.l.at(least.i))
		least.i++
	}
}

// edit is the next Root while it is made. Only the writer makes one, of the newest Root.
type edit struct {
	Root
	own map[string]*kindRoot // kinds copied for this edit
}

func (r *Root) edit() *edit {
	e := &edit{Root: *r, own: make(map[string]*kindRoot, 1)}
	e.kinds = maps.Clone(r.kinds)
	return e
}

func (e *edit) kindForUpdate(name string) *kindRoot {
	k := e.own[name]
	if k == nil {
		c := *e.kind(name)
		k = &c
		e.own[name], e.kinds[name] = k, k
	}
	return k
}

func ownerKey(owner, name string) []byte {
	b := make([]byte, 0, len(owner)+1+len(name))
	b = append(b, owner...)
	b = append(b, 0)
	return append(b, name...)
}

// set stores an entry under a new version, which it writes into the object: the object is nobody else's yet.
func (e *edit) set(key Key, n *entry) {
	k := e.kindForUpdate(key.Kind)
	e.version++
	n.Object.SetResourceVersion(FormatVersion(e.version))
	objects, old, had := k.objects.Insert([]byte(key.Name), n)
	k.objects = objects
	change := Change{Version: e.version, New: n.Object}
	switch {
	case !had:
		e.objects++
		k.index(key.Name, n)
	default:
		change.Old = old.Object
		if old.Owner != n.Owner {
			k.unindex(key.Name, old)
			k.index(key.Name, n)
		}
	}
	e.record(k, change)
}

// remove takes an entry away under a new version.
func (e *edit) remove(key Key, reason string) (old *entry, had bool) {
	old, had = e.kind(key.Kind).objects.Get([]byte(key.Name))
	if !had {
		return nil, false
	}
	k := e.kindForUpdate(key.Kind)
	e.version++
	k.objects, _, _ = k.objects.Delete([]byte(key.Name))
	k.unindex(key.Name, old)
	e.objects--
	e.record(k, Change{Version: e.version, Old: old.Object, Reason: reason})
	return old, true
}

func (k *kindRoot) index(name string, n *entry) {
	if n.Owner != name {
		k.owners, _, _ = k.owners.Insert(ownerKey(n.Owner, name), name)
	}
}

func (k *kindRoot) unindex(name string, n *entry) {
	if n.Owner != name {
		k.owners, _, _ = k.owners.Delete(ownerKey(n.Owner, name))
	}
}

// record appends to history and forgets what is beyond its bound.
func (e *edit) record(k *kindRoot, c Change) {
	k.changes = k.changes.add(c)
	e.history++
	for e.history > max(minHistory, 2*e.objects) {
		oldest := ""
		for name, k := range e.kinds {
			if k.changes.len() > 0 && (oldest == "" || k.changes.at(0).Version < e.kinds[oldest].changes.at(0).Version) {
				oldest = name
			}
		}
		k := e.kindForUpdate(oldest)
		e.floor = k.changes.at(0).Version
		k.changes = k.changes.drop()
		e.history--
	}
}

// done is the finished Root.
func (e *edit) done() *Root {
	r := e.Root
	r.changed = make(chan struct{})
	return &r
}

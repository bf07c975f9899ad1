package supervisor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

// Bounds of what readers hold.
const (
	// pinTime is how long the pages of a list are kept.
	pinTime = 60 * time.Second
	// maxPins is the most lists that wait for their next page; the oldest goes first.
	maxPins = 128
	// pullTime is how long a pull without news is held.
	pullTime = 5 * time.Second
	// maxCandidates is the most candidates an Ambiguous error names.
	maxCandidates = 10
)

// Core is what the tree offers to clients: the store's table for everything that reads, one function for each of the rest.
type Core struct {
	Table *store.Table
	// Set changes App.spec.
	Set func(context.Context, messages.SetRequest) (*messages.SetReply, error)
	// Delete starts the deletion of obj, which the request's name was resolved to; owner is the owning actor's engine identity.
	Delete func(ctx context.Context, kind messages.Kind, obj messages.Object, owner string, r messages.DeleteRequest) (messages.Object, error)
	// Write changes a resource; item is what the request's name was resolved to, zero when there is none (r.Create).
	Write func(ctx context.Context, kind messages.Kind, item store.Item, r messages.WriteRequest) (*messages.WriteReply, error)
	// Action asks the container for an action.
	Action func(ctx context.Context, item store.Item, r messages.ActionRequest) (messages.Object, error)
	// Tree is the supervision tree as it is.
	Tree func() messages.TreeNode
	// Events are the house's own events; with r.Wait it holds the answer for up to 5 s when there is no news.
	Events  func(ctx context.Context, r messages.EventsRequest) (messages.EventsReply, error)
	Version func(context.Context) (*messages.VersionReply, error)
	Debug   func(context.Context, messages.DebugRequest) (*messages.DebugReply, error)
	// Shutdown returns the reply at once and ends the daemon a moment later.
	Shutdown func(context.Context, messages.ShutdownRequest) (*messages.ShutdownReply, error)
}

// snapshot is a store.Root.
type snapshot interface {
	Version() uint64
	Get(store.Key) (store.Item, bool)
	List(kind string) []store.Item
	Page(kind, after string, limit int) (page []store.Item, more bool)
	Changes(kind string, after uint64, max int) ([]store.Change, uint64, error)
	Changed() <-chan struct{}
}

// localBackend answers from the store's table; what it returns is the store's own and must not be changed.
type localBackend struct {
	core Core
	load func() snapshot
	now  func() time.Time
	hold time.Duration // pullTime, but in tests

	mu   sync.Mutex
	pins []pin // oldest first
}

var _ backend = (*localBackend)(nil)

// pin keeps one root for the pages of one list.
type pin struct {
	id    string
	root  snapshot
	until time.Time
}

func newLocalBackend(core Core) *localBackend {
	return &localBackend{core: core, now: time.Now, hold: pullTime, load: func() snapshot { return core.Table.Load() }}
}

func newLocalClient(b backend) *Client { return &Client{b: b, copies: true} }

func (b *localBackend) close() error { return nil }

func (b *localBackend) get(_ context.Context, r messages.GetRequest) (messages.Object, error) {
	k, err := kindOf(r.Kind)
	if err != nil {
		return nil, err
	}
	item, err := resolve(b.load(), k, r.Name, "get")
	if err != nil {
		return nil, err
	}
	return item.Object, nil
}

func (b *localBackend) list(ctx context.Context, r messages.ListRequest) (*messages.ListReply, error) {
	return b.listInto(ctx, r, newFrame(r.Limit, false))
}

// listInto is list; the page is what fits into f.
func (b *localBackend) listInto(_ context.Context, r messages.ListRequest, f *frame) (*messages.ListReply, error) {
	k, err := kindOf(r.Kind)
	if err != nil {
		return nil, err
	}
	m, err := r.Selector.Compile(k)
	if err != nil {
		return nil, err
	}
	root, id, after, err := b.page(r.Continue)
	if err != nil {
		return nil, err
	}
	reply := &messages.ListReply{ResourceVersion: formatVersion(root.Version()), Items: messages.Objects{}}
	if r.Selector.Name != "" {
		if item, ok := root.Get(store.Key{Kind: k.Name, Name: r.Selector.Name}); ok && m.Matches(item.Object) && f.add(item.Object) {
			reply.Items = append(reply.Items, item.Object)
		}
		return reply, f.err
	}
	for more := true; more; {
		var items []store.Item
		items, more = root.Page(k.Name, after, messages.MaxPage)
		for _, item := range items {
			if m.Matches(item.Object) {
				if !f.add(item.Object) {
					if f.err != nil {
						return nil, f.err
					}
					reply.Continue = b.pin(id, root) + ":" + after
					return reply, nil
				}
				reply.Items = append(reply.Items, item.Object)
			}
			after = item.Object.GetName()
		}
	}
	b.unpin(id)
	return reply, nil
}

// page finds what a continue token stands for: the pinned root and the last name of the page before.
func (b *localBackend) page(token string) (root snapshot, id, after string, err error) {
	if token == "" {
		return b.load(), "", "", nil
	}
	id, after, ok := strings.Cut(token, ":")
	if !ok {
		return nil, "", "", messages.NewError(messages.CodeBadRequest, "", "", "", fmt.Sprintf("malformed continue token %q", token))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire()
	for _, p := range b.pins {
		if p.id == id {
			return p.root, id, after, nil
		}
	}
	return nil, "", "", messages.NewError(messages.CodeGone, "", "", "", "the list's pages are no longer kept: list again")
}

// pin keeps root for the next page of a list, 60 s from the first page on.
func (b *localBackend) pin(id string, root snapshot) string {
	if id != "" {
		return id
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire()
	if len(b.pins) == maxPins {
		b.pins = slices.Delete(b.pins, 0, 1)
	}
	p := pin{id: rand.Text(), root: root, until: b.now().Add(pinTime)}
	b.pins = append(b.pins, p)
	time.AfterFunc(pinTime+time.Second, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.expire()
	})
	return p.id
}

// unpin: the last page of a list has been read. Who lost it on the way lists again.
func (b *localBackend) unpin(id string) {
	if id == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pins = slices.DeleteFunc(b.pins, func(p pin) bool { return p.id == id })
}

func (b *localBackend) expire() {
	now := b.now()
	b.pins = slices.DeleteFunc(b.pins, func(p pin) bool { return !p.until.After(now) })
}

func (b *localBackend) next(ctx context.Context, r messages.NextRequest) (*messages.Batch, error) {
	return b.nextInto(ctx, r, newFrame(r.Max, false))
}

// nextInto is next; the batch is what fits into f.
func (b *localBackend) nextInto(ctx context.Context, r messages.NextRequest, f *frame) (*messages.Batch, error) {
	k, err := kindOf(r.Kind)
	if err != nil {
		return nil, err
	}
	m, err := r.Selector.Compile(k)
	if err != nil {
		return nil, err
	}
	cursor, err := parseVersion(r.Cursor)
	if err != nil {
		return nil, err
	}
	batch := &messages.Batch{Since: r.Cursor, Cursor: r.Cursor}
	var held <-chan time.Time
	for {
		root := b.load()
		if cursor > root.Version() {
			return nil, messages.NewError(messages.CodeGone, "", "", "",
				fmt.Sprintf("version %d is not of this run of the daemon: list again", cursor))
		}
		full := false
		for !full && cursor < root.Version() {
			changes, next, err := root.Changes(k.Name, cursor, messages.MaxPage)
			if err != nil {
				return nil, err
			}
			for _, c := range changes {
				if e, ok := eventOf(m, c); ok {
					if !f.add(e.Object) {
						if f.err != nil {
							return nil, f.err
						}
						full = true
						break
					}
					batch.Events = append(batch.Events, e)
				}
				cursor = c.Version
			}
			if !full {
				if next <= cursor && len(changes) == 0 {
					cursor = root.Version()
				}
				cursor = max(cursor, next)
			}
		}
		batch.Cursor = formatVersion(cursor)
		if full || len(batch.Events) > 0 {
			return batch, nil
		}
		if held == nil {
			t := time.NewTimer(b.hold)
			defer t.Stop()
			held = t.C
		}
		select {
		case <-root.Changed():
		case <-held:
			return batch, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// eventOf is a change as a watcher with this selector sees it: what enters the selection is ADDED, what leaves it DELETED.
func eventOf(m *messages.Matcher, c store.Change) (messages.WatchEvent, bool) {
	before := c.Old != nil && m.Matches(c.Old)
	after := c.New != nil && m.Matches(c.New)
	e := messages.WatchEvent{Version: formatVersion(c.Version)}
	switch {
	case before && after:
		e.Type, e.Object = messages.Modified, c.New
	case after:
		e.Type, e.Object = messages.Added, c.New
	case before:
		e.Type, e.Object = messages.Deleted, c.Old
		if c.New == nil {
			e.Reason = c.Reason
		}
	default:
		return e, false
	}
	return e, true
}

func formatVersion(v uint64) string { return strconv.FormatUint(v, 10) }

func parseVersion(s string) (uint64, error) {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, messages.NewError(messages.CodeBadRequest, "", "", "", fmt.Sprintf("malformed resource version %q", s))
	}
	return v, nil
}

func unavailable(operation string) error {
	return messages.NewError(messages.CodeUnsupported, "", "", "", fmt.Sprintf("operation %q is not offered here", operation))
}

func (b *localBackend) set(ctx context.Context, r messages.SetRequest) (*messages.SetReply, error) {
	if b.core.Set == nil {
		return nil, unavailable(messages.OpSet)
	}
	return b.core.Set(ctx, r)
}

func (b *localBackend) delete(ctx context.Context, r messages.DeleteRequest) (messages.Object, error) {
	if b.core.Delete == nil {
		return nil, unavailable(messages.OpDelete)
	}
	k, err := kindOf(r.Kind)
	if err != nil {
		return nil, err
	}
	item, err := resolve(b.load(), k, r.Name, "delete")
	if err != nil {
		return nil, err
	}
	if r.UID != "" && r.UID != item.Object.GetUID() {
		return nil, messages.NewError(messages.CodeConflict, "delete", k.Name, r.Name,
			fmt.Sprintf("its uid is %s, not %s: it is another one by now", item.Object.GetUID(), r.UID))
	}
	return b.core.Delete(ctx, k, item.Object, item.Owner, r)
}

func (b *localBackend) write(ctx context.Context, r messages.WriteRequest) (*messages.WriteReply, error) {
	if b.core.Write == nil {
		return nil, unavailable(messages.OpWrite)
	}
	k, err := kindOf(r.Kind)
	if err != nil {
		return nil, err
	}
	item, err := resolve(b.load(), k, r.Name, "write")
	if err != nil && !(r.Create && errors.Is(err, messages.ErrNotFound)) {
		return nil, err
	}
	return b.core.Write(ctx, k, item, r)
}

func (b *localBackend) action(ctx context.Context, r messages.ActionRequest) (messages.Object, error) {
	if b.core.Action == nil {
		return nil, unavailable(messages.OpAction)
	}
	k, err := kindOf(messages.KindContainer)
	if err != nil {
		return nil, err
	}
	item, err := resolve(b.load(), k, r.Name, r.Action)
	if err != nil {
		return nil, err
	}
	return b.core.Action(ctx, item, r)
}

func (b *localBackend) tree(context.Context, messages.TreeRequest) (*messages.TreeNode, error) {
	if b.core.Tree == nil {
		return nil, unavailable(messages.OpTree)
	}
	t := b.core.Tree()
	return &t, nil
}

func (b *localBackend) events(ctx context.Context, r messages.EventsRequest) (*messages.EventsReply, error) {
	if b.core.Events == nil {
		return nil, unavailable(messages.OpEvents)
	}
	reply, err := b.core.Events(ctx, r)
	if err != nil {
		return nil, err
	}
	return &reply, nil
}

func (b *localBackend) version(ctx context.Context, _ messages.VersionRequest) (*messages.VersionReply, error) {
	if b.core.Version == nil {
		return nil, unavailable(messages.OpVersion)
	}
	return b.core.Version(ctx)
}

func (b *localBackend) debug(ctx context.Context, r messages.DebugRequest) (*messages.DebugReply, error) {
	if b.core.Debug == nil {
		return nil, unavailable(messages.OpDebug)
	}
	return b.core.Debug(ctx, r)
}

func (b *localBackend) shutdown(ctx context.Context, r messages.ShutdownRequest) (*messages.ShutdownReply, error) {
	if b.core.Shutdown == nil {
		return nil, unavailable(messages.OpShutdown)
	}
	return b.core.Shutdown(ctx, r)
}

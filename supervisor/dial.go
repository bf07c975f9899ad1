package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rdd-desktop/rdd/messages"
)

// silence is how long a client waits for the answer to a pull (given after 5 s at the latest) before it asks again.
const silence = 12 * time.Second

// Dial connects to the daemon of an instance. It creates nothing and starts nothing. Errors: DaemonNotRunning (in
// milliseconds), Unsupported, Forbidden (another user's instance).
func Dial(ctx context.Context, i Instance) (*Client, error) {
	if err := i.checkOwner(); err != nil {
		return nil, err
	}
	b := &remoteBackend{instance: i}
	if _, err := b.connect(ctx, nil); err != nil {
		return nil, err
	}
	return &Client{b: b}, nil
}

// remoteBackend talks to the daemon of an instance, whichever serve of it is there now.
type remoteBackend struct {
	instance Instance

	mu     sync.Mutex
	link   *link
	closed bool
}

// link is one serve of a daemon.
type link struct {
	o       *office
	id      identity
	address string
}

var _ backend = (*remoteBackend)(nil)

// connect finds the daemon anew, unless somebody did so since the caller's link was lost.
func (b *remoteBackend) connect(ctx context.Context, lost *link) (*link, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, notRunning(b.instance, "this client is closed")
	}
	if b.link != lost && b.link != nil {
		return b.link, nil
	}
	f, id, err := findDaemon(ctx, b.instance)
	if err != nil {
		return nil, err
	}
	o, err := getOffice()
	if err != nil {
		return nil, err
	}
	fresh := &link{o: o, id: id, address: f.Address}
	o.join(fresh.address, id)
	if b.link != nil {
		o.leave(b.link.address, b.link.id)
	}
	b.link = fresh
	return fresh, nil
}

func (b *remoteBackend) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.link != nil && !b.closed {
		b.link.o.leave(b.link.address, b.link.id)
	}
	b.closed, b.link = true, nil
	return nil
}

// repeatable operations change nothing: when the connection is lost they are asked again.
var repeatable = map[string]bool{
	messages.OpGet: true, messages.OpList: true, messages.OpNext: true, messages.OpTree: true,
	messages.OpEvents: true, messages.OpVersion: true,
}

// maxAsks is how often a question is asked: both directions may be lost one after the other, and each side may notice each loss.
const maxAsks = 5

// inquire asks and decodes. A lost connection makes it read edge.json once more; what may have been done already is not asked
// for twice.
func inquire[A any](ctx context.Context, b *remoteBackend, kind string, q any) (A, error) {
	var a A
	body, err := json.Marshal(q)
	if err != nil {
		return a, messages.WrapError(messages.CodeBadRequest, "encode", "request", "", err)
	}
	b.mu.Lock()
	l := b.link
	b.mu.Unlock()
	if l == nil {
		if l, err = b.connect(ctx, nil); err != nil {
			return a, err
		}
	}
	for range maxAsks {
		m, err := l.o.ask(ctx, l.address, kind, body)
		switch {
		case err != nil:
			return a, err
		case m != nil:
			return decodeAnswer[A](kind, m)
		}
		if l, err = b.connect(ctx, l); err != nil {
			return a, err
		}
		if !repeatable[kind] {
			return a, messages.NewError(messages.CodeUnavailable, "", "", "", "the connection was lost before the answer: it may have been done")
		}
	}
	return a, notRunning(b.instance, "the connection was lost")
}

func decodeAnswer[A any](kind string, m proto.Message) (a A, err error) {
	var data []byte
	var version uint32
	var got string
	switch m := m.(type) {
	case *messages.Reply:
		data, version, got = m.Body, m.Version, m.Kind
	case *messages.Frame:
		data, version, got = m.Body, m.Version, m.Kind
	}
	switch {
	case got == messages.OpError:
		return a, withOurs(decodeError(data))
	case version != messages.WireVersion || got != kind:
		return a, unsupported(fmt.Sprintf("the daemon answered %q with %q in wire version %d", kind, got, version))
	}
	if string(data) == "null" && kind != messages.OpDelete {
		return a, messages.NewError(messages.CodeUnsupported, "decode", "answer", kind, "it is empty")
	}
	if err = json.Unmarshal(data, &a); err != nil {
		return a, messages.WrapError(messages.CodeUnsupported, "decode", "answer", kind, err)
	}
	return a, nil
}

// withOurs adds to the daemon's word on what it supports what this client does.
func withOurs(err error) error {
	if e := messages.AsError(err); e.Code == messages.CodeUnsupported {
		if e.Details == nil {
			e.Details = map[string]string{}
		}
		e.Details["clientWireVersions"] = versionList(WireVersions())
		e.Details["clientOperations"] = strings.Join(Operations(), ",")
	}
	return err
}

// resource decodes an answer that is one resource of any kind.
type resource struct{ messages.Object }

// UnmarshalJSON decodes by the kind the resource names.
func (r *resource) UnmarshalJSON(data []byte) (err error) {
	if string(data) != "null" {
		r.Object, err = messages.DecodeObject(data)
	}
	return err
}

func (b *remoteBackend) get(ctx context.Context, r messages.GetRequest) (messages.Object, error) {
	a, err := inquire[resource](ctx, b, messages.OpGet, r)
	return a.Object, err
}

func (b *remoteBackend) list(ctx context.Context, r messages.ListRequest) (*messages.ListReply, error) {
	return inquire[*messages.ListReply](ctx, b, messages.OpList, r)
}

// next repeats a pull that nobody answers: it is absolute, the same cursor gives the same answer.
func (b *remoteBackend) next(ctx context.Context, r messages.NextRequest) (*messages.Batch, error) {
	for {
		patient, cancel := context.WithTimeout(ctx, silence)
		batch, err := inquire[*messages.Batch](patient, b, messages.OpNext, r)
		unanswered := patient.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err != nil && unanswered:
			// A daemon that is gone says so here; a silent one is asked again.
			b.mu.Lock()
			l := b.link
			b.mu.Unlock()
			if _, err := b.connect(ctx, l); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, err
		case batch != nil && batch.Since == r.Cursor:
			return batch, nil
		}
	}
}

func (b *remoteBackend) set(ctx context.Context, r messages.SetRequest) (*messages.SetReply, error) {
	return inquire[*messages.SetReply](ctx, b, messages.OpSet, r)
}

func (b *remoteBackend) delete(ctx context.Context, r messages.DeleteRequest) (messages.Object, error) {
	a, err := inquire[resource](ctx, b, messages.OpDelete, r)
	return a.Object, err
}

func (b *remoteBackend) write(ctx context.Context, r messages.WriteRequest) (*messages.WriteReply, error) {
	return inquire[*messages.WriteReply](ctx, b, messages.OpWrite, r)
}

func (b *remoteBackend) action(ctx context.Context, r messages.ActionRequest) (messages.Object, error) {
	a, err := inquire[resource](ctx, b, messages.OpAction, r)
	return a.Object, err
}

func (b *remoteBackend) tree(ctx context.Context, r messages.TreeRequest) (*messages.TreeNode, error) {
	return inquire[*messages.TreeNode](ctx, b, messages.OpTree, r)
}

func (b *remoteBackend) events(ctx context.Context, r messages.EventsRequest) (*messages.EventsReply, error) {
	return inquire[*messages.EventsReply](ctx, b, messages.OpEvents, r)
}

func (b *remoteBackend) version(ctx context.Context, r messages.VersionRequest) (*messages.VersionReply, error) {
	return inquire[*messages.VersionReply](ctx, b, messages.OpVersion, r)
}

func (b *remoteBackend) debug(ctx context.Context, r messages.DebugRequest) (*messages.DebugReply, error) {
	return inquire[*messages.DebugReply](ctx, b, messages.OpDebug, r)
}

func (b *remoteBackend) shutdown(ctx context.Context, r messages.ShutdownRequest) (*messages.ShutdownReply, error) {
	return inquire[*messages.ShutdownReply](ctx, b, messages.OpShutdown, r)
}

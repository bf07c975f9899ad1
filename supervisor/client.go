package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rdd-desktop/rdd/messages"
)

// requestDeadline is the time each request has of its own, whatever the caller waits for.
const requestDeadline = 10 * time.Second

// backend is the daemon as a client sees it: one method per operation of the wire. There are two: in process (localBackend)
// and over the edge (remoteBackend). What they return may be shared and must not be changed; Client copies.
type backend interface {
	get(ctx context.Context, r messages.GetRequest) (messages.Object, error)
	list(ctx context.Context, r messages.ListRequest) (*messages.ListReply, error)
	// next holds the answer for up to 5 s when there is no news.
	next(ctx context.Context, r messages.NextRequest) (*messages.Batch, error)
	set(ctx context.Context, r messages.SetRequest) (*messages.SetReply, error)
	delete(ctx context.Context, r messages.DeleteRequest) (messages.Object, error)
	write(ctx context.Context, r messages.WriteRequest) (*messages.WriteReply, error)
	action(ctx context.Context, r messages.ActionRequest) (messages.Object, error)
	tree(ctx context.Context, r messages.TreeRequest) (*messages.TreeNode, error)
	events(ctx context.Context, r messages.EventsRequest) (*messages.EventsReply, error)
	version(ctx context.Context, r messages.VersionRequest) (*messages.VersionReply, error)
	debug(ctx context.Context, r messages.DebugRequest) (*messages.DebugReply, error)
	shutdown(ctx context.Context, r messages.ShutdownRequest) (*messages.ShutdownReply, error)
	close() error
}

// Client talks to an rdd; it is the same type in process (Rdd.Client) and over the edge (Dial). It is safe for concurrent
// use. What it returns belongs to the caller.
type Client struct {
	b backend
	// copies: b hands out what the store holds.
	copies bool
}

// Close frees what a Client from Dial holds. A command that ends anyway need not call it.
func (c *Client) Close() error { return c.b.close() }

// copyOf is the Client boundary: the one place where a stored object is copied.
func copyOf[T messages.Object](c *Client, o T) T {
	if !c.copies || any(o) == nil {
		return o
	}
	return messages.DeepCopy(o)
}

// ask runs one request with its own deadline.
func ask[Q, A any](ctx context.Context, q Q, op func(context.Context, Q) (A, error)) (A, error) {
	limited, cancel := context.WithTimeout(ctx, requestDeadline)
	defer cancel()
	a, err := op(limited, q)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = messages.NewError(messages.CodeTimeout, "", "", "", fmt.Sprintf("no answer within %s", requestDeadline))
	}
	return a, err
}

func kindOf(name string) (messages.Kind, error) {
	k, ok := messages.KindByName(name)
	if !ok {
		return k, messages.NewError(messages.CodeBadRequest, "", "", "", fmt.Sprintf("there is no kind %q", name))
	}
	return k, nil
}

// Get returns one resource by metadata.name, human name or unique id prefix. Errors: NotFound, Ambiguous (details:
// candidates), BadRequest.
func (c *Client) Get(ctx context.Context, kind, name string) (messages.Object, error) {
	o, err := ask(ctx, messages.GetRequest{Kind: kind, Name: name}, c.b.get)
	if err != nil {
		return nil, err
	}
	return copyOf(c, o), nil
}

// ListOptions choose what List returns.
type ListOptions struct {
	Selector messages.Selector
}

// List is all resources of a kind at one version.
type List struct {
	Kind            messages.Kind
	ResourceVersion string
	Items           messages.Objects
}

// List returns all chosen resources of a kind as they were at one moment.
func (c *Client) List(ctx context.Context, kind string, o ListOptions) (*List, error) {
	k, err := kindOf(kind)
	if err != nil {
		return nil, err
	}
	l, err := c.list(ctx, k, o.Selector)
	if err != nil {
		return nil, err
	}
	for i, item := range l.Items {
		l.Items[i] = copyOf(c, item)
	}
	return l, nil
}

// list reads all pages; it begins anew when the pages were dropped meanwhile. The objects are not copied.
func (c *Client) list(ctx context.Context, k messages.Kind, s messages.Selector) (*List, error) {
	const attempts = 3
	for attempt := 1; ; attempt++ {
		l, err := c.pages(ctx, k, s)
		if err == nil || attempt == attempts || !errors.Is(err, messages.ErrGone) {
			return l, err
		}
	}
}

func (c *Client) pages(ctx context.Context, k messages.Kind, s messages.Selector) (*List, error) {
	l := &List{Kind: k, Items: messages.Objects{}}
	r := messages.ListRequest{Kind: k.Name, Selector: s}
	for {
		page, err := ask(ctx, r, c.b.list)
		if err != nil {
			return nil, err
		}
		l.ResourceVersion = page.ResourceVersion
		l.Items = append(l.Items, page.Items...)
		if page.Continue == "" {
			return l, nil
		}
		r.Continue = page.Continue
	}
}

// Set changes App.spec. Errors: Invalid (naming the field), Conflict (IfGeneration), Forbidden.
func (c *Client) Set(ctx context.Context, r messages.SetRequest) (*messages.SetReply, error) {
	reply, err := ask(ctx, r, c.b.set)
	if err != nil {
		return nil, err
	}
	if reply.App != nil {
		reply = &messages.SetReply{App: copyOf(c, reply.App), Changed: reply.Changed, Warnings: reply.Warnings}
	}
	return reply, nil
}

// Delete starts the deletion of a resource and returns it as it is then. Errors: NotFound, Ambiguous, Conflict (UID), Forbidden.
func (c *Client) Delete(ctx context.Context, r messages.DeleteRequest) (messages.Object, error) {
	o, err := ask(ctx, r, c.b.delete)
	if err != nil || o == nil {
		return nil, err
	}
	return copyOf(c, o), nil
}

// Write changes what a client may change of a resource; the reply has it as every later read sees it. Errors: NotFound, Ambiguous,
// Invalid (naming field, value and what is valid), Forbidden, Conflict (UID, ResourceVersion), Unavailable.
func (c *Client) Write(ctx context.Context, r messages.WriteRequest) (*messages.WriteReply, error) {
	reply, err := ask(ctx, r, c.b.write)
	if err != nil {
		return nil, err
	}
	out := *reply
	out.Object = copyOf(c, reply.Object)
	return &out, nil
}

// Action asks a container for an action and returns it with the receipt, begun, in status.lastAction; wait for its end there. Errors:
// NotFound, Ambiguous, Invalid (naming the actions), Forbidden (spec.policy Enforce wants the opposite), Conflict (UID), Unavailable.
func (c *Client) Action(ctx context.Context, r messages.ActionRequest) (*messages.Container, error) {
	o, err := ask(ctx, r, c.b.action)
	if err != nil {
		return nil, err
	}
	container, ok := copyOf(c, o).(*messages.Container)
	if !ok {
		return nil, messages.NewError(messages.CodeInternal, r.Action, messages.KindContainer, r.Name, fmt.Sprintf("unexpected answer %T", o))
	}
	return container, nil
}

// Tree returns the supervision tree.
func (c *Client) Tree(ctx context.Context) (*messages.TreeNode, error) {
	return ask(ctx, messages.TreeRequest{}, c.b.tree)
}

// Events returns the house's own events; with Wait it holds the answer for up to 5 s when there is no news.
func (c *Client) Events(ctx context.Context, r messages.EventsRequest) (*messages.EventsReply, error) {
	return ask(ctx, r, c.b.events)
}

// Version tells who is there.
func (c *Client) Version(ctx context.Context) (*messages.VersionReply, error) {
	return ask(ctx, messages.VersionRequest{}, c.b.version)
}

// Debug arms a test hook. Error: Forbidden unless the daemon runs with RDD_TEST_HOOKS=1.
func (c *Client) Debug(ctx context.Context, r messages.DebugRequest) (*messages.DebugReply, error) {
	return ask(ctx, r, c.b.debug)
}

// Shutdown asks the daemon to end, with the engine it runs or without; the reply comes before it does. Error: Forbidden when rdd
// is embedded.
func (c *Client) Shutdown(ctx context.Context, r messages.ShutdownRequest) (*messages.ShutdownReply, error) {
	return ask(ctx, r, c.b.shutdown)
}

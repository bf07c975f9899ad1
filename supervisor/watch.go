package supervisor

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

// WatchOptions choose what a Watch shows.
type WatchOptions struct {
	Selector messages.Selector
	// ResourceVersion to start from; empty = snapshot (ADDED…, a bookmark "initial events end"), then changes.
	ResourceVersion string
	// Bookmarks asks for bookmarks without news too (about every 5 s).
	Bookmarks bool
}

// Watch is a running watch: a cursor into the store's history. Nothing is queued for it in the daemon. Not safe for
// concurrent use.
type Watch struct {
	c      *Client
	kind   messages.Kind
	o      WatchOptions
	cursor string
	queue  []messages.WatchEvent
	err    error // what ended it
	ctx    context.Context
	cancel context.CancelFunc
}

// Watch begins a watch; snapshot and changes are one ordered sequence. It ends with ctx. Errors: BadRequest.
func (c *Client) Watch(ctx context.Context, kind string, o WatchOptions) (*Watch, error) {
	k, err := kindOf(kind)
	if err != nil {
		return nil, err
	}
	if _, err := o.Selector.Compile(k); err != nil {
		return nil, err
	}
	w := &Watch{c: c, kind: k, o: o, cursor: o.ResourceVersion}
	if w.cursor == "" {
		l, err := c.list(ctx, k, o.Selector)
		if err != nil {
			return nil, err
		}
		w.cursor = l.ResourceVersion
		w.queue = make([]messages.WatchEvent, 0, len(l.Items)+1)
		for _, item := range l.Items {
			w.queue = append(w.queue, messages.WatchEvent{Type: messages.Added, Version: item.GetResourceVersion(), Object: item})
		}
		w.queue = append(w.queue, w.bookmark(true))
	} else if _, err := parseVersion(w.cursor); err != nil {
		return nil, err
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	return w, nil
}

func (w *Watch) bookmark(first bool) messages.WatchEvent {
	o := w.kind.New()
	o.SetResourceVersion(w.cursor)
	if first {
		o.SetAnnotations(map[string]string{messages.AnnotationInitialEventsEnd: "true"})
	}
	o.SetCreationTimestamp(metav1.Time{})
	return messages.WatchEvent{Type: messages.Bookmark, Version: w.cursor, Object: o}
}

// Next blocks for the next event. Errors: Gone (relist; the watch is over), DaemonNotRunning (lost; a later call tries to go
// on where this one stopped), the context's.
func (w *Watch) Next(ctx context.Context) (messages.WatchEvent, error) {
	for len(w.queue) == 0 {
		if w.err != nil {
			return messages.WatchEvent{}, w.err
		}
		batch, err := w.pull(ctx)
		if err != nil {
			if messages.AsError(err).Code == messages.CodeGone {
				w.err = err
			}
			return messages.WatchEvent{}, err
		}
		if batch.Since != w.cursor {
			continue // not the answer to this question
		}
		w.cursor, w.queue = batch.Cursor, batch.Events
		if len(w.queue) == 0 && w.o.Bookmarks {
			w.queue = []messages.WatchEvent{w.bookmark(false)}
		}
	}
	e := w.queue[0]
	w.queue = w.queue[1:]
	if e.Object != nil {
		e.Object = copyOf(w.c, e.Object)
	}
	return e, nil
}

func (w *Watch) pull(ctx context.Context) (*messages.Batch, error) {
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.ctx, cancel)()
	return w.c.b.next(ctx, messages.NextRequest{Kind: w.kind.Name, Selector: w.o.Selector, Cursor: w.cursor})
}

// Close ends the watch.
func (w *Watch) Close() { w.cancel() }

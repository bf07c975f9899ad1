package main

import (
	"context"
	"errors"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// watch prints the changes of all targets until the context ends or one of them cannot go on.
func (c *cli) watch(ctx context.Context, l *link, targets []target, p printer, o *getOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	followers := make([]*follower, len(targets))
	for i, t := range targets {
		f := &follower{c: c, link: l, kind: t.kind, selector: o.selector, bookmarks: o.bookmarks,
			version: o.resourceVersion, explicit: o.resourceVersion != "", known: map[string]messages.Object{}, quiet: o.watchOnly}
		if t.name != "" {
			r, err := fetchOne(ctx, l, t, o)
			if err != nil {
				return err
			}
			f.selector.Name = r.GetName()
		}
		followers[i] = f
	}
	changes, ended := make(chan []messages.WatchEvent), make(chan error, len(followers))
	for _, f := range followers {
		go func() { ended <- f.run(ctx, changes) }()
	}
	for {
		select {
		case batch := <-changes:
			for _, e := range batch {
				if !o.scope.holds(e.Object) {
					continue
				}
				if err := p.event(e); err != nil {
					return err
				}
			}
		case err := <-ended:
			return err
		}
	}
}

func fetchOne(ctx context.Context, l *link, t target, o *getOptions) (messages.Object, error) {
	items, _, err := fetch(ctx, l.now(), t, o)
	if err != nil {
		return nil, err
	}
	return items[0], nil
}

// follower follows one kind through lost connections and lost history. What was missed is found by comparing a new
// snapshot with what is known, so that a reader of its changes ends with the same world as one who missed nothing.
type follower struct {
	c         *cli
	link      *link
	kind      messages.Kind
	selector  messages.Selector
	bookmarks bool
	// version of the last change; empty = begin with a snapshot.
	version string
	// explicit: the user chose the version; without a snapshot to compare with, Gone is the end.
	explicit bool
	// quiet drops the first snapshot (--watch-only).
	quiet bool
	// known resources by uid.
	known map[string]messages.Object
	// snapshot collects until its end; nil while live.
	snapshot []messages.Object
}

// run sends changes, in batches that belong together, until the context ends.
func (f *follower) run(ctx context.Context, to chan<- []messages.WatchEvent) error {
	client := f.link.now()
	for {
		err := f.follow(ctx, client, to)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, messages.ErrGone) && !f.explicit:
			f.c.notef("the history of %s no longer reaches back; listing again", f.kind.Plural)
			f.version = ""
		case lost(err):
			if client, err = f.link.again(ctx, client, err); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// follow reads one watch to its end.
func (f *follower) follow(ctx context.Context, client *supervisor.Client, to chan<- []messages.WatchEvent) error {
	live := f.version != ""
	f.snapshot = nil
	w, err := client.Watch(ctx, f.kind.Name,
		supervisor.WatchOptions{Selector: f.selector, ResourceVersion: f.version, Bookmarks: f.bookmarks})
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		e, err := w.Next(ctx)
		if err != nil {
			return err
		}
		var batch []messages.WatchEvent
		if live {
			batch = f.live(e)
		} else if e.Type == messages.Bookmark {
			live, batch = true, f.initial(e)
		} else {
			f.snapshot = append(f.snapshot, e.Object)
		}
		if len(batch) == 0 {
			continue
		}
		select {
		case to <- batch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// live takes one change.
func (f *follower) live(e messages.WatchEvent) []messages.WatchEvent {
	f.version = versionOf(e, f.version)
	switch e.Type {
	case messages.Bookmark:
		return f.bookmark(e, false)
	case messages.Deleted:
		delete(f.known, string(e.Object.GetUID()))
	default:
		f.known[string(e.Object.GetUID())] = e.Object
	}
	return []messages.WatchEvent{e}
}

// initial takes the end of a snapshot: the differences to what is known, deletions first.
func (f *follower) initial(end messages.WatchEvent) []messages.WatchEvent {
	f.version = versionOf(end, f.version)
	var gone, news []messages.WatchEvent
	now := make(map[string]messages.Object, len(f.snapshot))
	for _, o := range f.snapshot {
		uid := string(o.GetUID())
		now[uid] = o
		old, ok := f.known[uid]
		switch {
		case !ok:
			news = append(news, messages.WatchEvent{Type: messages.Added, Version: o.GetResourceVersion(), Object: o})
		case old.GetResourceVersion() != o.GetResourceVersion():
			news = append(news, messages.WatchEvent{Type: messages.Modified, Version: o.GetResourceVersion(), Object: o})
		}
	}
	for uid, o := range f.known {
		if now[uid] == nil {
			gone = append(gone, messages.WatchEvent{Type: messages.Deleted, Version: f.version, Object: o})
		}
	}
	f.known, f.snapshot = now, nil
	if f.quiet {
		f.quiet, news = false, nil
	}
	return append(append(gone, news...), f.bookmark(end, true)...)
}

// bookmark shows a bookmark to those who asked for them.
func (f *follower) bookmark(e messages.WatchEvent, initial bool) []messages.WatchEvent {
	if !f.bookmarks {
		return nil
	}
	if e.Object == nil {
		e.Object = f.kind.New()
		e.Object.SetResourceVersion(f.version)
		if initial {
			e.Object.SetAnnotations(map[string]string{messages.AnnotationInitialEventsEnd: "true"})
		}
	}
	return []messages.WatchEvent{e}
}

func versionOf(e messages.WatchEvent, old string) string {
	if e.Version != "" {
		return e.Version
	}
	if e.Object != nil && e.Object.GetResourceVersion() != "" {
		return e.Object.GetResourceVersion()
	}
	return old
}

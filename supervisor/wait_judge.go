package supervisor

import (
	"context"
	"errors"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

// judgeLook takes in what a look found of t; o is nil when there is no such object.
func (w *waiter) judgeLook(ctx context.Context, version string, t *target, o messages.Object) error {
	if t.met {
		return nil
	}
	first := !w.started
	if o == nil {
		if !first {
			if ok, err := w.absenceCounts(ctx, version); err != nil || !ok {
				return err
			}
		}
		w.start(version)
		switch {
		case w.o.For.mode == forDelete:
			t.met = true
		case w.o.For.mode == forCreate:
		case first, t.uid != "":
			return w.notFound(t)
		default: // as in kubectl, one that comes back may still meet it
			w.forget(t)
		}
		return nil
	}
	w.start(version)
	event := messages.Added
	if t.last != nil {
		event = messages.Modified
		if t.last.GetResourceVersion() == o.GetResourceVersion() {
			return nil
		}
	}
	t.name = o.GetName()
	w.byName[t.name] = t
	return w.judge(t, messages.WatchEvent{Type: event, Version: o.GetResourceVersion(), Object: o})
}

// absenceCounts: after a restart of the daemon the mirrors come back one by one; until its engine is connected again, a
// missing mirror says nothing about the object.
func (w *waiter) absenceCounts(ctx context.Context, version string) (bool, error) {
	if !w.kind.Mirrored || bootOf(version) == w.boot {
		return true, nil
	}
	for {
		o, err := ask(ctx, messages.GetRequest{Kind: messages.KindApp, Name: messages.AppName}, w.c.b.get)
		if err != nil && !errors.Is(err, messages.ErrNotFound) {
			return false, err
		}
		if err == nil {
			if c := messages.Condition(o, messages.ConditionContainerEngineReady); c != nil {
				if c.Status == metav1.ConditionTrue || c.Reason == messages.ReasonStopped || c.Reason == messages.ReasonNotApplicable {
					w.boot = bootOf(version)
					// What came back meanwhile is found by another look.
					return false, messages.NewError(messages.CodeGone, "", "", "", "the daemon was restarted: list again")
				}
			}
		}
		if err := sleep(ctx, rewatchMax/4); err != nil {
			return false, err
		}
	}
}

// seen takes in one change.
func (w *waiter) seen(e messages.WatchEvent) error {
	t := w.byName[e.Object.GetName()]
	if t == nil || t.met {
		return nil
	}
	return w.judge(t, e)
}

func (w *waiter) judge(t *target, e messages.WatchEvent) error {
	o := e.Object
	if e.Type == messages.Deleted {
		w.progress(e)
		if t.uid != "" && o.GetUID() != t.uid {
			return nil
		}
		t.last = o
		switch {
		case w.o.For.mode == forDelete:
			t.met = true
		case t.uid != "" && w.o.For.mode != forCreate:
			return w.notFound(t)
		default:
			w.forget(t)
		}
		return nil
	}
	switch {
	case t.uid == "" && w.o.For.mode == forDelete:
		t.uid = o.GetUID() // what is there now is what shall go
	case t.uid != "" && o.GetUID() != t.uid:
		w.progress(e)
		switch w.o.For.mode {
		case forDelete: // another one in its place: it is gone
			t.met = true
			return nil
		case forCreate:
			return nil
		}
		return w.notFound(t)
	}
	w.progress(e)
	t.last = o
	ok, err := w.o.For.met(o)
	if err != nil {
		return err
	}
	if t.met = ok; ok {
		return nil
	}
	if c := w.o.For.failed(o); c != nil {
		return terminal("wait for", w.kind.Name, w.label(t), c)
	}
	return nil
}

// forget goes back to the name the caller gave: a human name may come back on another object.
func (w *waiter) forget(t *target) {
	if t.given != "" && t.name != "" {
		delete(w.byName, t.name)
		t.name = ""
	}
}

func (w *waiter) progress(e messages.WatchEvent) {
	if w.o.Progress != nil {
		e.Object = copyOf(w.c, e.Object)
		w.o.Progress(e)
	}
}

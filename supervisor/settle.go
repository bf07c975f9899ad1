package supervisor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

// lastLookLimit bounds the look after the deadline.
const lastLookLimit = 500 * time.Millisecond

// SettleOptions say what WaitSettled waits for.
type SettleOptions struct {
	// Generation of the App that must have settled; 0 = the one it has when first seen.
	Generation int64
	Timeout    time.Duration // 0 = unlimited
	// Progress, if set, is told of every change of the App.
	Progress func(*messages.App)
}

// WaitSettled waits until Settled=True with observedGeneration ≥ Generation; a terminal reason ends it at once
// (TerminalFailure). It survives what Wait survives. Errors: Timeout (details: the blocker), TerminalFailure.
func (c *Client) WaitSettled(ctx context.Context, o SettleOptions) (*messages.App, error) {
	limited := ctx
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	s := &settler{c: c, o: o}
	err := s.run(limited)
	switch {
	case err == nil:
		return copyOf(c, s.last), nil
	case ctx.Err() == nil && limited.Err() != nil, errors.Is(ctx.Err(), context.DeadlineExceeded):
		// It may have settled at the deadline: the answer is what a look after it shows.
		switch done, err := s.lastLook(context.WithoutCancel(ctx)); {
		case !done:
			return nil, s.timeout()
		case err != nil:
			return nil, err
		}
		return copyOf(c, s.last), nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, err
}

// lastLook is what the App is when the time is over.
func (s *settler) lastLook(ctx context.Context) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, lastLookLimit)
	defer cancel()
	o, err := s.c.b.get(ctx, messages.GetRequest{Kind: messages.KindApp, Name: messages.AppName})
	if err != nil {
		return false, nil // nothing newer is known than what was seen
	}
	return s.judge(o.(*messages.App))
}

type settler struct {
	c    *Client
	o    SettleOptions
	last *messages.App
	lost error
}

func (s *settler) run(ctx context.Context) error {
	backoff := rewatchMin
	for {
		done, err := s.session(ctx, func() { backoff = rewatchMin })
		if done || ctx.Err() != nil {
			return err
		}
		if err != nil && messages.ClassOf(err) != messages.ClassTransient && !errors.Is(err, messages.ErrNotFound) {
			return err
		}
		if err != nil && !errors.Is(err, messages.ErrGone) {
			s.lost = err
		}
		if err := sleep(ctx, backoff/2+rand.N(backoff/2)); err != nil {
			return err
		}
		backoff = min(2*backoff, rewatchMax)
	}
}

func (s *settler) session(ctx context.Context, alive func()) (done bool, err error) {
	app, _ := messages.KindByName(messages.KindApp)
	selector := messages.Selector{Name: messages.AppName}
	l, err := s.c.list(ctx, app, selector)
	if err != nil {
		return false, err
	}
	alive()
	for _, o := range l.Items {
		if done, err := s.judge(o.(*messages.App)); done {
			return true, err
		}
	}
	cursor := l.ResourceVersion
	for {
		batch, err := s.c.b.next(ctx, messages.NextRequest{Kind: app.Name, Selector: selector, Cursor: cursor})
		if err != nil {
			return false, err
		}
		s.lost = nil
		if batch.Since != cursor {
			continue
		}
		cursor = batch.Cursor
		for _, e := range batch.Events {
			if a, ok := e.Object.(*messages.App); ok && e.Type != messages.Deleted {
				if done, err := s.judge(a); done {
					return true, err
				}
			}
		}
	}
}

func (s *settler) judge(a *messages.App) (done bool, err error) {
	if s.last != nil && s.last.ResourceVersion == a.ResourceVersion {
		return false, nil
	}
	s.last = a
	if s.o.Generation == 0 {
		s.o.Generation = a.Generation
	}
	if s.o.Progress != nil {
		s.o.Progress(copyOf(s.c, a))
	}
	settled := messages.Condition(a, messages.ConditionSettled)
	if settled != nil && settled.ObservedGeneration >= s.o.Generation && settled.Status == metav1.ConditionTrue {
		return true, nil
	}
	list := a.Conditions()
	for i := range list {
		// What is Unknown only says after whom.
		if c := &list[i]; c.ObservedGeneration >= s.o.Generation && c.Status != metav1.ConditionUnknown && messages.TerminalReason(c.Reason) {
			return true, terminal("settle", a.Kind, a.Name, c)
		}
	}
	return false, nil
}

func (s *settler) timeout() error {
	e := messages.NewError(messages.CodeTimeout, "settle", messages.KindApp, messages.AppName, fmt.Sprintf("not settled after %s", s.o.Timeout))
	e.Details = map[string]string{}
	if s.last == nil {
		e.Details["blocker"] = unheard
		e.Message += ": " + unheard
	} else {
		e.Message += fmt.Sprintf(" (generation %d)", s.o.Generation)
		e.Details["generation"] = strconv.FormatInt(s.o.Generation, 10)
		if c := messages.Condition(s.last, messages.ConditionSettled); c != nil {
			describe(e, c)
			e.Message += ": " + e.Details["blocker"]
		}
	}
	if s.lost != nil {
		e.Details["connection"] = s.lost.Error()
		e.Message += "; " + s.lost.Error()
	}
	return e
}

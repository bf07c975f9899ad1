package moby

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// Events implements [dockerio.System]. There is no filter by type: the engine keeps its last 256 events of all types, and only who
// sees all of them can tell that a replay was cut.
func (e *engine) Events(ctx context.Context, since dockerio.Time) (dockerio.Stream, error) {
	w := what{"read", kindEvents, e.host}
	ctx, got := withAnswer(ctx)
	if err := e.negotiate(ctx); err != nil {
		return nil, w.failed(ctx, *got, err)
	}
	*got = answer{}
	s := &stream{what: w, caller: ctx}
	ctx, s.cancel = context.WithCancel(ctx)
	s.from = e.api.Events(ctx, client.EventsListOptions{Since: since.Since()})
	if got.status == 0 || got.status >= 400 {
		err := <-s.from.Err // there is one for sure, but it comes after the return
		s.cancel()
		return nil, w.failed(s.caller, *got, err)
	}
	return s, nil
}

// stream is one subscription. The client library's goroutine behind it ends with the context.
type stream struct {
	what   what
	caller context.Context
	cancel context.CancelFunc
	from   client.EventsResult

	mu  sync.Mutex
	end error // why the stream ended
}

// Next implements [dockerio.Stream].
func (s *stream) Next() (dockerio.Event, error) {
	s.mu.Lock()
	end := s.end
	s.mu.Unlock()
	if end != nil {
		return dockerio.Event{}, end
	}
	// Messages is unbuffered and never closed; Err gets one value, after the last message was taken.
	select {
	case m := <-s.from.Messages:
		return event(m), nil
	case err := <-s.from.Err:
		return dockerio.Event{}, s.ended(err)
	}
}

// Close implements [dockerio.Stream].
func (s *stream) Close() error {
	s.ended(context.Canceled)
	return nil
}

// ended keeps the first reason.
func (s *stream) ended(err error) error {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.end != nil:
	case s.caller.Err() != nil:
		s.end = s.caller.Err()
	case errors.Is(err, context.Canceled), errors.Is(err, io.EOF):
		s.end = err
	case errors.Is(err, io.ErrUnexpectedEOF):
		s.end = s.what.error(messages.CodeEngineUnreachable, errors.Join(errors.New("the stream broke off"), err))
	default:
		s.end = s.what.failed(s.caller, answer{}, err)
	}
	return s.end
}

func event(m events.Message) dockerio.Event {
	action, _, _ := strings.Cut(string(m.Action), ":")
	at := dockerio.UnixTime(m.Time)
	if m.TimeNano != 0 {
		at = dockerio.EngineTime(time.Unix(0, m.TimeNano))
	}
	return dockerio.Event{Type: string(m.Type), Action: action, ID: m.Actor.ID, Attributes: notEmpty(m.Actor.Attributes), Time: at}
}

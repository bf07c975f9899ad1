package sim

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
)

// emit announces a change to whoever listens. The caller holds the lock.
func (e *Engine) emit(kind, action, id string, attributes map[string]string) {
	if e.down {
		return
	}
	event := dockerio.Event{Type: kind, Action: action, ID: id, Attributes: attributes, Time: dockerio.EngineTime(e.now())}
	e.faults.announce(event)
}

// short is an event as the port has it: its action without what follows the colon.
func short(event dockerio.Event) dockerio.Event {
	event.Action, _, _ = strings.Cut(event.Action, ":")
	event.Attributes = maps.Clone(event.Attributes)
	return event
}

// tell puts an event into the history and tells those who listen. The caller holds the lock.
func (e *Engine) tell(event dockerio.Event) {
	if e.down {
		return
	}
	if len(e.history) >= 2*History {
		e.history = slices.Clone(e.history[len(e.history)-History+1:])
	}
	e.history = append(e.history, event)
	e.streams = slices.DeleteFunc(e.streams, func(s *stream) bool {
		if s.ctx.Err() != nil {
			return true // nobody will read it any more
		}
		s.add(event)
		return false
	})
}

func (e *Engine) emitContainer(c *container, action string, extra map[string]string) {
	attributes := make(map[string]string, len(c.labels)+2+len(extra))
	maps.Copy(attributes, c.labels)
	attributes["name"], attributes["image"] = c.name, c.imageName
	maps.Copy(attributes, extra)
	e.emit(dockerio.TypeContainer, action, c.id, attributes)
}

func (e *Engine) emitImage(action, id, name string, labels map[string]string) {
	attributes := maps.Clone(labels)
	if attributes == nil {
		attributes = map[string]string{}
	}
	attributes["name"] = name
	e.emit(dockerio.TypeImage, action, id, attributes)
}

func (e *Engine) emitVolume(v *volume, action string, extra map[string]string) {
	attributes := map[string]string{"driver": "local"}
	maps.Copy(attributes, extra)
	e.emit(dockerio.TypeVolume, action, v.name, attributes)
}

func (e *Engine) emitNetwork(c *container, action string) {
	e.emit(dockerio.TypeNetwork, action, e.network, map[string]string{"container": c.id, "name": "bridge", "type": "bridge"})
}

func (e *Engine) emitPrune(kind string) {
	e.emit(kind, "prune", "", map[string]string{"reclaimed": "0"})
}

// stream is a subscription.
type stream struct {
	engine *Engine
	ctx    context.Context

	// The rest is guarded by the engine's lock.
	since dockerio.Time // to subscribe from, when late
	late  bool
	queue []dockerio.Event
	over  []*overflow // behind the queue, while their emitters wait
	err   error
	muted bool
	// finished: it ends when the queue is empty.
	finished bool
	wakeUp   chan struct{}
}

// overflow is an event for which a slow reader's buffer has no room; its emitter waits a while.
type overflow struct {
	stream *stream
	event  dockerio.Event
	taken  chan struct{}
}

func (e *Engine) subscribe(ctx context.Context, since dockerio.Time) *stream {
	s := &stream{engine: e, ctx: ctx, since: since, wakeUp: make(chan struct{}, 1)}
	if e.faults.late {
		s.late = true
		e.streams = append(e.streams, s) // so that its connection ends with the others
	} else {
		s.replay()
		e.streams = append(e.streams, s)
	}
	return s
}

// replay queues what the history has from since on.
func (s *stream) replay() {
	s.late = false
	if s.since.IsZero() {
		return
	}
	history := s.engine.history
	for _, event := range history[max(0, len(history)-History):] {
		if event.Time.Sub(s.since) >= 0 {
			s.queue = append(s.queue, event)
		}
	}
}

func (s *stream) signal() {
	select {
	case s.wakeUp <- struct{}{}:
	default:
	}
}

// add queues an event, or has its emitter wait, or loses it.
func (s *stream) add(event dockerio.Event) {
	switch {
	case s.muted:
		s.engine.faults.strike(StruckMute)
		return
	case s.late:
		return
	case len(s.queue) < s.engine.options.Buffer && len(s.over) == 0:
		s.queue = append(s.queue, event)
	case s.engine.options.Stall > 0:
		o := &overflow{stream: s, event: event, taken: make(chan struct{})}
		s.over = append(s.over, o)
		s.engine.waiting = append(s.engine.waiting, o)
	default:
		s.engine.lost++
		return
	}
	s.signal()
}

// stall waits for the readers of events that found no room, each its time, and loses what is not taken then.
func (e *Engine) stall(waiting []*overflow) {
	for _, o := range waiting {
		timer := time.NewTimer(e.options.Stall)
		select {
		case <-o.taken:
			timer.Stop()
			continue
		case <-timer.C:
		}
		e.mu.Lock()
		before := len(o.stream.over)
		o.stream.over = slices.DeleteFunc(o.stream.over, func(other *overflow) bool { return other == o })
		e.lost += before - len(o.stream.over)
		e.mu.Unlock()
	}
}

// Next implements dockerio.Stream.
func (s *stream) Next() (dockerio.Event, error) {
	event, err := s.next()
	return short(event), err
}

// Watch is a subscription to events as the HTTP API tells them: actions come whole ("health_status: healthy").
type Watch struct{ stream *stream }

// Events subscribes to what happens from since on, as [dockerio.System] has it.
func (e *Engine) Events(ctx context.Context, since dockerio.Time) Watch {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Watch{e.subscribe(ctx, since)}
}

// Next is the next event; the errors are those of a [dockerio.Stream].
func (w Watch) Next() (dockerio.Event, error) { return w.stream.next() }

// Close ends the subscription.
func (w Watch) Close() { _ = w.stream.Close() }

// Finish ends the subscription with io.EOF once what is queued was read.
func (w Watch) Finish() {
	w.stream.engine.mu.Lock()
	defer w.stream.engine.mu.Unlock()
	w.stream.finished = true
	w.stream.signal()
}

func (s *stream) next() (dockerio.Event, error) {
	for {
		event, ok, err := s.take()
		if ok || err != nil {
			return event, err
		}
		select {
		case <-s.ctx.Done():
		case <-s.wakeUp:
		}
	}
}

func (s *stream) take() (event dockerio.Event, ok bool, err error) {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.err == nil && s.ctx.Err() != nil {
		s.end(s.ctx.Err())
	}
	if s.err != nil {
		s.signal() // for another reader
		return event, false, s.err
	}
	if e.frozen {
		return event, false, nil
	}
	if s.late {
		s.replay()
	}
	if len(s.queue) == 0 {
		if s.finished {
			s.end(io.EOF)
			err = s.err
		}
		return event, false, err
	}
	event = s.queue[0]
	s.queue[0] = dockerio.Event{}
	s.queue = s.queue[1:]
	if len(s.over) > 0 {
		s.queue = append(s.queue, s.over[0].event)
		close(s.over[0].taken)
		s.over = s.over[1:]
	}
	if len(s.queue) > 0 {
		s.signal()
	}
	return event, true, nil
}

// end ends the stream; what was not read is lost. The caller holds the lock.
func (s *stream) end(err error) {
	if s.err != nil {
		return
	}
	s.err = err
	s.queue = nil
	for _, o := range s.over {
		close(o.taken)
	}
	s.over = nil
	s.engine.streams = slices.DeleteFunc(s.engine.streams, func(other *stream) bool { return other == s })
	s.signal()
}

// Close implements dockerio.Stream.
func (s *stream) Close() error {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	s.end(context.Canceled)
	return nil
}

func (e *Engine) endStreams(err error) {
	for _, s := range slices.Clone(e.streams) {
		s.end(err)
	}
}

// Streams is how many subscriptions are open.
func (e *Engine) Streams() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.streams = slices.DeleteFunc(e.streams, func(s *stream) bool { return s.ctx.Err() != nil })
	return len(e.streams)
}

// Lost is how many events were lost to slow readers.
func (e *Engine) Lost() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lost
}

// EventLog is the events the engine still has, oldest first.
func (e *Engine) EventLog() []dockerio.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := slices.Clone(e.history[max(0, len(e.history)-History):])
	for i := range list {
		list[i] = short(list[i])
	}
	return list
}

package sim

import (
	"context"
	"io"

	"github.com/rdd-desktop/rdd/dockerio"
)

// LogLine is one line that a container has written.
type LogLine struct {
	Time   dockerio.Time
	Stderr bool
	Text   string // without the line's end
}

// keptLines is how much of a container's log is kept.
const keptLines = 10_000

func (c *container) write(now dockerio.Time, line Output) {
	if len(c.log) >= 2*keptLines {
		c.dropped += len(c.log) - keptLines
		c.log = append([]LogLine(nil), c.log[len(c.log)-keptLines:]...)
	}
	c.log = append(c.log, LogLine{now, line.Stderr, line.Text})
}

// Logs is a reading of a container's log.
type Logs struct {
	engine *Engine
	c      *container
	next   int // counted from the container's first line
	follow bool
	exits  int // of an attachment: where it ends; 0 = where the container does not run
}

// Logs reads a container's log from its beginning; follow goes on until the container stops.
func (e *Engine) Logs(ref string, follow bool) (*Logs, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.findContainer("read the log of", ref)
	if err != nil {
		return nil, err
	}
	return &Logs{engine: e, c: c, follow: follow}, nil
}

// Attach reads what a container writes from now on, until the process that runs now, or the next one, has ended.
func (e *Engine) Attach(ref string) (*Logs, error) {
	l, err := e.Logs(ref, true)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	l.next, l.exits = l.c.dropped+len(l.c.log), l.c.exits+1
	return l, nil
}

// Next is the next line; io.EOF at the end, the context's error, or that the engine is not reachable.
func (l *Logs) Next(ctx context.Context) (line LogLine, err error) {
	err = l.engine.await(ctx, func() bool {
		l.next = max(l.next, l.c.dropped)
		if at := l.next - l.c.dropped; at < len(l.c.log) {
			line = l.c.log[at]
			return true
		}
		return !l.follow || l.over()
	})
	if err == nil && line.Time.IsZero() {
		err = io.EOF
	}
	if err == nil {
		l.next++
	}
	return line, err
}

func (l *Logs) over() bool {
	switch {
	case l.engine.containers.get(l.c.id) != l.c:
		return true
	case l.exits > 0: // a start that failed is an end, too
		return l.c.exits >= l.exits || l.c.errorText != ""
	}
	return !l.c.running
}

// Waiter waits for the end of a container.
type Waiter struct {
	engine *Engine
	c      *container
	done   func(c *container) bool
}

// Wait prepares to wait until a container does not run ("", "not-running"), ends the next time ("next-exit") or is removed
// ("removed").
func (e *Engine) Wait(ref, condition string) (*Waiter, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.findContainer("wait for", ref)
	if err != nil {
		return nil, err
	}
	w := &Waiter{e, c, func(c *container) bool { return !c.running }}
	exits := c.exits
	switch condition {
	case "next-exit":
		w.done = func(c *container) bool { return c.exits > exits }
	case "removed":
		w.done = func(*container) bool { return false }
	}
	return w, nil
}

// Code waits, and tells the exit code.
func (w *Waiter) Code(ctx context.Context) (code int, err error) {
	err = w.engine.await(ctx, func() bool {
		code = w.c.exitCode
		return w.done(w.c) || w.engine.containers.get(w.c.id) != w.c
	})
	return code, err
}

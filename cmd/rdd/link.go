package main

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

const (
	// redialLimit is how long a lost daemon is looked for before a watch gives up.
	redialLimit = time.Minute
	redialPause = 200 * time.Millisecond
)

// link is a connection to the daemon that outlives the connection: a watch asks it for another one when it lost its own.
type link struct {
	c        *cli
	instance supervisor.Instance

	mu     sync.Mutex
	client *supervisor.Client
}

func (c *cli) link(ctx context.Context) (*link, error) {
	i, err := c.theInstance()
	if err != nil {
		return nil, err
	}
	client, err := dialInstance(ctx, i)
	if err != nil {
		return nil, err
	}
	return &link{c: c, instance: i, client: client}, nil
}

// now is the present connection.
func (l *link) now() *supervisor.Client {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.client
}

// lost reports whether err means that the daemon may answer again on another connection.
func lost(err error) bool {
	return errors.Is(err, messages.ErrDaemonNotRunning) || errors.Is(err, messages.ErrUnavailable)
}

// again replaces a connection that was lost; of several askers one does it. Error: the last one, after redialLimit.
func (l *link) again(ctx context.Context, dead *supervisor.Client, cause error) (*supervisor.Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != dead {
		return l.client, nil
	}
	l.c.notef("lost the daemon (%v); waiting for it", cause)
	go func() { _ = dead.Close() }()
	deadline := time.Now().Add(redialLimit)
	for {
		client, err := dialInstance(ctx, l.instance)
		if err == nil {
			l.c.notef("connected to the daemon again")
			l.client = client
			return client, nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return nil, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(redialPause):
		}
	}
}

// repeatIf calls ask on the present connection and, when on is set, again on the next one while the daemon gets lost.
func (l *link) repeatIf(ctx context.Context, on bool, ask func(*supervisor.Client) error) error {
	client := l.now()
	for {
		err := ask(client)
		if err == nil || !on || !lost(err) || ctx.Err() != nil {
			return err
		}
		if client, err = l.again(ctx, client, err); err != nil {
			return err
		}
	}
}

// printJSON prints v as one indented document.
func (c *cli) printJSON(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "    ")
	return enc.Encode(v)
}

// printJSONLine prints v as one line.
func (c *cli) printJSONLine(v any) error { return json.NewEncoder(c.out).Encode(v) }

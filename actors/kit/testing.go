package kit

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Probe is an actor for tests: it keeps every plain message it gets, in order, for the test to take. It may be started many times.
type Probe struct {
	// Answer, when set before the house starts, is called in the probe's turn for every plain message.
	Answer func(c *Context, msg any)

	mu   sync.Mutex
	got  []any
	news chan struct{}
}

// NewProbe makes a probe; give its New to a ChildSpec.
func NewProbe() *Probe { return &Probe{news: make(chan struct{})} }

// New makes the actor.
func (p *Probe) New() Actor { return probeActor{p} }

type probeActor struct{ p *Probe }

func (a probeActor) Receive(c *Context, msg any) {
	if strings.HasPrefix(fmt.Sprintf("%T", msg), "*actor.") {
		return // life cycle
	}
	p := a.p
	p.mu.Lock()
	p.got = append(p.got, msg)
	close(p.news)
	p.news = make(chan struct{})
	p.mu.Unlock()
	if p.Answer != nil {
		p.Answer(c, msg)
	}
}

// Drain gives all messages not taken yet.
func (p *Probe) Drain() []any {
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got
}

// Next takes the oldest message, waiting up to that long for one.
func (p *Probe) Next(within time.Duration) (any, error) {
	limit := time.NewTimer(within)
	defer limit.Stop()
	for {
		p.mu.Lock()
		news := p.news
		if len(p.got) > 0 {
			msg := p.got[0]
			p.got = p.got[1:]
			p.mu.Unlock()
			return msg, nil
		}
		p.mu.Unlock()
		select {
		case <-news:
		case <-limit.C:
			return nil, fmt.Errorf("no message in %v", within)
		}
	}
}

// Expect takes the probe's next message, which must be a T.
func Expect[T any](p *Probe, within time.Duration) (T, error) {
	msg, err := p.Next(within)
	if err != nil {
		var none T
		return none, fmt.Errorf("expected %T: %w", none, err)
	}
	t, ok := msg.(T)
	if !ok {
		return t, fmt.Errorf("expected %T, got %T: %+v", t, msg, msg)
	}
	return t, nil
}

// Await takes messages until one is a T for which match (nil = any) is true; what comes before is thrown away.
func Await[T any](p *Probe, within time.Duration, match func(T) bool) (T, error) {
	var none T
	for deadline := time.Now().Add(within); ; {
		msg, err := p.Next(time.Until(deadline))
		if err != nil {
			return none, fmt.Errorf("no %T in %v", none, within)
		}
		if t, ok := msg.(T); ok && (match == nil || match(t)) {
			return t, nil
		}
	}
}

// TestConfig describes a house for a test: actors under test and probes in the place of all others.
type TestConfig struct {
	// House is the house's configuration; its Jitter defaults to a constant 0.5 here.
	House HouseConfig
	// Actors under test by path, e.g. "rdd/engine"; started after the probes, by path.
	Actors map[string]ChildSpec
	// Probes are the paths of probes, e.g. "rdd/app". What lies between is filled with idle actors.
	Probes []string
	// Limit of the start. Default 10 s.
	Limit time.Duration
}

// TestHouse is a started house with its probes by path.
type TestHouse struct {
	*House
	Probes map[string]*Probe
}

// StartTest starts a house for a test. The caller must Stop it, also under testing/synctest, where it must be
// started inside the bubble.
func StartTest(cfg TestConfig) (*TestHouse, error) {
	if cfg.House.Jitter == nil {
		cfg.House.Jitter = func() float64 { return 0.5 }
	}
	if cfg.House.Log == nil {
		cfg.House.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Limit <= 0 {
		cfg.Limit = 10 * time.Second
	}
	t := &TestHouse{House: NewHouse(cfg.House), Probes: map[string]*Probe{}}
	root := ChildSpec{}
	for _, path := range cfg.Probes {
		p := NewProbe()
		t.Probes[path] = p
		if err := root.place(path, ChildSpec{New: p.New}); err != nil {
			return nil, err
		}
	}
	for _, path := range slices.Sorted(maps.Keys(cfg.Actors)) {
		if err := root.place(path, cfg.Actors[path]); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), cfg.Limit)
	defer cancel()
	if err := t.Root(ctx, root); err != nil {
		_ = t.Stop(ctx)
		return nil, err
	}
	return t, nil
}

// place puts spec at path, under s, with idle actors in between.
func (s *ChildSpec) place(path string, spec ChildSpec) error {
	parts := strings.Split(path, "/")
	if s.Name == "" {
		s.Name = parts[0]
	}
	if s.Name != parts[0] || len(parts) < 2 {
		return fmt.Errorf("test house: %q is not below root %q", path, s.Name)
	}
	at := s
	for _, name := range parts[1:] {
		next := at.child(name)
		if next == nil {
			at.Children = append(at.Children, ChildSpec{Name: name, New: func() Actor { return idle{} }})
			next = &at.Children[len(at.Children)-1]
		}
		at = next
	}
	spec.Name, spec.Children = at.Name, append(spec.Children, at.Children...)
	*at = spec
	return nil
}

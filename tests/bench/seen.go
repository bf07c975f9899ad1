package main

import (
	"fmt"
	"sync"
	"time"
)

// patience bounds every wait of a benchmark.
const patience = 3 * time.Minute

// sightings are when each name was seen first since the last mark.
type sightings struct {
	mu   sync.Mutex
	at   map[string]time.Time
	last time.Time
	news chan struct{} // closed at the next sighting
}

func newSightings() *sightings {
	return &sightings{at: map[string]time.Time{}, news: make(chan struct{})}
}

func (s *sightings) saw(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.at[name]; !known {
		s.last = time.Now()
		s.at[name] = s.last
		close(s.news)
		s.news = make(chan struct{})
	}
}

func (s *sightings) mark() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.at)
}

// await waits until enough is true, under the lock.
func (s *sightings) await(what string, enough func() (time.Time, bool)) (time.Time, error) {
	limit := time.After(patience)
	for {
		s.mu.Lock()
		at, ok := enough()
		news := s.news
		s.mu.Unlock()
		if ok {
			return at, nil
		}
		select {
		case <-news:
		case <-limit:
			return at, fmt.Errorf("never seen: %s", what)
		}
	}
}

func (s *sightings) awaitName(name string) (time.Time, error) {
	return s.await(name, func() (time.Time, bool) { at, ok := s.at[name]; return at, ok })
}

// awaitAll waits for n different names.
func (s *sightings) awaitAll(n int) (time.Time, error) {
	return s.await(fmt.Sprint(n, " objects"), func() (time.Time, bool) { return s.last, len(s.at) >= n })
}

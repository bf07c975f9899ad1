package kit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

// Recorder keeps the last events of the house and logs each once. Safe for all goroutines.
type Recorder struct {
	log *slog.Logger

	mu      sync.Mutex
	ring    []messages.HouseEvent // ring[seq % cap]
	cap     int64
	seq     int64 // of the newest, 0 = none
	changed chan struct{}
}

// NewRecorder makes a recorder of that many events; 0 = 1024.
func NewRecorder(log *slog.Logger, events int) *Recorder {
	if events <= 0 {
		events = 1024
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Recorder{log: log, cap: int64(events), changed: make(chan struct{})}
}

// Add records e. Seq is assigned; Time is now unless it is set.
func (r *Recorder) Add(e messages.HouseEvent) {
	if e.Time.IsZero() {
		e.Time = metav1.MicroTime{Time: time.Now()}
	}
	r.mu.Lock()
	r.seq++
	e.Seq = r.seq
	if i := e.Seq - 1; i < r.cap {
		r.ring = append(r.ring, e)
	} else {
		r.ring[i%r.cap] = e
	}
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
	r.write(e)
}

// Since gives the events after seq (0 = all that are kept), oldest first. Next is what to ask for next; Lost is how many events
// after seq are gone.
func (r *Recorder) Since(seq int64) messages.EventsReply {
	r.mu.Lock()
	defer r.mu.Unlock()
	reply := messages.EventsReply{Events: []messages.HouseEvent{}, Next: r.seq}
	first := max(seq+1, 1)
	if oldest := r.seq - int64(len(r.ring)) + 1; first < oldest {
		reply.Lost = oldest - first
		first = oldest
	}
	for s := first; s <= r.seq; s++ {
		reply.Events = append(reply.Events, r.ring[(s-1)%r.cap])
	}
	return reply
}

// Changed is closed at the next event. Take it before Since, else an event in between is waited for in vain.
func (r *Recorder) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func (r *Recorder) write(e messages.HouseEvent) {
	level := levelOf(e)
	if !r.log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{slog.String("actor", e.Actor), slog.String("message", e.Message)}
	if e.Attempt > 0 {
		attrs = append(attrs, slog.Int("attempt", e.Attempt))
	}
	if e.Delay != nil {
		attrs = append(attrs, slog.Duration("delay", e.Delay.Duration))
	}
	if e.Stack != "" {
		attrs = append(attrs, slog.String("stack", e.Stack))
	}
	r.log.LogAttrs(context.Background(), level, e.Type, attrs...)
}

func levelOf(e messages.HouseEvent) slog.Level {
	switch e.Type {
	case messages.EventActorFailed:
		if e.Stack == "" {
			return slog.LevelWarn // expected: paced, not counted
		}
		return slog.LevelError
	case messages.EventEscalated, messages.EventGaveUp, messages.EventQuarantined:
		return slog.LevelError
	case messages.EventActorRestarted, messages.EventSessionLost, messages.EventStreamSuspect, messages.EventSuperseded:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

package kit

import (
	"strings"
	"sync"
	"time"

	"github.com/rdd-desktop/rdd/messages"
)

// Hooks make actors fail or dawdle when a test asks for it. A house without hooks has a nil *Hooks, on which every method
// does nothing.
type Hooks struct {
	house *House
	lab   Lab
	kill  *killer

	mu    sync.Mutex
	armed map[string]*hook // by path or path#effect
}

type hook struct {
	action string
	delay  time.Duration
	left   int // messages still to hit; negative = all
}

func newHooks(h *House, l *Lab, at KillPoint) *Hooks {
	hooks := &Hooks{house: h, armed: map[string]*hook{}}
	if at.N > 0 {
		hooks.kill = &killer{at: at}
	}
	if l != nil {
		hooks.lab = *l
	}
	return hooks
}

// Arm prepares the next r.Count messages (or effects) of the actor to panic or to be delayed; another request for the same
// actor replaces it. Unless r.NoTrigger or an effect is named, a message is sent that it hits.
func (h *Hooks) Arm(r messages.DebugRequest) {
	if h == nil {
		return
	}
	left := r.Count
	if left == 0 {
		left = 1
	}
	h.mu.Lock()
	h.armed[r.Actor] = &hook{action: r.Action, delay: r.Delay.Duration, left: left}
	h.mu.Unlock()
	if !r.NoTrigger && !strings.Contains(r.Actor, "#") {
		h.house.Tell(r.Actor, nudge{})
	}
}

// Disarm takes all hooks away.
func (h *Hooks) Disarm() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.armed)
}

// Effect is called where the effect of that name of the actor at path begins, in the goroutine that performs it. It panics or
// sleeps when such a hook is armed. The caller must recover and deliver Crashed to the actor.
func (h *Hooks) Effect(path, name string) {
	if h == nil {
		return
	}
	if h.lab.Effect != nil {
		h.lab.Effect(path, name)
	}
	h.hit(path + "#" + name)
}

// message is called in the turn of the actor at path, before it gets msg.
func (h *Hooks) message(path string, msg any) {
	if h != nil {
		h.last(path, msg)
		h.hit(path)
	}
}

// last is message for the end of an incarnation: what is armed is for a later message.
func (h *Hooks) last(path string, msg any) {
	if h != nil && h.lab.Message != nil {
		h.lab.Message(path, msg)
	}
}

func (h *Hooks) hit(key string) {
	h.mu.Lock()
	k := h.armed[key]
	if k == nil {
		h.mu.Unlock()
		return
	}
	if k.left > 0 {
		if k.left--; k.left == 0 {
			delete(h.armed, key)
		}
	}
	h.mu.Unlock()
	if k.action == "delay" {
		time.Sleep(k.delay)
		return
	}
	panic("debug: panic asked for")
}

// nudge is a message that only hooks see.
type nudge struct{}

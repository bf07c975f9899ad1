package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
)

// EventFault is what goes wrong with events. What it does happens in this order: drop, delay, hold, duplicate.
type EventFault struct {
	// Match chooses events; nil = all. It must not call the engine.
	Match func(dockerio.Event) bool
	// Share of those that it hits, chosen by a hash of (seed, type and action, id, time); 0 = all.
	Share float64
	// Drop loses the event: it reaches neither streams nor the history.
	Drop bool
	// Delay before the event is told; its time stays.
	Delay time.Duration
	// Hold the event until another one was told, or for a second: they come in the wrong order.
	Hold bool
	// Duplicates is how many more times the event is told.
	Duplicates int
}

// heldAtMost is how long Hold waits for another event.
const heldAtMost = time.Second

// AddEvents adds a fault of events.
func (f *Faults) AddEvents(fault EventFault) (undo func()) {
	added := &fault
	f.set(func() { f.events = append(f.events, added) })
	return sync.OnceFunc(func() {
		f.set(func() { f.events = slices.DeleteFunc(f.events, func(other *EventFault) bool { return other == added }) })
	})
}

// DropEvents loses events that match: they reach neither streams nor the history. match must not call the engine.
func (f *Faults) DropEvents(match func(dockerio.Event) bool) (undo func()) {
	return f.AddEvents(EventFault{Match: match, Drop: true})
}

// announce tells an event, or lets its faults happen. The caller holds the lock.
func (f *Faults) announce(event dockerio.Event) {
	if f.silent {
		f.dropped++
		f.strike(StruckSilence)
		return
	}
	var delay time.Duration
	hold, copies := false, 1
	for _, fault := range f.events {
		if fault.Match != nil && !fault.Match(short(event)) || !f.chance(fault.Share, event.Type+" "+event.Action, event.ID, event.Time.String()) {
			continue
		}
		if fault.Drop {
			f.dropped++
			f.strike(StruckDrop)
			return
		}
		delay += fault.Delay
		hold = hold || fault.Hold
		copies += fault.Duplicates
	}
	f.struckByEventFaults(delay, hold, copies)
	tell := func() {
		for range copies {
			f.engine.tell(event)
		}
		held := f.held
		f.held = nil
		for _, late := range held {
			late()
		}
	}
	switch {
	case delay > 0:
		f.engine.after(delay, tell)
	case hold:
		once := sync.OnceFunc(func() {
			for range copies {
				f.engine.tell(event)
			}
		})
		f.held = append(f.held, once)
		f.engine.after(heldAtMost, once)
	default:
		tell()
	}
}

// struckByEventFaults counts what is not just told.
func (f *Faults) struckByEventFaults(delay time.Duration, hold bool, copies int) {
	if delay > 0 {
		f.strike(StruckDelay)
	} else if hold {
		f.strike(StruckReorder)
	}
	if copies > 1 {
		f.strike(StruckDuplicate)
	}
}

// chance tells whether a fault with a share hits. The same seed and the same circumstances give the same answer. The caller holds
// the lock.
func (f *Faults) chance(share float64, op, name, at string) bool {
	if share <= 0 || share >= 1 {
		return true
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %q %s", f.engine.options.Seed, op, name, at))
	return float64(binary.BigEndian.Uint64(sum[:8]))/math.MaxUint64 < share
}

// CorruptStreams ends the subscriptions open now with a piece that cannot be read; what was not read before is lost.
func (f *Faults) CorruptStreams(how Corruption) { f.FailStreams(callError(OpEvents, "", how)) }

// RaiseFloor lets the engine refuse versions of the API older than this one, as one that was upgraded under its clients does.
func (f *Faults) RaiseFloor(version string) (undo func()) {
	f.set(func() { f.floor = version })
	return func() { f.set(func() { f.floor = "" }) }
}

// Floor is the oldest version of the API that the engine takes.
func (f *Faults) Floor() string {
	f.engine.mu.Lock()
	defer f.engine.mu.Unlock()
	if f.floor == "" {
		return MinAPIVersion
	}
	return f.floor
}

// TooOld is how the engine refuses an old version of the API.
func TooOld(version, floor string) *Refusal {
	return &Refusal{400, fmt.Sprintf("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", version, floor)}
}

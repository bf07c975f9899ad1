package sim

import (
	"errors"
	"io"
	"maps"
)

// Kinds of faults, as [Faults.Struck] counts them.
const (
	StruckSlow       = "slow call"
	StruckHang       = "hung call"
	StruckPanic      = "call that panics"
	StruckFail       = "failed call"
	StruckLost       = "lost answer"
	StruckGarbage    = "garbage"
	StruckTruncated  = "truncated JSON"
	StruckFloor      = "refused version"
	StruckFreeze     = "frozen call"
	StruckDrop       = "dropped event"
	StruckSilence    = "event not emitted"
	StruckMute       = "event not told to a stream"
	StruckDelay      = "delayed event"
	StruckReorder    = "reordered event"
	StruckDuplicate  = "duplicated event"
	StruckEnd        = "ended stream"
	StruckCut        = "cut stream"
	StruckSkew       = "clock off"
	StruckClockAhead = "clock ahead"
	StruckClockBack  = "clock back"
)

// Struck is how often each kind of fault has hit a call, an event, a stream or the clock so far: a script that nothing came upon
// counts nothing.
func (f *Faults) Struck() map[string]int {
	f.engine.mu.Lock()
	defer f.engine.mu.Unlock()
	return maps.Clone(f.struck)
}

// strike counts; the caller holds the lock.
func (f *Faults) strike(kind string) {
	if f.struck == nil {
		f.struck = map[string]int{}
	}
	f.struck[kind]++
}

// struckBy counts what a rule does to a call; the caller holds the lock.
func (f *Faults) struckBy(r Rule) {
	if r.Delay > 0 {
		f.strike(StruckSlow)
	}
	if r.Hang {
		f.strike(StruckHang)
	}
	switch {
	case r.Panic != nil:
		f.strike(StruckPanic)
	case r.Err != nil && r.After:
		f.strike(StruckLost)
	case r.Err != nil:
		f.strike(StruckFail)
	default:
		f.struckByCorruption(r.Corrupt)
	}
}

func (f *Faults) struckByCorruption(c Corruption) {
	switch c {
	case Garbage:
		f.strike(StruckGarbage)
	case Truncated:
		f.strike(StruckTruncated)
	}
}

// struckStream counts the end of a stream; the caller holds the lock.
func (f *Faults) struckStream(err error) {
	var c Corruption
	switch {
	case errors.As(err, &c):
		f.struckByCorruption(c)
	case errors.Is(err, io.EOF):
		f.strike(StruckEnd)
	default:
		f.strike(StruckCut)
	}
}

package kit

import "time"

// phase of a child, as its parent sees it.
type phase uint8

const (
	alive     phase = iota // it runs, or is being restarted
	suspended              // it failed; its mailbox is kept and its restart is due later
	absent                 // it ended when it should not have; its new start is due later
	stopping               // we stop it
	gone                   // its name is free
)

var phaseNames = [...]string{"alive", "suspended", "absent", "stopping", "gone"}

func (p phase) String() string { return phaseNames[p] }

// window is one child's life as its parent decides it: failures in the last Period, the attempt that sets the backoff, and
// the restart that is due. The zero value with a spec is a child just started.
//
// Failures are counted against Max only if they say so, but every one makes the backoff grow; a Period without any, counted
// from the last failure or restart, begins it anew. A restart that is due has a token: a timer of an earlier one
// never restarts a successor.
//
// The table: what a phase does with an event. "over" is one counted failure more than Max in Period.
//
// BEGIN TABLE
//
//	phase      event                   next       effects
//	alive      failed                  suspended  scheduleRestart, tellFailed
//	alive      failed, no backoff      alive      restart, tellFailed
//	alive      failed, over, Escalate  suspended  tellFailed, escalate
//	alive      failed, over, other     stopping   stopChild, tellFailed, reportGaveUp, tellGaveUp
//	alive      failed, Temporary       stopping   stopChild, tellFailed
//	alive      ended                   absent     scheduleRestart, tellFailed
//	alive      ended, no backoff       alive      respawn, tellFailed
//	alive      ended, over, Escalate   gone       tellFailed, escalate
//	alive      ended, over, other      gone       tellFailed, reportGaveUp, tellGaveUp, tellEnded
//	alive      ended, Temporary        gone       tellEnded
//	alive      finished, Permanent     absent     scheduleRestart, tellFailed
//	alive      finished, other         gone       tellEnded
//	alive      stop asked              stopping   stopChild
//	suspended  ended                   absent
//	suspended  restart due             alive      restart
//	suspended  stop asked              stopping   stopChild
//	absent     restart due             alive      respawn
//	absent     stop asked              gone       tellEnded
//	stopping   ended                   gone       tellEnded
//
// What is not in it is ignored; only a child that is alive is asked how it ended.
//
// END TABLE
type window struct {
	spec     *ChildSpec
	phase    phase
	abnormal bool // stopping: because it failed
	attempt  int  // failures since the last quiet Period
	delay    time.Duration
	token    uint64      // of the restart that is due, 0 = none
	last     time.Time   // last failure or restart
	counted  []time.Time // counted failures of the last Period, oldest first; never changed in place
}

type event interface{ event() }

type (
	// childFailed: the mailbox is suspended, someone has to decide.
	childFailed struct {
		now     time.Time
		jitter  float64
		token   uint64
		counted bool
	}
	// childEnded: no process any more. normal: by FinishSelf.
	childEnded struct {
		now    time.Time
		jitter float64
		token  uint64
		normal bool
	}
	// restartCame: the timer of a restart.
	restartCame struct {
		now   time.Time
		token uint64
	}
	// stopAsked by the parent.
	stopAsked struct{}
)

func (childFailed) event() {}
func (childEnded) event()  {}
func (restartCame) event() {}
func (stopAsked) event()   {}

type effect interface{ effect() }

type (
	// scheduleRestart: restartCame with that token after the delay.
	scheduleRestart struct {
		delay time.Duration
		token uint64
	}
	// restart the process that is there.
	restart struct {
		attempt int
		waited  time.Duration
	}
	// respawn: start a new process under the same name.
	respawn struct {
		attempt int
		waited  time.Duration
	}
	// stopChild: send the stop.
	stopChild struct{}
	// tellFailed, tellGaveUp, tellEnded: tell the parent actor.
	tellFailed struct{ delay time.Duration }
	tellGaveUp struct{}
	tellEnded  struct{ expected bool }
	// escalate: the parent fails.
	escalate struct{ failures int }
	// reportGaveUp: record it; with Report tell the embedder.
	reportGaveUp struct{ failures int }
)

func (scheduleRestart) effect() {}
func (restart) effect()         {}
func (respawn) effect()         {}
func (stopChild) effect()       {}
func (tellFailed) effect()      {}
func (tellGaveUp) effect()      {}
func (tellEnded) effect()       {}
func (escalate) effect()        {}
func (reportGaveUp) effect()    {}

func (w window) apply(e event) (window, []effect) {
	switch e := e.(type) {
	case childFailed:
		if w.phase != alive {
			return w, nil // its restart is due already, or it is being stopped
		}
		return w.onFailed(e)
	case childEnded:
		return w.onEnded(e)
	case restartCame:
		return w.onRestart(e)
	case stopAsked:
		switch w.phase {
		case alive, suspended:
			w.phase, w.token = stopping, 0
			return w, []effect{stopChild{}}
		case absent:
			w.phase, w.token = gone, 0
			return w, []effect{tellEnded{expected: true}}
		}
	}
	return w, nil
}

func (w window) onFailed(e childFailed) (window, []effect) {
	if w.spec.Restart == Temporary {
		w.phase, w.abnormal = stopping, true
		return w, []effect{stopChild{}, tellFailed{}}
	}
	w = w.note(e.now, e.counted)
	if n := len(w.counted); n > w.spec.max() {
		if w.spec.GiveUp == Escalate {
			w.phase = suspended // until the parent's restart stops it
			return w, []effect{tellFailed{}, escalate{failures: n}}
		}
		w.phase, w.abnormal = stopping, false
		return w, []effect{stopChild{}, tellFailed{}, reportGaveUp{failures: n}, tellGaveUp{}}
	}
	w.delay = w.spec.Backoff.Delay(w.attempt, e.jitter)
	if w.delay == 0 {
		return w, []effect{restart{attempt: w.attempt}, tellFailed{}}
	}
	w.phase, w.token = suspended, e.token
	return w, []effect{scheduleRestart{delay: w.delay, token: e.token}, tellFailed{delay: w.delay}}
}

func (w window) onEnded(e childEnded) (window, []effect) {
	switch w.phase {
	case stopping:
		w.phase = gone
		return w, []effect{tellEnded{expected: !w.abnormal}}
	case suspended:
		w.phase = absent // the same timer starts it anew
		return w, nil
	case absent, gone:
		return w, nil
	}
	if w.spec.Restart == Temporary || w.spec.Restart == Transient && e.normal {
		w.phase = gone
		return w, []effect{tellEnded{expected: e.normal}}
	}
	w = w.note(e.now, true)
	if n := len(w.counted); n > w.spec.max() {
		w.phase = gone
		if w.spec.GiveUp == Escalate {
			return w, []effect{tellFailed{}, escalate{failures: n}}
		}
		return w, []effect{tellFailed{}, reportGaveUp{failures: n}, tellGaveUp{}, tellEnded{}}
	}
	w.delay = w.spec.Backoff.Delay(w.attempt, e.jitter)
	if w.delay == 0 {
		return w, []effect{respawn{attempt: w.attempt}, tellFailed{}}
	}
	w.phase, w.token = absent, e.token
	return w, []effect{scheduleRestart{delay: w.delay, token: e.token}, tellFailed{delay: w.delay}}
}

func (w window) onRestart(e restartCame) (window, []effect) {
	if w.token == 0 || e.token != w.token {
		return w, nil // of an earlier life
	}
	was := w.phase
	w.phase, w.token, w.last = alive, 0, e.now
	if was == absent {
		return w, []effect{respawn{attempt: w.attempt, waited: w.delay}}
	}
	return w, []effect{restart{attempt: w.attempt, waited: w.delay}}
}

// note takes a failure into the window.
func (w window) note(now time.Time, counted bool) window {
	period := w.spec.period()
	if w.attempt > 0 && now.Sub(w.last) >= period {
		w.attempt = 0
	}
	w.attempt++
	w.last = now
	kept := make([]time.Time, 0, len(w.counted)+1)
	for _, t := range w.counted {
		if now.Sub(t) < period {
			kept = append(kept, t)
		}
	}
	if counted {
		kept = append(kept, now)
	}
	w.counted = kept
	return w
}

package mirror

// existence is the newest proven answer to "does the engine have it".
type existence int

const (
	unseen existence = iota
	present
	gone
)

// maxCredit inspects may start at once; one more every 50 ms (20/s).
const maxCredit = 2

// probe is what an owner knows of its engine object and whether it must ask. Events record facts; at the end of each, one
// comparison of what is known with what must be known picks at most one question. Lost, doubled or reordered marks are
// harmless: each session ends in a question or in an answer.
//
// The table, with credit to spare ("idle": no session; "+": something may have changed since the question):
//
// BEGIN TABLE probe
//
//	state                  event                  next                   effects
//	fresh idle+            session began          fresh asking           inspect
//	fresh idle+            session began, listed  present
//	fresh idle+            marked destroyed       fresh idle+ destroyed
//	present                session began          present asking         inspect
//	present                marked                 present asking         inspect
//	present                marked destroyed       present asking destroyed inspect
//	fresh asking           session began          fresh asking+
//	fresh asking           session began, listed  present asking
//	fresh asking           marked                 fresh asking+
//	fresh asking           marked destroyed       fresh asking+ destroyed
//	fresh asking           found                  present                observed
//	fresh asking           missing                gone                   vanished
//	fresh asking           failed                 fresh waiting+         degraded
//	fresh asking           failed, no session     fresh idle+
//	fresh asking           stale                  fresh asking           inspect
//	fresh asking+          session began, listed  present asking
//	fresh asking+          marked destroyed       fresh asking+ destroyed
//	fresh asking+          found                  present asking         observed, inspect
//	fresh asking+          missing                gone asking            vanished, inspect
//	fresh asking+          failed                 fresh waiting+         degraded
//	fresh asking+          failed, no session     fresh idle+
//	fresh asking+          stale                  fresh asking           inspect
//	present asking destroyed session began          present asking+ destroyed
//	present asking destroyed marked                 present asking+ destroyed
//	present asking destroyed marked destroyed       present asking+ destroyed
//	present asking destroyed found                  present                observed
//	present asking destroyed missing                gone                   vanished
//	present asking destroyed failed                 present waiting+ destroyed degraded
//	present asking destroyed failed, no session     present idle+ destroyed
//	present asking destroyed stale                  present asking destroyed inspect
//	present waiting+       session began          present asking         inspect
//	present waiting+       session began, listed  present
//	present waiting+       marked                 present asking         inspect
//	present waiting+       marked destroyed       present asking destroyed inspect
//	present waiting+       retry due              present asking         inspect
//
// END TABLE
type probe struct {
	Exist existence
	// Dirty: something may have changed since the newest answer was asked for.
	Dirty bool
	// Destroyed is sticky: a destroy was seen since then. An object found with it set is another incarnation.
	Destroyed bool
	// Asking: an inspect is in flight; AskedDestroyed is the bit it took along.
	Asking         bool
	AskedDestroyed bool
	// Credit is how many inspects may start now.
	Credit int
	// Fails counts failed inspects in a row; Waiting: the next try waits for its timer.
	Fails   int
	Waiting bool
	// Live: there is a session to ask.
	Live bool
}

// Events of a probe, past tense.
type (
	// began: a session began, whatever was known may be old; Answered: its list says all there is to know.
	began  struct{ Answered bool }
	marked struct{ Destroyed bool }
	found  struct{}
	// missing: the engine has no such object.
	missing struct{}
	// failed: no answer. NoSession: the question was never put.
	failed struct{ NoSession bool }
	// stale: the answer was to a question of another session.
	stale      struct{}
	retryDue   struct{}
	creditBack struct{}
)

// Effects of a probe, imperative.
type (
	inspect struct{}
	// observed: the answer is news. Recreated: it is another incarnation than the one before.
	observed struct{ Recreated bool }
	vanished struct{}
	// degraded: Fails tries in a row failed; the next one is due after a delay for that number.
	degraded   struct{ Fails int }
	earnCredit struct{}
)

type event interface{}
type effect interface{}

func newProbe() probe { return probe{Dirty: true, Credit: maxCredit} }

func (p probe) apply(e event) (probe, []effect) {
	var out []effect
	switch e := e.(type) {
	case began:
		p.Live, p.Dirty, p.Waiting = true, !e.Answered || p.Destroyed, false
		if e.Answered && !p.Destroyed {
			p.Exist, p.Fails = present, 0
		}
	case marked:
		p.Dirty, p.Waiting = true, false
		p.Destroyed = p.Destroyed || e.Destroyed
	case found:
		out = append(out, observed{Recreated: p.AskedDestroyed && p.Exist == present})
		p = p.answered(present)
	case missing:
		out = append(out, vanished{})
		p = p.answered(gone)
	case failed:
		p.Asking, p.Dirty = false, true
		p.Destroyed = p.Destroyed || p.AskedDestroyed
		if e.NoSession {
			p.Live = false
			break
		}
		p.Fails++
		p.Waiting = true
		out = append(out, degraded{Fails: p.Fails})
	case stale:
		p.Asking, p.Dirty = false, true
		p.Destroyed = p.Destroyed || p.AskedDestroyed
	case retryDue:
		p.Waiting = false
	case creditBack:
		p.Credit = min(p.Credit+1, maxCredit)
		if p.Credit < maxCredit {
			out = append(out, earnCredit{})
		}
	}
	return p.decide(out)
}

func (p probe) answered(x existence) probe {
	p.Exist, p.Asking, p.AskedDestroyed, p.Fails, p.Waiting = x, false, false, 0, false
	return p
}

// decide asks when there is something to ask, somebody to ask, and leave to.
func (p probe) decide(out []effect) (probe, []effect) {
	if !p.Dirty || !p.Live || p.Asking || p.Waiting || p.Credit == 0 {
		return p, out
	}
	p.Asking, p.Dirty = true, false
	p.AskedDestroyed, p.Destroyed = p.Destroyed, false
	if p.Credit == maxCredit {
		out = append(out, earnCredit{})
	}
	p.Credit--
	return p, append(out, inspect{})
}

// known reports whether there is an answer, or a failed try, and nothing newer has been asked or is to be asked at once.
func (p probe) known() bool {
	return p.Waiting || p.Exist != unseen && !p.Asking && !p.Dirty
}

// doubtful: a destroy was seen, and not yet what the name stands for since.
func (p probe) doubtful() bool { return p.Destroyed || p.AskedDestroyed }

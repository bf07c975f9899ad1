package virtual

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
)

// mended is how soon everything must be right again after a panic.
const mended = 2 * time.Second

// atLeast is how long a step lasts: what follows at once from what was done belongs to it.
const atLeast = 200 * time.Millisecond

// occasion is one of the places where something can panic: an actor gets a message of that type, or work of that name begins on its
// behalf ("#name"), in that step of a scenario.
type occasion struct {
	step int
	who  string
	what string
}

func (o occasion) String() string { return fmt.Sprintf("step %d: %s %s", o.step, o.who, o.what) }

// effect: not a message but work off the mailbox.
func (o occasion) effect() bool { return strings.HasPrefix(o.what, "#") }

// ending messages are an incarnation's last; nothing is to be restarted for a panic in one.
func (o occasion) ending() bool {
	return o.what == "*actor.Stopping" || o.what == "*actor.Stopped" || o.what == "*actor.Restarting"
}

// ofAnObject is the place of every object of a kind.
const ofAnObject = "/*"

// aSkeleton is the place of every resource of a kind that a client made.
const aSkeleton = "/skeleton:"

// roleOf is what stands for an actor in the matrix: its path, and one for all objects of a kind.
func roleOf(path string) string {
	for _, kind := range []string{control.Containers, control.Images, control.Volumes} {
		if strings.HasPrefix(path, kind+aSkeleton) {
			return kind + aSkeleton
		}
		if strings.HasPrefix(path, kind+"/") {
			return kind + ofAnObject
		}
	}
	return path
}

// spy sees every message and all work of a house, and lets one occasion panic, the first time it comes.
type spy struct {
	mu   sync.Mutex
	step int
	seen map[occasion]int
	// heard is the same in order, with when.
	heard  []string
	target occasion
	// lost is another message that its actor panics at: a part of the story.
	lostBy, lost string
	// hit is the path of the actor that panicked, at when.
	hit string
	at  time.Time
}

func (s *spy) on(path, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := occasion{s.step, roleOf(path), what}
	s.seen[o]++
	s.heard = append(s.heard, fmt.Sprintf("%s %s: %s %s", time.Now().Format(time.RFC3339Nano), o, path, what))
	if o == s.target && s.hit == "" {
		s.hit, s.at = path, time.Now()
		panic("injected: " + o.String())
	}
	if path == s.lostBy && what == s.lost {
		s.lost = ""
		panic("debug: panic asked for")
	}
}

func (s *spy) victim() (path string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hit, s.at
}

func (s *spy) lose(path, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lostBy, s.lost = path, what
}

func (s *spy) begin(step int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step = step
}

// step of a scenario: something is done, and in the time it lasts everything follows from it.
type step struct {
	name  string
	do    func(r *run)
	lasts time.Duration
	// within is how soon after a panic everything must be right again; 0 = mended.
	within time.Duration
	// right is what must hold then. Nil: the mirror is the engine.
	right func(r *run) error
	// loses: sessions are lost in it.
	loses bool
}

// scenario is a story that takes the house through every message and all work that there is.
type scenario struct {
	title string
	steps []step
	// audit is the watcher's period; 0 = never in the time a scenario takes.
	audit time.Duration
}

// name of a step; the end is the one after the last.
func (sc *scenario) name(i int) string {
	if i < len(sc.steps) {
		return sc.steps[i].name
	}
	return "the end"
}

// run is a scenario being played, with a panic or without.
type run struct {
	*house
	spy *spy
	sc  *scenario
	// asked are the paths of actors that the scenario itself lets panic.
	asked map[string]bool
	// names are what a step keeps for a later one, by kind: runs of one scenario go side by side.
	names map[string]string
}

// play goes through the scenario up to the step with the panic, and a little further.
func play(t *testing.T, sc *scenario, target occasion) *spy {
	s := &spy{seen: map[occasion]int{}, target: target}
	audit := cmp.Or(sc.audit, 10000*time.Hour)
	in(t, options{seed: 1, seeded: true, audit: audit, machine: true, change: func(_ *port, lab *kit.Lab) {
		lab.Message = func(path string, msg any) { s.on(path, fmt.Sprintf("%T", msg)) }
		lab.Effect = func(path, name string) { s.on(path, "#"+name) }
	}}, func(_ *testing.T, h *house) {
		r := &run{house: h, spy: s, sc: sc, asked: map[string]bool{}, names: map[string]string{}}
		for i := range sc.steps {
			if r.take(i) {
				return
			}
		}
		r.end()
	})
	return s
}

// take one step. It reports whether the panic came and everything is mended.
func (r *run) take(i int) (over bool) {
	st := &r.sc.steps[i]
	r.tell("step %d: %s", i, st.name)
	r.spy.begin(i)
	st.do(r)
	done := time.Now()
	right := st.right
	if right == nil {
		right = func(r *run) error { return r.check(true) }
	}
	for {
		hit, at := r.spy.victim()
		since := done
		if at.After(done) {
			since = at
		}
		if hit != "" {
			r.uids.blind() // an event that was lost with a panic was all that told of another volume under the name
		}
		err := r.consistent(right)
		if err == nil && hit != "" {
			err = r.restarted(hit, at)
		}
		switch {
		case err != nil && time.Since(since) > cmp.Or(st.within, mended):
			r.newEvents()
			r.fatal("%q: not in %s: %v\n\nwhat the house said last:\n%s", st.name, cmp.Or(st.within, mended), err, r.lastWords(60))
		case err == nil && time.Since(done) >= max(st.lasts, atLeast) && (hit == "" || time.Since(at) > mended):
			if hit != "" {
				r.judge(hit, st)
				r.canary(st)
			}
			return hit != ""
		}
		if err != nil {
			r.pass(50 * time.Millisecond)
		} else {
			r.pass(250 * time.Millisecond)
		}
	}
}

// end stops the house: a panic in an actor's last words is told, and holds up nothing.
func (r *run) end() {
	r.tell("the end")
	r.spy.begin(len(r.sc.steps))
	r.order.do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.rdd.Stop(ctx); err != nil {
			r.t.Errorf("stop with a panic at %s: %v", r.spy.target, err)
		}
	})
	if hit, _ := r.spy.victim(); hit != "" {
		r.judge(hit, nil)
	}
}

// consistent: what must hold, and never anything that cannot.
func (r *run) consistent(right func(r *run) error) error {
	select {
	case err := <-r.rdd.Failed():
		r.fatal("given up: %v", err)
	default:
	}
	return right(r)
}

func (r *run) all() []messages.HouseEvent {
	reply, err := r.client.Events(context.Background(), messages.EventsRequest{})
	if err != nil || reply.Lost > 0 {
		r.fatal("events: %v, %d lost", err, reply.Lost)
	}
	return reply.Events
}

// restarted: the actor that panicked has been started again, unless it was at its end. A session that is not wanted any more is
// replaced by a later one.
func (r *run) restarted(hit string, at time.Time) error {
	if r.spy.target.ending() {
		return nil
	}
	for _, e := range r.all() {
		if e.Type == messages.EventActorRestarted && e.Actor == hit ||
			e.Type == messages.EventConnected && hit == control.Session && e.Time.After(at) {
			return nil
		}
	}
	return fmt.Errorf("%s was not restarted", hit)
}

// judge what the house said: one failure with a stack, of who panicked; and nothing else was restarted.
func (r *run) judge(hit string, st *step) {
	panics, restarts, losses := []messages.HouseEvent{}, map[string]int{}, map[string]int{}
	expected := map[string]int{}
	for _, e := range r.all() {
		switch {
		case r.asked[e.Actor] && (e.Type == messages.EventQuarantined || strings.Contains(e.Message, "debug: panic asked for")):
			expected[e.Actor]++
		case e.Type == messages.EventActorFailed:
			panics = append(panics, e)
		case e.Type == messages.EventActorRestarted:
			restarts[e.Actor]++
		case e.Type == messages.EventSessionLost || e.Type == messages.EventStreamSuspect:
			losses[e.Actor]++
		case e.Type == messages.EventEscalated || e.Type == messages.EventGaveUp || e.Type == messages.EventQuarantined:
			r.fatal("%s of %s: %s", e.Type, e.Actor, e.Message)
		}
	}
	if len(panics) != 1 || panics[0].Actor != hit || !strings.Contains(panics[0].Message, "injected") ||
		!strings.Contains(panics[0].Stack, "(*spy).on") {
		r.fatal("not one failure of %s with its stack: %+v", hit, panics)
	}
	if !r.spy.target.ending() {
		expected[hit]++
	}
	for path, n := range restarts {
		if loses := losses[path]; n > expected[path]+loses {
			r.fatal("%s was restarted %d times, which lost %d sessions: %v", path, n, loses, restarts)
		}
	}
	if !r.lossy(st) && len(losses) > 0 {
		r.fatal("sessions were lost: %v", losses)
	}
}

// lossy: up to this step sessions are lost without any panic.
func (r *run) lossy(upTo *step) bool {
	for i := range r.sc.steps {
		if r.sc.steps[i].loses {
			return true
		}
		if &r.sc.steps[i] == upTo {
			break
		}
	}
	return false
}

// canary: it all still works.
func (r *run) canary(st *step) {
	if st.right != nil {
		return
	}
	if _, err := r.world.VolumeCreate(volume("canary")); err != nil {
		r.fatal("create a volume: %v", err)
	}
	for since := time.Now(); ; r.pass(20 * time.Millisecond) {
		err := r.check(true)
		if err == nil {
			return
		}
		if time.Since(since) > mended {
			r.newEvents()
			r.fatal("after it was mended: %v\n\nwhat the house said last:\n%s", err, r.lastWords(60))
		}
	}
}

// insist asks rdd until it is done: a panic answers a request with an error, or not at all, and who asked asks again.
func (r *run) insist(what string, ask func(ctx context.Context) error) {
	for try := 0; ; try++ {
		var err error
		r.order.do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
			defer cancel()
			err = ask(ctx)
		})
		if err == nil {
			return
		}
		if hit, _ := r.spy.victim(); hit == "" || try > 5 {
			r.fatal("%s: %v", what, err)
		}
		r.tell("%s: %v", what, err)
		r.pass(100 * time.Millisecond)
	}
}

func (r *run) want(assignments ...string) {
	patch, err := messages.ParseAssignments(assignments)
	if err != nil {
		r.fatal("%v", err)
	}
	r.insist(fmt.Sprint("set ", assignments), func(ctx context.Context) error {
		_, err := r.client.Set(ctx, messages.SetRequest{Patch: patch})
		return err
	})
}

func (r *run) wantGone(kind, name string) {
	asked := false
	r.insist("delete "+kind+" "+name, func(ctx context.Context) error {
		err := r.erase(ctx, messages.DeleteRequest{Kind: kind, Name: name})
		if asked && errors.Is(err, messages.ErrNotFound) {
			return nil
		}
		asked = true
		return err
	})
}

// did ends the test unless the world did what it was told.
func (r *run) did(err error) {
	r.t.Helper()
	if err != nil {
		r.fatal("%v", err)
	}
}

// everywhere plays each story once per step, actor and message; else each message panics once in each story.
var everywhere = flag.Bool("everywhere", false, "panic at every message in every step")

// chosen are the places of a story in which something panics, of all those that a run without a panic goes through.
func (sc *scenario) chosen(seen map[occasion]int, first bool) []occasion {
	all := slices.SortedFunc(maps.Keys(seen), func(a, b occasion) int {
		return cmp.Or(cmp.Compare(b.step, a.step), cmp.Compare(a.who, b.who), cmp.Compare(a.what, b.what))
	})
	had := map[occasion]bool{}
	return slices.DeleteFunc(all, func(o occasion) bool {
		any := occasion{who: o.who, what: o.what}
		skip := had[any] && !*everywhere || !first && (o.step == len(sc.steps) || sc.name(o.step) == start.name || sc.name(o.step) == web.name)
		had[any] = true
		return skip
	})
}

// panics plays every story without a panic, then once for each place that is chosen.
func panics(t *testing.T, effects bool) {
	n := 0
	for i, sc := range scenarios() {
		var seen map[occasion]int
		t.Run(sc.title, func(t *testing.T) { seen = play(t, sc, occasion{step: -1}).seen })
		if t.Failed() {
			t.FailNow()
		}
		for _, o := range sc.chosen(seen, i == 0) {
			if o.effect() != effects {
				continue
			}
			n++
			t.Run(strings.ReplaceAll(fmt.Sprintf("%s: %s: %s %s", sc.title, sc.name(o.step), o.who, o.what), "/", "."), func(t *testing.T) {
				t.Parallel()
				if play(t, sc, o).hit == "" {
					t.Errorf("%s has not come: the story does not repeat", o)
				}
			})
		}
	}
	t.Logf("%d panics", n)
}

// What a story goes through is a list of places for panics only if each of its runs goes through them.
func TestAStoryRepeatsExactly(t *testing.T) {
	for _, sc := range scenarios() {
		t.Run(sc.title, func(t *testing.T) {
			first, again := play(t, sc, occasion{step: -1}).heard, play(t, sc, occasion{step: -1}).heard
			require.NotEmpty(t, first)
			for i := range first {
				require.Equal(t, first[i], again[min(i, len(again)-1)], "after %s", first[max(0, i-1)])
			}
			require.Len(t, again, len(first))
		})
	}
}

func Test_F51_APanicInAnyMessageOfAnyActorIsMended(t *testing.T) { panics(t, false) }

func Test_F52_APanicInAnyEffectIsMended(t *testing.T) { panics(t, true) }

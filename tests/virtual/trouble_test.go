package virtual

import (
	"fmt"
	"io"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// How soon everything must be right again.
const (
	soon = 3 * time.Second
	// afterSettling: the last of the looks after a death.
	afterSettling = 12 * time.Second
	// afterRetries: a retry clock at its cap, and the try.
	afterRetries = 65 * time.Second
	// afterAudit: an event was lost; the next audit finds it and has the stream opened anew.
	afterAudit = 70 * time.Second
	// afterReprobe: what only an inspect tells; each container has its turn in that time.
	afterReprobe = 33 * time.Minute
)

// trouble is one kind of fault: begin makes it and gives the words for it and what ends it.
type trouble struct {
	weight int
	// within is how soon after its end everything is right.
	within time.Duration
	// lossy: events get lost that nobody can know of before an audit; what only an inspect tells may be wrong for longer.
	lossy bool
	// blind: volumes may be recreated without a trace.
	blind bool
	begin func(h *house) (words string, end func())
	// holds must be true while the trouble lasts; nil = nothing but what always must.
	holds func(h *house, lasts time.Duration) error
}

var troubles = []trouble{
	{weight: 4, within: soon, begin: func(*house) (string, func()) { return "none", func() {} }},
	{weight: 3, within: soon, blind: true, begin: down, holds: admitted(noticedAtOnce)},
	{weight: 1, within: soon, blind: true, begin: powerless, holds: admitted(noticedAtOnce)},
	{weight: 3, within: soon + 10*time.Second, blind: true, begin: frozen, holds: admitted(noticedByHeartbeat)},
	{weight: 3, within: soon, blind: true, begin: cut},
	{weight: 2, within: soon, blind: true, begin: brokenOff},
	{weight: 3, within: afterRetries, begin: hung},
	{weight: 3, within: afterRetries, begin: slow},
	{weight: 3, within: afterRetries, begin: failing(slices.Concat(changes, reads))},
	{weight: 1, within: afterRetries, blind: true, begin: failing([]string{sim.OpDial, sim.OpInfo, sim.OpPing, sim.OpEvents})},
	{weight: 2, within: afterRetries, begin: lostAnswers},
	{weight: 3, within: afterRetries, blind: true, begin: unreadable},
	{weight: 2, within: afterRetries, blind: true, begin: panickingCalls},
	{weight: 2, within: afterRetries, blind: true, begin: upgraded},
	{weight: 2, within: afterAudit, lossy: true, blind: true, begin: dropped},
	{weight: 1, within: afterAudit, lossy: true, blind: true, begin: silent},
	{weight: 1, within: afterAudit, lossy: true, blind: true, begin: muted},
	{weight: 2, within: soon, begin: onEvents("events come twice", sim.EventFault{Share: 0.3, Duplicates: 1})},
	{weight: 2, within: soon, blind: true, begin: onEvents("events come late", sim.EventFault{Share: 0.2, Delay: 400 * time.Millisecond})},
	{weight: 2, within: soon, blind: true, begin: onEvents("events change places", sim.EventFault{Share: 0.3, Hold: true})},
	{weight: 3, within: soon, begin: skewed},
	{weight: 2, within: soon, blind: true, begin: skewedAndCut},
	{weight: 4, within: soon, blind: true, begin: late},
	{weight: 8, within: soon + 5*time.Second, blind: true, begin: panicked},
	{weight: 1, within: soon + 10*time.Second, blind: true, begin: stopped},
	{weight: 1, within: soon + 10*time.Second, blind: true, begin: replaced},
}

// chosen by the seed.
func (h *house) trouble() trouble {
	total := 0
	for _, t := range troubles {
		total += t.weight
	}
	pick := h.rng.IntN(total)
	for _, t := range troubles {
		if pick -= t.weight; pick < 0 {
			return t
		}
	}
	panic("unreachable")
}

func down(h *house) (string, func()) {
	h.world.Down()
	return "the engine is down", h.world.Up
}

func frozen(h *house) (string, func()) {
	h.world.Freeze()
	return "the engine is frozen", h.world.Thaw
}

func powerless(h *house) (string, func()) {
	h.world.PowerOff()
	return "the engine's machine is without power", h.world.Boot
}

// How soon the house must know that the engine does not answer, and how much later each mirror says so.
const (
	noticedAtOnce      = 100 * time.Millisecond
	noticedByHeartbeat = 12100 * time.Millisecond
	saidByMirrors      = 31 * time.Second
)

// admitted: from then on nothing of the mirror is claimed to be the engine's state of now.
func admitted(noticed time.Duration) func(h *house, lasts time.Duration) error {
	return func(h *house, lasts time.Duration) error {
		if lasts <= noticed {
			return nil
		}
		if c := messages.Condition(h.app(), messages.ConditionContainerEngineReady); c == nil || c.Status == metav1.ConditionTrue {
			return fmt.Errorf("the App says %+v", c)
		}
		if lasts <= noticed+saidByMirrors {
			return nil
		}
		for _, k := range messages.Kinds() {
			if !k.Mirrored {
				continue
			}
			for _, o := range h.list(k.Name) {
				if c := messages.Condition(o, messages.ConditionSynced); c == nil || c.Status == metav1.ConditionTrue {
					return fmt.Errorf("%s says %+v", messages.NameOf(o), c)
				}
			}
		}
		return nil
	}
}

func cut(h *house) (string, func()) {
	h.world.Faults().CutStreams()
	return "streams end", func() {}
}

func brokenOff(h *house) (string, func()) {
	h.world.Faults().FailStreams(io.ErrUnexpectedEOF)
	return "streams break off", func() {}
}

// reads are the calls that a pass makes.
var reads = []string{sim.OpInspectContainer, sim.OpInspectContainer, sim.OpInspectImage, sim.OpInspectVolume, sim.OpListContainers,
	sim.OpListImages, sim.OpListVolumes}

var changes = []string{sim.OpRemoveContainer, sim.OpRemoveImage, sim.OpRemoveVolume, sim.OpStartContainer, sim.OpStopContainer,
	sim.OpPauseContainer, sim.OpRestartContainer}

// victim is one container, or every object.
func (h *house) victim() string {
	if c, ok := one(h, h.world.Snapshot().Containers); ok && h.rng.IntN(2) == 0 {
		return c.ID
	}
	return ""
}

func hung(h *house) (string, func()) {
	op, _ := one(h, reads)
	name := ""
	if op == sim.OpInspectContainer {
		name = h.victim()
	}
	return "hung " + op + " " + name, h.world.Faults().Hang(op, name)
}

func slow(h *house) (string, func()) {
	op, _ := one(h, slices.Concat(changes, reads))
	d := time.Duration(h.rng.IntN(1500)) * time.Millisecond
	late := h.rng.IntN(2) == 0
	return fmt.Sprint("slow ", op, " ", d, ", answers of before: ", late), h.world.Faults().Add(sim.Rule{Op: op, Delay: d, After: late, Share: 0.5})
}

// failing lets one of the calls fail some times, or always.
func failing(calls []string) func(h *house) (string, func()) {
	return func(h *house) (string, func()) {
		op, _ := one(h, calls)
		n := h.rng.IntN(6)
		err := messages.NewError(messages.CodeUnavailable, "do", "", op, "it fails on purpose")
		return fmt.Sprintf("failing %s %d times", op, n), h.world.Faults().Fail(op, "", n, err)
	}
}

func lostAnswers(h *house) (string, func()) {
	op, _ := one(h, slices.Concat(changes, reads))
	err := messages.NewError(messages.CodeTimeout, "do", "", op, "its answer is lost on purpose")
	return "lost answers of " + op, h.world.Faults().LoseAnswer(op, "", 1+h.rng.IntN(3), err)
}

// unreadable: answers, or the stream, are no JSON, or end in the middle of it.
func unreadable(h *house) (string, func()) {
	how, _ := one(h, []sim.Corruption{sim.Garbage, sim.Truncated})
	if h.rng.IntN(4) == 0 {
		h.world.Faults().CorruptStreams(how)
		return "streams end in " + string(how), func() {}
	}
	op, _ := one(h, append([]string{sim.OpInfo, sim.OpEvents}, reads...))
	n := h.rng.IntN(6)
	return fmt.Sprintf("%s from %s %d times", how, op, n), h.world.Faults().Corrupt(op, "", n, how)
}

// panickingCalls panic in who makes them, no more often than a supervisor bears.
func panickingCalls(h *house) (string, func()) {
	op, _ := one(h, slices.Concat(changes, reads))
	return "a call that panics: " + op, h.world.Faults().Add(sim.Rule{Op: op, Times: 1, Panic: "it panics on purpose"})
}

// upgraded: the engine takes newer versions of the API only; now and then it ends the stream with that.
func upgraded(h *house) (string, func()) {
	undo := h.world.Faults().RaiseFloor("1.99")
	if h.rng.IntN(2) == 0 {
		return "our version of the API is refused", undo
	}
	h.world.Faults().CutStreams()
	return "our version of the API is refused, and streams end", undo
}

// dropped loses about one event in three.
func dropped(h *house) (string, func()) {
	return "one event in three is lost", h.world.Faults().AddEvents(sim.EventFault{Share: 0.3, Drop: true})
}

func silent(h *house) (string, func()) { return "no event is sent", h.world.Faults().StopEvents() }

func muted(h *house) (string, func()) {
	h.world.Faults().MuteStreams()
	// Nobody can know of a mute stream before something is found missing; so it ends.
	return "the stream is mute", h.world.Faults().CutStreams
}

func onEvents(words string, fault sim.EventFault) func(h *house) (string, func()) {
	return func(h *house) (string, func()) { return words, h.world.Faults().AddEvents(fault) }
}

func (h *house) skew() time.Duration {
	d, _ := one(h, []time.Duration{0, time.Hour, -time.Hour, -90 * time.Second, 5 * time.Second, -3 * time.Second})
	return d
}

func skewed(h *house) (string, func()) {
	d := h.skew()
	h.world.Faults().SkewBy(d)
	return fmt.Sprint("the engine's clock is off by ", d), func() {}
}

func skewedAndCut(h *house) (string, func()) {
	words, _ := skewed(h)
	h.world.Faults().CutStreams()
	return words + " and streams end", func() {}
}

// late: the engine answers a subscription before it has subscribed, as a real one may, and its clock is off; what happens until it
// has is told only to who subscribed by the engine's clock.
func late(h *house) (string, func()) {
	h.world.Faults().SubscribeLate()
	h.port.set(func() { h.port.late = 300 * time.Millisecond })
	words, _ := skewedAndCut(h)
	h.tell("trouble: subscriptions come late")
	for range 8 {
		h.live()
	}
	return words + " while subscriptions come late", h.port.faithful
}

// effects by who has them.
var effects = map[string][]string{
	control.Journal: {"commit"}, control.Engine + "/session": {"connect", "subscribe", "ping", "read"},
	control.Containers: {"list"}, control.Images: {"list"}, control.Volumes: {"list"},
}

// panicked lets one actor, or one effect, panic once.
func panicked(h *house) (string, func()) {
	actors := []string{control.Journal, control.Store, control.App, control.VM, control.Engine, control.Engine + "/session",
		control.Containers, control.Images, control.Volumes, control.Moby}
	actor, _ := one(h, actors)
	s := h.world.Snapshot()
	if c, ok := one(h, s.Containers); ok && h.rng.IntN(3) == 0 {
		actor = control.Containers + "/" + c.ID
	} else if i, ok := one(h, s.Images); ok && h.rng.IntN(3) == 0 {
		actor = control.Images + "/" + i.ID
	} else if v, ok := one(h, s.Volumes); ok && h.rng.IntN(3) == 0 {
		actor = control.Volumes + "/" + v.Name
	}
	if name, ok := one(h, effects[actor]); ok && h.rng.IntN(3) == 0 {
		actor += "#" + name
	}
	h.debug(actor)
	return "panic of " + actor, func() {}
}

// stopped: rdd is told to let the engine go, and to take it again.
func stopped(h *house) (string, func()) {
	h.uids.reset()
	h.set("running=false")
	return "running=false", func() { h.set("running=true") }
}

func replaced(h *house) (string, func()) {
	h.world.Replace(fmt.Sprint("engine-", h.rng.IntN(1000)))
	h.uids.reset()
	if _, err := h.world.Import("busybox:latest", ""); err != nil {
		h.t.Fatal(err)
	}
	return "another engine", func() {}
}

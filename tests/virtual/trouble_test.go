package virtual

import (
	"fmt"
	"time"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/dockerio"
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
}

var troubles = []trouble{
	{weight: 4, within: soon, begin: func(*house) (string, func()) { return "none", func() {} }},
	{weight: 4, within: soon, blind: true, begin: down},
	{weight: 3, within: soon + 10*time.Second, blind: true, begin: frozen},
	{weight: 3, within: soon, blind: true, begin: cut},
	{weight: 3, within: afterRetries, blind: true, begin: hung},
	{weight: 2, within: afterRetries, blind: true, begin: slow},
	{weight: 4, within: afterRetries, blind: true, begin: failing},
	{weight: 2, within: afterRetries, blind: true, begin: lostAnswers},
	{weight: 2, within: afterAudit, lossy: true, blind: true, begin: dropped},
	{weight: 1, within: afterAudit, lossy: true, blind: true, begin: silent},
	{weight: 1, within: afterAudit, lossy: true, blind: true, begin: muted},
	{weight: 2, within: soon, begin: onPort("events come twice", func(p *port) { p.duplicate = true })},
	{weight: 2, within: soon, blind: true, begin: onPort("events come late", func(p *port) { p.delay = true })},
	{weight: 2, within: afterAudit, lossy: true, blind: true, begin: onPort("events change places", func(p *port) { p.reorder = true })},
	{weight: 3, within: soon, begin: skewed},
	{weight: 2, within: soon, blind: true, begin: skewedAndCut},
	{weight: 4, within: soon, blind: true, begin: late},
	{weight: 8, within: soon + 5*time.Second, blind: true, begin: panics},
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

func cut(h *house) (string, func()) {
	h.world.Faults().CutStreams()
	return "streams end", func() {}
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
	op, _ := one(h, append(changes, reads...))
	d := time.Duration(h.rng.IntN(1500)) * time.Millisecond
	return fmt.Sprint("slow ", op, " ", d), h.world.Faults().Slow(op, "", d)
}

func failing(h *house) (string, func()) {
	op, _ := one(h, append(append([]string{sim.OpInfo, sim.OpPing, sim.OpEvents, sim.OpDial}, changes...), reads...))
	n := h.rng.IntN(6)
	err := messages.NewError(messages.CodeUnavailable, "do", "", op, "it fails on purpose")
	return fmt.Sprintf("failing %s %d times", op, n), h.world.Faults().Fail(op, "", n, err)
}

func lostAnswers(h *house) (string, func()) {
	op, _ := one(h, append(changes, reads...))
	err := messages.NewError(messages.CodeTimeout, "do", "", op, "its answer is lost on purpose")
	return "lost answers of " + op, h.world.Faults().LoseAnswer(op, "", 1+h.rng.IntN(3), err)
}

// dropped loses about one event in three, by its name and time.
func dropped(h *house) (string, func()) {
	return "one event in three is lost", h.world.Faults().DropEvents(func(e dockerio.Event) bool { return h.port.luck(e)%3 == 0 })
}

func silent(h *house) (string, func()) { return "no event is sent", h.world.Faults().StopEvents() }

func muted(h *house) (string, func()) {
	h.world.Faults().MuteStreams()
	// Nobody can know of a mute stream before something is found missing; so it ends.
	return "the stream is mute", h.world.Faults().CutStreams
}

func onPort(words string, set func(*port)) func(h *house) (string, func()) {
	return func(h *house) (string, func()) {
		h.port.set(func() { set(h.port) })
		return words, h.port.faithful
	}
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

// panics lets one actor, or one effect, panic once.
func panics(h *house) (string, func()) {
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

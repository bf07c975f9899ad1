package app

import (
	"context"
	"fmt"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
)

// change is a Set in progress.
type change struct {
	from    *actor.PID
	request messages.SetRequest
	// record it leads to.
	record journal.AppRecord
	// token of the commit; sent is how often it was sent.
	token uint64
	sent  int
	// failed: the commit was refused, but a repetition of it may get through: the record before is committed again.
	failed error
	retry  bool
	// warnings for the one who asked.
	warnings []string
}

func (a *appActor) enqueue(c *kit.Context, request messages.SetRequest) {
	ch := &change{from: c.Sender(), request: request}
	if len(a.queue) >= maxQueue {
		c.ReplyTo(ch.from, messages.NewError(messages.CodeUnavailable, "set", messages.KindApp, messages.AppName, fmt.Sprintf("%d changes wait already", maxQueue)))
		return
	}
	a.queue = append(a.queue, ch)
	a.next(c)
}

// next begins the oldest change that waits, when nothing is in progress.
func (a *appActor) next(c *kit.Context) {
	for a.now == nil && len(a.queue) > 0 && a.visible > 0 && !a.accepting() {
		a.now, a.queue = a.queue[0], a.queue[1:]
		a.consider(c, a.now)
	}
}

func (a *appActor) consider(c *kit.Context, ch *change) {
	if g := ch.request.IfGeneration; g != 0 && g != a.record.Generation {
		a.reject(c, messages.NewError(messages.CodeConflict, "set", messages.KindApp, messages.AppName,
			fmt.Sprintf("its generation is %d, not %d", a.record.Generation, g)))
		return
	}
	spec, err := patched(a.record.Spec, ch.request.Patch, a.deps.DefaultNamespace)
	if err != nil {
		a.reject(c, err)
		return
	}
	ch.record = a.record
	ch.record.Spec = spec
	if spec.VirtualMachine.Driver != messages.DriverAuto || a.record.Spec.VirtualMachine.Driver != messages.DriverAuto {
		ch.record.Driver = "" // chosen by name, or to be chosen anew
	}
	needed := spec.Running || spec.ContainerEngine.Name != messages.EngineMoby
	if needed && driverOf(ch.record) == "" && a.deps.Resolve != nil {
		resolve := a.deps.Resolve
		c.Run("resolve", resolveTimeout, func(context.Context) any {
			driver, err := resolve(spec)
			return resolved{ch, driver, err}
		})
		return
	}
	a.decide(c, ch)
}

func (a *appActor) resolved(c *kit.Context, m resolved) {
	switch {
	case m.err != nil && m.change.record.Spec.Running:
		a.reject(c, fmt.Errorf("set app: no driver for virtualMachine.driver=auto: %w", m.err))
		return
	case m.err == nil:
		m.change.record.Driver = m.driver
	}
	a.decide(c, m.change)
}

// decide answers what needs no commit, and commits the rest.
func (a *appActor) decide(c *kit.Context, ch *change) {
	if err := checkBackend(ch.record.Spec, driverOf(ch.record), a.deps.Backends); err != nil {
		a.reject(c, err)
		return
	}
	ch.warnings = a.warnings(ch)
	running := a.record.Spec.Running
	switch {
	case ch.record.Spec == a.record.Spec && !ch.request.DryRun && namesRunning(ch.request.Patch, running) && a.failed():
		// Nothing new but the wish that it be tried again, now.
		ch.retry = true
		a.retry++
		a.vmVoice = called
		a.changes++
		a.publish(c)
	case ch.record.Spec == a.record.Spec:
		a.answer(c, messages.SetReply{App: a.stored})
	case ch.request.DryRun:
		preview := a.stored.DeepCopy()
		preview.Spec, preview.Generation = ch.record.Spec, a.record.Generation+1
		a.answer(c, messages.SetReply{App: preview, Changed: true, Warnings: ch.warnings})
	default:
		ch.record.Generation++
		a.commit(c)
	}
}

// warnings names what the driver makes nothing of, when it is newly asked for: by another value, or of another driver.
func (a *appActor) warnings(ch *change) (out []string) {
	driver := driverOf(ch.record)
	if driver == "" || a.deps.Sizeless == nil || !a.deps.Sizeless(driver) {
		return nil
	}
	for _, name := range []string{"virtualMachine.cpus", "virtualMachine.memory", "virtualMachine.disk", "virtualMachine.image"} {
		p, _ := messages.PropertyByName(name)
		is := messages.Value(ch.record.Spec, name)
		if is != p.Default && (is != messages.Value(a.record.Spec, name) || driver != driverOf(a.record)) {
			out = append(out, fmt.Sprintf("%s=%s has no effect with driver %s: it makes no machine of a size of its own", name, is, driver))
		}
	}
	return out
}

// failed: vm has given up on the present generation.
func (a *appActor) failed() bool {
	return a.vmVoice == spoken && messages.TerminalReason(a.vm.Reason) && a.vm.Generation >= a.record.Generation
}

func (a *appActor) commit(c *kit.Context) {
	ch := a.now
	if ch.token == 0 {
		ch.token = c.Token()
	}
	record := ch.record
	if ch.failed != nil {
		record = a.record
	}
	ch.sent++
	c.Tell(control.Journal, journal.Commit{Token: ch.token, Ops: []journal.Op{journal.PutApp(record)}})
	c.After(askAgain, commitDue{ch.token})
}

func (a *appActor) committed(c *kit.Context, m journal.Committed) {
	ch := a.now
	if ch == nil || ch.token == 0 || ch.token != m.Token {
		return
	}
	first := a.record.Generation == 0
	switch {
	case m.Err != nil && first:
		c.House.Log.Warn("the App cannot be journalled; trying again", "error", m.Err)
		return // commitDue tries again
	case m.Err != nil && ch.failed != nil:
		return // commitDue tries again: until it is through, it is not known what the journal has
	case m.Err != nil && ch.sent > 1:
		ch.failed, ch.token = m.Err, 0
		a.commit(c)
		return
	case m.Err != nil:
		a.reject(c, notAccepted(m.Err))
		return
	case ch.failed != nil:
		a.reject(c, notAccepted(ch.failed))
		return
	}
	ch.token = 0
	if first {
		a.now = nil
		a.begin(c, ch.record)
		return
	}
	a.record = ch.record
	a.vmVoice, a.engineVoice, a.retry = called, called, 0
	a.changes++
	a.publish(c)
}

func notAccepted(err error) error {
	e := messages.WrapError(messages.CodeUnavailable, "set", messages.KindApp, messages.AppName, err)
	e.Message = "not accepted, nothing has changed"
	return e
}

func (a *appActor) reject(c *kit.Context, err error) {
	ch := a.now
	a.now = nil
	c.ReplyTo(ch.from, messages.AsError(err))
	a.next(c)
}

func (a *appActor) answer(c *kit.Context, reply messages.SetReply) {
	ch := a.now
	a.now = nil
	c.ReplyTo(ch.from, reply)
	a.next(c)
}

package virtual

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// foreignFinalizer is somebody else's.
const foreignFinalizer = "example.com/held"

const (
	labelled = `{"metadata":{"labels":{"team":"a"}}}`
	holding  = `{"metadata":{"finalizers":["` + foreignFinalizer + `"]}}`
	letGo    = `{"metadata":{"finalizers":null}}`
)

// put writes as a client does: without an answer it writes again.
func (r *run) put(kind, name, patch string) {
	r.insist("write "+kind+" "+name, func(ctx context.Context) error {
		err := r.write(ctx, messages.WriteRequest{Kind: kind, Name: name, Patch: []byte(patch)})
		if hit, _ := r.spy.victim(); hit != "" && patch == letGo && errors.Is(err, messages.ErrNotFound) {
			return nil // with the last finalizer it has gone
		}
		return err
	})
}

// has is what must hold after a write, besides the mirror being the engine.
func has(kind, name string, right func(o messages.Object) error) func(r *run) error {
	return func(r *run) error {
		o, err := r.client.Get(context.Background(), kind, name)
		if err == nil {
			err = right(o)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", kind, name, err)
		}
		return r.check(true)
	}
}

func hasLabel(o messages.Object) error {
	if o.GetLabels()["team"] != "a" {
		return errors.New("the label is lost")
	}
	return nil
}

// label is a step in which a client writes one.
func label(kind, name string) step {
	return step{name: "label " + kind + " " + name, lasts: 1200 * time.Millisecond, right: has(kind, name, hasLabel),
		do: func(r *run) { r.put(kind, name, labelled) }}
}

// loses lets a message of that type be lost with a panic of who gets it: a part of the story.
func (r *run) loses(path, what string) {
	r.asked[path] = true
	r.spy.lose(path, what)
}

// writes are what a client writes down, and detaches; words that get lost on the way are sent again.
func writes() *scenario {
	lost := func(of string, do func(r *run)) step {
		return step{name: "a word of " + of + " to the store is lost", lasts: 11 * time.Second, do: func(r *run) {
			r.loses(control.Store, "store.Put")
			do(r)
		}}
	}
	detach := func(kind, name string) step {
		return step{name: "detach " + kind, lasts: 1200 * time.Millisecond, do: func(r *run) {
			r.uids.blind()
			r.moved(r.world.Snapshot().Images)
			r.insist("detach "+name, func(ctx context.Context) error {
				return r.erase(ctx, messages.DeleteRequest{Kind: kind, Name: name, Detach: true})
			})
		}}
	}
	return &scenario{title: "writes", steps: []step{
		start, web,
		label(messages.KindContainer, "web"), label(messages.KindImage, "busybox:latest"), label(messages.KindVolume, "data"),
		{name: "write to the namespace", do: func(r *run) {
			r.order.do(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
				defer cancel()
				_ = r.write(ctx, messages.WriteRequest{Kind: messages.KindContainerNamespace, Name: messages.NamespaceMoby, Patch: []byte(labelled)})
			})
		}},
		detach(messages.KindVolume, "data"), detach(messages.KindImage, "busybox:latest"), detach(messages.KindContainer, "web"),
		lost("a container", func(r *run) { r.did(r.world.Pause("web")) }),
		lost("an image", func(r *run) { r.did(second(r.world.Import("other:1", "other"))) }),
		lost("a volume", func(r *run) { r.did(second(r.world.VolumeCreate(volume("v")))) }),
	}}
}

// made counts the calls that rdd made since countAnew.
func (r *run) made(op string) int {
	r.always()
	return r.calls[op]
}

func (r *run) countAnew() {
	r.always()
	clear(r.calls)
}

// acts is a step in which a client asks for an action: it is done once, and its receipt ends.
func acts(verb string, status string) step {
	st := step{name: verb, lasts: 1200 * time.Millisecond}
	st.do = func(r *run) {
		r.countAnew()
		began := time.Now()
		r.insist(verb, func(ctx context.Context) error {
			if a := receiptOf(r, "web"); a != nil && a.Action == verb && !a.RequestedAt.Time.Before(began.Truncate(time.Second)) {
				return nil // it was accepted: who got no answer reads it
			}
			return r.act(ctx, messages.ActionRequest{Name: "web", Action: verb, Grace: &metav1.Duration{}})
		})
	}
	st.right = func(r *run) error {
		a := receiptOf(r, "web")
		n := r.made(callsOf[verb])
		switch {
		case a == nil || a.Action != verb || a.State == messages.ActionPending:
			return fmt.Errorf("the receipt of %s has no end: %+v", verb, a)
		case n > 1:
			r.fatal("%s was done %d times", verb, n)
		case a.State == messages.ActionFailed && verb == messages.ActionKill && n == 0:
			return r.check(true) // what may have been killed is not killed twice
		case a.State != messages.ActionSucceeded || n != 1:
			return fmt.Errorf("%s was done %d times: %+v", verb, n, a)
		}
		if s := r.status("web"); s != status {
			return fmt.Errorf("after %s it is %s", verb, s)
		}
		return r.check(true)
	}
	return st
}

func receiptOf(r *run, name string) *messages.ActionReceipt {
	o, err := r.client.Get(context.Background(), messages.KindContainer, name)
	if err != nil {
		return nil
	}
	return o.(*messages.Container).Status.LastAction
}

func (r *run) status(name string) string {
	for _, c := range r.world.Snapshot().Containers {
		if c.Name == name {
			return c.Status
		}
	}
	return ""
}

// state is a step in which spec.state is written: the container gets there, by as many calls as it takes.
func state(want, policy, status, op string) step {
	return step{name: "spec.state=" + want + " " + policy, lasts: 1200 * time.Millisecond, do: func(r *run) {
		r.countAnew()
		r.put(messages.KindContainer, "web", fmt.Sprintf(`{"spec":{"state":%q,"policy":%q}}`, want, policy))
	}, right: func(r *run) error {
		if n := r.made(op); n > 1 {
			r.fatal("%s was made %d times", op, n)
		}
		if s := r.status("web"); s != status {
			return fmt.Errorf("spec.state=%s, and it is %s", want, s)
		}
		return has(messages.KindContainer, "web", func(o messages.Object) error {
			c := o.(*messages.Container)
			if c.Status.ObservedGeneration != c.Generation {
				return fmt.Errorf("spec.state=%s has no end: %+v", want, c.Status.ConditionList)
			}
			return nil
		})(r)
	}}
}

// wishes are spec.state and actions of every sort.
func wishes() *scenario {
	restart := acts(messages.ActionRestart, messages.ContainerRunning)
	restart.within = afterRestart
	return &scenario{title: "wishes", steps: []step{
		start, web,
		state(messages.StatePaused, messages.PolicyOnce, messages.ContainerPaused, sim.OpPauseContainer),
		state(messages.StateRunning, messages.PolicyOnce, messages.ContainerRunning, sim.OpUnpauseContainer),
		state(messages.StateCreated, messages.PolicyOnce, messages.ContainerExited, sim.OpStopContainer),
		state(messages.StateUnknown, messages.PolicyOnce, messages.ContainerExited, sim.OpStopContainer),
		acts(messages.ActionStart, messages.ContainerRunning),
		acts(messages.ActionPause, messages.ContainerPaused),
		acts(messages.ActionUnpause, messages.ContainerRunning),
		restart,
		acts(messages.ActionStop, messages.ContainerExited),
		state(messages.StateRunning, messages.PolicyEnforce, messages.ContainerRunning, sim.OpStartContainer),
		{name: "what is enforced is put right", lasts: 2 * time.Second, do: func(r *run) { r.did(r.world.Pause("web")) }, right: func(r *run) error {
			if s := r.status("web"); s != messages.ContainerRunning {
				return fmt.Errorf("it is %s", s)
			}
			return r.check(true)
		}},
		{name: "calm", do: func(r *run) { r.pass(10*time.Minute + time.Second) }},
		state(messages.StateUnknown, messages.PolicyOnce, messages.ContainerRunning, sim.OpStartContainer),
		acts(messages.ActionKill, messages.ContainerExited),
		{name: "its actor panics while it restarts", within: afterRestart, lasts: 6 * time.Second, do: func(r *run) {
			r.world.Faults().Slow(sim.OpRestartContainer, "", 300*time.Millisecond)
			restart.do(r)
			for _, c := range r.world.Snapshot().Containers {
				r.ask(control.Containers+"/"+c.ID, 1)
			}
		}, right: func(r *run) error {
			r.world.Faults().Clear()
			r.tap()
			return restart.right(r)
		}},
		{name: "a restart is lost", within: 2 * afterRestart, lasts: 6 * time.Second, do: func(r *run) {
			// With the panic under test, two are.
			r.pass(time.Second) // the receipt before is of another second
			for _, c := range r.world.Snapshot().Containers {
				r.loses(control.Containers+"/"+c.ID, "#"+messages.ActionRestart)
			}
			restart.do(r)
		}, right: restart.right},
	}}
}

// afterRestart: a restart of before may still come about; that is waited for before it is said that it did not.
const afterRestart = 8 * time.Second

// skeletons are resources that a client makes, and deletes.
func skeletons() *scenario {
	sc := &scenario{title: "skeletons", steps: []step{start, web}}
	kinds := []struct{ kind, name, path string }{
		{messages.KindContainer, "made", control.Containers}, {messages.KindImage, "made", control.Images}, {messages.KindVolume, "made", control.Volumes},
	}
	create := func(r *run, kind, name string) {
		r.insist("create "+kind, func(ctx context.Context) error {
			return r.write(ctx, messages.WriteRequest{Kind: kind, Name: name, Create: true, Patch: []byte(labelled)})
		})
	}
	is := func(kind, name string) func(r *run) error {
		return func(r *run) error {
			o, err := r.client.Get(context.Background(), kind, name)
			if err == nil {
				err = hasLabel(o)
			}
			return err
		}
	}
	for _, k := range kinds {
		sc.steps = append(sc.steps,
			step{name: "create " + k.kind, lasts: 1200 * time.Millisecond, do: func(r *run) { create(r, k.kind, k.name) }, right: is(k.kind, k.name)},
			step{name: "the actor of " + k.kind + " panics", lasts: time.Second, do: func(r *run) {
				r.ask(k.path+"/skeleton:"+k.name, 1)
			}, right: is(k.kind, k.name)},
			step{name: "delete " + k.kind, lasts: 1200 * time.Millisecond, do: func(r *run) { r.wantGone(k.kind, k.name) }, right: nothingTerminates})
	}
	sc.steps = append(sc.steps, step{name: "create them again", do: func(r *run) {
		for _, k := range kinds {
			create(r, k.kind, k.name)
		}
	}, right: func(r *run) error {
		for _, k := range kinds {
			if err := is(k.kind, k.name)(r); err != nil {
				return err
			}
		}
		return nil
	}}, step{name: "running=false", do: func(r *run) { r.want("running=false") }, right: stoppedAndSwept, loses: true})
	return sc
}

// sweeps end wishes, and leave what others hold.
func sweeps() *scenario {
	held := []struct{ kind, name string }{
		{messages.KindContainer, "held"}, {messages.KindImage, "held:latest"}, {messages.KindVolume, "held"},
	}
	return &scenario{title: "sweeps", steps: []step{
		start, web,
		{name: "somebody holds some", do: func(r *run) {
			r.did(second(r.world.VolumeCreate(volume("held"))))
			r.did(second(r.world.Import("held:latest", "held")))
			r.did(runs(sim.ContainerOptions{Name: "held", Image: "busybox"})(r.world))
			r.pass(500 * time.Millisecond)
			for _, k := range held {
				r.put(k.kind, k.name, holding)
				o, err := r.client.Get(context.Background(), k.kind, k.name)
				r.did(err)
				r.names[k.kind] = o.GetName()
			}
		}},
		{name: "delete what cannot be removed", do: func(r *run) {
			r.world.Faults().Fail(sim.OpRemoveContainer, "", 0, onPurpose())
			r.wantGone(messages.KindContainer, "web")
			r.wantGone(messages.KindImage, "busybox:latest")
			r.wantGone(messages.KindVolume, "data")
		}, right: func(r *run) error {
			for _, k := range []struct{ kind, name string }{{messages.KindContainer, "web"}, {messages.KindImage, "busybox:latest"}, {messages.KindVolume, "data"}} {
				o, err := r.client.Get(context.Background(), k.kind, k.name)
				if err != nil {
					return err
				}
				if c := messages.Condition(o, messages.ConditionDeletionBlocked); o.GetDeletionTimestamp() == nil || c == nil {
					return fmt.Errorf("%s is not being deleted: %+v", messages.NameOf(o), o.Conditions())
				}
			}
			return nil
		}},
		{name: "running=false", loses: true, lasts: 11 * time.Second, do: func(r *run) { r.want("running=false") }, right: func(r *run) error {
			if c := messages.Condition(r.app(), messages.ConditionSettled); c == nil || c.Status != metav1.ConditionTrue {
				return fmt.Errorf("not settled: %+v", c)
			}
			for _, k := range held {
				l := r.list(k.kind)
				if len(l) != 1 || l[0].GetName() != r.names[k.kind] || l[0].GetDeletionTimestamp() == nil {
					return fmt.Errorf("%d of %s are left, where one is held", len(l), k.kind)
				}
			}
			return nil
		}},
		{name: "they let go", loses: true, do: func(r *run) {
			for _, k := range held {
				r.put(k.kind, r.names[k.kind], letGo)
			}
		}, right: stoppedAndSwept},
	}}
}

package virtual

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

func volume(name string) sim.VolumeOptions { return sim.VolumeOptions{Name: name} }

// on is a step in which one thing is done to the world.
func on(name string, do func(w *sim.Engine) error) step {
	return step{name: name, do: func(r *run) { r.did(do(r.world)) }}
}

func tagged(name string, do func(w *sim.Engine) error) step {
	return step{name: name, do: func(r *run) {
		r.moved(r.world.Snapshot().Images)
		r.did(do(r.world))
	}}
}

func runs(o sim.ContainerOptions) func(w *sim.Engine) error {
	return func(w *sim.Engine) error {
		_, err := w.Run(o)
		return err
	}
}

// start is how every story begins.
var start = step{name: "start", do: func(r *run) { r.want("running=true") }}

// web is a container with a volume, for a story that is not about how they came.
var web = on("run", runs(sim.ContainerOptions{Name: "web", Image: "busybox", Volumes: []string{"data:/data"}}))

func onPurpose() error {
	return messages.NewError(messages.CodeUnavailable, "do", "", "it", "it fails on purpose")
}

// scenarios are the stories. What begins a later one as the first was told there.
func scenarios() []*scenario {
	out := []*scenario{containers(), images(), volumes(), deletions(), streams(), engines(), machines(), audits(), again(), writes(), wishes(),
		skeletons(), sweeps()}
	for _, q := range quarantinedKinds {
		out = append(out, quarantines(q))
	}
	return out
}

func containers() *scenario {
	return &scenario{title: "containers", steps: []step{
		start, web,
		on("pause", func(w *sim.Engine) error { return w.Pause("web") }),
		on("unpause", func(w *sim.Engine) error { return w.Unpause("web") }),
		on("rename", func(w *sim.Engine) error { return w.Rename("web", "www") }),
		on("stop", func(w *sim.Engine) error { return w.Stop("www") }),
		{name: "an inspect fails", do: func(r *run) {
			r.world.Faults().Fail(sim.OpInspectContainer, "www", 1, onPurpose())
			r.did(r.world.Start("www"))
		}},
		{name: "die and come back", lasts: 2 * time.Second, do: func(r *run) {
			r.did(runs(sim.ContainerOptions{Name: "again", Image: "busybox", RestartPolicy: "always"})(r.world))
			r.pass(200 * time.Millisecond)
			r.did(r.world.Exit("again", 3))
		}},
		on("rm", func(w *sim.Engine) error { return w.Rm("www", true) }),
		{name: "a list fails", do: func(r *run) {
			r.world.Faults().Fail(sim.OpListContainers, "", 1, onPurpose())
			r.world.ContainerPrune(nil)
			r.pass(10 * time.Millisecond)
			r.world.ContainerPrune(nil)
		}},
		{name: "prune twice", do: func(r *run) {
			r.world.ContainerPrune(nil)
			r.pass(10 * time.Millisecond)
			r.world.ContainerPrune(nil)
		}},
		{name: "quiet", do: func(*run) {}, lasts: 12 * time.Second},
	}}
}

func images() *scenario {
	return &scenario{title: "images", steps: []step{
		start,
		tagged("tag", func(w *sim.Engine) error { return w.Tag("busybox", "other:1") }),
		tagged("move a tag", func(w *sim.Engine) error { return second(w.Import("other:1", "another")) }),
		tagged("untag", func(w *sim.Engine) error { return w.Rmi("busybox", false) }),
		{name: "an inspect fails", do: func(r *run) {
			r.world.Faults().Fail(sim.OpInspectImage, "", 1, onPurpose())
			r.did(second(r.world.Import("new:1", "new")))
		}},
		{name: "a list fails", do: func(r *run) {
			r.moved(r.world.Snapshot().Images)
			r.world.Faults().Fail(sim.OpListImages, "", 1, onPurpose())
			r.did(r.world.Tag("new:1", "third:3"))
		}},
		{name: "quiet", do: func(*run) {}, lasts: 1500 * time.Millisecond},
	}}
}

func volumes() *scenario {
	return &scenario{title: "volumes", steps: []step{
		start,
		on("create", func(w *sim.Engine) error { return second(w.VolumeCreate(volume("v"))) }),
		{name: "recreate", do: func(r *run) {
			r.did(r.world.VolumeRm("v"))
			r.did(second(r.world.VolumeCreate(volume("v"))))
			r.pass(50 * time.Millisecond) // what is mirrored is right before and after: only the uid is another
		}},
		{name: "an inspect fails", do: func(r *run) {
			r.world.Faults().Fail(sim.OpInspectVolume, "", 1, onPurpose())
			r.did(second(r.world.VolumeCreate(volume("u"))))
		}},
		{name: "a list fails", do: func(r *run) {
			r.did(second(r.world.VolumeCreate(volume("w"))))
			r.world.Faults().Fail(sim.OpListVolumes, "", 1, onPurpose())
			r.world.VolumePrune(nil)
		}},
		{name: "prune twice", do: func(r *run) {
			r.world.VolumePrune(nil)
			r.pass(10 * time.Millisecond)
			r.world.VolumePrune(nil)
		}},
		{name: "quiet", do: func(*run) {}, lasts: 1500 * time.Millisecond},
	}}
}

// deletions are what a user of rdd asks for.
func deletions() *scenario {
	return &scenario{title: "deletions", steps: []step{
		start, web,
		on("create", func(w *sim.Engine) error { return second(w.VolumeCreate(volume("v"))) }),
		{name: "delete what is in use", lasts: 2 * time.Second, do: func(r *run) {
			r.wantGone("volume", "data")
			r.wantGone("image", "busybox:latest")
		}},
		{name: "its user goes", lasts: 1200 * time.Millisecond, do: func(r *run) { r.did(r.world.Rm("web", true)) }, right: nothingTerminates},
		on("import", func(w *sim.Engine) error { return second(w.Import("busybox:latest", "third")) }),
		web,
		{name: "a removal is refused", do: func(r *run) {
			r.world.Faults().Fail(sim.OpRemoveContainer, "web", 1, messages.NewError(messages.CodeConflict, "remove", "container", "web", "on purpose"))
			r.wantGone("container", "web")
		}, lasts: 1200 * time.Millisecond, right: nothingTerminates},
		web,
		{name: "a removal is slow", do: func(r *run) {
			undo := r.world.Faults().Slow(sim.OpRemoveContainer, "web", 5*time.Second)
			r.wantGone("container", "web")
			r.pass(1200 * time.Millisecond)
			undo()
		}, right: nothingTerminates},
		{name: "delete a volume", do: func(r *run) { r.wantGone("volume", "v") }, right: nothingTerminates},
		{name: "delete the namespace", do: func(r *run) {
			r.uids.again(messages.KindContainerNamespace + "/" + messages.NamespaceMoby)
			r.wantGone(messages.KindContainerNamespace, messages.NamespaceMoby)
		}, lasts: 1200 * time.Millisecond},
	}}
}

// streams end, and a session takes over.
func streams() *scenario {
	return &scenario{title: "streams", steps: []step{
		start, web,
		{name: "the stream ends", do: func(r *run) {
			r.uids.blind()
			r.world.Faults().CutStreams()
			r.did(r.world.Pause("web"))
		}, loses: true},
	}}
}

// engines come and go.
func engines() *scenario {
	return &scenario{title: "engines", steps: []step{
		start, web,
		{name: "heartbeats", do: func(*run) {}, lasts: 11 * time.Second},
		{name: "away", do: func(r *run) {
			r.world.Down()
			r.pass(31 * time.Second)
		}, right: unreachable, loses: true},
		{name: "back", do: func(r *run) {
			r.did(r.world.Pause("web"))
			r.world.Up()
			r.pass(time.Second)
		}, loses: true},
		{name: "another engine", do: func(r *run) {
			r.world.Replace("another")
			r.uids.reset()
			r.did(second(r.world.Import("busybox:latest", "")))
			r.did(runs(sim.ContainerOptions{Name: "web", Image: "busybox", Volumes: []string{"data:/data"}})(r.world))
			r.pass(time.Second)
		}, loses: true, lasts: 11 * time.Second},
	}}
}

// machines start, stop and crash.
func machines() *scenario {
	return &scenario{title: "machines", steps: []step{
		start, web,
		{name: "the watch ends", do: func(r *run) { r.machine.endWatches() }, lasts: 6 * time.Second},
		{name: "crash", do: func(r *run) {
			r.machine.crash()
			r.pass(2 * time.Second)
		}, loses: true},
		{name: "running=false", do: func(r *run) { r.want("running=false") }, right: stoppedAndSwept, loses: true, lasts: 11 * time.Second},
		{name: "running=true", do: func(r *run) {
			r.uids.reset()
			r.want("running=true")
		}, loses: true},
	}}
}

// audits find what no event has told of: the only story in which there are any. The next one is a minute away.
func audits() *scenario {
	return &scenario{title: "audits", audit: time.Minute, steps: []step{
		start, web,
		on("create", func(w *sim.Engine) error { return second(w.VolumeCreate(volume("v"))) }),
		{name: "an audit", do: func(r *run) {
			r.uids.blind()
			undo := r.world.Faults().StopEvents()
			r.did(r.world.Pause("web"))
			r.did(second(r.world.VolumeCreate(volume("unheard"))))
			r.did(r.world.VolumeRm("v"))
			r.moved(r.world.Snapshot().Images)
			r.did(r.world.Tag("busybox", "unheard:1"))
			undo()
			r.pass(67 * time.Second)
		}, loses: true},
	}}
}

// quarantined says how a kind's objects come and go, for the story of one that only panics.
type quarantined struct {
	kind string
	// add makes one and gives its actor's path; remove ends it in the engine.
	add    func(w *sim.Engine, name string) (path string, err error)
	remove func(w *sim.Engine, name string) error
	// refuses: its supervisor does not take deletions in its stead.
	refuses bool
}

var quarantinedKinds = []quarantined{
	{kind: messages.KindContainer, add: func(w *sim.Engine, name string) (string, error) {
		id, err := w.Run(sim.ContainerOptions{Name: name, Image: "busybox"})
		return control.Containers + "/" + id, err
	}, remove: func(w *sim.Engine, name string) error { return w.Rm(name, true) }},
	{kind: messages.KindImage, refuses: true, add: func(w *sim.Engine, name string) (string, error) {
		id, err := w.Import(name+":latest", name)
		return control.Images + "/" + id, err
	}, remove: func(w *sim.Engine, name string) error { return w.Rmi(name, false) }},
	{kind: messages.KindVolume, add: func(w *sim.Engine, name string) (string, error) {
		name, err := w.VolumeCreate(volume(name))
		return control.Volumes + "/" + name, err
	}, remove: (*sim.Engine).VolumeRm},
}

// quarantines: an object that only panics, and what its supervisor does in its stead.
func quarantines(q quarantined) *scenario {
	panicking := func(name string) step {
		return step{name: name + " only panics", do: func(r *run) {
			path, err := q.add(r.world, name)
			r.did(err)
			r.pass(1500 * time.Millisecond) // what is quarantined is in the store, whatever has panicked meanwhile
			r.ask(path, 6)
			r.pass(3 * time.Second)
		}, right: q.standsIn}
	}
	sc := &scenario{title: "quarantined " + q.kind, steps: []step{start, panicking("one")}}
	if !q.refuses {
		sc.steps = append(sc.steps, step{name: "delete it", do: func(r *run) { r.wantGone(q.kind, "one") }, right: q.standsIn})
	}
	sc.steps = append(sc.steps,
		step{name: "it gets another chance", do: func(r *run) { r.pass(61 * time.Second) }, right: nothingTerminates},
		panicking("two"),
		step{name: "the engine has it no more", do: func(r *run) { r.did(q.remove(r.world, "two")) }, right: nothingTerminates})
	return sc
}

// standsIn: the object says that it is quarantined. When its supervisor has panicked, the actor has had its other chance already.
func (q quarantined) standsIn(r *run) error {
	for _, o := range r.list(q.kind) {
		if c := messages.Condition(o, messages.ConditionSynced); c != nil && c.Reason == messages.ReasonQuarantined {
			return nil
		}
	}
	if hit, _ := r.spy.victim(); hit != "" && !strings.Contains(strings.TrimPrefix(hit, control.Root+"/"), "/") {
		return nothingTerminates(r)
	}
	return fmt.Errorf("no %s is quarantined", q.kind)
}

// again: what comes only after a panic, as last words, first words and the news of it, panics too.
func again() *scenario {
	sc := &scenario{title: "panics", steps: []step{start, web}}
	for _, path := range []string{control.Journal, control.Store, control.App, control.VM, control.Session, control.Engine, control.Moby,
		control.Namespaces, control.Containers, control.Images, control.Volumes} {
		sc.steps = append(sc.steps, step{name: "panic of " + path, do: func(r *run) { r.ask(path, 1) }, lasts: 500 * time.Millisecond})
	}
	for _, kind := range []string{control.Containers, control.Images, control.Volumes} {
		sc.steps = append(sc.steps, step{name: "panic of one of " + kind, do: func(r *run) {
			for _, n := range r.tree() {
				if strings.HasPrefix(n, kind+"/") {
					r.ask(n, 1)
					break
				}
			}
		}, lasts: 1200 * time.Millisecond})
	}
	return sc
}

// tree is the paths of all actors there are.
func (r *run) tree() []string {
	var out []string
	root, err := r.client.Tree(context.Background())
	r.did(err)
	var add func(messages.TreeNode)
	add = func(n messages.TreeNode) {
		out = append(out, n.Path)
		for _, c := range n.Children {
			add(c)
		}
	}
	add(*root)
	return out
}

// ask an actor to panic at its next messages, the first of which it gets now.
func (r *run) ask(path string, times int) {
	r.asked[path] = true
	r.order.do(func() {
		_, err := r.client.Debug(context.Background(), messages.DebugRequest{Actor: path, Action: "panic", Count: times})
		r.did(err)
	})
}

func second[T any](_ T, err error) error { return err }

// nothingTerminates: what was to be deleted is gone.
func nothingTerminates(r *run) error {
	for _, k := range messages.Kinds() {
		for _, o := range r.list(k.Name) {
			if o.GetDeletionTimestamp() != nil {
				return fmt.Errorf("%s is terminating", messages.NameOf(o))
			}
		}
	}
	return r.check(true)
}

// unreachable: the engine has been away for long, and everything says so.
func unreachable(r *run) error {
	if c := messages.Condition(r.app(), messages.ConditionContainerEngineReady); c == nil || c.Status == metav1.ConditionTrue {
		return fmt.Errorf("the engine is said to be ready: %+v", c)
	}
	for _, k := range messages.Kinds() {
		if !k.Mirrored {
			continue
		}
		for _, o := range r.list(k.Name) {
			if c := messages.Condition(o, messages.ConditionSynced); c == nil || c.Reason != messages.ReasonEngineUnreachable {
				return fmt.Errorf("%s does not say that the engine is away: %+v", messages.NameOf(o), c)
			}
		}
	}
	return nil
}

func stoppedAndSwept(r *run) error {
	app := r.app()
	if c := messages.Condition(app, messages.ConditionSettled); c == nil || c.Status != metav1.ConditionTrue || c.ObservedGeneration != app.Generation {
		return fmt.Errorf("the App is not settled: %+v", c)
	}
	for _, k := range messages.Kinds() {
		if n := len(r.list(k.Name)); k.Name != messages.KindApp && n > 0 {
			return fmt.Errorf("%d %s are left", n, k.Plural)
		}
	}
	return nil
}

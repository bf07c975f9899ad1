package virtual

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

func scenarios() map[string]*scenario {
	return map[string]*scenario{"life": life()}
}

// life is what users do, with an engine that answers.
func life() *scenario {
	broken := messages.NewError(messages.CodeUnavailable, "do", "", "it", "it fails on purpose")
	return &scenario{steps: []step{
		{name: "start", do: func(r *run) { r.want("running=true") }, loses: false},
		on("run", runs(sim.ContainerOptions{Name: "web", Image: "busybox", Volumes: []string{"data:/data"}})),
		on("pause", func(w *sim.Engine) error { return w.Pause("web") }),
		on("unpause", func(w *sim.Engine) error { return w.Unpause("web") }),
		on("rename", func(w *sim.Engine) error { return w.Rename("web", "www") }),
		on("stop", func(w *sim.Engine) error { return w.Stop("www") }),
		on("volume create", func(w *sim.Engine) error { _, err := w.VolumeCreate(volume("v1")); return err }),
		tagged("tag", func(w *sim.Engine) error { return w.Tag("busybox", "other:1") }),
		tagged("move a tag", func(w *sim.Engine) error { _, err := w.Import("other:1", "another"); return err }),
		tagged("untag", func(w *sim.Engine) error { return w.Rmi("other:1", false) }),
		{name: "delete what is in use", lasts: 2500 * time.Millisecond, do: func(r *run) {
			r.wantGone("volume", "data")
			r.wantGone("image", "busybox:latest")
		}},
		{name: "rm", lasts: time.Second, do: func(r *run) {
			r.moved(r.world.Snapshot().Images)
			r.did(r.world.Rm("www", true))
		}, right: func(r *run) error {
			if s := r.world.Snapshot(); len(s.Images) > 0 || len(s.Volumes) != 1 {
				return fmt.Errorf("the engine has %d images and %d volumes", len(s.Images), len(s.Volumes))
			}
			return r.check(true)
		}},
		tagged("import", func(w *sim.Engine) error { _, err := w.Import("busybox:latest", "third"); return err }),
		on("die and come back", runs(sim.ContainerOptions{Name: "again", Image: "busybox", RestartPolicy: "always", RunFor: 300 * time.Millisecond})),
		{name: "delete a container", do: func(r *run) { r.wantGone("container", "again") }, right: nothingTerminates},
		{name: "delete a volume", do: func(r *run) { r.wantGone("volume", "v1") }, right: nothingTerminates},
		{name: "delete the namespace", do: func(r *run) {
			r.uids.again(messages.KindContainerNamespace + "/" + messages.NamespaceMoby)
			r.wantGone(messages.KindContainerNamespace, messages.NamespaceMoby)
		}},
		{name: "an inspect fails", do: func(r *run) {
			r.did(runs(sim.ContainerOptions{Name: "web", Image: "busybox"})(r.world))
			r.world.Faults().Fail(sim.OpInspectContainer, "web", 1, broken)
		}},
		{name: "a list fails", do: func(r *run) {
			r.moved(r.world.Snapshot().Images)
			r.world.Faults().Fail(sim.OpListImages, "", 1, broken)
			r.did(r.world.Tag("busybox", "third:3"))
		}},
		{name: "recreate a volume", do: func(r *run) {
			r.did(second(r.world.VolumeCreate(volume("v2"))))
			r.pass(200 * time.Millisecond)
			r.did(r.world.VolumeRm("v2"))
			r.did(second(r.world.VolumeCreate(volume("v2"))))
			r.pass(50 * time.Millisecond) // what is mirrored is right before and after: only the uid is another
		}},
		{name: "quiet", do: func(*run) {}, lasts: 25 * time.Second},
		{name: "the stream ends", do: func(r *run) {
			r.uids.blind()
			r.world.Faults().CutStreams()
			r.did(r.world.Pause("web"))
		}, loses: true},
		{name: "away", do: func(r *run) {
			r.world.Down()
			r.pass(31 * time.Second)
		}, right: unreachable, loses: true},
		{name: "back", do: func(r *run) {
			r.did(r.world.Unpause("web"))
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
		{name: "the watch of the vm ends", do: func(r *run) { r.machine.endWatches() }, lasts: 6 * time.Second},
		{name: "the vm crashes", do: func(r *run) {
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

package faults

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

func (h *house) write(r messages.WriteRequest) (*messages.WriteReply, error) {
	return h.client.Write(h.Context(), r)
}

func (h *house) patch(kind, name, patch string) *messages.WriteReply {
	h.Helper()
	reply, err := h.write(messages.WriteRequest{Kind: kind, Name: name, Patch: json.RawMessage(patch)})
	require.NoError(h, err)
	return reply
}

func (h *house) refused(kind, name, patch string, code messages.Code, words ...string) {
	h.Helper()
	_, err := h.write(messages.WriteRequest{Kind: kind, Name: name, Patch: json.RawMessage(patch)})
	require.Error(h, err)
	require.Equal(h, code, messages.AsError(err).Code, err.Error())
	for _, w := range words {
		require.ErrorContains(h, err, w)
	}
}

// mirrored starts rdd on a world with a container, a volume and an image, and gives their names.
func mirrored(t *testing.T) (h *house, names map[string]string) {
	h = start(t, nil).settled()
	id := h.run("web")
	_, err := h.world.VolumeCreate(sim.VolumeOptions{Name: "data"})
	require.NoError(t, err)
	h.eventually("mirrored", func() bool {
		return h.get("container", id) != nil && h.get("volume", "data") != nil && len(h.list("image")) == 1
	})
	return h, map[string]string{"container": id, "volume": messages.VolumeName("data"), "image": h.list("image")[0].GetName()}
}

func TestWritesOfEveryMirroredKind(t *testing.T) {
	h, names := mirrored(t)
	for kind, name := range names {
		was := h.get(kind, name)
		reply := h.patch(kind, name, `{"metadata":{"labels":{"team":"a"},"annotations":{"note":"b"},"finalizers":["example.com/hold","`+messages.Finalizer+`"]}}`)
		require.True(t, reply.Changed)
		now := h.get(kind, name)
		require.Equal(t, "a", now.GetLabels()["team"])
		require.Equal(t, "b", now.GetAnnotations()["note"])
		require.ElementsMatch(t, []string{"example.com/hold", messages.Finalizer}, now.GetFinalizers())
		require.Equal(t, was.GetUID(), now.GetUID())
		require.Equal(t, was.GetGeneration(), now.GetGeneration(), "the spec is what it was")
		require.NotEqual(t, was.GetResourceVersion(), reply.Object.GetResourceVersion())

		again := h.patch(kind, name, `{"metadata":{"labels":{"team":"a"}}}`)
		require.False(t, again.Changed)
		require.Equal(t, now.GetResourceVersion(), h.get(kind, name).GetResourceVersion(), "a no-op changes nothing")
		h.refused(kind, name, `{"metadata":{"resourceVersion":"1"}}`, messages.CodeConflict, "resourceVersion")
		h.refused(kind, name, `{"metadata":{"name":"x"}}`, messages.CodeInvalid, "metadata.name")
		h.refused(kind, name, `{"nosuch":1}`, messages.CodeInvalid, "nosuch")
		h.refused(kind, name, `{"status":{"conditions":null}}`, messages.CodeInvalid, "status.conditions")

		dry, err := h.write(messages.WriteRequest{Kind: kind, Name: name, DryRun: true, Patch: json.RawMessage(`{"metadata":{"labels":{"team":"b"}}}`)})
		require.NoError(t, err)
		require.True(t, dry.Changed)
		require.Equal(t, "b", dry.Object.GetLabels()["team"])
		require.Equal(t, now.GetResourceVersion(), h.get(kind, name).GetResourceVersion(), "a dry run persists nothing")
		list, err := h.write(messages.WriteRequest{Kind: kind, Name: name, PatchType: messages.PatchJSON,
			Patch: json.RawMessage(`[{"op":"test","path":"/metadata/labels/team","value":"a"},{"op":"replace","path":"/metadata/finalizers","value":[]}]`)})
		require.NoError(t, err)
		require.Equal(t, []string{messages.Finalizer}, list.Object.GetFinalizers(), "ours was put back in the same turn")
		require.NotEmpty(t, list.Warnings)
	}
}

func TestWritesOfASpec(t *testing.T) {
	h, names := mirrored(t)
	id := names["container"]
	was := h.get("container", id)
	reply := h.patch("container", id, `{"spec":{"state":"running"}}`)
	require.Equal(t, was.GetGeneration()+1, reply.Object.GetGeneration())
	same := h.patch("container", id, `{"spec":{"state":"running"}}`)
	require.False(t, same.Changed)
	require.Contains(t, fmt.Sprint(same.Warnings), "rdd ctl action "+id+" start")
	h.refused("container", id, `{"spec":{"state":"stopped"}}`, messages.CodeInvalid, "spec.state", `"stopped"`, "created")

	app := h.get("app", "app").(*messages.App)
	got := h.patch("app", "app", `{"spec":{"virtualMachine":{"cpus":2}}}`)
	require.True(t, got.Changed)
	require.Equal(t, app.Generation+1, got.Object.GetGeneration())
	h.refused("app", "app", `{"spec":{"namespace":"other"}}`, messages.CodeInvalid, "spec.namespace")
	h.refused("app", "app", `{"metadata":{"labels":{"a":"b"}}}`, messages.CodeInvalid, "metadata.labels")
	h.refused("app", "app", `{"metadata":{"resourceVersion":"1"},"spec":{"virtualMachine":{"cpus":3}}}`, messages.CodeConflict)
	h.refused("containernamespace", "moby", `{"metadata":{"labels":{"a":"b"}}}`, messages.CodeForbidden, "engine")
}

func Test_S2_OurFinalizerCannotBeTakenAway(t *testing.T) {
	h := start(t, nil).settled()
	for i := range 200 {
		id := h.run(fmt.Sprintf("c%d", i))
		h.eventually("mirrored", func() bool { return h.get("container", id) != nil })
		reply := h.patch("container", id, `{"metadata":{"finalizers":[]}}`)
		require.Equal(t, []string{messages.Finalizer}, reply.Object.GetFinalizers(), "undone in the same turn: the reply shows it")
		require.NoError(t, h.delete("container", id))
		h.eventually("gone from the engine too", func() bool { return h.get("container", id) == nil && len(h.world.Snapshot().Containers) == 0 })
	}
}

// An object that stays Terminating: its engine object is in use.
func Test_S2_WhileTerminatingTheRemovalIsRefused(t *testing.T) {
	h, names := mirrored(t)
	image := names["image"]
	require.NoError(t, h.delete("image", image))
	h.eventually("blocked", func() bool {
		return messages.Condition(h.get("image", image), messages.ConditionDeletionBlocked) != nil
	})
	h.refused("image", image, `{"metadata":{"finalizers":null}}`, messages.CodeForbidden, "--detach")
	h.refused("image", image, `{"metadata":{"finalizers":["example.com/late","`+messages.Finalizer+`"]}}`, messages.CodeForbidden, "example.com/late")
}

func TestForeignFinalizersHold(t *testing.T) {
	h, names := mirrored(t)
	h.patch("container", names["container"], `{"metadata":{"finalizers":["example.com/hold","example.com/too"]}}`)
	h.patch("volume", names["volume"], `{"metadata":{"finalizers":["example.com/hold","example.com/too"]}}`)
	require.NoError(t, h.delete("container", names["container"]))
	require.NoError(t, h.world.VolumeRm("data"))
	for _, kind := range []string{"container", "volume"} {
		name := names[kind]
		h.eventually("the engine's object is gone, the resource is held", func() bool {
			o := h.get(kind, name)
			c := messages.Condition(o, messages.ConditionDeletionBlocked)
			return o.GetDeletionTimestamp() != nil && c != nil && c.Reason == messages.ReasonForeignHolders
		})
		require.Equal(t, []string{"example.com/hold", "example.com/too"}, h.get(kind, name).GetFinalizers())
		h.patch(kind, name, `{"metadata":{"finalizers":["example.com/too"]}}`)
		require.Equal(t, "held by example.com/too", messages.Condition(h.get(kind, name), messages.ConditionDeletionBlocked).Message)
		h.patch(kind, name, `{"metadata":{"finalizers":null}}`)
		h.eventually("it completes", func() bool { return h.get(kind, name) == nil })
	}
	require.Empty(t, h.world.Snapshot().Containers)
}

func TestDetachForgetsOnlyTheMirror(t *testing.T) {
	h, names := mirrored(t)
	require.NoError(t, h.delete("image", names["image"]))
	h.eventually("blocked", func() bool {
		return messages.Condition(h.get("image", names["image"]), messages.ConditionDeletionBlocked) != nil
	})
	for kind, name := range names {
		if kind != "image" {
			h.patch(kind, name, `{"metadata":{"labels":{"team":"a"}}}`)
		}
		was := h.get(kind, name)
		_, err := h.client.Delete(t.Context(), messages.DeleteRequest{Kind: kind, Name: name, Detach: true})
		require.NoError(t, err)
		h.eventually("another one", func() bool {
			o := h.get(kind, name)
			return o != nil && o.GetUID() != was.GetUID()
		})
		now := h.get(kind, name)
		require.Nil(t, now.GetDeletionTimestamp(), "the open deletion has ended")
		require.Empty(t, now.GetLabels(), "it inherits nothing")
	}
	require.Zero(t, h.world.Calls(sim.OpRemoveContainer)+h.world.Calls(sim.OpRemoveVolume))
	require.Len(t, h.world.Snapshot().Containers, 1)
}

func Test_S7_SkeletonsAreMadeKeptAndDeletedAtOnce(t *testing.T) {
	h := start(t, nil).settled()
	for _, kind := range []string{"container", "image", "volume"} {
		reply, err := h.write(messages.WriteRequest{Kind: kind, Name: "mine", Create: true, Patch: json.RawMessage(`{"metadata":{"labels":{"team":"a"}}}`)})
		require.NoError(t, err)
		require.True(t, reply.Created)
		o := h.get(kind, "mine")
		c := messages.Condition(o, messages.ConditionSynced)
		require.Equal(t, messages.ReasonNoEngineObject, c.Reason)
		require.Equal(t, "a", o.GetLabels()["team"])
		again, err := h.write(messages.WriteRequest{Kind: kind, Name: "mine", Create: true, Patch: json.RawMessage(`{"metadata":{"labels":{"team":"b"}}}`)})
		require.NoError(t, err)
		require.False(t, again.Created)
		require.Equal(t, o.GetUID(), again.Object.GetUID())
		_, err = h.write(messages.WriteRequest{Kind: kind, Name: "no/name", Create: true, Patch: json.RawMessage(`{}`)})
		require.ErrorIs(t, err, messages.ErrInvalid)
	}
	h.world.Down()
	h.eventually("the engine is away", func() bool { return h.ready() != "True" })
	for _, kind := range []string{"container", "image", "volume"} {
		require.NoError(t, h.delete(kind, "mine"))
		h.eventually("gone, without an engine", func() bool { return h.get(kind, "mine") == nil })
	}
	h.world.Up()
}

// What others hold is held by them over a restart of the daemon too, with its deletionTimestamp, and over a new object of that name.
func TestForeignFinalizersHoldOverARestart(t *testing.T) {
	world := withBusybox(t)
	id, err := world.Run(sim.ContainerOptions{Name: "web", Image: "busybox"})
	require.NoError(t, err)
	_, err = world.VolumeCreate(sim.VolumeOptions{Name: "data"})
	require.NoError(t, err)
	i := instance(t)
	h, stop := serve(t, world, i)
	names := map[string]string{"container": id, "volume": messages.VolumeName("data")}
	held := map[string]messages.Object{}
	for kind, name := range names {
		h.patch(kind, name, `{"metadata":{"finalizers":["example.com/hold"]}}`)
		require.NoError(t, h.delete(kind, name))
		h.eventually("held", func() bool {
			held[kind] = h.get(kind, name)
			c := messages.Condition(held[kind], messages.ConditionDeletionBlocked)
			return c != nil && c.Reason == messages.ReasonForeignHolders
		})
	}
	stop()

	h, _ = serve(t, world, i)
	for kind, name := range names {
		h.eventually("held again", func() bool { return h.get(kind, name) != nil })
		now := h.get(kind, name)
		require.True(t, held[kind].GetDeletionTimestamp().Equal(now.GetDeletionTimestamp()), kind)
		require.Equal(t, held[kind].GetUID(), now.GetUID(), kind)
		require.Equal(t, []string{"example.com/hold"}, now.GetFinalizers(), kind)
	}
	_, err = world.VolumeCreate(sim.VolumeOptions{Name: "data"})
	require.NoError(t, err)
	for kind, name := range names {
		h.patch(kind, name, `{"metadata":{"finalizers":null}}`)
	}
	h.eventually("it completes", func() bool { return h.get("container", id) == nil })
	h.eventually("the new volume is mirrored", func() bool {
		o := h.get("volume", names["volume"])
		return o != nil && o.GetDeletionTimestamp() == nil && o.GetUID() != held["volume"].GetUID()
	})
	require.Len(t, world.Snapshot().Volumes, 1, "nothing was removed in the engine")
}

// What clients wrote, with uid and generation, is there after the daemon was restarted, as long as it is the same object.
func TestWritesSurviveARestartOfTheDaemon(t *testing.T) {
	t.Run("as fast as it is", func(t *testing.T) { writesSurviveARestart(t, 0) })
	// The lists, then the journal, then the inspects: what was read is nobody's until an inspect has said whose.
	t.Run("inspects are slow", func(t *testing.T) { writesSurviveARestart(t, 300*time.Millisecond) })
}

func writesSurviveARestart(t *testing.T, inspect time.Duration) {
	world := withBusybox(t)
	id, err := world.Run(sim.ContainerOptions{Name: "web", Image: "busybox", Volumes: []string{"data:/data"}})
	require.NoError(t, err)
	i := instance(t)
	h, stop := serve(t, world, i)
	names := map[string]string{"container": id, "volume": messages.VolumeName("data"), "image": h.list("image")[0].GetName()}
	before := map[string]messages.Object{}
	for kind, name := range names {
		before[kind] = h.patch(kind, name, `{"metadata":{"labels":{"team":"a"},"annotations":{"note":"b"},"finalizers":["example.com/hold"]}}`).Object
	}
	before["container"] = h.patch("container", id, `{"spec":{"policy":"Enforce"}}`).Object
	_, err = h.write(messages.WriteRequest{Kind: "volume", Name: "mine", Create: true, Patch: json.RawMessage(`{"metadata":{"labels":{"team":"c"}}}`)})
	require.NoError(t, err)
	skeleton := h.get("volume", "mine")
	stop()

	for _, op := range []string{sim.OpInspectContainer, sim.OpInspectImage, sim.OpInspectVolume} {
		world.Faults().Slow(op, "", inspect)
	}
	h, _ = serve(t, world, i)
	for kind, name := range names {
		now, was := h.get(kind, name), before[kind]
		require.NotNil(t, now, kind)
		require.Equal(t, was.GetLabels(), now.GetLabels(), kind)
		require.Equal(t, was.GetAnnotations(), now.GetAnnotations(), kind)
		require.Equal(t, was.GetFinalizers(), now.GetFinalizers(), kind)
		require.Equal(t, was.GetUID(), now.GetUID(), kind)
		require.Equal(t, was.GetGeneration(), now.GetGeneration(), kind)
	}
	require.Equal(t, messages.PolicyEnforce, h.get("container", id).(*messages.Container).Spec.Policy)
	h.eventually("the skeleton is there", func() bool { return h.get("volume", "mine") != nil })
	require.Equal(t, skeleton.GetUID(), h.get("volume", "mine").GetUID())
	require.Equal(t, skeleton.GetCreationTimestamp(), h.get("volume", "mine").GetCreationTimestamp())
	require.Equal(t, "c", h.get("volume", "mine").GetLabels()["team"])
}

// A tag given anew while nobody looked moves the identity of an image, and is no other image: what was written to it, before or after, is
// there after the daemon was restarted.
func TestWritesSurviveATagGivenAnewInAGap(t *testing.T) {
	for _, written := range []string{"before", "after"} {
		t.Run(written, func(t *testing.T) {
			world := withBusybox(t)
			i := instance(t)
			h, stop := serve(t, world, i)
			write := func(when string) {
				if when == written {
					h.patch("image", "busybox", `{"metadata":{"labels":{"team":"a"}}}`)
				}
			}
			write("before")
			world.Down()
			h.eventually("the engine is missed", func() bool { return h.ready() != metav1.ConditionTrue })
			require.NoError(t, world.Tag("busybox", "busybox:latest"))
			world.Up()
			h.eventually("it is there again", func() bool { return h.ready() == metav1.ConditionTrue })
			if written == "before" {
				time.Sleep(200 * time.Millisecond) // nobody is told when the journal has the new identity
			}
			write("after")
			stop()

			h, _ = serve(t, world, i)
			require.Equal(t, "a", h.get("image", "busybox").GetLabels()["team"])
		})
	}
}

// A tag is mirrored as soon as a list has it, before the image was looked at again: what is asked of it in that moment is accepted for the
// image as it is then, and outlives a daemon that ends at once.
func TestWhatIsAskedOfATagJustGivenOutlivesTheDaemon(t *testing.T) {
	world := withBusybox(t)
	i := instance(t)
	h, stop := serve(t, world, i)
	world.Faults().Hang(sim.OpRemoveImage, "")
	world.Faults().Slow(sim.OpInspectImage, "", 300*time.Millisecond)
	for _, tag := range []string{"written", "gone"} {
		require.NoError(t, world.Tag("busybox", tag+":1"))
	}
	h.eventually("the tags are mirrored", func() bool { return h.get("image", "written:1") != nil && h.get("image", "gone:1") != nil })
	deleted := make(chan error, 1)
	go func() { deleted <- h.delete("image", "gone:1") }()
	h.patch("image", "written:1", `{"metadata":{"labels":{"team":"a"}}}`)
	require.NoError(t, <-deleted)
	stop()
	world.Faults().Clear()

	h, _ = serve(t, world, i)
	h.eventually("it is gone", func() bool { return h.get("image", "gone:1") == nil })
	require.Zero(t, h.undone(""))
	require.Equal(t, "a", h.get("image", "written:1").GetLabels()["team"])
	require.Equal(t, []string{"busybox:latest", "written:1"}, world.Snapshot().Images[0].Tags)
}

// What was written to a volume is not inherited by another one of its name: neither by one that rdd saw come, nor by one that came
// while it was dead.
func TestAnotherObjectInheritsNothing(t *testing.T) {
	clock := time.Now()
	world := sim.New(sim.Options{Clock: func() time.Time { return clock }})
	t.Cleanup(world.Close)
	_, err := world.VolumeCreate(sim.VolumeOptions{Name: "data"})
	require.NoError(t, err)
	again := func() {
		require.NoError(t, world.VolumeRm("data"))
		clock = clock.Add(time.Minute)
		_, err := world.VolumeCreate(sim.VolumeOptions{Name: "data"})
		require.NoError(t, err)
	}
	i := instance(t)
	h, stop := serve(t, world, i)
	first := h.patch("volume", "data", `{"metadata":{"labels":{"team":"a"}}}`).Object
	again()
	h.eventually("another one", func() bool {
		o := h.get("volume", "data")
		return o != nil && o.GetUID() != first.GetUID()
	})
	require.Empty(t, h.get("volume", "data").GetLabels())
	h.patch("volume", "data", `{"metadata":{"labels":{"team":"b"}}}`)
	stop()
	again()

	h, stop = serve(t, world, i)
	require.Empty(t, h.get("volume", "data").GetLabels())
	superseded := false
	r, err := h.client.Events(t.Context(), messages.EventsRequest{})
	require.NoError(t, err)
	for _, e := range r.Events {
		superseded = superseded || e.Type == messages.EventSuperseded
	}
	require.True(t, superseded, "and that is said")
	stop()
	h, _ = serve(t, world, i)
	require.Empty(t, h.get("volume", "data").GetLabels())
}

func TestPreconditionsOfUID(t *testing.T) {
	h, names := mirrored(t)
	for kind, name := range names {
		_, err := h.write(messages.WriteRequest{Kind: kind, Name: name, UID: "another", Patch: json.RawMessage(`{"metadata":{"labels":{"a":"b"}}}`)})
		require.ErrorIs(t, err, messages.ErrConflict)
		for _, detach := range []bool{false, true} {
			_, err = h.client.Delete(t.Context(), messages.DeleteRequest{Kind: kind, Name: name, UID: "another", Detach: detach})
			require.ErrorIs(t, err, messages.ErrConflict)
		}
		now := h.get(kind, name)
		require.Empty(t, now.GetLabels())
		require.Nil(t, now.GetDeletionTimestamp())
		_, err = h.write(messages.WriteRequest{Kind: kind, Name: name, UID: now.GetUID(), ResourceVersion: now.GetResourceVersion(),
			Patch: json.RawMessage(`{"metadata":{"labels":{"a":"b"}}}`)})
		require.NoError(t, err)
		_, err = h.write(messages.WriteRequest{Kind: kind, Name: name, ResourceVersion: now.GetResourceVersion(),
			Patch: json.RawMessage(`{"metadata":{"labels":{"a":"c"}}}`)})
		require.ErrorIs(t, err, messages.ErrConflict, "it was read before the change before")
	}
}

func TestADeletionWhileTheEngineIsAway(t *testing.T) {
	h, names := mirrored(t)
	h.world.Down()
	h.eventually("the engine is away", func() bool { return h.ready() != "True" })
	require.NoError(t, h.delete("container", names["container"]))
	h.patch("container", names["container"], `{"metadata":{"labels":{"a":"b"}}}`)
	c := messages.Condition(h.get("container", names["container"]), messages.ConditionDeletionBlocked)
	require.Equal(t, messages.ReasonEngineDown, c.Reason)
	h.world.Up()
	h.eventually("done after the reconnect", func() bool {
		return h.get("container", names["container"]) == nil && len(h.world.Snapshot().Containers) == 0
	})
}

func TestAQuarantinedOwnerRefusesForNow(t *testing.T) {
	h, names := mirrored(t)
	id := names["container"]
	_, err := h.client.Debug(t.Context(), messages.DebugRequest{Actor: "rdd/containers/" + id, Action: "panic", Count: -1})
	require.NoError(t, err)
	h.eventually("quarantined", func() bool {
		_ = h.world.Pause("web")
		_ = h.world.Unpause("web")
		return h.synced("container", id).Reason == messages.ReasonQuarantined
	})
	h.refused("container", id, `{"metadata":{"labels":{"a":"b"}}}`, messages.CodeUnavailable, "quarantined")
	_, err = h.client.Delete(t.Context(), messages.DeleteRequest{Kind: "container", Name: id, Detach: true})
	require.ErrorIs(t, err, messages.ErrUnavailable)
}

// A sweep ends what was written: what comes back has another uid and none of it.
func TestASweepDropsWhatWasWritten(t *testing.T) {
	h, names := mirrored(t)
	_, err := h.write(messages.WriteRequest{Kind: "container", Name: "mine", Create: true, Patch: json.RawMessage(`{}`)})
	require.NoError(t, err)
	was := map[string]messages.Object{}
	for kind, name := range names {
		was[kind] = h.patch(kind, name, `{"metadata":{"labels":{"team":"a"}}}`).Object
	}
	h.set("running=false")
	h.settled()
	require.Empty(t, h.list("container"))
	h.set("running=true")
	h.settled()
	for kind, name := range names {
		now := h.get(kind, name)
		require.NotNil(t, now, kind)
		require.Empty(t, now.GetLabels(), kind)
		require.NotEqual(t, was[kind].GetUID(), now.GetUID(), kind)
	}
	require.Nil(t, h.get("container", "mine"))
}

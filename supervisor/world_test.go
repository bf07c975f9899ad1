package supervisor

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

// world is a store filled by hand: the real one, with its journal, and no actor but them.
type world struct {
	t     testing.TB
	house *kit.TestHouse
	table *store.Table
	b     *localBackend
	c     *Client
}

func newWorld(t testing.TB, boot int64) *world {
	back, _ := journal.Memory()
	w := &world{t: t, table: store.NewTable(boot)}
	h, err := kit.StartTest(kit.TestConfig{Actors: map[string]kit.ChildSpec{
		control.Journal: {New: journal.New(back)},
		control.Store:   {New: store.New(w.table)},
	}})
	require.NoError(t, err)
	w.house = h
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, h.Stop(ctx))
	})
	w.b = newLocalBackend(Core{Table: w.table})
	w.c = newLocalClient(w.b)
	return w
}

func (w *world) put(o messages.Object, owner ...string) messages.Object {
	p := store.Put{Object: o, Owner: o.GetName(), UIDSeed: "seed/" + o.GetName()}
	if len(owner) > 0 {
		p.Owner = owner[0]
	}
	a, err := w.house.Ask(context.Background(), control.Store, p)
	require.NoError(w.t, err)
	require.NoError(w.t, a.(store.PutDone).Err)
	return a.(store.PutDone).Object
}

func (w *world) remove(o messages.Object, reason ...string) {
	m := store.Remove{Key: store.Key{Kind: o.GetObjectKind().GroupVersionKind().Kind, Name: o.GetName()}, Reason: strings.Join(reason, "")}
	a, err := w.house.Ask(context.Background(), control.Store, m)
	require.NoError(w.t, err)
	require.NoError(w.t, a.(store.RemoveDone).Err)
}

func container(id, name string) *messages.Container {
	return &messages.Container{
		TypeMeta:   metav1.TypeMeta{Kind: messages.KindContainer, APIVersion: messages.ContainerAPIVersion},
		ObjectMeta: metav1.ObjectMeta{Name: id, Namespace: messages.DefaultNamespace, Generation: 1},
		Spec:       messages.ContainerSpec{State: messages.StateUnknown, Policy: messages.PolicyOnce},
		Status:     messages.ContainerStatus{Name: name, Status: messages.ContainerCreated},
	}
}

func volume(name string) *messages.Volume {
	return &messages.Volume{
		TypeMeta:   metav1.TypeMeta{Kind: messages.KindVolume, APIVersion: messages.ContainerAPIVersion},
		ObjectMeta: metav1.ObjectMeta{Name: messages.VolumeName(name), Namespace: messages.DefaultNamespace},
		Status:     messages.VolumeStatus{Name: name, Driver: "local"},
	}
}

func image(id, tag string) *messages.Image {
	return &messages.Image{
		TypeMeta:   metav1.TypeMeta{Kind: messages.KindImage, APIVersion: messages.ContainerAPIVersion},
		ObjectMeta: metav1.ObjectMeta{Name: messages.ImageName(id, tag)},
		Status:     messages.ImageStatus{ID: id, RepoTag: tag},
	}
}

func appObject(generation int64, conditions ...metav1.Condition) *messages.App {
	a := &messages.App{
		TypeMeta:   metav1.TypeMeta{Kind: messages.KindApp, APIVersion: messages.AppAPIVersion},
		ObjectMeta: metav1.ObjectMeta{Name: messages.AppName, Generation: generation},
	}
	a.Status.ConditionList = conditions
	return a
}

func condition(name, status, reason string, observed int64) metav1.Condition {
	return metav1.Condition{Type: name, Status: metav1.ConditionStatus(status), Reason: reason, ObservedGeneration: observed,
		Message: "because " + reason, LastTransitionTime: metav1.Time{Time: time.Unix(1_800_000_000, 0)}}
}

func with(c *messages.Container, conditions ...metav1.Condition) *messages.Container {
	c = c.DeepCopy()
	c.Status.ConditionList = conditions
	return c
}

func hexID(n int) string { return fmt.Sprintf("%064x", n) }

func withUID[T messages.Object](o T, uid types.UID) T {
	o = messages.DeepCopy(o)
	o.SetUID(uid)
	return o
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

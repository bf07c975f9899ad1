package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

const owner = "rdd/volumes"

type ask struct{ msg any }

// daemon is one serve: journal and store actors, and a probe that owns everything.
type daemon struct {
	*kit.TestHouse
	t     *testing.T
	table *store.Table
	back  *journal.MemoryBackend
}

func serve(t *testing.T, back *journal.MemoryBackend, boot int64) *daemon {
	d := &daemon{t: t, table: store.NewTable(boot), back: back}
	h, err := kit.StartTest(kit.TestConfig{
		House: kit.HouseConfig{Hooks: true},
		Actors: map[string]kit.ChildSpec{
			control.Journal: {New: journal.New(back)},
			control.Store:   {New: store.New(d.table)},
		},
		Probes: []string{owner},
	})
	require.NoError(t, err)
	h.Probes[owner].Answer = func(c *kit.Context, msg any) {
		if a, ok := msg.(ask); ok {
			c.Tell(control.Store, a.msg)
		}
	}
	d.TestHouse = h
	return d
}

func (d *daemon) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(d.t, d.Stop(ctx))
}

func (d *daemon) tell(msg any) { d.Tell(owner, ask{msg}) }

func (d *daemon) answer() any {
	for {
		msg, err := d.Probes[owner].Next(10 * time.Second)
		require.NoError(d.t, err)
		if _, own := msg.(ask); !own {
			return msg
		}
	}
}

func (d *daemon) put(o messages.Object) messages.Object {
	d.tell(store.Put{Token: 7, Object: o, Owner: o.GetName(), UIDSeed: "i/e/0/" + o.GetName()})
	a := d.answer().(store.PutDone)
	require.NoError(d.t, a.Err)
	require.EqualValues(d.t, 7, a.Token)
	return a.Object
}

func (d *daemon) remove(name string) {
	d.tell(store.Remove{Token: 8, Key: store.Key{Kind: messages.KindVolume, Name: name}})
	require.NoError(d.t, d.answer().(store.RemoveDone).Err)
}

func volume(name, mountpoint string) *messages.Volume {
	return &messages.Volume{
		TypeMeta:   metav1.TypeMeta{Kind: messages.KindVolume, APIVersion: messages.ContainerAPIVersion},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     messages.VolumeStatus{Mountpoint: mountpoint},
	}
}

func memory() (*journal.MemoryBackend, int64) {
	b, m := journal.Memory()
	return b.(*journal.MemoryBackend), m.Boot
}

func TestPutAndRemove(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	synctest.Test(t, func(t *testing.T) {
		d := serve(t, memoryOf(t), 1)
		defer d.stop()
		first := d.put(volume("v", "/a"))
		require.Same(t, first, d.put(volume("v", "/a")))
		second := d.put(volume("v", "/b"))
		require.Equal(t, first.GetUID(), second.GetUID())
		d.remove("v")
		d.remove("v")
		require.Equal(t, store.Counters{Puts: 2, NoOps: 1, Removes: 1, History: 3}, d.table.Counters())

		d.tell(store.Put{Token: 1})
		require.ErrorIs(t, d.answer().(store.PutDone).Err, messages.ErrPermanent)
		d.tell(store.Put{Token: 1, Object: &messages.Volume{}})
		require.ErrorIs(t, d.answer().(store.PutDone).Err, messages.ErrPermanent)
		require.Equal(t, 0, d.back.Transactions(), "nothing came back: the journal has nothing to learn")
	})
}

func memoryOf(*testing.T) *journal.MemoryBackend {
	b, _ := memory()
	return b
}

func TestUIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back, boot := memory()
		d := serve(t, back, boot)
		stable := d.put(volume("stable", "")).GetUID()
		seen := map[string]bool{}
		var last messages.Object
		for range 4 {
			last = d.put(volume("v", ""))
			require.False(t, seen[string(last.GetUID())], "a new incarnation, a new uid")
			seen[string(last.GetUID())] = true
			d.remove("v")
		}
		last = d.put(volume("v", ""))
		require.False(t, seen[string(last.GetUID())])
		seen[string(last.GetUID())] = true
		d.stop()

		d = serve(t, back, back.NextServe().Boot)
		defer d.stop()
		require.Equal(t, stable, d.put(volume("stable", "")).GetUID())
		again := d.put(volume("v", ""))
		require.Equal(t, last.GetUID(), again.GetUID(), "the same object after a restart of the daemon")
		require.NotEqual(t, last.GetResourceVersion(), again.GetResourceVersion())
		d.remove("v")
		require.False(t, seen[string(d.put(volume("v", "")).GetUID())])
	})
}

func TestASaltIsOnDiskBeforeItsUIDIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back, boot := memory()
		d := serve(t, back, boot)
		defer d.stop()
		first := d.put(volume("v", "1")).GetUID()
		d.remove("v")
		gate := make(chan struct{})
		back.OnCommit(func([]journal.Op) error { <-gate; return nil })
		before := d.table.Load()
		for i := range 3 {
			d.tell(store.Put{Token: uint64(i), Object: volume("v", fmt.Sprint(i)), UIDSeed: "i/e/0/v"})
		}
		d.tell(store.Remove{Token: 3, Key: store.Key{Kind: messages.KindVolume, Name: "v"}})
		d.tell(store.Put{Token: 4, Object: volume("v", "4"), UIDSeed: "i/e/0/v"})
		require.NotNil(t, d.put(volume("other", "")), "nobody else waits")
		require.Equal(t, before.Version()+1, d.table.Load().Version())
		close(gate)
		var uids []string
		for i := range 5 {
			switch a := d.answer().(type) {
			case store.PutDone:
				require.EqualValues(t, i, a.Token)
				require.NoError(t, a.Err)
				uids = append(uids, string(a.Object.GetUID()))
			case store.RemoveDone:
				require.Equal(t, 3, i)
			}
		}
		require.NotContains(t, uids, string(first))
		require.Equal(t, uids[0], uids[2])
		require.NotEqual(t, uids[0], uids[3])
	})
}

func TestAFailedSaltIsAFailedPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back, boot := memory()
		d := serve(t, back, boot)
		defer d.stop()
		d.put(volume("v", ""))
		d.remove("v")
		back.FailNext(1, errors.New("no space left on device"))
		before := d.table.Load()
		d.tell(store.Put{Object: volume("v", ""), UIDSeed: "i/e/0/v"})
		a := d.answer().(store.PutDone)
		require.ErrorIs(t, a.Err, messages.ErrTransient)
		require.ErrorContains(t, a.Err, "no space left")
		require.Same(t, before, d.table.Load())
		d.put(volume("v", ""))
	})
}

func TestPanicsLoseNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	synctest.Test(t, func(t *testing.T) {
		back, boot := memory()
		d := serve(t, back, boot)
		defer d.stop()
		v := d.put(volume("v", ""))
		d.put(volume("gone", ""))
		uid := d.put(volume("gone", "")).GetUID()
		d.remove("gone")
		root := d.table.Load()
		for range 3 {
			d.Hooks.Arm(messages.DebugRequest{Actor: control.Store, Action: "panic", Count: 1})
			time.Sleep(time.Second)
		}
		require.Same(t, root, d.table.Load())
		select {
		case <-root.Changed():
			t.Fatal("a subscription was ended")
		default:
		}
		require.Same(t, v, d.put(volume("v", "")), "no new version")
		require.NotEqual(t, uid, d.put(volume("gone", "")).GetUID(), "the tombstone is still there")
		<-root.Changed()
		list, _, err := d.table.Load().Changes("", root.Version(), 10)
		require.NoError(t, err)
		require.Len(t, list, 1)

		// While a Put waits for the journal: it is lost with the actor, and the owner sends it again.
		d.remove("gone")
		gate := make(chan struct{})
		back.OnCommit(func([]journal.Op) error { <-gate; return nil })
		d.tell(store.Put{Token: 1, Object: volume("gone", ""), UIDSeed: "i/e/0/gone"})
		synctest.Wait()
		d.Hooks.Arm(messages.DebugRequest{Actor: control.Store, Action: "panic", Count: 1})
		d.tell(store.Put{Token: 2, Object: volume("gone", ""), UIDSeed: "i/e/0/gone"})
		synctest.Wait()
		close(gate)
		a := d.answer().(store.PutDone)
		require.EqualValues(t, 2, a.Token)
		require.NoError(t, a.Err)
		synctest.Wait()
		require.Empty(t, d.Probes[owner].Drain())
	})
}

func TestPutsWaitForTheSalts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := store.NewTable(1)
		h, err := kit.StartTest(kit.TestConfig{
			Actors: map[string]kit.ChildSpec{control.Store: {New: store.New(table)}},
			Probes: []string{control.Journal, owner},
		})
		require.NoError(t, err)
		d := &daemon{TestHouse: h, t: t, table: table}
		defer d.stop()
		h.Probes[owner].Answer = func(c *kit.Context, msg any) {
			if a, ok := msg.(ask); ok {
				c.Tell(control.Store, a.msg)
			}
		}
		j := h.Probes[control.Journal]
		for i := range 4096 {
			d.tell(store.Put{Token: uint64(i), Object: volume(fmt.Sprint("v", i), ""), UIDSeed: fmt.Sprint("v", i)})
		}
		d.tell(store.Put{Token: 4096, Object: volume("v", "")})
		a := d.answer().(store.PutDone)
		require.EqualValues(t, 4096, a.Token)
		require.ErrorIs(t, a.Err, messages.ErrUnavailable)

		first, err := kit.Expect[journal.Load](j, time.Second)
		require.NoError(t, err)
		require.Equal(t, journal.BucketSalts, first.Bucket)
		second, err := kit.Expect[journal.Load](j, 3*time.Second)
		require.NoError(t, err, "asked again")
		h.Tell(control.Store, journal.Loaded{Token: first.Token})
		h.Tell(control.Store, journal.Loaded{Token: second.Token, Err: errors.New("not now")})
		third, err := kit.Expect[journal.Load](j, 3*time.Second)
		require.NoError(t, err, "asked again after an error")
		require.Zero(t, table.Counters().Puts)
		h.Tell(control.Store, journal.Loaded{Token: third.Token, Entries: []journal.Entry{
			{Key: "v1", Value: []byte("3")}, {Key: "v2", Value: []byte("damaged")}}})
		for i := range 4096 {
			a := d.answer().(store.PutDone)
			require.EqualValues(t, i, a.Token)
			require.NoError(t, a.Err)
		}
		// A question that the journal forgot is repeated, and a late second answer does no harm.
		d.tell(store.Remove{Key: store.Key{Kind: messages.KindVolume, Name: "v1"}})
		d.answer()
		d.tell(store.Put{Token: 9, Object: volume("v1", ""), UIDSeed: "v1"})
		c1, err := kit.Expect[journal.Commit](j, time.Second)
		require.NoError(t, err)
		require.Equal(t, []journal.Op{journal.PutSalt("v1", 4)}, c1.Ops)
		c2, err := kit.Expect[journal.Commit](j, 3*time.Second)
		require.NoError(t, err)
		require.Equal(t, c1, c2)
		h.Tell(control.Store, journal.Committed{Token: c1.Token})
		h.Tell(control.Store, journal.Committed{Token: c1.Token})
		require.NoError(t, d.answer().(store.PutDone).Err)
		time.Sleep(time.Minute)
		require.Empty(t, j.Drain())
	})
}

func TestSeed(t *testing.T) {
	table := store.NewTable(1)
	table.Seed(store.Put{Object: volume("v", "/a"), Owner: "v"})
	item, ok := table.Load().Get(store.Key{Kind: messages.KindVolume, Name: "v"})
	require.True(t, ok)
	require.NotEmpty(t, item.Object.GetUID())
	h, err := kit.StartTest(kit.TestConfig{Actors: map[string]kit.ChildSpec{control.Store: {New: store.New(table)}}})
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Stop(context.Background())) }()
	got, err := h.Ask(context.Background(), control.Store, store.Put{Object: volume("v", "/a"), Owner: "v"})
	require.NoError(t, err)
	require.Same(t, item.Object, got.(store.PutDone).Object)
}

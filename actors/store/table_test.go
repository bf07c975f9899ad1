package store

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/rdd-desktop/rdd/messages"
)

var start = time.Date(2026, 5, 1, 12, 0, 0, 123456789, time.UTC)

func volume(name, mountpoint string) *messages.Volume {
	return &messages.Volume{
		TypeMeta:   metav1.TypeMeta{Kind: messages.KindVolume, APIVersion: messages.ContainerAPIVersion},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     messages.VolumeStatus{Name: name, Mountpoint: mountpoint},
	}
}

func container(name, status string) *messages.Container {
	return &messages.Container{
		TypeMeta:   metav1.TypeMeta{Kind: messages.KindContainer, APIVersion: messages.ContainerAPIVersion},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     messages.ContainerStatus{Name: name, Status: status},
	}
}

// putNow is what the actor does when the journal answers at once.
func putNow(t *Table, o messages.Object, owner string) messages.Object {
	p := Put{Object: o, Owner: owner}
	key, err := p.key()
	if err != nil {
		panic(err)
	}
	salt := int64(0)
	if _, had := t.Load().Get(key); !had {
		salt, _ = t.salts.next(p.seed(key))
	}
	return t.put(p, key, salt, start)
}

func TestPutAssignsMetadataAndLeavesTheGivenObjectAlone(t *testing.T) {
	tab := NewTable(3)
	given := volume("v", "/a")
	got := putNow(tab, given, "vol")
	require.NotEmpty(t, got.GetUID())
	require.Equal(t, start.Truncate(time.Second), got.GetCreationTimestamp().Time)
	require.Equal(t, FormatVersion(3<<40|1), got.GetResourceVersion())
	require.Equal(t, volume("v", "/a"), given)

	again := putNow(tab, given, "vol")
	require.Same(t, got, again, "the same message again changes nothing")

	kept := volume("w", "/w")
	kept.UID, kept.CreationTimestamp = "mine", metav1.Time{Time: start.Add(-time.Hour)}
	got = putNow(tab, kept, "vol")
	require.Equal(t, types.UID("mine"), got.GetUID())
	require.Equal(t, start.Add(-time.Hour), got.GetCreationTimestamp().Time)
}

func TestNoOpPutEmitsNothing(t *testing.T) {
	tab := NewTable(1)
	v := volume("v", "/a")
	v.Status.Labels = map[string]string{}
	putNow(tab, v, "vol")
	before := tab.Load()
	same := volume("v", "/a") // nil labels are equal to none
	putNow(tab, same, "vol")
	stale := volume("v", "/a")
	stale.ResourceVersion = "17"
	putNow(tab, stale, "vol")
	require.Same(t, before, tab.Load())
	select {
	case <-before.Changed():
		t.Fatal("Changed without a change")
	default:
	}
	require.Equal(t, Counters{Puts: 1, NoOps: 2, Objects: 1, History: 1}, tab.Counters())

	moved := volume("v", "/a")
	moved.Status.ConditionList = []metav1.Condition{{Type: "Synced", Status: "True", LastTransitionTime: metav1.Time{Time: start}}}
	first := putNow(tab, moved, "vol")
	other := moved.DeepCopy()
	other.Status.ConditionList[0].LastTransitionTime = metav1.Time{Time: start.Add(time.Minute)}
	require.NotEqual(t, first.GetResourceVersion(), putNow(tab, other, "vol").GetResourceVersion(), "lastTransitionTime is content")
	<-before.Changed()
}

func TestAnotherUIDIsARecreation(t *testing.T) {
	tab := NewTable(1)
	old := putNow(tab, volume("v", "/a"), "vol")
	before := tab.Load()
	next := volume("v", "/a")
	next.UID = "another"
	got := putNow(tab, next, "vol")
	list, at, err := tab.Load().Changes("", before.Version(), 10)
	require.NoError(t, err)
	require.Equal(t, []Change{
		{Version: before.Version() + 1, Old: old},
		{Version: before.Version() + 2, New: got},
	}, list)
	require.Equal(t, before.Version()+2, at)
	require.Equal(t, FormatVersion(at), got.GetResourceVersion())
	require.Equal(t, 1, tab.Load().Count(messages.KindVolume))
}

func TestGone(t *testing.T) {
	tab := NewTable(2)
	putNow(tab, volume("v", "0"), "vol")
	r := tab.Load()
	for _, bad := range []uint64{0, 1<<40 | 1, 3<<40 | 1, r.Version() + 1} {
		_, _, err := r.Changes("", bad, 10)
		require.ErrorIs(t, err, messages.ErrGone, bad)
	}
	empty := uint64(2) << 40
	list, next, err := r.Changes("", empty, 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, r.Version(), next)

	for i := range minHistory {
		putNow(tab, volume("v", fmt.Sprint(i+1)), "vol")
	}
	_, _, err = tab.Load().Changes("", empty, 10)
	require.ErrorIs(t, err, messages.ErrGone, "history is full")
	_, _, err = tab.Load().Changes(messages.KindApp, empty, 10)
	require.ErrorIs(t, err, messages.ErrGone, "for every kind")
	list, _, err = tab.Load().Changes("", empty+1, 2*minHistory)
	require.NoError(t, err)
	require.Len(t, list, minHistory)
	list, _, err = r.Changes("", empty, 10)
	require.NoError(t, err, "a pinned root keeps its history")
	require.Len(t, list, 1)
	require.Equal(t, "0", list[0].New.(*messages.Volume).Status.Mountpoint)
}

func TestHistoryHoldsTwiceTheObjects(t *testing.T) {
	tab := NewTable(1)
	n := minHistory
	for round := range 4 {
		for i := range n {
			putNow(tab, container(fmt.Sprint("c", i), fmt.Sprint(round)), fmt.Sprint("c", i))
		}
	}
	require.Equal(t, 2*n, tab.Counters().History)
	for i := range n {
		tab.remove(Remove{Key: Key{messages.KindContainer, fmt.Sprint("c", i)}})
	}
	require.Equal(t, minHistory, tab.Counters().History)
	list, _, err := tab.Load().Changes("", tab.Load().Version()-uint64(minHistory), 2*n)
	require.NoError(t, err)
	require.Len(t, list, minHistory)
}

func TestAWatcherOfOneKindSkipsTheOthers(t *testing.T) {
	tab := NewTable(1)
	from := tab.Load().Version()
	for i := range 500 {
		putNow(tab, container(fmt.Sprint("c", i), ""), fmt.Sprint("c", i))
	}
	putNow(tab, volume("v", ""), "vol")
	for i := range 500 {
		putNow(tab, container(fmt.Sprint("c", i), "x"), fmt.Sprint("c", i))
	}
	list, next, err := tab.Load().Changes(messages.KindVolume, from, 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, tab.Load().Version(), next)
	list, next, err = tab.Load().Changes(messages.KindContainer, from, 7)
	require.NoError(t, err)
	require.Len(t, list, 7)
	require.Equal(t, list[6].Version, next)
	list, next, err = tab.Load().Changes(messages.KindImage, from, 7)
	require.NoError(t, err)
	require.Empty(t, list)
	require.Equal(t, tab.Load().Version(), next)
}

func TestReadersOfARoot(t *testing.T) {
	tab := NewTable(1)
	for _, name := range []string{"b", "a", "ab", "c"} {
		putNow(tab, container(name, ""), name)
	}
	putNow(tab, volume("vol-1", ""), "x")
	putNow(tab, volume("vol-2", ""), "x/y")
	putNow(tab, volume("vol-3", ""), "x")
	r := tab.Load()
	names := func(items []Item) (out []string) {
		for _, i := range items {
			out = append(out, i.Object.GetName())
		}
		return out
	}
	require.Equal(t, []string{"a", "ab", "b", "c"}, names(r.List(messages.KindContainer)))
	require.Equal(t, []string{"a", "ab", "b", "c"}, r.Owners(messages.KindContainer))
	require.Equal(t, []string{"a"}, names(r.OwnedBy(messages.KindContainer, "a")))
	require.Equal(t, []string{"vol-1", "vol-3"}, names(r.OwnedBy(messages.KindVolume, "x")))
	require.Equal(t, []string{"x", "x/y"}, r.Owners(messages.KindVolume))
	require.Empty(t, r.OwnedBy(messages.KindVolume, "vol-1"))

	page, more := r.Page(messages.KindContainer, "", 3)
	require.Equal(t, []string{"a", "ab", "b"}, names(page))
	require.True(t, more)
	page, more = r.Page(messages.KindContainer, "b", 3)
	require.Equal(t, []string{"c"}, names(page))
	require.False(t, more)
	page, more = r.Page(messages.KindContainer, "aa", 1)
	require.Equal(t, []string{"ab"}, names(page))
	require.True(t, more)

	putNow(tab, volume("vol-1", ""), "z") // another owner
	require.Equal(t, []string{"vol-3"}, names(tab.Load().OwnedBy(messages.KindVolume, "x")))
	require.Equal(t, []string{"vol-1"}, names(tab.Load().OwnedBy(messages.KindVolume, "z")))
	tab.remove(Remove{Key: Key{messages.KindVolume, "vol-1"}})
	require.Equal(t, []string{"x", "x/y"}, tab.Load().Owners(messages.KindVolume))
	require.Equal(t, []string{"vol-1", "vol-3"}, names(r.OwnedBy(messages.KindVolume, "x")), "the old root stays what it was")
	_, found := tab.Load().Get(Key{messages.KindVolume, "vol-1"})
	require.False(t, found)
}

// model is what a client rebuilds from a list and the changes after it.
type model map[Key]string

func modelOf(r *Root) model {
	m := model{}
	for _, k := range messages.Kinds() {
		for name, i := range r.All(k.Name) {
			m[Key{k.Name, name}] = i.Object.GetResourceVersion()
		}
	}
	return m
}

func (m model) apply(c Change) error {
	o := c.New
	if o == nil {
		o = c.Old
	}
	key := Key{o.GetObjectKind().GroupVersionKind().Kind, o.GetName()}
	was, had := m[key]
	switch {
	case had != (c.Old != nil), had && c.Old.GetResourceVersion() != was:
		return fmt.Errorf("%v at %d: had %q, the change says %v", key, c.Version, was, c.Old)
	case c.New == nil:
		delete(m, key)
	default:
		if c.New.GetResourceVersion() != FormatVersion(c.Version) {
			return fmt.Errorf("%v: version %s, the change says %d", key, c.New.GetResourceVersion(), c.Version)
		}
		m[key] = c.New.GetResourceVersion()
	}
	return nil
}

// follow goes from one root to where the next ones lead, in pages, and checks that nothing is missed or repeated.
func follow(tab *Table, from *Root, page int, until func(*Root) bool) error {
	m, at := modelOf(from), from.Version()
	for {
		r := tab.Load()
		list, next, err := r.Changes("", at, page)
		if err != nil {
			return err
		}
		for _, c := range list {
			if c.Version <= at {
				return fmt.Errorf("version %d after %d", c.Version, at)
			}
			at = c.Version
			if err := m.apply(c); err != nil {
				return err
			}
		}
		at = next
		if at == r.Version() {
			if want := modelOf(r); !mapsEqual(m, want) {
				return fmt.Errorf("at %d: %v, want %v", at, m, want)
			}
			if until(r) {
				return nil
			}
			if r == tab.Load() {
				select {
				case <-r.Changed():
				case <-time.After(5 * time.Second):
					return errors.New("no news")
				}
			}
		}
	}
}

func mapsEqual(a, b model) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

func TestListAndWatchMissNothingAndRepeatNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tab := NewTable(rapid.Int64Range(1, 1000).Draw(rt, "boot"))
		steps := rapid.IntRange(1, 400).Draw(rt, "steps")
		var readers sync.WaitGroup
		fails := make(chan error, 8)
		ended := make(chan struct{})
		until := func(r *Root) bool {
			select {
			case <-ended:
				return r == tab.Load()
			default:
				return false
			}
		}
		reader := func(from *Root) {
			page := rapid.IntRange(1, 50).Draw(rt, "page")
			readers.Go(func() {
				if err := follow(tab, from, page, until); err != nil {
					fails <- err
				}
			})
		}
		reader(tab.Load())
		for i := range steps {
			name := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "name")
			switch rapid.IntRange(0, 4).Draw(rt, "op") {
			case 0:
				putNow(tab, volume(name, fmt.Sprint(rapid.IntRange(0, 2).Draw(rt, "content"))), "o"+name)
			case 1:
				putNow(tab, container(name, fmt.Sprint(rapid.IntRange(0, 2).Draw(rt, "content"))), name)
			case 2:
				tab.remove(Remove{Key: Key{messages.KindVolume, name}})
			case 3:
				o := volume(name, "r")
				o.UID = types.UID(fmt.Sprint("uid", i))
				putNow(tab, o, "o"+name)
			case 4:
				if i%97 == 5 {
					reader(tab.Load())
				}
			}
		}
		close(ended)
		putNow(tab, container("last", fmt.Sprint(steps)), "last") // wakes everybody
		readers.Wait()
		close(fails)
		for err := range fails {
			rt.Fatal(err)
		}
	})
}

func TestChangesOfAKindAreThoseOfAll(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tab := NewTable(1)
		for range rapid.IntRange(0, 600).Draw(rt, "steps") {
			name := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "name")
			switch rapid.IntRange(0, 2).Draw(rt, "op") {
			case 0:
				putNow(tab, volume(name, fmt.Sprint(tab.Load().Version())), "")
			case 1:
				putNow(tab, container(name, fmt.Sprint(tab.Load().Version())), "")
			default:
				tab.remove(Remove{Key: Key{messages.KindVolume, name}, Reason: "x"})
			}
		}
		r := tab.Load()
		after := r.floor + rapid.Uint64Range(0, r.Version()-r.floor).Draw(rt, "after")
		all, next, err := r.Changes("", after, 1<<20)
		require.NoError(rt, err)
		require.Equal(rt, r.Version(), next)
		require.Len(rt, all, int(r.Version()-after), "every version is one change")
		for _, kind := range []string{messages.KindVolume, messages.KindContainer} {
			want := slices.DeleteFunc(slices.Clone(all), func(c Change) bool {
				o := c.New
				if o == nil {
					o = c.Old
				}
				return o.GetObjectKind().GroupVersionKind().Kind != kind
			})
			page := rapid.IntRange(1, 40).Draw(rt, "page")
			var got []Change
			for at := after; at != r.Version(); {
				list, next, err := r.Changes(kind, at, page)
				require.NoError(rt, err)
				require.LessOrEqual(rt, len(list), page)
				require.Greater(rt, next, at)
				got, at = append(got, list...), next
			}
			require.Len(rt, got, len(want))
			for i := range got {
				require.Equal(rt, want[i].Version, got[i].Version)
			}
		}
	})
}

func TestAnAbandonedTurnLeavesNoTrace(t *testing.T) {
	tab := NewTable(1)
	for i := range 2*chunkSize - 1 {
		putNow(tab, volume(fmt.Sprint("v", i), ""), "o")
		// What a turn does that panics before its end.
		e := tab.Load().edit()
		e.remove(Key{messages.KindVolume, fmt.Sprint("v", i)}, "lost")
		e.set(Key{messages.KindVolume, "lost"}, &entry{Item: Item{Object: volume("lost", "")}})
	}
	r := tab.Load()
	require.Equal(t, 2*chunkSize-1, r.Count(messages.KindVolume))
	list, _, err := r.Changes("", 1<<40, 1000)
	require.NoError(t, err)
	require.Len(t, list, 2*chunkSize-1)
	for i, c := range list {
		require.Equal(t, fmt.Sprint("v", i), c.New.GetName())
	}
}

func TestSalts(t *testing.T) {
	s := NewTable(1).salts
	next := func(seed string) int64 { n, _ := s.next(seed); return n }
	require.EqualValues(t, 0, next("a"))
	s.born(seedOf("a", 0), 0)
	s.removed(seedOf("a", 0), 0)
	require.EqualValues(t, 1, next("a"))
	s.born(seedOf("a", 1), 1)
	require.EqualValues(t, 1, next("a"))
	s.removed(seedOf("a", 1), 1)
	require.EqualValues(t, 2, next("a"))

	s.loaded("b", 7)
	n, fresh := s.next("b")
	require.EqualValues(t, 7, n)
	require.False(t, fresh, "its object may still be the same one")

	s.max = 10
	s.born(seedOf("b", 7), 7)
	for i := range 100 {
		s.removed(seedOf(fmt.Sprint("x", i), 0), 0)
	}
	require.LessOrEqual(t, s.order.Len(), 11)
	require.Len(t, s.seeds, s.order.Len())
	require.EqualValues(t, 7, next("b"), "in use: not forgotten")
	require.Equal(t, []string{"a"}, s.dropped, "the journal may forget it")
}

// BenchmarkPut: one change of an object among n.
func BenchmarkPut(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			tab := NewTable(1)
			objects := make([]*messages.Container, n)
			for i := range objects {
				objects[i] = realistic(i)
				putNow(tab, objects[i], objects[i].Name)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				o := *objects[i%n]
				o.Status.Pid = i + 1
				putNow(tab, &o, o.Name)
				i++
			}
		})
	}
}

// BenchmarkNoOp: a Put that changes nothing.
func BenchmarkNoOp(b *testing.B) {
	tab := NewTable(1)
	putNow(tab, realistic(1), realistic(1).Name)
	o := realistic(1)
	b.ReportAllocs()
	for b.Loop() {
		putNow(tab, o, o.Name)
	}
}

// BenchmarkHeap reports what the store itself costs per object: with two changes of each, minus the objects.
func BenchmarkHeap(b *testing.B) {
	heap := func() float64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	for b.Loop() {
		const n = 10_000
		before := heap()
		objects := make([]*messages.Container, n)
		for i := range objects {
			objects[i] = realistic(i)
		}
		bare := heap() - before
		tab := NewTable(1)
		for round := range 3 {
			for _, o := range objects {
				c := *o
				c.Status.Pid = round + 1
				putNow(tab, &c, c.Name)
			}
		}
		objects = nil
		b.ReportMetric(bare/n, "objectB/object")
		b.ReportMetric((heap()-before-bare)/n, "storeB/object")
		runtime.KeepAlive(tab)
	}
}

func realistic(i int) *messages.Container {
	c := container(fmt.Sprintf("%064x", i), messages.ContainerRunning)
	at := metav1.NewMicroTime(start)
	c.Namespace = messages.DefaultNamespace
	c.Finalizers = []string{messages.Finalizer}
	c.Status.Args = []string{"sleep", "infinity"}
	c.Status.Labels = map[string]string{"com.docker.compose.project": fmt.Sprint("p", i), "com.docker.compose.service": "web"}
	c.Status.CreatedAt, c.Status.StartedAt = &at, &at
	c.Status.Networks = []messages.ContainerNetwork{{Name: "bridge", NetworkID: fmt.Sprint(i), IPAddress: "172.17.0.2"}}
	for _, t := range []string{"Running", "Paused", "Restarting", "OOMKilled", "Dead", "Synced"} {
		c.Status.ConditionList = append(c.Status.ConditionList, metav1.Condition{Type: t, Status: "True", Reason: "EngineState", LastTransitionTime: metav1.Time{Time: start}})
	}
	return c
}

package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/calls"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

const theirs = "example.com/backup"

// room has the three supervisors on an engine in memory, in virtual time.
type room struct {
	*testing.T
	*kit.TestHouse
	world     *sim.Engine
	table     *store.Table
	journal   *journal.MemoryBackend
	scheduler *calls.Scheduler
	epoch     uint64
	end       context.CancelFunc
}

// paths of the supervisors by kind.
var paths = map[string]string{
	messages.KindContainer: control.Containers, messages.KindImage: control.Images, messages.KindVolume: control.Volumes,
}

func inRoom(t *testing.T, test func(r *room)) {
	synctest.Test(t, func(t *testing.T) {
		world := sim.New(sim.Options{})
		defer world.Close()
		back, _ := journal.Memory()
		r := &room{T: t, world: world, table: store.NewTable(1), journal: back.(*journal.MemoryBackend), end: func() {}}
		config := kit.TestConfig{House: kit.HouseConfig{Hooks: true}, Probes: []string{control.Engine}, Actors: map[string]kit.ChildSpec{
			control.Journal: {New: journal.New(back)}, control.Store: {New: store.New(r.table)},
		}}
		r.scheduler = calls.New(nil)
		d := &Deps{Table: r.table, Calls: r.scheduler, Now: time.Now, Instance: "test"}
		for path, kind := range map[string]struct {
			ops *kindOps
			x   extra
		}{control.Containers: {containerOps(), newUserIndex()}, control.Images: {imageOps(), newTagHandout()}, control.Volumes: {volumeOps(), noExtra{}}} {
			config.Actors[path] = kit.ChildSpec{New: func() kit.Actor { return newFamily(d, kind.ops, kind.x) }}
		}
		h, err := kit.StartTest(config)
		require.NoError(t, err)
		r.TestHouse = h
		defer func() {
			r.world.Faults().Clear()
			r.Hooks.Disarm()
			r.lost()
			require.NoError(t, h.Stop(context.Background()))
		}()
		r.pass(loadAgain) // they start before the journal does: their first questions are lost
		test(r)
	})
}

func (r *room) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// session begins, and ends the one before.
func (r *room) session() {
	r.lost()
	ctx, cancel := context.WithCancel(context.Background())
	client, err := r.world.Dialer().Dial(ctx, r.world.Endpoint())
	require.NoError(r, err)
	r.epoch++
	epoch := r.epoch
	r.end = func() {
		r.scheduler.Close(epoch)
		cancel()
		require.NoError(r, client.Close())
	}
	r.scheduler.Open(ctx, epoch, client)
	for _, path := range paths {
		r.Tell(path, Session{Epoch: epoch, EngineID: "A", Sweep: int64(epoch)})
	}
	r.pass(time.Second)
}

// lost ends the session.
func (r *room) lost() {
	r.end()
	r.end = func() {}
	for _, path := range paths {
		r.Tell(path, SessionEnded{Epoch: r.epoch})
	}
	synctest.Wait()
}

// sweep as the engine would, the journal's part included, and waits for the word of each kind.
func (r *room) sweep() (superseded int) {
	r.lost()
	r.Probes[control.Engine].Drain()
	require.NoError(r, r.journal.Commit(journal.SweepOps(1, "")))
	for _, path := range paths {
		r.Tell(path, Sweep{})
	}
	for range paths {
		m, err := kit.Await[Swept](r.Probes[control.Engine], time.Minute, nil)
		require.NoError(r, err)
		superseded += m.Superseded
	}
	synctest.Wait()
	return superseded
}

func (r *room) delete(kind, owner, name string) error {
	answer, err := r.Ask(r.Context(), paths[kind], Delete{Owner: owner, Name: name})
	require.NoError(r, err)
	synctest.Wait()
	return answer.(Deleted).Err
}

// finalizers writes the whole list, as a client does.
func (r *room) finalizers(x thing, list ...string) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"finalizers": append([]string{}, list...)}})
	require.NoError(r, err)
	answer, err := r.Ask(r.Context(), paths[x.kind], Write{Owner: x.owner, Name: x.name,
		Request: messages.WriteRequest{Kind: x.kind, Name: x.name, Patch: patch}})
	require.NoError(r, err)
	require.NoError(r, answer.(Written).Err)
	r.pass(time.Second)
}

func (r *room) get(kind, name string) messages.Object {
	it, _ := r.table.Load().Get(store.Key{Kind: kind, Name: name})
	return it.Object
}

func (r *room) events(kind string) (said []string) {
	for _, e := range r.Events.Since(0).Events {
		if e.Type == kind {
			said = append(said, e.Message)
		}
	}
	return said
}

// thing is an engine object of some kind and its resource.
type thing struct{ kind, owner, name string }

func (r *room) container(name string, volumes ...string) thing {
	id, err := r.world.Run(sim.ContainerOptions{Name: name, Image: "busybox", Volumes: volumes})
	require.NoError(r, err)
	return thing{messages.KindContainer, id, id}
}

func (r *room) image(tag string) thing {
	id, err := r.world.Import(tag, tag)
	require.NoError(r, err)
	return thing{messages.KindImage, id, messages.ImageName(id, tag)}
}

func (r *room) volume(name string) thing {
	_, err := r.world.VolumeCreate(sim.VolumeOptions{Name: name})
	require.NoError(r, err)
	return thing{messages.KindVolume, name, messages.VolumeName(name)}
}

// A sweep with one resource whose actor only panics, and one that a foreign finalizer holds, in each kind: all others go at once, the
// panicking ones too, the held ones stay Terminating until their finalizer is taken away, and each DELETED is a MirrorReset.
func TestASweepRemovesAllButWhatAForeignFinalizerHolds(t *testing.T) {
	for _, quarantined := range []bool{false, true} {
		t.Run(fmt.Sprint("quarantined=", quarantined), func(t *testing.T) {
			inRoom(t, func(r *room) {
				base := r.image("busybox:latest")
				held := []thing{r.container("held"), r.image("held:1"), r.volume("held")}
				bad := []thing{r.container("bad"), r.image("bad:1"), r.volume("bad")}
				both := []thing{r.container("both"), r.image("both:1"), r.volume("both")}
				for i := range 5 {
					r.container(fmt.Sprint("c", i))
					r.image(fmt.Sprintf("i%d:1", i))
					r.volume(fmt.Sprint("v", i))
				}
				r.session()
				require.NotNil(r, r.get(base.kind, base.name))
				for _, x := range append(held, both...) {
					r.finalizers(x, theirs, messages.Finalizer)
				}
				r.pass(time.Second)
				for _, x := range append(bad, both...) {
					r.Hooks.Arm(messages.DebugRequest{Actor: paths[x.kind] + "/" + x.owner, Action: "panic", Count: -1})
				}
				if quarantined {
					r.pass(time.Minute)
					for _, x := range append(bad, both...) {
						require.Equal(r, messages.ReasonQuarantined, messages.Condition(r.get(x.kind, x.name), messages.ConditionSynced).Reason)
					}
				}
				before := r.table.Load().Version()
				require.Zero(r, r.sweep(), "nothing was asked for")
				kept := append(held, both...)
				for kind := range paths {
					require.Equal(r, 2, r.table.Load().Count(kind), kind)
				}
				for _, x := range kept {
					o := r.get(x.kind, x.name)
					require.NotNil(r, o.GetDeletionTimestamp())
					require.Equal(r, []string{theirs}, o.GetFinalizers())
					require.Equal(r, messages.ReasonMirrorReset, messages.Condition(o, messages.ConditionSynced).Reason)
					blocked := messages.Condition(o, messages.ConditionDeletionBlocked)
					require.Equal(r, metav1.ConditionTrue, blocked.Status)
					require.Contains(r, blocked.Message, theirs)
				}
				require.Len(r, r.world.Snapshot().Containers, 8, "the engine is left alone")

				// Mirrored again, what is held stays as it is; all else is new.
				r.Hooks.Disarm()
				r.pass(quarantineMax)
				r.session()
				for _, x := range kept {
					require.NotNil(r, r.get(x.kind, x.name).GetDeletionTimestamp())
				}
				for _, x := range bad {
					require.Nil(r, r.get(x.kind, x.name).GetDeletionTimestamp())
				}
				old := map[string]string{}
				for _, x := range kept {
					old[x.name] = string(r.get(x.kind, x.name).GetUID())
					r.finalizers(x)
				}
				r.pass(time.Second)
				for _, x := range kept {
					o := r.get(x.kind, x.name)
					require.NotNil(r, o, "let go, it is mirrored again")
					require.Nil(r, o.GetDeletionTimestamp())
					require.NotEqual(r, old[x.name], string(o.GetUID()))
					require.Equal(r, messages.ReasonMirrored, messages.Condition(o, messages.ConditionSynced).Reason)
				}
				changes, _, err := r.table.Load().Changes("", before, 100000)
				require.NoError(r, err)
				deleted := 0
				for _, change := range changes {
					if change.New == nil {
						deleted++
						require.Equal(r, messages.ReasonMirrorReset, change.Reason, change.Old.GetName())
					}
				}
				require.Equal(r, 25, deleted)
			})
		})
	}
}

// Let go of while nothing is mirrored, it goes.
func TestWhatASweepLeftGoesWithItsLastFinalizer(t *testing.T) {
	inRoom(t, func(r *room) {
		r.image("busybox:latest")
		all := []thing{r.container("web"), r.image("web:1"), r.volume("web")}
		r.session()
		for _, x := range all {
			r.finalizers(x, theirs, messages.Finalizer)
		}
		r.pass(time.Second)
		r.sweep()
		r.sweep()
		for _, x := range all {
			// Whoever owns it may fail meanwhile.
			r.Hooks.Arm(messages.DebugRequest{Actor: paths[x.kind] + "/" + x.owner, Action: "panic"})
			r.pass(time.Second)
			require.NotNil(r, r.get(x.kind, x.name))
			r.finalizers(x)
			r.pass(time.Second)
			require.Nil(r, r.get(x.kind, x.name))
		}
		r.session()
		for _, x := range all {
			require.NotNil(r, r.get(x.kind, x.name))
		}
	})
}

// Whatever was accepted and is not done when a sweep comes ends with a word, and is counted: blocked, due, of an owner that only
// fails, of an object not seen since the daemon began. What the journal has not taken yet is refused.
func TestASweepTellsWhatItEndsUndone(t *testing.T) {
	inRoom(t, func(r *room) {
		base := r.image("busybox:latest")
		user := r.container("user", "data:/data")
		data, bad := thing{messages.KindVolume, "data", messages.VolumeName("data")}, r.volume("bad")
		r.session()
		require.NoError(r, r.delete(base.kind, base.owner, base.name)) // in use
		require.NoError(r, r.delete(data.kind, data.owner, data.name)) // in use
		r.Hooks.Arm(messages.DebugRequest{Actor: paths[bad.kind] + "/" + bad.owner, Action: "panic", Count: -1})
		r.pass(30 * time.Second)
		require.NoError(r, r.delete(bad.kind, bad.owner, bad.name)) // quarantined: written down
		r.lost()
		require.NoError(r, r.delete(user.kind, user.owner, user.name)) // nobody to ask
		require.Equal(r, 4, r.sweep())
		told := r.events(messages.EventSuperseded)
		require.Len(r, told, 4)
		for _, x := range []thing{base, data, bad, user} {
			found := false
			for _, s := range told {
				found = found || s == fmt.Sprintf("delete %s %q: Superseded/MirrorReset: the mirror was reset before it was done", x.kind, x.name)
			}
			require.True(r, found, "%v in %v", x, told)
			require.Nil(r, r.get(x.kind, x.name))
		}
		open, err := r.journal.Load(journal.BucketDeletions, "")
		require.NoError(r, err)
		require.Empty(r, open)
		r.Hooks.Disarm()
		r.session()
		r.pass(time.Hour)
		require.Len(r, r.world.Snapshot().Containers, 1, "none of them is done later")
		require.Len(r, r.world.Snapshot().Volumes, 2)
		require.Zero(r, r.sweep(), "and each is counted once")
	})
}

// A deletion that the journal is writing down when the sweep comes was not accepted: who asked is told, and no record is left.
func TestADeletionThatMeetsASweepIsRefused(t *testing.T) {
	inRoom(t, func(r *room) {
		v := r.volume("data")
		r.session()
		slow := make(chan struct{})
		r.journal.OnCommit(func(ops []journal.Op) error {
			if ops[0].Bucket == journal.BucketDeletions && ops[0].Value != nil {
				<-slow
			}
			return nil
		})
		refused := make(chan error, 1)
		go func() {
			answer, err := r.Ask(r.Context(), paths[v.kind], Delete{Owner: v.owner, Name: v.name})
			if err == nil {
				err = answer.(Deleted).Err
			}
			refused <- err
		}()
		synctest.Wait()
		for _, path := range paths {
			r.Tell(path, Sweep{})
		}
		synctest.Wait()
		close(slow)
		require.ErrorContains(r, <-refused, "the mirror was reset before it was done; nothing has been done")
		r.pass(time.Second)
		open, err := r.journal.Load(journal.BucketDeletions, "")
		require.NoError(r, err)
		require.Empty(r, open)
		require.Empty(r, r.events(messages.EventSuperseded))
		require.Len(r, r.world.Snapshot().Volumes, 1)
	})
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/moby"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver"
	"github.com/rdd-desktop/rdd/vmdriver/external"
)

// A follower is a process that follows an engine.
const (
	followBare = "bare" // the bare loop
	followOurs = "ours" // rdd, everything in memory
	followDisk = "disk" // rdd with a journal on disk, and an edge
	followEdge = "edge" // a client of the one before
)

// follower is the other side of it.
type follower struct {
	*child
	// synced is how long it took until everything was known, in ms.
	synced float64
}

func follow(what string, e engine, environment ...string) *follower {
	c, ready := spawn(environment, "-follow", what, e.host())
	f := &follower{child: c}
	_, err := fmt.Sscanf(ready, "synced %g", &f.synced)
	must(err)
	return f
}

// instance is where the instance of a follower on disk is.
const instanceName = "bench"

// followed is the process of a follower.
type followed struct {
	*sightings
	bare   *bare
	client *supervisor.Client
	host   string
	// settled is seen when the engine is connected again.
	settled *sightings
	// removals are when the engine was called to remove a container.
	removals chan time.Time
	// bareFile is what bare commits go to, nil before the first.
	bareFile *bbolt.DB
	stop     func()
}

func serveFollower(what, host string) {
	ctx := context.Background()
	if dir := os.Getenv("BENCH_PROFILE"); dir != "" {
		runtime.MemProfileRate = 4096
		file, err := os.Create(fmt.Sprintf("%s/%s-%d.cpu", dir, what, os.Getpid()))
		must(err)
		must(pprof.StartCPUProfile(file))
		defer pprof.StopCPUProfile()
	}
	f := &followed{host: host, removals: make(chan time.Time, 1024), stop: func() {}}
	var took time.Duration
	switch what {
	case followBare:
		f.bare, took = startBare(ctx, host)
		f.sightings = f.bare.sightings
	case followEdge:
		client, err := supervisor.Dial(ctx, supervisor.Instance{Name: instanceName})
		must(err)
		f.client, f.sightings, f.stop = client, newSightings(), func() { _ = client.Close() }
	default:
		took = f.start(ctx, what == followDisk)
	}
	fmt.Println("synced", ms(took))
	obeying(func(words []string) (string, error) { return f.obey(ctx, words) })
	f.stop()
}

// start starts rdd.
func (f *followed) start(ctx context.Context, disk bool) time.Duration {
	config := supervisor.Config{Dialer: noticing{f.removals}, Drivers: map[string]vmdriver.Driver{
		messages.DriverExternal: external.New(external.Config{Getenv: func(string) string { return f.host }}),
	}}
	if disk {
		config.Instance, config.Edge = &supervisor.Instance{Name: instanceName}, true
	}
	r, err := supervisor.Start(ctx, config)
	must(err)
	f.client, f.sightings, f.stop = r.Client(), newSightings(), func() { _ = r.Stop(ctx) }
	began := time.Now()
	_, err = f.client.Set(ctx, messages.SetRequest{Patch: []byte(`{"running":true,"virtualMachine":{"driver":"external"}}`)})
	must(err)
	_, err = f.client.WaitSettled(ctx, supervisor.SettleOptions{Timeout: patience})
	must(err)
	return time.Since(began)
}

func (f *followed) obey(ctx context.Context, words []string) (string, error) {
	switch words[0] {
	case "watch":
		return "watching", f.watch(ctx)
	case "mark":
		f.mark()
		return "marked", nil
	case "await": // NAME
		at, err := f.awaitName(words[1])
		return nanos(at), err
	case "all": // N
		var n int
		if err := numbers(words[1:], &n); err != nil {
			return "", err
		}
		at, err := f.awaitAll(n)
		return nanos(at), err
	case "settling":
		f.settled = newSightings()
		go func() {
			if _, err := f.client.WaitSettled(ctx, supervisor.SettleOptions{Timeout: patience}); err == nil {
				f.settled.saw("settled")
			}
		}()
		return "waiting", nil
	case "settled":
		at, err := f.settled.awaitName("settled")
		return nanos(at), err
	case "cpu":
		return fmt.Sprint(cpu().Nanoseconds()), nil
	case "heap":
		return fmt.Sprint(heap()), nil
	case "rss":
		kib, err := residentKiB(os.Getpid())
		return fmt.Sprint(kib), err
	case "inspect": // everything, as the first pass of the bare loop does
		began := time.Now()
		err := f.bare.sync(ctx)
		return fmt.Sprint(ms(time.Since(began))), err
	case "diverged":
		return f.diverged(ctx)
	case "events": // of the house, the last ones
		reply, err := f.client.Events(ctx, messages.EventsRequest{})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%+v", reply.Events[max(0, len(reply.Events)-20):]), nil
	case "delete": // KIND NAME: how many ms until the engine is called
		return f.delete(ctx, words[1], words[2])
	case "remove": // KIND COUNT: all of it are to go, and cannot
		return f.remove(ctx, words[1], words[2])
	case "commit":
		return f.commit()
	}
	return "", fmt.Errorf("unknown order %q", words[0])
}

// watch notes what a watch tells; the bare loop always does.
func (f *followed) watch(ctx context.Context) error {
	if f.client == nil {
		return nil
	}
	for _, kind := range []string{"containers", "volumes"} {
		list, err := f.client.List(ctx, kind, supervisor.ListOptions{})
		if err != nil {
			return err
		}
		w, err := f.client.Watch(ctx, kind, supervisor.WatchOptions{ResourceVersion: list.ResourceVersion})
		if err != nil {
			return err
		}
		go func() {
			for {
				ev, err := w.Next(ctx)
				if err != nil {
					return
				}
				if ev.Type == messages.Added || ev.Type == messages.Modified {
					f.saw(nameOf(ev.Object))
				}
			}
		}()
	}
	return nil
}

func nameOf(o messages.Object) string {
	switch o := o.(type) {
	case *messages.Container:
		return o.Status.Name
	case *messages.Volume:
		return o.Status.Name
	}
	return ""
}

// diverged is in how many containers mirror and engine differ, and an example.
func (f *followed) diverged(ctx context.Context) (string, error) {
	client, err := moby.Dialer{}.Dial(ctx, messages.Endpoint{Host: f.host})
	if err != nil {
		return "", err
	}
	defer func() { _ = client.Close() }()
	rows, err := client.ListContainers(ctx)
	if err != nil {
		return "", err
	}
	list, err := f.client.List(ctx, "containers", supervisor.ListOptions{})
	if err != nil {
		return "", err
	}
	state := map[string]string{}
	for _, o := range list.Items {
		c := o.(*messages.Container)
		if synced := messages.Condition(c, messages.ConditionSynced); synced != nil && synced.Status == metav1.ConditionTrue {
			state[c.GetName()] = c.Status.Name + " " + c.Status.Status
		}
	}
	n, example := 0, ""
	for _, r := range rows {
		if state[r.ID] != r.Name+" "+r.State {
			example = fmt.Sprintf("the engine has %s %s %s, the mirror %q", r.ID, r.Name, r.State, state[r.ID])
			n++
		}
		delete(state, r.ID)
	}
	for id, of := range state {
		example = fmt.Sprintf("the mirror has %s %s, the engine has not", id, of)
	}
	return fmt.Sprint(n+len(state), " ", example), nil
}

func (f *followed) delete(ctx context.Context, kind, name string) (string, error) {
	for len(f.removals) > 0 {
		<-f.removals
	}
	began := time.Now()
	if _, err := f.client.Delete(ctx, messages.DeleteRequest{Kind: kind, Name: name}); err != nil {
		return "", err
	}
	select {
	case at := <-f.removals:
		return fmt.Sprint(ms(at.Sub(began))), nil
	case <-time.After(patience):
		return "", errors.New("the engine was never called")
	}
}

// remove asks for the deletion of all of a kind, or the first ones.
func (f *followed) remove(ctx context.Context, kind, count string) (string, error) {
	list, err := f.client.List(ctx, kind, supervisor.ListOptions{})
	if err != nil {
		return "", err
	}
	n := len(list.Items)
	if count != "all" {
		if err := numbers([]string{count}, &n); err != nil {
			return "", err
		}
	}
	for _, o := range list.Items[:n] {
		if _, err := f.client.Delete(ctx, messages.DeleteRequest{Kind: kind, Name: o.GetName()}); err != nil {
			return "", err
		}
	}
	return fmt.Sprint(n), nil
}

// noticing is the adapter that notes when it is called to remove a container.
type noticing struct{ removals chan time.Time }

func (n noticing) Dial(ctx context.Context, at messages.Endpoint) (dockerio.Engine, error) {
	e, err := moby.Dialer{}.Dial(ctx, at)
	if err != nil {
		return nil, err
	}
	return noticed{e, n.removals}, nil
}

type noticed struct {
	dockerio.Engine
	removals chan time.Time
}

func (n noticed) RemoveContainer(ctx context.Context, id string) error {
	select {
	case n.removals <- time.Now():
	default: // nobody looks at so many
	}
	return n.Engine.RemoveContainer(ctx, id)
}

// commit is how many ms one commit of a small record takes, to a file beside the journal.
func (f *followed) commit() (string, error) {
	if f.bareFile == nil {
		db, err := bbolt.Open(os.Getenv("HOME")+"/bare.db", 0o600, nil)
		if err != nil {
			return "", err
		}
		f.bareFile = db
	}
	began := time.Now()
	err := f.bareFile.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("b"))
		if err != nil {
			return err
		}
		return b.Put(fmt.Append(nil, began.UnixNano()), make([]byte, 300))
	})
	return fmt.Sprint(ms(time.Since(began))), err
}

// heaps counts the profiles of the heap.
var heaps atomic.Int32

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if dir := os.Getenv("BENCH_PROFILE"); dir != "" {
		if file, err := os.Create(fmt.Sprintf("%s/%d-%d.heap", dir, os.Getpid(), heaps.Add(1))); err == nil {
			_ = errors.Join(pprof.WriteHeapProfile(file), file.Close())
		}
	}
	return m.HeapAlloc
}

// residentKiB of a process.
func residentKiB(pid int) (kib float64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	_, err = fmt.Sscan(rest, &kib)
	return kib, err
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/moby"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver"
	"github.com/rdd-desktop/rdd/vmdriver/external"
)

// patience bounds every wait of a benchmark.
const patience = 2 * time.Minute

// loop is either side of a comparison: it follows an engine until stop, and tells each object it has seen the present state of.
type loop struct {
	// synced is how long it took until everything was known.
	synced time.Duration
	seen   chan sighting
	stop   func()
	client *supervisor.Client
}

type sighting struct {
	name string
	at   time.Time
}

// bare lists, inspects with four workers, then reads events and inspects what they are about: nothing else.
func bare(ctx context.Context, host string) (*loop, error) {
	began := time.Now()
	client, err := moby.Dialer{}.Dial(ctx, messages.Endpoint{Host: host})
	if err != nil {
		return nil, err
	}
	info, err := client.Info(ctx)
	if err != nil {
		return nil, err
	}
	events, err := client.Events(ctx, info.Now)
	if err != nil {
		return nil, err
	}
	if err := bareSync(ctx, client); err != nil {
		return nil, err
	}
	l := &loop{synced: time.Since(began), seen: make(chan sighting, 1<<16)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			ev, err := events.Next()
			if err != nil {
				return
			}
			name := ev.ID
			switch ev.Type {
			case dockerio.TypeContainer:
				c, err := client.InspectContainer(ctx, ev.ID)
				if err != nil {
					continue
				}
				name = c.Name
			case dockerio.TypeVolume:
				if _, err := client.InspectVolume(ctx, ev.ID); err != nil {
					continue
				}
			}
			l.seen <- sighting{name, time.Now()}
		}
	}()
	l.stop = func() {
		_ = events.Close()
		<-done
		_ = client.Close()
	}
	return l, nil
}

func bareSync(ctx context.Context, client dockerio.Engine) error {
	containers, err := client.ListContainers(ctx)
	if err != nil {
		return err
	}
	images, err := client.ListImages(ctx)
	if err != nil {
		return err
	}
	if _, err := client.ListVolumes(ctx); err != nil {
		return err
	}
	jobs, errs := make(chan func() error, 64), make(chan error, 4)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for job := range jobs {
				if err := job(); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for _, i := range images {
		jobs <- func() error { _, err := client.InspectImage(ctx, i.ID); return err }
	}
	for _, c := range containers {
		jobs <- func() error { _, err := client.InspectContainer(ctx, c.ID); return err }
	}
	close(jobs)
	workers.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// ours is rdd.
func ours(ctx context.Context, host string, instance *supervisor.Instance) (*loop, error) {
	r, err := supervisor.Start(ctx, supervisor.Config{Instance: instance, Drivers: map[string]vmdriver.Driver{
		messages.DriverExternal: external.New(external.Config{Getenv: func(string) string { return host }}),
	}})
	if err != nil {
		return nil, err
	}
	client := r.Client()
	began := time.Now()
	patch := fmt.Appendf(nil, `{"running":true,"virtualMachine":{"driver":"external"}}`)
	if _, err := client.Set(ctx, messages.SetRequest{Patch: patch}); err != nil {
		return nil, err
	}
	if _, err := client.WaitSettled(ctx, supervisor.SettleOptions{Timeout: patience}); err != nil {
		return nil, err
	}
	l := &loop{synced: time.Since(began), seen: make(chan sighting, 1<<16), client: client}
	watching, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	for _, kind := range []string{"containers", "volumes"} {
		w, err := client.Watch(watching, kind, supervisor.WatchOptions{})
		if err != nil {
			cancel()
			return nil, err
		}
		readers.Go(func() {
			defer w.Close()
			for {
				ev, err := w.Next(watching)
				if err != nil {
					return
				}
				if ev.Type == messages.Added || ev.Type == messages.Modified {
					l.seen <- sighting{nameOf(ev.Object), time.Now()}
				}
			}
		})
	}
	l.stop = func() {
		cancel()
		readers.Wait()
		_ = r.Stop(context.Background())
	}
	l.drain(time.Second) // what was there before
	return l, nil
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

// drain takes sightings until there was none for quiet, and says how many.
func (l *loop) drain(quiet time.Duration) (n int) {
	for {
		select {
		case <-l.seen:
			n++
		case <-time.After(quiet):
			return n
		}
	}
}

// await takes sightings until one of name, and gives its time.
func (l *loop) await(name string) time.Time {
	limit := time.After(patience)
	for {
		select {
		case s := <-l.seen:
			if s.name == name {
				return s.at
			}
		case <-limit:
			panic("never seen: " + name)
		}
	}
}

package main

import (
	"context"
	"sync"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/moby"
	"github.com/rdd-desktop/rdd/messages"
)

// bare lists, inspects with four workers, then reads events and inspects what they are about: nothing else.
type bare struct {
	*sightings
	client dockerio.Engine
}

func startBare(ctx context.Context, host string) (*bare, time.Duration) {
	began := time.Now()
	client, err := moby.Dialer{}.Dial(ctx, messages.Endpoint{Host: host})
	must(err)
	info, err := client.Info(ctx)
	must(err)
	events, err := client.Events(ctx, info.Now)
	must(err)
	b := &bare{newSightings(), client}
	must(b.sync(ctx))
	go b.follow(ctx, events)
	return b, time.Since(began)
}

func (b *bare) follow(ctx context.Context, events dockerio.Stream) {
	for {
		ev, err := events.Next()
		if err != nil {
			return
		}
		switch ev.Type {
		case dockerio.TypeContainer:
			if c, err := b.client.InspectContainer(ctx, ev.ID); err == nil {
				b.saw(c.Name)
			}
		case dockerio.TypeVolume:
			if v, err := b.client.InspectVolume(ctx, ev.ID); err == nil {
				b.saw(v.Name)
			}
		}
	}
}

func (b *bare) sync(ctx context.Context) error {
	containers, err := b.client.ListContainers(ctx)
	if err != nil {
		return err
	}
	images, err := b.client.ListImages(ctx)
	if err != nil {
		return err
	}
	if _, err := b.client.ListVolumes(ctx); err != nil {
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
		jobs <- func() error { _, err := b.client.InspectImage(ctx, i.ID); return err }
	}
	for _, c := range containers {
		jobs <- func() error { _, err := b.client.InspectContainer(ctx, c.ID); return err }
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

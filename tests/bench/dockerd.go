package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/rdd-desktop/rdd/tests/enginetest"
)

// dockerd is a private dockerd. Its containers are never started: what changes is their name.
type dockerd struct {
	*enginetest.Engine
	names []string
}

func startDockerd(ctx context.Context, containers int) *dockerd {
	e, err := enginetest.Start(ctx, enginetest.Options{})
	must(err)
	d := &dockerd{Engine: e}
	defer func() {
		if len(d.names) < containers {
			d.close()
		}
	}()
	for i := range others {
		_, err := e.Import(ctx, fmt.Sprintf("image-%d:latest", i), fmt.Sprint(i))
		must(err)
		d.volume(fmt.Sprintf("volume-%d", i))
	}
	for i := range containers {
		d.call("/containers/create?name="+containerName(i), map[string]any{
			"Image": fmt.Sprintf("image-%d:latest", i%others), "Cmd": []string{"true"},
			"HostConfig": map[string]any{"Binds": []string{fmt.Sprintf("volume-%d:/data", i%others)}},
		})
		d.names = append(d.names, containerName(i))
	}
	return d
}

func (d *dockerd) call(path string, body any) {
	_, err := d.API(context.Background(), http.MethodPost, path, body)
	must(err)
}

func (d *dockerd) host() string { return d.Host() }

func (d *dockerd) rename(i int) string {
	name := containerName(i)
	if d.names[i] == name {
		name += "x"
	}
	d.call("/containers/"+d.names[i]+"/rename?name="+name, nil)
	d.names[i] = name
	return name
}

// toggle's time is the one that the engine has written into its event.
func (d *dockerd) toggle(i int) (string, time.Time) {
	since := time.Now()
	name := d.rename(i)
	return name, d.eventAfter(since, "rename", name)
}

func (d *dockerd) eventAfter(since time.Time, action, name string) time.Time {
	query := url.Values{"since": {stamp(since)}, "until": {stamp(time.Now())}}
	reply, err := d.API(context.Background(), http.MethodGet, "/events?"+query.Encode(), nil)
	must(err)
	for lines := json.NewDecoder(bytes.NewReader(reply)); ; {
		var e struct {
			Action   string
			TimeNano int64
			Actor    struct{ Attributes map[string]string }
		}
		if err := lines.Decode(&e); err != nil {
			fail("the engine has no event %s of %s", action, name)
		}
		if e.Action == action && e.Actor.Attributes["name"] == name {
			return time.Unix(0, e.TimeNano)
		}
	}
}

func stamp(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }

func (d *dockerd) burst(count, rate, objects int) float64 {
	began := time.Now()
	for i := range count {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		d.rename(i % objects)
	}
	return float64(count) / time.Since(began).Seconds()
}

func (d *dockerd) volume(name string) time.Time {
	at := time.Now()
	d.call("/volumes/create", map[string]any{"Name": name})
	return at
}

func (d *dockerd) close() { _ = d.Close() }

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/dockerio/sim/server"
)

// others is how many images and volumes there are beside the containers.
const others = 100

// engine is what is mirrored.
type engine interface {
	host() string
	// toggle changes the i-th container by one event, and says what its name is then, and when.
	toggle(i int) (name string, at time.Time)
	// burst makes count events at a rate, of so many containers in turn. It returns the rate that it reached.
	burst(count, rate, objects int) float64
	volume(name string) time.Time
	close()
}

func containerName(i int) string { return fmt.Sprintf("c%06d", i) }

// simulated is an engine of package sim in a process of its own, behind its socket.
type simulated struct {
	*child
	dir string
}

func startEngine(containers, images, volumes int) *simulated {
	e := &simulated{dir: tempDir()}
	e.child, _ = spawn(nil, "-serve", filepath.Join(e.dir, "s"), fmt.Sprint(containers), fmt.Sprint(images), fmt.Sprint(volumes))
	return e
}

func (e *simulated) host() string { return "unix://" + filepath.Join(e.dir, "s") }

func (e *simulated) toggle(i int) (string, time.Time) {
	name := containerName(i)
	return name, e.time("toggle %s", name)
}

func (e *simulated) burst(count, rate, objects int) float64 {
	return e.number("events %d %d %d", count, rate, objects)
}

func (e *simulated) volume(name string) time.Time { return e.time("volume %s", name) }

func (e *simulated) close() {
	e.end()
	_ = os.RemoveAll(e.dir)
}

// serveEngine is the process of a simulated engine.
func serveEngine(socket string, words []string) {
	var containers, images, volumes int
	must(numbers(words, &containers, &images, &volumes))
	w := &world{Engine: sim.New(sim.Options{}), paused: map[string]bool{}}
	must(w.Populate(containers, images, volumes))
	listener, err := net.Listen("unix", socket)
	must(err)
	s := server.New(w.Engine)
	s.Serve(listener)
	fmt.Println("serving")
	obeying(w.obey)
	must(s.Close())
}

// world is the engine with what orders have done to it.
type world struct {
	*sim.Engine
	paused map[string]bool
}

func (w *world) obey(words []string) (string, error) {
	now := nanos(time.Now())
	switch words[0] {
	case "events": // COUNT RATE OBJECTS
		return w.events(words[1:], w.toggle)
	case "noise": // COUNT RATE OBJECTS: health checks that change nothing, three events each
		return w.events(words[1:], w.Noise)
	case "toggle":
		return now, w.toggle(words[1])
	case "volume":
		_, err := w.VolumeCreate(sim.VolumeOptions{Name: words[1]})
		return now, err
	case "churn": // N: each container goes, another of its name comes; 1 000 a second, so that nobody loses events
		return now, w.churn(words[1:])
	case "calls":
		return fmt.Sprint(w.Calls(words[1])), nil
	case "hang": // OPERATION NAME
		w.Faults().Hang(words[1], words[2])
		return now, nil
	case "fail": // OPERATION NAME: once
		w.Faults().Fail(words[1], words[2], 1, fmt.Errorf("failed on order"))
		return now, nil
	case "down":
		w.Down()
		return now, nil
	case "up":
		w.Up()
		return nanos(time.Now()), nil
	}
	return "", fmt.Errorf("unknown order %q", words[0])
}

func (w *world) events(words []string, happen func(name string) error) (string, error) {
	var count, rate, objects int
	if err := numbers(words, &count, &rate, &objects); err != nil {
		return "", err
	}
	began := time.Now()
	for i := range count {
		if ahead := time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))); ahead > 0 {
			time.Sleep(ahead)
		}
		if err := happen(containerName(i % objects)); err != nil {
			return "", err
		}
	}
	return fmt.Sprint(float64(count) / time.Since(began).Seconds()), nil
}

// toggle pauses a running container, and lets a paused one go on: one event.
func (w *world) toggle(name string) error {
	w.paused[name] = !w.paused[name]
	if w.paused[name] {
		return w.Pause(name)
	}
	return w.Unpause(name)
}

func (w *world) churn(words []string) error {
	var n int
	if err := numbers(words, &n); err != nil {
		return err
	}
	began := time.Now()
	for i := range n {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Millisecond)))
		name := containerName(i)
		before, err := w.ContainerByRef(name)
		if err != nil {
			return err
		}
		if err := w.Rm(name, true); err != nil {
			return err
		}
		if _, err := w.Run(sim.ContainerOptions{Name: name, Image: before.ImageName, Cmd: []string{"sleep", "infinity"}}); err != nil {
			return err
		}
	}
	return nil
}

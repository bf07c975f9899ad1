package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/dockerio/sim/server"
)

// The engine of the benchmarks is a process of its own: what it costs is nobody else's. It obeys lines on its standard input and
// answers each with one line.

// serveEngine is that process.
func serveEngine(socket string, containers, others int) error {
	world := sim.New(sim.Options{})
	if err := world.Populate(containers, others, others); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	s := server.New(world)
	s.Serve(listener)
	fmt.Println("serving")
	paused := map[string]bool{}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		answer, err := obey(world, paused, strings.Fields(lines.Text()))
		if err != nil {
			answer = "error: " + err.Error()
		}
		fmt.Println(answer)
	}
	return s.Close()
}

func obey(world *sim.Engine, paused map[string]bool, words []string) (string, error) {
	switch words[0] {
	case "events": // events COUNT RATE OBJECTS: one change each of OBJECTS containers in turn
		var count, rate, objects int
		if _, err := fmt.Sscan(strings.Join(words[1:], " "), &count, &rate, &objects); err != nil {
			return "", err
		}
		began := time.Now()
		for i := range count {
			time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))))
			if err := toggle(world, paused, fmt.Sprintf("c%06d", i%objects)); err != nil {
				return "", err
			}
		}
		return fmt.Sprint(time.Since(began)), nil
	case "toggle":
		began := time.Now()
		return fmt.Sprint(began.UnixNano()), toggle(world, paused, words[1])
	case "volume":
		began := time.Now()
		_, err := world.VolumeCreate(sim.VolumeOptions{Name: words[1]})
		return fmt.Sprint(began.UnixNano()), err
	case "await": // await OPERATION COUNT: when the engine was called so often
		var count int
		if _, err := fmt.Sscan(words[2], &count); err != nil {
			return "", err
		}
		for end := time.Now().Add(patience); world.Calls(words[1]) < count; {
			if time.Now().After(end) {
				return "", fmt.Errorf("%s was never called so often", words[1])
			}
			time.Sleep(20 * time.Microsecond)
		}
		return fmt.Sprint(time.Now().UnixNano()), nil
	case "calls":
		return fmt.Sprint(world.Calls(words[1])), nil
	case "down":
		world.Down()
		return "down", nil
	case "up":
		world.Up()
		return fmt.Sprint(time.Now().UnixNano()), nil
	}
	return "", fmt.Errorf("unknown order %q", words[0])
}

// toggle pauses a running container, and lets a paused one go on: one event.
func toggle(world *sim.Engine, paused map[string]bool, name string) error {
	paused[name] = !paused[name]
	if paused[name] {
		return world.Pause(name)
	}
	return world.Unpause(name)
}

// engine is the other side of it.
type engine struct {
	socket  string
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
}

func startEngine(containers int) (*engine, error) {
	dir, err := os.MkdirTemp("/tmp", "rddb")
	if err != nil {
		return nil, err
	}
	e := &engine{socket: filepath.Join(dir, "s")}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	e.command = exec.Command(self, "-serve", e.socket, "-containers", fmt.Sprint(containers))
	e.command.Stderr = os.Stderr
	if e.in, err = e.command.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := e.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := e.command.Start(); err != nil {
		return nil, err
	}
	e.out = bufio.NewScanner(out)
	_, err = e.answer()
	return e, err
}

func (e *engine) answer() (string, error) {
	if !e.out.Scan() {
		return "", fmt.Errorf("the engine has ended (%v)", e.out.Err())
	}
	text := e.out.Text()
	if rest, ok := strings.CutPrefix(text, "error: "); ok {
		return "", fmt.Errorf("engine: %s", rest)
	}
	return text, nil
}

// order tells the engine to do something and gives its answer. It panics when the engine is gone: nothing can be measured then.
func (e *engine) order(format string, args ...any) string {
	_, err := fmt.Fprintf(e.in, format+"\n", args...)
	if err == nil {
		var text string
		if text, err = e.answer(); err == nil {
			return text
		}
	}
	panic(fmt.Errorf("order %q: %w", format, err))
}

// at is the time in an answer.
func at(answer string) time.Time {
	var nanos int64
	if _, err := fmt.Sscan(answer, &nanos); err != nil {
		panic(err)
	}
	return time.Unix(0, nanos)
}

func (e *engine) close() {
	_ = e.in.Close()
	_ = e.command.Wait()
	_ = os.RemoveAll(filepath.Dir(e.socket))
}

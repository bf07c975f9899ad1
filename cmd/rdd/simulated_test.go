package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// TestSimulatedScripts runs the command line against daemons whose engine is in memory: "simulate FAULT…" starts one.
func TestSimulatedScripts(t *testing.T) {
	p := scripts(filepath.Join("testdata", "simulated"))
	p.Cmds["first"], p.Cmds["deadsocket"] = first, deadSocket
	testscript.Run(t, p)
}

// until REGEXP CMD… repeats a command until its stdout matches. What has to come is waited for; nothing is slept over.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP COMMAND…")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		if want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Since(began) > patience {
			ts.Fatalf("%s: no %q after %s (%v)", strings.Join(args[1:], " "), args[0], patience, err)
		}
	}
}

// first N CMD… runs a command that does not end until it has written N lines.
func first(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: first N COMMAND…")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args[2:]...)
	for _, name := range []string{"HOME", "PATH", "RDD_INSTANCE", "XDG_DATA_HOME", "NO_COLOR", "GORACE"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	lines := bufio.NewScanner(out)
	for got := 0; got < n; got++ {
		if !lines.Scan() {
			ts.Fatalf("%s: %d lines, want %d", strings.Join(args[1:], " "), got, n)
		}
		_, _ = fmt.Fprintln(ts.Stdout(), lines.Text())
	}
	cancel()
	_ = cmd.Wait() // it was killed
}

// deadSocket PATH makes a socket that nobody listens at any more.
func deadSocket(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: deadsocket PATH")
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: ts.MkAbs(args[0]), Net: "unix"})
	ts.Check(err)
	l.SetUnlinkOnClose(false)
	ts.Check(l.Close())
}

// simulate is the program of a daemon with an engine in memory that holds a running container web (volume data), an ended one
// job, and an image that nobody uses. Its arguments are what is wrong with the engine (more: that there are ten more containers).
func simulate() {
	if err := runSimulation(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runSimulation(wrong []string) error {
	world := sim.New(sim.Options{})
	defer world.Close()
	if err := populate(world); err != nil {
		return err
	}
	faults := map[string]func(){
		"down": world.Down,
		"denied": func() {
			world.Faults().Fail(sim.OpInfo, "", 0, messages.NewError(messages.CodeForbidden, "connect to", "engine", "", "permission denied"))
		},
		"no-inspect": func() {
			world.Faults().Fail(sim.OpInspectContainer, "web", 0, messages.NewError(messages.CodeUnavailable, "inspect", "container", "web", "broken"))
		},
		"no-start": func() {
			world.Faults().Fail(sim.OpStartContainer, "job", 0, messages.NewError(messages.CodeInvalid, "start", "container", "job", "no such command"))
		},
		"slow-stop": func() { world.Faults().Hang(sim.OpStopContainer, "web") },
		"slow-list": func() { world.Faults().Hang(sim.OpListVolumes, "") },
		"no-stop":   func() {}, // of the driver, below
		"more": func() {
			for i := range scribbledUpon {
				if _, err := world.Run(sim.ContainerOptions{Name: fmt.Sprintf("c%d", i), Image: "busybox"}); err != nil {
					panic(err)
				}
			}
		},
	}
	for _, w := range wrong {
		if faults[w] == nil {
			return fmt.Errorf("unknown fault %q", w)
		}
		faults[w]()
	}
	i, err := supervisor.NewInstance("")
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r, err := supervisor.Start(ctx, supervisor.Config{Instance: &i, Edge: true, TestHooks: true, Version: "simulated", Dialer: world.Dialer(),
		Drivers:    map[string]vmdriver.Driver{messages.DriverSimulated: place{world.Endpoint(), len(wrong) > 0 && wrong[0] == "no-stop"}},
		OnShutdown: func(bool) { stop() }})
	if err != nil {
		return err
	}
	<-ctx.Done()
	states := map[string]string{}
	for _, c := range world.Containers() {
		states[c.Name] = c.Status
	}
	if err := json.NewEncoder(os.Stdout).Encode(states); err != nil {
		return err
	}
	return r.Stop(context.Background())
}

// startSimulated runs the program simulate in a home of its own, with more of what is wrong, and waits until it mirrors its engine. stop
// ends it and gives what it has written: the states of the engine's containers. It is a process: gRPC's logger, which each start sets anew, is
// the whole process's.
func startSimulated(t *testing.T, wrong ...string) (stop func() map[string]string) {
	t.Helper()
	home, err := os.MkdirTemp("", "rdd") // short enough for sockets
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(home)) })
	for name, value := range map[string]string{"HOME": home, "XDG_DATA_HOME": "", "RDD_INSTANCE": "", "GORACE": raceOptions} {
		t.Setenv(name, value)
	}
	daemon := exec.Command("simulate", wrong...)
	var out bytes.Buffer
	daemon.Stdout, daemon.Stderr = &out, os.Stderr
	require.NoError(t, daemon.Start())
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = daemon.Process.Kill()
			_ = daemon.Wait()
		}
	})
	require.Eventually(t, func() bool { return exec.Command("rdd", "svc", "status").Run() == nil }, patience, 10*time.Millisecond)
	require.NoError(t, exec.Command("rdd", "set", "running=true", "virtualMachine.driver=simulated").Run())
	return func() map[string]string {
		require.NoError(t, exec.Command("rdd", "svc", "stop").Run())
		ended = true
		require.NoError(t, daemon.Wait())
		states := map[string]string{}
		require.NoError(t, json.Unmarshal(out.Bytes(), &states))
		return states
	}
}

func populate(world *sim.Engine) error {
	for _, tag := range []string{"busybox:latest", "unused:1"} {
		if _, err := world.Import(tag, ""); err != nil {
			return err
		}
	}
	if _, err := world.Run(sim.ContainerOptions{Name: "web", Image: "busybox", Volumes: []string{"data:/data"}, Labels: map[string]string{"app": "web"}}); err != nil {
		return err
	}
	if _, err := world.Run(sim.ContainerOptions{Name: "job", Image: "busybox"}); err != nil {
		return err
	}
	return world.Exit("job", 3)
}

// place is a driver whose VM runs for ever; a stuck one cannot be stopped.
type place struct {
	at    messages.Endpoint
	stuck bool
}

func (place) Name() string { return messages.DriverSimulated }
func (p place) Capabilities() vmdriver.Capabilities {
	return vmdriver.Capabilities{Backends: []string{messages.EngineMoby}, OwnsEngine: p.stuck}
}
func (place) Inspect(context.Context, vmdriver.Spec) (vmdriver.Observation, error) {
	return vmdriver.Observation{Phase: vmdriver.Running}, nil
}
func (place) Create(context.Context, vmdriver.Spec) error { return nil }
func (place) Start(context.Context, vmdriver.Spec) error  { return nil }
func (p place) Stop(context.Context, bool) error {
	if p.stuck {
		return messages.NewError(messages.CodeUnavailable, "", "", "", "it does not listen")
	}
	return nil
}
func (place) Delete(context.Context) error { return nil }
func (place) Watch(ctx context.Context) (<-chan vmdriver.Observation, error) {
	none := make(chan vmdriver.Observation)
	context.AfterFunc(ctx, func() { close(none) })
	return none, nil
}
func (p place) Endpoint(context.Context, vmdriver.Spec) (messages.Endpoint, error) { return p.at, nil }
func (place) Logs(context.Context, io.Writer, bool) error                          { return nil }

// Command demo shows rdd on the engine at hand: it picks an engine, starts an rdd instance of its own on it, shows what rdd mirrors,
// and ends everything it started.
//
// The engine is the first of: DOCKER_HOST; the docker CLI's current context (or /var/run/docker.sock), if an engine answers there;
// a dockerd that rdd runs itself (driver native), with a few containers, all of which is removed at the end; where no dockerd can run,
// a simulated engine, which the demo says. With a terminal the demo then follows the containers until Ctrl-C; without one it ends.
//
// Usage: demo RDD-BINARY
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/tests/enginetest"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: demo RDD-BINARY")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := show(ctx, os.Args[1])
	var dirty cleanupError
	if ctx.Err() != nil && !errors.As(err, &dirty) {
		say("ended by a signal")
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// cleanupError is a failure to remove what the demo made: an error also when the demo was interrupted.
type cleanupError struct{ error }

func (e cleanupError) Unwrap() error { return e.error }

// cleanup adds the outcome of a cleaning step to an error.
func cleanup(err, outcome error) error {
	if outcome != nil {
		return errors.Join(err, cleanupError{outcome})
	}
	return err
}

func say(format string, args ...any) { fmt.Printf("demo: "+format+"\n", args...) }

func show(ctx context.Context, binary string) (err error) {
	binary, err = filepath.Abs(binary)
	if err != nil {
		return err
	}
	host, driver, err := engine(ctx)
	if err != nil {
		return err
	}

	instance := os.Getenv("RDD_INSTANCE")
	if instance == "" {
		instance = "run"
	}
	say("rdd instance %q", instance)
	own := host == ""
	rdd := func(ctx context.Context, args ...string) error {
		fmt.Printf("\n$ rdd %s\n", strings.Join(args, " "))
		command := exec.CommandContext(ctx, binary, args...)
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		command.Env = append(os.Environ(), "RDD_INSTANCE="+instance)
		command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
		command.WaitDelay = 10 * time.Second
		if err := command.Run(); err != nil {
			return fmt.Errorf("rdd %s: %w", strings.Join(args, " "), err)
		}
		return nil
	}
	defer func() { // with a context of its own: also after Ctrl-C
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		end := "stop"
		if own { // all that is in it is the demo's
			end = "delete"
		}
		err = cleanup(err, rdd(ctx, "svc", end))
	}()
	if own {
		host, err = runOne(ctx, rdd, binary, instance, driver)
	} else {
		err = attach(ctx, rdd, host)
	}
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"ctl", "get", "containers"},
		{"ctl", "get", "images"},
		{"ctl", "get", "volumes"},
		{"tree"},
	} {
		if err := rdd(ctx, args...); err != nil {
			return err
		}
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil
	}
	fmt.Println()
	say("now following the containers; end with Ctrl-C. In another terminal:")
	fmt.Printf("    export RDD_INSTANCE=%s DOCKER_HOST=%s\n    docker ps\n    %s ctl get all\n", instance, host, binary)
	return rdd(ctx, "ctl", "get", "containers", "-w")
}

type runner func(ctx context.Context, args ...string) error

// attach makes rdd use an engine that is there.
func attach(ctx context.Context, rdd runner, host string) error {
	if err := os.Setenv("DOCKER_HOST", host); err != nil {
		return err
	}
	set := []string{"set", "virtualMachine.driver=external"}
	if socket, ok := strings.CutPrefix(host, "unix://"); ok {
		set = append(set, "virtualMachine.socket="+socket)
	}
	return rdd(ctx, append(set, "running=true", "--timeout", "1m")...)
}

// runOne makes rdd run an engine of its own, and gives it something to show.
func runOne(ctx context.Context, rdd runner, binary, instance, driver string) (host string, err error) {
	if err := rdd(ctx, "set", "virtualMachine.driver="+driver, "running=true", "--timeout", "1m"); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, binary, "--instance", instance, "svc", "paths", "docker_socket").Output()
	if err != nil {
		return "", fmt.Errorf("rdd svc paths: %w", err)
	}
	socket := strings.TrimSpace(string(out))
	client := enginetest.At(socket, filepath.Dir(socket))
	if driver == messages.DriverSimulated {
		return client.Host(), furnishSimulated(ctx, client)
	}
	return client.Host(), furnish(ctx, client)
}

// engine looks for an engine and says which; "" = there is none, and rdd can run one of its own with that driver.
func engine(ctx context.Context) (host, driver string, err error) {
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		if err := answers(ctx, host); err != nil {
			return "", "", fmt.Errorf("DOCKER_HOST is set, but no engine answers there: %w", err)
		}
		say("engine: DOCKER_HOST, %s", host)
		return host, "", nil
	}
	host, from := contextHost(ctx)
	err = answers(ctx, host)
	if err == nil {
		say("engine: %s, %s", from, host)
		return host, "", nil
	}
	say("no engine at %s (%s): %v", host, from, err)
	if err := enginetest.Install(ctx, os.Stdout); err != nil {
		say("rdd cannot run a dockerd of its own here either: %v", err)
		say("engine: SIMULATED, in memory: no container really runs. For a real one start Docker, or set DOCKER_HOST")
		return "", messages.DriverSimulated, nil
	}
	say("engine: a dockerd that rdd runs itself, for as long as this demo runs")
	return "", messages.DriverNative, nil
}

// contextHost asks the docker CLI for its current context.
func contextHost(ctx context.Context) (host, from string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", "context", "inspect", "--format", "{{.Name}} {{.Endpoints.docker.Host}}").Output()
	if name, host, ok := strings.Cut(string(bytes.TrimSpace(out)), " "); err == nil && ok && host != "" {
		return host, fmt.Sprintf("the docker CLI's current context %q", name)
	}
	return "unix:///var/run/docker.sock", "the usual socket"
}

// answers tells whether an engine answers. Hosts that we cannot reach ourselves (ssh, a named pipe) are left to the docker CLI.
func answers(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	scheme, _, _ := strings.Cut(host, "://")
	switch scheme {
	case "unix", "tcp", "http":
		return enginetest.Ping(ctx, host)
	}
	out, err := exec.CommandContext(ctx, "docker", "--host", host, "version", "--format", "{{.Server.Version}}").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// furnish gives the engine something to show.
func furnish(ctx context.Context, e *enginetest.Client) error {
	if _, err := e.Import(ctx, "busybox:latest", ""); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"tag", "busybox:latest", "demo/web:1.0"},
		{"volume", "create", "cache"},
		{"run", "-d", "--name", "web", "-p", "127.0.0.1::80", "demo/web:1.0", "httpd", "-f", "-p", "80"},
		{"run", "-d", "--name", "db", "-v", "db-data:/data", "--label", "tier=data", "busybox", "sleep", "1000000"},
		{"run", "-d", "--name", "worker", "busybox", "sleep", "1000000"},
		{"pause", "worker"},
		{"run", "--name", "job", "busybox", "sh", "-c", "echo done"},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := e.DockerErr(args...); err != nil {
			return err
		}
	}
	return nil
}

// furnishSimulated does the like without the docker command and without images of this machine.
func furnishSimulated(ctx context.Context, e *enginetest.Client) error {
	type object map[string]any
	for _, call := range []struct {
		path string
		body object
	}{
		{"/images/create?fromImage=nginx&tag=latest", nil},
		{"/images/create?fromImage=postgres&tag=latest", nil},
		{"/images/nginx:latest/tag?repo=demo/web&tag=1.0", nil},
		{"/volumes/create", object{"Name": "cache"}},
		{"/containers/create?name=web", object{"Image": "demo/web:1.0", "HostConfig": object{"PortBindings": object{"80/tcp": []object{{"HostPort": "8080"}}}}}},
		{"/containers/create?name=db", object{"Image": "postgres", "Labels": object{"tier": "data"}, "HostConfig": object{"Binds": []string{"db-data:/data"}}}},
		{"/containers/create?name=worker", object{"Image": "nginx"}},
		{"/containers/create?name=job", object{"Image": "nginx", "Entrypoint": []string{"sh"}, "Cmd": []string{"-c", "echo done"}}},
		{"/containers/web/start", nil},
		{"/containers/db/start", nil},
		{"/containers/worker/start", nil},
		{"/containers/worker/pause", nil},
		{"/containers/job/start", nil},
	} {
		var body any
		if call.body != nil {
			body = call.body
		}
		if _, err := e.API(ctx, http.MethodPost, call.path, body); err != nil {
			return err
		}
	}
	return nil
}

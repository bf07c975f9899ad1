//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// box is a home of its own for the real program, with an engine that answers when it is told to.
type box struct {
	*testing.T
	home   string
	env    []string
	engine *fakeEngine
}

func newBox(t *testing.T) *box {
	t.Helper()
	home, err := os.MkdirTemp("", "rdd") // short enough for sockets
	require.NoError(t, err)
	b := &box{T: t, home: home, engine: newFakeEngine(t, filepath.Join(home, "engine.sock"))}
	b.env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME=", "RDD_INSTANCE=", "RDD_LOG_DIR=", "NO_COLOR=1",
		"DOCKER_HOST="+b.engine.host(),
		"GORACE="+raceOptions)
	t.Cleanup(func() {
		if f, ok := b.edge(); ok {
			_ = syscall.Kill(f.PID, syscall.SIGKILL)
			b.eventually("the daemon is gone", func() bool { _, runs := processStart(f.PID); return !runs })
		}
		require.NoError(t, os.RemoveAll(home))
	})
	return b
}

// dir is what "rdd svc paths dir" tells, without the price of a process.
func (b *box) dir() string {
	b.Setenv("HOME", b.home)
	b.Setenv("XDG_DATA_HOME", "")
	return supervisor.Instance{Name: supervisor.DefaultInstance}.Dir()
}

type edgeJSON struct {
	PID          int    `json:"pid"`
	ProcessStart string `json:"processStart"`
}

// edge is the daemon by its edge.json, while that process lives.
func (b *box) edge() (edgeJSON, bool) {
	var f edgeJSON
	data, err := os.ReadFile(filepath.Join(b.dir(), "edge.json"))
	if err != nil || json.Unmarshal(data, &f) != nil {
		return f, false
	}
	start, ok := processStart(f.PID)
	return f, ok && start == f.ProcessStart
}

// kill ends the daemon as the kernel does, and waits for its end.
func (b *box) kill() {
	b.Helper()
	f, ok := b.edge()
	require.True(b, ok, "there is a daemon")
	require.NoError(b, syscall.Kill(f.PID, syscall.SIGKILL))
	b.eventually("the daemon is gone", func() bool { _, runs := processStart(f.PID); return !runs })
}

func (b *box) eventually(what string, is func() bool) {
	b.Helper()
	require.Eventually(b, is, patience, 10*time.Millisecond, what)
}

type ended struct {
	code     int
	out, err string
}

func (b *box) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	b.Cleanup(cancel)
	c := exec.CommandContext(ctx, "rdd", args...)
	c.Env = b.env
	return c
}

// start runs the program in the background; wait gives how it ended.
func (b *box) start(args ...string) (c *exec.Cmd, wait func() ended) {
	b.Helper()
	c = b.command(args...)
	var out, errOut strings.Builder
	c.Stdout, c.Stderr = &out, &errOut
	require.NoError(b, c.Start())
	return c, func() ended {
		err := c.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			b.Errorf("rdd %s: %v", strings.Join(args, " "), err)
		}
		return ended{c.ProcessState.ExitCode(), out.String(), errOut.String()}
	}
}

func (b *box) run(args ...string) ended {
	b.Helper()
	_, wait := b.start(args...)
	return wait()
}

// ok runs the program, which must exit 0, and gives its output.
func (b *box) ok(args ...string) string {
	b.Helper()
	e := b.run(args...)
	require.Zero(b, e.code, "rdd %s: %s", strings.Join(args, " "), e.err)
	return strings.TrimSpace(e.out)
}

// app is the App as the daemon tells it.
func (b *box) app() *messages.App {
	b.Helper()
	a := &messages.App{}
	require.NoError(b, json.Unmarshal([]byte(b.ok("ctl", "get", "app", "app", "-o", "json")), a))
	return a
}

// fakeEngine is a Docker engine with nothing in it. While it hangs it takes connections and says nothing.
type fakeEngine struct {
	socket string
	server *http.Server

	mu      sync.Mutex
	hanging chan struct{} // not nil while it hangs; closed at the end of it
}

func newFakeEngine(t *testing.T, socket string) *fakeEngine {
	t.Helper()
	e := &fakeEngine{socket: socket}
	e.server = &http.Server{Handler: e}
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- e.server.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, e.server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
	return e
}

func (e *fakeEngine) host() string { return "unix://" + e.socket }

// hang makes it say nothing until release is called.
func (e *fakeEngine) hang() (release func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	hanging := make(chan struct{})
	e.hanging = hanging
	return sync.OnceFunc(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.hanging = nil
		close(hanging)
	})
}

// ServeHTTP implements http.Handler.
func (e *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	hanging := e.hanging
	e.mu.Unlock()
	if hanging != nil {
		select {
		case <-hanging:
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	switch path := r.URL.Path; { // with the version in front
	case strings.HasSuffix(path, "_ping"):
		_, _ = io.WriteString(w, "OK")
	case strings.HasSuffix(path, "info"):
		_, _ = fmt.Fprintf(w, `{"ID":"fake","Name":"fake","ServerVersion":"20.10.24","OSType":"linux","SystemTime":%q}`, time.Now().Format(time.RFC3339Nano))
	case strings.HasSuffix(path, "events"):
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	case strings.HasSuffix(path, "volumes"):
		_, _ = io.WriteString(w, `{"Volumes":[]}`)
	case strings.HasSuffix(path, "/json"):
		_, _ = io.WriteString(w, "[]")
	default:
		http.NotFound(w, r)
	}
}

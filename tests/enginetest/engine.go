package enginetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Options of a private engine. The zero value is what most tests want.
type Options struct {
	// LiveRestore keeps containers running while dockerd is away (killed, stopped or restarted).
	LiveRestore bool
	// IPTables lets dockerd write packet filter rules, so that containers reach the outside. Without it nothing on the host
	// changes but the bridge, and published ports still work from the host through docker-proxy.
	IPTables bool
	// Config holds further keys of dockerd's configuration file; they win over the harness's own.
	Config map[string]any
	// StartTimeout limits one start of dockerd; default 30 s.
	StartTimeout time.Duration
}

// Engine is one private dockerd. Its methods may be called from several goroutines.
type Engine struct {
	opts Options
	dir  string
	rec  record

	mu      sync.Mutex // guards what follows, and is held through every change of the process
	proc    process
	process *os.Process
	frozen  bool
	closed  bool
}

// record is what another process needs to know to remove this engine when its owner died. It stands in the engine's directory.
type record struct {
	Boot     string  `json:"boot"`
	Owner    process `json:"owner"`
	Daemon   process `json:"daemon"`
	Bridge   string  `json:"bridge"`
	Subnet   string  `json:"subnet"` // the first three numbers: "10.213.7"
	Cgroup   string  `json:"cgroup"`
	IPTables bool    `json:"iptables"`
}

// process names a process for good: a pid alone may belong to another process tomorrow.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // /proc/PID/stat, field 22: clock ticks after boot
}

// Socket is the path of the engine's API socket; shorter than 100 bytes.
func (e *Engine) Socket() string { return filepath.Join(e.dir, "d.sock") }

// Host is the socket as a value for DOCKER_HOST.
func (e *Engine) Host() string { return "unix://" + e.Socket() }

// Dir is the engine's directory; everything it writes is in there.
func (e *Engine) Dir() string { return e.dir }

// Bridge is the name of the engine's network bridge.
func (e *Engine) Bridge() string { return e.rec.Bridge }

// PID of the running dockerd; 0 while there is none.
func (e *Engine) PID() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.proc.alive() {
		return 0
	}
	return e.proc.PID
}

// Log is everything dockerd has written so far.
func (e *Engine) Log() string {
	b, _ := os.ReadFile(e.logFile())
	return string(b)
}

// logWithoutNoise is the log without the lines about dockerd's connections to its containerd.
func (e *Engine) logWithoutNoise() string {
	var b strings.Builder
	for line := range strings.Lines(e.Log()) {
		if !strings.Contains(line, "module=grpc") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func (e *Engine) dataRoot() string   { return filepath.Join(e.dir, "data") }
func (e *Engine) execRoot() string   { return filepath.Join(e.dir, "exec") }
func (e *Engine) pidFile() string    { return filepath.Join(e.dir, "pid") }
func (e *Engine) logFile() string    { return filepath.Join(e.dir, "log") }
func (e *Engine) configFile() string { return filepath.Join(e.dir, "daemon.json") }
func (e *Engine) recordFile() string { return filepath.Join(e.dir, "record.json") }

// APIError is a refusal by the engine.
type APIError struct {
	Method, Path string
	Status       int
	Message      string
}

func (e *APIError) Error() string {
	return fmt.Sprintf("%s %s: %d %s", e.Method, e.Path, e.Status, e.Message)
}

// API makes one call of the engine's HTTP API and returns the body of the reply. A body that is an [io.Reader] is sent as a tar
// stream, nil as nothing, anything else as JSON. A status of 400 and more is an [*APIError]. The context limits the call.
func (e *Engine) API(ctx context.Context, method, path string, body any) ([]byte, error) {
	return callAPI(ctx, "unix", e.Socket(), method, path, body)
}

func callAPI(ctx context.Context, network, address, method, path string, body any) ([]byte, error) {
	var reader io.Reader
	contentType := ""
	switch b := body.(type) {
	case nil:
	case io.Reader:
		reader, contentType = b, "application/x-tar"
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("%s %s: encode the request: %w", method, path, err)
		}
		reader, contentType = bytes.NewReader(encoded), "application/json"
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, reader)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	// No connection is kept: tests look for leaked goroutines, and an idle connection has two.
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		},
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer response.Body.Close()
	reply, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: read the reply: %w", method, path, err)
	}
	if response.StatusCode >= 400 {
		var m struct{ Message string }
		if json.Unmarshal(reply, &m) != nil || m.Message == "" {
			m.Message = strings.TrimSpace(string(reply))
		}
		return reply, &APIError{Method: method, Path: path, Status: response.StatusCode, Message: m.Message}
	}
	return reply, nil
}

// Ping tells whether an engine answers at a DOCKER_HOST of the kinds unix://, tcp:// and http://; the context limits the wait.
func Ping(ctx context.Context, host string) error {
	u, err := url.Parse(host)
	if err != nil {
		return fmt.Errorf("docker host %q: %w", host, err)
	}
	switch u.Scheme {
	case "unix":
		_, err = callAPI(ctx, "unix", u.Path, http.MethodGet, "/_ping", nil)
	case "tcp", "http":
		_, err = callAPI(ctx, "tcp", u.Host, http.MethodGet, "/_ping", nil)
	default:
		return fmt.Errorf("docker host %q: cannot ping the scheme %q", host, u.Scheme)
	}
	return err
}

// Ping asks the engine whether it is there.
func (e *Engine) Ping(ctx context.Context) error { return Ping(ctx, e.Host()) }

// Docker runs the real docker CLI against this engine and returns what it printed, without white space around it. It fails the
// test when the command fails.
func (e *Engine) Docker(t testing.TB, args ...string) string {
	t.Helper()
	out, err := e.DockerErr(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// DockerErr is [Engine.Docker] for a command that may fail, and for code without a test. It gives a command two minutes.
func (e *Engine) DockerErr(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "docker", args...)
	command.Env = append(environmentWithoutDocker(), "DOCKER_HOST="+e.Host(), "DOCKER_CONFIG="+filepath.Join(e.dir, "cli"))
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	out := strings.TrimSpace(stdout.String())
	if err != nil {
		return out, fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// environmentWithoutDocker is our environment without the variables that point a Docker client or daemon elsewhere.
func environmentWithoutDocker() []string {
	var kept []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DOCKER_") && !strings.HasPrefix(v, "NOTIFY_SOCKET=") {
			kept = append(kept, v)
		}
	}
	return kept
}

// Clean removes all containers, volumes, user-defined networks and images, so that the next test begins with an empty engine.
func (e *Engine) Clean(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := e.clean(ctx); err != nil {
		t.Fatalf("clean the engine: %v", err)
	}
}

func (e *Engine) clean(ctx context.Context) error {
	if err := e.removeContainers(ctx); err != nil {
		return err
	}
	var volumes struct{ Volumes []struct{ Name string } }
	if err := e.list(ctx, "/volumes", &volumes); err != nil {
		return err
	}
	var paths []string
	for _, v := range volumes.Volumes {
		paths = append(paths, "/volumes/"+url.PathEscape(v.Name)+"?force=1")
	}
	if err := e.removeAll(ctx, paths); err != nil {
		return err
	}
	if err := e.removeNetworks(ctx); err != nil {
		return err
	}
	// An image is removed with its untagged parents; what hangs off another image may go before its turn comes.
	for {
		var images []struct{ ID string }
		if err := e.list(ctx, "/images/json", &images); err != nil {
			return err
		}
		if len(images) == 0 {
			return nil
		}
		paths = nil
		for _, i := range images {
			paths = append(paths, "/images/"+i.ID+"?force=1")
		}
		if err := e.removeAll(ctx, paths); err != nil {
			return err
		}
	}
}

func (e *Engine) removeContainers(ctx context.Context) error {
	var containers []struct{ ID string }
	if err := e.list(ctx, "/containers/json?all=1", &containers); err != nil {
		return err
	}
	var paths []string
	for _, c := range containers {
		paths = append(paths, "/containers/"+c.ID+"?force=1&v=1")
	}
	return e.removeAll(ctx, paths)
}

func (e *Engine) removeNetworks(ctx context.Context) error {
	var networks []struct{ ID, Name string }
	if err := e.list(ctx, "/networks", &networks); err != nil {
		return err
	}
	var paths []string
	for _, n := range networks {
		if n.Name != "bridge" && n.Name != "host" && n.Name != "none" {
			paths = append(paths, "/networks/"+n.ID)
		}
	}
	return e.removeAll(ctx, paths)
}

func (e *Engine) list(ctx context.Context, path string, into any) error {
	reply, err := e.API(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(reply, into); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// removeAll deletes the given objects, four at a time. What is gone already, or being removed by somebody else, is no error.
func (e *Engine) removeAll(ctx context.Context, paths []string) error {
	var (
		wait   sync.WaitGroup
		slots  = make(chan struct{}, 4)
		errs   = make([]error, len(paths))
		isGone = func(err error) bool {
			var refusal *APIError
			return errors.As(err, &refusal) && (refusal.Status == http.StatusNotFound ||
				refusal.Status == http.StatusConflict && strings.Contains(refusal.Message, "already in progress"))
		}
	)
	for i, path := range paths {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			if _, err := e.API(ctx, http.MethodDelete, path, nil); err != nil && !isGone(err) {
				errs[i] = err
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// tail returns the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

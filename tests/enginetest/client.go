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

// Client calls an engine's API, and runs the docker CLI on it.
type Client struct {
	socket string
	// config is the CLI's own directory.
	config string
}

// At makes a client of the engine that listens at this socket; the docker CLI gets a configuration of its own in dir.
func At(socket, dir string) *Client {
	return &Client{socket: socket, config: filepath.Join(dir, "cli")}
}

// Socket is the path of the engine's API socket.
func (c *Client) Socket() string { return c.socket }

// Host is the socket as a value for DOCKER_HOST.
func (c *Client) Host() string { return "unix://" + c.socket }

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
func (c *Client) API(ctx context.Context, method, path string, body any) ([]byte, error) {
	return callAPI(ctx, "unix", c.socket, method, path, body)
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
func (c *Client) Ping(ctx context.Context) error { return Ping(ctx, c.Host()) }

// Docker runs the real docker CLI against this engine and returns what it printed, without white space around it. It fails the
// test when the command fails.
func (c *Client) Docker(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.DockerErr(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// DockerErr is [Client.Docker] for a command that may fail, and for code without a test. It gives a command two minutes.
func (c *Client) DockerErr(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "docker", args...)
	command.Env = c.Environment()
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	out := strings.TrimSpace(stdout.String())
	if err != nil {
		return out, fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// Environment is that of a docker CLI that speaks to this engine.
func (c *Client) Environment() []string {
	return append(environmentWithoutDocker(), "DOCKER_HOST="+c.Host(), "DOCKER_CONFIG="+c.config)
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
func (c *Client) Clean(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.clean(ctx); err != nil {
		t.Fatalf("clean the engine: %v", err)
	}
}

func (c *Client) clean(ctx context.Context) error {
	if err := c.removeContainers(ctx); err != nil {
		return err
	}
	var volumes struct{ Volumes []struct{ Name string } }
	if err := c.list(ctx, "/volumes", &volumes); err != nil {
		return err
	}
	var paths []string
	for _, v := range volumes.Volumes {
		paths = append(paths, "/volumes/"+url.PathEscape(v.Name)+"?force=1")
	}
	if err := c.removeAll(ctx, paths); err != nil {
		return err
	}
	if err := c.removeNetworks(ctx); err != nil {
		return err
	}
	// An image is removed with its untagged parents; what hangs off another image may go before its turn comes.
	for {
		var images []struct{ ID string }
		if err := c.list(ctx, "/images/json", &images); err != nil {
			return err
		}
		if len(images) == 0 {
			return nil
		}
		paths = nil
		for _, i := range images {
			paths = append(paths, "/images/"+i.ID+"?force=1")
		}
		if err := c.removeAll(ctx, paths); err != nil {
			return err
		}
	}
}

func (c *Client) removeContainers(ctx context.Context) error {
	var containers []struct{ ID string }
	if err := c.list(ctx, "/containers/json?all=1", &containers); err != nil {
		return err
	}
	var paths []string
	for _, c := range containers {
		paths = append(paths, "/containers/"+c.ID+"?force=1&v=1")
	}
	return c.removeAll(ctx, paths)
}

func (c *Client) removeNetworks(ctx context.Context) error {
	var networks []struct{ ID, Name string }
	if err := c.list(ctx, "/networks", &networks); err != nil {
		return err
	}
	var paths []string
	for _, n := range networks {
		if n.Name != "bridge" && n.Name != "host" && n.Name != "none" {
			paths = append(paths, "/networks/"+n.ID)
		}
	}
	return c.removeAll(ctx, paths)
}

func (c *Client) list(ctx context.Context, path string, into any) error {
	reply, err := c.API(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(reply, into); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// removeAll deletes the given objects, four at a time. What is gone already, or being removed by somebody else, is no error.
func (c *Client) removeAll(ctx context.Context, paths []string) error {
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
			if _, err := c.API(ctx, http.MethodDelete, path, nil); err != nil && !isGone(err) {
				errs[i] = err
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

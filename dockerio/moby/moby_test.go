package moby_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/moby"
	"github.com/rdd-desktop/rdd/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// socketPath is the path for a socket: a test's own directory would make it too long.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "moby")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return filepath.Join(dir, "d.sock")
}

// listen starts a fake engine; each connection is given to accept, which closes it.
func listen(t *testing.T, accept func(net.Conn)) (host string) {
	t.Helper()
	path := socketPath(t)
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Go(func() { accept(c) })
		}
	})
	t.Cleanup(func() { require.NoError(t, l.Close()); connections.Wait() })
	return "unix://" + path
}

// serve starts a fake engine over HTTP. Ping and negotiation work unless the handler sees them: it is given every path without
// its version.
func serve(t *testing.T, handler http.HandlerFunc) (host string) {
	t.Helper()
	path := socketPath(t)
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: handler}}
	server.Start()
	t.Cleanup(server.Close)
	return "unix://" + path
}

// pinged answers what every client asks first.
func pinged(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/_ping" {
			w.Header().Set("Api-Version", "1.41")
			return
		}
		next(w, r)
	}
}

// answer always answers the same.
func answer(status int, contentType, body string) http.HandlerFunc {
	return pinged(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func dial(t *testing.T, host string) dockerio.Engine {
	t.Helper()
	e, err := moby.Dialer{}.Dial(t.Context(), messages.Endpoint{Host: host})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// calls are all calls but Ping.
func calls(e dockerio.Engine) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"ask engine":        func(ctx context.Context) error { _, err := e.Info(ctx); return err },
		"list containers":   func(ctx context.Context) error { _, err := e.ListContainers(ctx); return err },
		"list images":       func(ctx context.Context) error { _, err := e.ListImages(ctx); return err },
		"list volumes":      func(ctx context.Context) error { _, err := e.ListVolumes(ctx); return err },
		`container "c"`:     func(ctx context.Context) error { _, err := e.InspectContainer(ctx, "c"); return err },
		`image "i:1"`:       func(ctx context.Context) error { _, err := e.InspectImage(ctx, "i:1"); return err },
		`volume "v"`:        func(ctx context.Context) error { _, err := e.InspectVolume(ctx, "v"); return err },
		`remove container`:  func(ctx context.Context) error { return e.RemoveContainer(ctx, "c") },
		`start container`:   func(ctx context.Context) error { return e.StartContainer(ctx, "c") },
		`stop container`:    func(ctx context.Context) error { return e.StopContainer(ctx, "c", time.Second) },
		`restart container`: func(ctx context.Context) error { return e.RestartContainer(ctx, "c", time.Second) },
		`kill container`:    func(ctx context.Context) error { return e.KillContainer(ctx, "c") },
		`pause container`:   func(ctx context.Context) error { return e.PauseContainer(ctx, "c") },
		`unpause container`: func(ctx context.Context) error { return e.UnpauseContainer(ctx, "c") },
		`remove image`:      func(ctx context.Context) error { return e.RemoveImage(ctx, "i:1") },
		`remove volume`:     func(ctx context.Context) error { return e.RemoveVolume(ctx, "v") },
		"read events": func(ctx context.Context) error {
			s, err := e.Events(ctx, dockerio.UnixTime(1))
			if err == nil {
				defer s.Close()
				_, err = s.Next()
			}
			return err
		},
	}
}

// bodiless calls do not read the answer of one that succeeds.
func bodiless(what string) bool {
	verb, _, _ := strings.Cut(what, " ")
	return slices.Contains([]string{"remove", "start", "stop", "restart", "kill", "pause", "unpause"}, verb)
}

func TestDial(t *testing.T) {
	for host, want := range map[string]error{
		"":                       messages.ErrUnsupported,
		"/var/run/docker.sock":   messages.ErrUnsupported,
		"unix://":                messages.ErrUnsupported,
		"unix://docker.sock":     messages.ErrInvalid,
		"ssh://me@far":           messages.ErrUnsupported,
		"fd://3":                 messages.ErrUnsupported,
		"http://far:2375":        messages.ErrUnsupported,
		"npipe:////./pipe/x":     messages.ErrUnsupported,
		"tcp://far":              messages.ErrInvalid,
		"tcp://:2375":            messages.ErrInvalid,
		"tcp://far:x":            messages.ErrInvalid,
		"unix:///run/d.sock":     nil,
		"tcp://127.0.0.1:2375":   nil,
		"tcp://[::1]:2375":       nil,
		"unix:///" + longName:    messages.ErrInvalid,
		"tcp://far:2375/a/b/../": nil,
	} {
		_, err := moby.Dialer{}.Dial(t.Context(), messages.Endpoint{Host: host})
		if want == nil {
			require.NoError(t, err, host)
			continue
		}
		require.ErrorIs(t, err, want, host)
		require.ErrorIs(t, err, messages.ErrPermanent, host)
		require.ErrorContains(t, err, "connect to engine")
	}
	_, err := moby.Dialer{}.Dial(t.Context(), messages.Endpoint{Host: "ssh://me@far"})
	require.ErrorContains(t, err, "ssh:// is not supported")
	_, err = moby.Dialer{}.Dial(t.Context(), messages.Endpoint{Host: "tcp://far:1", TLS: &messages.EndpointTLS{CAFile: "/no/such"}})
	require.ErrorIs(t, err, messages.ErrPermanent)
	_, err = moby.Dialer{}.Dial(t.Context(), messages.Endpoint{Host: "tcp://far:1", TLS: &messages.EndpointTLS{CertFile: "/no/such"}})
	require.ErrorIs(t, err, messages.ErrPermanent)
}

var longName = strings.Repeat("a", 200)

func TestAPIRange(t *testing.T) {
	oldest, newest := moby.APIRange()
	require.Regexp(t, `^1\.\d+$`, oldest)
	require.Regexp(t, `^1\.\d+$`, newest)
}

func TestErrors_Connection(t *testing.T) {
	refused := func(t *testing.T) string {
		path := socketPath(t)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		require.NoError(t, err)
		l.SetUnlinkOnClose(false)
		require.NoError(t, l.Close())
		return "unix://" + path
	}
	for name, tt := range map[string]struct {
		host  func(t *testing.T) string
		cause error
		says  string
	}{
		"no such file":       {host: func(t *testing.T) string { return "unix://" + socketPath(t) }, cause: syscall.ENOENT, says: "no such file"},
		"connection refused": {host: refused, cause: syscall.ECONNREFUSED, says: "connection refused"},
		"closed at once":     {host: func(t *testing.T) string { return listen(t, func(c net.Conn) { _ = c.Close() }) }},
		"tcp": {cause: syscall.ECONNREFUSED, host: func(t *testing.T) string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			require.NoError(t, l.Close())
			return "tcp://" + l.Addr().String()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			e := dial(t, tt.host(t))
			all := calls(e)
			all["ping"] = e.Ping
			for what, call := range all {
				err := call(t.Context())
				require.ErrorIs(t, err, messages.ErrEngineUnreachable, what)
				require.ErrorIs(t, err, messages.ErrTransient, what)
				require.ErrorContains(t, err, what)
				require.ErrorContains(t, err, tt.says)
				require.NotContains(t, err.Error(), "%2F", "the address of a request means nothing to a reader")
				if tt.cause != nil {
					require.ErrorIs(t, err, tt.cause, what)
				}
			}
		})
	}
}

func TestErrors_PermissionDenied(t *testing.T) {
	// The kernel refuses root nothing. A path through a file does refuse; permission is what the dial says here.
	if os.Geteuid() == 0 {
		t.Skip("root may open every socket; TestFailed_PermissionDenied has the rule")
	}
	path := socketPath(t)
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, os.Chmod(path, 0))
	err = dial(t, "unix://"+path).Ping(t.Context())
	require.ErrorIs(t, err, messages.ErrForbidden)
	require.ErrorIs(t, err, messages.ErrPermanent)
}

func TestErrors_Status(t *testing.T) {
	const api, html = "application/json", "text/html"
	for _, tt := range []struct {
		status     int
		media, msg string
		want       error
		class      error
	}{
		{404, api, "No such container: c", messages.ErrNotFound, messages.ErrNotFound},
		{404, api, "whatever an engine says", messages.ErrNotFound, messages.ErrNotFound},
		{404, api, "page not found", messages.ErrUnavailable, messages.ErrTransient},
		{404, html, "<h1>404</h1>", messages.ErrUnavailable, messages.ErrTransient},
		{404, api, "", messages.ErrNotFound, messages.ErrNotFound},
		{409, api, "remove v: volume is in use - [abc]", messages.ErrInUse, messages.ErrConflict},
		{409, api, "conflict: unable to delete 1 (cannot be forced) - image is being used by running container 2", messages.ErrInUse, messages.ErrConflict},
		{409, api, "conflict: unable to remove repository reference \"i:1\" (must force) - container 2 is using its referenced image 1", messages.ErrInUse, messages.ErrConflict},
		{409, api, "removal of container c is already in progress", messages.ErrConflict, messages.ErrConflict},
		{409, api, "conflict: unable to delete 1 (must be forced) - image is referenced in multiple repositories", messages.ErrConflict, messages.ErrConflict},
		{400, html, "<h1>bad request</h1>", messages.ErrUnavailable, messages.ErrTransient},
		{400, api, "invalid reference format", messages.ErrInvalid, messages.ErrPermanent},
		{400, api, "client version 1.41 is too old. Minimum supported API version is 1.44", messages.ErrUnavailable, messages.ErrTransient},
		{401, api, "no", messages.ErrForbidden, messages.ErrPermanent},
		{403, api, "no", messages.ErrForbidden, messages.ErrPermanent},
		{429, api, "slow down", messages.ErrUnavailable, messages.ErrTransient},
		{500, api, "driver failed", messages.ErrUnavailable, messages.ErrTransient},
		{502, html, "<h1>bad gateway</h1>", messages.ErrUnavailable, messages.ErrTransient},
		{503, api, "starting", messages.ErrUnavailable, messages.ErrTransient},
		{418, api, "teapot", messages.ErrInvalid, messages.ErrPermanent},
	} {
		body := tt.msg
		if tt.media == api {
			body = fmt.Sprintf(`{"message":%q}`, tt.msg)
		}
		t.Run(fmt.Sprint(tt.status, " ", tt.msg), func(t *testing.T) {
			for what, call := range calls(dial(t, serve(t, answer(tt.status, tt.media, body)))) {
				err := call(t.Context())
				require.ErrorIs(t, err, tt.want, what)
				require.ErrorIs(t, err, tt.class, what)
				require.ErrorContains(t, err, what)
				require.ErrorContains(t, err, tt.msg)
				require.NotContains(t, err.Error(), "\n")
			}
		})
	}
}

func TestErrors_Garbage(t *testing.T) {
	const api = "application/json"
	for name, handler := range map[string]http.HandlerFunc{
		"no JSON":                   answer(200, api, "<html>"),
		"nothing":                   answer(200, api, ""),
		"cut":                       answer(200, api, `[{"Id":"abc","Name":"x`),
		"another type":              answer(200, api, `"text"`),
		"a number":                  answer(200, api, `[1]`),
		"binary":                    answer(200, api, "\x00\xff\xfe\x01"),
		"a field of another type":   answer(200, api, `[{"Id":5,"Name":[]}]`),
		"error, no JSON":            answer(500, api, "<html>"),
		"not found, no JSON":        answer(404, api, "<html>"),
		"not found, cut":            answer(404, api, `{"message":"No such`),
		"conflict, no JSON":         answer(409, api, "in use"),
		"not found, another type":   answer(404, api, `[]`),
		"redirect":                  answer(301, "text/plain", "elsewhere"),
		"body shorter than it says": cutBody(200),
		"error, shorter":            cutBody(404),
	} {
		t.Run(name, func(t *testing.T) {
			for what, call := range calls(dial(t, serve(t, handler))) {
				if bodiless(what) && !strings.Contains(name, ",") {
					continue // the body of a success is not read
				}
				if what == "read events" && name == "nothing" {
					continue // a stream may be empty
				}
				err := call(t.Context())
				require.ErrorIs(t, err, messages.ErrTransient, what)
				require.ErrorContains(t, err, what)
			}
		})
	}
	t.Run("not HTTP", func(t *testing.T) {
		host := listen(t, func(c net.Conn) {
			defer c.Close()
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "SSH-2.0-OpenSSH\r\n")
		})
		for what, call := range calls(dial(t, host)) {
			require.ErrorIs(t, call(t.Context()), messages.ErrTransient, what)
		}
	})
	t.Run("objects without identity", func(t *testing.T) {
		for what, call := range calls(dial(t, serve(t, answer(200, api, "{}")))) {
			if strings.Contains(what, "volumes") || bodiless(what) && what != "remove image" || what == "read events" {
				continue
			}
			require.ErrorIs(t, call(t.Context()), messages.ErrTransient, what)
		}
		e := dial(t, serve(t, answer(200, api, `{"Volumes":[{}]}`)))
		_, err := e.ListVolumes(t.Context())
		require.ErrorIs(t, err, messages.ErrTransient)
		e = dial(t, serve(t, answer(200, api, `[{}]`)))
		_, err = e.ListContainers(t.Context())
		require.ErrorIs(t, err, messages.ErrTransient)
		_, err = e.ListImages(t.Context())
		require.ErrorIs(t, err, messages.ErrTransient)
	})
}

// cutBody announces more than it sends.
func cutBody(status int) http.HandlerFunc {
	return pinged(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"message":"No such container`)
	})
}

// hang answers nothing until the client goes.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func TestErrors_Deadline(t *testing.T) {
	stalled := pinged(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `[{"Id":`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	for name, handler := range map[string]http.HandlerFunc{"hangs": hang, "hangs after the ping": pinged(hang), "hangs in the body": stalled} {
		t.Run(name, func(t *testing.T) {
			for what, call := range calls(dial(t, serve(t, handler))) {
				if name == "hangs in the body" && bodiless(what) {
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				err := call(ctx)
				cancel()
				require.ErrorIs(t, err, context.DeadlineExceeded, what)
				if what == "read events" && name == "hangs in the body" {
					continue // the error of a stream is that of its context
				}
				require.ErrorIs(t, err, messages.ErrTimeout, what)
				require.ErrorIs(t, err, messages.ErrTransient, what)
				require.ErrorContains(t, err, what)
			}
		})
	}
}

// A call never waits for the negotiation of another longer than its own deadline.
func TestNegotiation_OneSlow(t *testing.T) {
	e := dial(t, serve(t, hang))
	long, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		_, err := e.Info(long)
		require.ErrorIs(t, err, context.Canceled)
	})
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	_, err := e.Info(ctx)
	require.ErrorIs(t, err, messages.ErrTimeout)
	cancel()
	group.Wait()
}

func TestNegotiation(t *testing.T) {
	var paths sync.Map
	var broken atomic.Bool
	broken.Store(true)
	e := dial(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		paths.Store(r.URL.Path, r.UserAgent())
		if broken.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		pinged(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"ID":"x","ServerVersion":"20.10.24","SystemTime":"2024-05-01T10:00:00.5Z"}`)
		})(w, r)
	}))
	_, err := e.Info(t.Context())
	require.ErrorIs(t, err, messages.ErrTransient)
	broken.Store(false)
	info, err := e.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, dockerio.Info{ID: "x", Version: "20.10.24", APIVersion: "1.41", Now: dockerio.ParseTime("2024-05-01T10:00:00.5Z")}, info)
	agent, asked := paths.Load("/v1.41/info")
	require.True(t, asked)
	require.Equal(t, "rdd", agent)
	paths.Range(func(path, _ any) bool {
		require.NotContains(t, path, "/v1.5", "a request went out before the version was known")
		return true
	})
}

func TestNegotiation_TooOld(t *testing.T) {
	e := dial(t, serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.24") }))
	_, err := e.Info(t.Context())
	require.ErrorIs(t, err, messages.ErrUnsupported)
	require.ErrorIs(t, err, messages.ErrPermanent)
	require.ErrorContains(t, err, "1.24")
}

func TestInfo_Clock(t *testing.T) {
	for clock, want := range map[string]dockerio.Time{
		`"2024-05-01T12:00:00.000000001+02:00"`: dockerio.ParseTime("2024-05-01T10:00:00.000000001Z"),
		`""`:                                    {},
		`"yesterday"`:                           {},
		`"0001-01-01T00:00:00Z"`:                {},
		`null`:                                  {},
	} {
		e := dial(t, serve(t, answer(200, "application/json", `{"ID":"x","SystemTime":`+clock+`}`)))
		info, err := e.Info(t.Context())
		require.NoError(t, err)
		require.True(t, want.Equal(info.Now), "%s: %s", clock, info.Now)
	}
}

// Null where a list should be is what some engines say for "none".
func TestNull(t *testing.T) {
	e := dial(t, serve(t, answer(200, "application/json", "null")))
	containers, err := e.ListContainers(t.Context())
	require.NoError(t, err)
	require.Empty(t, containers)
	images, err := e.ListImages(t.Context())
	require.NoError(t, err)
	require.Empty(t, images)
	volumes, err := e.ListVolumes(t.Context())
	require.NoError(t, err)
	require.Empty(t, volumes)
	e = dial(t, serve(t, answer(200, "application/json", `[{"Id":"sha256:1","RepoTags":null,"RepoDigests":null}]`)))
	images, err = e.ListImages(t.Context())
	require.NoError(t, err)
	require.Equal(t, []dockerio.ImageRow{{ID: "sha256:1"}}, images)
}

// A name that is no name must never become the path of something else.
func TestNames(t *testing.T) {
	asked := make(chan string, 10)
	e := dial(t, serve(t, pinged(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.URL.EscapedPath()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "[]")
	})))
	for _, name := range []string{"", " ", "/", ".", "..", "../containers/c", "a/../../volumes/v", "a//b", "a/", " a", "a/./b"} {
		require.ErrorIs(t, e.RemoveContainer(t.Context(), name), messages.ErrInvalid, name)
		require.ErrorIs(t, e.StartContainer(t.Context(), name), messages.ErrInvalid, name)
		require.ErrorIs(t, e.RemoveImage(t.Context(), name), messages.ErrInvalid, name)
		require.ErrorIs(t, e.RemoveVolume(t.Context(), name), messages.ErrInvalid, name)
		_, err := e.InspectContainer(t.Context(), name)
		require.ErrorIs(t, err, messages.ErrInvalid, name)
		_, err = e.InspectImage(t.Context(), name)
		require.ErrorIs(t, err, messages.ErrInvalid, name)
		_, err = e.InspectVolume(t.Context(), name)
		require.ErrorIs(t, err, messages.ErrInvalid, name)
	}
	require.Empty(t, asked)
	require.NoError(t, e.RemoveImage(t.Context(), "host:5000/a/b:1"))
	require.Equal(t, "DELETE /v1.41/images/host:5000/a/b:1", <-asked)
	require.NoError(t, e.RemoveVolume(t.Context(), "a?force=1#b"))
	require.Equal(t, "DELETE /v1.41/volumes/a%3Fforce=1%23b", <-asked)
}

func TestRemove_Asks(t *testing.T) {
	asked := make(chan string, 10)
	e := dial(t, serve(t, pinged(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.RequestURI()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "[]")
	})))
	require.NoError(t, e.RemoveContainer(t.Context(), "c"))
	require.Equal(t, "/v1.41/containers/c?force=1", <-asked, "its volumes stay")
	require.NoError(t, e.RemoveImage(t.Context(), "i"))
	require.Equal(t, "/v1.41/images/i", <-asked, "never by force")
	require.NoError(t, e.RemoveVolume(t.Context(), "v"))
	require.Equal(t, "/v1.41/volumes/v", <-asked, "never by force")
}

func TestLifecycle_Asks(t *testing.T) {
	asked := make(chan string, 10)
	e := dial(t, serve(t, pinged(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.RequestURI()
		w.WriteHeader(http.StatusNoContent)
	})))
	require.NoError(t, e.StopContainer(t.Context(), "c", 1500*time.Millisecond))
	require.Equal(t, "/v1.41/containers/c/stop?t=2", <-asked, "whole seconds, rounded up")
	require.NoError(t, e.StopContainer(t.Context(), "c", 0))
	require.Equal(t, "/v1.41/containers/c/stop?t=0", <-asked)
	require.NoError(t, e.RestartContainer(t.Context(), "c", time.Minute))
	require.Equal(t, "/v1.41/containers/c/restart?t=60", <-asked)
	require.NoError(t, e.KillContainer(t.Context(), "c"))
	require.Equal(t, "/v1.41/containers/c/kill?signal=KILL", <-asked)
}

// Ping has a connection of its own: that a call hangs, or that all do, does not hold it up.
func TestPing_OwnConnection(t *testing.T) {
	peers := make(chan string, 100)
	e := dial(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		peers <- r.URL.Path
		pinged(hang)(w, r)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() { _, _ = e.ListContainers(ctx) })
	}
	for hanging := 0; hanging < 20; {
		if strings.HasSuffix(<-peers, "/json") {
			hanging++
		}
	}
	for range 3 {
		require.NoError(t, e.Ping(t.Context()))
	}
	cancel()
	group.Wait()
}

func TestEvents_Stream(t *testing.T) {
	const good = `{"Type":"container","Action":"start","Actor":{"ID":"c","Attributes":{"name":"web"}},"time":5,"timeNano":5000000001}` + "\n"
	for name, tt := range map[string]struct {
		body string
		eof  bool
	}{
		"ends":         {body: good, eof: true},
		"garbage":      {body: good + "<html>"},
		"cut":          {body: good + `{"Type":"conta`},
		"another type": {body: good + `[]`},
		"odd fields":   {body: good + `{"Type":{},"Actor":"x"}`},
	} {
		t.Run(name, func(t *testing.T) {
			e := dial(t, serve(t, answer(200, "application/json", tt.body)))
			s, err := e.Events(t.Context(), dockerio.UnixTime(1))
			require.NoError(t, err)
			defer s.Close()
			got, err := s.Next()
			require.NoError(t, err)
			require.Equal(t, dockerio.Event{Type: "container", Action: "start", ID: "c", Attributes: map[string]string{"name": "web"},
				Time: dockerio.UnixTime(5).Add(1)}, got)
			_, err = s.Next()
			if tt.eof {
				require.Equal(t, io.EOF, err)
			} else {
				require.ErrorIs(t, err, messages.ErrTransient)
				require.ErrorContains(t, err, "read events")
			}
			_, again := s.Next()
			require.Equal(t, err, again, "the end stays")
		})
	}
	t.Run("killed", func(t *testing.T) {
		e := dial(t, serve(t, pinged(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, good)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})))
		s, err := e.Events(t.Context(), dockerio.UnixTime(1))
		require.NoError(t, err)
		_, err = s.Next()
		require.NoError(t, err)
		_, err = s.Next()
		require.ErrorIs(t, err, messages.ErrEngineUnreachable)
		require.NoError(t, s.Close())
	})
	t.Run("since", func(t *testing.T) {
		asked := make(chan string, 2)
		e := dial(t, serve(t, pinged(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.RawQuery })))
		for since, want := range map[dockerio.Time]string{{}: "", dockerio.UnixTime(7).Add(9): "since=7.000000009"} {
			s, err := e.Events(t.Context(), since)
			require.NoError(t, err)
			require.Equal(t, want, <-asked)
			require.NoError(t, s.Close())
		}
	})
	t.Run("closed unread", func(t *testing.T) {
		e := dial(t, serve(t, answer(200, "application/json", strings.Repeat(good, 1000))))
		s, err := e.Events(t.Context(), dockerio.UnixTime(1))
		require.NoError(t, err)
		require.NoError(t, s.Close())
		_, err = s.Next()
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(answer(200, "application/json", "[]"))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of clients that refuse it
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(ca, block, 0o600))
	host := "tcp://" + server.Listener.Addr().String()
	list := func(files *messages.EndpointTLS) error {
		e, err := moby.Dialer{}.Dial(t.Context(), messages.Endpoint{Host: host, TLS: files})
		require.NoError(t, err)
		defer e.Close()
		_, err = e.ListContainers(t.Context())
		return err
	}
	require.NoError(t, list(&messages.EndpointTLS{CAFile: ca}))
	require.NoError(t, list(&messages.EndpointTLS{SkipVerify: true}))
	err := list(&messages.EndpointTLS{})
	require.ErrorIs(t, err, messages.ErrForbidden)
	var untrusted *tls.CertificateVerificationError
	require.True(t, errors.As(err, &untrusted))
	require.ErrorIs(t, list(nil), messages.ErrTransient, "an engine with TLS spoken to without")
}

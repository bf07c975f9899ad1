package enginetest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// backend is a stand-in for an engine: it echoes, and streams a line whenever it is told to.
type backend struct {
	socket string
	served atomic.Int32
	lines  chan string
}

// newProxy starts a backend and a proxy in front of it, and looks for leaked goroutines when the test ends.
func newProxy(t *testing.T) (*Proxy, *backend) {
	t.Helper()
	running := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, running) })
	dir, err := os.MkdirTemp("", "rdd-")
	require.NoError(t, err)
	b := &backend{socket: filepath.Join(dir, "s"), lines: make(chan string)}
	listener, err := net.Listen("unix", b.socket)
	require.NoError(t, err)
	server := &http.Server{Handler: b}
	var wait sync.WaitGroup
	wait.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		wait.Wait()
		_ = os.RemoveAll(dir)
	})
	p := NewProxy(t, b.socket)
	return p, b
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.served.Add(1)
	if r.URL.Path != "/v1.41/events" {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, body)
		return
	}
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case line := <-b.lines:
			fmt.Fprintln(w, line)
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// call makes one request through the proxy on a connection of its own.
func call(ctx context.Context, p *Proxy, method, path string) (string, error) {
	body, err := callAPI(ctx, "unix", p.Socket(), method, path, nil)
	return string(body), err
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// stream opens the events through the proxy.
func stream(t *testing.T, p *Proxy) *bufio.Reader {
	t.Helper()
	conn, err := net.Dial("unix", p.Socket())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	_, err = io.WriteString(conn, "GET /v1.41/events HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil) // comes before the first event
	require.NoError(t, err)
	return bufio.NewReader(response.Body)
}

func line(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	require.NoError(t, err)
	return s
}

func TestProxyPassesRequestsAndCounts(t *testing.T) {
	p, _ := newProxy(t)
	reply, err := callAPI(t.Context(), "unix", p.Socket(), http.MethodPost, "/v1.41/containers/a/start", bytes.NewReader([]byte("body")))
	require.NoError(t, err)
	require.Equal(t, "POST /v1.41/containers/a/start body", string(reply))
	_, err = call(t.Context(), p, http.MethodGet, "/containers/b/json?size=1")
	require.NoError(t, err)

	require.Equal(t, 1, p.Count("POST", "/containers/*/start"))
	require.Equal(t, 0, p.Count("GET", "/containers/*/start"))
	require.Equal(t, 2, p.Count("", "/containers/*/*"))
	require.Equal(t, "1", p.Calls(Route("GET", "/containers/*/json"))[0].Query.Get("size"))
	require.NoError(t, p.Await(within(t, time.Second), Any, 2))
	require.ErrorIs(t, p.Await(within(t, time.Millisecond), Any, 3), context.DeadlineExceeded)
	p.ResetCalls()
	require.Empty(t, p.Calls(Any))
}

func TestProxyPassesStreamsAsTheyCome(t *testing.T) {
	p, b := newProxy(t)
	events := stream(t, p)
	for _, s := range []string{"one", "two"} {
		b.lines <- s
		require.Equal(t, s+"\n", line(t, events))
	}
}

func TestProxyHold(t *testing.T) {
	p, _ := newProxy(t)
	undo := p.Hold(Route("GET", "/slow"), time.Hour)
	_, err := call(within(t, 20*time.Millisecond), p, http.MethodGet, "/slow")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = call(t.Context(), p, http.MethodGet, "/other")
	require.NoError(t, err)
	undo()
	undo()
	p.Hold(Any, time.Millisecond)
	_, err = call(t.Context(), p, http.MethodGet, "/slow")
	require.NoError(t, err)
}

func TestProxyHangReleases(t *testing.T) {
	p, b := newProxy(t)
	release := p.Hang(Route("GET", "/inspect"))
	done := make(chan error)
	go func() {
		_, err := call(t.Context(), p, http.MethodGet, "/v1.41/inspect")
		done <- err
	}()
	require.NoError(t, p.Await(within(t, time.Second), Any, 1))
	require.Zero(t, b.served.Load())
	release()
	require.NoError(t, <-done)
	require.EqualValues(t, 1, b.served.Load())
}

func TestProxyFailsAndDropsACountOfRequests(t *testing.T) {
	p, b := newProxy(t)
	p.Fail(Route("DELETE", "/volumes/*"), http.StatusConflict, 1)
	_, err := call(t.Context(), p, http.MethodDelete, "/volumes/v")
	var refusal *APIError
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, http.StatusConflict, refusal.Status)
	require.Contains(t, refusal.Message, "/volumes/v")

	p.Drop(Route("DELETE", "/volumes/*"), 1)
	_, err = call(t.Context(), p, http.MethodDelete, "/volumes/v")
	require.ErrorIs(t, err, io.EOF)
	require.Zero(t, b.served.Load())

	p.DropReply(Route("DELETE", "/volumes/*"), 1)
	_, err = call(t.Context(), p, http.MethodDelete, "/volumes/v")
	require.ErrorIs(t, err, io.EOF)
	require.EqualValues(t, 1, b.served.Load(), "the engine has done it")

	_, err = call(t.Context(), p, http.MethodDelete, "/volumes/v")
	require.NoError(t, err)
	undo := p.Fail(Any, http.StatusInternalServerError, -1)
	for range 3 {
		_, err = call(t.Context(), p, http.MethodGet, "/x")
		require.ErrorContains(t, err, "500")
	}
	undo()
	_, err = call(t.Context(), p, http.MethodGet, "/x")
	require.NoError(t, err)
}

func TestProxyRewritesReplies(t *testing.T) {
	p, b := newProxy(t)
	p.Rewrite(Route("GET", "/info"), func(body []byte) []byte { return append(body, "and more"...) })
	p.RewriteLines(Route("GET", "/events"), func(l []byte) []byte {
		if bytes.HasPrefix(l, []byte("hide")) {
			return nil
		}
		return append([]byte("seen "), l...)
	})
	reply, err := call(t.Context(), p, http.MethodGet, "/info")
	require.NoError(t, err)
	require.Equal(t, "GET /info and more", reply)

	events := stream(t, p)
	for _, s := range []string{"one", "hide this", "two"} {
		b.lines <- s
	}
	require.Equal(t, "seen one\n", line(t, events))
	require.Equal(t, "seen two\n", line(t, events))
}

func TestProxyCut(t *testing.T) {
	p, b := newProxy(t)
	events := stream(t, p)
	b.lines <- "one"
	require.Equal(t, "one\n", line(t, events))
	p.Cut()
	_, err := events.ReadString('\n')
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = call(t.Context(), p, http.MethodGet, "/x")
	require.NoError(t, err)
}

func TestProxyBlackholeHoldsBytes(t *testing.T) {
	p, b := newProxy(t)
	events := stream(t, p)
	p.Blackhole(true)
	p.Blackhole(true)
	_, err := call(within(t, 20*time.Millisecond), p, http.MethodGet, "/x")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Zero(t, p.Count("GET", "/x"))
	b.lines <- "one"
	p.Blackhole(false)
	require.Equal(t, "one\n", line(t, events))
	_, err = call(t.Context(), p, http.MethodGet, "/x")
	require.NoError(t, err)
}

func TestProxyRefuseAndSlam(t *testing.T) {
	p, b := newProxy(t)
	events := stream(t, p)
	p.Refuse(true)
	p.Refuse(true)
	_, err := call(t.Context(), p, http.MethodGet, "/x")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	b.lines <- "one"
	require.Equal(t, "one\n", line(t, events), "a connection that exists goes on")
	p.Refuse(false)
	_, err = call(t.Context(), p, http.MethodGet, "/x")
	require.NoError(t, err)

	p.Slam(true)
	_, err = call(t.Context(), p, http.MethodGet, "/x")
	require.Error(t, err)
	require.NotErrorIs(t, err, syscall.ECONNREFUSED)
	p.Slam(false)
	_, err = call(t.Context(), p, http.MethodGet, "/x")
	require.NoError(t, err)
}

func TestProxyClosesInTheMiddleOfEverything(t *testing.T) {
	for name, fault := range map[string]func(*Proxy){
		"nothing":   func(*Proxy) {},
		"hold":      func(p *Proxy) { p.Hold(Route("", "/x"), time.Hour) },
		"hang":      func(p *Proxy) { p.Hang(Route("", "/x")) },
		"blackhole": func(p *Proxy) { p.Blackhole(true) },
		"refuse":    func(p *Proxy) { p.Refuse(true) },
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := newProxy(t)
			events := stream(t, p)
			fault(p)
			done := make(chan struct{})
			go func() {
				_, _ = call(t.Context(), p, http.MethodGet, "/x")
				close(done)
			}()
			if name == "hold" || name == "hang" {
				require.NoError(t, p.Await(within(t, time.Second), Route("", "/x"), 1))
			}
			p.Close()
			p.Close()
			<-done
			_, err := events.ReadString('\n')
			require.Error(t, err)
			require.NoFileExists(t, p.Socket())
			require.Error(t, p.Await(t.Context(), Any, 100))
			p.Refuse(false)
			_, err = call(t.Context(), p, http.MethodGet, "/x")
			require.Error(t, err)
		})
	}
}

func TestProxyWithARealEngine(t *testing.T) {
	e := ForTest(t)
	e.Clean(t)
	e.ImportBusybox(t, "busybox")
	p := e.Proxy(t)
	through := At(p.Socket(), t.TempDir())
	through.Docker(t, "run", "-d", "--name", "web", "busybox", "sleep", "1000")
	require.Equal(t, "hello", through.Docker(t, "exec", "web", "echo", "hello"), "an upgraded connection")
	require.Equal(t, "hi", through.Docker(t, "run", "--rm", "busybox", "echo", "hi"))
	require.Equal(t, 1, p.Count("POST", "/exec/*/start"))

	events := stream(t, p)
	e.Docker(t, "pause", "web")
	require.Contains(t, line(t, events), `"pause"`)
	p.Fail(Route("POST", "/containers/*/unpause"), http.StatusInternalServerError, 1)
	_, err := through.DockerErr("unpause", "web")
	require.ErrorContains(t, err, "fails as told")
	require.NoError(t, e.Kill())
	_, err = events.ReadString('\n')
	require.Error(t, err)
	_, err = call(t.Context(), p, http.MethodGet, "/_ping")
	require.Error(t, err)
	ForTest(t) // brings it back
	_, err = call(t.Context(), p, http.MethodGet, "/_ping")
	require.NoError(t, err)
}

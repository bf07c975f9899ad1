package enginetest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Match picks requests; see [Route] and [Any].
type Match = func(*http.Request) bool

// Any matches every request.
func Any(*http.Request) bool { return true }

// Route matches a method ("" for all) and a path as [path.Match] does, without the version in front: a request of
// /v1.41/containers/abc/json matches "/containers/*/json".
func Route(method, pattern string) Match {
	if _, err := path.Match(pattern, ""); err != nil {
		panic(fmt.Sprintf("enginetest.Route(%q): %v", pattern, err))
	}
	return func(r *http.Request) bool {
		ok, _ := path.Match(pattern, unversioned(r.URL.Path))
		return ok && (method == "" || method == r.Method)
	}
}

var version = regexp.MustCompile(`^/v[0-9]+\.[0-9]+/`)

func unversioned(p string) string {
	if v := version.FindString(p); v != "" {
		return p[len(v)-1:]
	}
	return p
}

// Proxy stands between a client and an engine, on a socket of its own, and does to the traffic what the network, a tunnel or a
// broken engine would. It passes streams (events, logs) and upgraded connections (attach, exec) on as they come.
//
// Faults of requests (Hold, Hang, Fail, Drop, DropReply, Rewrite) apply to requests that match, in the order in which they were
// set; each returns a function that takes the fault back. Faults of the connection (Cut, Blackhole, Refuse) apply to all.
type Proxy struct {
	socket   string
	tempDir  string
	forward  *httputil.ReverseProxy
	server   *http.Server
	wait     sync.WaitGroup // the accept loops
	handlers sync.WaitGroup // the requests in the hands of the proxy

	changing sync.Mutex   // held by what opens and closes the listener
	listener net.Listener // nil while refusing
	closed   chan struct{}

	mu      sync.Mutex
	conns   map[*proxyConn]struct{}
	silence chan struct{} // not nil while blackholed; closed at the end of it
	slam    bool
	faults  []*fault
	calls   []Call
	news    chan struct{} // closed when calls grows
}

// Call is one request as the proxy saw it, whatever became of it.
type Call struct {
	Time   time.Time
	Method string
	Path   string // without the version
	Query  url.Values
}

// fault is one change of the traffic.
type fault struct {
	match Match
	left  int           // how many requests it still applies to; negative: all
	undo  chan struct{} // closed when the fault was taken back
	once  sync.Once

	// before runs ahead of the engine, and tells whether the request goes on; nil = it does.
	before func(f *fault, w http.ResponseWriter, r *http.Request) (goOn bool)
	// mute closes the connection instead of passing on the reply.
	mute bool
	// change makes another reply of the engine's, as a whole or line by line; nil = none.
	change func([]byte) []byte
	lines  bool
}

// NewProxy starts a proxy in front of an engine's socket and closes it when the test ends.
func NewProxy(t testing.TB, engineSocket string) *Proxy {
	t.Helper()
	p, err := StartProxy(engineSocket)
	if err != nil {
		t.Fatalf("start the proxy: %v", err)
	}
	t.Cleanup(p.Close)
	return p
}

// Proxy starts a proxy in front of this engine and closes it when the test ends.
func (e *Engine) Proxy(t testing.TB) *Proxy {
	t.Helper()
	return NewProxy(t, e.Socket())
}

// StartProxy is [NewProxy] for code without a test.
func StartProxy(engineSocket string) (*Proxy, error) {
	parent := os.TempDir()
	if len(parent) > 60 {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "rdd-proxy-")
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		socket:  filepath.Join(dir, "p.sock"),
		tempDir: dir,
		conns:   map[*proxyConn]struct{}{},
		closed:  make(chan struct{}),
		news:    make(chan struct{}),
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", engineSocket)
		},
		DisableCompression: true,
		// A connection an engine closed while it was idle must not fail a request that the client would have made on a new one.
		DisableKeepAlives: true,
	}
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	p.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine"
			r.Out.Host = r.In.Host
		},
		Transport:      transport,
		FlushInterval:  -1,
		ErrorLog:       quiet,
		ModifyResponse: changeReply,
		// The engine is not there, or broke the connection: so does the proxy.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	p.server = &http.Server{Handler: http.HandlerFunc(p.serve), ErrorLog: quiet}
	if err := p.listen(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return p, nil
}

// Socket is the path that clients connect to.
func (p *Proxy) Socket() string { return p.socket }

// Host is the socket as a value for DOCKER_HOST.
func (p *Proxy) Host() string { return "unix://" + p.socket }

// listen opens the socket and begins to accept. The caller holds p.changing, or is the only one to know p.
func (p *Proxy) listen() error {
	if err := os.Remove(p.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.socket, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false) // a client of a dead server finds its socket, and is refused
	p.listener = l
	p.wait.Go(func() { _ = p.server.Serve(trackingListener{l, p}) })
	return nil
}

func (p *Proxy) isClosed() bool {
	select {
	case <-p.closed:
		return true
	default:
		return false
	}
}

// Close ends all connections and everything that waits, removes the socket, and returns when nothing of the proxy runs any more. A
// second call does nothing.
func (p *Proxy) Close() {
	p.changing.Lock()
	defer p.changing.Unlock()
	if p.isClosed() {
		return
	}
	p.mu.Lock()
	close(p.closed)
	p.mu.Unlock()
	_ = p.server.Close()
	p.wait.Wait()
	p.Cut() // connections that were upgraded are not the server's any more
	p.handlers.Wait()
	_ = os.RemoveAll(p.tempDir)
}

// Hold delays matching requests before they are passed on.
func (p *Proxy) Hold(match Match, d time.Duration) (undo func()) {
	return p.add(&fault{match: match, left: -1, before: func(f *fault, _ http.ResponseWriter, r *http.Request) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		p.pause(f, r, timer.C)
		return true
	}})
}

// Hang keeps matching requests, without passing them on, until released; then they go their way.
func (p *Proxy) Hang(match Match) (release func()) {
	return p.add(&fault{match: match, left: -1, before: func(f *fault, _ http.ResponseWriter, r *http.Request) bool {
		p.pause(f, r, nil)
		return true
	}})
}

// pause waits until the time has come or the fault is taken back. It gives the request up when the client or the proxy ends
// before.
func (p *Proxy) pause(f *fault, r *http.Request, until <-chan time.Time) {
	select {
	case <-until:
	case <-f.undo:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	case <-p.closed:
		panic(http.ErrAbortHandler)
	}
}

// Fail answers the next n matching requests (negative: all) with a status and an error message as an engine writes it. The engine
// does not see them.
func (p *Proxy) Fail(match Match, status, n int) (undo func()) {
	return p.add(&fault{match: match, left: n, before: func(_ *fault, w http.ResponseWriter, r *http.Request) bool {
		body, _ := json.Marshal(map[string]string{"message": fmt.Sprintf("proxy: %s %s fails as told", r.Method, r.URL.Path)})
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(body)
		return false
	}})
}

// Drop closes the connections of the next n matching requests (negative: all). The engine does not see them.
func (p *Proxy) Drop(match Match, n int) (undo func()) {
	return p.add(&fault{match: match, left: n, before: func(*fault, http.ResponseWriter, *http.Request) bool {
		panic(http.ErrAbortHandler)
	}})
}

// DropReply passes the next n matching requests (negative: all) on, lets the engine answer, and closes the connection instead of
// passing on the answer.
func (p *Proxy) DropReply(match Match, n int) (undo func()) {
	return p.add(&fault{match: match, left: n, mute: true})
}

// Rewrite changes the bodies of the replies to matching requests. It waits for the end of a reply; for streams there is
// [Proxy.RewriteLines].
func (p *Proxy) Rewrite(match Match, change func(body []byte) []byte) (undo func()) {
	return p.add(&fault{match: match, left: -1, change: change})
}

// RewriteLines changes the replies to matching requests line by line, as the lines come. An empty result suppresses the line.
func (p *Proxy) RewriteLines(match Match, change func(line []byte) []byte) (undo func()) {
	return p.add(&fault{match: match, left: -1, change: change, lines: true})
}

func (p *Proxy) add(f *fault) (undo func()) {
	f.undo = make(chan struct{})
	p.mu.Lock()
	p.faults = append(p.faults, f)
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		p.faults = slices.DeleteFunc(p.faults, func(g *fault) bool { return g == f })
		p.mu.Unlock()
		f.once.Do(func() { close(f.undo) })
	}
}

// Cut closes all connections that exist, in the middle of whatever they do. New ones are taken.
func (p *Proxy) Cut() {
	p.mu.Lock()
	conns := slices.Collect(maps.Keys(p.conns))
	p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// Blackhole keeps all connections and takes new ones, but lets no byte pass in either direction. When it ends, the bytes that were
// held go on.
func (p *Proxy) Blackhole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case on && p.silence == nil:
		p.silence = make(chan struct{})
	case !on && p.silence != nil:
		close(p.silence)
		p.silence = nil
	}
}

// Refuse makes new connections fail at once: the socket file is there, and nobody listens. Connections that exist go on; see
// [Proxy.Cut].
func (p *Proxy) Refuse(on bool) {
	p.changing.Lock()
	defer p.changing.Unlock()
	switch {
	case p.isClosed():
	case on && p.listener != nil:
		_ = p.listener.Close()
		p.listener = nil
	case !on && p.listener == nil:
		if err := p.listen(); err != nil {
			panic(fmt.Sprintf("enginetest: the proxy cannot listen again: %v", err))
		}
	}
}

// Slam takes new connections and closes them at once, as a forwarder does whose target is not there.
func (p *Proxy) Slam(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slam = on
}

// Count is how many requests of a method ("" for all) and path (as for [Route]) came so far, whatever became of them.
func (p *Proxy) Count(method, pattern string) int { return len(p.Calls(Route(method, pattern))) }

// Calls returns the requests that came so far and match, the first first.
func (p *Proxy) Calls(match Match) []Call {
	p.mu.Lock()
	calls := slices.Clone(p.calls)
	p.mu.Unlock()
	return slices.DeleteFunc(calls, func(c Call) bool {
		return !match(&http.Request{Method: c.Method, URL: &url.URL{Path: c.Path, RawQuery: c.Query.Encode()}})
	})
}

// ResetCalls forgets the requests that came so far. A long test calls it now and then: the list has no bound.
func (p *Proxy) ResetCalls() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = nil
}

// Await waits until n matching requests have come.
func (p *Proxy) Await(ctx context.Context, match Match, n int) error {
	for {
		p.mu.Lock()
		news := p.news
		p.mu.Unlock()
		calls := len(p.Calls(match))
		if calls >= n {
			return nil
		}
		select {
		case <-news:
		case <-p.closed:
			return errors.New("the proxy is closed")
		case <-ctx.Done():
			return fmt.Errorf("%d of %d requests came: %w", calls, n, ctx.Err())
		}
	}
}

// repliesKey is the context key of the faults that change the reply to a request.
type repliesKey struct{}

// serve handles one request: faults, then the engine.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	if p.isClosed() {
		p.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	p.handlers.Add(1) // never after Close began to wait
	defer p.handlers.Done()
	p.calls = append(p.calls, Call{Time: time.Now(), Method: r.Method, Path: unversioned(r.URL.Path), Query: r.URL.Query()})
	close(p.news)
	p.news = make(chan struct{})
	var faults []*fault
	for _, f := range p.faults {
		if f.left != 0 && f.match(r) {
			f.left--
			faults = append(faults, f)
		}
	}
	p.mu.Unlock()

	for _, f := range faults {
		if f.before != nil && !f.before(f, w, r) {
			return
		}
	}
	r = r.WithContext(context.WithValue(r.Context(), repliesKey{}, faults))
	for _, f := range faults {
		if f.mute {
			p.forward.ServeHTTP(&discard{header: http.Header{}}, r)
			panic(http.ErrAbortHandler)
		}
	}
	p.forward.ServeHTTP(w, r)
}

// discard is a reply that nobody gets.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// changeReply applies the faults that change a reply.
func changeReply(r *http.Response) error {
	faults, _ := r.Request.Context().Value(repliesKey{}).([]*fault)
	for _, f := range faults {
		switch {
		case f.change == nil || r.StatusCode == http.StatusSwitchingProtocols:
			continue
		case f.lines:
			r.Body = &lineChanger{source: r.Body, lines: bufio.NewReader(r.Body), change: f.change}
			r.ContentLength = -1
			r.Header.Del("Content-Length")
		default:
			body, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if err != nil {
				return err
			}
			body = f.change(body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			r.ContentLength = int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		}
	}
	return nil
}

// lineChanger passes a stream on, each line changed.
type lineChanger struct {
	source  io.Closer
	lines   *bufio.Reader
	change  func([]byte) []byte
	pending []byte
	err     error
}

func (l *lineChanger) Read(b []byte) (int, error) {
	for len(l.pending) == 0 {
		if l.err != nil {
			return 0, l.err
		}
		var line []byte
		line, l.err = l.lines.ReadBytes('\n')
		if len(line) > 0 {
			l.pending = l.change(line)
		}
	}
	n := copy(b, l.pending)
	l.pending = l.pending[n:]
	return n, nil
}

func (l *lineChanger) Close() error { return l.source.Close() }

// trackingListener gives the proxy power over the connections that are accepted.
type trackingListener struct {
	net.Listener
	proxy *Proxy
}

func (l trackingListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &proxyConn{Conn: conn, proxy: l.proxy, done: make(chan struct{})}
		l.proxy.mu.Lock()
		reject := l.proxy.slam || l.proxy.isClosed()
		if !reject {
			l.proxy.conns[c] = struct{}{}
		}
		l.proxy.mu.Unlock()
		if !reject {
			return c, nil
		}
		_ = conn.Close()
	}
}

// proxyConn is a client's connection.
type proxyConn struct {
	net.Conn
	proxy *Proxy
	done  chan struct{} // closed by Close
	once  sync.Once
}

// pass waits while the proxy is a black hole.
func (c *proxyConn) pass() error {
	for {
		c.proxy.mu.Lock()
		silence := c.proxy.silence
		c.proxy.mu.Unlock()
		if silence == nil {
			return nil
		}
		select {
		case <-silence:
		case <-c.done:
			return net.ErrClosed
		}
	}
}

func (c *proxyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if blocked := c.pass(); blocked != nil {
		return 0, blocked
	}
	return n, err
}

func (c *proxyConn) Write(b []byte) (int, error) {
	if err := c.pass(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// CloseWrite ends the stream to the client and keeps the other direction: attach and exec need it.
func (c *proxyConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c *proxyConn) Close() error {
	var err error
	c.once.Do(func() {
		close(c.done)
		c.proxy.mu.Lock()
		delete(c.proxy.conns, c)
		c.proxy.mu.Unlock()
		err = c.Conn.Close()
	})
	return err
}

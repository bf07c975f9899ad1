// Package moby is the adapter of port dockerio to a real Docker Engine, over its HTTP API. One file per kind; third-party types
// stop here.
//
// It owns no clock: every time it hands out was told by the engine.
package moby

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moby/moby/client"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// Bounds of a connection. The deadline of a call is its context's.
const (
	// dialTimeout ends a dial that nobody waits for any more: the transport goes on with it after the call has ended.
	dialTimeout = 10 * time.Second
	// idleConns are kept: four inspect workers, the slow lane and mutating calls without a reconnect for each.
	idleConns   = 8
	idleTimeout = 30 * time.Second
)

// Dialer makes clients of a Docker Engine. The zero value works.
type Dialer struct {
	// UserAgent is what the engine's log shows. Default "rdd".
	UserAgent string
}

var _ dockerio.Dialer = Dialer{}

// APIRange is the oldest and the newest version of the Docker API that this adapter speaks; which one is negotiated per client.
func APIRange() (oldest, newest string) { return client.MinAPIVersion, client.MaxAPIVersion }

// Dial makes a client of the engine at an address of the kinds unix://, tcp:// and (on Windows) npipe://. It does not connect:
// the first call does, and negotiates the API version. Errors: Permanent.
func (d Dialer) Dial(_ context.Context, at messages.Endpoint) (dockerio.Engine, error) {
	refuse := func(code messages.Code, err error) (dockerio.Engine, error) {
		return nil, messages.WrapError(code, "connect to", kindEngine, at.Host, err)
	}
	network, address, err := splitHost(at.Host)
	if err != nil {
		code := messages.CodeInvalid
		if errors.Is(err, errScheme) {
			code = messages.CodeUnsupported
		}
		return refuse(code, err)
	}
	agent := d.UserAgent
	if agent == "" {
		agent = "rdd"
	}
	options := []client.Opt{nil, client.WithHost(at.Host), client.WithUserAgent(agent), client.WithHTTPResponseHook(recordAnswer)}
	secure := at.TLS != nil && network == "tcp"
	if secure {
		options = append(options, client.WithScheme("https"))
	} else {
		// Said outright, because the client takes a transport that was cloned (and it clones ours) for one with TLS.
		options = append(options, client.WithScheme("http"))
	}
	if network != "npipe" {
		options = append(options, client.WithDialContext(dial(network, address)))
	}
	e := &engine{host: at.Host, negotiation: make(chan struct{}, 1)}
	for _, c := range []**client.Client{&e.api, &e.beat} {
		transport := &http.Transport{MaxIdleConns: idleConns, MaxIdleConnsPerHost: idleConns, IdleConnTimeout: idleTimeout}
		if secure {
			if transport.TLSClientConfig, err = tlsConfig(*at.TLS); err != nil {
				return refuse(messages.CodeInvalid, err)
			}
		}
		options[0] = client.WithHTTPClient(&http.Client{Transport: transport, CheckRedirect: client.CheckRedirect})
		if *c, err = client.New(options...); err != nil {
			return refuse(messages.CodeInvalid, err)
		}
	}
	return e, nil
}

var errScheme = errors.New("the address must begin with unix:// or tcp://")

// splitHost checks an address and takes it apart.
func splitHost(host string) (network, address string, err error) {
	scheme, address, ok := strings.Cut(host, "://")
	switch {
	case !ok || address == "":
		return "", "", fmt.Errorf("this is no address of an engine: %w", errScheme)
	case scheme == "unix":
		if !strings.HasPrefix(address, "/") && runtime.GOOS != "windows" {
			return "", "", errors.New("the path of a socket must be absolute")
		}
		return "unix", address, nil
	case scheme == "tcp":
		u, err := url.Parse(host)
		if err != nil {
			return "", "", err
		}
		if u.Hostname() == "" || u.Port() == "" {
			return "", "", errors.New("a tcp:// address needs a host and a port")
		}
		return "tcp", u.Host, nil
	case scheme == "npipe" && runtime.GOOS == "windows":
		return "npipe", address, nil
	case scheme == "ssh":
		return "", "", fmt.Errorf("ssh:// is not supported: forward the socket (ssh -L) and name that instead; %w", errScheme)
	}
	return "", "", fmt.Errorf("the scheme %s:// is not supported: %w", scheme, errScheme)
}

// dial makes a dial function whose error keeps its cause.
func dial(network, address string) func(context.Context, string, string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, &dialError{err}
		}
		return conn, nil
	}
}

func tlsConfig(files messages.EndpointTLS) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: files.SkipVerify}
	if files.CAFile != "" {
		pem, err := os.ReadFile(files.CAFile)
		if err != nil {
			return nil, fmt.Errorf("TLS authority: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("TLS authority: no certificate in %s", files.CAFile)
		}
	}
	if files.CertFile != "" || files.KeyFile != "" {
		certificate, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("TLS client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}

// engine is one client of one engine.
type engine struct {
	host string
	api  *client.Client
	// beat is for Ping only: its connection is never busy with, or behind, another call.
	beat *client.Client
	// negotiation is held while the API version is negotiated. The client library would negotiate by itself, but ignore a
	// failure (and then race with a call that succeeds), and let a call wait longer than its own deadline.
	negotiation chan struct{}
	negotiated  atomic.Bool
}

var _ dockerio.Engine = (*engine)(nil)

func (e *engine) negotiate(ctx context.Context) error {
	if e.negotiated.Load() {
		return nil
	}
	select {
	case e.negotiation <- struct{}{}:
		defer func() { <-e.negotiation }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if e.negotiated.Load() {
		return nil
	}
	answered, err := e.api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if err == nil {
		e.negotiated.Store(true)
		return nil
	}
	if answered.APIVersion != "" && answerOf(ctx).status < http.StatusBadRequest {
		return &versionError{answered.APIVersion}
	}
	return err
}

// call makes one call of the API. Its error says what was tried.
func call[T any](ctx context.Context, e *engine, w what, f func(context.Context) (T, error)) (T, error) {
	var none T
	ctx, got := withAnswer(ctx)
	if err := e.negotiate(ctx); err != nil {
		return none, w.failed(ctx, *got, err)
	}
	*got = answer{}
	reply, err := f(ctx)
	if err != nil {
		return none, w.failed(ctx, *got, err)
	}
	return reply, nil
}

// Info implements [dockerio.System].
func (e *engine) Info(ctx context.Context) (dockerio.Info, error) {
	w := what{"ask", kindEngine, e.host}
	r, err := call(ctx, e, w, func(ctx context.Context) (client.SystemInfoResult, error) {
		return e.api.Info(ctx, client.InfoOptions{})
	})
	if err != nil {
		return dockerio.Info{}, err
	}
	if r.Info.ID == "" {
		return dockerio.Info{}, w.unreadable("the engine tells no id")
	}
	return dockerio.Info{
		ID:         r.Info.ID,
		Name:       r.Info.Name,
		Version:    r.Info.ServerVersion,
		APIVersion: e.api.ClientVersion(),
		Now:        dockerio.ParseTime(r.Info.SystemTime),
	}, nil
}

// Ping implements [dockerio.System].
func (e *engine) Ping(ctx context.Context) error {
	ctx, got := withAnswer(ctx)
	if _, err := e.beat.Ping(ctx, client.PingOptions{}); err != nil {
		return what{"ping", kindEngine, e.host}.failed(ctx, *got, err)
	}
	return nil
}

// Close implements [dockerio.System].
func (e *engine) Close() error {
	return errors.Join(e.api.Close(), e.beat.Close())
}

// checkName refuses what would lead a call to another object than the one it names: names become part of a path.
func (w what) checkName() error {
	if !canBeAsked(w.name) {
		return messages.NewError(messages.CodeInvalid, w.verb, w.kind, w.name, "this is no name")
	}
	return nil
}

// canBeAsked: a call can name that object. What a list tells of any other could never be inspected, and so never be found gone.
func canBeAsked(name string) bool {
	return name != "" && strings.TrimSpace(name) == name && path.Clean("/"+name) == "/"+name
}

// notEmpty gives nil for an empty map: the engine writes null or {} as it likes.
func notEmpty(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return m
}

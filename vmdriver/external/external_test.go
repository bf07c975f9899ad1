package external_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
	"github.com/rdd-desktop/rdd/vmdriver/external"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a machine with a home directory, an environment and one listening socket.
type host struct {
	home, socket, missing string
	env                   map[string]string
}

func newHost(t *testing.T) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "ext") // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	h := &host{home: dir, socket: filepath.Join(dir, "d.sock"), missing: filepath.Join(dir, "no.sock"), env: map[string]string{}}
	l, err := net.Listen("unix", h.socket)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return h
}

func (h *host) driver() *external.Driver {
	return external.New(external.Config{
		Getenv: func(k string) string { return h.env[k] }, Home: h.home, DefaultHost: "unix://" + h.missing,
	})
}

func (h *host) write(t *testing.T, content string, path ...string) {
	t.Helper()
	file := filepath.Join(append([]string{h.home, ".docker"}, path...)...)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
}

func (h *host) context(t *testing.T, name, meta string) (id string) {
	t.Helper()
	sum := sha256.Sum256([]byte(name))
	id = hex.EncodeToString(sum[:])
	h.write(t, meta, "contexts", "meta", id, "meta.json")
	return id
}

func spec(socket string) vmdriver.Spec {
	return vmdriver.Spec{Backend: messages.EngineMoby, VM: messages.VirtualMachineSpec{Socket: socket}}
}

func TestEndpoint(t *testing.T) {
	tests := []struct {
		name         string
		prepare      func(t *testing.T, h *host)
		socket       string
		host, source string
	}{
		{name: "a path in the spec", socket: "/run/x.sock", host: "unix:///run/x.sock", source: "spec.virtualMachine.socket",
			prepare: func(_ *testing.T, h *host) { h.env["DOCKER_HOST"] = "unix:///other" }},
		{name: "an address in the spec", socket: "tcp://10.0.0.1:2375", host: "tcp://10.0.0.1:2375", source: "spec.virtualMachine.socket"},
		{name: "DOCKER_HOST", host: "unix:///run/env.sock", source: "DOCKER_HOST", prepare: func(t *testing.T, h *host) {
			h.env["DOCKER_HOST"], h.env["DOCKER_CONTEXT"] = "unix:///run/env.sock", "nowhere"
			h.write(t, "{", "config.json") // not read: it has no say
		}},
		{name: "DOCKER_HOST without a port", host: "tcp://10.0.0.1:2375", source: "DOCKER_HOST",
			prepare: func(_ *testing.T, h *host) { h.env["DOCKER_HOST"] = "tcp://10.0.0.1" }},
		{name: "DOCKER_HOST with TLS, without a port", host: "tcp://[::1]:2376", source: "DOCKER_HOST",
			prepare: func(_ *testing.T, h *host) { h.env["DOCKER_HOST"], h.env["DOCKER_TLS_VERIFY"] = "tcp://[::1]", "1" }},
		{name: "DOCKER_CONTEXT", host: "unix:///run/ctx.sock", source: `context "desktop" (DOCKER_CONTEXT)`,
			prepare: func(t *testing.T, h *host) {
				h.env["DOCKER_CONTEXT"] = "desktop"
				h.write(t, `{"currentContext":"other"}`, "config.json")
				h.context(t, "desktop", `{"Name":"desktop","Endpoints":{"docker":{"Host":"unix:///run/ctx.sock"}}}`)
			}},
		{name: "the current context", host: "unix:///run/ctx.sock", source: `context "desktop"`,
			prepare: func(t *testing.T, h *host) {
				h.write(t, `{"currentContext":"desktop","auths":{}}`, "config.json")
				h.context(t, "desktop", `{"Endpoints":{"docker":{"Host":"unix:///run/ctx.sock"}}}`)
			}},
		{name: "the default context", host: "DEFAULT", source: "default",
			prepare: func(_ *testing.T, h *host) { h.env["DOCKER_CONTEXT"] = "default" }},
		{name: "a configuration without a context", host: "DEFAULT", source: "default",
			prepare: func(t *testing.T, h *host) { h.write(t, `{"auths":{}}`, "config.json") }},
		{name: "nothing", host: "DEFAULT", source: "default"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			if tt.prepare != nil {
				tt.prepare(t, h)
			}
			at, err := h.driver().Endpoint(t.Context(), spec(tt.socket))
			require.NoError(t, err)
			require.Equal(t, strings.Replace(tt.host, "DEFAULT", "unix://"+h.missing, 1), at.Host)
			require.Equal(t, tt.source, at.Source)
		})
	}
}

func TestEndpoint_TLS(t *testing.T) {
	h := newHost(t)
	h.env["DOCKER_CONTEXT"] = "far"
	id := h.context(t, "far", `{"Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":true}}}`)
	for _, f := range []string{"ca.pem", "cert.pem", "key.pem"} {
		h.write(t, "x", "contexts", "tls", id, "docker", f)
	}
	at, err := h.driver().Endpoint(t.Context(), spec(""))
	require.NoError(t, err)
	dir := filepath.Join(h.home, ".docker", "contexts", "tls", id, "docker")
	require.Equal(t, &messages.EndpointTLS{CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "cert.pem"),
		KeyFile: filepath.Join(dir, "key.pem"), SkipVerify: true}, at.TLS)

	h.env["DOCKER_HOST"], h.env["DOCKER_TLS_VERIFY"], h.env["DOCKER_CERT_PATH"] = "tcp://near:2376", "1", dir
	at, err = h.driver().Endpoint(t.Context(), spec(""))
	require.NoError(t, err)
	require.False(t, at.TLS.SkipVerify)
	require.Equal(t, filepath.Join(dir, "ca.pem"), at.TLS.CAFile)
	at, err = h.driver().Endpoint(t.Context(), spec("/run/x.sock"))
	require.NoError(t, err)
	require.Nil(t, at.TLS)
}

func TestPermanentErrors(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, h *host)
		socket  string
		want    error
		says    string
	}{
		{name: "corrupt configuration", want: messages.ErrInvalid, says: "config.json is not valid JSON",
			prepare: func(t *testing.T, h *host) { h.write(t, `{"currentContext":`, "config.json") }},
		{name: "unknown context", want: messages.ErrInvalid, says: `context "gone": there is no such context`,
			prepare: func(t *testing.T, h *host) { h.write(t, `{"currentContext":"gone"}`, "config.json") }},
		{name: "corrupt context", want: messages.ErrInvalid, says: "meta.json is not valid JSON",
			prepare: func(t *testing.T, h *host) { h.env["DOCKER_CONTEXT"] = "x"; h.context(t, "x", "garbage") }},
		{name: "context without an engine", want: messages.ErrInvalid, says: "names no Docker engine",
			prepare: func(t *testing.T, h *host) { h.env["DOCKER_CONTEXT"] = "x"; h.context(t, "x", `{"Endpoints":{}}`) }},
		{name: "context name that looks like a path", want: messages.ErrInvalid, says: "there is no such context",
			prepare: func(_ *testing.T, h *host) { h.env["DOCKER_CONTEXT"] = "../../etc" }},
		{name: "path too long", want: messages.ErrInvalid, says: "105", socket: "/" + strings.Repeat("a", 104)},
		{name: "relative path", want: messages.ErrUnsupported, says: "neither an absolute path", socket: "docker.sock"},
		{name: "relative address", want: messages.ErrInvalid, says: "must be absolute", socket: "unix://docker.sock"},
		{name: "ssh", want: messages.ErrUnsupported, says: "ssh:// is not supported", socket: "ssh://me@far"},
		{name: "unknown scheme", want: messages.ErrUnsupported, says: "fd:// is not supported", socket: "fd://3"},
		{name: "no host", want: messages.ErrInvalid, says: "needs a host", socket: "tcp://:2375"},
		{name: "not a socket", want: messages.ErrInvalid, says: "is not a socket",
			prepare: func(t *testing.T, h *host) {
				h.write(t, "", "file")
				h.env["DOCKER_HOST"] = "unix://" + filepath.Join(h.home, ".docker", "file")
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			if tt.prepare != nil {
				tt.prepare(t, h)
			}
			err := h.driver().Start(t.Context(), spec(tt.socket))
			require.ErrorIs(t, err, tt.want)
			require.ErrorIs(t, err, messages.ErrPermanent)
			require.ErrorContains(t, err, tt.says)
			seen, err := h.driver().Inspect(t.Context(), spec(tt.socket))
			require.ErrorIs(t, err, messages.ErrPermanent)
			require.Equal(t, vmdriver.Broken, seen.Phase)
		})
	}
	t.Run("path of 104 bytes", func(t *testing.T) {
		err := newHost(t).driver().Start(t.Context(), spec("/"+strings.Repeat("a", 103)))
		require.ErrorIs(t, err, messages.ErrTransient)
	})
	t.Run("other backend", func(t *testing.T) {
		err := newHost(t).driver().Start(t.Context(), vmdriver.Spec{Backend: messages.EngineContainerd})
		require.ErrorIs(t, err, messages.ErrUnsupported)
	})
}

func TestLifecycle(t *testing.T) {
	h := newHost(t)
	d := h.driver()
	require.Equal(t, vmdriver.Capabilities{Backends: []string{"moby"}}, d.Capabilities())

	err := d.Start(t.Context(), spec(""))
	require.ErrorIs(t, err, messages.ErrEngineUnreachable)
	require.ErrorIs(t, err, messages.ErrTransient)
	require.ErrorContains(t, err, "no container engine found: DOCKER_HOST is not set, no Docker context, nothing at unix://"+h.missing)

	h.env["DOCKER_HOST"] = "unix://" + h.missing
	err = d.Start(t.Context(), spec(""))
	require.ErrorIs(t, err, messages.ErrEngineUnreachable)
	require.ErrorContains(t, err, "no container engine at unix://"+h.missing+" (DOCKER_HOST)")
	seen, err := d.Inspect(t.Context(), spec(""))
	require.NoError(t, err)
	require.Equal(t, vmdriver.Stopped, seen.Phase)

	h.env["DOCKER_HOST"] = "unix://" + h.socket
	require.NoError(t, d.Create(t.Context(), spec("")))
	require.NoError(t, d.Start(t.Context(), spec("")))
	require.NoError(t, d.Stop(t.Context(), true))
	require.NoError(t, d.Delete(t.Context()))
	require.FileExists(t, h.socket)
	seen, err = d.Inspect(t.Context(), spec(""))
	require.NoError(t, err)
	require.Equal(t, vmdriver.Running, seen.Phase)

	var out strings.Builder
	require.ErrorContains(t, d.Logs(t.Context(), &out, true), "there is none")

	ctx, cancel := context.WithCancel(t.Context())
	watch, err := d.Watch(ctx)
	require.NoError(t, err)
	cancel()
	_, open := <-watch
	require.False(t, open)
}

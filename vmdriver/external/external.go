// Package external is the VM driver for an engine that is there already and belongs to somebody else: its socket is found, never
// made; the engine is never started and never stopped.
//
// The engine is looked for in this order: spec.virtualMachine.socket, DOCKER_HOST, DOCKER_CONTEXT, the current context of the
// Docker configuration, the usual socket. The first that says anything decides.
package external

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// maxSocketPath is the longest path a socket can have on every system we run on.
const maxSocketPath = 104

// Config tells the driver where to look. The zero value looks where the docker command would.
type Config struct {
	// Getenv reads the environment. Default [os.Getenv].
	Getenv func(name string) string
	// Home is the user's home directory, with .docker in it. Default [os.UserHomeDir].
	Home string
	// DefaultHost is where the engine is when nothing says otherwise. Default unix:///var/run/docker.sock, on Windows the
	// pipe docker_engine.
	DefaultHost string
}

// Driver is the driver.
type Driver struct{ config Config }

var _ vmdriver.Driver = (*Driver)(nil)

// New makes the driver. It reads nothing yet.
func New(c Config) *Driver {
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	if c.Home == "" {
		c.Home, _ = os.UserHomeDir() // without one there is no Docker configuration
	}
	if c.DefaultHost == "" {
		c.DefaultHost = "unix:///var/run/docker.sock"
		if runtime.GOOS == "windows" {
			c.DefaultHost = "npipe:////./pipe/docker_engine"
		}
	}
	return &Driver{c}
}

// Name implements [vmdriver.Driver].
func (*Driver) Name() string { return messages.DriverExternal }

// Capabilities implements [vmdriver.Driver].
func (*Driver) Capabilities() vmdriver.Capabilities {
	return vmdriver.Capabilities{Backends: []string{messages.EngineMoby}}
}

// Inspect implements [vmdriver.Driver]: Running while the engine's socket is there, Stopped while it is not. Whether an engine
// answers there is not looked at.
func (d *Driver) Inspect(_ context.Context, spec vmdriver.Spec) (vmdriver.Observation, error) {
	err := d.find("inspect", spec)
	switch {
	case err == nil:
		return vmdriver.Observation{Phase: vmdriver.Running}, nil
	case messages.ClassOf(err) == messages.ClassTransient:
		return vmdriver.Observation{Phase: vmdriver.Stopped, Message: err.Error()}, nil
	}
	return vmdriver.Observation{Phase: vmdriver.Broken, Message: err.Error()}, err
}

// Create implements [vmdriver.Driver]: there is nothing to create.
func (*Driver) Create(context.Context, vmdriver.Spec) error { return nil }

// Start implements [vmdriver.Driver]: it succeeds while the engine's socket is there. A socket that is not there may come: Transient.
func (d *Driver) Start(_ context.Context, spec vmdriver.Spec) error { return d.find("start", spec) }

// Stop implements [vmdriver.Driver]: the engine is not ours to stop.
func (*Driver) Stop(context.Context, bool) error { return nil }

// Delete implements [vmdriver.Driver]: the engine is not ours to delete.
func (*Driver) Delete(context.Context) error { return nil }

// Watch implements [vmdriver.Driver]: it sends nothing.
func (*Driver) Watch(ctx context.Context) (<-chan vmdriver.Observation, error) {
	none := make(chan vmdriver.Observation)
	context.AfterFunc(ctx, func() { close(none) })
	return none, nil
}

// Endpoint implements [vmdriver.Driver]. It looks anew each time: a context that was switched meanwhile counts.
func (d *Driver) Endpoint(_ context.Context, spec vmdriver.Spec) (messages.Endpoint, error) {
	found, err := d.resolve(spec)
	if err != nil {
		return messages.Endpoint{}, located("find", found.Host, err)
	}
	return found.Endpoint, nil
}

// Logs implements [vmdriver.Driver]: there are none.
func (d *Driver) Logs(context.Context, io.Writer, bool) error {
	return messages.NewError(messages.CodeUnsupported, "read the log of", "vm", d.Name(),
		"there is none: the engine is not ours; its own log tells more (journalctl -u docker)")
}

// place is where an engine should be.
type place struct {
	messages.Endpoint
	// named tells whether somebody named it, rather than nobody anything.
	named bool
}

// find tells whether there is an engine's socket.
func (d *Driver) find(verb string, spec vmdriver.Spec) error {
	if spec.Backend != "" && spec.Backend != messages.EngineMoby {
		return messages.NewError(messages.CodeUnsupported, verb, "vm", d.Name(), "this driver cannot run the backend "+spec.Backend)
	}
	at, err := d.resolve(spec)
	if err != nil {
		return located(verb, at.Host, err)
	}
	path, isUnix := strings.CutPrefix(at.Host, "unix://")
	if !isUnix {
		return nil
	}
	where := fmt.Sprintf("%s (%s)", at.Host, at.Source)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !at.named:
		return messages.NewError(messages.CodeEngineUnreachable, verb, "vm", d.Name(),
			"no container engine found: DOCKER_HOST is not set, no Docker context, nothing at "+at.Host)
	case errors.Is(err, fs.ErrNotExist):
		return messages.NewError(messages.CodeEngineUnreachable, verb, "vm", d.Name(), "no container engine at "+where)
	case errors.Is(err, fs.ErrPermission):
		return messages.WrapError(messages.CodeForbidden, verb, "vm", d.Name(), fmt.Errorf("the engine's socket %s: %w", where, err))
	case err != nil:
		return messages.WrapError(messages.CodeEngineUnreachable, verb, "vm", d.Name(), fmt.Errorf("no container engine at %s: %w", where, err))
	case info.Mode()&fs.ModeSocket == 0 && runtime.GOOS != "windows": // Windows does not show sockets as such
		return messages.NewError(messages.CodeInvalid, verb, "vm", d.Name(), where+" is not a socket")
	}
	return nil
}

// located makes an error of ours of one that says why no address could be found; such an error lasts until somebody changes
// something.
func located(verb, host string, err error) error {
	code := messages.CodeInvalid
	switch {
	case errors.Is(err, errScheme):
		code = messages.CodeUnsupported
	case errors.Is(err, fs.ErrPermission):
		code = messages.CodeForbidden
	}
	return &messages.Error{
		Class: messages.ClassPermanent, Code: code, Verb: verb, Kind: "vm", Name: messages.DriverExternal, Err: err,
		Details: map[string]string{"host": host},
	}
}

// resolve finds the engine's address.
func (d *Driver) resolve(spec vmdriver.Spec) (place, error) {
	if socket := spec.VM.Socket; socket != "" {
		host := socket
		if filepath.IsAbs(socket) {
			host = "unix://" + socket
		}
		return d.checked(place{messages.Endpoint{Host: host, Source: "spec.virtualMachine.socket"}, true})
	}
	if host := d.config.Getenv("DOCKER_HOST"); host != "" {
		return d.checked(place{messages.Endpoint{Host: host, Source: "DOCKER_HOST", TLS: d.environmentTLS()}, true})
	}
	name, source, err := d.contextName()
	if err != nil {
		return place{}, err
	}
	if name == "" || name == "default" {
		return d.checked(place{messages.Endpoint{Host: d.config.DefaultHost, Source: "default"}, false})
	}
	at, err := d.context(name, source)
	if err != nil {
		return place{}, err
	}
	return d.checked(place{at, true})
}

var errScheme = errors.New("rdd speaks unix:// and tcp://")

// checked completes an address and refuses one that can never be dialled.
func (d *Driver) checked(at place) (place, error) {
	refuse := func(format string, args ...any) (place, error) {
		return at, fmt.Errorf("%s %q: %w", at.Source, at.Host, fmt.Errorf(format, args...))
	}
	scheme, rest, ok := strings.Cut(at.Host, "://")
	switch {
	case !ok || rest == "":
		return refuse("this is neither an absolute path nor the address of an engine: %w", errScheme)
	case scheme == "unix" && !filepath.IsAbs(rest) && !strings.HasPrefix(rest, "/"):
		return refuse("the path of a socket must be absolute")
	case scheme == "unix" && len(rest) > maxSocketPath:
		return refuse("the path of a socket can have %d bytes, and this one has %d", maxSocketPath, len(rest))
	case scheme == "unix":
		at.TLS = nil
		return at, nil
	case scheme == "npipe" && runtime.GOOS == "windows":
		at.TLS = nil
		return at, nil
	case scheme == "tcp":
		u, err := url.Parse(at.Host)
		if err != nil {
			return refuse("%w", err)
		}
		if u.Hostname() == "" {
			return refuse("a tcp:// address needs a host")
		}
		if u.Port() == "" { // as the docker command has it
			port := "2375"
			if at.TLS != nil {
				port = "2376"
			}
			u.Host = net.JoinHostPort(u.Hostname(), port)
			at.Host = u.String()
		}
		return at, nil
	case scheme == "ssh":
		return refuse("ssh:// is not supported: forward the engine's socket (ssh -L) and name that; %w", errScheme)
	}
	return refuse("%s:// is not supported: %w", scheme, errScheme)
}

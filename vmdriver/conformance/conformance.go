// Package conformance is the suite that every VM driver passes: what the vm actor relies on.
package conformance

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// noticeLimit is how long a driver may take to notice that its VM went down.
const noticeLimit = 2 * time.Second

// Fixture is one VM that does not exist yet, or for a driver that does not own its engine, one that does.
type Fixture struct {
	// New makes the driver as another process of rdd would: two of them run the same VM.
	New func() vmdriver.Driver
	// Spec that the VM can be started with.
	Spec vmdriver.Spec
	// Crash takes the VM down without the driver. Nil: it cannot be.
	Crash func(t *testing.T)
	// Boot tells one run of the VM from another one while it runs.
	Boot func(t *testing.T) string
	// Residue lists what the VM has on the machine beside its files.
	Residue func(t *testing.T) []string
}

type suite struct {
	Fixture
	vmdriver.Driver
}

// Run runs the suite; setup makes a fixture of its own for each case, and cleans up.
func Run(t *testing.T, setup func(t *testing.T) Fixture) {
	for _, c := range []struct {
		name string
		of   owner
		run  func(t *testing.T, s suite)
	}{
		{"Facts", anyone, facts},
		{"NothingYet", itself, nothingYet},
		{"StartIsRunningAndAdopts", anyone, startAdopts},
		{"StopLeavesNothing", itself, stopLeavesNothing},
		{"StopOfSomebodyElsesEngineDoesNothing", another, stopOfAnothers},
		{"ForcedStop", itself, forcedStop},
		{"DownByItself", itself, downByItself},
		{"GivenUpStart", itself, givenUpStart},
		{"Delete", itself, deletes},
		{"OtherBackend", anyone, otherBackend},
	} {
		if facts := setup(t).New().Capabilities(); c.of == itself && !facts.OwnsEngine || c.of == another && facts.OwnsEngine {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			f := setup(t)
			c.run(t, suite{f, f.New()})
		})
	}
}

// owner of the engine that a case is about.
type owner int

const (
	anyone owner = iota
	itself
	another
)

func (s suite) phase(t *testing.T) vmdriver.Phase {
	t.Helper()
	seen, err := s.Inspect(t.Context(), s.Spec)
	require.NoError(t, err)
	return seen.Phase
}

func (s suite) start(t *testing.T) {
	t.Helper()
	require.NoError(t, s.Create(t.Context(), s.Spec))
	require.NoError(t, s.Driver.Start(t.Context(), s.Spec))
	require.Equal(t, vmdriver.Running, s.phase(t))
}

func (s suite) requireNoResidue(t *testing.T) {
	t.Helper()
	var left []string
	// The kernel removes some on its own time.
	require.Eventually(t, func() bool { left = s.Residue(t); return len(left) == 0 }, 5*time.Second, 20*time.Millisecond, "left behind: %q", &left)
}

func facts(t *testing.T, s suite) {
	require.NotEmpty(t, s.Name())
	require.Contains(t, s.Capabilities().Backends, messages.EngineMoby)
	require.Equal(t, s.Capabilities(), s.New().Capabilities(), "capabilities are facts")
}

func nothingYet(t *testing.T, s suite) {
	require.Equal(t, vmdriver.Absent, s.phase(t))
	require.Equal(t, vmdriver.Absent, s.phase(t), "looking makes nothing")
	require.NoError(t, s.Stop(t.Context(), false), "down already")
	require.NoError(t, s.Stop(t.Context(), true), "down already")
	require.NoError(t, s.Driver.Delete(t.Context()), "absent already")
	require.Equal(t, vmdriver.Absent, s.phase(t))
	s.requireNoResidue(t)
	require.NoError(t, s.Create(t.Context(), s.Spec))
	require.NoError(t, s.Create(t.Context(), s.Spec), "created already")
	require.Equal(t, vmdriver.Stopped, s.phase(t))
}

func startAdopts(t *testing.T, s suite) {
	s.start(t)
	boot := s.Boot(t)
	require.NotEmpty(t, boot)
	s.requireListens(t)

	require.NoError(t, s.Driver.Start(t.Context(), s.Spec), "runs already")
	other := suite{s.Fixture, s.New()}
	require.Equal(t, vmdriver.Running, other.phase(t), "the next process of rdd sees it")
	require.NoError(t, other.Create(t.Context(), s.Spec))
	require.NoError(t, other.Driver.Start(t.Context(), s.Spec))
	require.Equal(t, boot, s.Boot(t), "it was adopted, not booted again")
}

func (s suite) requireListens(t *testing.T) {
	t.Helper()
	at, err := s.Endpoint(t.Context(), s.Spec)
	require.NoError(t, err)
	require.NotEmpty(t, at.Source)
	network, address, ok := strings.Cut(at.Host, "://")
	require.True(t, ok, at.Host)
	connection, err := (&net.Dialer{}).DialContext(t.Context(), network, address)
	require.NoError(t, err)
	require.NoError(t, connection.Close())
}

func stopLeavesNothing(t *testing.T, s suite) {
	s.start(t)
	require.NotEmpty(t, s.Residue(t), "otherwise this case could not fail")
	boot := s.Boot(t)
	require.NoError(t, s.Stop(t.Context(), false))
	require.Equal(t, vmdriver.Stopped, s.phase(t))
	s.requireNoResidue(t)
	require.NoError(t, s.Stop(t.Context(), false), "down already")
	s.start(t)
	require.NotEqual(t, boot, s.Boot(t))
}

func stopOfAnothers(t *testing.T, s suite) {
	s.start(t)
	for _, force := range []bool{false, true} {
		require.NoError(t, s.Stop(t.Context(), force))
	}
	require.NoError(t, s.Driver.Delete(t.Context()))
	require.Equal(t, vmdriver.Running, s.phase(t))
	s.requireListens(t)
}

func forcedStop(t *testing.T, s suite) {
	s.start(t)
	require.NoError(t, s.Stop(t.Context(), true))
	require.Equal(t, vmdriver.Stopped, s.phase(t))
	s.requireNoResidue(t)
	s.start(t)
}

func downByItself(t *testing.T, s suite) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen, err := s.Watch(ctx)
	require.NoError(t, err)
	next := func(want string, is func(vmdriver.Phase) bool) {
		t.Helper()
		deadline := time.After(noticeLimit)
		for {
			select {
			case o, ok := <-seen:
				require.True(t, ok, "the watch ended")
				if is(o.Phase) {
					return
				}
			case <-deadline:
				require.FailNow(t, "not noticed", "want %s", want)
			}
		}
	}
	running := func(p vmdriver.Phase) bool { return p == vmdriver.Running }
	down := func(p vmdriver.Phase) bool { return p != vmdriver.Running }
	s.start(t)
	next("that it runs", running)
	s.Crash(t)
	next("that it went down", down)
	require.NotEqual(t, vmdriver.Running, s.phase(t))
	s.start(t)
	next("that it runs again", running)
	s.requireListens(t)

	s.Crash(t)
	require.NoError(t, s.Stop(t.Context(), false), "of what went down by itself")
	require.Equal(t, vmdriver.Stopped, s.phase(t))
	s.requireNoResidue(t)
	cancel()
	require.Eventually(t, func() bool {
		select {
		case _, open := <-seen:
			return !open
		default:
			return false
		}
	}, noticeLimit, time.Millisecond, "a watch ends with its context")
}

func givenUpStart(t *testing.T, s suite) {
	require.NoError(t, s.Create(t.Context(), s.Spec))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, s.Driver.Start(ctx, s.Spec))
	require.NoError(t, s.Stop(t.Context(), false))
	require.Equal(t, vmdriver.Stopped, s.phase(t))
	s.requireNoResidue(t)
	s.start(t)
}

func deletes(t *testing.T, s suite) {
	s.start(t)
	require.NoError(t, s.Driver.Delete(t.Context()))
	require.Equal(t, vmdriver.Absent, s.phase(t))
	s.requireNoResidue(t)
	require.NoError(t, s.Driver.Delete(t.Context()), "absent already")
	s.start(t)
}

func otherBackend(t *testing.T, s suite) {
	spec := s.Spec
	spec.Backend = "no-such-backend"
	err := s.Create(t.Context(), spec)
	if err == nil {
		err = s.Driver.Start(t.Context(), spec)
	}
	require.ErrorIs(t, err, messages.ErrPermanent)
	require.ErrorContains(t, err, spec.Backend)
}

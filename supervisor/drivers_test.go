package supervisor

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// shed is a driver of a VM that is somewhere, or cannot be.
type shed struct {
	name    string
	missing error
	phase   vmdriver.Phase
	// up is the phase after a start.
	up       vmdriver.Phase
	stops    []bool
	stubborn bool
}

func (s *shed) Name() string { return s.name }
func (s *shed) Capabilities() vmdriver.Capabilities {
	return vmdriver.Capabilities{Backends: []string{messages.EngineMoby}, OwnsEngine: s.name != messages.DriverExternal}
}
func (s *shed) Available() error { return s.missing }
func (s *shed) Inspect(context.Context, vmdriver.Spec) (vmdriver.Observation, error) {
	return vmdriver.Observation{Phase: s.phase}, nil
}
func (s *shed) Create(context.Context, vmdriver.Spec) error { return s.missing }
func (s *shed) Start(context.Context, vmdriver.Spec) error {
	if s.missing == nil && s.up != "" {
		s.phase = s.up
	}
	return s.missing
}
func (s *shed) Stop(_ context.Context, force bool) error {
	s.stops = append(s.stops, force)
	if s.stubborn && !force {
		return messages.NewError(messages.CodeTimeout, "stop", "vm", s.name, "it does not")
	}
	s.phase = vmdriver.Stopped
	return nil
}
func (s *shed) Delete(context.Context) error { return nil }
func (s *shed) Watch(ctx context.Context) (<-chan vmdriver.Observation, error) {
	none := make(chan vmdriver.Observation)
	context.AfterFunc(ctx, func() { close(none) })
	return none, nil
}
func (s *shed) Endpoint(context.Context, vmdriver.Spec) (messages.Endpoint, error) {
	return messages.Endpoint{Host: "unix:///nowhere", Source: s.name}, nil
}
func (s *shed) Logs(context.Context, io.Writer, bool) error { return nil }

func noRoot() error {
	return messages.NewError(messages.CodeInvalid, "start", "vm", messages.DriverNative, "needs root")
}

// "auto" is the first driver that can run, chosen once: when it cannot run any more that is a failure, not a reason to take another.
func TestAutoIsChosenOnce(t *testing.T) {
	i := newInstance(t)
	native := &shed{name: messages.DriverNative, phase: vmdriver.Absent}
	serve := func(set bool) *messages.App {
		r, err := Start(t.Context(), Config{Instance: &i, Drivers: map[string]vmdriver.Driver{
			messages.DriverNative: native, messages.DriverExternal: &shed{name: messages.DriverExternal, phase: vmdriver.Stopped},
		}})
		require.NoError(t, err)
		defer func() { require.NoError(t, r.Stop(t.Context())) }()
		if set {
			patch, err := messages.ParseAssignments([]string{"running=true"})
			require.NoError(t, err)
			_, err = r.Client().Set(t.Context(), messages.SetRequest{Patch: patch})
			require.NoError(t, err)
			app, err := r.Client().Get(t.Context(), "app", "app")
			require.NoError(t, err)
			return app.(*messages.App)
		}
		_, err = r.Client().WaitSettled(t.Context(), SettleOptions{Timeout: 10 * time.Second})
		require.ErrorIs(t, err, messages.ErrTerminal)
		require.ErrorContains(t, err, "needs root")
		app, err := r.Client().Get(t.Context(), "app", "app")
		require.NoError(t, err)
		return app.(*messages.App)
	}
	require.Equal(t, messages.DriverNative, serve(true).Status.Driver)
	native.missing = noRoot()
	app := serve(false)
	require.Equal(t, messages.DriverNative, app.Status.Driver)
	require.Equal(t, messages.ReasonStartFailed, messages.Condition(app, messages.ConditionRunning).Reason)
}

func TestAutoTakesWhatCanRun(t *testing.T) {
	native, external := &shed{name: messages.DriverNative}, &shed{name: messages.DriverExternal}
	r := &Rdd{cfg: Config{Log: slog.New(slog.DiscardHandler), Drivers: map[string]vmdriver.Driver{
		messages.DriverNative: native, messages.DriverExternal: external, messages.DriverSimulated: &shed{name: messages.DriverSimulated},
	}}}
	chosen := func() string {
		name, err := r.resolve(messages.AppSpec{})
		require.NoError(t, err)
		return name
	}
	require.Equal(t, messages.DriverNative, chosen())
	native.missing = noRoot()
	require.Equal(t, messages.DriverExternal, chosen())
	external.missing = messages.NewError(messages.CodeInvalid, "start", "vm", messages.DriverExternal, "no")
	_, err := r.resolve(messages.AppSpec{})
	require.ErrorIs(t, err, messages.ErrPermanent, "never the simulated one")
	require.ErrorContains(t, err, "needs root")
}

// The end of rdd is the end of the engine it owns, by force if need be; Detach leaves it, and nobody else's is ever stopped.
func TestTheEndOfTheEngine(t *testing.T) {
	for _, c := range []struct {
		name   string
		driver shed
		end    func(*Rdd, context.Context) error
		want   []bool
	}{
		{"ours", shed{name: messages.DriverNative, phase: vmdriver.Stopped, up: vmdriver.Running}, (*Rdd).Stop, []bool{false}},
		{"half of it", shed{name: messages.DriverNative, phase: vmdriver.Stopped, up: vmdriver.Broken}, (*Rdd).Stop, []bool{false}},
		{"one that does not stop", shed{name: messages.DriverNative, phase: vmdriver.Stopped, up: vmdriver.Running, stubborn: true}, (*Rdd).Stop, []bool{false, true}},
		{"down", shed{name: messages.DriverNative, phase: vmdriver.Stopped}, (*Rdd).Stop, nil},
		{"left", shed{name: messages.DriverNative, phase: vmdriver.Stopped, up: vmdriver.Running}, (*Rdd).Detach, nil},
		{"somebody else's", shed{name: messages.DriverExternal, phase: vmdriver.Stopped, up: vmdriver.Running}, (*Rdd).Stop, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Start(t.Context(), Config{Drivers: map[string]vmdriver.Driver{c.driver.name: &c.driver}})
			require.NoError(t, err)
			if c.driver.up != "" {
				patch, err := messages.ParseAssignments([]string{"running=true", "virtualMachine.driver=" + c.driver.name})
				require.NoError(t, err)
				_, err = r.Client().Set(t.Context(), messages.SetRequest{Patch: patch})
				require.NoError(t, err)
				running, err := ParseFor("condition=Running")
				require.NoError(t, err)
				_, err = r.Client().Wait(t.Context(), "app", WaitOptions{Name: "app", For: running, Timeout: 10 * time.Second})
				require.NoError(t, err)
			}
			require.NoError(t, c.end(r, t.Context()))
			require.Equal(t, c.want, c.driver.stops)
		})
	}
}

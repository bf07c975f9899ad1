package moby

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

func TestParseStatus(t *testing.T) {
	code := func(n int) *int { return &n }
	for text, want := range map[string]struct {
		code   *int
		health string
	}{
		"":                                {},
		"Created":                         {},
		"Dead":                            {},
		"Removal In Progress":             {},
		"Up Less than a second":           {},
		"Up 5 minutes":                    {},
		"Up 5 minutes (healthy)":          {health: "healthy"},
		"Up 5 minutes (unhealthy)":        {health: "unhealthy"},
		"Up 1 second (health: starting)":  {health: "starting"},
		"Up 2 hours (Paused)":             {},
		"Exited (0) Less than a second":   {code: code(0)},
		"Exited (137) 2 minutes ago":      {code: code(137)},
		"Exited (-1) 2 minutes ago":       {code: code(-1)},
		"Exited (99999999999999999999) x": {},
		"Exited () 2 minutes ago":         {},
		"Restarting (1) 5 seconds ago":    {code: code(1)},
		"Up (Exited (5)) (healthy) no":    {},
	} {
		gotCode, gotHealth := parseStatus(text)
		require.Equal(t, want.code, gotCode, text)
		require.Equal(t, want.health, gotHealth, text)
	}
}

func TestOwnName(t *testing.T) {
	for want, names := range map[string][]string{
		"":    nil,
		"web": {"/proxy/backend", "/web", "/other/web"},
		"a":   {"a"},
		"b":   {"/b"},
	} {
		require.Equal(t, want, ownName(names))
	}
	require.Empty(t, ownName([]string{"/proxy/backend"}))
}

func TestReferences(t *testing.T) {
	require.Nil(t, references(nil))
	require.Nil(t, references([]string{"<none>:<none>"}))
	require.Nil(t, references([]string{"<none>@<none>", "<none>@sha256:00", ""}))
	require.Equal(t, []string{"a:1", "b:1"}, references([]string{"b:1", "<none>:<none>", "a:1", "b:1"}))
}

func TestInspected(t *testing.T) {
	var c container.InspectResponse
	require.NoError(t, json.Unmarshal([]byte(`{
		"Id": "abc", "Name": "/web", "Created": "2024-05-01T10:00:00.123456789Z", "Path": "sh", "Args": [], "Image": "sha256:1",
		"State": {"Status": "running", "Running": true, "Pid": 7, "StartedAt": "2024-05-01T10:00:01+02:00",
			"FinishedAt": "0001-01-01T00:00:00Z", "Health": {"Status": "none"}},
		"HostConfig": {"RestartPolicy": {"Name": ""}},
		"Config": {"Image": "busybox", "Labels": {}, "ExposedPorts": {"80/tcp": {}, "9/udp": {}, "9/tcp": {}, "443": {}}},
		"Mounts": [{"Type": "bind", "Source": "/s", "Destination": "/z", "RW": false}, {"Type": "volume", "Name": "v", "Destination": "/a", "RW": true}],
		"NetworkSettings": {
			"Ports": {"443/tcp": null, "80/tcp": [
				{"HostIp": "::", "HostPort": "8080"}, {"HostIp": "0.0.0.0", "HostPort": "10000"}, {"HostIp": "0.0.0.0", "HostPort": "8080"},
				{"HostIp": "", "HostPort": "1"}, {"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]},
			"Networks": {"z": {"NetworkID": "n1", "IPAddress": ""}, "a": {"NetworkID": "n2", "IPAddress": "10.0.0.2"}, "m": null}}
	}`), &c))
	require.Equal(t, dockerio.Container{
		ID: "abc", Name: "web", Path: "sh", ImageID: "sha256:1", ImageName: "busybox",
		Ports: []messages.ContainerPort{
			{Name: "9/tcp"}, {Name: "9/udp"},
			{Name: "80/tcp", Bindings: []messages.PortBinding{
				{HostIP: "", HostPort: "1"}, {HostIP: "0.0.0.0", HostPort: "8080"}, {HostIP: "0.0.0.0", HostPort: "10000"},
				{HostIP: "127.0.0.1", HostPort: "8080"}, {HostIP: "::", HostPort: "8080"}}},
			{Name: "443/tcp"},
		},
		Mounts: []messages.ContainerMount{
			{Type: "volume", Name: "v", Destination: "/a", ReadWrite: true}, {Type: "bind", Source: "/s", Destination: "/z"}},
		Networks: []messages.ContainerNetwork{{Name: "a", NetworkID: "n2", IPAddress: "10.0.0.2"}, {Name: "m"}, {Name: "z", NetworkID: "n1"}},
		Status:   "running", Running: true, Pid: 7, RestartPolicy: "no", StopTimeout: dockerio.DefaultGrace,
		Created:   dockerio.ParseTime("2024-05-01T10:00:00.123456789Z"),
		StartedAt: dockerio.ParseTime("2024-05-01T08:00:01Z"),
	}, inspected(c))
}

func TestInspected_Bare(t *testing.T) {
	require.Equal(t, dockerio.Container{ID: "abc", Status: "dead", RestartPolicy: "no", StopTimeout: dockerio.DefaultGrace},
		inspected(container.InspectResponse{ID: "abc", State: &container.State{Status: "dead"}}))
}

func TestContainerRow_HealthOfNewerEngines(t *testing.T) {
	row := containerRow(container.Summary{ID: "abc", Status: "Up 2 hours", Health: &container.HealthSummary{Status: "healthy"}})
	require.Equal(t, "healthy", row.Health)
	row = containerRow(container.Summary{ID: "abc", Status: "Up 2 hours", Health: &container.HealthSummary{Status: "none"}})
	require.Empty(t, row.Health)
}

func TestEvent(t *testing.T) {
	for action, want := range map[string]string{
		"start": "start", "health_status: healthy": "health_status", "exec_create: sh -c 'a: b'": "exec_create", "": "",
	} {
		e := event(events.Message{Type: "container", Action: events.Action(action), Time: 5})
		require.Equal(t, want, e.Action)
		require.Equal(t, dockerio.UnixTime(5), e.Time)
	}
	require.Equal(t, "1714557600.000000001", event(events.Message{Time: 1, TimeNano: 1714557600000000001}).Time.Since())
	require.True(t, event(events.Message{}).Time.IsZero())
}

func TestFailed_PermissionDenied(t *testing.T) {
	// What a dial returns where the socket belongs to somebody else; root cannot make the kernel say it.
	cause := &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)}
	err := what{"ping", kindEngine, "unix:///x"}.failed(t.Context(), answer{}, fmt.Errorf("some words: %w", &dialError{cause}))
	require.ErrorIs(t, err, messages.ErrForbidden)
	require.ErrorIs(t, err, messages.ErrPermanent)
	require.ErrorContains(t, err, "permission denied")
}

func FuzzInspected(f *testing.F) {
	f.Add([]byte(`{"Id":"a","State":{"Status":"running"},"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"::"}]}}}`))
	f.Add([]byte(`{"Id":"a","State":{},"Config":{"ExposedPorts":{"":{},"1":{}}},"HostConfig":{}}`))
	f.Fuzz(func(_ *testing.T, text []byte) {
		var c container.InspectResponse
		if json.Unmarshal(text, &c) == nil && c.State != nil {
			inspected(c)
		}
		var s container.Summary
		if json.Unmarshal(text, &s) == nil {
			containerRow(s)
		}
		var e events.Message
		if json.Unmarshal(text, &e) == nil {
			event(e)
		}
	})
}

package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/vmdriver/native/host"
)

func TestMain(m *testing.M) { Main(m) }

// requireGone wants no trace of our own engines; those of a neighbouring test binary may come and go meanwhile.
func requireGone(t *testing.T, sockets []string, engines ...*Engine) {
	t.Helper()
	for _, e := range engines {
		var left host.Traces
		// The kernel removes some on its own time.
		require.Eventually(t, func() bool { left = e.onHost().Traces(); return left.Empty() }, 5*time.Second, 10*time.Millisecond,
			"left behind: %+v", &left)
		require.NoDirExists(t, e.dir)
	}
	for _, s := range sockets {
		require.NoFileExists(t, s)
	}
}

func startedAt(t *testing.T, e *Engine, container string) string {
	t.Helper()
	return e.Docker(t, "inspect", "-f", "{{.State.StartedAt}} {{.State.Running}}", container)
}

func TestEngineRunsContainers(t *testing.T) {
	e := ForTest(t)
	e.Clean(t)
	first := e.ImportBusybox(t, "busybox:latest")
	second := e.ImportImage(t, "marked:1", "hello")
	require.NotEqual(t, first, second)
	require.Equal(t, second, e.Docker(t, "inspect", "-f", "{{.Id}}", "marked:1"))
	require.Equal(t, "hello", e.Docker(t, "run", "--rm", "marked:1", "cat", "/marker"))

	e.Docker(t, "run", "-d", "--name", "web", "-v", "data:/data", "busybox", "sleep", "1000")
	e.Docker(t, "network", "create", "net")
	_, err := e.DockerErr("inspect", "nobody")
	require.ErrorContains(t, err, "nobody")
	require.Less(t, len(e.Socket()), 100)

	e.Clean(t)
	require.Empty(t, e.Docker(t, "ps", "-aq"))
	require.Empty(t, e.Docker(t, "volume", "ls", "-q"))
	require.Empty(t, e.Docker(t, "images", "-aq"))
	require.Len(t, strings.Fields(e.Docker(t, "network", "ls", "-q")), 3)
}

func TestEngineKilledAndRestartedKeepsContainersWithLiveRestore(t *testing.T) {
	t.Parallel()
	e := New(t, Options{LiveRestore: true})
	e.ImportBusybox(t, "busybox")
	e.Docker(t, "run", "-d", "--name", "web", "busybox", "sleep", "1000")
	before := startedAt(t, e, "web")
	require.Contains(t, before, " true")

	// Twice at once: the second time init may not have collected the first containerd yet.
	for range 2 {
		pid := e.PID()
		require.NoError(t, e.Kill())
		require.Zero(t, e.PID())
		require.Error(t, e.Ping(t.Context()))
		require.NoError(t, e.Restart(t.Context()))
		require.NotEqual(t, pid, e.PID())
		require.Equal(t, before, startedAt(t, e, "web"))
	}
	require.NoError(t, e.Restart(t.Context()), "of a running engine")
	require.Equal(t, before, startedAt(t, e, "web"))
}

func TestEngineFrozenAnswersNothingUntilThawed(t *testing.T) {
	t.Parallel()
	e := New(t)
	require.NoError(t, e.Freeze())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, e.Ping(ctx), context.DeadlineExceeded)
	require.NoError(t, e.Thaw())
	require.NoError(t, e.Ping(t.Context()))

	require.NoError(t, e.Freeze())
	require.NoError(t, e.Close(), "of a frozen engine")
	requireGone(t, nil, e)
}

func TestEnginesHaveTheirOwnIdentity(t *testing.T) {
	shared, own := ForTest(t), New(t)
	id := func(e *Engine) string { return e.Docker(t, "info", "-f", "{{.ID}}") }
	require.NotEqual(t, id(shared), id(own))
	require.NotEqual(t, shared.rec.Subnet, own.rec.Subnet)
	before := id(own)
	require.NoError(t, own.Restart(t.Context()))
	require.Equal(t, before, id(own))
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	filter := func() string {
		out, _ := exec.Command("iptables-save").Output()
		return string(out)
	}
	for _, c := range []struct {
		name    string
		options Options
		last    func(*testing.T, *Engine)
	}{
		{"running", Options{}, func(*testing.T, *Engine) {}},
		{"killed", Options{LiveRestore: true}, func(t *testing.T, e *Engine) { require.NoError(t, e.Kill()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := New(t, c.options)
			e.ImportBusybox(t, "busybox")
			e.Docker(t, "network", "create", "net")
			e.Docker(t, "run", "-d", "--name", "web", "-p", "127.0.0.1::80", "-v", "data:/data", "busybox", "sleep", "1000")
			e.Docker(t, "run", "-d", "--name", "other", "--network", "net", "busybox", "sh", "-c", "trap : TERM; sleep 1000")
			sockets := host.ShimSockets(e.execRoot())
			require.Len(t, sockets, 2)
			seen := e.onHost().Traces()
			require.NotEmpty(t, seen.Processes)
			require.NotEmpty(t, seen.Mounts)
			require.NotEmpty(t, seen.Links)
			require.NotEmpty(t, seen.Cgroups)
			bridges := append(host.NetworkBridges(e.dataRoot()), e.Bridge())
			require.Len(t, bridges, 2)
			c.last(t, e)

			require.NoError(t, e.Close())
			requireGone(t, sockets, e)
			for _, b := range bridges {
				require.NoDirExists(t, filepath.Join("/sys/class/net", b))
				require.NotContains(t, filter(), b)
			}
			require.NoError(t, e.Close(), "again")
			require.Error(t, e.Restart(t.Context()))
		})
	}
}

// ownerEnv makes this test binary start an engine and die without closing it.
const ownerEnv = "RDD_ENGINETEST_DIE_AS_OWNER"

func TestEngineOfADeadTestIsSwept(t *testing.T) {
	if os.Getenv(ownerEnv) != "" {
		e, err := Start(t.Context(), Options{})
		require.NoError(t, err)
		e.ImportBusybox(t, "busybox")
		e.Docker(t, "run", "-d", "busybox", "sleep", "1000")
		fmt.Printf("\nengine %s\n", e.dir)
		os.Exit(0)
	}
	skipWithoutEngine(t)
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
	command.Env = append(os.Environ(), ownerEnv+"=1")
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s", out)
	_, dir, ok := strings.Cut(string(out), "\nengine ")
	require.True(t, ok, "%s", out)
	orphan := &Engine{dir: strings.TrimSpace(dir)}
	content, err := os.ReadFile(orphan.recordFile())
	if err == nil { // a neighbouring test binary may have been faster
		require.NoError(t, json.Unmarshal(content, &orphan.rec))
		require.NotEmpty(t, orphan.onHost().Traces().Processes)
	} else {
		orphan.rec.Bridge, orphan.rec.Subnet = "rddt"+filepath.Base(orphan.dir), netip.MustParsePrefix("10.215.240.0/20")
	}

	require.NoError(t, Sweep())
	requireGone(t, nil, orphan)
}

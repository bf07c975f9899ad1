package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { Main(m) }

// traces is what an engine could leave behind on the machine.
type traces struct {
	Processes, Mounts, Links, Rules, Cgroups, Files, ShimSockets []string
}

// observe collects the traces on the machine. An engine of a neighbouring test binary may come and go meanwhile, so that only
// what concerns our own engines is looked at.
func observe(t *testing.T, engines ...*Engine) traces {
	t.Helper()
	var found traces
	for _, e := range engines {
		for _, r := range scan() {
			if r.mentions(e.dir) {
				found.Processes = append(found.Processes, strings.Join(r.args, " "))
			}
		}
		for _, p := range e.processes() {
			found.Processes = append(found.Processes, fmt.Sprint(p))
		}
		found.Mounts = append(found.Mounts, mounts(e.dir)...)
		links, err := os.ReadDir("/sys/class/net")
		require.NoError(t, err)
		for _, l := range links {
			if strings.HasPrefix(l.Name(), e.rec.Bridge) || strings.HasPrefix(l.Name(), "veth") {
				found.Links = append(found.Links, l.Name())
			}
		}
		for _, tool := range []string{"iptables-save", "ip6tables-save"} {
			out, _ := exec.Command(tool).Output()
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, e.rec.Bridge) || strings.Contains(line, e.rec.Subnet+".") {
					found.Rules = append(found.Rules, line)
				}
			}
		}
		found.Cgroups = append(found.Cgroups, cgroups(e.rec.Cgroup)...)
		if _, err := os.Stat(e.dir); err == nil {
			found.Files = append(found.Files, e.dir)
		}
		found.ShimSockets = append(found.ShimSockets, e.shimSockets()...)
	}
	return found
}

// requireGone waits a moment for what the kernel removes on its own time (the network devices of a dead container) and then wants
// nothing left.
func requireGone(t *testing.T, sockets []string, engines ...*Engine) {
	t.Helper()
	neighbours := vethNames()
	var left traces
	require.Eventually(t, func() bool {
		left = observe(t, engines...)
		left.Links = slices.DeleteFunc(left.Links, func(l string) bool { return slices.Contains(neighbours, l) })
		return len(left.Processes)+len(left.Mounts)+len(left.Links)+len(left.Rules)+len(left.Cgroups)+len(left.Files) == 0
	}, 5*time.Second, 10*time.Millisecond, "left behind: %+v", &left)
	for _, s := range sockets {
		require.NoFileExists(t, s)
	}
}

// vethNames lists container ends that hang on a bridge: those of other engines, once ours is gone.
func vethNames() []string {
	found, _ := filepath.Glob("/sys/class/net/veth*/master")
	for i, f := range found {
		found[i] = filepath.Base(filepath.Dir(f))
	}
	return found
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
		out, _ := exec.Command("sh", "-c", "iptables-save -t filter; iptables-save -t nat").Output()
		return string(out)
	}
	hadChains := strings.Contains(filter(), "DOCKER")
	t.Cleanup(func() { // when all engines of this test are closed
		if hadChains || filterUser() {
			t.Log("another dockerd uses the packet filter: the shared chains are left to it")
			return
		}
		require.NotContains(t, filter(), "DOCKER")
	})
	for _, c := range []struct {
		name    string
		options Options
		last    func(*testing.T, *Engine)
	}{
		{"running", Options{}, func(*testing.T, *Engine) {}},
		{"with packet filter rules", Options{IPTables: true}, func(t *testing.T, e *Engine) {
			require.NotEmpty(t, observe(t, e).Rules)
		}},
		{"killed", Options{LiveRestore: true}, func(t *testing.T, e *Engine) { require.NoError(t, e.Kill()) }},
		{"killed with packet filter rules", Options{IPTables: true}, func(t *testing.T, e *Engine) { require.NoError(t, e.Kill()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !c.options.IPTables { // who shares the chains leaves them to the other: these go one after the other
				t.Parallel()
			}
			e := New(t, c.options)
			e.ImportBusybox(t, "busybox")
			e.Docker(t, "network", "create", "net")
			e.Docker(t, "run", "-d", "--name", "web", "-p", "127.0.0.1::80", "-v", "data:/data", "busybox", "sleep", "1000")
			e.Docker(t, "run", "-d", "--name", "other", "--network", "net", "busybox", "sh", "-c", "trap : TERM; sleep 1000")
			sockets := e.shimSockets()
			require.Len(t, sockets, 2)
			seen := observe(t, e)
			require.NotEmpty(t, seen.Processes)
			require.NotEmpty(t, seen.Mounts)
			require.NotEmpty(t, seen.Links)
			require.NotEmpty(t, seen.Cgroups)
			bridges := append(e.networkBridges(), e.Bridge())
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
		require.NotEmpty(t, observe(t, orphan).Processes)
	} else {
		orphan.rec.Bridge, orphan.rec.Subnet = "rddt"+filepath.Base(orphan.dir), "10.213.x"
	}

	require.NoError(t, Sweep())
	requireGone(t, nil, orphan)
}

func TestSignalOnlyTheSameProcess(t *testing.T) {
	command := exec.CommandContext(t.Context(), "sleep", "1000")
	require.NoError(t, command.Start())
	p, err := identify(command.Process.Pid)
	require.NoError(t, err)
	require.True(t, p.alive())

	stranger := process{PID: p.PID, Start: p.Start - 1}
	require.False(t, stranger.alive())
	require.NoError(t, kill([]process{stranger}))
	require.True(t, p.alive(), "a process with another start time was signalled")

	require.NoError(t, kill([]process{p}))
	require.Error(t, command.Wait())
	require.False(t, p.alive())
	require.NoError(t, kill([]process{p, {}}), "of an ended process")
}

func TestParseRoutes(t *testing.T) {
	table := "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"br0\t0007D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
	require.Equal(t, "[10.213.7.0/24]", fmt.Sprint(parseRoutes(table)))
}

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/tests/enginetest"
	"github.com/rdd-desktop/rdd/vmdriver/native/host"
)

// nativeShell is a user with a dockerd installed and nothing else: no engine runs.
func nativeShell(t *testing.T, instance string) *shell {
	t.Helper()
	if err := enginetest.Available(); err != nil {
		t.Skip("no dockerd can be run here: ", err)
	}
	return shellAtHome(t, shortDir(t), instance)
}

// engine is the private engine of the shell's instance.
func (s *shell) engine() *enginetest.Client {
	return enginetest.At(s.run("rdd svc paths docker_socket"), s.T.TempDir())
}

// started brings the application up, with an image to run.
func (s *shell) started() *enginetest.Client {
	s.Helper()
	s.run("rdd set running=true --timeout 1m")
	require.Equal(s, "native", s.run("rdd ctl get app/app -o jsonpath={.status.driver}"))
	e := s.engine()
	e.ImportBusybox(s.T, "busybox:latest")
	return e
}

// onHost reads from dockerd's configuration where its traces on the machine are.
func (s *shell) onHost() host.Engine {
	s.Helper()
	e, err := host.ReadEngine(filepath.Join(s.run("rdd svc paths dir"), "native", "daemon.json"))
	require.NoError(s, err)
	return e
}

func (s *shell) dockerd() host.Process {
	s.Helper()
	p, ok := s.onHost().Daemon()
	require.True(s, ok, "dockerd runs")
	return p
}

// daemon is rdd's own process.
func (s *shell) daemon() host.Process {
	s.Helper()
	pid, err := strconv.Atoi(s.run(`rdd version -o json | grep '"pid"' | tr -dc 0-9`))
	require.NoError(s, err)
	p, err := host.Identify(pid)
	require.NoError(s, err)
	return p
}

func kill9(t *testing.T, p host.Process) {
	t.Helper()
	require.NoError(t, host.Kill([]host.Process{p}))
}

func TestAtAShellWithNothingButDockerd(t *testing.T) {
	s := nativeShell(t, "e2e")
	e := s.started()
	atAShell(t, s, e)
}

// startedAt of running containers by name; of others the state.
func startedAt(t *testing.T, e *enginetest.Client) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, name := range strings.Fields(e.Docker(t, "ps", "-a", "--format", "{{.Names}}")) {
		found[name] = e.Docker(t, "inspect", "-f", "{{if .State.Running}}{{.State.StartedAt}}{{else}}{{.State.Status}}{{end}}", name)
	}
	return found
}

var policies = []string{"no", "on-failure", "unless-stopped", "always"}

// Containers outlive rdd and dockerd, whatever their restart policy; and a stop of the application is no stop by the user.
func TestContainersOutliveTheirKeepers(t *testing.T) {
	s := nativeShell(t, "e2e")
	e := s.started()
	for _, p := range policies {
		e.Docker(t, "run", "-d", "--name", p, "--restart", p, "--stop-timeout", "1", "busybox", "sleep", "3600")
	}
	e.Docker(t, "create", "--name", "never", "--restart", "always", "busybox", "sleep", "3600")
	before, engine := startedAt(t, e), s.dockerd()
	uid := s.run("rdd ctl get container/always -o jsonpath={.metadata.uid}")
	mirrored := func(what string) {
		t.Helper()
		require.Equal(t, before, startedAt(t, e), what)
		s.run("rdd ctl wait app/app --for=condition=Settled --timeout 30s")
		for _, p := range policies {
			require.Equal(t, "running", s.run("rdd ctl get container/"+p+" -o jsonpath={.status.status}"), what)
		}
		require.Equal(t, uid, s.run("rdd ctl get container/always -o jsonpath={.metadata.uid}"), what)
	}

	s.run("rdd svc restart")
	mirrored("after svc restart")
	require.Equal(t, engine, s.dockerd(), "adopted")
	s.run("rdd svc stop --keep-engine")
	require.Equal(t, before, startedAt(t, e))
	s.run("rdd svc start")
	mirrored("after svc stop --keep-engine and svc start")
	require.Equal(t, engine, s.dockerd(), "adopted")
	kill9(t, s.daemon())
	s.run("rdd svc start")
	mirrored("after SIGKILL of rdd")
	require.Equal(t, engine, s.dockerd(), "adopted")

	kill9(t, engine)
	s.run(`rdd ctl wait app/app --for=jsonpath='{.status.conditions[?(@.type=="Running")].reason}'=Started --timeout 30s`)
	require.Eventually(t, func() bool { p, ok := s.onHost().Daemon(); return ok && p != engine }, patience, 50*time.Millisecond, "started again")
	s.run("rdd ctl wait app/app --for=condition=Settled --timeout 30s")
	mirrored("after SIGKILL of dockerd")

	for round := range 2 {
		s.run("rdd set running=false --timeout 1m")
		_, runs := s.onHost().Daemon()
		require.False(t, runs)
		s.run("rdd set running=true --timeout 1m")
		after := startedAt(t, e)
		for _, p := range []string{"unless-stopped", "always"} {
			require.Contains(t, after[p], "T", "round %d: %s runs again", round, p)
			require.NotEqual(t, before[p], after[p])
		}
		require.Equal(t, "exited", after["no"])
		require.Equal(t, "created", after["never"])
		before = after
	}
}

// A dockerd that ends by itself, in order or not, is started again as long as the application shall run, and the mirror says
// meanwhile that it crashed.
func TestDockerdEndsByItself(t *testing.T) {
	s := nativeShell(t, "e2e")
	s.started()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		p := s.dockerd()
		require.NoError(t, p.Signal(sig))
		require.True(t, p.Wait(t.Context()))
		require.Eventually(t, func() bool { now, ok := s.onHost().Daemon(); return ok && now != p }, patience, 20*time.Millisecond)
		s.run("rdd ctl wait app/app --for=condition=Settled --timeout 30s")
		require.Contains(t, s.run("rdd events"), "went down by itself", "after %s", sig)
	}
	s.run("rdd set running=false --timeout 30s")
	require.Equal(t, "Stopped", s.run(`rdd ctl get app/app -o jsonpath='{.status.conditions[?(@.type=="Running")].reason}'`))
}

// However many containers run, and one of them deaf, svc stop takes a bounded time and leaves nothing but files, and svc delete
// leaves no file.
func TestStopLeavesNothing(t *testing.T) {
	s := nativeShell(t, "e2e")
	e := s.started()
	e.Docker(t, "network", "create", "net")
	e.Docker(t, "run", "-d", "--name", "web", "-p", "127.0.0.1::80", "-v", "data:/data", "--restart", "always", "busybox", "sleep", "3600")
	e.Docker(t, "run", "-d", "--name", "other", "--network", "net", "-p", "127.0.0.1::81", "busybox", "sleep", "3600")
	e.Docker(t, "run", "-d", "--name", "deaf", "--stop-timeout", "2", "busybox", "sh", "-c", "trap '' TERM INT; while :; do sleep 1; done")
	e.Docker(t, "run", "-d", "--name", "paused", "--stop-timeout", "2", "busybox", "sleep", "3600")
	e.Docker(t, "pause", "paused")
	at := s.onHost()
	traces := at.Traces()
	for _, some := range [][]string{traces.Processes, traces.Mounts, traces.Links, traces.Rules, traces.Cgroups, traces.ShimSockets} {
		require.NotEmpty(t, some, "otherwise the end of this test could not fail: %+v", traces)
	}
	require.Len(t, traces.Links, 2, "the bridge, and the one of the user's network")
	daemon := s.daemon()

	began := time.Now()
	s.run("rdd svc stop")
	t.Logf("svc stop took %s", time.Since(began).Round(time.Millisecond))
	require.Less(t, time.Since(began), 25*time.Second)
	require.False(t, daemon.Alive())
	require.Eventually(t, func() bool { traces = at.Traces(); return traces.Empty() }, 5*time.Second, 20*time.Millisecond, "left behind: %+v", &traces)
	for _, f := range traces.ShimSockets {
		require.NoFileExists(t, f)
	}
	for _, key := range []string{"docker_socket", "lock", "edge", "pid_file"} {
		require.NoFileExists(t, s.run("rdd svc paths "+key))
	}
	require.NoDirExists(t, at.ExecRoot)

	// What was there before is there again.
	s.run("rdd svc start")
	s.run("rdd ctl wait app/app --for=condition=Settled --timeout 30s")
	require.Equal(t, "running", e.Docker(t, "inspect", "-f", "{{.State.Status}}", "web"))
	require.Contains(t, e.Docker(t, "volume", "ls", "-q"), "data")
	kill9(t, s.daemon()) // its engine runs on, and is ended without it
	s.run("rdd svc delete")
	require.Eventually(t, func() bool { traces = at.Traces(); return traces.Empty() }, 5*time.Second, 20*time.Millisecond, "left behind: %+v", &traces)
	var files []string
	require.NoError(t, filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if !d.IsDir() || strings.Contains(d.Name(), "e2e") {
			files = append(files, path)
		}
		return err
	}))
	require.Empty(t, files)
}

// churnEnv is how long two instances work side by side; an hour is for a machine that has it.
const churnEnv = "RDD_TEST_CHURN"

// Two instances of one user share nothing, and the end of one is nothing to the other.
func TestTwoInstancesSideBySide(t *testing.T) {
	long := 5 * time.Second
	if v := os.Getenv(churnEnv); v != "" {
		var err error
		long, err = time.ParseDuration(v)
		require.NoError(t, err)
	}
	one := nativeShell(t, "t")
	two := shellAtHome(t, one.dir, "t-2")
	shells := []*shell{one, two}
	var engines []*enginetest.Client
	var hosts []host.Engine
	for _, s := range shells {
		engines = append(engines, s.started())
		hosts = append(hosts, s.onHost())
	}
	paths := strings.Fields(one.run("rdd svc paths | awk '{print $2}'"))
	for _, p := range strings.Fields(two.run("rdd svc paths | awk '{print $2}'")) {
		require.NotContains(t, paths, p)
	}
	require.NotEqual(t, hosts[0].Bridge, hosts[1].Bridge)
	require.NotEqual(t, hosts[0].Cgroup, hosts[1].Cgroup)
	require.False(t, hosts[0].Subnet.Overlaps(hosts[1].Subnet))
	require.NotEqual(t, engines[0].Docker(t, "info", "-f", "{{.ID}}"), engines[1].Docker(t, "info", "-f", "{{.ID}}"))

	for _, e := range engines {
		e.Docker(t, "run", "-d", "--name", "steady", "busybox", "sleep", "36000")
	}
	steady := []map[string]string{startedAt(t, engines[0]), startedAt(t, engines[1])}
	rounds := 0
	for end := time.Now().Add(long); time.Now().Before(end); rounds++ {
		for n, e := range engines {
			name := fmt.Sprint("churn", rounds)
			e.Docker(t, "run", "-d", "--name", name, "busybox", "sleep", "60")
			e.Docker(t, "volume", "create", name)
			shells[n].run("rdd ctl wait container/" + name + " --for=condition=Running --timeout 10s")
			require.NotContains(t, engines[1-n].Docker(t, "ps", "-a", "--format", "{{.ID}}", "--no-trunc"),
				e.Docker(t, "inspect", "-f", "{{.Id}}", name))
			shells[n].run("rdd ctl delete container/" + name + " volume/" + name + " --timeout 10s")
		}
	}
	t.Logf("%d rounds in %s", rounds, long)
	require.Positive(t, rounds)
	for n, e := range engines {
		require.Equal(t, steady[n], startedAt(t, e), "nothing but the churn came or went")
		shells[n].run("rdd ctl wait container/steady --for=condition=Running --timeout 5s")
	}

	one.run("rdd svc delete")
	require.Eventually(t, func() bool { return hosts[0].Traces().Empty() }, 5*time.Second, 20*time.Millisecond)
	require.Equal(t, steady[1], startedAt(t, engines[1]))
	two.run("rdd ctl wait app/app --for=condition=Settled --timeout 5s")
	require.NotEmpty(t, hosts[1].Traces().Rules)
	require.Contains(t, two.run("rdd svc ls"), "t-2")
}

// Containers reach a network that has no way back to their addresses, from the default network and from one of a user's.
func TestContainersReachTheOutside(t *testing.T) {
	s := nativeShell(t, "out")
	e := s.started()
	name := strings.ToLower(filepath.Base(s.dir))
	ip := func(args ...string) {
		t.Helper()
		out, err := exec.Command("ip", args...).CombinedOutput()
		require.NoError(t, err, "ip %s: %s", strings.Join(args, " "), out)
	}
	ip("netns", "add", name)
	t.Cleanup(func() { ip("netns", "del", name) }) // with both ends of the cable
	near, far := "n"+name[len(name)-8:], "f"+name[len(name)-8:]
	ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
	ip("addr", "add", "192.0.2.1/24", "dev", near)
	ip("link", "set", near, "up")
	ip("-n", name, "addr", "add", "192.0.2.2/24", "dev", far)
	ip("-n", name, "link", "set", far, "up")
	e.Docker(t, "network", "create", "net")
	for _, network := range []string{"bridge", "net"} {
		out := e.Docker(t, "run", "--rm", "--network", network, "busybox", "ping", "-c", "1", "-W", "5", "192.0.2.2")
		require.Contains(t, out, "1 packets received", network)
	}
}

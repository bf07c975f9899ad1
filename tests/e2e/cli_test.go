package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/tests/enginetest"
)

// shell is a user at a shell with the real program, in a home of their own.
type shell struct {
	*testing.T
	env []string
	dir string
}

// binDir has the program, once it was built; TestMain removes it.
var binDir string

// binary is the program, built once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "rdd-bin")
	if err != nil {
		return "", err
	}
	binDir = dir
	bin := filepath.Join(dir, "rdd")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/rdd-desktop/rdd/cmd/rdd").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return bin, nil
})

// newShell is for an engine that is there already.
func newShell(t *testing.T, e *enginetest.Engine) *shell {
	s := shellAtHome(t, t.TempDir(), "e2e")
	s.env = append(s.env, "DOCKER_HOST="+e.Host())
	s.run("rdd set virtualMachine.driver=external")
	return s
}

// shellAtHome is a shell with this home and instance.
func shellAtHome(t *testing.T, home, instance string) *shell {
	t.Helper()
	bin, err := binary()
	require.NoError(t, err)
	s := &shell{T: t, dir: home}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DOCKER_") && !strings.HasPrefix(v, "RDD_") {
			s.env = append(s.env, v)
		}
	}
	s.env = append(s.env, "HOME="+home, "XDG_DATA_HOME=", "RDD_INSTANCE="+instance, "RDD_TEST_HOOKS=1",
		"PATH="+filepath.Dir(bin)+":"+os.Getenv("PATH"))
	t.Cleanup(func() {
		out, err := s.command("rdd svc delete").CombinedOutput()
		require.NoError(t, err, string(out))
	})
	return s
}

func (s *shell) command(line string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	s.Cleanup(cancel)
	c := exec.CommandContext(ctx, "sh", "-c", line)
	c.Env = s.env
	return c
}

// run gives what the line prints on stdout; it must exit 0.
func (s *shell) run(line string) string {
	s.Helper()
	c := s.command(line)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	require.NoError(s, err, "%s: %s", line, stderr.String())
	return strings.TrimSpace(string(out))
}

func TestAtAShell(t *testing.T) {
	e := enginetest.ForTest(t)
	e.Clean(t)
	e.ImportBusybox(t, "busybox:latest")
	atAShell(t, newShell(t, e), &e.Client)
}

func atAShell(t *testing.T, s *shell, e *enginetest.Client) {
	require.Contains(t, s.run(`x=$(rdd set running=true --timeout 30s); echo "got $x"; rdd svc start | cat`), "got app/app")

	// What runs is on a watch that runs, and in a list, within half a second.
	watch := s.command("exec rdd ctl get containers -w --no-headers")
	lines, err := watch.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, watch.Start())
	seen := make(chan time.Time, 1)
	go func() {
		for r := bufio.NewScanner(lines); r.Scan(); {
			if f := strings.Fields(r.Text()); len(f) > 3 && f[0] == "web" && f[3] == "running" {
				seen <- time.Now()
				return
			}
		}
	}()
	require.Eventually(t, func() bool { return strings.Contains(s.run("rdd tree --all"), "Live") }, patience, 100*time.Millisecond)
	id := e.Docker(t, "run", "-d", "--name", "web", "-p", "18080:80", "--expose", "81", "busybox", "sleep", "3600")
	began := time.Now()
	select {
	case at := <-seen:
		t.Logf("on the watch %s after docker run returned", at.Sub(began).Round(time.Millisecond))
		require.Less(t, at.Sub(began), 500*time.Millisecond)
	case <-time.After(patience):
		t.Fatal("the container never came on the watch")
	}
	require.NoError(t, watch.Process.Kill())
	_ = watch.Wait() // killed

	require.Equal(t, "container/"+id, s.run("rdd ctl get container web -o name"))
	require.Contains(t, s.run("rdd ctl get image --field-selector status.repoTag=busybox:latest -o name"), "image/img-")
	require.Equal(t, "18080 18080", s.run(`rdd ctl get container/web -o jsonpath='{.status.ports[?(@.name=="80/tcp")].bindings[*].hostPort}'`))
	require.Equal(t, "[81/tcp]", "["+s.run(`rdd ctl get container/web -o jsonpath='{.status.ports[?(@.name=="81/tcp")].name}{.status.ports[?(@.name=="81/tcp")].bindings}'`)+"]")
	require.Empty(t, s.run(`rdd ctl get container/web -o jsonpath="{.metadata.annotations['containers\.rancherdesktop\.io/action']}"`))
	require.Contains(t, s.run(`rdd ctl wait container/web --for=jsonpath='{.status.status}'=running --timeout 5s`), "condition met")
	require.Contains(t, s.run(`rdd ctl wait container/web --for=condition=Running --timeout 5s`), "condition met")

	// Of seventeen ids two begin alike: which one is meant is the user's to say.
	for i := range 16 {
		e.Docker(t, "create", "--name", fmt.Sprint("other", i), "busybox", "true")
	}
	first := map[byte]int{}
	for _, id := range strings.Fields(e.Docker(t, "ps", "-aq", "--no-trunc")) {
		first[id[0]]++
	}
	for c, n := range first {
		if n > 1 {
			out, err := s.command("rdd ctl get container/" + string(c)).CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, 2, exit.ExitCode())
			require.Contains(t, string(out), "ambiguous")
			break
		}
	}

	// A namespace that is deleted comes back, and no container goes with it.
	uid := s.run("rdd ctl get ns/moby -o jsonpath={.metadata.uid}")
	began = time.Now()
	s.run("rdd ctl delete containernamespace/moby")
	require.Less(t, time.Since(began), time.Second)
	require.Eventually(t, func() bool {
		now, err := s.command("rdd ctl get ns/moby -o jsonpath={.metadata.uid}").Output()
		return err == nil && string(now) != uid
	}, patience, 50*time.Millisecond)
	require.Equal(t, "true", e.Docker(t, "inspect", "-f", "{{.State.Running}}", "web"))

	// Panics are told with reason and stack.
	s.run("rdd debug panic rdd/engine")
	require.Eventually(t, func() bool {
		out, err := s.command("rdd events --stack").Output()
		return err == nil && strings.Contains(string(out), "panic asked for") && strings.Contains(string(out), "goroutine")
	}, patience, 50*time.Millisecond)
	s.run("rdd ctl wait app/app --for=condition=ContainerEngineReady --timeout 20s")

	for range 2 {
		began = time.Now()
		s.run("rdd set --timeout=30s running=false") // a native engine waits for its containers
		t.Logf("set running=false took %s", time.Since(began).Round(time.Millisecond))
	}
	require.Less(t, time.Since(began), time.Second, "the second time there is nothing to do")
	require.Empty(t, s.run("rdd ctl get ns -o name"))
	s.run("rdd set running=true --timeout 10s")
	s.run("rdd ctl wait ns/moby --for=create --timeout 10s")

	e.Docker(t, "rm", "-f", "web")
	s.run("rdd ctl wait container/" + id + " --for=delete --timeout 5s")
	pid := s.run(`rdd version -o json | grep '"pid"' | tr -dc 0-9`)
	s.run("rdd svc stop")
	require.Eventually(t, func() bool { // until init has collected it, it is a zombie
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, 100*time.Millisecond, 10*time.Millisecond)
	require.NotContains(t, s.run(`ls "$(rdd svc paths dir)"`), "lock")
	require.NoFileExists(t, s.run("rdd svc paths dir")+"/edge.json")
}

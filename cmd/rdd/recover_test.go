//go:build unix

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

// Killed in the middle of a start, rdd is not starting: it is not running. The next daemon goes on from the spec, and ends in
// what the engine is then.
func Test_F20_AStartThatWasKilledIsFinishedByTheNextDaemon(t *testing.T) {
	b := newBox(t)
	release := b.engine.hang()
	t.Cleanup(release)
	e := b.run("set", "running=true", "virtualMachine.driver=external", "--timeout", "100ms")
	require.Equal(t, 4, e.code, e.err)
	b.kill()
	e = b.run("status", "-o", "json")
	require.Equal(t, 7, e.code)
	require.NotContains(t, strings.ToLower(e.out), "starting")
	release()
	b.ok("svc", "start")
	b.ok("ctl", "wait", "app/app", "--for=condition=Settled", "--timeout", "20s")
	a := b.app()
	require.Equal(t, int64(2), a.Generation)
	require.Equal(t, metav1.ConditionTrue, messages.Condition(a, messages.ConditionContainerEngineReady).Status)
}

func Test_F20_AStartThatCannotGoOnEndsInAFailure(t *testing.T) {
	b := newBox(t)
	release := b.engine.hang()
	t.Cleanup(release)
	e := b.run("set", "running=true", "virtualMachine.driver=external", "--timeout", "100ms")
	require.Equal(t, 4, e.code, e.err)
	b.kill()
	require.NoError(t, os.Remove(b.engine.socket))
	b.ok("svc", "start")
	e = b.run("ctl", "wait", "app/app", "--for=condition=Settled", "--timeout", "20s")
	require.Equal(t, 9, e.code, e.err)
	require.Contains(t, e.err, "StartFailed")
	require.Contains(t, e.err, b.engine.socket, "the blocker is named")
}

// What a wait says at its deadline, for people and for programs.
func TestTheDeadlineOfAWaitNamesTheBlocker(t *testing.T) {
	b := newBox(t)
	release := b.engine.hang()
	t.Cleanup(release)
	e := b.run("set", "running=true", "virtualMachine.driver=external", "--timeout", "2s")
	require.Equal(t, 4, e.code, e.err)
	require.Regexp(t, `blocked by +engine +ContainerEngineReady=False +reason=Connect`, e.err)
	e = b.run("set", "running=true", "--timeout", "1s", "-o", "json")
	require.Equal(t, 4, e.code, e.err)
	var s status
	require.NoError(t, json.Unmarshal([]byte(e.err), &s), e.err)
	require.Equal(t, messages.CodeTimeout, s.Reason)
	require.Equal(t, messages.ConditionContainerEngineReady, s.Details["condition"])
	require.Equal(t, messages.ReasonConnectFailed, s.Details["reason"])
	require.NotEmpty(t, s.Details["message"])
	require.Equal(t, 8, b.run("status").code)
	e = b.run("ctl", "wait", "app/app", "--for=condition=Settled", "--timeout", "2s")
	require.Equal(t, 4, e.code)
	require.Contains(t, e.err, "ConnectFailed")
}

// A home and nothing else: no PATH, no USER, no TMPDIR.
func Test_F49_AStartWithAnEmptyEnvironment(t *testing.T) {
	b := newBox(t)
	rdd, err := exec.LookPath("rdd")
	require.NoError(t, err)
	b.env = []string{"HOME=" + b.home}
	c := b.command("set", "running=true", "virtualMachine.driver=external", "virtualMachine.socket="+b.engine.socket, "--timeout", "20s")
	c.Path, c.Err = rdd, nil
	out, err := c.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "settled in")
	c = b.command("svc", "stop")
	c.Path, c.Err = rdd, nil
	out, err = c.CombinedOutput()
	require.NoError(t, err, string(out))
}

// A user without an account and without HOME has no home: that is said, and nothing is made.
func Test_F49_WithoutAnyHomeItSaysWhatIsMissing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be somebody without an account")
	}
	rdd, err := exec.LookPath("rdd")
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "rdd")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	open := filepath.Join(dir, "rdd")
	require.NoError(t, os.Link(rdd, open))
	c := exec.Command(open, "set", "running=true")
	c.Env = []string{}
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.ExitCode(), string(out))
	require.Contains(t, string(out), "set HOME")
}

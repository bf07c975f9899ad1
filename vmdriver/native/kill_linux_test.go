package native

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/tests/enginetest"
	"github.com/rdd-desktop/rdd/vmdriver"
	"github.com/rdd-desktop/rdd/vmdriver/native/host"
)

// The driver in a process of its own that is killed by SIGKILL before its n-th step.
const killEnv = "RDD_NATIVE_KILL"

type killOrder struct {
	Config Config
	Verb   string
	// Step before which the process ends; 0 = it does not, and tells how many there were.
	Step int
}

func TestMain(m *testing.M) {
	if order := os.Getenv(killEnv); order != "" {
		if err := obey(order); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func obey(text string) error {
	var o killOrder
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	d, n := New(o.Config), 0
	d.step = func(string) {
		if n++; n == o.Step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	err := perform(d, o.Verb)
	fmt.Println(n)
	return err
}

func perform(d *Driver, verb string) error {
	ctx, spec := context.Background(), vmdriver.Spec{Backend: messages.EngineMoby}
	switch verb {
	case "start":
		if err := d.Create(ctx, spec); err != nil {
			return err
		}
		return d.Start(ctx, spec)
	case "stop", "force":
		return d.Stop(ctx, verb == "force")
	}
	return d.Delete(ctx)
}

// killed performs the verb in another process that is killed before the step; it tells whether there was such a step.
func killed(t *testing.T, c Config, verb string, step int) bool {
	t.Helper()
	order, err := json.Marshal(killOrder{c, verb, step})
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), killEnv+"="+string(order))
	out, err := command.CombinedOutput()
	if command.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	require.NoError(t, err, "%s: %s", verb, out)
	steps, err := strconv.Atoi(string(out[:len(out)-1]))
	require.NoError(t, err, "%s", out)
	require.Equal(t, step-1, steps, "each step has had its kill")
	return false
}

// However far a start or a stop has come when rdd is killed, the next start works and the next stop leaves nothing.
func TestKilledAtEveryStep(t *testing.T) {
	for _, verb := range []string{"start", "stop", "force", "delete"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			c := place(t)
			for step := 1; ; step++ {
				if verb != "start" {
					require.NoError(t, perform(New(c), "start"))
					runStubborn(t, c)
				}
				more := killed(t, c, verb, step)
				recovers(t, c, verb, step)
				if !more {
					require.Greater(t, step, 5, "this many steps at least")
					return
				}
			}
		})
	}
}

// runStubborn runs a container that ignores SIGTERM, for whose end dockerd waits a second, and a paused one, which no signal reaches.
func runStubborn(t *testing.T, c Config) {
	t.Helper()
	engine := enginetest.At(c.Socket, c.RunDir)
	if engine.Docker(t, "images", "-q") == "" {
		engine.ImportBusybox(t, "busybox")
	}
	engine.Docker(t, "run", "-d", "--rm", "--stop-timeout", "1", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
	engine.Docker(t, "pause", engine.Docker(t, "run", "-d", "--rm", "--stop-timeout", "1", "busybox", "sleep", "3600"))
}

// recovers looks as the next process of rdd would. Odd steps are followed by a start, even ones by a stop at once.
func recovers(t *testing.T, c Config, verb string, step int) {
	t.Helper()
	at := fmt.Sprintf("killed before step %d of %s", step, verb)
	d := New(c)
	if step%2 == 1 {
		require.NoError(t, perform(d, "start"), at)
		seen, err := d.Inspect(t.Context(), vmdriver.Spec{})
		require.NoError(t, err, at)
		require.Equal(t, vmdriver.Running, seen.Phase, at)
		require.NoError(t, enginetest.At(c.Socket, c.Dir).Ping(t.Context()), at)
	}
	require.NoError(t, perform(d, "stop"), at)
	require.Empty(t, residue(t, d), at)
}

// A record that names a living stranger, by a pid that was given anew or by chance in full, is no reason to touch it.
func TestStrangerIsNeverSignalled(t *testing.T) {
	c := place(t)
	d := New(c)
	command := exec.Command("sleep", "1000")
	require.NoError(t, command.Start())
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	stranger, err := host.Identify(command.Process.Pid)
	require.NoError(t, err)

	for name, named := range map[string]host.Process{
		"reused pid": {PID: stranger.PID, Start: stranger.Start - 100}, "the very process": stranger,
	} {
		require.NoError(t, d.Create(t.Context(), vmdriver.Spec{}))
		require.NoError(t, d.save(record{Stage: stageUp, Boot: host.BootID(), Daemon: named}))
		require.NoError(t, os.WriteFile(c.pidFile(), []byte(strconv.Itoa(stranger.PID)), 0o600))
		seen, err := d.Inspect(t.Context(), vmdriver.Spec{})
		require.NoError(t, err)
		require.Equal(t, vmdriver.Broken, seen.Phase, name)
		require.NoError(t, d.Stop(t.Context(), true), name)
		require.True(t, stranger.Alive(), name)

		require.NoError(t, d.save(record{Stage: stageUp, Boot: host.BootID(), Daemon: named}))
		require.NoError(t, os.WriteFile(c.pidFile(), []byte(strconv.Itoa(stranger.PID)), 0o600))
		require.NoError(t, perform(d, "start"), name)
		require.NotEqual(t, stranger, d.running(t), name)
		require.NoError(t, d.Stop(t.Context(), false), name)
		require.NoError(t, d.Delete(t.Context()), name)
		require.True(t, stranger.Alive(), name)
	}
}

// After a boot of the machine nothing of the record holds: its pids belong to others.
func TestRecordOfAnotherBoot(t *testing.T) {
	c := place(t)
	d := New(c)
	wanted := netip.MustParsePrefix("10.215.224.0/20")
	self, err := host.Identify(os.Getpid())
	require.NoError(t, err)
	require.NoError(t, d.Create(t.Context(), vmdriver.Spec{}))
	require.NoError(t, d.save(record{Stage: stageEnding, Boot: "another", Daemon: self, Subnet: wanted}))
	seen, err := d.Inspect(t.Context(), vmdriver.Spec{})
	require.NoError(t, err)
	require.Equal(t, vmdriver.Stopped, seen.Phase)
	require.NoError(t, perform(d, "start"))
	r, err := d.load()
	require.NoError(t, err)
	require.Equal(t, wanted, r.Subnet, "kept when it is free")
}

func TestUnreadableRecord(t *testing.T) {
	c := place(t)
	d := New(c)
	require.NoError(t, perform(d, "start"))
	p := d.running(t)
	require.NoError(t, os.WriteFile(c.file(recordName), []byte("{"), 0o600))
	next := New(c)
	require.NoError(t, perform(next, "start"))
	require.Equal(t, p, next.running(t), "the running dockerd was found and adopted")
	require.NoError(t, next.Stop(t.Context(), false))
	require.Empty(t, residue(t, next))
}

// dockerd as a zombie: it was our child, it has ended, nobody has collected it.
func TestZombieDockerd(t *testing.T) {
	c := place(t)
	d := New(c)
	require.NoError(t, perform(d, "start"))
	p := d.running(t)
	require.NoError(t, syscall.Kill(p.PID, syscall.SIGKILL))
	require.Eventually(t, func() bool {
		s, err := host.ReadStat(fmt.Sprintf("/proc/%d/stat", p.PID))
		return err == nil && s.State == 'Z'
	}, 5*time.Second, time.Millisecond)
	seen, err := d.Inspect(t.Context(), vmdriver.Spec{})
	require.NoError(t, err)
	require.Equal(t, vmdriver.Broken, seen.Phase)
	require.NoError(t, perform(d, "start"))
	require.NotEqual(t, p, d.running(t))
}

func TestTooLongPaths(t *testing.T) {
	c := place(t)
	c.RunDir += "/a-very-long-name-of-a-directory-that-leaves-no-room-for-a-socket-of-containerd-in-it"
	err := New(c).Create(t.Context(), vmdriver.Spec{})
	require.ErrorIs(t, err, messages.ErrPermanent)
	require.ErrorContains(t, err, "shorter")
	require.NoDirExists(t, c.Dir)
	require.NoDirExists(t, c.RunDir)
}

// A dockerd that stands still hears nothing, and is ended all the same.
func TestFrozenDockerdIsEnded(t *testing.T) {
	c := place(t)
	d := New(c)
	require.NoError(t, perform(d, "start"))
	runStubborn(t, c)
	require.NoError(t, d.running(t).Signal(syscall.SIGSTOP))
	began := time.Now()
	require.NoError(t, d.Stop(t.Context(), false))
	require.Less(t, time.Since(began), reloadLimit+c.Grace+endMargin)
	require.Empty(t, residue(t, d))
}

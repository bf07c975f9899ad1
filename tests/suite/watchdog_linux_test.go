package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/vmdriver/native/host"
)

// neighbour is a process of another run, whose name begins like ours.
func neighbour(t *testing.T, run string) host.Process {
	t.Helper()
	command := exec.Command("sleep", "1000")
	command.Env = append(os.Environ(), markName+"="+run)
	require.NoError(t, command.Start())
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	p, err := host.Identify(command.Process.Pid)
	require.NoError(t, err)
	return p
}

// failing leaves a process behind and fails; the process tells its pid in a file. It fails only when what it leaves is what it shall be:
// a process between fork and exec has no arguments that a bundle could show.
const failing = `setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! > "$0"
until [ "$(cat /proc/$!/comm)" = sleep ]; do :; done; exit 3`

func leftover(t *testing.T, file string) host.Process {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	require.NoError(t, err)
	p, err := host.Identify(pid)
	if err != nil {
		return host.Process{}
	}
	return p
}

func Test_S9_CleaningOneRunLeavesEveryProcessOfAnother(t *testing.T) {
	other := neighbour(t, "t-2")
	dir := t.TempDir()
	pid := filepath.Join(dir, "pid")
	dog := newWatchdog("t", filepath.Join(dir, "bundle"))
	require.Error(t, watched(t.Context(), dog, []string{"sh", "-c", failing, pid}))
	require.False(t, leftover(t, pid).Alive(), "what the run left is ended")
	require.Empty(t, dog.processes())
	require.True(t, other.Alive())
}

// Without a time limit a failure is explained all the same.
func Test_S12_AFailureWithoutATimeLimitYieldsABundle(t *testing.T) {
	dir := t.TempDir()
	pid := filepath.Join(dir, "pid")
	dog := newWatchdog("s12", filepath.Join(dir, "bundle"))
	err := watched(context.Background(), dog, []string{"sh", "-c", failing, pid})
	require.ErrorContains(t, err, "exit status 3")
	require.ErrorContains(t, err, dog.dir)
	for name, want := range map[string]string{
		"reason.txt": "exit status 3", "processes.txt": "sleep 1000", "files.txt": "/dev/null", "machine.txt": "MemTotal",
	} {
		data, err := os.ReadFile(filepath.Join(dog.dir, name))
		require.NoError(t, err)
		require.Contains(t, string(data), want, name)
	}
}

// What hangs when its time is over is looked at while it hangs.
func TestATimeLimitYieldsABundleOfWhatHangs(t *testing.T) {
	dir := t.TempDir()
	dog := newWatchdog("hang", filepath.Join(dir, "bundle"))
	dog.patience = time.Second
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, watched(ctx, dog, []string{"sh", "-c", "sleep 1000"}), "time limit")
	data, err := os.ReadFile(filepath.Join(dog.dir, "processes.txt"))
	require.NoError(t, err)
	require.Contains(t, string(data), "sleep 1000")
	require.Empty(t, dog.processes())
}

func TestSuccessLeavesNoBundle(t *testing.T) {
	dog := newWatchdog("ok", filepath.Join(t.TempDir(), "bundle"))
	require.NoError(t, watched(t.Context(), dog, []string{"true"}))
	require.NoDirExists(t, dog.dir)
}

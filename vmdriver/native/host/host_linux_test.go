package host

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func child(t *testing.T, args ...string) (*exec.Cmd, Process) {
	t.Helper()
	command := exec.Command(args[0], args[1:]...)
	require.NoError(t, command.Start())
	t.Cleanup(func() { _ = command.Process.Kill() })
	p, err := Identify(command.Process.Pid)
	require.NoError(t, err)
	return command, p
}

func TestSignalOnlyTheSameProcess(t *testing.T) {
	_, p := child(t, "sleep", "1000")
	require.True(t, p.Alive())

	stranger := Process{PID: p.PID, Start: p.Start - 1}
	require.False(t, stranger.Alive())
	require.NoError(t, Kill([]Process{stranger}))
	require.True(t, p.Alive(), "a process with another start time was signalled")

	require.NoError(t, Kill([]Process{p}))
	require.False(t, p.Alive())
	require.NoError(t, Kill([]Process{p, {}}), "of an ended process")
}

func TestWait(t *testing.T) {
	_, p := child(t, "sleep", "1000")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.False(t, p.Wait(ctx), "it runs")

	ended := make(chan bool)
	go func() { ended <- p.Wait(t.Context()) }()
	require.NoError(t, Kill([]Process{p}))
	require.True(t, <-ended)
}

// A zombie is dead: nothing can be asked of it. One that is no child of ours cannot be collected by us either.
func TestZombieIsDead(t *testing.T) {
	// When the shell's child ends there is no shell any more to wait for it.
	command := exec.Command("sh", "-c", "sleep 0.2 & echo $!; exec sleep 1000")
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	var pid int
	_, err = fmt.Fscan(out, &pid)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		s, err := ReadStat(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && s.State == 'Z'
	}, 5*time.Second, time.Millisecond)
	p, err := Identify(pid)
	require.NoError(t, err)
	require.False(t, p.Alive())
	require.True(t, p.Wait(t.Context()))
	for _, r := range Scan() {
		require.NotEqual(t, pid, r.PID)
	}
}

func TestStalePIDFileOfAStranger(t *testing.T) {
	dir := t.TempDir()
	_, stranger := child(t, "sleep", "1000")
	file := filepath.Join(dir, "pid")
	require.NoError(t, os.WriteFile(file, []byte(strconv.Itoa(stranger.PID)), 0o600))
	require.NoError(t, RemoveStalePIDFiles(t.Context(), dir, file, filepath.Join(dir, "none")))
	require.NoFileExists(t, file)
	require.True(t, stranger.Alive())

	// One of ours is waited for: its file may be in use.
	_, ours := child(t, "sh", "-c", "sleep 1000", filepath.Join(dir, "config"))
	require.NoError(t, os.WriteFile(file, []byte(strconv.Itoa(ours.PID)), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, RemoveStalePIDFiles(ctx, dir, file), strconv.Itoa(ours.PID))
	require.FileExists(t, file)
	require.True(t, ours.Alive())
}

// Only whole names of folders count: /x/t-2/file is not in /x/t.
func TestMentionsWholeNames(t *testing.T) {
	r := Running{Args: []string{"dockerd", "--config-file", "/x/t-2/daemon.json"}}
	require.True(t, r.Mentions("/x/t-2"))
	require.False(t, r.Mentions("/x/t"))
	require.False(t, r.Mentions("/x/t-2/daemon"))
}

func TestFreeSubnetAvoidsClaims(t *testing.T) {
	first, err := freeSubnet(netip.Prefix{}, nil)
	require.NoError(t, err)
	require.True(t, pools.Contains(first.Addr()))
	second, err := freeSubnet(first, []Claim{{Subnet: first}})
	require.NoError(t, err)
	require.False(t, first.Overlaps(second))
	again, err := freeSubnet(second, []Claim{{Subnet: first}})
	require.NoError(t, err)
	require.Equal(t, second, again, "what it had is taken again when it is free")
	_, err = freeSubnet(netip.Prefix{}, []Claim{{Subnet: pools}})
	require.ErrorContains(t, err, pools.String())
}

func TestParseRoutes(t *testing.T) {
	table := "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"br0\t0007D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
	require.Equal(t, "[10.213.7.0/24]", fmt.Sprint(parseRoutes(table)))
}

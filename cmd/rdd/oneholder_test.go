//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
)

const crowd = 20

// together runs the program many times at once.
func (b *box) together(args func(i int) []string) []ended {
	out := make([]ended, crowd)
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() { out[i] = b.run(args(i)...) })
	}
	wg.Wait()
	return out
}

func (b *box) version() messages.VersionReply {
	b.Helper()
	var v messages.VersionReply
	require.NoError(b, json.Unmarshal([]byte(b.ok("svc", "status", "-o", "json")), &v))
	return v
}

func Test_F26_OfManyStartsOneHolds(t *testing.T) {
	b := newBox(t)
	says := regexp.MustCompile(`^rdd 2 (started|already running) \(pid ([0-9]+)\)\n$`)
	pids := map[string]bool{}
	for _, e := range b.together(func(int) []string { return []string{"svc", "start"} }) {
		require.Zero(t, e.code, e.err)
		m := says.FindStringSubmatch(e.out)
		require.NotNil(t, m, e.out)
		pids[m[2]] = true
	}
	require.Len(t, pids, 1, "everybody was told of the same daemon")
	v := b.version()
	require.Contains(t, pids, strconv.Itoa(v.PID))
	require.Equal(t, int64(1), v.Boot, "nobody else opened the journal")
	b.ok("svc", "stop")
	left, err := os.ReadDir(b.dir())
	require.NoError(t, err)
	for _, f := range left {
		require.NotContains(t, []string{"edge.json", "rdd.lock"}, f.Name())
	}
}

// The first of them finds no daemon: all of them start one, and each change is accepted once.
func Test_F26_OfManySetsEachIsAGeneration(t *testing.T) {
	b := newBox(t)
	says := regexp.MustCompile(`^app/app  generation ([0-9]+)\n$`)
	byGeneration := map[string]int{}
	for i, e := range b.together(func(i int) []string {
		return []string{"set", fmt.Sprint("virtualMachine.cpus=", i+1), "--wait=false"}
	}) {
		require.Zero(t, e.code, e.err)
		m := says.FindStringSubmatch(e.out)
		require.NotNil(t, m, e.out)
		byGeneration[m[1]] = i + 1
	}
	require.Len(t, byGeneration, crowd)
	a := b.app()
	require.Equal(t, int64(crowd+1), a.Generation)
	require.Equal(t, int32(byGeneration[fmt.Sprint(crowd+1)]), a.Spec.VirtualMachine.CPUs, "the last accepted one wins")
	require.Equal(t, int64(1), b.version().Boot)
}

// What says who serves is the lock, nothing else: a live process that the files name has nothing to do with us.
func Test_F25_AStrangerThatOurFilesNameIsLeftAlone(t *testing.T) {
	b := newBox(t)
	stranger := exec.Command("sleep", "600")
	require.NoError(t, stranger.Start())
	died := make(chan error, 1)
	go func() { died <- stranger.Wait() }()
	t.Cleanup(func() { _ = stranger.Process.Kill() })
	start, ok := processStart(stranger.Process.Pid)
	require.True(t, ok)
	forge := func() {
		require.NoError(t, os.MkdirAll(b.dir(), 0o700))
		pid := strconv.Itoa(stranger.Process.Pid)
		require.NoError(t, os.WriteFile(filepath.Join(b.dir(), "rdd.pid"), []byte(pid), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(b.dir(), "edge.json"), fmt.Appendf(nil,
			`{"id":"x","address":"127.0.0.1:1","boot":1,"pid":%s,"processStart":%q,"wireVersions":[1]}`, pid, start), 0o600))
	}
	lives := func() {
		t.Helper()
		require.NoError(t, stranger.Process.Signal(syscall.Signal(0)))
		select {
		case err := <-died:
			t.Fatal("the stranger was ended:", err)
		default:
		}
	}
	forge()
	e := b.run("svc", "stop", "--timeout", "1s")
	lives()
	require.Zero(t, e.code, e.err)
	require.Equal(t, "rdd 2 not running\n", e.out)
	require.Equal(t, 7, b.run("status").code)
	b.ok("svc", "start")
	require.NotEqual(t, stranger.Process.Pid, b.version().PID)
	b.ok("svc", "stop")
	lives()
}

func Test_F21_WhatADeadDaemonLeftIsInNobodysWay(t *testing.T) {
	b := newBox(t)
	b.ok("svc", "start")
	b.kill()
	for _, name := range []string{"edge.json", "rdd.lock"} {
		require.FileExists(t, filepath.Join(b.dir(), name), "killed, it could remove nothing")
	}
	require.NoError(t, os.WriteFile(filepath.Join(b.dir(), "rdd.pid"), []byte("999999999"), 0o600))
	require.Equal(t, 7, b.run("svc", "status").code)
	b.ok("svc", "start")
	require.Equal(t, int64(2), b.version().Boot)
	b.ok("svc", "stop")
	require.NoFileExists(t, filepath.Join(b.dir(), "edge.json"))
	require.NoFileExists(t, filepath.Join(b.dir(), "rdd.lock"))
}

func Test_F44_ADaemonThatHearsNothingIsKilled(t *testing.T) {
	b := newBox(t)
	b.ok("svc", "start")
	f, ok := b.edge()
	require.True(t, ok)
	require.NoError(t, syscall.Kill(f.PID, syscall.SIGSTOP))
	e := b.run("svc", "stop", "--timeout", "500ms")
	require.Zero(t, e.code, e.err)
	require.Contains(t, e.err, "sending SIGTERM to process "+strconv.Itoa(f.PID))
	require.Contains(t, e.err, "sending SIGKILL")
	_, runs := processStart(f.PID)
	require.False(t, runs)
	b.ok("svc", "start")
	b.ok("svc", "stop")
}

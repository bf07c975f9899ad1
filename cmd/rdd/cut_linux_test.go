package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// connections are the established TCP connections of a process; answers are those it accepted: the daemon answers over them.
type connections struct{ all, answers map[int]string } // descriptor → inode

func connectionsOf(pid int) connections {
	const stateEstablished, stateListen = "01", "0A"
	c := connections{map[int]string{}, map[int]string{}}
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		return c
	}
	local, listening := map[string]string{}, map[string]bool{}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 10:
		case f[3] == stateEstablished:
			local["socket:["+f[9]+"]"] = f[1]
		case f[3] == stateListen:
			listening[f[1]] = true
		}
	}
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, l := range links {
		inode, err := os.Readlink(l)
		address := local[inode]
		if err != nil || address == "" {
			continue
		}
		fd, _ := strconv.Atoi(filepath.Base(l))
		c.all[fd] = inode
		if listening[address] {
			c.answers[fd] = inode
		}
	}
	return c
}

// cut shuts TCP connections of a process down in both directions, and gives those that were still open; none when it has ended.
func cut(pid int, sockets map[int]string) (inodes []string) {
	handle, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(handle) }()
	for fd, inode := range sockets {
		mine, err := unix.PidfdGetfd(handle, fd, 0)
		if err != nil {
			continue // closed by now
		}
		if unix.Shutdown(mine, unix.SHUT_RDWR) == nil {
			inodes = append(inodes, inode)
		}
		_ = unix.Close(mine)
	}
	return inodes
}

// The edge is cut twenty times, and the daemon killed twice and started again, while "set" waits: it ends as if nothing had been.
func TestASetOutlivesItsConnectionsAndItsDaemon(t *testing.T) {
	if handle, err := unix.PidfdOpen(os.Getpid(), 0); err != nil {
		t.Skip("no pidfds here: ", err)
	} else {
		_ = unix.Close(handle)
	}
	b := newBox(t)
	release := b.engine.hang()
	t.Cleanup(release)
	b.ok("svc", "start")
	began := time.Now()
	c, wait := b.start("set", "running=true", "virtualMachine.driver=external", "--timeout", "2m")
	result := make(chan ended, 1)
	go func() { result <- wait() }()
	pid := c.Process.Pid
	b.eventually("the change is accepted", func() bool { return b.app().Generation == 2 })

	var dead []string
	fresh := func(sockets map[int]string) bool {
		for _, inode := range sockets {
			if !slices.Contains(dead, inode) {
				return true
			}
		}
		return false
	}
	const cuts = 20
	slow := 0
	for n := range cuts {
		since := time.Now()
		var gone []string
		b.eventually(fmt.Sprintf("cut %d: the daemon answers again after the one before", n), func() bool {
			now := connectionsOf(pid)
			if !fresh(now.answers) {
				return false
			}
			if n%3 == 1 {
				now.all = now.answers
			}
			gone = cut(pid, now.all) // none: what was seen is being replaced
			return len(gone) > 0
		})
		if time.Since(since) > 8*time.Second {
			slow++
		}
		dead = append(dead, gone...)
		if n == cuts/3 || n == 2*cuts/3 {
			b.kill()
			b.ok("svc", "start")
		}
	}
	// A question is repeated after 12 s of silence; but each of these losses is noticed by one side, which tells the other.
	require.Zero(t, slow, "a lost way of the answers is noticed")
	t.Logf("cut after %s", time.Since(began).Round(time.Millisecond))
	select {
	case e := <-result:
		t.Fatalf("it ended too early: %d %s %s", e.code, e.out, e.err)
	default:
	}
	release()
	e := <-result
	t.Logf("settled after %s", time.Since(began).Round(time.Millisecond))
	require.Zero(t, e.code, e.err)
	require.Equal(t, "app/app  generation 2\n", e.out)
	require.Contains(t, e.err, "settled in")
	require.Equal(t, int64(3), b.version().Boot)
}

//go:build unix

package supervisor

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
)

// No file is left to open: who is connected works on, new ones wait, and all is well when there are files again.
func Test_F32_ALowFileLimitIsSurvived(t *testing.T) {
	if !isolated(t) {
		return
	}
	f := besieged(t)
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	limit.Cur = 200
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	var all []*os.File
	for {
		file, err := os.Open(os.DevNull)
		if err != nil {
			require.ErrorIs(t, err, syscall.EMFILE)
			break
		}
		all = append(all, file)
	}
	defer func() {
		for _, file := range all {
			_ = file.Close()
		}
	}()
	spare := func() { // one file: the client's end of a connection takes it, and the daemon's has none
		require.NoError(t, all[len(all)-1].Close())
		all = all[:len(all)-1]
	}
	spare()
	greeting := make(chan error, 1)
	conn := f.connect(certified(f.file))
	go func() {
		s, err := f.receive(conn)
		for err != nil && strings.Contains(err.Error(), "too many open files") { // somebody else of this process has the spare one
			time.Sleep(time.Millisecond)
			s, err = f.receive(conn)
		}
		if err == nil {
			err = s.Send(hello(peerAddress))
		}
		if err == nil {
			_, err = s.Recv()
		}
		greeting <- err
	}()
	require.Eventually(t, func() bool {
		file, err := os.Open(os.DevNull)
		if err == nil {
			_ = file.Close()
		}
		return err != nil
	}, patience, time.Millisecond, "the client took the last file")
	f.unharmed("no files")
	f.mirrors()
	_, err := f.client.Set(t.Context(), messages.SetRequest{Patch: []byte(`{"virtualMachine":{"cpus":3}}`)})
	require.NoError(t, err, "the journal has its file already")
	select {
	case err := <-greeting:
		require.Fail(t, "nobody can have accepted it", "%v", err)
	default:
	}
	for range 20 {
		spare()
	}
	select {
	case err := <-greeting:
		require.NoError(t, err, "it waited in the line")
	case <-time.After(patience):
		require.Fail(t, "it is not let in")
	}
	f.greeted(peerAddress)
	f.unharmed("files again")
}

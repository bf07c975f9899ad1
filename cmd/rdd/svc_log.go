package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
)

const followPause = 200 * time.Millisecond

func newSvcLog(c *cli) *cobra.Command {
	var follow bool
	var tail int
	cmd := &cobra.Command{
		Use: "log", Short: "Print the daemon's log", Args: cobra.NoArgs,
		Long: "Print the daemon's log file. What the daemon could not log (a crash of the Go runtime) is in rdd.err beside it.",
		RunE: func(cmd *cobra.Command, _ []string) error { return c.svcLog(cmd.Context(), follow, tail) },
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is logged")
	cmd.Flags().IntVar(&tail, "tail", -1, "only the last lines; negative = all")
	return cmd
}

func (c *cli) svcLog(ctx context.Context, follow bool, tail int) error {
	i, err := c.theInstance()
	if err != nil {
		return err
	}
	name := logFile(i)
	f, err := os.Open(name)
	for follow && errors.Is(err, fs.ErrNotExist) {
		if err := pause(ctx, followPause); err != nil {
			return err
		}
		f, err = os.Open(name)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return messages.NewError(messages.CodeNotFound, "", "", "", "there is no log file "+name+": the daemon never ran here")
	case errors.Is(err, fs.ErrPermission):
		return messages.WrapError(messages.CodeForbidden, "open", "log file", name, err)
	case err != nil:
		return err
	}
	defer func() { _ = f.Close() }()
	if tail >= 0 {
		if err := seekTail(f, tail); err != nil {
			return err
		}
	}
	if _, err := io.Copy(c.out, f); err != nil || !follow {
		return err
	}
	return c.followLog(ctx, name, f)
}

// followLog copies what is appended, and goes on with the next file when the log is rotated.
func (c *cli) followLog(ctx context.Context, name string, f *os.File) error {
	for {
		if err := pause(ctx, followPause); err != nil {
			return err
		}
		// The present name first: what was written before a rotation is still in f.
		now, statErr := os.Stat(name)
		if _, err := io.Copy(c.out, f); err != nil {
			return err
		}
		was, err := f.Stat()
		if err != nil {
			return err
		}
		if statErr != nil || os.SameFile(was, now) {
			continue
		}
		next, err := os.Open(name)
		if err != nil {
			continue
		}
		_ = f.Close()
		f = next
	}
}

// seekTail moves to the beginning of the last n lines.
func seekTail(f *os.File, n int) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return err
	}
	const chunk = 64 << 10
	buffer := make([]byte, chunk)
	// The newline at the very end closes the last line and begins none.
	for at, lines := end, 0; at > 0; {
		size := min(int64(chunk), at)
		at -= size
		part := buffer[:size]
		if _, err := f.ReadAt(part, at); err != nil && err != io.EOF {
			return err
		}
		for i := bytes.LastIndexByte(part, '\n'); i >= 0; i = bytes.LastIndexByte(part[:i], '\n') {
			if at+int64(i) == end-1 {
				continue
			}
			if lines++; lines == n {
				_, err := f.Seek(at+int64(i)+1, io.SeekStart)
				return err
			}
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	berrors "go.etcd.io/bbolt/errors"

	"github.com/rdd-desktop/rdd/messages"
)

// damaged marks an error that says something about the bytes of the file.
type damaged struct{ error }

func (d damaged) Unwrap() error { return d.error }

// openError says what is wrong, what was kept, and how to go on.
func (b *boltFile) openError(err error) error {
	var d damaged
	var ours *messages.Error
	var errno syscall.Errno
	switch {
	case errors.As(err, &d):
	case errors.As(err, &ours):
		return err
	case errors.Is(err, berrors.ErrTimeout):
		return messages.NewError(messages.CodeConflict, "open", "journal", b.path, "another process has it open")
	case errors.Is(err, fs.ErrPermission):
		return messages.WrapError(messages.CodeForbidden, "open", "journal", b.path, err)
	case errors.Is(err, fs.ErrNotExist):
		return messages.WrapError(messages.CodeInvalid, "open", "journal", b.path, err)
	case errors.As(err, &errno):
		return messages.WrapError(messages.CodeUnavailable, "open", "journal", b.path, err)
	}
	kept, copyErr := keepCopy(b.path, time.Now())
	copied := "A copy was kept as " + kept
	if copyErr != nil {
		copied = fmt.Sprintf("No copy could be kept (%v)", copyErr)
	}
	e := messages.NewError(messages.CodeInternal, "open", "journal", b.path, fmt.Sprintf("the file is damaged: %v. %s; the file itself "+
		"was not changed. To go on, put back a backup of it, or move it away: rdd then starts with default settings and "+
		"without the deletions that were not done yet (containers, images and volumes stay as they are)", err, copied))
	e.Details = map[string]string{"path": b.path}
	if copyErr == nil {
		e.Details["copy"] = kept
	}
	return e
}

// keepCopy copies the file next to itself; the same bytes are kept once.
func keepCopy(path string, now time.Time) (string, error) {
	dir, prefix := filepath.Dir(path), filepath.Base(path)+".corrupt-"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if old := filepath.Join(dir, e.Name()); strings.HasPrefix(e.Name(), prefix) && sameBytes(path, old) {
			return old, nil
		}
	}
	src, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer src.Close()
	name := filepath.Join(dir, prefix+now.UTC().Format("20060102T150405.000Z"))
	dst, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(dst, src)
	if err == nil {
		err = dst.Sync()
	}
	err = errors.Join(err, dst.Close())
	if err != nil {
		_ = os.Remove(name)
		return "", err
	}
	return name, nil
}

func sameBytes(a, b string) bool {
	fa, err := os.Open(a)
	if err != nil {
		return false
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return false
	}
	defer fb.Close()
	ba, bb := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		na, ea := io.ReadFull(fa, ba)
		nb, eb := io.ReadFull(fb, bb)
		if na != nb || !bytes.Equal(ba[:na], bb[:nb]) {
			return false
		}
		if ea != nil || eb != nil {
			end := func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
			return end(ea) && end(eb)
		}
	}
}

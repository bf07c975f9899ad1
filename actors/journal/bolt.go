package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/rdd-desktop/rdd/messages"
)

// lockTimeout is how long Open waits for the file's lock: a daemon that is just ending still has it for a moment.
const lockTimeout = time.Second

// boltFile is the backend of a daemon. One mutex serialises everything: there is one transaction at a time anyway, and a
// Close never meets a transaction.
type boltFile struct {
	path string
	boot int64

	mu sync.Mutex
	db *bbolt.DB // nil when closed
}

// Open opens the journal, or creates it in a directory that must exist; takes its lock; refuses a newer format, damage and a
// truncated file without changing anything; raises boot, and the format of an older file, durably.
func Open(path string) (Backend, Meta, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, Meta{}, err
		}
	}
	b := &boltFile{path: path}
	if err := b.open(); err != nil {
		return nil, Meta{}, err
	}
	m, migration, err := b.migrate()
	if err == nil {
		m.Boot++
		err = b.update(append(migration, Op{Bucket: BucketMeta, Key: keyBoot, Value: decimal(m.Boot)}))
	}
	if err != nil {
		_ = b.Close()
		return nil, Meta{}, err
	}
	b.boot = m.Boot
	return b, m, nil
}

func (b *boltFile) Load(bucket, prefix string) (entries []Entry, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.db == nil {
		return nil, b.closed()
	}
	return b.load(bucket, prefix)
}

func (b *boltFile) Commit(ops []Op) error {
	if err := checkOps(ops); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.db == nil {
		return b.closed()
	}
	return b.update(ops)
}

func (b *boltFile) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.db == nil {
		return nil
	}
	err := guard(b.db.Close)
	b.db = nil
	if err != nil {
		return messages.WrapError(messages.CodeUnavailable, "close", "journal", b.path, err)
	}
	return nil
}

func (b *boltFile) Reopen() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.db != nil {
		return nil
	}
	if err := b.open(); err != nil {
		return err
	}
	m, err := b.meta()
	if err == nil && m.Boot != b.boot {
		err = messages.NewError(messages.CodeConflict, "open", "journal", b.path,
			fmt.Sprintf("another rdd has served from it meanwhile (boot %d, not %d)", m.Boot, b.boot))
	}
	if err != nil {
		_ = guard(b.db.Close)
		b.db = nil
	}
	return err
}

func (b *boltFile) closed() error {
	return messages.NewError(messages.CodeUnavailable, "use", "journal", b.path, "it is closed")
}

func options(readOnly bool) *bbolt.Options {
	return &bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType, NoStatistics: true, ReadOnly: readOnly}
}

// open checks the file under a shared lock, reading only, then opens it for writing.
func (b *boltFile) open() error {
	// bbolt takes an empty file for a new one.
	if info, err := os.Stat(b.path); err == nil && info.Size() == 0 {
		return b.openError(damaged{errors.New("it is empty")})
	}
	err := guard(func() (err error) {
		b.db, err = bbolt.Open(b.path, 0o600, options(true))
		return err
	})
	if err == nil {
		err = b.inspect()
		_ = guard(b.db.Close)
		b.db = nil
		if err != nil {
			return b.openError(err)
		}
		err = guard(func() (err error) {
			b.db, err = bbolt.Open(b.path, 0o600, options(false))
			return err
		})
	}
	if err != nil {
		b.db = nil
		return b.openError(err)
	}
	return nil
}

// damaged marks an error that says something about the bytes of the file.
type damaged struct{ error }

func (d damaged) Unwrap() error { return d.error }

// inspect checks the pages, then the format, then every record.
func (b *boltFile) inspect() error {
	f, err := os.Open(b.path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := verify(f, info.Size()); err != nil {
		return damaged{err}
	}
	meta, err := b.load(BucketMeta, "")
	if err != nil {
		return damaged{err}
	}
	format, err := formatOf(meta)
	switch {
	case err != nil || format == 0:
		return damaged{fmt.Errorf("it has no format record: this is no journal of rdd")}
	case format > Format:
		return messages.NewError(messages.CodeUnsupported, "open", "journal", b.path,
			fmt.Sprintf("written by a newer rdd (format %d, this one reads %d)", format, Format))
	}
	for _, bucket := range buckets {
		if format < bucketsSince[bucket] {
			continue
		}
		if _, err := b.load(bucket, ""); err != nil {
			return damaged{err}
		}
	}
	return nil
}

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

// create makes an empty journal under another name and then gives it its own: whatever stands at path is whole, so that an
// empty or short file is damage, never a fresh start.
func create(path string) error {
	wrap := func(code messages.Code, err error) error {
		return messages.WrapError(code, "create", "journal", path, err)
	}
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); err != nil {
		return wrap(messages.CodeInvalid, err)
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // 0600
	switch {
	case errors.Is(err, fs.ErrPermission):
		return wrap(messages.CodeForbidden, err)
	case err != nil:
		return wrap(messages.CodeUnavailable, err)
	}
	temp := f.Name()
	defer func() { _ = os.Remove(temp) }()
	if err := f.Close(); err != nil {
		return wrap(messages.CodeUnavailable, err)
	}
	b := &boltFile{path: temp}
	err = guard(func() (err error) {
		b.db, err = bbolt.Open(temp, 0o600, options(false))
		return err
	})
	if err != nil {
		return wrap(messages.CodeUnavailable, err)
	}
	err = b.update([]Op{
		{Bucket: BucketMeta, Key: keyFormat, Value: decimal(Format)},
		{Bucket: BucketMeta, Key: keyBoot, Value: decimal(0)},
		{Bucket: BucketApp}, {Bucket: BucketDeletions}, {Bucket: BucketSalts}, {Bucket: BucketObjects}, {Bucket: BucketOperations},
	})
	if err := errors.Join(err, b.Close()); err != nil {
		return wrap(messages.CodeUnavailable, err)
	}
	// A link does not replace the journal of someone who was faster. Not every file system has links.
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		if err := os.Rename(temp, path); err != nil {
			return wrap(messages.CodeUnavailable, err)
		}
	}
	syncDir(dir)
	return nil
}

// syncDir makes a new name durable. Where directories cannot be synced, the file system does it by itself.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}

// migrate is what makes a file of an older format one of ours, in the transaction that raises boot: either both are done or none.
func (b *boltFile) migrate() (Meta, []Op, error) {
	entries, err := b.load(BucketMeta, "")
	if err != nil {
		return Meta{}, nil, err
	}
	m, err := DecodeMeta(entries)
	if err != nil {
		return Meta{}, nil, err
	}
	format, err := formatOf(entries)
	if err != nil || format == Format {
		return m, nil, err
	}
	ops := []Op{{Bucket: BucketMeta, Key: keyFormat, Value: decimal(Format)}}
	for _, bucket := range buckets {
		if format < bucketsSince[bucket] {
			ops = append(ops, Op{Bucket: bucket})
		}
	}
	return m, ops, nil
}

func (b *boltFile) meta() (Meta, error) {
	entries, err := b.load(BucketMeta, "")
	if err != nil {
		return Meta{}, err
	}
	return DecodeMeta(entries)
}

func (b *boltFile) load(bucket, prefix string) (entries []Entry, err error) {
	err = guard(func() error {
		return b.db.View(func(tx *bbolt.Tx) error {
			in := tx.Bucket([]byte(bucket))
			if in == nil {
				return fmt.Errorf("there is no bucket %q", bucket)
			}
			c := in.Cursor()
			for k, v := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
				value, err := unseal(bucket, k, v)
				if err != nil {
					return err
				}
				entries = append(entries, Entry{Key: string(k), Value: value})
			}
			return nil
		})
	})
	if err != nil {
		return nil, messages.WrapError(messages.CodeInternal, "read", "journal", b.path, err)
	}
	return entries, nil
}

func (b *boltFile) update(ops []Op) error {
	err := guard(func() error {
		return b.db.Update(func(tx *bbolt.Tx) error {
			for _, o := range ops {
				if err := apply(tx, o); err != nil {
					return fmt.Errorf("%s/%s: %w", o.Bucket, o.Key, err)
				}
			}
			return nil
		})
	})
	if err != nil {
		return messages.WrapError(messages.CodeUnavailable, "write", "journal", b.path, err)
	}
	return nil
}

func apply(tx *bbolt.Tx, o Op) error {
	name := []byte(o.Bucket)
	if o.Key == "" {
		if err := tx.DeleteBucket(name); err != nil && !errors.Is(err, berrors.ErrBucketNotFound) {
			return err
		}
	}
	in, err := tx.CreateBucketIfNotExists(name)
	switch {
	case err != nil || o.Key == "":
		return err
	case o.Value == nil:
		return in.Delete([]byte(o.Key))
	}
	return in.Put([]byte(o.Key), seal(o.Bucket, []byte(o.Key), o.Value))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(bucket string, key, value []byte) uint32 {
	s := crc32.Update(0, castagnoli, []byte(bucket))
	s = crc32.Update(s, castagnoli, []byte{0})
	s = crc32.Update(s, castagnoli, key)
	s = crc32.Update(s, castagnoli, []byte{0})
	return crc32.Update(s, castagnoli, value)
}

// seal puts a checksum before the value: bbolt has none for what is not a meta page.
func seal(bucket string, key, value []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(value)), sum(bucket, key, value)), value...)
}

func unseal(bucket string, key, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 || binary.BigEndian.Uint32(sealed) != sum(bucket, key, sealed[4:]) {
		return nil, fmt.Errorf("record %s/%q: its checksum is wrong", bucket, key)
	}
	return bytes.Clone(sealed[4:]), nil
}

// guard turns panics, page faults of the mapped file included, into errors.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("bbolt: %v", r)
		}
	}()
	return f()
}

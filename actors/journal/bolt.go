package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
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

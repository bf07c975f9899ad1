package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"github.com/rdd-desktop/rdd/messages"
)

// opener opens a backend and opens it again as the next daemon does.
type opener struct {
	open func(t *testing.T) (Backend, Meta)
	next func(t *testing.T, b Backend) (Backend, Meta)
}

func openers() map[string]opener {
	var path string
	return map[string]opener{
		"memory": {
			open: func(*testing.T) (Backend, Meta) { return Memory() },
			next: func(t *testing.T, b Backend) (Backend, Meta) {
				require.NoError(t, b.Close())
				return b, b.(*MemoryBackend).NextServe()
			},
		},
		"file": {
			open: func(t *testing.T) (Backend, Meta) {
				path = filepath.Join(t.TempDir(), "journal.db")
				return openFile(t, path)
			},
			next: func(t *testing.T, b Backend) (Backend, Meta) {
				require.NoError(t, b.Close())
				return openFile(t, path)
			},
		},
	}
}

func openFile(t *testing.T, path string) (Backend, Meta) {
	b, m, err := Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close() })
	return b, m
}

func set(bucket, key, value string) Op { return Op{Bucket: bucket, Key: key, Value: []byte(value)} }

func TestConformance(t *testing.T) {
	for name, o := range openers() {
		t.Run(name, func(t *testing.T) {
			b, m := o.open(t)
			require.Equal(t, Meta{Boot: 1}, m)

			require.NoError(t, b.Commit([]Op{
				set(BucketDeletions, "Volume/b", "2"), set(BucketDeletions, "Volume/a", "1"), set(BucketDeletions, "Image/a", ""),
				set(BucketSalts, "s", "1"), set(BucketSalts, "t", "1"), {Bucket: BucketSalts, Key: "t"}, {Bucket: BucketSalts, Key: "absent"},
			}))
			load := func(bucket, prefix string) []Entry {
				entries, err := b.Load(bucket, prefix)
				require.NoError(t, err)
				return entries
			}
			require.Equal(t, []Entry{{"Volume/a", []byte("1")}, {"Volume/b", []byte("2")}}, load(BucketDeletions, "Volume/"))
			require.Len(t, load(BucketDeletions, ""), 3)
			require.Empty(t, load(BucketDeletions, "Container/"))
			require.Equal(t, []Entry{{"s", []byte("1")}}, load(BucketSalts, ""))
			require.Empty(t, load(BucketApp, ""))

			// What no backend does: nothing of it is kept.
			for _, bad := range []Op{{Bucket: "nosuch", Key: "k", Value: []byte("v")}, set(BucketApp, strings.Repeat("k", maxKey+1), "v"),
				{Bucket: BucketMeta}, set(BucketMeta, keyBoot, "9"), set(BucketMeta, keyFormat, "9")} {
				require.ErrorIs(t, b.Commit([]Op{set(BucketApp, "app", "x"), bad}), messages.ErrPermanent)
			}
			require.Empty(t, load(BucketApp, ""))
			_, err := b.Load("nosuch", "")
			require.Error(t, err)

			// Ops act in their order.
			require.NoError(t, b.Commit([]Op{set(BucketApp, "app", "1"), {Bucket: BucketApp}, set(BucketApp, "app", "2")}))
			require.Equal(t, []Entry{{"app", []byte("2")}}, load(BucketApp, ""))

			// What was given or got is nobody else's.
			value := []byte("mine")
			require.NoError(t, b.Commit([]Op{{Bucket: BucketApp, Key: "app", Value: value}}))
			value[0] = 'x'
			load(BucketApp, "")[0].Value[0] = 'y'
			require.Equal(t, "mine", string(load(BucketApp, "")[0].Value))

			// Closed and open.
			require.NoError(t, b.Reopen(), "open already")
			require.NoError(t, b.Close())
			require.NoError(t, b.Close(), "closed already")
			require.ErrorIs(t, b.Commit([]Op{set(BucketApp, "app", "z")}), messages.ErrUnavailable)
			_, err = b.Load(BucketApp, "")
			require.ErrorIs(t, err, messages.ErrUnavailable)
			require.NoError(t, b.Reopen())
			require.Equal(t, "mine", string(load(BucketApp, "")[0].Value))
			meta, err := DecodeMeta(load(BucketMeta, ""))
			require.NoError(t, err)
			require.Equal(t, Meta{Boot: 1}, meta, "only Open raises boot")

			// A sweep, then the next daemon.
			require.NoError(t, b.Commit(SweepOps(4, "engine-4")))
			require.Empty(t, load(BucketDeletions, ""))
			require.Empty(t, load(BucketSalts, ""))
			b, m = o.next(t, b)
			require.Equal(t, Meta{Boot: 2, Sweep: 4, EngineID: "engine-4"}, m)
			require.Equal(t, "mine", string(load(BucketApp, "")[0].Value))
			require.NoError(t, b.Commit(SweepOps(5, "")))
			_, m = o.next(t, b)
			require.Equal(t, Meta{Boot: 3, Sweep: 5}, m)
		})
	}
}

// checkNew gives each of its cases a journal of its own, in a new file.
func checkNew(t *testing.T, property func(rt *rapid.T, file Backend)) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		file, _, err := Open(filepath.Join(dir, fmt.Sprint(n)))
		require.NoError(rt, err)
		defer file.Close()
		property(rt, file)
	})
}

func TestBackendsAgree(t *testing.T) {
	checkNew(t, func(rt *rapid.T, file Backend) {
		memory, _ := Memory()
		ops := rapid.Custom(func(rt *rapid.T) Op {
			o := Op{Bucket: rapid.SampledFrom([]string{BucketApp, BucketDeletions, BucketSalts, "nosuch"}).Draw(rt, "bucket")}
			o.Key = rapid.SampledFrom([]string{"", "a", "ab", "b/c", "b/d"}).Draw(rt, "key")
			if rapid.Bool().Draw(rt, "set") {
				o.Value = rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(rt, "value")
			}
			return o
		})
		for range rapid.IntRange(1, 5).Draw(rt, "transactions") {
			tx := rapid.SliceOfN(ops, 1, 6).Draw(rt, "ops")
			ef, em := file.Commit(tx), memory.Commit(tx)
			require.Equal(rt, em == nil, ef == nil)
			for _, b := range []string{BucketApp, BucketDeletions, BucketSalts} {
				for _, prefix := range []string{"", "a", "b/"} {
					lf, ef := file.Load(b, prefix)
					lm, em := memory.Load(b, prefix)
					require.NoError(rt, errors.Join(ef, em))
					require.Equal(rt, len(lm), len(lf))
					for i := range lm {
						require.Equal(rt, lm[i].Key, lf[i].Key)
						require.Equal(rt, string(lm[i].Value), string(lf[i].Value))
					}
				}
			}
		}
	})
}

func TestRecords(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	app := AppRecord{Spec: messages.AppSpec{Running: true, Namespace: "n"}, Generation: 3, UID: "u", Created: at, Driver: "native"}
	del := DeletionRecord{Kind: "Image", Name: "img-1", Owner: "sha256:1", UID: "u", Asked: at, Tag: "a:b", Identity: "i", Created: at}
	entry := func(o Op) Entry { return Entry{Key: o.Key, Value: o.Value} }

	gotApp, err := DecodeApp(entry(PutApp(app)))
	require.NoError(t, err)
	require.Equal(t, app, gotApp)
	gotDel, err := DecodeDeletion(entry(PutDeletion(del)))
	require.NoError(t, err)
	require.Equal(t, del, gotDel)
	require.Equal(t, DeletionKey("Image", "img-1"), PutDeletion(del).Key)
	require.Equal(t, Op{Bucket: BucketDeletions, Key: PutDeletion(del).Key}, DropDeletion("Image", "img-1"))
	seed, salt, err := DecodeSalt(entry(PutSalt("a/b", 12)))
	require.NoError(t, err)
	require.Equal(t, "a/b", seed)
	require.EqualValues(t, 12, salt)

	_, err = DecodeApp(Entry{Key: "app", Value: []byte("{")})
	require.ErrorIs(t, err, messages.ErrPermanent)
	require.ErrorContains(t, err, "app/app")
	_, _, err = DecodeSalt(Entry{Key: "s", Value: []byte("-1")})
	require.ErrorIs(t, err, messages.ErrPermanent)
}

func TestOpenRefuses(t *testing.T) {
	t.Run("no directory", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "absent")
		_, _, err := Open(filepath.Join(dir, "journal.db"))
		require.ErrorIs(t, err, messages.ErrPermanent)
		require.NoDirExists(t, dir)
	})
	t.Run("held by another", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "journal.db")
		b, _ := openFile(t, path)
		_, _, err := Open(path)
		require.ErrorIs(t, err, messages.ErrConflict)
		require.ErrorContains(t, err, path)
		require.NoError(t, b.Close())
		_, m := openFile(t, path)
		require.EqualValues(t, 2, m.Boot, "the refused one raised nothing")
	})
	t.Run("newer format", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "journal.db")
		b, _ := openFile(t, path)
		require.NoError(t, b.(*boltFile).update([]Op{{Bucket: BucketMeta, Key: keyFormat, Value: decimal(Format + 6)}}))
		require.NoError(t, b.Close())
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		_, _, err = Open(path)
		require.ErrorIs(t, err, messages.ErrPermanent)
		require.ErrorContains(t, err, "written by a newer rdd (format 8, this one reads 2)")
		require.ErrorContains(t, err, path)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, before, after)
		require.Len(t, files(t, path), 1)
	})
	t.Run("another's bbolt file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "journal.db")
		db, err := bbolt.Open(path, 0o600, nil)
		require.NoError(t, err)
		require.NoError(t, db.Close())
		_, _, err = Open(path)
		require.ErrorIs(t, err, messages.ErrPermanent)
	})
	t.Run("taken over while closed", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "journal.db")
		b, _ := openFile(t, path)
		require.NoError(t, b.Close())
		other, _ := openFile(t, path)
		require.ErrorIs(t, b.Reopen(), messages.ErrConflict, "locked")
		require.NoError(t, other.Close())
		require.ErrorIs(t, b.Reopen(), messages.ErrConflict, "another boot")
		require.ErrorIs(t, b.Commit([]Op{set(BucketApp, "app", "")}), messages.ErrUnavailable)
	})
}

func files(t *testing.T, path string) []string {
	list, err := filepath.Glob(path + "*")
	require.NoError(t, err)
	return list
}

func TestNewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	openFile(t, path)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
	require.Equal(t, []string{path}, files(t, path))
}

package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"github.com/rdd-desktop/rdd/messages"
)

// filled makes a journal with enough records for branch pages and a list of free pages.
func filled(t *testing.T, commits int) []byte {
	path := filepath.Join(t.TempDir(), "journal.db")
	b, _ := openFile(t, path)
	for i := range commits {
		var ops []Op
		for j := range 40 {
			ops = append(ops, set(BucketDeletions, fmt.Sprintf("Volume/%d-%d", i, j), strings.Repeat("x", 200)))
		}
		require.NoError(t, b.Commit(ops))
	}
	require.NoError(t, b.Commit([]Op{set(BucketApp, "app", "{}"), set(BucketSalts, "big", strings.Repeat("y", 20_000))}))
	require.NoError(t, b.Close())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

func Test_F31_DamageIsRefusedAndKept(t *testing.T) {
	good := filled(t, 20)
	high, err := newestMeta(strings.NewReader(string(good)))
	require.NoError(t, err)
	cases := map[string][]byte{
		"empty":           {},
		"one byte":        good[:1],
		"one page":        good[:high.pageSize],
		"meta pages only": good[:2*high.pageSize],
		"last page gone":  good[:(high.highWater-1)*high.pageSize],
		"text":            []byte(strings.Repeat("this is no journal\n", 1000)),
		"zeros":           make([]byte, len(good)),
	}
	zeroed := append([]byte{}, good...)
	clear(zeroed[2*high.pageSize:])
	cases["pages zeroed"] = zeroed
	record := append([]byte{}, good...)
	at := strings.Index(string(record), strings.Repeat("x", 200))
	for ; at >= 0 && at < len(record)-200; at += 200 { // every copy of the records: one of them is current
		if next := strings.Index(string(record[at:]), strings.Repeat("x", 200)); next >= 0 {
			at += next
			record[at+100] = 'z'
		} else {
			break
		}
	}
	cases["a changed record"] = record

	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal.db")
			require.NoError(t, os.WriteFile(path, data, 0o600))
			_, _, err := Open(path)
			require.ErrorIs(t, err, messages.ErrPermanent)
			require.ErrorContains(t, err, path)
			require.ErrorContains(t, err, "A copy was kept as "+path+".corrupt-")
			require.ErrorContains(t, err, "To go on")
			_, _, again := Open(path)
			require.Error(t, again)
			list := files(t, path)
			require.Len(t, list, 2, "the same damage is kept once")
			for _, f := range list {
				now, err := os.ReadFile(f)
				require.NoError(t, err)
				require.Equal(t, string(data), string(now), f)
			}
			require.Equal(t, list[1], messages.AsError(err).Details["copy"])
		})
	}
}

// No field of a page in use can lie: its header, its first and its last element. The records are not enough to tell, since
// what a count or a pointer has cut off is not read.
func TestNoFieldOfAPageCanLie(t *testing.T) {
	good := filled(t, 5)
	m, err := newestMeta(bytes.NewReader(good))
	require.NoError(t, err)
	v := &verifier{f: bytes.NewReader(good), meta: m, used: map[uint64]bool{}}
	require.NoError(t, v.freelist())
	require.NoError(t, v.tree(m.root, nil, nil, 0))
	path := filepath.Join(t.TempDir(), "journal.db")
	refused := func() bool {
		if verify(bytes.NewReader(good), int64(len(good))) != nil {
			return true
		}
		require.NoError(t, os.WriteFile(path, good, 0o600)) // the pages are sound: the names and sums of the records must tell
		db, err := bbolt.Open(path, 0o600, options(true))
		require.NoError(t, err)
		defer db.Close()
		return (&boltFile{path: path, db: db}).inspect() != nil
	}
	fields := 0
	for id := uint64(2); id < m.highWater; id++ {
		if !v.used[id] || binary.NativeEndian.Uint64(good[id*m.pageSize:]) != id { // free, or the rest of a longer one
			continue
		}
		start := int(id * m.pageSize)
		at := []int{start}
		count := int(binary.NativeEndian.Uint16(good[start+10:]))
		if id != m.freelist {
			at = append(at, start+pageHeader, start+pageHeader+(count-1)*elementSize)
		}
		for _, field := range at {
			for i := range elementSize {
				fields++
				was := good[field+i]
				for _, lie := range []byte{was - 1, was + 1, was ^ 0x40} {
					good[field+i] = lie
					require.True(t, refused(), "page %d, byte %d: %#x for %#x", id, field+i-start, lie, was)
				}
				good[field+i] = was
			}
		}
	}
	require.Greater(t, fields, 500)
	require.False(t, refused())
}

// Whatever bytes are hit, Open gives either a journal whose records are right and all there or a Permanent error, and the
// process lives on.
func TestAnyDamage(t *testing.T) {
	good := filled(t, 20)
	dir := t.TempDir()
	n := 0
	opened := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		data := append([]byte{}, good...)
		for range rapid.IntRange(1, 12).Draw(rt, "hits") {
			at := rapid.IntRange(0, len(data)-8).Draw(rt, "at")
			if rapid.Bool().Draw(rt, "in a header") {
				at = at/4096*4096 + rapid.IntRange(0, 64).Draw(rt, "offset")
			}
			copy(data[at:], rapid.SliceOfN(rapid.Byte(), 1, 8).Draw(rt, "bytes"))
		}
		if rapid.IntRange(0, 9).Draw(rt, "cut") == 0 {
			data = data[:rapid.IntRange(0, len(data)).Draw(rt, "length")]
		}
		path := filepath.Join(dir, fmt.Sprint(n))
		require.NoError(rt, os.WriteFile(path, data, 0o600))
		b, m, err := Open(path)
		if err != nil {
			require.ErrorIs(rt, err, messages.ErrPermanent)
			return
		}
		opened++
		defer b.Close()
		require.GreaterOrEqual(rt, m.Boot, int64(2))
		entries, err := b.Load(BucketDeletions, "Volume/")
		require.NoError(rt, err)
		require.Len(rt, entries, 800)
		for _, e := range entries {
			require.Equal(rt, strings.Repeat("x", 200), string(e.Value))
		}
		require.NoError(rt, b.Commit([]Op{set(BucketApp, "app", "again")}))
		require.NoError(rt, b.(*boltFile).db.View(func(tx *bbolt.Tx) (found error) {
			for err := range tx.Check() { // to its end: it reads the transaction until then
				found = errors.Join(found, err)
			}
			return found
		}))
	})
	t.Logf("%d of %d could still be used", opened, n)
}

// Whatever was written, dropped and refused before, the file is sound: a strict check that takes a sound journal for a
// damaged one would be worse than none.
func TestEveryHistoryLeavesASoundFile(t *testing.T) {
	checkNew(t, func(rt *rapid.T, b Backend) {
		op := rapid.Custom(func(rt *rapid.T) Op {
			o := Op{Bucket: rapid.SampledFrom([]string{BucketDeletions, BucketObjects, BucketSalts}).Draw(rt, "bucket")}
			switch rapid.IntRange(0, 19).Draw(rt, "what") {
			case 0: // all of the bucket
			case 1, 2, 3, 4, 5, 6, 7:
				o.Key = fmt.Sprint(rapid.IntRange(0, 99).Draw(rt, "dropped"))
			default:
				o.Key = fmt.Sprint(rapid.IntRange(0, 99).Draw(rt, "set"))
				o.Value = make([]byte, rapid.SampledFrom([]int{0, 10, 300, 3000, 30_000}).Draw(rt, "bytes"))
			}
			return o
		})
		for range rapid.IntRange(1, 4).Draw(rt, "daemons") {
			for range rapid.IntRange(0, 4).Draw(rt, "transactions") {
				ops := rapid.SliceOfN(op, 1, 40).Draw(rt, "ops")
				refused := rapid.IntRange(0, 4).Draw(rt, "refused") == 0
				if refused {
					ops = append(ops, Op{Bucket: BucketApp, Key: strings.Repeat("k", bbolt.MaxKeySize+1), Value: []byte{}})
				}
				require.Equal(rt, refused, b.(*boltFile).update(ops) != nil)
			}
			require.NoError(rt, b.Close())
			require.NoError(rt, b.Reopen())
		}
	})
}

package journal

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/rdd-desktop/rdd/messages"
)

// older makes a journal of format 1, as the rdd before this one wrote it.
func older(t *testing.T, records ...Op) string {
	path := filepath.Join(t.TempDir(), "journal.db")
	b, _ := openFile(t, path)
	file := b.(*boltFile)
	require.NoError(t, file.update(append(records, Op{Bucket: BucketMeta, Key: keyFormat, Value: decimal(1)})))
	require.NoError(t, file.db.Update(func(tx *bbolt.Tx) error {
		require.NoError(t, tx.DeleteBucket([]byte(BucketObjects)))
		return tx.DeleteBucket([]byte(BucketOperations))
	}))
	require.NoError(t, b.Close())
	return path
}

func Test_F41_AnOlderJournalIsMigratedWithoutLoss(t *testing.T) {
	path := older(t, set(BucketApp, "app", "{}"), set(BucketDeletions, "Volume/a", "1"), set(BucketSalts, "s", "3"),
		Op{Bucket: BucketMeta, Key: keySweep, Value: decimal(4)}, PutEngineID("e"))
	b, m := openFile(t, path)
	require.Equal(t, Meta{Boot: 2, Sweep: 4, EngineID: "e"}, m)
	for bucket, want := range map[string]Entry{
		BucketApp: {"app", []byte("{}")}, BucketDeletions: {"Volume/a", []byte("1")}, BucketSalts: {"s", []byte("3")},
	} {
		got, err := b.Load(bucket, "")
		require.NoError(t, err)
		require.Equal(t, []Entry{want}, got, bucket)
	}
	for _, bucket := range []string{BucketObjects, BucketOperations} {
		got, err := b.Load(bucket, "")
		require.NoError(t, err)
		require.Empty(t, got)
		require.NoError(t, b.Commit([]Op{set(bucket, "Volume/a", "x")}))
	}
	require.NoError(t, b.Close())
	b, m = openFile(t, path)
	require.EqualValues(t, 3, m.Boot)
	got, err := b.Load(BucketObjects, "")
	require.NoError(t, err)
	require.Len(t, got, 1, "it is migrated once")
	format, err := b.(*boltFile).load(BucketMeta, keyFormat)
	require.NoError(t, err)
	require.Equal(t, "2", string(format[0].Value))
}

func Test_F41_ANewerJournalIsRefusedUnchanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	b, _ := openFile(t, path)
	require.NoError(t, b.(*boltFile).update([]Op{{Bucket: BucketMeta, Key: keyFormat, Value: decimal(Format + 1)}}))
	require.NoError(t, b.Close())
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	_, _, err = Open(path)
	require.ErrorIs(t, err, messages.ErrUnsupported)
	require.ErrorContains(t, err, "newer rdd")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.Len(t, files(t, path), 1, "nothing is wrong with it: no copy")
}

func Test_F31_ADamagedOlderJournalIsNotMigrated(t *testing.T) {
	path := older(t, set(BucketApp, "app", "{}"))
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	cut := whole[:len(whole)/2]
	require.NoError(t, os.WriteFile(path, cut, 0o600))
	_, _, err = Open(path)
	require.ErrorIs(t, err, messages.ErrPermanent)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, cut, after)
	require.Len(t, files(t, path), 2, "a copy is kept")
}

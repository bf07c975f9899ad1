package journal

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const crashEnv = "RDD_TEST_JOURNAL_CRASH"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		commitForEver(path)
	}
	os.Exit(m.Run())
}

// commitForEver is the child: it says what is acknowledged, until it is killed.
func commitForEver(path string) {
	b, m, err := Open(path)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		key := fmt.Sprintf("Volume/%d-%d", m.Boot, i)
		ops := []Op{set(BucketDeletions, key, key+strings.Repeat(".", i%3000))}
		if i > 200 { // keeps the file from growing, and pages being freed and used again
			ops = append(ops, Op{Bucket: BucketDeletions, Key: fmt.Sprintf("Volume/%d-%d", m.Boot, i-200)})
		}
		if err := b.Commit(ops); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println(i)
	}
}

func TestAcknowledgedIsThereAfterSIGKILL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	for boot := int64(1); boot <= 6; boot += 2 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crashEnv+"="+path)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		last := -1
		killed := false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			n := 0
			_, err := fmt.Sscan(lines.Text(), &n)
			require.NoError(t, err, lines.Text())
			require.Equal(t, last+1, n)
			last = n
			if n >= 150+100*int(boot) && !killed {
				require.NoError(t, child.Process.Kill())
				killed = true
			}
		}
		require.Error(t, child.Wait())
		require.True(t, killed)

		b, m, err := Open(path)
		require.NoError(t, err)
		require.Equal(t, boot+1, m.Boot)
		there := map[string]bool{}
		entries, err := b.Load(BucketDeletions, fmt.Sprintf("Volume/%d-", boot))
		require.NoError(t, err)
		for _, e := range entries {
			require.Equal(t, e.Key, strings.TrimRight(string(e.Value), "."))
			there[e.Key] = true
		}
		for i := max(0, last-198); i <= last; i++ {
			require.True(t, there[fmt.Sprintf("Volume/%d-%d", boot, i)], "acknowledged, not there: %d (last %d)", i, last)
		}
		require.NoError(t, b.Close())
	}
}

func BenchmarkCommit(b *testing.B) {
	j, _, err := Open(filepath.Join(b.TempDir(), "journal.db"))
	require.NoError(b, err)
	defer j.Close()
	i := 0
	for b.Loop() {
		require.NoError(b, j.Commit([]Op{set(BucketDeletions, fmt.Sprint("Volume/", i%1000), "record")}))
		i++
	}
}

func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "journal.db")
	for b.Loop() {
		j, _, err := Open(path)
		require.NoError(b, err)
		require.NoError(b, j.Close())
	}
}

package supervisor

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
)

func TestInstanceNames(t *testing.T) {
	t.Setenv("RDD_INSTANCE", "")
	require.Equal(t, "2", must(NewInstance("")).Name)
	t.Setenv("RDD_INSTANCE", "dev-1")
	require.Equal(t, "dev-1", must(NewInstance("")).Name)
	require.Equal(t, "x", must(NewInstance("x")).Name)
	for _, bad := range []string{"-x", "X", "a_b", "a/b", "..", strings.Repeat("a", 33), "a b", "é", "a\n"} {
		_, err := NewInstance(bad)
		require.ErrorIs(t, err, messages.ErrBadRequest, bad)
	}
	_, err := NewInstance(strings.Repeat("a", 32))
	require.NoError(t, err)
}

func TestPathsFollowTheEnvironment(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("other rules")
	}
	home, data := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_DATA_HOME", data)
	t.Setenv("RDD_LOG_DIR", "")
	i := must(NewInstance("2"))
	require.Equal(t, filepath.Join(data, "rancher-desktop-2"), i.Dir())
	require.Equal(t, filepath.Join(home, ".rd2"), i.ShortDir())
	var keys []string
	for _, p := range i.Paths() {
		keys = append(keys, p.Key)
		require.True(t, strings.HasPrefix(p.Value, i.Dir()) || strings.HasPrefix(p.Value, i.ShortDir()), p)
	}
	require.Equal(t, "dir log_dir short_dir lima_home tls_dir config pid_file args_file docker_socket journal edge lock", strings.Join(keys, " "))
	t.Setenv("RDD_LOG_DIR", "/logs")
	require.Equal(t, "/logs", i.LogDir())
	t.Setenv("XDG_DATA_HOME", "relative")
	require.True(t, strings.HasPrefix(i.Dir(), home))
	require.NoError(t, i.Check())
	entries, err := os.ReadDir(home)
	require.NoError(t, err)
	require.Empty(t, entries, "reading a path creates nothing")
}

func TestCheckRefusesStrangersAndLongPaths(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("other rules")
	}
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	i := must(NewInstance("2"))
	require.NoError(t, i.ownedBy(i.Dir(), 5, 5, true))
	require.NoError(t, i.ownedBy(i.Dir(), 0, 5, false))
	err := i.ownedBy(i.Dir(), 0, 4242, true)
	require.ErrorIs(t, err, messages.ErrForbidden)
	require.Contains(t, err.Error(), "belongs to root; you are uid 4242")
	require.NoError(t, os.MkdirAll(i.Dir(), 0o700))
	require.NoError(t, i.checkOwner())
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(i.Dir(), 4242, -1))
		require.ErrorIs(t, i.Check(), messages.ErrForbidden, "root is a stranger too")
		_, err := Dial(t.Context(), i)
		require.ErrorIs(t, err, messages.ErrForbidden)
		require.NoError(t, os.Chown(i.Dir(), 0, -1))
	}
	tail := len("/.rd2/docker.sock")
	for length, fits := range map[int]bool{maxSocketPath: true, maxSocketPath + 1: false} {
		t.Setenv("HOME", "/"+strings.Repeat("h", length-tail-1))
		require.Len(t, i.DockerSocket(), length)
		if fits {
			require.NoError(t, i.Check())
		} else {
			require.ErrorIs(t, i.Check(), messages.ErrInvalid)
		}
	}
}

func TestCreateMakesAnInstanceForItsOwnerAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("other rules")
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_DATA_HOME", filepath.Join(home, "data"))
	t.Setenv("RDD_LOG_DIR", "")
	require.Empty(t, must(Instances()))
	i := must(NewInstance("work"))
	require.True(t, must(i.Create()))
	require.False(t, must(i.Create()), "it is there")
	require.NoError(t, os.Chmod(i.ShortDir(), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(i.Dir(), "mine"), nil, 0o600))
	require.False(t, must(i.Create()))
	for _, dir := range []string{i.Dir(), i.ShortDir(), i.LogDir()} {
		require.Equal(t, os.FileMode(0o700), must(os.Stat(dir)).Mode().Perm(), dir)
	}
	require.FileExists(t, filepath.Join(i.Dir(), "mine"))

	for _, other := range []string{"rancher-desktop-Not_A_Name", "rancher-desktop-", "else"} {
		require.NoError(t, os.Mkdir(filepath.Join(home, "data", other), 0o700))
	}
	require.NoError(t, os.WriteFile(filepath.Join(home, "data", "rancher-desktop-file"), nil, 0o600))
	require.Equal(t, []Instance{{Name: "work"}}, must(Instances()))

	t.Setenv("HOME", filepath.Join(home, strings.Repeat("h", maxSocketPath)))
	_, err := i.Create()
	require.ErrorIs(t, err, messages.ErrInvalid)
	require.NoDirExists(t, os.Getenv("HOME"), "before anything is created")
	if os.Geteuid() == 0 {
		t.Setenv("HOME", home)
		require.NoError(t, os.Chown(i.ShortDir(), 4242, -1))
		_, err := i.Create()
		require.ErrorIs(t, err, messages.ErrForbidden)
		require.Empty(t, must(Instances()), "another user's")
	}
}

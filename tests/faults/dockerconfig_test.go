package faults

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/vmdriver/external"
)

// tree is every file below dir with all that a write would change.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		out[path] = info.Mode().String() + " " + info.ModTime().String()
		if d.Type().IsRegular() {
			content, err := os.ReadFile(path)
			out[path] += " " + string(content)
			return err
		}
		return nil
	}))
	return out
}

// The Docker configuration is the user's: rdd reads it to find an existing engine and writes nothing there, whatever is in it and
// whatever becomes of rdd.
func Test_F35_F36_TheDockerConfigurationIsNeverTouched(t *testing.T) {
	for name, config := range map[string]string{
		"a context that is not there": `{"currentContext":"dead"}`, "corrupt": `{"currentContext":`, "none named": `{"auths":{}}`, "empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			home, err := os.MkdirTemp("", "rddh") // t.TempDir is too long for a socket
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, os.RemoveAll(home)) })
			docker := filepath.Join(home, ".docker")
			require.NoError(t, os.MkdirAll(filepath.Join(docker, "contexts", "meta"), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(docker, "config.json"), []byte(config), 0o600))
			socket := filepath.Join(home, "d.sock")
			listener, err := net.Listen("unix", socket)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, listener.Close()) })
			before := tree(t, docker)

			world := sim.New(sim.Options{})
			driver := external.New(external.Config{Home: home, Getenv: func(string) string { return "" }, DefaultHost: "unix://" + socket})
			h := &house{T: t, world: world, client: inProcess(t, world, messages.DriverExternal, driver)}
			h.set("running=true", "virtualMachine.driver=external")
			_, err = h.client.WaitSettled(t.Context(), supervisor.SettleOptions{Timeout: time.Second})
			require.Equal(t, name == "none named", err == nil, "%v", err)
			h.set("virtualMachine.socket=" + socket)
			h.settled()
			h.set("running=false")
			h.settled()
			require.NoError(t, driver.Delete(t.Context()))
			require.Equal(t, before, tree(t, docker))
		})
	}
}

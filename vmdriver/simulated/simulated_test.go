package simulated

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio/moby"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
	"github.com/rdd-desktop/rdd/vmdriver/conformance"
)

// config makes a place for one engine, and ends what runs there in the end. Paths of sockets are short.
func config(t *testing.T) Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "rddm")
	require.NoError(t, err)
	c := Config{Dir: filepath.Join(dir, "simulated"), Socket: filepath.Join(dir, "run", "docker.sock")}
	t.Cleanup(func() {
		require.NoError(t, New(c).Delete(t.Context()))
		require.NoError(t, os.RemoveAll(dir))
	})
	return c
}

// running is the engine that runs there.
func (d *Driver) running(t *testing.T) *vm {
	t.Helper()
	v, _ := d.look()
	require.NotNil(t, v, "the engine runs")
	return v
}

func TestConformance(t *testing.T) {
	conformance.Run(t, func(t *testing.T) conformance.Fixture {
		c := config(t)
		d := New(c)
		return conformance.Fixture{
			New:   func() vmdriver.Driver { return New(c) },
			Spec:  vmdriver.Spec{Backend: messages.EngineMoby},
			Crash: func(t *testing.T) { require.NoError(t, d.running(t).down(true)) },
			Boot:  func(t *testing.T) string { return fmt.Sprintf("%p", d.running(t)) },
			Residue: func(*testing.T) (left []string) {
				if _, err := os.Lstat(c.Socket); err == nil {
					left = append(left, c.Socket)
				}
				return left
			},
		}
	})
}

// forget makes what runs in a place unknown, as to another process after this one was killed.
func forget(t *testing.T, c Config) {
	t.Helper()
	d := New(c)
	v := d.running(t)
	v.stop()
	v.saver.Wait()
	require.NoError(t, v.server.Close())
	v.engine.Close()
	places.Delete(c.Dir)
}

func TestContentSurvives(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, c Config){
		"stop":         func(t *testing.T, c Config) { require.NoError(t, New(c).Stop(t.Context(), false)) },
		"forced stop":  func(t *testing.T, c Config) { require.NoError(t, New(c).Stop(t.Context(), true)) },
		"killed":       forget,
		"power failed": func(t *testing.T, c Config) { require.NoError(t, New(c).running(t).down(true)) },
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			d := New(c)
			require.NoError(t, d.Create(t.Context(), vmdriver.Spec{}))
			require.NoError(t, d.Start(t.Context(), vmdriver.Spec{}))
			engine := d.running(t).engine
			_, err := engine.Pull("nginx")
			require.NoError(t, err)
			for policy, name := range map[string]string{"no": "once", "always": "ever"} {
				_, err = engine.Run(sim.ContainerOptions{Name: name, Image: "nginx", RestartPolicy: policy, Volumes: []string{"data:/data"}, Ports: []string{"80"}})
				require.NoError(t, err)
			}
			require.NoError(t, d.running(t).save(engine)) // what the saver does a moment later
			before := engine.Snapshot()
			id := engine.ID()

			end(t, c)
			d = New(c)
			require.NoError(t, d.Start(t.Context(), vmdriver.Spec{}))
			client, err := moby.Dialer{}.Dial(t.Context(), messages.Endpoint{Host: "unix://" + c.Socket})
			require.NoError(t, err)
			defer client.Close()
			info, err := client.Info(t.Context())
			require.NoError(t, err)
			require.Equal(t, id, info.ID, "it is the same engine")
			after := d.running(t).engine.Snapshot()
			require.Equal(t, before.Images, after.Images)
			require.Equal(t, before.Volumes, after.Volumes)
			for i, was := range before.Containers {
				is := after.Containers[i]
				require.Equal(t, was.ID, is.ID)
				require.Equal(t, was.Created, is.Created)
				require.Equal(t, was.Mounts, is.Mounts)
				require.Equal(t, was.Name == "ever", is.Running)
				require.NotEqual(t, was.StartedAt.Equal(is.StartedAt), is.Running, "what runs was started again")
			}
		})
	}
}

func TestForeignSocketStays(t *testing.T) {
	c := config(t)
	require.NoError(t, New(c).Create(t.Context(), vmdriver.Spec{}))
	require.NoError(t, New(c).Start(t.Context(), vmdriver.Spec{}))
	other := Config{Dir: c.Dir + "-2", Socket: c.Socket}
	require.NoError(t, New(other).Create(t.Context(), vmdriver.Spec{}))
	err := New(other).Start(t.Context(), vmdriver.Spec{})
	require.ErrorIs(t, err, messages.ErrConflict)
	require.ErrorContains(t, err, c.Socket)
	require.NoError(t, New(other).Delete(t.Context()))
	require.FileExists(t, c.Socket)
}

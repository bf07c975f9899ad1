package conformance

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rdd-desktop/rdd/tests/enginetest"
)

// DockerWorld is the [World] of a real engine: the docker command, as a user runs it.
type DockerWorld struct {
	Engine *enginetest.Client
	// Processes: its containers are processes of this machine.
	Processes bool
}

// heeding is the program that ends when it is asked to. The first process of a container ignores what it does not ask for.
const heeding = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"

var _ World = DockerWorld{}

func (w DockerWorld) docker(t testing.TB, args ...string) string {
	t.Helper()
	return w.Engine.Docker(t, args...)
}

// Import implements [World].
func (w DockerWorld) Import(t testing.TB, ref string) string {
	t.Helper()
	return w.Engine.ImportBusybox(t, ref)
}

// Tag implements [World].
func (w DockerWorld) Tag(t testing.TB, image, ref string) {
	t.Helper()
	w.docker(t, "tag", image, ref)
}

// Untag implements [World].
func (w DockerWorld) Untag(t testing.TB, ref string) {
	t.Helper()
	w.docker(t, "rmi", ref)
}

// Load implements [World].
func (w DockerWorld) Load(t testing.TB, ref string) {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "image.tar")
	w.docker(t, "save", "--output", archive, ref)
	w.docker(t, "load", "--quiet", "--input", archive)
	_ = os.Remove(archive)
}

// PruneImages implements [World].
func (w DockerWorld) PruneImages(t testing.TB) {
	t.Helper()
	w.docker(t, "image", "prune", "--force")
}

// Create implements [World].
func (w DockerWorld) Create(t testing.TB, o Container) string {
	t.Helper()
	args := []string{"create", "--name", o.Name}
	for _, k := range slices.Sorted(maps.Keys(o.Labels)) {
		args = append(args, "--label", k+"="+o.Labels[k])
	}
	for _, p := range o.Publish {
		args = append(args, "--publish", p)
	}
	for _, p := range o.Expose {
		args = append(args, "--expose", p)
	}
	for _, destination := range slices.Sorted(maps.Keys(o.Volumes)) {
		source := o.Volumes[destination]
		if source != "" {
			source += ":"
		}
		args = append(args, "--volume", source+destination)
	}
	if o.Restart != "" {
		args = append(args, "--restart", o.Restart)
	}
	if o.Health != "" {
		check := "exit 0"
		if o.Health == "unhealthy" {
			check = "exit 1"
		}
		args = append(args, "--health-cmd", check, "--health-interval", "100ms", "--health-retries", "1")
	}
	if o.AutoRemove {
		args = append(args, "--rm")
	}
	args = append(args, o.Image)
	switch o.Program {
	case Runs:
		args = append(args, "sh", "-c", heeding)
	case Stubborn:
		args = append(args, "sleep", "1000")
	case Exits:
		args = append(args, "sh", "-c", fmt.Sprintf("exit %d", o.ExitCode))
	case Missing:
		args = append(args, "/no/such/command")
	}
	return w.docker(t, args...)
}

// Start implements [World].
func (w DockerWorld) Start(t testing.TB, id string) error {
	t.Helper()
	if _, err := w.Engine.DockerErr("start", id); err != nil {
		return err
	}
	if w.Processes {
		w.heeds(t, id)
	}
	return nil
}

// heeds waits until a program that asks for SIGTERM has done so: one that came before would be lost, and the program killed instead.
func (w DockerWorld) heeds(t testing.TB, id string) {
	t.Helper()
	pid := w.docker(t, "inspect", "--format", "{{.State.Pid}}", id)
	for limit := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		command, err := os.ReadFile("/proc/" + pid + "/cmdline")
		status, err2 := os.ReadFile("/proc/" + pid + "/status")
		switch {
		case err != nil || err2 != nil:
			return // it has ended already
		case strings.HasSuffix(strings.TrimRight(string(command), "\x00"), heeding):
			if catches(status, syscall.SIGTERM) {
				return
			}
		case len(command) > 0 && !strings.HasSuffix(string(command), "\x00init\x00"): // runc's, before the program is there
			return // it does not ask
		}
		if time.Now().After(limit) {
			t.Fatalf("container %s does not ask for SIGTERM", id)
		}
	}
}

// catches says whether a process has a handler for a signal, by its status in /proc.
func catches(status []byte, s syscall.Signal) bool {
	_, after, _ := strings.Cut(string(status), "SigCgt:\t")
	line, _, _ := strings.Cut(after, "\n")
	mask, err := strconv.ParseUint(line, 16, 64)
	return err == nil && mask&(1<<(s-1)) != 0
}

// Stop implements [World].
func (w DockerWorld) Stop(t testing.TB, id string) {
	t.Helper()
	w.docker(t, "stop", "--time", "1", id)
}

// Kill implements [World].
func (w DockerWorld) Kill(t testing.TB, id string) {
	t.Helper()
	w.docker(t, "kill", id)
}

// Restart implements [World].
func (w DockerWorld) Restart(t testing.TB, id string) {
	t.Helper()
	w.docker(t, "restart", "--time", "1", id)
}

// Pause implements [World].
func (w DockerWorld) Pause(t testing.TB, id string) {
	t.Helper()
	w.docker(t, "pause", id)
}

// Unpause implements [World].
func (w DockerWorld) Unpause(t testing.TB, id string) {
	t.Helper()
	w.docker(t, "unpause", id)
}

// Rename implements [World].
func (w DockerWorld) Rename(t testing.TB, id, name string) {
	t.Helper()
	w.docker(t, "rename", id, name)
}

// Remove implements [World].
func (w DockerWorld) Remove(t testing.TB, id string) {
	t.Helper()
	w.docker(t, "rm", "--force", id)
}

// PruneContainers implements [World].
func (w DockerWorld) PruneContainers(t testing.TB) {
	t.Helper()
	w.docker(t, "container", "prune", "--force")
}

// CreateVolume implements [World]. It does not run the docker command, because tests make hundreds.
func (w DockerWorld) CreateVolume(t testing.TB, name string, labels map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	body := map[string]any{"Name": name, "Labels": labels}
	if _, err := w.Engine.API(ctx, http.MethodPost, "/volumes/create", body); err != nil {
		t.Fatal(err)
	}
}

// RemoveVolume implements [World].
func (w DockerWorld) RemoveVolume(t testing.TB, name string) {
	t.Helper()
	w.docker(t, "volume", "rm", name)
}

// PruneVolumes implements [World].
func (w DockerWorld) PruneVolumes(t testing.TB) {
	t.Helper()
	// Newer engines keep named volumes unless told; older ones do not know how to be told.
	if _, err := w.Engine.DockerErr("volume", "prune", "--force", "--all"); err != nil {
		w.docker(t, "volume", "prune", "--force")
	}
}

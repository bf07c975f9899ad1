package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// smallDisk is an instance whose directory is on a file system of 2 MiB of its own.
func smallDisk(t *testing.T) (i supervisor.Instance, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("mounting a small file system needs root: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	t.Setenv("HOME", dir)
	t.Setenv("XDG_DATA_HOME", "")
	i, err := supervisor.NewInstance("x")
	require.NoError(t, err)
	return i, dir
}

// A full disk: reads and the mirror go on, the App says so, changes are refused, and what was acknowledged, and only that, is there
// after a restart.
func Test_F29_AFullDisk(t *testing.T) {
	i, dir := smallDisk(t)
	world := withBusybox(t)
	id, err := world.Run(sim.ContainerOptions{Name: "web", Image: "busybox"})
	require.NoError(t, err)
	h, stop := serve(t, world, i)

	filler := filepath.Join(dir, "filler")
	_ = os.WriteFile(filler, make([]byte, 2<<20), 0o600) // as far as it goes
	accepted, refused := "", 0
	for n := range 400 {
		value := fmt.Sprint(n) + strings.Repeat("x", 20_000)
		_, err := h.write(messages.WriteRequest{Kind: "container", Name: id,
			Patch: json.RawMessage(fmt.Sprintf(`{"metadata":{"annotations":{"big%d":%q,"last":"%d"}}}`, n%12, value, n))})
		if err == nil {
			accepted = fmt.Sprint(n)
			continue
		}
		require.ErrorIs(t, err, messages.ErrUnavailable)
		require.ErrorContains(t, err, "no space left")
		if refused++; refused == 3 {
			break
		}
	}
	require.Equal(t, 3, refused, "the disk is full")
	pressure := func(status metav1.ConditionStatus) func() bool {
		return func() bool {
			c := messages.Condition(h.get("app", "app"), messages.ConditionDiskPressure)
			return c != nil && c.Status == status
		}
	}
	h.eventually("the App says so", pressure(metav1.ConditionTrue))
	require.Equal(t, accepted, h.get("container", id).GetAnnotations()["last"], "what was refused is not shown")
	other := h.run("other")
	h.eventually("the mirror goes on", func() bool { return h.get("container", other) != nil })
	require.Len(t, world.Snapshot().Containers, 2)

	require.NoError(t, os.Remove(filler))
	require.Eventually(t, pressure(metav1.ConditionFalse), 3*patience, 50*time.Millisecond, "it looks by itself whether there is room")
	stop()
	h, _ = serve(t, world, i)
	require.Equal(t, accepted, h.get("container", id).GetAnnotations()["last"], "what was acknowledged is there, and nothing else")
	h.patch("container", id, `{"metadata":{"labels":{"room":"again"}}}`)
}

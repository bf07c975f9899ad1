package kit_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
)

func TestParseKillPoint(t *testing.T) {
	p, err := kit.ParseKillPoint("engine-after:12")
	require.NoError(t, err)
	require.Equal(t, kit.KillPoint{Point: kit.PointEngineAfter, N: 12}, p)
	p, err = kit.ParseKillPoint("")
	require.NoError(t, err)
	require.Zero(t, p)
	for _, text := range []string{"engine", "engine:", "engine:0", "engine:-1", "engine:x", "somewhere:1", ":1"} {
		_, err := kit.ParseKillPoint(text)
		require.ErrorIs(t, err, messages.ErrBadRequest, text)
		require.ErrorContains(t, err, text)
	}
}

// The process ends at the point, and nothing after it happens.
func TestKillPoint(t *testing.T) {
	if os.Getenv("KIT_TEST_KILLED") != "" {
		h := kit.NewHouse(kit.HouseConfig{Hooks: true, Kill: kit.KillPoint{Point: kit.PointEngine, N: 2}})
		h.Hooks.Point(kit.PointEngine)
		h.Hooks.Point(kit.PointEngineAfter)
		_, _ = os.Stdout.WriteString("once")
		h.Hooks.Point(kit.PointEngine)
		_, _ = os.Stdout.WriteString("twice")
		os.Exit(0)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestKillPoint$")
	child.Env = append(os.Environ(), "KIT_TEST_KILLED=1")
	out, err := child.Output()
	require.Error(t, err)
	require.Equal(t, "once", string(out))
	require.False(t, child.ProcessState.Exited() && child.ProcessState.ExitCode() == 0)
}

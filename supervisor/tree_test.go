package supervisor

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/actors/engine"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/mirror"
	"github.com/rdd-desktop/rdd/actors/store"
)

var updateTree = flag.Bool("update", false, "rewrite the golden picture of the tree")

// TestTreePicture holds the tree's literal against its golden picture: order, restart, intensity, backoff, shutdown, give-up.
func TestTreePicture(t *testing.T) {
	back, _ := journal.Memory()
	var b strings.Builder
	draw(&b, tree(parts{journal: back, table: store.NewTable(1), engine: &engine.Deps{}, mirror: &mirror.Deps{}}), "")
	const golden = "testdata/tree.golden"
	if *updateTree {
		require.NoError(t, os.WriteFile(golden, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String(), "run with -update and say why every line changed")
}

func draw(b *strings.Builder, s kit.ChildSpec, indent string) {
	restart := map[kit.RestartType]string{kit.Permanent: "permanent", kit.Transient: "transient", kit.Temporary: "temporary"}[s.Restart]
	giveUp := map[kit.GiveUp]string{kit.Escalate: "escalate", kit.Quarantine: "quarantine", kit.Report: "report"}[s.GiveUp]
	wait := "at once"
	if s.Backoff != (kit.Backoff{}) {
		wait = fmt.Sprintf("after %s–%s", s.Backoff.Min, s.Backoff.Max)
	}
	fmt.Fprintf(b, "%-14s %s, restarted %s, %d in %s, then %s; stops within %s\n",
		indent+s.Name, restart, wait, s.Max, s.Period.Round(time.Second), giveUp, s.Shutdown)
	for _, c := range s.Children {
		draw(b, c, indent+"  ")
	}
}

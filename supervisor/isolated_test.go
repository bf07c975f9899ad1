package supervisor

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// isolated runs the calling test in a process of its own and tells the parent so: protoactor's remote replaces the process-wide
// logger of gRPC at each start without any lock, a data race with every gRPC connection that lives. In such a process the
// client's side starts first, and edges start before anybody talks to them.
func isolated(t *testing.T) (child bool) {
	t.Helper()
	return isolatedFor(t, 2*time.Minute)
}

func isolatedFor(t *testing.T, limit time.Duration) (child bool) {
	t.Helper()
	if os.Getenv("RDD_ISOLATED_TEST") == t.Name() {
		must(getOffice())
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.timeout="+limit.String())
	cmd.Env = append(os.Environ(), "RDD_ISOLATED_TEST="+t.Name())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	if testing.Verbose() {
		t.Logf("%s", out)
	}
	return false
}

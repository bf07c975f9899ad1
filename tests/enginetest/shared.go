package enginetest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"
)

// RequireEnv is the environment variable that, when not empty, makes a missing engine a failure instead of a skipped test.
const RequireEnv = "RDD_TEST_REQUIRE_ENGINE"

var shared struct {
	mainRuns bool
	once     sync.Once
	engine   *Engine
	err      error
}

// Main runs the tests of a package that uses [ForTest], stops the shared engine, and exits. Call it from TestMain.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is [Main] for a TestMain that has more to do before it exits: it returns the exit code.
func Run(m *testing.M) int {
	shared.mainRuns = true
	code := m.Run()
	if shared.engine != nil {
		if err := shared.engine.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "close the shared engine:", err)
			code = max(code, 1)
		}
	}
	return code
}

// ForTest returns the engine that the tests of this binary share, started with live-restore by the first caller. Where no dockerd
// can run the test is skipped, with the reason. An engine that an earlier test killed or froze is brought back; objects left by
// earlier tests are still there ([Engine.Clean]).
func ForTest(t testing.TB) *Engine {
	t.Helper()
	skipWithoutEngine(t)
	if !shared.mainRuns {
		t.Fatal("a package that uses enginetest.ForTest must have: func TestMain(m *testing.M) { enginetest.Main(m) }")
	}
	shared.once.Do(func() {
		shared.engine, shared.err = Start(context.Background(), Options{LiveRestore: true})
	})
	if shared.err != nil {
		t.Fatalf("start the shared engine: %v", shared.err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := shared.engine.Thaw(); err != nil {
		t.Fatalf("thaw the shared engine: %v", err)
	}
	if shared.engine.PID() == 0 {
		if err := shared.engine.Restart(ctx); err != nil {
			t.Fatalf("start the shared engine again: %v", err)
		}
	}
	return shared.engine
}

// New starts an engine for this test alone and closes it when the test ends. At most one Options is used. Where no dockerd can
// run the test is skipped, with the reason.
func New(t testing.TB, options ...Options) *Engine {
	t.Helper()
	skipWithoutEngine(t)
	var o Options
	if len(options) > 0 {
		o = options[0]
	}
	engine, err := Start(context.Background(), o)
	if err != nil {
		t.Fatalf("start an engine: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of dockerd's log:\n%s", tail(engine.logWithoutNoise(), 20))
		}
		if err := engine.Close(); err != nil {
			t.Errorf("close the engine: %v", err)
		}
	})
	return engine
}

func skipWithoutEngine(t testing.TB) {
	t.Helper()
	err := Available()
	switch {
	case err == nil:
	case os.Getenv(RequireEnv) != "":
		t.Fatalf("%s is set, but no dockerd can be started here: %v", RequireEnv, err)
	default:
		t.Skipf("NO REAL ENGINE: %v", err)
	}
}

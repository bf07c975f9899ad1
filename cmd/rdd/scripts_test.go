package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// raceOptions: the race detector lets every process sleep a second at its end, unless it is told not to; there are hundreds.
const raceOptions = "atexit_sleep_ms=0"

// patience is how long a test waits for what must come soon; it is a limit, never a pause.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"rdd": main, "simulate": simulate, "toggle": toggle, "scribble": scribble})
}

// TestScripts runs the command line as people do: testdata/*.txtar need no daemon, testdata/daemon/*.txtar start their own.
func TestScripts(t *testing.T) {
	testscript.Run(t, scripts("testdata"))
}

// TestDaemonScripts needs no engine: its daemons run with the simulated one or none.
func TestDaemonScripts(t *testing.T) {
	testscript.Run(t, scripts(filepath.Join("testdata", "daemon")))
}

func scripts(dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Condition: func(cond string) (bool, error) {
			return cond == "root" && os.Geteuid() == 0, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exitcode": exitcode,
			"absent":   absent,
			"until":    until,
		},
		Setup: func(e *testscript.Env) error {
			// A home per script, short enough for sockets.
			home, err := os.MkdirTemp("", "rdd")
			if err != nil {
				return err
			}
			e.Setenv("HOME", home)
			e.Setenv("RDD_INSTANCE", "")
			e.Setenv("XDG_DATA_HOME", "")
			e.Setenv("DOCKER_HOST", "unix://"+filepath.Join(home, "no.sock"))
			e.Setenv("NO_COLOR", "1")
			e.Setenv("GORACE", raceOptions)
			e.Setenv("RDDTEST_RUN", os.Getenv("RDDTEST_RUN")) // whose process it is
			e.Defer(func() { _ = os.RemoveAll(home) })
			return nil
		},
	}
}

// exitcode N CMD… runs a command and compares its exit code: "exitcode 2 rdd ctl get nonsense".
func exitcode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N COMMAND…")
	}
	got := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var ok bool
		if got, ok = strings.CutPrefix(err.Error(), "exit status "); !ok {
			ts.Fatalf("%v", err)
		}
	}
	if got != args[0] {
		ts.Fatalf("%s ended with %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// absent DIR… fails when there is anything in a directory.
func absent(ts *testscript.TestScript, neg bool, args []string) {
	for _, dir := range args {
		entries, err := os.ReadDir(ts.MkAbs(dir))
		if err == nil && len(entries) > 0 {
			ts.Fatalf("%s was created in %s", entries[0].Name(), dir)
		}
	}
}

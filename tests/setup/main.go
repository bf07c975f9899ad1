// Command setup makes the machine ready for the tests: it installs what they need where that is possible, and says what will be
// skipped otherwise. It never fails because something is missing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/rdd-desktop/rdd/tests/enginetest"
)

func main() {
	sweep := flag.Bool("sweep", false, "only remove the engines that dead test runs left behind")
	flag.Parse()
	if *sweep {
		if err := enginetest.Sweep(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx := context.Background()
	if err := enginetest.Install(ctx, os.Stdout); err != nil {
		fmt.Printf("setup: NO REAL ENGINE: all tests against a real dockerd WILL BE SKIPPED: %v\n", err)
	} else {
		fmt.Println("setup: a private dockerd can run here")
	}
	if err := compiler(ctx); err != nil {
		fmt.Printf("setup: NO RACE DETECTOR: the tests will run without it: %v\n", err)
	} else {
		fmt.Println("setup: the race detector can run here")
	}
}

// compiler installs a C compiler, which the race detector needs.
func compiler(ctx context.Context) error {
	cc, err := exec.CommandContext(ctx, "go", "env", "CC").Output()
	if err != nil {
		return fmt.Errorf("go env CC: %w", err)
	}
	name, _, _ := strings.Cut(strings.TrimSpace(string(cc)), " ")
	if _, err = exec.LookPath(name); err == nil || os.Geteuid() != 0 {
		return err
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("there is no C compiler %q", name)
	}
	return enginetest.InstallPackages(ctx, os.Stdout, "gcc", "libc6-dev")
}

package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/rdd-desktop/rdd/vmdriver/native/host"
)

// packages of Debian, by the command that is missing without them.
var packages = []struct{ command, pkg string }{
	{"dockerd", "docker.io"},
	{"docker", "docker.io"},
	{"ip", "iproute2"},
	{"iptables", "iptables"},
}

// Install makes [Available] true where it can: on Debian and its kin, as root, it installs the packages that are missing. It
// writes what it does to out, and returns why there will be no private engine; nil when there can be one.
func Install(ctx context.Context, out io.Writer) error {
	reason := Available()
	if reason == nil || os.Geteuid() != 0 || !debian() {
		return reason
	}
	var missing []string
	for _, p := range packages {
		if _, err := host.LookPath(p.command); err != nil {
			missing = append(missing, p.pkg)
		}
	}
	if _, err := staticBusybox(); err != nil {
		missing = append(missing, "busybox-static")
	}
	if len(missing) == 0 {
		return reason
	}
	if err := InstallPackages(ctx, out, missing...); err != nil {
		return errors.Join(reason, err)
	}
	if _, err := host.LookPath("docker"); err != nil { // from Debian 13 on the CLI is a package of its own
		if err := InstallPackages(ctx, out, "docker-cli"); err != nil {
			return errors.Join(reason, err)
		}
	}
	return Available()
}

// InstallPackages installs Debian packages, in silence unless it fails.
func InstallPackages(ctx context.Context, out io.Writer, names ...string) error {
	fmt.Fprintf(out, "installing %s\n", strings.Join(names, " "))
	apt := func(args ...string) error {
		command := exec.CommandContext(ctx, "apt-get", args...)
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w:\n%s", strings.Join(args, " "), err, tail(string(output), 10))
		}
		return nil
	}
	install := append([]string{"install", "-y", "-q", "--no-install-recommends"}, names...)
	if apt(install...) == nil {
		return nil
	}
	if err := apt("update", "-q"); err != nil { // no package lists yet, or old ones
		return err
	}
	return apt(install...)
}

func debian() bool {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return false
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return false
	}
	for line := range bytes.Lines(release) {
		key, value, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
		if (key == "ID" || key == "ID_LIKE") && strings.Contains(value, "debian") {
			return true
		}
	}
	return false
}

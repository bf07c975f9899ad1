package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

var octal = regexp.MustCompile(`\\[0-7]{3}`)

// Mounts lists the mount points in the directory, the latest first, which is the order to unmount them in.
func Mounts(dir string) []string {
	table, _ := os.ReadFile("/proc/self/mountinfo")
	var found []string
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := octal.ReplaceAllStringFunc(fields[4], func(s string) string {
			n, _ := strconv.ParseUint(s[1:], 8, 8)
			return string([]byte{byte(n)})
		})
		if strings.HasPrefix(point+"/", dir+"/") {
			found = append(found, point)
		}
	}
	slices.Reverse(found)
	return found
}

// Unmount unmounts everything in the directory; what is busy goes when its last user does.
func Unmount(dir string) error {
	var errs []error
	for _, point := range Mounts(dir) {
		err := syscall.Unmount(point, 0)
		if errors.Is(err, syscall.EBUSY) {
			err = syscall.Unmount(point, syscall.MNT_DETACH)
		}
		if err != nil && !errors.Is(err, syscall.EINVAL) { // EINVAL: it went with another one
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}

// cgroups lists the directories of a control group in all hierarchies, the deepest first.
func cgroups(name string) []string {
	if name == "" {
		return nil
	}
	table, _ := os.ReadFile("/proc/self/mountinfo")
	var found []string
	for line := range strings.Lines(string(table)) {
		left, right, ok := strings.Cut(line, " - ")
		fields := strings.Fields(left)
		if !ok || len(fields) < 5 || !strings.HasPrefix(right, "cgroup") {
			continue
		}
		_ = filepath.WalkDir(filepath.Join(fields[4], name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				found = append(found, path)
			}
			return nil
		})
	}
	slices.Reverse(found)
	return found
}

// thaw lets go what is frozen in a control group (a paused container): until then not even SIGKILL ends it.
func thaw(name string) {
	for _, dir := range cgroups(name) {
		for file, word := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} { // of version 1, of version 2
			if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
				_ = os.WriteFile(filepath.Join(dir, file), []byte(word), 0) // what stays frozen survives SIGKILL, which is told
			}
		}
	}
}

// RemoveCgroups removes a control group, which no process is in, from all hierarchies.
func RemoveCgroups(name string) error {
	var errs []error
	for _, dir := range cgroups(name) {
		if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
			errs = append(errs, fmt.Errorf("remove the cgroup %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

// ShimSockets finds the sockets of the shims of the engine with this exec root. They lie outside of its directory, and a killed shim
// leaves its socket.
func ShimSockets(execRoot string) []string {
	files, _ := filepath.Glob(filepath.Join(execRoot, "containerd/daemon/io.containerd.runtime.v2.task/*/*/address"))
	var found []string
	for _, f := range files {
		address, err := os.ReadFile(f)
		path, ok := strings.CutPrefix(strings.TrimSpace(string(address)), "unix://")
		if err == nil && ok && strings.HasPrefix(path, "/run/containerd/s/") {
			found = append(found, path)
		}
	}
	return found
}

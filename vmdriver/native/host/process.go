package host

import (
	"os"
	"os/exec"
	"path/filepath"
)

// Process names a process for good, within one boot: a pid alone may belong to another process tomorrow.
type Process struct {
	PID int `json:"pid"`
	// Start is field 22 of /proc/PID/stat: clock ticks after boot.
	Start uint64 `json:"start"`
}

// folders hold commands that may be missing from PATH: administrators' tools, or all when PATH is empty.
var folders = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// LookPath finds a command in PATH and in the system's folders.
func LookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range folders {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// Path is a value for PATH with which a child finds what LookPath does.
func Path() string {
	own := filepath.SplitList(os.Getenv("PATH"))
	path := ""
	for _, dir := range append(own, folders...) {
		if path != "" {
			path += string(filepath.ListSeparator)
		}
		path += dir
	}
	return path
}

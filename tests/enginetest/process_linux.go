package enginetest

import (
	"fmt"
	"path/filepath"

	"github.com/rdd-desktop/rdd/vmdriver/native/host"
)

// stopped tells whether every thread of the process stands still. SIGSTOP takes effect thread by thread, after the call returned.
func stopped(p host.Process) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.PID))
	if err != nil || len(threads) == 0 {
		return false
	}
	for _, t := range threads {
		if s, err := host.ReadStat(t); err == nil && s.State != 'T' {
			return false
		}
	}
	return true
}

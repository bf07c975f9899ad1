package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// processStart identifies a run of a process, as supervisor writes it to edge.json; false when there is none (or a dead one
// that nobody has reaped).
func processStart(pid int) (string, bool) {
	p, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return "", false
	}
	const zombie = 5 // SZOMB
	if int(p.Proc.P_pid) != pid || p.Proc.P_stat == zombie {
		return "", false
	}
	return fmt.Sprintf("%d.%06d", p.Proc.P_starttime.Sec, p.Proc.P_starttime.Usec), true
}

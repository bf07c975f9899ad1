package supervisor

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// processStart identifies a run of a process: its pid may be given to another one, its start time may not. An error means
// there is no such process (or a dead one that nobody has reaped).
func processStart(pid int) (string, error) {
	p, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return "", err
	}
	const zombie = 5 // SZOMB
	if int(p.Proc.P_pid) != pid || p.Proc.P_stat == zombie {
		return "", fmt.Errorf("process %d: dead", pid)
	}
	return fmt.Sprintf("%d.%06d", p.Proc.P_starttime.Sec, p.Proc.P_starttime.Usec), nil
}

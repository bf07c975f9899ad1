package supervisor

import (
	"bytes"
	"fmt"
	"os"
)

// processStart identifies a run of a process: its pid may be given to another one, its start time may not. An error means
// there is no such process (or a dead one that nobody has reaped).
func processStart(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The command's name is in parentheses and may hold anything; state is the first field after it, start time the 20th.
	f := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(f) < 20 {
		return "", fmt.Errorf("process %d: %d fields in its stat file", pid, len(f))
	}
	if s := f[0][0]; s == 'Z' || s == 'X' {
		return "", fmt.Errorf("process %d: dead", pid)
	}
	return string(f[19]), nil
}

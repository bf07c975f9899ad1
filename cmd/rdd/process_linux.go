package main

import (
	"bytes"
	"fmt"
	"os"
)

// processStart identifies a run of a process, as supervisor writes it to edge.json; false when there is none (or a dead one
// that nobody has reaped).
func processStart(pid int) (string, bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false
	}
	// The command's name is in parentheses and may hold anything; state is the first field after it, start time the 20th.
	f := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(f) < 20 || f[0][0] == 'Z' || f[0][0] == 'X' {
		return "", false
	}
	return string(f[19]), true
}

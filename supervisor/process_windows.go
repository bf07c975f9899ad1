package supervisor

import (
	"fmt"

	"golang.org/x/sys/windows"
)

// processStart identifies a run of a process: its pid may be given to another one, its start time may not. An error means
// there is no such process.
func processStart(pid int) (string, error) {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return "", err
	}
	defer func() { _ = windows.CloseHandle(h) }()
	const stillActive = 259
	var code uint32
	if err := windows.GetExitCodeProcess(h, &code); err == nil && code != stillActive {
		return "", fmt.Errorf("process %d: dead", pid)
	}
	var creation, exit, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(h, &creation, &exit, &kernel, &user); err != nil {
		return "", err
	}
	return fmt.Sprint(creation.Nanoseconds()), nil
}

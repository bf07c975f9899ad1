//go:build !linux

package host

// Alive is false: a private dockerd needs Linux.
func (Process) Alive() bool { return false }

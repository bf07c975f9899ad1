package main

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// detached gives a child no console of ours.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP}
}

// keepFilesFromChildren has nothing to do: a handle is inherited only when that was asked for.
func keepFilesFromChildren() {}

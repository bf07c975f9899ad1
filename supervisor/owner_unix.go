//go:build unix

package supervisor

import (
	"io/fs"
	"syscall"
)

func fileOwner(info fs.FileInfo) (uid int, known bool) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), true
	}
	return 0, false
}

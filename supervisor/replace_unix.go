//go:build !windows

package supervisor

import (
	"path/filepath"

	"github.com/google/renameio/v2"
)

// replaceFile puts data in the place of the file in one step: a reader sees the old one or the new one, whole.
func replaceFile(path string, data []byte) error {
	return renameio.WriteFile(path, data, 0o600, renameio.WithStaticPermissions(0o600), renameio.WithTempDir(filepath.Dir(path)))
}

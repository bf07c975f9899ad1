// Package embed builds rdd into a module of somebody else's, as a desktop app would.
package embed

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/tests/enginetest"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

func TestAnotherModuleEmbedsRdd(t *testing.T) {
	e := enginetest.ForTest(t)
	e.Clean(t)
	e.ImportBusybox(t, "busybox:latest")
	e.Docker(t, "run", "-d", "--name", "web", "busybox", "sleep", "3600")
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	program, err := os.ReadFile("testdata/embed_test.go.txt")
	require.NoError(t, err)
	doc, err := os.ReadFile(filepath.Join(root, "docs", "embedding.md"))
	require.NoError(t, err)
	require.Contains(t, string(doc), string(program), "the documentation shows another program")

	dir := t.TempDir()
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	// Their module has our requirements, ours, and no tools.
	text := strings.Replace(string(mod), "module github.com/rdd-desktop/rdd", "module example.org/myapp", 1)
	if i := strings.Index(text, "\ntool"); i >= 0 {
		end := strings.Index(text[i:], ")")
		text = text[:i] + text[i+end+1:]
	}
	text += "\nrequire github.com/rdd-desktop/rdd v0.0.0\nreplace github.com/rdd-desktop/rdd => " + root + "\n"
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	require.NoError(t, err)
	for name, content := range map[string]string{"go.mod": text, "go.sum": string(sum), "embed_test.go": string(program)} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "go", "test", "-mod=mod", "-count=1", ".")
	c.Dir = dir
	c.Env = append(os.Environ(), "DOCKER_HOST="+e.Host())
	out, err := c.CombinedOutput()
	require.NoError(t, err, string(out))
	e.Clean(t)
}

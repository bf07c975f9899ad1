package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The program runs, and what it measures is in its table; how fast anything is, is not this test's business.
func TestTheBenchmarksRun(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "bench")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.CommandContext(t.Context(), program, "-quick", "-sizes", "20", "-rows", "^(heal|binary)$", "-out", filepath.Join(dir, "out"), program).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "| one inspect fails once: right again")
	require.Contains(t, string(out), "| binary")
	require.FileExists(t, filepath.Join(dir, "out"))
}

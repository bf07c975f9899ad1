package example

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheDocumentationShowsThisTest(t *testing.T) {
	code, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	page, err := os.ReadFile("../../docs/testing.md")
	require.NoError(t, err)
	require.Contains(t, string(page), "```go\n"+string(code)+"```\n")
}

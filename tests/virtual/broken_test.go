package virtual

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mutant is the house with one line of its source broken: the net of this suite must have no hole through which it fits.
type mutant struct {
	name, file string
	// old stands once in the file.
	old, new string
}

// A house that breaks its probe (an answer that counts although an event came after its question, a destroy forgotten with a failed question)
// is missed by most days: the tests beside the probe know it.
var brokenHouses = []mutant{
	{"the reader drops events under load", "actors/engine/marks.go",
		"	h, ok := hintOf(e)\n	d.mu.Lock()\n	defer d.mu.Unlock()\n", "	h, ok := hintOf(e)\n	d.mu.Lock()\n	defer d.mu.Unlock()\n	ok = ok && !d.told\n"},
	{"the stream is opened from no time on", "actors/engine/session.go", "engine.Events(streaming, up.Info.Now)", "engine.Events(streaming, dockerio.Time{})"},
	{"an incarnation gets the answers of the one before", "actors/kit/shell.go", "		if msg.inc == s.inc {\n", "		if msg.inc != 0 {\n"},
	{"a failed inspect is not tried again", "actors/mirror/owner.go", "			c.After(wait, retryDue{})\n", ""},
	{"an accepted deletion is not replayed", "actors/mirror/records.go",
		"				o.removal(c, t, replayed{Prove: o.ops.ambiguous() && o.ops.valid(o.id)})\n", ""},
}

// mostDays that a mutant lives.
const mostDays = 8

// Each broken house must fail days; the failure is the suite's, not the compiler's.
func TestABrokenHouseIsCaught(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	for _, m := range brokenHouses {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			said, err := m.live(t, root)
			require.Error(t, err, "it lived through its days: the suite has a hole")
			require.Contains(t, said, "the last steps:", "it failed otherwise")
			_, how, _ := strings.Cut(said, "_test.go:")
			t.Logf("%.300s", how)
		})
	}
}

// live runs days of a mutant: what was said, and how it ended.
func (m mutant) live(t *testing.T, root string) (string, error) {
	path, broken := filepath.Join(root, m.file), filepath.Join(t.TempDir(), "broken.go")
	source, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, 1, bytes.Count(source, []byte(m.old)), "%s has changed: %q is to stand in it once", m.file, m.old)
	require.NoError(t, os.WriteFile(broken, bytes.Replace(source, []byte(m.old), []byte(m.new), 1), 0o600))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: broken}})
	require.NoError(t, err)
	overlayFile := filepath.Join(t.TempDir(), "overlay.json")
	require.NoError(t, os.WriteFile(overlayFile, overlay, 0o600))
	program := filepath.Join(t.TempDir(), "broken.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", overlayFile, "-o", program, "./tests/virtual")
	build.Dir = root
	said, err := build.CombinedOutput()
	require.NoError(t, err, string(said))
	for seed := 1; seed <= mostDays; seed++ {
		day := exec.CommandContext(t.Context(), program, "-test.run", "^TestADay$", "-seed", fmt.Sprint(seed))
		if said, err = day.CombinedOutput(); err != nil {
			break
		}
	}
	return string(said), err
}

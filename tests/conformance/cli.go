package conformance

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rdd-desktop/rdd/tests/enginetest"
)

// Step is one case of the suite at the level of the docker CLI: a command, and what it said.
type Step struct {
	// Case names it: "scenario/number".
	Case    string
	Command string
	// Said is exit code, stdout and stderr, with ids, times, sizes and ports made comparable.
	Said string
}

// RunCLI types every scenario's commands on an engine, which it empties first each time, and returns what was said. The registry is
// one that the engine can pull PulledImage from.
func RunCLI(t *testing.T, engine *enginetest.Client, registry string) []Step {
	t.Helper()
	var steps []Step
	for _, s := range cliScenarios {
		engine.Clean(t)
		engine.ImportBusybox(t, "busybox:latest")
		u := user{engine: engine, registry: registry, dir: t.TempDir(), port: freePort(t), ids: map[string]int{}}
		u.start = u.now(t)
		for n, line := range strings.Split(strings.TrimSpace(s.lines), "\n") {
			steps = append(steps, Step{fmt.Sprintf("%s/%d", s.name, n+1), line, u.types(t, line)})
		}
	}
	engine.Clean(t)
	return steps
}

// user is who types one scenario.
type user struct {
	engine     *enginetest.Client
	registry   string
	dir, start string
	port       int
	ids        map[string]int // by their first twelve digits, in the order they were seen
}

// commandLimit is for one command; none comes near.
const commandLimit = time.Minute

func (u *user) types(t *testing.T, line string) string {
	t.Helper()
	line, loose := strings.CutPrefix(line, "!")
	line, unordered := strings.CutPrefix(line, "~")
	if strings.Contains(line, "$NOW") {
		line = strings.ReplaceAll(line, "$NOW", u.now(t))
	}
	words := split(strings.NewReplacer("$REGISTRY", u.registry, "$PORT", strconv.Itoa(u.port), "$DIR", u.dir, "$START", u.start).Replace(line))
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	command := exec.CommandContext(ctx, "docker", words...)
	command.Env = u.engine.Environment()
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	_ = command.Run() // the exit code is part of what it says
	out := stdout.String()
	if unordered {
		out = strings.Join(slices.Sorted(strings.Lines(out)), "")
	}
	said := u.comparable(fmt.Sprintf("exit %d\n%s", command.ProcessState.ExitCode(), out))
	if wrong := u.comparable(stderr.String()); wrong != "" && !loose {
		said += "stderr: " + wrong
	}
	return said
}

// now is the engine's clock.
func (u *user) now(t *testing.T) string {
	t.Helper()
	return u.engine.Docker(t, "info", "--format", "{{.SystemTime}}")
}

// split takes a line apart at blanks; what is between single quotes stays together.
func split(line string) []string {
	var words []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 0 {
			fields := strings.Fields(part)
			if i > 0 && len(fields) > 0 && !strings.HasPrefix(part, " ") {
				words[len(words)-1] += fields[0]
				fields = fields[1:]
			}
			words = append(words, fields...)
			continue
		}
		if before := line[:strings.Index(line, "'"+part+"'")]; len(words) > 0 && !strings.HasSuffix(before, " ") {
			words[len(words)-1] += part
		} else {
			words = append(words, part)
		}
	}
	return words
}

var (
	hexID   = regexp.MustCompile(`\b[0-9a-f]{12}(?:[0-9a-f]{52})?\b`)
	columns = regexp.MustCompile(` {2,}`)
	// varies is what differs from run to run and says nothing.
	varies = []struct {
		pattern *regexp.Regexp
		name    string
	}{
		{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "<time>"},
		{regexp.MustCompile(`\b\d{10}\.\d{9}\b`), "<time>"},
		{regexp.MustCompile(`(Less than a second|About an? \w+|\d+ (second|minute|hour)s?)( ago)?`), "<ago>"},
		{regexp.MustCompile(`\b\d+(\.\d+)?\s?[kMG]?B\b`), "<size>"},
		{regexp.MustCompile(`\b(10|172|192)\.\d+\.\d+\.\d+\b`), "<ip>"},
		{regexp.MustCompile(`\(\d+%\)`), "(<percent>)"},
		{regexp.MustCompile(`/\S*/volumes/`), "<data root>/volumes/"},
		// Of the host: other engines on it may change that meanwhile.
		{regexp.MustCompile(`(?m)^WARNING: IPv4 forwarding is disabled\. Networking will not work\.\n?`), ""},
	}
)

// comparable replaces what differs from run to run: two outputs are alike when they name the same things in the same order.
func (u *user) comparable(text string) string {
	text = strings.ReplaceAll(text, u.registry, "$REGISTRY")
	text = strings.ReplaceAll(text, strconv.Itoa(u.port), "$PORT")
	text = strings.ReplaceAll(text, u.dir, "$DIR")
	for _, v := range varies {
		text = v.pattern.ReplaceAllString(text, v.name)
	}
	text = hexID.ReplaceAllStringFunc(text, func(id string) string {
		if strings.Trim(id, "0123456789") == "" && len(id) == 12 {
			return id // a number
		}
		n, known := u.ids[id[:12]]
		if !known {
			n = len(u.ids) + 1
			u.ids[id[:12]] = n
		}
		if len(id) == 12 {
			return fmt.Sprintf("<short id %d>", n)
		}
		return fmt.Sprintf("<id %d>", n)
	})
	var out strings.Builder
	for line := range strings.Lines(text) {
		switch {
		case strings.HasSuffix(line, ": Verifying Checksum\n"), strings.HasSuffix(line, ": Download complete\n"):
			continue // who watches a layer is told the newest of its steps: one that is over at once may never be shown
		case strings.Contains(line, "IPv4 forwarding is disabled"):
			continue // a fact about the host, which another test may change
		}
		out.WriteString(columns.ReplaceAllString(strings.TrimRight(line, " \n"), "  ") + "\n")
	}
	return out.String()
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Exceptions reads the accepted differences: lines "case: reason"; empty lines and those that begin with # are left out.
func Exceptions(text string) (map[string]string, error) {
	accepted := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, ok := strings.Cut(line, ": ")
		if !ok || strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("exceptions: no reason in %q", line)
		}
		accepted[name] = reason
	}
	return accepted, nil
}

// Compare tells where the simulated engine says another thing than the real one without an exception, and which exceptions
// nothing needs.
func Compare(real, simulated []Step, accepted map[string]string) (differences, unused []string) {
	used := map[string]bool{}
	for i, r := range real {
		s := simulated[i]
		if r.Said == s.Said {
			continue
		}
		if _, ok := accepted[r.Case]; ok {
			used[r.Case] = true
			continue
		}
		differences = append(differences, fmt.Sprintf("%s: docker %s\n--- real:\n%s--- simulated:\n%s", r.Case, r.Command, r.Said, s.Said))
	}
	for name := range accepted {
		if !used[name] {
			unused = append(unused, name)
		}
	}
	slices.Sort(unused)
	return differences, unused
}

package kit

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the tables in doc comments and golden files")

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// TestRestartTable renders the table from the code and compares it with the doc comment of window.
func TestRestartTable(t *testing.T) {
	const file, begin, end = "restart_fsm.go", "// BEGIN TABLE\n", "// END TABLE\n"
	src, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(src), begin)
	require.True(t, ok)
	got, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := restartTable()
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(before+begin+want+end+after), 0o644))
		return
	}
	require.Equal(t, want, got, "run with -update and say why every line changed")
}

func restartTable() string {
	wait := Backoff{Min: time.Second, Max: time.Second}
	type variant struct {
		name string
		spec ChildSpec
		e    event
	}
	failed := childFailed{now: epoch, jitter: 0.5, token: 7, counted: true}
	ended := childEnded{now: epoch, jitter: 0.5, token: 7}
	normal := childEnded{now: epoch, jitter: 0.5, token: 7, normal: true}
	variants := []variant{
		{"failed", ChildSpec{Backoff: wait}, failed},
		{"failed, no backoff", ChildSpec{}, failed},
		{"failed, over, Escalate", ChildSpec{Max: -1}, failed},
		{"failed, over, other", ChildSpec{Max: -1, GiveUp: Quarantine}, failed},
		{"failed, Temporary", ChildSpec{Restart: Temporary}, failed},
		{"ended", ChildSpec{Backoff: wait}, ended},
		{"ended, no backoff", ChildSpec{}, ended},
		{"ended, over, Escalate", ChildSpec{Max: -1}, ended},
		{"ended, over, other", ChildSpec{Max: -1, GiveUp: Report}, ended},
		{"ended, Temporary", ChildSpec{Restart: Temporary}, ended},
		{"finished, Permanent", ChildSpec{Backoff: wait}, normal},
		{"finished, other", ChildSpec{Restart: Transient}, normal},
		{"restart due", ChildSpec{}, restartCame{now: epoch, token: 1}},
		{"restart due, stale", ChildSpec{}, restartCame{now: epoch, token: 2}},
		{"stop asked", ChildSpec{}, stopAsked{}},
	}
	var b strings.Builder
	fmt.Fprintf(&b, "//\n//\t%-10s %-23s %-10s %s\n", "phase", "event", "next", "effects")
	for p := alive; p <= gone; p++ {
		for _, v := range variants {
			if p != alive && strings.Contains(v.name, ",") && !strings.HasPrefix(v.name, "restart due") {
				continue // a variant that makes a difference to a child that is alive only; ended stands for finished
			}
			w := window{spec: &v.spec, phase: p}
			if p == suspended || p == absent {
				w.token = 1
			}
			next, effects := w.apply(v.e)
			if next.phase == p && len(effects) == 0 {
				continue // ignored
			}
			var names []string
			for _, e := range effects {
				names = append(names, strings.TrimPrefix(fmt.Sprintf("%T", e), "kit."))
			}
			line := fmt.Sprintf("//\t%-10s %-23s %-10s %s", p, v.name, next.phase, strings.Join(names, ", "))
			b.WriteString(strings.TrimRight(line, " ") + "\n")
		}
	}
	b.WriteString("//\n// What is not in it is ignored; only a child that is alive is asked how it ended.\n//\n")
	return b.String()
}

func TestBackoffGrowsToItsCapAndBeginsAnew(t *testing.T) {
	b := Backoff{Min: 100 * time.Millisecond, Max: time.Second}
	for attempt, want := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond, 5: time.Second, 1000: time.Second,
	} {
		require.Equal(t, want, b.ceiling(attempt), attempt)
		require.Zero(t, b.Delay(attempt, 0))
		require.Less(t, b.Delay(attempt, 0.999), want)
	}
	require.Zero(t, Backoff{}.Delay(3, 0.9))
	require.Equal(t, time.Second, Backoff{Min: time.Second}.ceiling(9), "a Max below Min is Min")

	w := window{spec: &ChildSpec{Backoff: b, Period: time.Minute}}
	w, _ = w.apply(childFailed{now: epoch, jitter: 0.5, token: 1})
	w, _ = w.apply(restartCame{now: epoch.Add(time.Second), token: 1})
	w, _ = w.apply(childFailed{now: epoch.Add(60 * time.Second), jitter: 0.5, token: 2})
	require.Equal(t, 2, w.attempt, "not quiet for a Period since the restart")
	w, _ = w.apply(restartCame{now: epoch.Add(61 * time.Second), token: 2})
	w, _ = w.apply(childFailed{now: epoch.Add(121 * time.Second), jitter: 0.5, token: 3})
	require.Equal(t, 1, w.attempt)
}

// TestRestartProperties drives a window with random events and checks what must always hold.
func TestRestartProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := &ChildSpec{
			Restart: RestartType(rapid.IntRange(0, 2).Draw(t, "restart")),
			GiveUp:  GiveUp(rapid.IntRange(0, 2).Draw(t, "giveUp")),
			Max:     rapid.IntRange(-1, 4).Draw(t, "max"),
			Period:  10 * time.Second,
			Backoff: Backoff{Min: time.Duration(rapid.IntRange(0, 1).Draw(t, "backoff")) * time.Second, Max: 4 * time.Second},
		}
		w := window{spec: spec}
		now, token := epoch, uint64(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			token++
			jitter := rapid.Float64Range(0, 0.999).Draw(t, "jitter")
			was := w
			var e event
			switch rapid.IntRange(0, 4).Draw(t, "event") {
			case 0:
				e = childFailed{now: now, jitter: jitter, token: token, counted: rapid.Bool().Draw(t, "counted")}
			case 1:
				e = childEnded{now: now, jitter: jitter, token: token, normal: rapid.Bool().Draw(t, "normal")}
			case 2:
				e = restartCame{now: now, token: rapid.Uint64Range(0, token).Draw(t, "due")}
			case 3:
				e = restartCame{now: now, token: w.token}
			case 4:
				if rapid.IntRange(0, 9).Draw(t, "stop") == 0 {
					e = stopAsked{}
				} else {
					continue
				}
			}
			before := fmt.Sprintf("%+v", was)
			var effects []effect
			w, effects = w.apply(e)
			require.Equal(t, before, fmt.Sprintf("%+v", was), "apply changed its receiver")
			checkStep(t, was, w, e, effects)
		}
	})
}

func checkStep(t *rapid.T, was, w window, e event, effects []effect) {
	ends := 0
	for _, eff := range effects {
		switch eff := eff.(type) {
		case restart:
			require.Contains(t, []phase{alive, suspended}, was.phase, "a Restart would undo a stop")
			require.NotEqual(t, Temporary, w.spec.Restart)
			require.Equal(t, alive, w.phase)
		case respawn:
			require.Contains(t, []phase{alive, absent}, was.phase)
			require.Equal(t, alive, w.phase)
		case scheduleRestart:
			require.Equal(t, w.token, eff.token)
			require.LessOrEqual(t, eff.delay, w.spec.Backoff.ceiling(w.attempt))
		case escalate, reportGaveUp:
			require.Len(t, w.counted, w.spec.max()+1, "given up too early or too late")
		case tellEnded:
			ends++
			require.Equal(t, gone, w.phase)
		}
	}
	require.LessOrEqual(t, ends, 1)
	if w.phase == gone && was.phase != gone && ends == 0 {
		require.Equal(t, Escalate, w.spec.GiveUp, "a child is gone and its parent was not told")
	}
	if was.phase == gone {
		require.Equal(t, gone, w.phase)
		require.Empty(t, effects)
	}
	if c, ok := e.(restartCame); ok && (c.token != was.token || c.token == 0) {
		require.Empty(t, effects, "a stale timer did something")
	}
	if w.phase == alive || w.phase == stopping || w.phase == gone {
		require.Zero(t, w.token, "a restart is due for a child that needs none")
	}
	require.LessOrEqual(t, len(w.counted), max(w.spec.max()+1, 1))
}

// TestOnlyAliveAsksHowItEnded holds what lets the table leave variants out.
func TestOnlyAliveAsksHowItEnded(t *testing.T) {
	for p := suspended; p <= gone; p++ {
		var first []effect
		for i, normal := range []bool{false, true} {
			for _, spec := range []ChildSpec{{}, {Max: -1}, {Restart: Temporary}, {GiveUp: Quarantine, Max: -1}} {
				w := window{spec: &spec, phase: p}
				_, effects := w.apply(childEnded{now: epoch, normal: normal})
				if i == 0 && first == nil {
					first = effects
				}
				require.Equal(t, first, effects)
			}
		}
	}
}

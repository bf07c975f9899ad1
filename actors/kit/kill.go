package kit

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/rdd-desktop/rdd/messages"
)

// Points of a run that a test may count, and end the process at.
const (
	// PointJournal is before a transaction of the journal, PointJournalAfter when it is on disk and nobody knows it yet.
	PointJournal      = "journal"
	PointJournalAfter = "journal-after"
	// PointEngine is before a call that changes the engine, PointEngineAfter when it has returned and nobody knows it yet.
	PointEngine      = "engine"
	PointEngineAfter = "engine-after"
)

// KillPoint is where a process is to end as by SIGKILL: the N-th time it comes to Point. The zero value is nowhere.
type KillPoint struct {
	Point string
	N     int64
}

// ParseKillPoint reads "journal:3": a point and which time. Empty is nowhere.
func ParseKillPoint(text string) (KillPoint, error) {
	if text == "" {
		return KillPoint{}, nil
	}
	point, number, _ := strings.Cut(text, ":")
	n, err := strconv.ParseInt(number, 10, 64)
	switch point {
	case PointJournal, PointJournalAfter, PointEngine, PointEngineAfter:
		if err == nil && n > 0 {
			return KillPoint{Point: point, N: n}, nil
		}
	}
	return KillPoint{}, messages.NewError(messages.CodeBadRequest, "read", "kill point", text,
		fmt.Sprintf("want %s, %s, %s or %s, a colon and a number from 1 on", PointJournal, PointJournalAfter, PointEngine, PointEngineAfter))
}

// killer counts towards a kill point.
type killer struct {
	at    KillPoint
	times atomic.Int64
}

// Point is called where a point is passed, in the goroutine that passes it. At the kill point it does not return: the process ends
// there, with nothing cleaned up.
func (h *Hooks) Point(name string) {
	if h == nil {
		return
	}
	if h.lab.Point != nil {
		h.lab.Point(name)
	}
	if h.kill == nil || h.kill.at.Point != name || h.kill.times.Add(1) != h.kill.at.N {
		return
	}
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {} // what comes after the point must not happen in the moment that takes
}

package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

// parts of the application as people know them: which condition speaks for which.
var parts = []struct{ condition, name string }{
	{messages.ConditionRunning, "VM"},
	{messages.ConditionContainerEngineReady, "Engine"},
	{messages.ConditionClockSynced, "Clock"},
}

// progress shows how the App comes to its desired state: one line a change, and a spinner on a terminal.
type progress struct {
	c     *cli
	begin time.Time
	quiet bool

	mu       sync.Mutex
	seen     map[string]metav1.Condition
	spinning string
	stop     chan struct{}
	stopped  chan struct{}
}

// newProgress begins with the conditions as they were when the change was accepted.
func newProgress(c *cli, from *messages.App, begin time.Time, quiet bool) *progress {
	p := &progress{c: c, begin: begin, quiet: quiet, seen: map[string]metav1.Condition{}}
	for _, cond := range from.Conditions() {
		p.seen[cond.Type] = cond
	}
	if !quiet && isTerminal(c.err) {
		p.stop, p.stopped = make(chan struct{}), make(chan struct{})
		go p.spin()
	}
	return p
}

// app shows what is new in a.
func (p *progress) app(a *messages.App) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range parts {
		cond := messages.Condition(a, part.condition)
		if cond == nil {
			continue
		}
		old, known := p.seen[cond.Type]
		p.seen[cond.Type] = *cond
		if known && old.Status == cond.Status && old.Reason == cond.Reason || part.name == "Clock" && cond.Status != metav1.ConditionFalse {
			continue
		}
		p.line(part.name, *cond)
	}
}

func (p *progress) line(name string, cond metav1.Condition) {
	if p.quiet {
		return
	}
	colour := yellow
	switch {
	case messages.TerminalReason(cond.Reason):
		colour = red
	case cond.Status == metav1.ConditionTrue:
		colour = green
	}
	message := cond.Message
	if strings.EqualFold(message, cond.Reason) {
		message = ""
	}
	p.clear()
	elapsed := fmt.Sprintf("%.0fs", time.Since(p.begin).Seconds())
	reason := paint(colourful(p.c.err), colour, fmt.Sprintf("%-15s", cond.Reason))
	line := fmt.Sprintf("  %-8s  %s  %5s   %s", name, reason, elapsed, printable(message))
	_, _ = fmt.Fprintln(p.c.err, strings.TrimRight(line, " "))
	p.spinning = name + " " + cond.Reason
}

// clear removes the spinner's line.
func (p *progress) clear() {
	if p.stop != nil {
		_, _ = fmt.Fprint(p.c.err, "\r\x1b[K")
	}
}

func (p *progress) spin() {
	defer close(p.stopped)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for frame := 0; ; frame++ {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		p.mu.Lock()
		_, _ = fmt.Fprintf(p.c.err, "\r\x1b[K%c %s %.0fs", `-\|/`[frame%4], p.spinning, time.Since(p.begin).Seconds())
		p.mu.Unlock()
	}
}

// end stops the spinner.
func (p *progress) end() {
	if p.stop == nil {
		return
	}
	close(p.stop)
	<-p.stopped
	p.clear()
}

// short is a duration as people write it: 20s, 1m30s, 5m, 2h.
func short(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

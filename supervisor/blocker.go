package supervisor

import (
	"fmt"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

// unheard is the blocker of a wait whose deadline came before any answer.
const unheard = "the daemon has not answered yet"

func (w *waiter) label(t *target) string {
	if t.given != "" {
		return t.given
	}
	if t.last != nil {
		if names := w.kind.HumanNames(t.last); len(names) > 0 {
			return names[0]
		}
	}
	return t.name
}

func (w *waiter) notFound(t *target) error {
	why := "not found"
	if t.uid != "" {
		why = fmt.Sprintf("the one with uid %s is gone", t.uid)
	}
	return messages.NewError(messages.CodeNotFound, "wait for", w.kind.Name, w.label(t), why)
}

// timeout names the first target that is not met, and what it is blocked by.
func (w *waiter) timeout() error {
	message := "condition not met: "
	if !w.once {
		message = "timed out: "
	}
	e := messages.NewError(messages.CodeTimeout, "wait for", w.kind.Name, w.o.Name, message+w.o.For.String())
	e.Details = map[string]string{"for": w.o.For.String()}
	open := 0
	for _, t := range w.targets {
		if t.met {
			continue
		}
		if open++; open > 1 {
			continue
		}
		e.Name = w.label(t)
		switch {
		case !w.started:
			e.Details["blocker"] = unheard
			e.Message += ": " + unheard
			continue
		case t.last == nil:
			e.Details["blocker"] = "there is no such object"
			continue
		}
		e.Details["name"], e.Details["uid"] = t.last.GetName(), string(t.last.GetUID())
		w.blocker(e, t.last)
	}
	if open > 1 {
		e.Details["open"] = strconv.Itoa(open)
		e.Message += fmt.Sprintf(" (and %d more)", open-1)
	}
	if w.lost != nil {
		e.Details["connection"] = w.lost.Error()
		e.Message += "; " + w.lost.Error()
	}
	return e
}

func (w *waiter) blocker(e *messages.Error, o messages.Object) {
	name := w.o.For.condition
	if w.o.For.mode == forDelete {
		name = messages.ConditionDeletionBlocked
	}
	c := messages.Condition(o, name)
	switch {
	case name == "":
		return
	case c == nil && w.o.For.mode == forCondition:
		e.Details["blocker"] = "there is no condition " + name
	case c == nil:
		return
	default:
		describe(e, c)
	}
	e.Message += ": " + e.Details["blocker"]
}

// describe puts a condition into an error's details.
func describe(e *messages.Error, c *metav1.Condition) {
	if e.Details == nil {
		e.Details = map[string]string{}
	}
	e.Details["condition"], e.Details["status"], e.Details["reason"] = c.Type, string(c.Status), c.Reason
	e.Details["message"], e.Details["since"] = c.Message, c.LastTransitionTime.UTC().Format(time.RFC3339)
	text := fmt.Sprintf("%s=%s, reason %s", c.Type, c.Status, c.Reason)
	if c.Message != "" {
		text += ": " + c.Message
	}
	e.Details["blocker"] = text
}

func terminal(verb, kind, name string, c *metav1.Condition) error {
	e := messages.NewError(messages.CodeTerminal, verb, kind, name, "")
	describe(e, c)
	e.Message = e.Details["blocker"]
	return e
}

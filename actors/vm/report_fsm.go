package vm

import (
	"fmt"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// report is what vm tells app and engine; false = nothing is known yet.
func (s state) report() (control.VMReport, bool) {
	if !s.known || !s.observed && s.failures == 0 && !s.spoke {
		return control.VMReport{}, false
	}
	driver, mustStop := s.mustStop()
	r := control.VMReport{Generation: min(s.finished, s.want.Generation), Created: s.created, Run: s.run}
	// While the application stops, the engine needs the VM until it has quiesced; at a change of driver or config this is the
	// word on which it lets go.
	r.Running = s.seen == vmdriver.Running && s.busy != opStop && len(s.strays) == 0 && !(mustStop && s.want.Running)
	if r.Running {
		r.Endpoint = s.endpoint
	}
	failed := s.failures > 0
	switch {
	case failed && s.terminal() && (s.failed == opStop || !s.want.Running):
		r.Reason, r.Message = messages.ReasonStopFailed, s.why+s.next()
	case failed && s.terminal():
		r.Reason, r.Message = messages.ReasonStartFailed, s.why+s.next()
	case failed && (s.failed == opStop || !s.want.Running):
		r.Reason, r.Message = messages.ReasonStopping, s.attempts()
	case failed:
		r.Reason, r.Message = messages.ReasonStarting, s.attempts()
	case s.busy == opStop:
		r.Reason, r.Message = messages.ReasonStopping, "stopping "+place(s.target)
	case s.busy == opStart && (!s.want.Running || s.target != s.driver):
		r.Reason, r.Message = messages.ReasonStopping, "giving up the start of "+place(s.target)
	case mustStop && driver != s.driver:
		r.Reason, r.Message = messages.ReasonStopping, "leaving "+place(driver)+": waiting for the engine to let go"
	case mustStop && s.want.Running:
		r.Reason, r.Message = messages.ReasonStopping, "restart for a changed config: waiting for the engine to let go"
	case mustStop:
		r.Reason, r.Message = messages.ReasonStopping, "waiting for the engine to let go"
	case s.want.Running && s.seen == vmdriver.Running:
		r.Reason, r.Message = messages.ReasonStarted, place(s.driver)+" runs"
	case s.want.Running && s.crashed && s.busy != opStart:
		r.Reason, r.Message = messages.ReasonCrashed, place(s.driver)+" went down by itself"+because(s.detail)
	case s.want.Running:
		r.Reason, r.Message = messages.ReasonStarting, "starting "+place(s.driver)
		if s.crashed {
			r.Message = "starting " + place(s.driver) + " again after a crash"
		}
	case s.seen == "":
		r.Reason, r.Message = messages.ReasonStopping, "looking at "+place(s.driver)
	default:
		r.Reason, r.Message = messages.ReasonStopped, ""
	}
	return r, true
}

// retried is what the retry timer is for, and how often it failed.
func (s state) retried() (what string, tries int) {
	if s.failures == 0 {
		return string(opStart), s.crashes
	}
	return string(s.failed), s.failures
}

func (s state) attempts() string {
	return fmt.Sprintf("%s (attempt %d; it is retried)", s.why, s.failures)
}

func (s state) next() string {
	return fmt.Sprintf(" (tried again every %s, and when asked to)", retryMax)
}

func because(detail string) string {
	if detail == "" {
		return ""
	}
	return ": " + detail
}

// place names a driver's VM for people.
func place(driver string) string {
	switch driver {
	case "":
		return "the VM"
	case messages.DriverLima:
		return "the Lima VM"
	case messages.DriverNative:
		return "the native engine"
	case messages.DriverExternal:
		return "the external engine"
	case messages.DriverSimulated:
		return "the simulated engine"
	}
	return "the VM of driver " + driver
}

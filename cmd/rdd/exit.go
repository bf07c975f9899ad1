package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/rdd-desktop/rdd/messages"
)

// Exit codes that are not the code of an error.
const (
	exitInternal = 1
	exitStopped  = 10
	exitDegraded = 11
)

// exitCodes maps every code of an error to the exit code of the command line.
var exitCodes = map[messages.Code]int{
	messages.CodeInternal:          exitInternal,
	messages.CodeGone:              exitInternal,
	messages.CodeUnavailable:       exitInternal,
	messages.CodeBadRequest:        2,
	messages.CodeAmbiguous:         2,
	messages.CodeInvalid:           3,
	messages.CodeForbidden:         3,
	messages.CodeConflict:          3,
	messages.CodeAlreadyExists:     3,
	messages.CodeInUse:             3,
	messages.CodeTimeout:           4,
	messages.CodeUnsupported:       5,
	messages.CodeNotFound:          6,
	messages.CodeDaemonNotRunning:  7,
	messages.CodeEngineUnreachable: 8,
	messages.CodeTerminal:          9,
}

// exitStatus ends a command with a code and without a word: the command has said everything.
type exitStatus int

func (e exitStatus) Error() string { return "exit status " + strconv.Itoa(int(e)) }

// severalErrors are the errors of a command with several arguments; the first decides the exit code.
type severalErrors []error

func (e severalErrors) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "\n")
}

func (e severalErrors) Unwrap() []error { return e }

// together makes one error of many; nil when there is none.
func together(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return severalErrors(errs)
}

// explained adds lines for people below an error; programs see the error alone.
type explained struct {
	error
	lines []string
}

func (e explained) Unwrap() error { return e.error }

func badRequest(format string, args ...any) error {
	return messages.NewError(messages.CodeBadRequest, "", "", "", fmt.Sprintf(format, args...))
}

// usageError is what cobra says of a command line it cannot parse.
func usageError(err error) error {
	var known *messages.Error
	var silent exitStatus
	if errors.As(err, &known) || errors.As(err, &silent) {
		return err
	}
	return badRequest("%s", strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n\n", "\n"))
}

func exitCode(err error) int {
	var silent exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &silent):
		return int(silent)
	}
	if code, ok := exitCodes[firstError(err).Code]; ok {
		return code
	}
	return exitInternal
}

func firstError(err error) *messages.Error {
	var several severalErrors
	if errors.As(err, &several) {
		return messages.AsError(several[0])
	}
	var e explained
	if errors.As(err, &e) {
		err = e.error
	}
	return messages.AsError(err)
}

// status is an error under -o json.
type status struct {
	Kind    string            `json:"kind"`
	Reason  messages.Code     `json:"reason"`
	Code    int               `json:"code"`
	Message string            `json:"message"`
	Details map[string]string `json:"details,omitempty"`
}

// report writes the error, if there is one to tell, and returns the exit code. A daemon started in the background adds its
// pid, so that the one who started it finds its own child's words in a file that others write too.
func report(w io.Writer, err error, asJSON, child bool) int {
	code := exitCode(err)
	var silent exitStatus
	if err == nil || errors.As(err, &silent) {
		return code
	}
	if asJSON || child {
		e := firstError(err)
		s := status{Kind: "Status", Reason: e.Code, Code: code, Message: err.Error(), Details: e.Details}
		if child {
			s.Details = map[string]string{"pid": strconv.Itoa(os.Getpid())}
			for k, v := range e.Details {
				s.Details[k] = v
			}
		}
		data, _ := json.Marshal(s)
		_, _ = fmt.Fprintf(w, "%s\n", data)
		return code
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		_, _ = fmt.Fprintln(w, "error: "+printable(line))
	}
	var e explained
	if errors.As(err, &e) {
		for _, line := range e.lines {
			_, _ = fmt.Fprintln(w, printable(line))
		}
	}
	return code
}

// wantsJSON finds -o json on a command line that may not be parsable.
func wantsJSON(args []string) bool {
	for i, a := range args {
		switch a {
		case "--":
			return false
		case "-o", "--output":
			if i+1 < len(args) && args[i+1] == "json" {
				return true
			}
		case "-ojson", "-o=json", "--output=json":
			return true
		}
	}
	return false
}

// instanceArg finds --instance on a command line that may not be parsable; cobra reads it again.
func instanceArg(args []string) string {
	for i, a := range args {
		if a == "--" {
			break
		}
		if v, ok := strings.CutPrefix(a, "--instance="); ok {
			return v
		}
		if a == "--instance" && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

package messages

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
)

// Class is what an error means for the one who got it: only the class decides on a retry.
type Class string

// The four classes of error.
const (
	// ClassNotFound: the object is not there. On delete this is success.
	ClassNotFound Class = "NotFound"
	// ClassConflict: the world is in another state than the request supposes (in use, stale version). Retry after a change.
	ClassConflict Class = "Conflict"
	// ClassTransient: try again later, with backoff.
	ClassTransient Class = "Transient"
	// ClassPermanent: the same request will fail again.
	ClassPermanent Class = "Permanent"
)

// Code is an error's reason on the wire; with it a client finds the same sentinel again.
type Code string

// Codes; each belongs to one class and one exit code of the command line.
const (
	CodeNotFound          Code = "NotFound"
	CodeAlreadyExists     Code = "AlreadyExists"
	CodeConflict          Code = "Conflict"
	CodeInUse             Code = "InUse"
	CodeInvalid           Code = "Invalid"
	CodeForbidden         Code = "Forbidden"
	CodeBadRequest        Code = "BadRequest"
	CodeAmbiguous         Code = "Ambiguous"
	CodeTimeout           Code = "Timeout"
	CodeGone              Code = "Gone"
	CodeUnsupported       Code = "Unsupported"
	CodeUnavailable       Code = "Unavailable"
	CodeDaemonNotRunning  Code = "DaemonNotRunning"
	CodeEngineUnreachable Code = "EngineUnreachable"
	CodeTerminal          Code = "TerminalFailure"
	CodeInternal          Code = "Internal"
)

var classOf = map[Code]Class{
	CodeNotFound: ClassNotFound, CodeAlreadyExists: ClassConflict, CodeConflict: ClassConflict, CodeInUse: ClassConflict,
	CodeInvalid: ClassPermanent, CodeForbidden: ClassPermanent, CodeBadRequest: ClassPermanent, CodeAmbiguous: ClassPermanent,
	CodeTimeout: ClassTransient, CodeGone: ClassTransient, CodeUnsupported: ClassPermanent, CodeUnavailable: ClassTransient,
	CodeDaemonNotRunning: ClassTransient, CodeEngineUnreachable: ClassTransient, CodeTerminal: ClassPermanent,
	CodeInternal: ClassPermanent,
}

// Sentinels for errors.Is. A class sentinel matches every error of that class, a code sentinel every error of that code.
var (
	ErrNotFound  error = &Error{Class: ClassNotFound}
	ErrConflict  error = &Error{Class: ClassConflict}
	ErrTransient error = &Error{Class: ClassTransient}
	ErrPermanent error = &Error{Class: ClassPermanent}

	ErrInUse             error = &Error{Code: CodeInUse}
	ErrInvalid           error = &Error{Code: CodeInvalid}
	ErrForbidden         error = &Error{Code: CodeForbidden}
	ErrBadRequest        error = &Error{Code: CodeBadRequest}
	ErrAmbiguous         error = &Error{Code: CodeAmbiguous}
	ErrTimeout           error = &Error{Code: CodeTimeout}
	ErrGone              error = &Error{Code: CodeGone}
	ErrUnsupported       error = &Error{Code: CodeUnsupported}
	ErrUnavailable       error = &Error{Code: CodeUnavailable}
	ErrDaemonNotRunning  error = &Error{Code: CodeDaemonNotRunning}
	ErrEngineUnreachable error = &Error{Code: CodeEngineUnreachable}
	ErrTerminal          error = &Error{Code: CodeTerminal}
)

// Error is every error that crosses a package of ours: what was tried on which object, why it failed, and the class
// that decides. It travels the wire as JSON and matches the same sentinels on the other side.
type Error struct {
	Class Class `json:"class"`
	Code  Code  `json:"code"`
	// Verb, Kind and Name say what was tried on what: "delete" "image" "busybox:latest".
	Verb string `json:"verb,omitempty"`
	Kind string `json:"kind,omitempty"`
	Name string `json:"name,omitempty"`
	// Message says why; empty when Err says it.
	Message string `json:"message,omitempty"`
	// Details are for programs: candidates, users, the blocking condition.
	Details map[string]string `json:"details,omitempty"`
	// Err is the cause; on the wire its text is folded into Message.
	Err error `json:"-"`
}

// NewError makes an error of the code's class. verb, kind and name may be empty where there is no object.
func NewError(code Code, verb, kind, name, message string) *Error {
	return &Error{Class: classOf[code], Code: code, Verb: verb, Kind: kind, Name: name, Message: message}
}

// WrapError is NewError with a cause.
func WrapError(code Code, verb, kind, name string, err error) *Error {
	e := NewError(code, verb, kind, name, "")
	e.Err = err
	return e
}

// Error implements error: `delete image "busybox:latest": in use by container web`.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Verb != "" {
		b.WriteString(e.Verb)
	}
	if e.Kind != "" {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strings.ToLower(e.Kind))
	}
	if e.Name != "" {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(`"` + e.Name + `"`)
	}
	why := e.Message
	if e.Err != nil {
		if why != "" {
			why += ": "
		}
		why += e.Err.Error()
	}
	if why == "" {
		why = string(e.Code)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(why)
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches sentinels: an Error with only a class or only a code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	if !ok || t.Verb != "" || t.Name != "" || t.Message != "" {
		return false
	}
	return (t.Class == "" || t.Class == e.Class) && (t.Code == "" || t.Code == e.Code)
}

// MarshalJSON folds the cause into the message.
func (e *Error) MarshalJSON() ([]byte, error) {
	type plain Error
	p := plain(*e)
	if e.Err != nil {
		if p.Message != "" {
			p.Message += ": "
		}
		p.Message += e.Err.Error()
	}
	return json.Marshal(p)
}

// AsError gives err as an *Error: itself when it is one, a Timeout for a context deadline, else Internal.
func AsError(err error) *Error {
	var e *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		if e.Error() == err.Error() {
			return e
		}
		// err wraps e with more words: keep them, and the decision.
		return &Error{Class: e.Class, Code: e.Code, Details: e.Details, Message: err.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return WrapError(CodeTimeout, "", "", "", err)
	}
	return WrapError(CodeInternal, "", "", "", err)
}

// ClassOf is the class that decides what to do about err: that of the Error in its chain; a context error is Transient, anything
// unknown Transient too (retried with a cap, shown, never a busy loop).
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) && e.Class != "" {
		return e.Class
	}
	return ClassTransient
}

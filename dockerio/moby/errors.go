package moby

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/rdd-desktop/rdd/messages"
)

// Kinds as errors name them.
const (
	kindEngine     = "engine"
	kindEvents     = "events"
	kindContainers = "containers"
	kindImages     = "images"
	kindVolumes    = "volumes"
)

// what is what a call tries, on which object.
type what struct{ verb, kind, name string }

// answer is what is known of the engine's answer besides its body; status 0 means that there was none.
type answer struct {
	status int
	json   bool
}

type answerKey struct{}

// withAnswer makes a context whose calls leave their answer.
func withAnswer(ctx context.Context) (context.Context, *answer) {
	a := new(answer)
	return context.WithValue(ctx, answerKey{}, a), a
}

func answerOf(ctx context.Context) answer {
	if a, ok := ctx.Value(answerKey{}).(*answer); ok {
		return *a
	}
	return answer{}
}

// recordAnswer is called by the client for each answer, in the goroutine of the call.
func recordAnswer(r *http.Response) {
	a, ok := r.Request.Context().Value(answerKey{}).(*answer)
	if !ok {
		return
	}
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	*a = answer{status: r.StatusCode, json: media == "application/json"}
}

// dialError keeps the cause of a failed dial, which the client library would replace by a text if it saw it.
type dialError struct{ err error }

func (e *dialError) Error() string { return "dialling failed" }

// versionError says that the engine is too old.
type versionError struct{ version string }

func (e *versionError) Error() string {
	oldest, newest := APIRange()
	return fmt.Sprintf("the engine speaks version %s of the Docker API, and rdd %s to %s", e.version, oldest, newest)
}

// inUse finds the refusals that end when the user of the object goes. Docker says it only in words.
var inUse = regexp.MustCompile(`\b(in use|being used|is using|used by)\b`)

// failed makes our error of the client library's.
func (w what) failed(ctx context.Context, got answer, err error) error {
	var (
		dial      *dialError
		old       *versionError
		untrusted *tls.CertificateVerificationError
		request   *url.Error
		network   net.Error
	)
	failedConnection := client.IsErrConnectionFailed(err)
	if errors.As(err, &request) {
		err = request.Err // the address of a request, with a socket's path in escapes, means nothing to a reader
	}
	switch {
	case errors.As(err, &old):
		return w.error(messages.CodeUnsupported, err)

	case errors.Is(err, context.DeadlineExceeded), errors.Is(ctx.Err(), context.DeadlineExceeded) && !got.refused(err):
		return w.error(messages.CodeTimeout, errors.Join(errors.New("no answer in time"), context.DeadlineExceeded))
	case errors.Is(err, context.Canceled), ctx.Err() != nil && !got.refused(err):
		return w.error(messages.CodeUnavailable, context.Canceled)

	case got.refused(err):
		return w.refused(got, err)
	case got.status != 0:
		return w.unreadable(err.Error())

	case errors.As(err, &dial):
		if errors.Is(dial.err, fs.ErrPermission) {
			return w.error(messages.CodeForbidden, dial.err)
		}
		return w.error(messages.CodeEngineUnreachable, dial.err)
	case errdefs.IsInvalidArgument(err):
		return w.error(messages.CodeInvalid, err)
	case errors.As(err, &untrusted):
		return w.error(messages.CodeForbidden, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return w.error(messages.CodeEngineUnreachable, errors.Join(errors.New("the engine closed the connection"), io.ErrUnexpectedEOF))
	case errors.As(err, &network), failedConnection:
		return w.error(messages.CodeEngineUnreachable, err)
	}
	return w.unreadable(err.Error())
}

// refused tells whether the engine answered with an error that could be read.
func (a answer) refused(err error) bool {
	var (
		syntax *json.SyntaxError
		typed  *json.UnmarshalTypeError
	)
	return a.status >= http.StatusBadRequest && !errors.As(err, &syntax) && !errors.As(err, &typed) &&
		!errors.Is(err, io.ErrUnexpectedEOF)
}

// refused makes our error of an answer of 400 and more.
func (w what) refused(got answer, err error) error {
	text := strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	code := messages.CodeInvalid
	switch {
	case got.status == http.StatusUnauthorized, got.status == http.StatusForbidden:
		code = messages.CodeForbidden
	case got.status >= http.StatusInternalServerError:
		code = messages.CodeUnavailable
	case !got.json, got.status == http.StatusNotFound && strings.Contains(text, "page not found"):
		// Not the word of an engine on an object: a proxy in front of it, or a path that it does not know. A "not found" of
		// theirs, taken for "gone", would cost the mirror.
		return w.unreadable(fmt.Sprintf("status %d: %s", got.status, text))
	case got.status == http.StatusNotFound:
		code = messages.CodeNotFound
	case got.status == http.StatusConflict && inUse.MatchString(text):
		code = messages.CodeInUse
	case got.status == http.StatusConflict:
		code = messages.CodeConflict
	case got.status == http.StatusRequestTimeout, got.status == http.StatusTooManyRequests:
		code = messages.CodeUnavailable
	case strings.Contains(text, "client version") && strings.Contains(text, "too old"):
		code = messages.CodeUnavailable // replaced by a newer one under us; the next client negotiates again
	}
	return messages.NewError(code, w.verb, w.kind, w.name, text)
}

func (w what) error(code messages.Code, err error) error {
	return messages.WrapError(code, w.verb, w.kind, w.name, oneLine{err})
}

// oneLine writes joined errors in one line.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.ReplaceAll(e.error.Error(), "\n", ": ") }

func (e oneLine) Unwrap() error { return e.error }

// unreadable is the error for an answer that makes no sense; the next one may.
func (w what) unreadable(why string) error {
	return messages.NewError(messages.CodeUnavailable, w.verb, w.kind, w.name, "the engine's answer cannot be read: "+why)
}

package sim

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/rdd-desktop/rdd/messages"
)

// Refusal is why the engine did not do what it was told: status and words are the real engine's. It is the cause of a
// messages.Error.
type Refusal struct {
	// Status of the answer in Docker's HTTP API.
	Status int
	Text   string
}

func (r *Refusal) Error() string { return r.Text }

var statusOf = map[messages.Code]int{
	messages.CodeNotFound: http.StatusNotFound, messages.CodeInvalid: http.StatusBadRequest, messages.CodeAmbiguous: http.StatusBadRequest,
	messages.CodeConflict: http.StatusConflict, messages.CodeInUse: http.StatusConflict, messages.CodeAlreadyExists: http.StatusConflict,
	messages.CodeForbidden: http.StatusForbidden, messages.CodeUnsupported: http.StatusBadRequest,
}

// StatusOf is the status with which the HTTP API answers an error of this package.
func StatusOf(code messages.Code) int {
	if status, ok := statusOf[code]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// refuse makes the error of a call that the engine does not do.
func refuse(code messages.Code, verb, kind, name, format string, args ...any) *messages.Error {
	return messages.WrapError(code, verb, kind, name, &Refusal{StatusOf(code), fmt.Sprintf(format, args...)})
}

func noSuchContainer(verb, ref string) error {
	return refuse(messages.CodeNotFound, verb, messages.KindContainer, ref, "No such container: %s", ref)
}

func noSuchImage(verb, ref string) error {
	return refuse(messages.CodeNotFound, verb, messages.KindImage, ref, "No such image: %s", normalTag(ref))
}

func noSuchVolume(verb, name string) error {
	return refuse(messages.CodeNotFound, verb, messages.KindVolume, name, "get %s: no such volume", name)
}

func conflict(verb string, c *container, format string, args ...any) error {
	return refuse(messages.CodeConflict, verb, messages.KindContainer, c.name, format, args...)
}

func (e *Engine) nameTaken(verb, name string) error {
	return refuse(messages.CodeAlreadyExists, verb, messages.KindContainer, name,
		"Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.",
		"/"+name, e.names[name].id)
}

// anyOf is one of the containers, the same each time.
func anyOf(users map[*container]struct{}) *container {
	var least *container
	for c := range users {
		if least == nil || c.id < least.id {
			least = c
		}
	}
	return least
}

func idsOf(users map[*container]struct{}) []string {
	ids := make([]string, 0, len(users))
	for c := range users {
		ids = append(ids, c.id)
	}
	slices.Sort(ids)
	return ids
}

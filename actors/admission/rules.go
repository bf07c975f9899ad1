package admission

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	v1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/rdd-desktop/rdd/messages"
)

func (w word) containerSpec(spec messages.ContainerSpec) error {
	if valid := messages.ContainerStates(); !slices.Contains(valid, spec.State) {
		return w.invalid("spec.state", spec.State, "valid are "+strings.Join(valid, ", "))
	}
	if valid := messages.ContainerPolicies(); !slices.Contains(valid, spec.Policy) {
		return w.invalid("spec.policy", spec.Policy, "valid are "+strings.Join(valid, ", "))
	}
	return nil
}

// verbOf names the action that does what a state says.
var verbOf = map[string]string{
	messages.StateRunning: messages.ActionStart, messages.StateCreated: messages.ActionStop, messages.StatePaused: messages.ActionPause,
}

// sameState warns of a patch that sets spec.state to what it is: Once acts on a change of the value only.
func sameState(was, now string, r messages.WriteRequest) []string {
	verb := verbOf[now]
	if was != now || verb == "" || r.Create || !namesState(r) {
		return nil
	}
	return []string{fmt.Sprintf("spec.state is %q already: writing it again does nothing; to act on the container now: rdd ctl action %s %s", now, r.Name, verb)}
}

// namesState reports whether the patch itself speaks of spec.state.
func namesState(r messages.WriteRequest) bool {
	if r.PatchType == messages.PatchJSON {
		var ops []struct {
			Op, Path string
		}
		return json.Unmarshal(r.Patch, &ops) == nil && slices.ContainsFunc(ops, func(o struct{ Op, Path string }) bool {
			return o.Path == "/spec/state" && o.Op != "test"
		})
	}
	var p struct {
		Spec struct {
			State *string `json:"state"`
		} `json:"spec"`
	}
	return json.Unmarshal(r.Patch, &p) == nil && p.Spec.State != nil
}

func annotationPath(key string) string { return "metadata.annotations[" + key + "]" }

// action takes the annotation that asks for an action out of after.
func (w word) action(kind messages.Kind, now, after messages.Object) (string, error) {
	list := after.GetAnnotations()
	verb, asked := list[messages.ActionAnnotation]
	switch {
	case !asked:
		return "", nil
	case kind.Name != messages.KindContainer:
		return "", w.error(messages.CodeInvalid, annotationPath(messages.ActionAnnotation), "only a container takes actions")
	}
	if valid := messages.Actions(); !slices.Contains(valid, verb) {
		return "", w.invalid(annotationPath(messages.ActionAnnotation), verb, "valid are "+strings.Join(valid, ", "))
	}
	if now.GetDeletionTimestamp() != nil {
		return "", w.error(messages.CodeConflict, annotationPath(messages.ActionAnnotation), "it is being deleted")
	}
	list = maps.Clone(list)
	delete(list, messages.ActionAnnotation)
	if len(list) == 0 && len(now.GetAnnotations()) == 0 {
		list = nil
	}
	after.SetAnnotations(list)
	return verb, nil
}

// finalizers holds the rules of finalizers: ours is not a client's to take away or to add; none comes after the deletion began.
func (w word) finalizers(now, after messages.Object) (warnings []string, err error) {
	deleting := now.GetDeletionTimestamp() != nil
	had, has := slices.Contains(now.GetFinalizers(), messages.Finalizer), slices.Contains(after.GetFinalizers(), messages.Finalizer)
	switch {
	case had && !has && deleting:
		return nil, w.error(messages.CodeForbidden, "metadata.finalizers", messages.Finalizer+
			" stays until the engine object is gone; to forget the mirror and keep the engine object: rdd ctl delete --detach --yes")
	case had && !has:
		warnings = append(warnings, messages.Finalizer+" cannot be removed: it was put back")
	case has && !had && deleting:
		return nil, w.error(messages.CodeForbidden, "metadata.finalizers", "no new finalizer after the deletion began: "+messages.Finalizer)
	}
	var foreign []string
	for _, f := range Foreign(after) {
		if slices.Contains(foreign, f) {
			continue
		}
		if deleting && !slices.Contains(now.GetFinalizers(), f) {
			return nil, w.error(messages.CodeForbidden, "metadata.finalizers", fmt.Sprintf("no new finalizer after the deletion began: %q", f))
		}
		if errs := apivalidation.ValidateFinalizerName(f, field.NewPath("metadata", "finalizers")); len(errs) > 0 {
			return nil, w.invalid("metadata.finalizers", f, errs[0].Detail)
		}
		foreign = append(foreign, f)
	}
	if had {
		foreign = append(foreign, messages.Finalizer)
	}
	after.SetFinalizers(foreign)
	return warnings, nil
}

// Foreign are the finalizers that are not ours.
func Foreign(o messages.Object) []string {
	return slices.DeleteFunc(slices.Clone(o.GetFinalizers()), func(f string) bool { return f == messages.Finalizer })
}

// metadata checks the syntax of labels and annotations, as Kubernetes does.
func (w word) metadata(now, after messages.Object) error {
	if !maps.Equal(now.GetLabels(), after.GetLabels()) {
		path := field.NewPath("metadata", "labels")
		if errs := v1validation.ValidateLabels(after.GetLabels(), path); len(errs) > 0 {
			return w.fieldError(errs[0])
		}
	}
	if !maps.Equal(now.GetAnnotations(), after.GetAnnotations()) {
		path := field.NewPath("metadata", "annotations")
		if errs := apivalidation.ValidateAnnotations(after.GetAnnotations(), path); len(errs) > 0 {
			return w.fieldError(errs[0])
		}
	}
	return nil
}

func (w word) fieldError(e *field.Error) error {
	return w.error(messages.CodeInvalid, e.Field, fmt.Sprintf("invalid value %q: %s", fmt.Sprint(e.BadValue), e.Detail))
}

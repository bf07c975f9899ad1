// Package admission says what a client may change of a resource. It is pure: a resource and a request go in, the resource as it shall
// be comes out, or an error that names the field, the value and what is valid.
package admission

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	sigsjson "sigs.k8s.io/json"

	"github.com/rdd-desktop/rdd/messages"
)

// maxCopied is the most bytes that the copy operations of one JSON patch may add.
const maxCopied = 1 << 20

// Result of an admitted request.
type Result struct {
	// Object is the resource as it shall be; what was given is not changed. It is the same in content when Changed is false.
	Object messages.Object
	// Changed says that Object differs from what was given. A requested action is no change.
	Changed  bool
	Warnings []string
	// Action is what the annotation asked for; it is not among the annotations any more.
	Action string
}

// Admit applies a request to a resource as it is. r.Name is only for the words of errors. Errors: Invalid, Forbidden, Conflict.
func Admit(kind messages.Kind, now messages.Object, r messages.WriteRequest) (Result, error) {
	w := word{kind: kind.Name, name: r.Name}
	if kind.Name == messages.KindContainerNamespace {
		return Result{}, w.error(messages.CodeForbidden, "", "it repeats what the engine has; nothing of it can be changed")
	}
	if err := w.preconditions(now, r); err != nil {
		return Result{}, err
	}
	after, err := w.patched(kind, now, r)
	if err != nil {
		return Result{}, err
	}
	if err := w.metaPreconditions(now, after); err != nil {
		return Result{}, err
	}
	return w.judge(kind, now, after, r)
}

// Create is Admit for a resource that is not there: base is what it is without the client's words, a skeleton with its name. Errors
// as of Admit.
func Create(kind messages.Kind, base messages.Object, r messages.WriteRequest) (Result, error) {
	w := word{verb: "create", kind: kind.Name, name: r.Name}
	switch {
	case !kind.Mirrored:
		return Result{}, w.error(messages.CodeForbidden, "", "only containers, images and volumes can be created")
	case r.UID != "" || r.ResourceVersion != "":
		return Result{}, w.error(messages.CodeConflict, "", "there is none that could have that uid or resourceVersion")
	}
	if err := Name(kind, base.GetName()); err != nil {
		return Result{}, err
	}
	after, err := w.patched(kind, base, r)
	if err != nil {
		return Result{}, err
	}
	if _, asked := after.GetAnnotations()[messages.ActionAnnotation]; asked {
		return Result{}, w.error(messages.CodeInvalid, annotationPath(messages.ActionAnnotation), "not allowed on create")
	}
	if after.GetUID() != "" || after.GetResourceVersion() != "" {
		return Result{}, w.error(messages.CodeConflict, "", "there is none that could have that uid or resourceVersion")
	}
	res, err := w.judge(kind, base, after, r)
	res.Changed = err == nil
	return res, err
}

// Name checks the name of a resource that is to be created: a DNS subdomain, and none that an engine object could get.
func Name(kind messages.Kind, name string) error {
	w := word{verb: "create", kind: kind.Name, name: name}
	if why := apivalidation.NameIsDNSSubdomain(name, false); len(why) > 0 {
		return w.invalid("metadata.name", name, strings.Join(why, "; "))
	}
	prefix := map[string]string{messages.KindImage: "img-", messages.KindVolume: "vol-"}[kind.Name]
	if rest, has := strings.CutPrefix(name, prefix); has && len(rest) == 64 && strings.Trim(rest, "0123456789abcdef") == "" {
		return w.invalid("metadata.name", name, "names of this form are those of engine objects, and the engine has no such one")
	}
	return nil
}

// judge compares what was with what the patch made of it.
func (w word) judge(kind messages.Kind, now, after messages.Object, r messages.WriteRequest) (Result, error) {
	if err := w.onlyAllowed(kind, now, after); err != nil {
		return Result{}, err
	}
	res := Result{Object: after}
	var err error
	if res.Action, err = w.action(kind, now, after); err != nil {
		return Result{}, err
	}
	if res.Warnings, err = w.finalizers(now, after); err != nil {
		return Result{}, err
	}
	if err := w.metadata(now, after); err != nil {
		return Result{}, err
	}
	switch o := after.(type) {
	case *messages.Container:
		was := now.(*messages.Container).Spec
		if err := w.containerSpec(o.Spec); err != nil {
			return Result{}, err
		}
		if o.Spec != was {
			o.Generation++
		}
		res.Warnings = append(res.Warnings, sameState(was.State, o.Spec.State, r)...)
	case *messages.App:
		if err := messages.ValidateAppSpec(o.Spec); err != nil {
			return Result{}, err
		}
	}
	res.Changed = !equality.Semantic.DeepEqual(now, after)
	return res, nil
}

// word makes errors that name what was tried.
type word struct{ verb, kind, name string }

func (w word) error(code messages.Code, field, why string) error {
	verb := w.verb
	if verb == "" {
		verb = "write"
	}
	if field != "" {
		why = field + ": " + why
	}
	e := messages.NewError(code, verb, w.kind, w.name, why)
	if field != "" {
		e.Details = map[string]string{"field": field}
	}
	return e
}

func (w word) invalid(field, value, why string) error {
	return w.error(messages.CodeInvalid, field, fmt.Sprintf("invalid value %q: %s", value, why))
}

// preconditions are those of the request itself.
func (w word) preconditions(now messages.Object, r messages.WriteRequest) error {
	if r.UID != "" && r.UID != now.GetUID() {
		return w.conflict("uid", string(now.GetUID()), string(r.UID))
	}
	if r.ResourceVersion != "" && r.ResourceVersion != now.GetResourceVersion() {
		return w.conflict("resourceVersion", now.GetResourceVersion(), r.ResourceVersion)
	}
	return nil
}

// metaPreconditions are those in the patch's metadata; they are no change.
func (w word) metaPreconditions(now, after messages.Object) error {
	if v := after.GetUID(); v != "" && v != now.GetUID() {
		return w.conflict("uid", string(now.GetUID()), string(v))
	}
	if v := after.GetResourceVersion(); v != "" && v != now.GetResourceVersion() {
		return w.conflict("resourceVersion", now.GetResourceVersion(), v)
	}
	after.SetUID(now.GetUID())
	after.SetResourceVersion(now.GetResourceVersion())
	return nil
}

func (w word) conflict(what, is, asked string) error {
	return w.error(messages.CodeConflict, "metadata."+what, fmt.Sprintf("it is %s, not %s: read it again", is, asked))
}

// patched applies the patch to the resource's JSON and decodes it strictly.
func (w word) patched(kind messages.Kind, now messages.Object, r messages.WriteRequest) (messages.Object, error) {
	before, err := json.Marshal(now)
	if err != nil {
		return nil, messages.WrapError(messages.CodeInternal, "write", w.kind, w.name, err)
	}
	data, err := apply(before, r)
	if err != nil {
		return nil, w.error(messages.CodeInvalid, "", err.Error())
	}
	after := kind.New()
	strict, err := sigsjson.UnmarshalStrict(data, after)
	if err == nil && len(strict) > 0 {
		err = strict[0]
	}
	if err != nil {
		return nil, w.error(messages.CodeInvalid, "", strings.TrimPrefix(err.Error(), "json: "))
	}
	return after, nil
}

// apply is the patch on JSON. A panic of the library is an error of the patch.
func apply(before []byte, r messages.WriteRequest) (after []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the patch cannot be applied: %v", p)
		}
	}()
	if len(r.Patch) > messages.MaxFrameBytes {
		return nil, fmt.Errorf("the patch has %d bytes, the most is %d", len(r.Patch), messages.MaxFrameBytes)
	}
	switch r.PatchType {
	case "", messages.PatchMerge:
		var object map[string]json.RawMessage
		if err := json.Unmarshal(r.Patch, &object); err != nil || object == nil {
			return nil, errors.New("the patch is no JSON object")
		}
		return jsonpatch.MergePatch(before, r.Patch)
	case messages.PatchJSON:
		patch, err := jsonpatch.DecodePatch(r.Patch)
		if err != nil {
			return nil, fmt.Errorf("the patch is no JSON patch (a list of operations): %w", err)
		}
		options := jsonpatch.NewApplyOptions()
		options.AccumulatedCopySizeLimit = maxCopied
		return patch.ApplyWithOptions(before, options)
	}
	return nil, fmt.Errorf("unknown patchType %q: valid are %s", r.PatchType, strings.Join([]string{messages.PatchMerge, messages.PatchJSON}, ", "))
}

// allowed are the fields a client may change, by kind; those below one of them too.
func allowed(kind string) []string {
	metadata := []string{"metadata.labels", "metadata.annotations", "metadata.finalizers"}
	switch kind {
	case messages.KindContainer:
		return append([]string{"spec.state", "spec.policy"}, metadata...)
	case messages.KindImage, messages.KindVolume:
		return metadata
	case messages.KindApp:
		var out []string
		for _, p := range messages.Properties() {
			if !p.Immutable {
				out = append(out, "spec."+p.Name)
			}
		}
		return out
	}
	return nil
}

// onlyAllowed rejects the first change of anything else.
func (w word) onlyAllowed(kind messages.Kind, now, after messages.Object) error {
	before, err := tree(now)
	if err != nil {
		return messages.WrapError(messages.CodeInternal, "write", w.kind, w.name, err)
	}
	then, err := tree(after)
	if err != nil {
		return w.error(messages.CodeInvalid, "", err.Error())
	}
	fields := allowed(kind.Name)
	for path := range differences("", before, then) {
		if !slices.ContainsFunc(fields, func(f string) bool {
			return path == f || strings.HasPrefix(path, f+".") || strings.HasPrefix(path, f+"[")
		}) {
			return w.error(messages.CodeInvalid, path, "it cannot be changed; what can be is "+strings.Join(fields, ", "))
		}
	}
	return nil
}

func tree(o messages.Object) (any, error) {
	data, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	var out any
	return out, json.Unmarshal(data, &out)
}

package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"github.com/rdd-desktop/rdd/messages"
)

// patched is spec with the JSON merge patch applied; null sets the default. Errors are Invalid and name property, value and
// what is valid.
func patched(spec messages.AppSpec, patch json.RawMessage, namespace string) (messages.AppSpec, error) {
	var tree any
	d := json.NewDecoder(bytes.NewReader(patch))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil || d.More() {
		return spec, invalid("", "the patch is no JSON object")
	}
	root, ok := tree.(map[string]any)
	if !ok {
		return spec, invalid("", "the patch is no JSON object")
	}
	if err := checkTree("", root); err != nil {
		return spec, err
	}
	was, err := json.Marshal(spec)
	if err != nil {
		return spec, messages.WrapError(messages.CodeInternal, "set", messages.KindApp, messages.AppName, err)
	}
	now, err := jsonpatch.MergePatch(was, patch)
	if err != nil {
		return spec, messages.WrapError(messages.CodeInvalid, "set", messages.KindApp, messages.AppName, err)
	}
	next := messages.DefaultAppSpec()
	next.Namespace = namespace
	if err := json.Unmarshal(now, &next); err != nil {
		return spec, messages.WrapError(messages.CodeInvalid, "set", messages.KindApp, messages.AppName, err)
	}
	for _, p := range messages.Properties() {
		if was := messages.Value(spec, p.Name); p.Immutable && messages.Value(next, p.Name) != was {
			return spec, invalid(p.Name, fmt.Sprintf("is %q and cannot be changed", was))
		}
	}
	return next, messages.ValidateAppSpec(next)
}

// checkTree checks that every leaf of a patch is a property with a valid value, or null.
func checkTree(prefix string, tree map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		name, value := prefix+key, tree[key]
		if strings.Contains(key, ".") {
			return invalid(name, "no such key; a patch is nested, as in "+`{"virtualMachine":{"cpus":2}}`)
		}
		if p, ok := messages.PropertyByName(name); ok {
			if value == nil {
				continue
			}
			if err := p.Check(value); err != nil {
				return err
			}
			continue
		}
		group := slices.ContainsFunc(messages.PropertyNames(), func(n string) bool { return strings.HasPrefix(n, name+".") })
		if !group {
			return messages.UnknownProperty(name)
		}
		switch v := value.(type) {
		case nil:
		case map[string]any:
			if err := checkTree(name+".", v); err != nil {
				return err
			}
		default:
			data, _ := json.Marshal(value)
			return invalid(name, fmt.Sprintf("want an object with some of %s, got %s", strings.Join(membersOf(name), ", "), data))
		}
	}
	return nil
}

func membersOf(group string) []string {
	var out []string
	for _, n := range messages.PropertyNames() {
		if strings.HasPrefix(n, group+".") {
			out = append(out, n)
		}
	}
	return out
}

// namesRunning says that the patch itself asks for this value of running.
func namesRunning(patch json.RawMessage, running bool) bool {
	var p struct {
		Running *bool `json:"running"`
	}
	return json.Unmarshal(patch, &p) == nil && p.Running != nil && *p.Running == running
}

// checkBackend checks that the driver can run the backend; an unresolved driver is checked when it is resolved.
func checkBackend(spec messages.AppSpec, driver string, backends func(string) []string) error {
	if driver == "" || backends == nil {
		return nil
	}
	valid, name := backends(driver), spec.ContainerEngine.Name
	switch {
	case slices.Contains(valid, name):
		return nil
	case len(valid) == 0 && name == messages.EngineMoby:
		return nil // nothing is known of the driver: it says so itself when it starts
	case len(valid) == 0:
		valid = []string{messages.EngineMoby}
	}
	return invalid("containerEngine.name", fmt.Sprintf("%q cannot run with driver %s: valid with it: %s", name, driver, strings.Join(valid, ", ")))
}

func invalid(property, why string) error {
	return messages.NewError(messages.CodeInvalid, "set", "property", property, why)
}

package admission

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/messages"
)

func kindOf(t testing.TB, name string) messages.Kind {
	k, ok := messages.KindByName(name)
	require.True(t, ok)
	return k
}

// present is a resource as the store has it.
func present(t testing.TB, kind string) messages.Object {
	o := kindOf(t, kind).New()
	o.SetName("x")
	o.SetUID("u1")
	o.SetResourceVersion("7")
	o.SetFinalizers([]string{messages.Finalizer})
	switch o := o.(type) {
	case *messages.Container:
		o.Spec = messages.ContainerSpec{State: messages.StateUnknown, Policy: messages.PolicyOnce}
		o.Generation = 1
	case *messages.App:
		o.Spec = messages.DefaultAppSpec()
		o.Finalizers = nil
	}
	return o
}

func merge(patch string) messages.WriteRequest {
	return messages.WriteRequest{Name: "x", Patch: json.RawMessage(patch)}
}

// fieldsOf yields every field of a type by its JSON path, with a value to set it to.
func fieldsOf(typ reflect.Type, path []string, yield func(path []string, value any)) {
	switch typ {
	case reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime]():
		yield(path, "2020-01-02T03:04:05.000006Z")
		return
	case reflect.TypeFor[metav1.FieldsV1]():
		yield(path, map[string]any{"f:x": map[string]any{}})
		return
	}
	switch typ.Kind() {
	case reflect.Pointer:
		fieldsOf(typ.Elem(), path, yield)
	case reflect.String:
		yield(path, "example.com/x")
	case reflect.Bool:
		yield(path, true)
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint16:
		yield(path, 7)
	case reflect.Map:
		yield(path, map[string]any{"k": "v"})
	case reflect.Slice:
		fieldsOf(typ.Elem(), append(slices.Clone(path), "0"), yield)
	case reflect.Struct:
		for f := range typ.Fields() {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case name == "" && (f.Anonymous || strings.Contains(options, "inline")):
				fieldsOf(f.Type, path, yield)
			case name != "" && name != "-":
				fieldsOf(f.Type, append(slices.Clone(path), name), yield)
			}
		}
	default:
		panic("no example of " + typ.String())
	}
}

// nest makes the patch that sets a path, and the path's name in an error.
func nest(path []string, value any) (patch any, name string) {
	patch = value
	for _, p := range slices.Backward(path) {
		if p == "0" {
			patch, name = []any{patch}, "[0]"+sep(name)+name
			continue
		}
		patch, name = map[string]any{p: patch}, p+sep(name)+name
	}
	return patch, name
}

func sep(rest string) string {
	if rest == "" || strings.HasPrefix(rest, "[") {
		return ""
	}
	return "."
}

// Every field of every type is either one that a client may change, or its change is rejected by its name.
func TestEveryFieldIsAllowedOrRejectedByName(t *testing.T) {
	metadata := []string{"metadata.labels", "metadata.annotations", "metadata.finalizers[0]"}
	may := map[string][]string{
		messages.KindContainer: append([]string{"spec.state", "spec.policy"}, metadata...),
		messages.KindImage:     metadata,
		messages.KindVolume:    metadata,
		messages.KindApp: {"spec.running", "spec.containerEngine.name", "spec.virtualMachine.driver", "spec.virtualMachine.cpus",
			"spec.virtualMachine.memory", "spec.virtualMachine.disk", "spec.virtualMachine.image", "spec.virtualMachine.socket"},
		messages.KindContainerNamespace: nil,
	}
	valid := map[string]any{
		"spec.state": "running", "spec.policy": "Enforce", "spec.containerEngine.name": "containerd",
		"spec.virtualMachine.driver": "external", "spec.virtualMachine.memory": 2048, "spec.virtualMachine.disk": 20,
		"spec.virtualMachine.image": "/x", "spec.virtualMachine.socket": "/x",
	}
	for _, kind := range messages.Kinds() {
		var accepted []string
		fields := 0
		fieldsOf(reflect.TypeOf(kind.New()), nil, func(path []string, value any) {
			fields++
			_, name := nest(path, nil)
			if v, ok := valid[name]; ok {
				value = v
			}
			patch, _ := nest(path, value)
			data, err := json.Marshal(patch)
			require.NoError(t, err)
			before := present(t, kind.Name)
			copied := before.DeepCopyObject()
			res, err := Admit(kind, before, merge(string(data)))
			require.Equal(t, copied, before, "what was given is not changed")
			if err == nil {
				require.True(t, res.Changed, name)
				accepted = append(accepted, name)
				return
			}
			if kind.Name == messages.KindContainerNamespace {
				require.ErrorIs(t, err, messages.ErrForbidden, name)
				return
			}
			if at := strings.LastIndex(name, "[0]"); at >= 0 {
				name = name[:at+3] // a new element has other fields that differ too
			} else if parent, _, ok := strings.Cut(name, "."+path[len(path)-1]); ok && slices.Contains([]string{"status.lastAction", "status.lastReset"}, parent) {
				name = parent // so has a new receipt
			}
			require.Contains(t, err.Error(), name)
			require.ErrorIs(t, err, messages.AsError(err))
			require.Contains(t, []messages.Code{messages.CodeInvalid, messages.CodeConflict}, messages.AsError(err).Code, name)
		})
		require.ElementsMatch(t, may[kind.Name], accepted, kind.Name)
		require.Greater(t, fields, 20, kind.Name)
	}
}

func TestRejections(t *testing.T) {
	deleting := func(o messages.Object) { now := metav1.Now(); o.SetDeletionTimestamp(&now) }
	for _, c := range []struct {
		kind, patch string
		given       func(messages.Object)
		code        messages.Code
		words       []string
	}{
		{"Container", `{"spec":{"state":"stopped"}}`, nil, "Invalid", []string{"spec.state", `"stopped"`, "unknown, running, created, paused"}},
		{"Container", `{"spec":{"state":null}}`, nil, "Invalid", []string{"spec.state"}},
		{"Container", `{"spec":{"policy":"once"}}`, nil, "Invalid", []string{"spec.policy", `"once"`, "Once, Enforce"}},
		{"Container", `{"spec":{"states":"running"}}`, nil, "Invalid", []string{"spec.states", "unknown field"}},
		{"Container", `{"Spec":{"state":"running"}}`, nil, "Invalid", []string{"Spec"}},
		{"Container", `{"spec":{"state":7}}`, nil, "Invalid", []string{"state"}},
		{"Container", `{"metadata":{"labels":{"a b":"c"}}}`, nil, "Invalid", []string{"metadata.labels", "a b"}},
		{"Container", `{"metadata":{"labels":{"a":"` + strings.Repeat("x", 64) + `"}}}`, nil, "Invalid", []string{"metadata.labels", "63"}},
		{"Container", `{"metadata":{"annotations":{"/":"c"}}}`, nil, "Invalid", []string{"metadata.annotations"}},
		{"Container", `{"metadata":{"annotations":{"a":"` + strings.Repeat("x", 300_000) + `"}}}`, nil, "Invalid", []string{"metadata.annotations"}},
		{"Container", `{"metadata":{"finalizers":["not a name"]}}`, nil, "Invalid", []string{"metadata.finalizers", "not a name"}},
		{"Container", `{"metadata":{"finalizers":["example.com/x","` + messages.Finalizer + `"]}}`, deleting, "Forbidden", []string{"example.com/x"}},
		{"Container", `{"metadata":{"finalizers":null}}`, deleting, "Forbidden", []string{"--detach"}},
		{"Container", `{"metadata":{"annotations":{"` + messages.ActionAnnotation + `":"run"}}}`, nil, "Invalid", []string{messages.ActionAnnotation, `"run"`, "start, stop, pause, unpause, restart, kill"}},
		{"Container", `{"metadata":{"annotations":{"` + messages.ActionAnnotation + `":"start"}}}`, deleting, "Conflict", []string{"deleted"}},
		{"Volume", `{"metadata":{"annotations":{"` + messages.ActionAnnotation + `":"start"}}}`, nil, "Invalid", []string{"only a container"}},
		{"Volume", `{"spec":{"state":"running"}}`, nil, "Invalid", []string{"spec"}},
		{"Volume", `{"metadata":{"uid":"u2"}}`, nil, "Conflict", []string{"u2", "u1"}},
		{"Volume", `{"metadata":{"resourceVersion":"6"}}`, nil, "Conflict", []string{"6", "7"}},
		{"App", `{"spec":{"namespace":"other"}}`, nil, "Invalid", []string{"spec.namespace"}},
		{"App", `{"spec":{"virtualMachine":{"driver":"vbox"}}}`, nil, "Invalid", []string{"vbox", "lima"}},
		{"App", `{"metadata":{"finalizers":["example.com/x"]}}`, nil, "Invalid", []string{"metadata.finalizers"}},
		{"Image", `[]`, nil, "Invalid", []string{"no JSON object"}},
		{"Image", `null`, nil, "Invalid", []string{"no JSON object"}},
		{"Image", `{`, nil, "Invalid", []string{"no JSON object"}},
	} {
		o := present(t, c.kind)
		if c.given != nil {
			c.given(o)
		}
		_, err := Admit(kindOf(t, c.kind), o, merge(c.patch))
		require.Error(t, err, c.patch)
		require.Equal(t, c.code, messages.AsError(err).Code, err.Error())
		for _, w := range c.words {
			require.ErrorContains(t, err, w)
		}
	}
}

func TestAccepted(t *testing.T) {
	k := kindOf(t, messages.KindContainer)
	admit := func(o messages.Object, r messages.WriteRequest) Result {
		res, err := Admit(k, o, r)
		require.NoError(t, err)
		return res
	}
	res := admit(present(t, k.Name), merge(`{"metadata":{"resourceVersion":"7","uid":"u1"},"spec":{"state":"running"}}`))
	require.True(t, res.Changed)
	require.EqualValues(t, 2, res.Object.GetGeneration())
	require.Equal(t, "7", res.Object.GetResourceVersion())

	res = admit(present(t, k.Name), merge(`{"metadata":{"labels":{},"annotations":null,"resourceVersion":null}}`))
	require.False(t, res.Changed, "empty is absent")
	res = admit(present(t, k.Name), merge(`{"metadata":{"finalizers":["a.b/c","a.b/c"]}}`))
	require.Equal(t, []string{"a.b/c", messages.Finalizer}, res.Object.GetFinalizers(), "once, and ours is put back")
	require.Len(t, res.Warnings, 1)
	require.EqualValues(t, 1, res.Object.GetGeneration())

	running := present(t, k.Name).(*messages.Container)
	running.Spec.State = messages.StateRunning
	for _, r := range []messages.WriteRequest{
		merge(`{"spec":{"state":"running"}}`),
		{Name: "x", PatchType: messages.PatchJSON, Patch: json.RawMessage(`[{"op":"replace","path":"/spec/state","value":"running"}]`)},
	} {
		res = admit(running, r)
		require.False(t, res.Changed)
		require.Contains(t, strings.Join(res.Warnings, ""), "rdd ctl action x start")
	}
	require.Empty(t, admit(running, merge(`{"metadata":{"labels":{"a":"b"}}}`)).Warnings)

	asked := admit(running, merge(`{"metadata":{"annotations":{"`+messages.ActionAnnotation+`":"restart"}}}`))
	require.Equal(t, messages.ActionRestart, asked.Action)
	require.False(t, asked.Changed, "the annotation is consumed")
	require.Empty(t, asked.Object.GetAnnotations())
}

func TestJSONPatch(t *testing.T) {
	k := kindOf(t, messages.KindVolume)
	r := messages.WriteRequest{Name: "x", PatchType: messages.PatchJSON}
	for patch, word := range map[string]string{
		`[{"op":"test","path":"/metadata/name","value":"y"}]`: "test",
		`{"metadata":{}}`: "no JSON patch",
		`[{"op":"replace","path":"/status/name","value":"y"}]`:             "replace",
		`[{"op":"add","path":"/status/name","value":"y"}]`:                 "status.name",
		`[{"op":"replace","path":"/metadata/uid","value":"y"}]`:            "metadata.uid",
		`[{"op":"copy","from":"/metadata/name","path":"/metadata/x"}]`:     "metadata.x",
		`[{"op":"replace","path":"/kind","value":"Image"}]`:                "kind",
		`[{"op":"frobnicate","path":"/kind"}]`:                             "frobnicate",
		`[{"op":"replace","path":"","value":{"kind":"Volume"}}]`:           "",
		`[{"op":"add","path":"/metadata/finalizers/99999999","value":""}]`: "",
	} {
		r.Patch = json.RawMessage(patch)
		_, err := Admit(k, present(t, k.Name), r)
		require.ErrorContains(t, err, word, patch)
	}
	r.Patch = json.RawMessage(`[{"op":"test","path":"/metadata/uid","value":"u1"},{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`)
	res, err := Admit(k, present(t, k.Name), r)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "b"}, res.Object.GetLabels())
	r.PatchType = "strategic"
	_, err = Admit(k, present(t, k.Name), r)
	require.ErrorContains(t, err, "merge, json")
}

func TestCreate(t *testing.T) {
	base := func(kind, name string) messages.Object {
		o := present(t, kind)
		o.SetUID("")
		o.SetResourceVersion("")
		o.SetName(name)
		return o
	}
	volume, container := kindOf(t, messages.KindVolume), kindOf(t, messages.KindContainer)
	res, err := Create(volume, base("Volume", "mine"), merge(`{"kind":"Volume","metadata":{"name":"mine","labels":{"a":"b"}}}`))
	require.NoError(t, err)
	require.Equal(t, "b", res.Object.GetLabels()["a"])
	for patch, word := range map[string]string{
		`{"metadata":{"annotations":{"` + messages.ActionAnnotation + `":"start"}}}`: "not allowed on create",
		`{"metadata":{"name":"other"}}`:                                              "metadata.name",
		`{"status":{"name":"web"}}`:                                                  "status.name",
		`{"metadata":{"uid":"u"}}`:                                                   "uid",
	} {
		_, err := Create(container, base("Container", "mine"), merge(patch))
		require.ErrorContains(t, err, word)
	}
	for _, c := range []struct {
		kind messages.Kind
		name string
	}{
		{container, strings.Repeat("a1", 32)}, {volume, messages.VolumeName("data")}, {volume, "no name"}, {volume, ""},
		{volume, "a/b"}, {volume, strings.Repeat("a", 300)}, {kindOf(t, messages.KindImage), messages.ImageName("sha256:1", "")},
	} {
		_, err := Create(c.kind, base(c.kind.Name, c.name), merge(`{}`))
		require.ErrorContains(t, err, "metadata.name", c.name)
	}
	_, err = Create(kindOf(t, messages.KindApp), base("App", "app"), merge(`{}`))
	require.ErrorIs(t, err, messages.ErrForbidden)
}

// FuzzAdmit: whatever comes, there is an answer, and nothing but the allowed fields differs.
func FuzzAdmit(f *testing.F) {
	kinds := []string{messages.KindContainer, messages.KindImage, messages.KindVolume, messages.KindApp, messages.KindContainerNamespace}
	for i, patch := range []string{
		`{"spec":{"state":"running"}}`, `{"metadata":{"labels":{"a":"b"},"finalizers":["a.b/c"]}}`, `{"metadata":null}`,
		`{"metadata":{"annotations":{"` + messages.ActionAnnotation + `":"start"}}}`, `{"spec":null,"status":null}`, `[]`, `{"a":{"b":[1,{"c":null}]}}`,
	} {
		f.Add(uint8(i), false, []byte(patch))
	}
	for i, patch := range []string{
		`[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`, `[{"op":"remove","path":"/metadata/finalizers/0"}]`,
		`[{"op":"move","from":"/metadata/name","path":"/metadata/uid"}]`, `[{"op":"copy","from":"","path":"/metadata/labels"}]`,
		`[{"op":"test","path":"/spec/state","value":"unknown"},{"op":"replace","path":"/spec/state","value":"paused"}]`, `[{"op":"add","path":"/-","value":1}]`, `[null]`,
	} {
		f.Add(uint8(i), true, []byte(patch))
	}
	f.Fuzz(func(t *testing.T, which uint8, asJSON bool, patch []byte) {
		kind := kindOf(t, kinds[int(which)%len(kinds)])
		now := present(t, kind.Name)
		was := now.DeepCopyObject().(messages.Object)
		r := messages.WriteRequest{Name: "x", Patch: patch}
		if asJSON {
			r.PatchType = messages.PatchJSON
		}
		res, err := Admit(kind, now, r)
		require.Equal(t, was, now)
		if err != nil {
			require.NotEmpty(t, messages.AsError(err).Code)
			return
		}
		back := res.Object.DeepCopyObject().(messages.Object)
		back.SetLabels(was.GetLabels())
		back.SetAnnotations(was.GetAnnotations())
		require.Subset(t, back.GetFinalizers(), was.GetFinalizers(), "ours stays")
		back.SetFinalizers(was.GetFinalizers())
		switch o := back.(type) {
		case *messages.Container:
			require.Contains(t, messages.ContainerStates(), o.Spec.State)
			require.Contains(t, messages.ContainerPolicies(), o.Spec.Policy)
			o.Spec, o.Generation = was.(*messages.Container).Spec, was.GetGeneration()
		case *messages.App:
			require.Equal(t, was.GetLabels(), res.Object.GetLabels())
			require.Equal(t, was.(*messages.App).Spec.Namespace, o.Spec.Namespace)
			require.NoError(t, messages.ValidateAppSpec(o.Spec))
			o.Spec = was.(*messages.App).Spec
		}
		require.Equal(t, was, back, "only what is allowed differs")
		require.Equal(t, types.UID("u1"), res.Object.GetUID())
	})
}

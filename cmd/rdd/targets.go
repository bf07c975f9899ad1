package main

import (
	"slices"
	"strings"

	"github.com/rdd-desktop/rdd/messages"
)

// target is what a command is about: all resources of a kind, or the one with that name.
type target struct {
	kind messages.Kind
	name string
}

func (t target) String() string {
	if t.name == "" {
		return t.kind.Plural
	}
	return strings.ToLower(t.kind.Name) + "/" + t.name
}

// parseTargets reads TYPE[,TYPE], TYPE NAME… and TYPE/NAME…; names may contain slashes. Error: BadRequest.
func parseTargets(args []string) ([]target, error) {
	if len(args) == 0 {
		return nil, badRequest("which resources? Give TYPE, TYPE NAME or TYPE/NAME; TYPE is one of %s", kindNames())
	}
	if strings.Contains(args[0], "/") {
		return parseSlashed(args)
	}
	kinds, err := parseKinds(args[0])
	if err != nil {
		return nil, err
	}
	names := args[1:]
	if len(names) == 0 {
		names = []string{""}
	} else if slices.Contains(names, "") {
		return nil, badRequest("a name is empty")
	}
	var out []target
	for _, k := range kinds {
		for _, n := range names {
			out = append(out, target{k, n})
		}
	}
	return out, nil
}

func parseSlashed(args []string) ([]target, error) {
	var out []target
	for _, a := range args {
		kind, name, ok := strings.Cut(a, "/")
		if !ok || name == "" {
			return nil, badRequest("%q: want TYPE/NAME, as in the first argument", a)
		}
		k, ok := messages.KindByName(kind)
		if !ok {
			return nil, unknownKind(kind)
		}
		out = append(out, target{k, name})
	}
	return out, nil
}

func parseKinds(list string) ([]messages.Kind, error) {
	var out []messages.Kind
	for name := range strings.SplitSeq(list, ",") {
		found := []messages.Kind{}
		if strings.EqualFold(name, "all") {
			found = messages.Kinds()
		} else if k, ok := messages.KindByName(name); ok {
			found = append(found, k)
		} else {
			return nil, unknownKind(name)
		}
		for _, k := range found {
			if !slices.ContainsFunc(out, func(o messages.Kind) bool { return o.Name == k.Name }) {
				out = append(out, k)
			}
		}
	}
	return out, nil
}

func unknownKind(name string) error {
	return badRequest("unknown kind %q: want one of %s", name, kindNames())
}

func kindNames() string { return strings.Join(append(kindWords(), "all"), ", ") }

func kindWords() []string {
	var names []string
	for _, k := range messages.Kinds() {
		names = append(names, k.Plural)
	}
	return names
}

// severalKinds reports whether the targets are of more than one kind.
func severalKinds(targets []target) bool {
	return slices.ContainsFunc(targets, func(t target) bool { return t.kind.Name != targets[0].kind.Name })
}

// named reports whether the targets have names (they all have, or none has).
func named(targets []target) bool { return targets[0].name != "" }

// checkSelector refuses a selector beside names, and one that is malformed for a kind. Error: BadRequest.
func checkSelector(targets []target, s messages.Selector) error {
	if named(targets) && (s.Labels != "" || s.Fields != "") {
		return badRequest("a selector cannot be combined with names")
	}
	for _, t := range targets {
		if _, err := s.Compile(t.kind); err != nil {
			return err
		}
	}
	return nil
}

// scope is -n and -A.
type scope struct {
	namespace string
	all       bool
}

// holds reports whether resources of the kind can be in the scope's namespace: nothing of ours is in a foreign one. The App
// is in none.
func (s scope) holds(o messages.Object) bool {
	return s.all || s.namespace == "" || o.GetNamespace() == "" || o.GetNamespace() == s.namespace
}

// foreign reports whether a resource of that kind cannot be in the scope at all, as far as that is known without looking.
func (s scope) foreign(k messages.Kind) bool {
	return !s.all && s.namespace != "" && s.namespace != messages.DefaultNamespace && k.Name != messages.KindApp
}

func notFound(verb string, t target) error {
	return messages.NewError(messages.CodeNotFound, verb, t.kind.Name, t.name, "not found")
}

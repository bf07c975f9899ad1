package supervisor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

// resolve finds a resource by what a person calls it: metadata.name, then a human name, then a whole id, then a unique
// prefix of an id.
func resolve(root snapshot, k messages.Kind, name, verb string) (store.Item, error) {
	if name == "" {
		return store.Item{}, messages.NewError(messages.CodeBadRequest, verb, k.Name, "", "a name is needed")
	}
	if item, ok := root.Get(store.Key{Kind: k.Name, Name: name}); ok {
		return item, nil
	}
	var human, whole, prefix []store.Item
	for _, item := range root.List(k.Name) {
		switch ids := k.IDs(item.Object); {
		case slices.Contains(k.HumanNames(item.Object), name):
			human = append(human, item)
		case slices.Contains(ids, name):
			whole = append(whole, item)
		case slices.ContainsFunc(ids, func(id string) bool { return strings.HasPrefix(id, name) }):
			prefix = append(prefix, item)
		}
	}
	for _, found := range [][]store.Item{human, whole, prefix} {
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			return store.Item{}, ambiguous(k, name, verb, found)
		}
	}
	return store.Item{}, messages.NewError(messages.CodeNotFound, verb, k.Name, name, "not found")
}

func ambiguous(k messages.Kind, name, verb string, found []store.Item) error {
	var texts, names []string
	for i, item := range found {
		if i == maxCandidates {
			texts = append(texts, fmt.Sprintf("and %d more", len(found)-i))
			break
		}
		text := item.Object.GetName()
		if human := k.HumanNames(item.Object); len(human) > 0 {
			text = fmt.Sprintf("%s (%s)", human[0], text)
		}
		texts, names = append(texts, text), append(names, item.Object.GetName())
	}
	e := messages.NewError(messages.CodeAmbiguous, verb, k.Name, name, "ambiguous: "+strings.Join(texts, ", "))
	e.Details = map[string]string{"candidates": strings.Join(names, ","), "count": strconv.Itoa(len(found))}
	return e
}

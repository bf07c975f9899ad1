package sim

import (
	"iter"
	"slices"
	"strings"
)

// table keeps objects by key and in the order they came.
type table[T any] struct {
	byKey map[string]*slot[T]
	order []*slot[T] // nil where one was removed
	holes int
}

type slot[T any] struct {
	value    *T
	position int
}

func (t *table[T]) len() int { return len(t.byKey) }

func (t *table[T]) get(key string) *T {
	if s := t.byKey[key]; s != nil {
		return s.value
	}
	return nil
}

func (t *table[T]) put(key string, value *T) {
	if t.byKey == nil {
		t.byKey = map[string]*slot[T]{}
	}
	s := &slot[T]{value, len(t.order)}
	t.byKey[key] = s
	t.order = append(t.order, s)
}

func (t *table[T]) remove(key string) {
	s := t.byKey[key]
	if s == nil {
		return
	}
	delete(t.byKey, key)
	t.order[s.position] = nil
	if t.holes++; t.holes <= len(t.order)/2 {
		return
	}
	t.order = slices.DeleteFunc(t.order, func(s *slot[T]) bool { return s == nil })
	t.holes = 0
	for i, s := range t.order {
		s.position = i
	}
}

// all is the objects, oldest first. Objects may be removed meanwhile only through collect.
func (t *table[T]) all() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for _, s := range t.order {
			if s != nil && !yield(s.value) {
				return
			}
		}
	}
}

// newest is all, newest first.
func (t *table[T]) newest() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for _, s := range slices.Backward(t.order) {
			if s != nil && !yield(s.value) {
				return
			}
		}
	}
}

// byPrefix finds the one object whose key begins with prefix.
func (t *table[T]) byPrefix(prefix string) (found *T, ambiguous bool) {
	for key, s := range t.byKey {
		if strings.HasPrefix(key, prefix) {
			if found != nil {
				return nil, true
			}
			found = s.value
		}
	}
	return found, false
}

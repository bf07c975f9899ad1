package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/sim"
)

// filters is the query "filters" of a list: for each key the values, of which one must hold (of labels: all).
type filters map[string][]string

// filters reads the query, and refuses keys that are not among those allowed.
func (c *call) filters(allowed ...string) (filters, error) {
	text := c.query("filters")
	if text == "" {
		return nil, nil
	}
	f := filters{}
	var sets map[string]map[string]bool
	if err := json.Unmarshal([]byte(text), &sets); err == nil {
		for key, values := range sets {
			for v, set := range values {
				if set {
					f[key] = append(f[key], v)
				}
			}
		}
	} else if err := json.Unmarshal([]byte(text), &f); err != nil { // of old clients
		return nil, invalid("invalid filter")
	}
	for key, values := range f {
		slices.Sort(values)
		if !slices.Contains(allowed, key) {
			return nil, invalid("Invalid filter '%s'", key)
		}
	}
	return f, nil
}

func invalid(format string, args ...any) error {
	return &sim.Refusal{Status: http.StatusBadRequest, Text: fmt.Sprintf(format, args...)}
}

// any tells whether one of the key's values holds; a key without values always does.
func (f filters) any(key string, holds func(value string) bool) bool {
	return len(f[key]) == 0 || slices.ContainsFunc(f[key], holds)
}

// exact is any for equality.
func (f filters) exact(key, value string) bool {
	return f.any(key, func(v string) bool { return v == value })
}

// match is any for a regular expression or a part of the text, as names are looked for.
func (f filters) match(key, text string) bool {
	return f.any(key, func(v string) bool {
		pattern, err := regexp.Compile(v)
		return err == nil && pattern.MatchString(text)
	})
}

// flag reads a filter that is true or false; set tells whether it is there.
func (f filters) flag(key string) (value, set bool) {
	if len(f[key]) == 0 {
		return false, false
	}
	return f[key][0] == "true" || f[key][0] == "1", true
}

// labels tells whether all wanted labels are there, "key" or "key=value", and none of the unwanted ones.
func (f filters) labels(have map[string]string) bool {
	holds := func(want string) bool {
		key, value, valued := strings.Cut(want, "=")
		got, ok := have[key]
		return ok && (!valued || got == value)
	}
	for _, want := range f["label"] {
		if !holds(want) {
			return false
		}
	}
	return !slices.ContainsFunc(f["label!"], holds)
}

// pick is what a prune takes.
func (f filters) pick() (sim.Pick, error) {
	var until dockerio.Time
	if values := f["until"]; len(values) > 0 {
		var err error
		if until, err = parseMoment(values[0]); err != nil {
			return nil, err
		}
	}
	return func(labels map[string]string, created dockerio.Time) bool {
		return f.labels(labels) && (until.IsZero() || created.Sub(until) < 0)
	}, nil
}

// reference tells whether a tag is what a filter of references means: "name", "name:tag", with * and ?.
func reference(pattern, tag string) bool {
	repository := tag[:strings.LastIndex(tag, ":")]
	for _, text := range []string{tag, repository} {
		if ok, _ := path.Match(pattern, text); ok {
			return true
		}
	}
	return false
}

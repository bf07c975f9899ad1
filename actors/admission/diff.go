package admission

import (
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
)

// differences are the paths of all leaves that differ between two JSON trees, in order.
func differences(path string, a, b any) iter.Seq[string] {
	return func(yield func(string) bool) { differ(path, a, b, yield) }
}

func differ(path string, a, b any, yield func(string) bool) bool {
	ma, aMap := a.(map[string]any)
	mb, bMap := b.(map[string]any)
	if (aMap || a == nil) && (bMap || b == nil) && (aMap || bMap) {
		keys := maps.Clone(ma)
		if keys == nil {
			keys = map[string]any{}
		}
		maps.Copy(keys, mb)
		if len(keys) == 0 && aMap != bMap {
			return yield(path)
		}
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			below := k
			if path != "" {
				below = path + "." + k
			}
			if !differ(below, ma[k], mb[k], yield) {
				return false
			}
		}
		return true
	}
	la, aList := a.([]any)
	lb, bList := b.([]any)
	if (aList || a == nil) && (bList || b == nil) && (aList || bList) {
		if len(la)+len(lb) == 0 && aList != bList {
			return yield(path)
		}
		for i := range max(len(la), len(lb)) {
			var x, y any
			if i < len(la) {
				x = la[i]
			}
			if i < len(lb) {
				y = lb[i]
			}
			if !differ(fmt.Sprintf("%s[%d]", path, i), x, y, yield) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b) || yield(path)
}

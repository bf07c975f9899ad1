package supervisor

import (
	"encoding/json"

	"github.com/rdd-desktop/rdd/messages"
)

// frame collects the objects of one page or batch within the wire's bounds. With encode it keeps their JSON, so that each
// object is encoded once, and holds MaxFrameBytes; in process nothing is encoded and only the number counts.
type frame struct {
	encode bool
	limit  int
	raw    []json.RawMessage
	n      int
	bytes  int
	err    error
}

func newFrame(limit int, encode bool) *frame {
	if limit <= 0 || limit > messages.MaxPage {
		limit = messages.MaxPage
	}
	return &frame{limit: limit, encode: encode}
}

// add reports whether o fits; the first one always does.
func (f *frame) add(o messages.Object) bool {
	if f.n == f.limit {
		return false
	}
	if f.encode {
		data, err := json.Marshal(o)
		if err != nil {
			f.err = messages.WrapError(messages.CodeInternal, "encode", o.GetObjectKind().GroupVersionKind().Kind, o.GetName(), err)
			return false
		}
		if f.n > 0 && f.bytes+len(data) > messages.MaxFrameBytes {
			return false
		}
		f.bytes += len(data)
		f.raw = append(f.raw, data)
	}
	f.n++
	return true
}

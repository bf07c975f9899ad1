package mirror

import (
	"maps"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

// standIn is what a supervisor writes in the stead of owners that cannot: by token, until the store has it.
type standIn map[uint64]written

type written struct {
	owner string
	msg   any // store.Put or store.Remove
}

// writtenOverdue: a restart of the store has lost the write.
type writtenOverdue struct{ token uint64 }

func (f *family) write(c *kit.Context, owner string, token uint64, msg any) {
	f.writes[token] = written{owner, msg}
	c.Tell(control.Store, msg)
	c.After(putOverdueAfter, writtenOverdue{token})
}

// putFor stores a resource in the stead of its owner.
func (f *family) putFor(c *kit.Context, owner string, obj messages.Object) {
	token := c.Token()
	f.write(c, owner, token, store.Put{Token: token, Object: obj, Owner: owner})
}

// removeFor removes a resource in the stead of its owner.
func (f *family) removeFor(c *kit.Context, owner, name, reason string) {
	token := c.Token()
	f.write(c, owner, token, store.Remove{Token: token, Key: store.Key{Kind: f.ops.kind.Name, Name: name}, Reason: reason})
}

// ownerIsBack: from now on it writes itself, and begins with what the store has.
func (f *family) ownerIsBack(owner string) {
	maps.DeleteFunc(f.writes, func(_ uint64, w written) bool { return w.owner == owner })
}

// standInReceive handles the acknowledgements of such writes. It reports whether msg was one.
func (f *family) standInReceive(c *kit.Context, msg any) bool {
	switch m := msg.(type) {
	case store.PutDone:
		if m.Err == nil { // else writtenOverdue sends it again
			delete(f.writes, m.Token)
			f.checkSwept(c)
		}
	case store.RemoveDone:
		delete(f.writes, m.Token)
		f.checkSwept(c)
	case writtenOverdue:
		if w, ok := f.writes[m.token]; ok {
			f.write(c, w.owner, m.token, w.msg)
		}
	default:
		return false
	}
	return true
}

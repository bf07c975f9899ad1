package mirror

import (
	"slices"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
)

// userIndex knows which containers use which image and volume, as the containers' owners last said. Whoever is blocked by them
// registers here and is woken by its own blockers only: nobody lists the engine for it.
type userIndex struct {
	containers map[string]*using
	users      map[userRef]map[string]bool
	watchers   map[userRef]map[string]bool // paths
}

func newUserIndex() *userIndex {
	return &userIndex{containers: map[string]*using{}, users: map[userRef]map[string]bool{}, watchers: map[userRef]map[string]bool{}}
}

func (x *userIndex) rows(_ *kit.Context, _ *family, rows []row, _ uint64) ([]row, map[string]bool) {
	return rows, nil
}

func (x *userIndex) receive(c *kit.Context, _ *family, msg any) bool {
	switch m := msg.(type) {
	case *using:
		x.set(c, m)
	case watchUsers:
		add(x.watchers, m.Ref, m.From)
		c.Tell(m.From, users{Ref: m.Ref, Names: x.names(m.Ref)})
	case unwatchUsers:
		remove(x.watchers, m.Ref, m.From)
	default:
		return false
	}
	return true
}

func (x *userIndex) ended(c *kit.Context, _ *family, id string) {
	old, ok := x.containers[id]
	if !ok {
		return
	}
	delete(x.containers, id)
	for _, ref := range old.refs() {
		remove(x.users, ref, id)
		x.wake(c, ref)
	}
}

// swept: the containers end one by one.
func (x *userIndex) swept() {}

// begun: the index is empty; who waited for users is to say so again.
func (x *userIndex) begun(c *kit.Context) {
	c.Tell(control.Images, usersLost{})
	c.Tell(control.Volumes, usersLost{})
}

func (x *userIndex) set(c *kit.Context, u *using) {
	old := x.containers[u.ID]
	if old == nil {
		old = &using{}
	}
	x.containers[u.ID] = u
	before, after := old.refs(), u.refs()
	for _, ref := range before {
		if !slices.Contains(after, ref) {
			remove(x.users, ref, u.ID)
			x.wake(c, ref)
		}
	}
	for _, ref := range after {
		if !slices.Contains(before, ref) || old.Name != u.Name {
			add(x.users, ref, u.ID)
			x.wake(c, ref)
		}
	}
}

func (x *userIndex) wake(c *kit.Context, ref userRef) {
	for path := range x.watchers[ref] {
		c.Tell(path, users{Ref: ref, Names: x.names(ref)})
	}
}

func (x *userIndex) names(ref userRef) []string {
	out := []string{}
	for id := range x.users[ref] {
		out = append(out, x.containers[id].Name)
	}
	slices.Sort(out)
	return out
}

func (u *using) refs() []userRef {
	var out []userRef
	if u.Image != "" {
		out = append(out, userRef{messages.KindImage, u.Image})
	}
	for _, v := range u.Volumes {
		out = append(out, userRef{messages.KindVolume, v})
	}
	return out
}

func add(m map[userRef]map[string]bool, ref userRef, s string) {
	if m[ref] == nil {
		m[ref] = map[string]bool{}
	}
	m[ref][s] = true
}

func remove(m map[userRef]map[string]bool, ref userRef, s string) {
	delete(m[ref], s)
	if len(m[ref]) == 0 {
		delete(m, ref)
	}
}

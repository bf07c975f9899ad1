package supervisor

import "slices"

// turns says whose request is worked on next: the peers that wait take turns, so that one that floods waits for itself. Each is
// known by its address. The actor's own: no lock.
type turns struct {
	running map[string]int
	waiting map[string][]*call
	order   []string // who waits, the next one first
	n       int      // how many requests wait
}

func newTurns() turns { return turns{running: map[string]int{}, waiting: map[string][]*call{}} }

// free: a request of that peer may begin at once.
func (t *turns) free(address string) bool {
	return t.running[address] < maxCallsOfOne && len(t.waiting[address]) == 0
}

// push lets a request wait. When too many do, the one that is returned may not: the last of the peer that has the most.
func (t *turns) push(q *call) (refused *call) {
	address := q.sender.Address
	if t.n == maxQueue {
		most := slices.MaxFunc(t.order, func(a, b string) int { return len(t.waiting[a]) - len(t.waiting[b]) })
		if len(t.waiting[most]) <= len(t.waiting[address])+1 {
			return q
		}
		list := t.waiting[most]
		refused, t.waiting[most] = list[len(list)-1], list[:len(list)-1]
		t.n--
	}
	if len(t.waiting[address]) == 0 {
		t.order = append(t.order, address)
	}
	t.waiting[address] = append(t.waiting[address], q)
	t.n++
	return refused
}

// next takes the request whose turn it is; nil = nobody's.
func (t *turns) next() *call {
	for i, address := range t.order {
		if t.running[address] >= maxCallsOfOne {
			continue
		}
		list := t.waiting[address]
		q := list[0]
		t.order = slices.Delete(t.order, i, i+1)
		if t.n--; len(list) == 1 {
			delete(t.waiting, address)
		} else {
			t.waiting[address] = list[1:]
			t.order = append(t.order, address)
		}
		return q
	}
	return nil
}

func (t *turns) begun(address string) { t.running[address]++ }

func (t *turns) done(address string) {
	if t.running[address]--; t.running[address] <= 0 {
		delete(t.running, address)
	}
}

// all are the requests that wait.
func (t *turns) all() (all []*call) {
	for _, list := range t.waiting {
		all = append(all, list...)
	}
	return all
}

package kit

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

// States the kit itself shows in the tree; an actor's own come from Label.
const (
	StateStarting    = "Starting"
	StateRunning     = "Running"
	StateFailed      = "Failed" // and waiting for its restart
	StateStopping    = "Stopping"
	StateQuarantined = "Quarantined"
)

// Registry is the tree as it is: one node per actor, kept across restarts, removed when the actor has terminated. A
// quarantined actor's node stays until its name is started again or forgotten. It is also the cache of addresses.
type Registry struct {
	mu    sync.RWMutex // guards root, every node's children, pid and what is shown
	root  *node
	name  string
	waits string // path the start waits for, for the error of a start that hangs
}

// node is one actor. There are 10 000s: what only a failed one needs is in past, and its name is the key in its parent's map.
type node struct {
	spec *ChildSpec
	new  func() Actor
	// w and finished decide about the next start. w belongs to the parent's turn.
	w        *window
	finished bool // it called FinishSelf; guarded by mu
	tellsUp  bool // it tells its parent when it is ready; never changed
	// quarantined nodes keep what they show. Written by the parent's turn, under mu.
	quarantined bool

	pid      *actor.PID
	children map[string]*node // written by the actor's own turn only, under mu
	state    string
	detail   string
	past     *past
}

type past struct {
	restarts int
	failures int // since the last quiet period, for the attempt an event shows
	last     string
	lastAt   time.Time
	retries  []messages.Retry // at most one per object
}

func (n *node) remembers() {
	if n.past == nil {
		n.past = &past{}
	}
}

func (n *node) window() *window {
	if n.w == nil {
		n.w = &window{spec: n.spec}
	}
	return n.w
}

func (n *node) phase() phase {
	if n.w == nil {
		return alive
	}
	return n.w.phase
}

func (r *Registry) setRoot(n *node, name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.root != nil {
		return false
	}
	r.root, r.name, r.waits = n, name, name
	return true
}

func (r *Registry) isRoot(n *node) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.root == n
}

func (r *Registry) setPID(n *node, pid *actor.PID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.pid = pid
}

// waitsFor notes which child the start of the root waits for; waiting gives it.
func (r *Registry) waitsFor(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waits = path
}

func (r *Registry) waiting() string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.waits
}

func (r *Registry) pid(path string) *actor.PID {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if n := r.find(path); n != nil {
		return n.pid
	}
	return nil
}

func (r *Registry) node(path string) *node {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.find(path)
}

func (r *Registry) find(path string) *node {
	switch rest, below := strings.CutPrefix(path, r.name+"/"); {
	case r.root == nil:
		return nil
	case below:
		return r.root.find(rest)
	case path == r.name:
		return r.root
	}
	return nil
}

// find takes names with slashes in them (volumes of foreign drivers) in its stride.
func (n *node) find(rest string) *node {
	for i := 0; i <= len(rest); i++ {
		if i < len(rest) && rest[i] != '/' {
			continue
		}
		c := n.children[rest[:i]]
		if c == nil {
			continue
		}
		if i == len(rest) {
			return c
		}
		if found := c.find(rest[i+1:]); found != nil {
			return found
		}
	}
	return nil
}

// attach puts child into its parent; detach takes it out.
func (r *Registry) attach(parent *node, name string, child *node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if parent.children == nil {
		parent.children = map[string]*node{}
	}
	parent.children[name] = child
}

// spawned notes the address of an attached child. Its name becomes part of the address's string, so that the caller's is free.
func (r *Registry) spawned(parent *node, name string, child *node, pid *actor.PID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	child.pid = pid
	parent.children[pid.Id[len(pid.Id)-len(name):]] = child
}

func (r *Registry) detach(parent *node, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(parent.children, name)
}

// detachDead takes out the children that have no process.
func (r *Registry) detachDead(parent *node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, c := range parent.children {
		if p := c.phase(); p == absent || p == gone {
			delete(parent.children, name)
		}
	}
}

func (r *Registry) label(n *node, state, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !n.quarantined {
		n.state, n.detail = state, detail
	}
}

func (r *Registry) quarantine(n *node, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.state, n.detail, n.quarantined = StateQuarantined, why, true
}

// ready shows a started actor that has not labelled itself as running.
func (r *Registry) ready(n *node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.state == StateStarting {
		n.state = StateRunning
	}
}

// failed shows the failure and gives its number in a row.
func (r *Registry) failed(n *node, f *Failure, now time.Time) (attempt int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.remembers()
	if now.Sub(n.past.lastAt) >= n.spec.period()+n.spec.Backoff.Max {
		n.past.failures = 0
	}
	n.past.failures++
	n.past.last, n.past.lastAt, n.past.retries = f.Error(), now, nil
	if !n.quarantined {
		n.state, n.detail = StateFailed, n.past.last
	}
	return n.past.failures
}

func (r *Registry) restarted(n *node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.remembers()
	n.past.restarts++
	n.past.retries = nil
}

// retrying notes what a node tries again; it replaces what was noted of the same object.
func (r *Registry) retrying(n *node, retry messages.Retry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.remembers()
	n.past.retries = append(n.past.without(retry.Object), retry)
}

func (r *Registry) notRetrying(n *node, object string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.past != nil {
		n.past.retries = n.past.without(object)
	}
}

// without gives a new list: a rendered tree may hold the old one.
func (p *past) without(object string) []messages.Retry {
	var out []messages.Retry
	for _, retry := range p.retries {
		if retry.Object != object {
			out = append(out, retry)
		}
	}
	return out
}

func (r *Registry) setFinished(n *node, finished bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.finished = finished
}

func (r *Registry) isFinished(n *node) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return n.finished
}

// Tree renders the tree, static children in their declared order, others after them by name.
func (r *Registry) Tree() messages.TreeNode {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.root == nil {
		return messages.TreeNode{}
	}
	return r.root.render(r.name)
}

func (n *node) render(path string) messages.TreeNode {
	t := messages.TreeNode{Path: path, State: n.state, Detail: n.detail}
	if p := n.past; p != nil {
		t.Restarts, t.Last, t.Retries = p.restarts, p.last, p.retries
		if !p.lastAt.IsZero() {
			t.LastAt = &metav1.MicroTime{Time: p.lastAt}
		}
	}
	for _, name := range n.order() {
		t.Children = append(t.Children, n.children[name].render(path+"/"+name))
	}
	return t
}

func (n *node) order() []string {
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	declared := make(map[string]int, len(n.spec.Children))
	for i := range n.spec.Children {
		declared[n.spec.Children[i].Name] = i - len(n.spec.Children)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := declared[a] - declared[b]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return names
}

// below lists the children in start order.
func (r *Registry) below(n *node) []childAt {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []childAt
	for _, name := range n.order() {
		if c := n.children[name]; c.pid != nil {
			out = append(out, childAt{pid: c.pid, spec: c.spec})
		}
	}
	return out
}

type childAt struct {
	pid  *actor.PID
	spec *ChildSpec
}

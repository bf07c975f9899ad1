package kit

import (
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
)

// mailbox is the library's unbounded one behind a gate. The library makes an actor's name known before its mailbox has anybody
// to hand messages to: who sends to a path of the tree at that moment races with the spawn, and may find nobody. The gate keeps
// such messages until the spawn is through.
type mailbox struct {
	actor.Mailbox
	open atomic.Bool
	// lab, if it is set, delivers the messages of the actor at path.
	lab  *Lab
	path string

	mu     sync.Mutex
	user   []any
	system []any
}

func newMailbox(l *Lab) actor.Mailbox {
	m := &mailbox{Mailbox: unbounded()}
	if l.delivers() {
		m.lab = l
	}
	return m
}

var unbounded = actor.Unbounded()

// RegisterHandlers implements actor.Mailbox.
func (m *mailbox) RegisterHandlers(invoker actor.MessageInvoker, d actor.Dispatcher) {
	if of, ok := invoker.(interface{ Self() *actor.PID }); ok && m.lab != nil {
		m.path, d = of.Self().Id, actor.NewSynchronizedDispatcher(d.Throughput())
	}
	m.Mailbox.RegisterHandlers(invoker, d)
}

// PostUserMessage implements actor.Mailbox.
func (m *mailbox) PostUserMessage(msg any) {
	if !m.open.Load() && m.keep(&m.user, msg) {
		return
	}
	m.post(false, msg)
}

func (m *mailbox) post(system bool, msg any) {
	hand := m.Mailbox.PostUserMessage
	if system {
		hand = m.Mailbox.PostSystemMessage
	}
	if m.lab == nil {
		hand(msg)
		return
	}
	m.lab.Deliver(m.path, system, func() { hand(msg) })
}

// PostSystemMessage implements actor.Mailbox.
func (m *mailbox) PostSystemMessage(msg any) {
	if !m.open.Load() {
		// Started is the spawn's own word: the handlers are there.
		if _, first := msg.(*actor.Started); !first && m.keep(&m.system, msg) {
			return
		}
	}
	m.post(true, msg)
}

// keep queues msg unless the gate was opened meanwhile.
func (m *mailbox) keep(queue *[]any, msg any) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open.Load() {
		return false
	}
	*queue = append(*queue, msg)
	return true
}

// Start implements actor.Mailbox: Started has been posted, what was kept follows in order.
func (m *mailbox) Start() {
	m.Mailbox.Start()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, msg := range m.system {
		m.post(true, msg)
	}
	for _, msg := range m.user {
		m.post(false, msg)
	}
	m.user, m.system = nil, nil
	m.open.Store(true)
}

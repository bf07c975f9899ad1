package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/rdd-desktop/rdd/messages"
)

// Bounds of the gateway.
const (
	// maxCalls is the most requests worked on at once, maxCallsOfOne those of one peer (more of them slow down all others),
	// maxQueue how many more may wait for their turn.
	maxCalls      = 64
	maxCallsOfOne = 16
	maxQueue      = 1024
	// maxPulls is the most pulls held at once. They wait for news, mostly, and so do not count as calls.
	maxPulls = 1024
	// Deadlines of what a request may take; a pull is answered after 5 s even without news.
	callDeadline = 10 * time.Second
	pullDeadline = 8 * time.Second
)

// gateway is the one actor a peer can address. Address: edge's "gateway"; no parent but the guardian, which restarts it.
//
// Accepts: *messages.Request from peers; callDone from its own calls; *actor.Terminated of peers. Calls run off the mailbox,
// each with a deadline. A restart loses the queue (those peers see a time-out and ask again) and the list of peers (each is
// watched again with its next request); answers of calls in flight are still sent.
type gateway struct {
	ctx         context.Context // of the edge
	b           backend
	log         *slog.Logger
	incarnation int64
	load        *gatewayLoad
	out         *outbox

	calls, pulls int
	turns        turns
	peers        map[peerKey]map[*call]struct{}
}

// gatewayLoad is what the filter may know: how many requests wait.
type gatewayLoad struct{ queued atomic.Int64 }

type peerKey struct{ address, id string }

// call is one request being answered.
type call struct {
	request     *messages.Request
	sender      *actor.PID
	incarnation int64
	ctx         context.Context
	cancel      context.CancelFunc
	dropped     bool // its peer is gone
}

func (q *call) pull() bool { return q.request.Kind == messages.OpNext }

// callDone is the answer of a call, told by its goroutine.
type callDone struct {
	c      *call
	answer proto.Message
}

func gatewayProducer(ctx context.Context, b backend, log *slog.Logger, load *gatewayLoad, out *outbox) actor.Producer {
	var incarnations atomic.Int64
	return func() actor.Actor {
		load.queued.Store(0)
		return &gateway{ctx: ctx, b: b, log: log, load: load, out: out, incarnation: incarnations.Add(1), turns: newTurns(),
			peers: map[peerKey]map[*call]struct{}{}}
	}
}

// Receive implements actor.Actor.
func (g *gateway) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *messages.Request:
		g.request(c, m)
	case callDone:
		g.done(c, m)
	case *actor.Terminated:
		g.gone(m.Who)
	case *actor.Stopping, *actor.Restarting:
		for _, q := range g.turns.all() {
			q.cancel()
		}
		for _, calls := range g.peers {
			for q := range calls {
				q.cancel()
			}
		}
	}
}

// request takes one request in. A panic here is a bug of ours; the peer is told before the supervisor is.
func (g *gateway) request(c actor.Context, r *messages.Request) {
	sender := c.Sender()
	if sender == nil || !g.out.here(sender.Address) {
		return // nobody to answer
	}
	defer func() {
		if p := recover(); p != nil {
			g.send(c, sender, refusal(r.Id, internal(p)))
			panic(p)
		}
	}()
	if err := validate(r); err != nil {
		g.send(c, sender, refusal(r.Id, err))
		return
	}
	q := &call{request: r, sender: sender, incarnation: g.incarnation}
	switch {
	case q.pull() && g.pulls >= maxPulls:
		g.send(c, sender, refusal(r.Id, busy(fmt.Sprintf("%d watches wait for news already", g.pulls))))
	case q.pull():
		g.begin(c, q)
	case g.calls < maxCalls && g.turns.free(sender.Address):
		g.begin(c, q)
	default:
		g.wait(c, q)
	}
}

// wait queues a request, or refuses the one that is too much.
func (g *gateway) wait(c actor.Context, q *call) {
	q.ctx, q.cancel = context.WithTimeout(g.ctx, callDeadline)
	g.remember(c, q)
	if refused := g.turns.push(q); refused != nil {
		g.forget(refused)
		if !refused.dropped {
			g.send(c, refused.sender, refusal(refused.request.Id, busy(fmt.Sprintf("%d requests are waiting", g.turns.n))))
		}
	}
	g.load.queued.Store(int64(g.turns.n))
}

// send answers a peer, unless it has left or leaves its answers unread.
func (g *gateway) send(c actor.Context, to *actor.PID, answer proto.Message) {
	if g.out.take(to.Address, answer) {
		c.Send(to, answer)
	}
}

func busy(why string) error {
	return messages.NewError(messages.CodeUnavailable, "", "", "", "the daemon is busy: "+why)
}

func internal(p any) error {
	return messages.NewError(messages.CodeInternal, "", "", "", fmt.Sprintf("panic: %v", p))
}

// remember keeps the call under its peer, and watches a peer seen for the first time: its calls end with it. A future is
// not watched (it would take the watch for its answer).
func (g *gateway) remember(c actor.Context, q *call) {
	if strings.HasPrefix(q.sender.Id, "future") {
		return
	}
	key := peerKey{q.sender.Address, q.sender.Id}
	calls := g.peers[key]
	if calls == nil {
		calls = map[*call]struct{}{}
		g.peers[key] = calls
		c.Watch(actor.NewPID(key.address, key.id))
	}
	calls[q] = struct{}{}
}

func (g *gateway) forget(q *call) {
	q.cancel()
	if calls := g.peers[peerKey{q.sender.Address, q.sender.Id}]; calls != nil {
		delete(calls, q)
	}
}

// begin runs a call on its own goroutine.
func (g *gateway) begin(c actor.Context, q *call) {
	if q.pull() {
		g.pulls++
	} else {
		g.calls++
		g.turns.begun(q.sender.Address)
	}
	if q.ctx == nil {
		limit := callDeadline
		if q.pull() {
			limit = pullDeadline
		}
		q.ctx, q.cancel = context.WithTimeout(g.ctx, limit)
		g.remember(c, q)
	}
	root, self, ending, b, log := c.ActorSystem().Root, c.Self(), g.ctx, g.b, g.log
	go func() {
		root.Send(self, callDone{c: q, answer: q.run(ending, b, log)})
	}()
}

func (q *call) run(ending context.Context, b backend, log *slog.Logger) (a proto.Message) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("panic in a request", "kind", q.request.Kind, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			a = refusal(q.request.Id, internal(p))
		}
	}()
	body, err := operations[q.request.Kind](q.ctx, b, q.request.Body)
	if err != nil && ending.Err() != nil && q.ctx.Err() != nil {
		err = messages.NewError(messages.CodeDaemonNotRunning, "", "", "", "the daemon is ending")
	}
	return answer(q.request, body, err)
}

func (g *gateway) done(c actor.Context, d callDone) {
	if !d.c.dropped {
		g.send(c, d.c.sender, d.answer)
	}
	if d.c.incarnation != g.incarnation {
		d.c.cancel()
		return
	}
	g.forget(d.c)
	if d.c.pull() {
		g.pulls--
		return
	}
	g.calls--
	g.turns.done(d.c.sender.Address)
	for g.calls < maxCalls {
		q := g.turns.next()
		if q == nil {
			break
		}
		if q.dropped || !g.out.here(q.sender.Address) {
			g.forget(q)
			continue
		}
		g.begin(c, q)
	}
	g.load.queued.Store(int64(g.turns.n))
}

// gone drops what a peer that ended still wanted. Sending it anything would make the library dial a dead address.
func (g *gateway) gone(who *actor.PID) {
	key := peerKey{who.Address, who.Id}
	for q := range g.peers[key] {
		q.dropped = true
		q.cancel()
	}
	delete(g.peers, key)
}

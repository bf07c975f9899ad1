package journal

import (
	"context"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
)

const (
	// maxBatch is how many requests go into one transaction.
	maxBatch = 512
	// maxQueue is how many requests may wait; one more is refused.
	maxQueue = 4096
)

// Commit asks for durability; the sender gets Committed with the same token, after the transaction is on disk.
type Commit struct {
	Token uint64
	Ops   []Op
}

// Committed answers Commit. With Err nothing of the commit was kept: class Permanent (a malformed op) or Transient (the disk,
// a full queue).
type Committed struct {
	Token uint64
	Err   error
}

// Load reads; the sender gets Loaded. It sees every commit that was sent before it.
type Load struct {
	Token  uint64
	Bucket string
	Prefix string
}

// Loaded answers Load.
type Loaded struct {
	Token   uint64
	Bucket  string
	Entries []Entry
	Err     error
}

// New makes the producer of the journal actor, rdd/journal, child of the root.
//
// It accepts Commit and Load, and answers them in their order; it tells app when its disk is full, and when it is not any more. What waits while a transaction runs becomes the next one; a
// transaction that fails is repeated request by request, so that a bad one fails alone. Restarting and Stopping wait for the
// transaction in progress and close the backend (the file's lock is free then); Started opens it again.
//
// A restart loses the requests that wait and the answers of the transaction in progress, which may or may not be on disk:
// whoever has no answer asks again.
func New(b Backend) func() kit.Actor {
	return func() kit.Actor { return &journal{backend: b, gate: &gate{turn: newTurn()}} }
}

type journal struct {
	backend Backend
	gate    *gate
	queue   []request
	busy    bool
	disk    disk
}

// request is a Commit or a Load with the one who wants to know.
type request struct {
	from   *actor.PID
	commit *Commit
	load   *Load
}

// answer to a request, to be sent in the actor's turn.
type answer struct {
	to  *actor.PID
	msg any
}

// done is the result of a batch.
type done struct{ answers []answer }

// gate is the incarnation's right to use the backend: a batch of an older one that has not begun when the newer one starts
// must not overwrite what that one commits.
type gate struct {
	turn   turn
	closed bool
}

func (g *gate) close() {
	g.turn.take()
	defer g.turn.give()
	g.closed = true
}

// turn is a mutex made of a channel: under testing/synctest one may wait for it.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take() { t <- struct{}{} }
func (t turn) give() { <-t }

// Receive implements kit.Actor.
func (j *journal) Receive(c *kit.Context, msg any) {
	switch m := msg.(type) {
	case *actor.Started:
		if err := j.backend.Reopen(); err != nil {
			c.Fail(&kit.Failure{Reason: "JournalUnavailable", Err: err, Counted: true})
		}
	case *actor.Restarting, *actor.Stopping:
		j.close(c)
	case Commit:
		j.enqueue(c, request{from: c.Sender(), commit: &m})
	case Load:
		j.enqueue(c, request{from: c.Sender(), load: &m})
	case probeDue:
		j.probe(c)
	case Committed:
		j.probed(c, m)
	case done:
		j.busy = false
		for _, a := range m.answers {
			if m, ok := a.msg.(Committed); ok {
				j.disk.learn(c, m.Err)
			}
			c.ReplyTo(a.to, a.msg)
		}
		j.next(c)
	}
}

// close ends this incarnation: it waits for the batch in progress, which is short, or stuck in the kernel.
func (j *journal) close(c *kit.Context) {
	j.gate.close()
	if err := j.backend.Close(); err != nil {
		c.House.Log.Warn("the journal was not closed cleanly", "error", err)
	}
}

func (j *journal) enqueue(c *kit.Context, r request) {
	if len(j.queue) >= maxQueue {
		c.ReplyTo(r.from, r.refuse(messages.NewError(messages.CodeUnavailable, "", "", "", "the journal has too much to do")))
		return
	}
	j.queue = append(j.queue, r)
	j.next(c)
}

// next starts the next batch, one at a time.
func (j *journal) next(c *kit.Context) {
	if j.busy || len(j.queue) == 0 {
		return
	}
	n := min(len(j.queue), maxBatch)
	batch := j.queue[:n:n]
	j.queue = j.queue[n:]
	if len(j.queue) == 0 {
		j.queue = nil // let the array go
	}
	j.busy = true
	backend, g := counted{j.backend, c.House.Hooks}, j.gate
	// No deadline: a write that the kernel does not end cannot be ended by us either. Meanwhile the queue fills up, and what
	// is beyond it is refused.
	c.Run("commit", 0, func(context.Context) any { return done{perform(backend, g, batch)} })
}

// counted tells the hooks of each transaction.
type counted struct {
	Backend
	hooks *kit.Hooks
}

// Commit implements Backend.
func (b counted) Commit(ops []Op) error {
	b.hooks.Point(kit.PointJournal)
	err := b.Backend.Commit(ops)
	b.hooks.Point(kit.PointJournalAfter)
	return err
}

func (r request) refuse(err error) any {
	if r.commit != nil {
		return Committed{Token: r.commit.Token, Err: err}
	}
	return Loaded{Token: r.load.Token, Bucket: r.load.Bucket, Err: err}
}

// perform makes one transaction of the commits of a batch, then the loads: they may see commits that were asked for after
// them, never less than those before. The answers are in the order of the requests.
func perform(b Backend, g *gate, batch []request) []answer {
	g.turn.take()
	defer g.turn.give()
	answers := make([]answer, len(batch))
	if g.closed {
		err := messages.NewError(messages.CodeUnavailable, "", "", "", "the journal was restarted")
		for i, r := range batch {
			answers[i] = answer{r.from, r.refuse(err)}
		}
		return answers
	}
	var ops []Op
	commits := 0
	for _, r := range batch {
		if r.commit != nil {
			ops = append(ops, r.commit.Ops...)
			commits++
		}
	}
	var err error
	if len(ops) > 0 {
		err = b.Commit(ops)
	}
	for i, r := range batch {
		if r.commit == nil {
			continue
		}
		mine := err
		switch {
		case len(r.commit.Ops) == 0:
			mine = nil
		case err != nil && commits > 1:
			mine = b.Commit(r.commit.Ops)
		}
		answers[i] = answer{r.from, Committed{Token: r.commit.Token, Err: mine}}
	}
	for i, r := range batch {
		if r.load != nil {
			entries, err := b.Load(r.load.Bucket, r.load.Prefix)
			answers[i] = answer{r.from, Loaded{Token: r.load.Token, Bucket: r.load.Bucket, Entries: entries, Err: err}}
		}
	}
	return answers
}

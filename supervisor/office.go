package supervisor

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	grpccreds "google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	"github.com/rdd-desktop/rdd/messages"
)

// maxAnswerBatch is the most bytes of one batch of answers: frames have 1 MiB, but for a single large object.
const maxAnswerBatch = 1 << 30

// office is the client's side of the edge: one actor system with a listener of its own for the answers, per process, started
// with the first Dial and never stopped (the library cannot be). It talks to any number of daemons; each has certificates
// of its own.
type office struct {
	system  *actor.ActorSystem
	answers *actor.PID
	prefix  string
	count   atomic.Uint64

	mu      sync.Mutex
	pending map[string]*inquiry
	byName  map[string]identity // by the name we are greeted with (client.ID)
	byPlace map[string]identity // by the daemon's address
	users   map[string]int      // by the daemon's address
}

// inquiry is a question that waits for its answer.
type inquiry struct {
	address string
	again   bool               // it may be asked twice
	answer  chan proto.Message // takes one; nil = the connection was lost
}

var theOffice struct {
	sync.Mutex
	*office
}

func getOffice() (*office, error) {
	theOffice.Lock()
	defer theOffice.Unlock()
	if theOffice.office != nil {
		return theOffice.office, nil
	}
	o := &office{
		prefix: rand.Text()[:8] + "-", pending: map[string]*inquiry{},
		byName: map[string]identity{}, byPlace: map[string]identity{}, users: map[string]int{},
	}
	log := slog.New(slog.DiscardHandler)
	f := newFilter(log, answersName, answersAccept)
	f.knows = func(address string) bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.users[address] > 0
	}
	f.parted = o.parted
	var err error
	o.system, _, err = startRemote(log, f, maxAnswerBatch, grpccreds.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, GetConfigForClient: o.greeted,
	}), &placeCreds{grpccreds.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13}), o}, remoteOptions{})
	if err != nil {
		return nil, err
	}
	o.system.EventStream.Subscribe(func(m any) {
		if t, ok := m.(*remote.EndpointTerminatedEvent); ok {
			o.lost(t.Address)
		}
	})
	if o.answers, err = o.system.Root.SpawnNamed(actor.PropsFromFunc(o.receive,
		actor.WithGuardian(restartAlways{log: log})), answersName); err != nil {
		return nil, err
	}
	theOffice.office = o
	return o, nil
}

// receive is the actor "answers": it hands each answer to who asked; what nobody waits for any more is dropped.
func (o *office) receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *messages.Reply:
		o.answered(m.Id, m)
	case *messages.Frame:
		o.answered(m.Id, m)
	case *actor.DeadLetterResponse:
		o.lost(m.GetTarget().GetAddress())
	}
}

func (o *office) answered(id string, m proto.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if q := o.pending[id]; q != nil {
		delete(o.pending, id)
		q.answer <- m
	}
}

// lost ends every question to that address: our connection to it is gone.
func (o *office) lost(address string) {
	o.giveUp(func(q *inquiry) bool { return q.address == address })
}

// parted: the daemon's connection to us is gone, and with it the answers on their way. What may be asked twice is asked again;
// the rest may still be answered, over the next one.
func (o *office) parted(address string) {
	o.giveUp(func(q *inquiry) bool { return q.address == address && q.again })
}

// giveUp ends questions without an answer. It runs on the library's paths: it neither blocks nor panics.
func (o *office) giveUp(which func(*inquiry) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, q := range o.pending {
		if which(q) {
			delete(o.pending, id)
			q.answer <- nil
		}
	}
}

// greeted finds the certificate for a daemon that dials us, by the name it expects us to have.
func (o *office) greeted(h *tls.ClientHelloInfo) (*tls.Config, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	id, ok := o.byName[h.ServerName]
	if !ok {
		return nil, fmt.Errorf("nobody here is called %q", h.ServerName)
	}
	return id.acceptConfig(), nil
}

// placeCreds dials each daemon with the certificates of its own.
type placeCreds struct {
	grpccreds.TransportCredentials
	o *office
}

// ClientHandshake implements credentials.TransportCredentials.
func (p *placeCreds) ClientHandshake(ctx context.Context, _ string, conn net.Conn) (net.Conn, grpccreds.AuthInfo, error) {
	p.o.mu.Lock()
	id, ok := p.o.byPlace[conn.RemoteAddr().String()]
	p.o.mu.Unlock()
	if !ok {
		return nil, nil, fmt.Errorf("nobody is known at %s", conn.RemoteAddr())
	}
	return grpccreds.NewTLS(id.dialConfig()).ClientHandshake(ctx, id.peer(), conn)
}

// Clone implements credentials.TransportCredentials.
func (p *placeCreds) Clone() grpccreds.TransportCredentials { return p }

func (o *office) join(address string, id identity) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.users[address]++
	o.byPlace[address] = id
	o.byName[roleClient+"."+id.id] = id
}

// leave lets go of a daemon; with its last user the connection ends.
func (o *office) leave(address string, id identity) {
	o.mu.Lock()
	o.users[address]--
	last := o.users[address] == 0
	if last {
		delete(o.users, address)
		delete(o.byName, roleClient+"."+id.id)
		if o.byPlace[address].id == id.id {
			delete(o.byPlace, address)
		}
	}
	o.mu.Unlock()
	if last {
		o.system.EventStream.Publish(&remote.EndpointTerminatedEvent{Address: address})
	}
}

// ask sends one request and waits for its answer; nil = the connection was lost.
func (o *office) ask(ctx context.Context, address, kind string, body []byte) (proto.Message, error) {
	q := &inquiry{address: address, again: repeatable[kind], answer: make(chan proto.Message, 1)}
	id := fmt.Sprintf("%s%d", o.prefix, o.count.Add(1))
	o.mu.Lock()
	o.pending[id] = q
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		delete(o.pending, id)
		o.mu.Unlock()
	}()
	o.system.Root.RequestWithCustomSender(actor.NewPID(address, gatewayName),
		&messages.Request{Version: messages.WireVersion, Id: id, Kind: kind, Body: body}, o.answers)
	select {
	case m := <-q.answer:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

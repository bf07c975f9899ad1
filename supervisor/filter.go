package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rdd-desktop/rdd/messages"
)

// Names of the two actors of the edge, one on each side.
const (
	gatewayName = "gateway"
	answersName = "answers"
)

const (
	loopback = "127.0.0.1"
	// maxEnvelopes is the most messages of one batch; the library sends as many as its batch size.
	maxEnvelopes = 1024
	batchSize    = 100
)

// Full names of the protobuf types that may come in.
var (
	requestType   = string(proto.MessageName((*messages.Request)(nil)))
	replyType     = string(proto.MessageName((*messages.Reply)(nil)))
	frameType     = string(proto.MessageName((*messages.Frame)(nil)))
	watchType     = string(proto.MessageName((*actor.Watch)(nil)))
	unwatchType   = string(proto.MessageName((*actor.Unwatch)(nil)))
	terminated    = string(proto.MessageName((*actor.Terminated)(nil)))
	deadLetter    = string(proto.MessageName((*actor.DeadLetterResponse)(nil)))
	watchTraffic  = []string{watchType, unwatchType, terminated}
	gatewayAccept = append([]string{requestType}, watchTraffic...)
	answersAccept = append([]string{replyType, frameType, deadLetter}, watchTraffic...)
)

// filter is the gate of one side of the edge: of all that the library would do for whoever gets a connection (stop any actor,
// publish events, dial any address, die of an unknown type), it lets through what the one public actor needs, and only that.
// Who sends anything else loses that stream; nobody else notices.
type filter struct {
	log *slog.Logger
	// target is the only actor that may be addressed, accept the types it may be sent.
	target string
	accept map[string]bool
	// own is this side's address, known once it listens.
	own func() string
	// knows says whether a peer may come from that address; nil = any of this host.
	knows func(address string) bool
	// met, if set, is told the address of each peer that said hello.
	met func(address string)
	// parted, if set, is told when the stream of such a peer has ended.
	parted func(address string)
	// reads, if set, says whether a peer takes the answers it asked for.
	reads func(address string) bool
	// pace, if set, is called after each batch and holds up a peer that sends more than is worked off.
	pace func(ctx context.Context)

	mu      sync.Mutex
	streams map[string]map[*filtered]struct{} // by the address the peer said hello with
}

func newFilter(log *slog.Logger, target string, accept []string) *filter {
	f := &filter{log: log, target: target, accept: map[string]bool{}, streams: map[string]map[*filtered]struct{}{}}
	for _, name := range accept {
		f.accept[name] = true
	}
	return f
}

func (f *filter) options() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.StreamInterceptor(f.stream), grpc.UnaryInterceptor(f.unary)}
}

// unary: the library has two unary calls, and panics in both.
func (f *filter) unary(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
	return nil, status.Error(codes.Unimplemented, "not offered")
}

// stream ends with the library's handler, or when we hang up; then the handler ends with its next read.
func (f *filter) stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	s := &filtered{ServerStream: ss, f: f, over: make(chan struct{})}
	defer f.leave(s)
	done := make(chan error, 1)
	go func() { done <- f.handle(srv, s, handler) }()
	select {
	case err := <-done:
		return err
	case <-s.over:
		return status.Error(codes.Unavailable, "no answer can be sent to you")
	}
}

func (f *filter) handle(srv any, s *filtered, handler grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			f.log.Error("panic while serving a peer", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = status.Error(codes.Internal, "internal error")
		}
	}()
	err = handler(srv, s)
	if s.refused != nil {
		return s.refused
	}
	return err
}

func (f *filter) enter(s *filtered) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.streams[s.peer] == nil {
		f.streams[s.peer] = map[*filtered]struct{}{}
	}
	f.streams[s.peer][s] = struct{}{}
}

func (f *filter) leave(s *filtered) {
	if s.peer == "" {
		return
	}
	f.mu.Lock()
	delete(f.streams[s.peer], s)
	if len(f.streams[s.peer]) == 0 {
		delete(f.streams, s.peer)
	}
	f.mu.Unlock()
	if f.parted != nil {
		f.parted(s.peer)
	}
}

// hangUp ends the streams of a peer: it then knows that what it has asked will not be answered.
func (f *filter) hangUp(address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.streams[address] {
		s.hangUp()
	}
}

// filtered is one peer's stream. RecvMsg is called by one goroutine, SendMsg by two of the library's.
type filtered struct {
	grpc.ServerStream
	f       *filter
	peer    string
	refused error
	over    chan struct{}
	once    sync.Once

	send sync.Mutex
}

func (s *filtered) hangUp() { s.once.Do(func() { close(s.over) }) }

// SendMsg lets one goroutine at a time: the library's goodbye may meet its answer to a hello.
func (s *filtered) SendMsg(m any) error {
	s.send.Lock()
	defer s.send.Unlock()
	return s.ServerStream.SendMsg(m)
}

func (s *filtered) RecvMsg(m any) error {
	if s.refused != nil {
		return s.refused
	}
	if s.peer != "" && s.f.pace != nil {
		s.f.pace(s.Context())
	}
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if err := s.check(m); err != nil {
		s.f.log.Warn("a peer was refused", "peer", s.peer, "error", err)
		s.refused = status.Error(codes.PermissionDenied, err.Error())
		return s.refused
	}
	return nil
}

func (s *filtered) check(m any) error {
	rm, ok := m.(*remote.RemoteMessage)
	if !ok {
		return fmt.Errorf("unexpected %T", m)
	}
	switch t := rm.MessageType.(type) {
	case *remote.RemoteMessage_ConnectRequest:
		return s.hello(t.ConnectRequest)
	case *remote.RemoteMessage_MessageBatch:
		return s.batch(t.MessageBatch)
	}
	return fmt.Errorf("unexpected %T", rm.MessageType)
}

func (s *filtered) hello(r *remote.ConnectRequest) error {
	c, ok := r.GetConnectionType().(*remote.ConnectRequest_ServerConnection)
	if !ok || c.ServerConnection == nil {
		return fmt.Errorf("unexpected connection %T", r.GetConnectionType())
	}
	address := c.ServerConnection.Address
	host, port, err := net.SplitHostPort(address)
	switch {
	case s.peer != "":
		return fmt.Errorf("a second hello")
	case err != nil || host != loopback || port == "0" || strings.Trim(port, "0123456789") != "" || len(port) > 5:
		return fmt.Errorf("%q is no address of this host", address)
	case address == s.f.own():
		return fmt.Errorf("%q is our own address", address)
	case s.f.knows != nil && !s.f.knows(address):
		return fmt.Errorf("nobody here talks to %s", address)
	}
	s.peer = address
	s.f.enter(s)
	if s.f.met != nil {
		s.f.met(address)
	}
	return nil
}

func (s *filtered) batch(b *remote.MessageBatch) error {
	switch {
	case s.peer == "":
		return fmt.Errorf("a message before the hello")
	case b == nil || len(b.Envelopes) > maxEnvelopes:
		return fmt.Errorf("a batch of %d messages", len(b.GetEnvelopes()))
	case s.f.reads != nil && !s.f.reads(s.peer):
		return fmt.Errorf("%s asks, and does not read the answers", s.peer)
	}
	for _, name := range b.TypeNames {
		if !s.f.accept[name] {
			return fmt.Errorf("type %.100q is not taken", name)
		}
	}
	for _, t := range b.Targets {
		if t == nil || t.Address != s.f.own() || t.Id != s.f.target {
			return fmt.Errorf("%.100q at %.100q is not to be reached", t.GetId(), t.GetAddress())
		}
	}
	for _, p := range b.Senders {
		if !s.own(p) {
			return fmt.Errorf("sender %.100q at %.100q is not the peer's", p.GetId(), p.GetAddress())
		}
	}
	for _, e := range b.Envelopes {
		if err := s.envelope(b, e); err != nil {
			return err
		}
	}
	return nil
}

// own: the process belongs to the peer of this stream. So an answer goes back where the request came from, nowhere else.
func (s *filtered) own(p *actor.PID) bool { return p != nil && p.Id != "" && p.Address == s.peer }

func (s *filtered) envelope(b *remote.MessageBatch, e *remote.MessageEnvelope) error {
	switch {
	case e == nil:
		return fmt.Errorf("an empty envelope")
	case e.SerializerId != 0:
		return fmt.Errorf("serializer %d", e.SerializerId)
	case e.TypeId < 0 || int(e.TypeId) >= len(b.TypeNames):
		return fmt.Errorf("type index %d", e.TypeId)
	case e.Target < 0 || int(e.Target) >= len(b.Targets):
		return fmt.Errorf("target index %d", e.Target)
	case e.Sender < 0 || int(e.Sender) > len(b.Senders):
		return fmt.Errorf("sender index %d", e.Sender)
	}
	e.MessageHeader = nil
	return s.content(b.TypeNames[e.TypeId], e.MessageData)
}

// content looks into the library's own messages, which it uses without a look.
func (s *filtered) content(name string, data []byte) error {
	var who *actor.PID
	switch name {
	case watchType:
		var m actor.Watch
		if err := proto.Unmarshal(data, &m); err != nil {
			return err
		}
		who = m.Watcher
	case unwatchType:
		var m actor.Unwatch
		if err := proto.Unmarshal(data, &m); err != nil {
			return err
		}
		who = m.Watcher
	case terminated:
		var m actor.Terminated
		if err := proto.Unmarshal(data, &m); err != nil {
			return err
		}
		who = m.Who
	default:
		return nil
	}
	if !s.own(who) {
		return fmt.Errorf("%s of %.100q at %.100q, which is not the peer's", name, who.GetId(), who.GetAddress())
	}
	return nil
}

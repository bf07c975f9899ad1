package supervisor

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// maxUnread is the most bytes of answers that wait for one peer.
const maxUnread = 64 << 20

// outbox knows who is there to be answered, and counts, by address, the bytes of answers that were handed to the library and have not
// left: its queues have no bound, and a peer that asks without reading would fill them. It also ends a send that such a peer holds up:
// nothing else would. To who has left nothing is sent: the library would dial it, and keep that connection.
type outbox struct {
	mu      sync.Mutex
	limit   int            // maxUnread, but in tests
	peers   map[string]int // streams by the address they said hello with
	unread  map[string]int
	streams map[string]map[*outStream]struct{}
}

func newOutbox() *outbox {
	return &outbox{limit: maxUnread, peers: map[string]int{}, unread: map[string]int{}, streams: map[string]map[*outStream]struct{}{}}
}

// met: somebody said hello with that address.
func (o *outbox) met(address string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.peers[address]++
}

// parted: a stream of that address has ended. An address is only what a peer said, so it has left with the last stream that said so.
func (o *outbox) parted(address string) (left bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.peers[address]--; o.peers[address] > 0 {
		return false
	}
	delete(o.peers, address)
	return true
}

// here reports whether a peer of that address is connected.
func (o *outbox) here(address string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.peers[address] > 0
}

// addresses of all who are here.
func (o *outbox) addresses() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Keys(o.peers))
}

// take counts an answer, unless nobody is there to get it or too much waits for that peer already: then it is not to be sent.
func (o *outbox) take(address string, m proto.Message) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.peers[address] == 0 || o.unread[address] >= o.limit {
		return false
	}
	o.unread[address] += proto.Size(m)
	return true
}

// reads reports whether the peer takes what it asked for.
func (o *outbox) reads(address string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.unread[address] < o.limit
}

// left takes back what was sent.
func (o *outbox) left(address string, bytes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.unread[address] -= bytes; o.unread[address] <= 0 {
		delete(o.unread, address)
	}
}

// ended forgets a peer to whom the library sends no more, and ends the send it holds up.
func (o *outbox) ended(address string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.unread, address)
	for s := range o.streams[address] {
		s.cancel()
	}
	delete(o.streams, address)
}

// outStream is our stream to one peer.
type outStream struct {
	grpc.ClientStream
	o       *outbox
	address string
	cancel  context.CancelFunc
}

// stream is the interceptor of the streams we open.
func (o *outbox) stream(ctx context.Context, d *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer,
	opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s := &outStream{o: o, address: conn.Target()}
	ctx, s.cancel = context.WithCancel(ctx)
	o.mu.Lock() // from now on: a peer may hold up the opening too
	if o.peers[s.address] == 0 {
		o.mu.Unlock()
		s.cancel()
		return nil, status.Errorf(codes.Unavailable, "%s has left", s.address)
	}
	if o.streams[s.address] == nil {
		o.streams[s.address] = map[*outStream]struct{}{}
	}
	o.streams[s.address][s] = struct{}{}
	o.mu.Unlock()
	var err error
	if s.ClientStream, err = open(ctx, d, conn, method, opts...); err != nil {
		s.closed()
		return nil, err
	}
	context.AfterFunc(s.Context(), s.closed)
	return s, nil
}

func (s *outStream) closed() {
	s.cancel()
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	delete(s.o.streams[s.address], s)
	if len(s.o.streams[s.address]) == 0 {
		delete(s.o.streams, s.address)
	}
}

// SendMsg implements [grpc.ClientStream].
func (s *outStream) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	if r, ok := m.(*remote.RemoteMessage); ok {
		bytes := 0
		for _, e := range r.GetMessageBatch().GetEnvelopes() {
			bytes += len(e.MessageData)
		}
		s.o.left(s.address, bytes)
	}
	return err
}

package supervisor

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/rdd-desktop/rdd/messages"
)

func hello(address string) *remote.RemoteMessage {
	return &remote.RemoteMessage{MessageType: &remote.RemoteMessage_ConnectRequest{ConnectRequest: &remote.ConnectRequest{
		ConnectionType: &remote.ConnectRequest_ServerConnection{ServerConnection: &remote.ServerConnection{SystemId: "x", Address: address}}}}}
}

const peerAddress = "127.0.0.1:9"

func envelope(target *actor.PID, m proto.Message, change func(*remote.MessageBatch)) *remote.RemoteMessage {
	data, _ := proto.Marshal(m)
	b := &remote.MessageBatch{
		TypeNames: []string{string(proto.MessageName(m))}, Targets: []*actor.PID{target},
		Senders:   []*actor.PID{actor.NewPID(peerAddress, "future$1")},
		Envelopes: []*remote.MessageEnvelope{{MessageData: data, Sender: 1}},
	}
	if change != nil {
		change(b)
	}
	return &remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{MessageBatch: b}}
}

// Peers that are gone before their answer leave nothing behind.
func TestDeadPeersOverTheEdgeLeaveNothing(t *testing.T) {
	if !isolated(t) {
		return
	}
	d := newDaemon(t)
	c := d.dial()
	_, err := c.List(within(t, 5*time.Second), "container", ListOptions{})
	require.NoError(t, err)
	before := runtime.NumGoroutine()
	for range 20 {
		conn, err := grpc.NewClient(d.edge.file.Address, grpc.WithTransportCredentials(certified(d.edge.file)))
		require.NoError(t, err)
		s, err := remote.NewRemotingClient(conn).Receive(within(t, 20*time.Second))
		require.NoError(t, err)
		require.NoError(t, s.Send(hello(peerAddress)))
		_, err = s.Recv()
		require.NoError(t, err)
		for range 3 {
			require.NoError(t, s.Send(envelope(actor.NewPID(d.edge.file.Address, gatewayName), &messages.Request{Version: 1, Id: "1", Kind: "next",
				Body: []byte(`{"kind":"container","cursor":"` + formatVersion(1<<40) + `"}`)}, func(b *remote.MessageBatch) { b.Senders[0].Id = "answers" })))
		}
		time.Sleep(10 * time.Millisecond)
		require.NoError(t, conn.Close())
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+3 }, 25*time.Second, 100*time.Millisecond,
		"%d goroutines before", before)
	require.False(t, d.edge.out.here(peerAddress))
	_, err = c.List(within(t, 5*time.Second), "container", ListOptions{})
	require.NoError(t, err)
}

// After stop only what the library cannot give back is left, and that is named here.
func TestStopOfTheEdgeLeavesNoGoroutine(t *testing.T) {
	if !isolated(t) {
		return
	}
	w, i := newWorld(t, 1), newInstance(t)
	time.Sleep(100 * time.Millisecond)
	none := goleak.IgnoreCurrent()
	e, err := startEdge(context.Background(), w.b, EdgeConfig{File: i.Edge(), Boot: 1, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	c, err := Dial(context.Background(), i)
	require.NoError(t, err)
	_, err = c.List(within(t, 5*time.Second), "container", ListOptions{})
	require.NoError(t, err)
	require.NoError(t, c.Close())
	start := time.Now()
	e.stop()
	e.stop()
	require.Less(t, time.Since(start), 3*time.Second)
	require.NoFileExists(t, i.Edge())
	goleak.VerifyNone(t, none)
}

// A bug of the gateway itself costs nobody the daemon: it comes back.
func TestTheGatewayComesBack(t *testing.T) {
	if !isolated(t) {
		return
	}
	d := newDaemon(t)
	d.put(container(hexID(1), "web"))
	c := d.dial()
	for range 3 {
		d.edge.system.Root.Send(d.edge.gateway, callDone{})
		_, err := c.Get(within(t, patience), "container", "web")
		require.NoError(t, err)
	}
}

// What a newer client says is answered: Unsupported, with what both sides speak.
func TestANewerClientIsToldWhatIsSpokenHere(t *testing.T) {
	if !isolated(t) {
		return
	}
	d := newDaemon(t)
	c := d.dial()
	link := c.b.(*remoteBackend).link
	for _, r := range []struct {
		what string
		m    *messages.Request
		want error
		say  string
	}{
		{"operation", &messages.Request{Version: 1, Kind: "later"}, messages.ErrUnsupported, `operation "later" is not known here`},
		{"no operation", &messages.Request{Version: 1}, messages.ErrUnsupported, `operation "" is not known here`},
		{"error", &messages.Request{Version: 1, Kind: messages.OpError}, messages.ErrUnsupported, "not known here"},
		{"wire version", &messages.Request{Version: 2, Kind: "get", Body: []byte("{}")}, messages.ErrUnsupported, "wire version 2 is not spoken here"},
		{"no wire version", &messages.Request{Kind: "get"}, messages.ErrUnsupported, "wire version 0 is not spoken here"},
		{"nonsense", &messages.Request{Version: 1, Kind: "get", Body: []byte("nonsense")}, messages.ErrBadRequest, "decode request"},
		{"empty", &messages.Request{Version: 1, Kind: "get"}, messages.ErrBadRequest, ""},
		{"large", &messages.Request{Version: 1, Kind: "get", Body: make([]byte, maxRequestBody+1)}, messages.ErrBadRequest, "at most"},
	} {
		answer := make(chan proto.Message, 1)
		r.m.Id = "newer-" + r.what
		link.o.mu.Lock()
		link.o.pending[r.m.Id] = &inquiry{address: link.address, answer: answer}
		link.o.mu.Unlock()
		link.o.system.Root.RequestWithCustomSender(actor.NewPID(link.address, gatewayName), r.m, link.o.answers)
		var m proto.Message
		select {
		case m = <-answer:
		case <-time.After(patience):
			require.Fail(t, "no answer", r.what)
		}
		_, err := decodeAnswer[resource](r.m.Kind, m)
		require.ErrorIs(t, err, r.want, r.what)
		require.ErrorContains(t, err, r.say, r.what)
		if r.want == messages.ErrUnsupported {
			require.Contains(t, err.Error(), "wire versions 1; operations action debug delete")
			details := messages.AsError(err).Details
			require.Equal(t, "1", details["wireVersions"])
			require.Equal(t, "1", details["clientWireVersions"])
			require.Contains(t, details["operations"], "get,list,next")
			require.Contains(t, details["clientOperations"], "get,list,next")
		}
	}
}

func FuzzFilter(f *testing.F) {
	own := "127.0.0.1:5"
	for _, m := range []*remote.RemoteMessage{
		hello(peerAddress), envelope(actor.NewPID(own, gatewayName), &messages.Request{}, nil),
		envelope(actor.NewPID(own, gatewayName), &actor.Watch{Watcher: actor.NewPID(peerAddress, "x")}, nil),
		envelope(actor.NewPID(own, gatewayName), &actor.Stop{}, nil), {},
	} {
		data, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(data, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, greeted bool) {
		m := &remote.RemoteMessage{}
		if proto.Unmarshal(data, m) != nil {
			return
		}
		gate := newFilter(slog.New(slog.DiscardHandler), gatewayName, gatewayAccept)
		gate.own = func() string { return own }
		s := &filtered{f: gate}
		if greeted {
			s.peer = peerAddress
		}
		if s.check(m) != nil {
			return
		}
		b := m.GetMessageBatch()
		for _, e := range b.GetEnvelopes() {
			require.Equal(t, gatewayName, b.Targets[e.Target].Id)
			require.Contains(t, gatewayAccept, b.TypeNames[e.TypeId])
			if e.Sender > 0 {
				require.Equal(t, s.peer, b.Senders[e.Sender-1].Address)
			}
		}
	})
}

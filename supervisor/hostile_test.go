package supervisor

import (
	"context"
	"crypto/tls"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpccreds "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rdd-desktop/rdd/messages"
)

// peer is a raw stream to the edge, with or without what it takes.
func (d *aDaemon) peer(t *testing.T, creds grpccreds.TransportCredentials) (remote.RemotingClient, remote.Remoting_ReceiveClient, error) {
	conn, err := grpc.NewClient(d.edge.file.Address, grpc.WithTransportCredentials(creds))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	c := remote.NewRemotingClient(conn)
	s, err := c.Receive(within(t, 20*time.Second))
	return c, s, err
}

func (d *aDaemon) goodCreds() grpccreds.TransportCredentials {
	id := must(d.edge.file.Client.parse(d.edge.file.ID))
	return grpccreds.NewTLS(id.dialConfig())
}

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

func TestHostilePeersOverTheEdge(t *testing.T) {
	if !isolated(t) {
		return
	}
	d := newDaemon(t)
	d.put(container(hexID(1), "web"))
	c := d.dial()
	served := func(what string) {
		t.Helper()
		_, err := c.Get(within(t, 5*time.Second), "container", "web")
		require.NoError(t, err, what)
	}
	served("before")

	stranger, strangerPEM, strangerID, err := newAuthority(time.Now())
	require.NoError(t, err)
	_ = stranger
	other := must(strangerPEM.parse(strangerID))
	good := must(d.edge.file.Client.parse(d.edge.file.ID))
	noCert := good.dialConfig()
	noCert.Certificates = nil
	otherCert := good.dialConfig()
	otherCert.Certificates = []tls.Certificate{other.cert}
	for what, creds := range map[string]grpccreds.TransportCredentials{
		"plaintext": insecure.NewCredentials(), "no certificate": grpccreds.NewTLS(noCert), "other authority": grpccreds.NewTLS(otherCert),
	} {
		_, s, err := d.peer(t, creds)
		if err == nil {
			_ = s.Send(hello(peerAddress))
			_, err = s.Recv()
		}
		require.Equal(t, codes.Unavailable, status.Code(err), "%s: %v", what, err)
		served(what)
	}

	own := d.edge.file.Address
	gate := actor.NewPID(own, gatewayName)
	request := &messages.Request{Version: 1, Id: "1", Kind: "get", Body: []byte("{}")}
	for what, m := range map[string]*remote.RemoteMessage{
		"stop":           envelope(gate, &actor.Stop{}, nil),
		"poison":         envelope(gate, &actor.PoisonPill{}, nil),
		"other actor":    envelope(actor.NewPID(own, "activator"), request, nil),
		"event stream":   envelope(actor.NewPID(own, "eventstream"), request, nil),
		"relay":          envelope(actor.NewPID("127.0.0.1:1", gatewayName), request, nil),
		"no address":     envelope(actor.NewPID("", gatewayName), request, nil),
		"nonhost":        envelope(actor.NewPID("nonhost", gatewayName), request, nil),
		"no target":      envelope(nil, request, nil),
		"reply":          envelope(gate, &messages.Reply{}, nil),
		"spawn":          envelope(actor.NewPID(own, "activator"), &remote.ActorPidRequest{Kind: "x"}, nil),
		"unknown type":   envelope(gate, request, func(b *remote.MessageBatch) { b.TypeNames[0] = "rdd.wire.Later" }),
		"empty type":     envelope(gate, request, func(b *remote.MessageBatch) { b.TypeNames[0] = "" }),
		"type index":     envelope(gate, request, func(b *remote.MessageBatch) { b.Envelopes[0].TypeId = 7 }),
		"negative":       envelope(gate, request, func(b *remote.MessageBatch) { b.Envelopes[0].Target = -1 }),
		"target index":   envelope(gate, request, func(b *remote.MessageBatch) { b.Envelopes[0].Target = 3 }),
		"sender index":   envelope(gate, request, func(b *remote.MessageBatch) { b.Envelopes[0].Sender = 2 }),
		"serializer":     envelope(gate, request, func(b *remote.MessageBatch) { b.Envelopes[0].SerializerId = 1 }),
		"foreign sender": envelope(gate, request, func(b *remote.MessageBatch) { b.Senders[0].Address = "192.0.2.1:80" }),
		"our sender":     envelope(gate, request, func(b *remote.MessageBatch) { b.Senders[0].Address = own }),
		"watch nobody":   envelope(gate, &actor.Watch{}, nil),
		"watch foreign":  envelope(gate, &actor.Watch{Watcher: actor.NewPID("192.0.2.1:80", "x")}, nil),
		"terminated":     envelope(gate, &actor.Terminated{}, nil),
		"second hello":   hello(peerAddress),
		"connected":      {MessageType: &remote.RemoteMessage_ConnectResponse{ConnectResponse: &remote.ConnectResponse{}}},
		"disconnect":     {MessageType: &remote.RemoteMessage_DisconnectRequest{DisconnectRequest: &remote.DisconnectRequest{}}},
		"nothing":        {},
		"flood": envelope(gate, request, func(b *remote.MessageBatch) {
			for range maxEnvelopes {
				b.Envelopes = append(b.Envelopes, b.Envelopes[0])
			}
		}),
	} {
		_, s, err := d.peer(t, d.goodCreds())
		require.NoError(t, err)
		require.NoError(t, s.Send(hello(peerAddress)))
		_, err = s.Recv()
		require.NoError(t, err, what)
		require.NoError(t, s.Send(m))
		_, err = s.Recv()
		require.Equal(t, codes.PermissionDenied, status.Code(err), "%s: %v", what, err)
		served(what)
	}
	for what, m := range map[string]*remote.RemoteMessage{
		"early": envelope(gate, request, nil), "far": hello("192.0.2.1:80"), "name": hello("localhost:80"), "mirror": hello(own),
		"empty": {MessageType: &remote.RemoteMessage_ConnectRequest{}}, "port": hello("127.0.0.1:http"),
		"client": {MessageType: &remote.RemoteMessage_ConnectRequest{ConnectRequest: &remote.ConnectRequest{
			ConnectionType: &remote.ConnectRequest_ClientConnection{ClientConnection: &remote.ClientConnection{}}}}},
	} {
		_, s, err := d.peer(t, d.goodCreds())
		require.NoError(t, err)
		require.NoError(t, s.Send(m))
		_, err = s.Recv()
		require.Equal(t, codes.PermissionDenied, status.Code(err), "%s: %v", what, err)
		served(what)
	}
	raw, _, err := d.peer(t, d.goodCreds())
	require.NoError(t, err)
	_, err = raw.ListProcesses(within(t, time.Second), &remote.ListProcessesRequest{})
	require.Equal(t, codes.Unimplemented, status.Code(err))
	_, err = raw.GetProcessDiagnostics(within(t, time.Second), &remote.GetProcessDiagnosticsRequest{})
	require.Equal(t, codes.Unimplemented, status.Code(err))
	served("unary")

	// A bug of the gateway itself: it comes back.
	d.edge.system.Root.Send(d.edge.gateway, callDone{})
	served("gateway restarted")

	// What the gateway does not know.
	link := c.b.(*remoteBackend).link
	for _, r := range []struct {
		kind string
		body string
		want error
	}{{"later", "", messages.ErrUnsupported}, {"get", "nonsense", messages.ErrBadRequest}, {"get", strings.Repeat(" ", maxRequestBody+1), messages.ErrBadRequest},
		{"get", "", messages.ErrBadRequest}} {
		m, err := link.o.ask(within(t, 5*time.Second), link.address, r.kind, []byte(r.body))
		require.NoError(t, err)
		_, err = decodeAnswer[resource](r.kind, m)
		require.ErrorIs(t, err, r.want)
		if r.kind == "later" {
			require.Contains(t, err.Error(), "get list next")
			require.Contains(t, messages.AsError(err).Details["clientOperations"], "get,list,next")
		}
	}
	served("after all")
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
		conn, err := grpc.NewClient(d.edge.file.Address, grpc.WithTransportCredentials(d.goodCreds()))
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
	require.Empty(t, d.edge.peers[peerAddress])
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

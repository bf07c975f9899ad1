package supervisor

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	grpccreds "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/rdd-desktop/rdd/messages"
)

// Whoever has no certificate of this serve gets no stream at all.
func TestAttacksOfTheUncertified(t *testing.T) {
	if !isolated(t) {
		return
	}
	f := besieged(t)
	_, theirs, id, err := newAuthority(time.Now())
	require.NoError(t, err)
	other := must(theirs.parse(id))
	good := must(f.file.Client.parse(f.file.ID))
	change := func(c func(*tls.Config)) grpccreds.TransportCredentials {
		config := good.dialConfig()
		c(config)
		return grpccreds.NewTLS(config)
	}
	for what, creds := range map[string]grpccreds.TransportCredentials{
		"plaintext":         insecure.NewCredentials(),
		"no certificate":    change(func(c *tls.Config) { c.Certificates = nil }),
		"another authority": change(func(c *tls.Config) { c.Certificates = []tls.Certificate{other.cert} }),
		"an old version":    change(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }),
	} {
		s, err := remote.NewRemotingClient(f.connect(creds)).Receive(within(t, patience))
		if err == nil {
			_ = s.Send(hello(peerAddress))
			_, err = s.Recv()
		}
		require.Equal(t, codes.Unavailable, status.Code(err), "%s: %v", what, err)
		f.unharmed(what)
	}
	for what, bytes := range map[string]string{
		"nothing": "", "garbage": "\x00\xff\x00\xff\r\n\r\n", "plain HTTP": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"half a greeting": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "a huge record": "\x16\x03\x01\xff\xff",
	} {
		conn, err := net.Dial("tcp", f.file.Address)
		require.NoError(t, err)
		defer func() { _ = conn.Close() }() // held open until the end
		_, err = io.WriteString(conn, bytes)
		require.NoError(t, err)
		f.unharmed(what)
	}
	f.mirrors()
}

// A connection that never proves who it is costs nobody but itself: with too many of them the oldest goes.
func TestAttackOfTheSilentCrowd(t *testing.T) {
	if !isolated(t) {
		return
	}
	f := besieged(t)
	var crowd []net.Conn
	for range 2*maxGreeting + 10 {
		conn, err := net.Dial("tcp", f.file.Address)
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		crowd = append(crowd, conn)
	}
	for _, conn := range crowd[:maxGreeting] {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		_, err := conn.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.False(t, isTimeout(err), "it is shown out")
	}
	f.greeted(peerAddress)
	f.unharmed("a crowd of silent ones")
}

func isTimeout(err error) bool {
	n, ok := err.(net.Error)
	return ok && n.Timeout()
}

// A peer that has the certificate, and is hostile or newer, loses its stream; nobody else notices.
func TestAttacksOfTheCertified(t *testing.T) {
	if !isolated(t) {
		return
	}
	f := besieged(t)
	own := f.file.Address
	gate := actor.NewPID(own, gatewayName)
	request := &messages.Request{Version: 1, Id: "1", Kind: "get", Body: []byte("{}")}
	batch := func(change func(*remote.MessageBatch)) *remote.RemoteMessage { return envelope(gate, request, change) }
	at := func(id string) *actor.PID { return actor.NewPID(own, id) }
	for what, m := range map[string]*remote.RemoteMessage{
		"stop":                envelope(gate, &actor.Stop{}, nil),
		"poison":              envelope(gate, &actor.PoisonPill{}, nil),
		"stop of the tree":    envelope(at("rdd"), &actor.Stop{}, nil),
		"touch":               envelope(gate, &actor.Touch{}, nil),
		"activator":           envelope(at("activator"), request, nil),
		"event stream":        envelope(at("eventstream"), request, nil),
		"endpoints":           envelope(at("EndpointSupervisor"), &actor.Stop{}, nil),
		"a child of it":       envelope(at(gatewayName+"/x"), request, nil),
		"relay":               envelope(actor.NewPID("127.0.0.1:1", gatewayName), request, nil),
		"relay to a host":     envelope(actor.NewPID("192.0.2.1:80", gatewayName), request, nil),
		"no address":          envelope(actor.NewPID("", gatewayName), request, nil),
		"nonhost":             envelope(actor.NewPID("nonhost", gatewayName), request, nil),
		"no target":           envelope(nil, request, nil),
		"no targets":          batch(func(b *remote.MessageBatch) { b.Targets = nil }),
		"no types":            batch(func(b *remote.MessageBatch) { b.TypeNames = nil }),
		"no senders":          batch(func(b *remote.MessageBatch) { b.Senders = nil }),
		"reply":               envelope(gate, &messages.Reply{}, nil),
		"frame":               envelope(gate, &messages.Frame{}, nil),
		"dead letter":         envelope(gate, &actor.DeadLetterResponse{}, nil),
		"spawn":               envelope(at("activator"), &remote.ActorPidRequest{Kind: "x"}, nil),
		"unknown type":        batch(func(b *remote.MessageBatch) { b.TypeNames[0] = "rdd.wire.Later" }),
		"empty type":          batch(func(b *remote.MessageBatch) { b.TypeNames[0] = "" }),
		"unused unknown type": batch(func(b *remote.MessageBatch) { b.TypeNames = append(b.TypeNames, "rdd.wire.Later") }),
		"type index":          batch(func(b *remote.MessageBatch) { b.Envelopes[0].TypeId = 7 }),
		"negative type":       batch(func(b *remote.MessageBatch) { b.Envelopes[0].TypeId = -1 }),
		"negative target":     batch(func(b *remote.MessageBatch) { b.Envelopes[0].Target = -1 }),
		"target index":        batch(func(b *remote.MessageBatch) { b.Envelopes[0].Target = 3 }),
		"sender index":        batch(func(b *remote.MessageBatch) { b.Envelopes[0].Sender = 2 }),
		"negative sender":     batch(func(b *remote.MessageBatch) { b.Envelopes[0].Sender = -1 }),
		"serializer":          batch(func(b *remote.MessageBatch) { b.Envelopes[0].SerializerId = 1 }),
		"negative serializer": batch(func(b *remote.MessageBatch) { b.Envelopes[0].SerializerId = -1 }),
		"foreign sender":      batch(func(b *remote.MessageBatch) { b.Senders[0].Address = "192.0.2.1:80" }),
		"our sender":          batch(func(b *remote.MessageBatch) { b.Senders[0].Address = own }),
		"nameless sender":     batch(func(b *remote.MessageBatch) { b.Senders[0].Id = "" }),
		"no sender at all":    batch(func(b *remote.MessageBatch) { b.Senders[0] = nil }),
		"watch by nobody":     envelope(gate, &actor.Watch{}, nil),
		"watch for another":   envelope(gate, &actor.Watch{Watcher: actor.NewPID("192.0.2.1:80", "x")}, nil),
		"unwatch by nobody":   envelope(gate, &actor.Unwatch{}, nil),
		"terminated":          envelope(gate, &actor.Terminated{}, nil),
		"terminated others":   envelope(gate, &actor.Terminated{Who: actor.NewPID(own, gatewayName)}, nil),
		"broken watch":        watchWith(gate, []byte("\xff")),
		"second hello":        hello(peerAddress),
		"connected":           {MessageType: &remote.RemoteMessage_ConnectResponse{ConnectResponse: &remote.ConnectResponse{}}},
		"disconnect":          {MessageType: &remote.RemoteMessage_DisconnectRequest{DisconnectRequest: &remote.DisconnectRequest{}}},
		"nothing":             {},
		"too many messages": batch(func(b *remote.MessageBatch) {
			for range maxEnvelopes {
				b.Envelopes = append(b.Envelopes, b.Envelopes[0])
			}
		}),
	} {
		s := f.greeted(peerAddress)
		require.NoError(t, s.Send(m), what)
		ends(t, what, s, codes.PermissionDenied)
		f.unharmed(what)
	}
	for what, m := range map[string]*remote.RemoteMessage{
		"early": envelope(gate, request, nil), "far": hello("192.0.2.1:80"), "name": hello("localhost:80"), "mirror": hello(own),
		"no port": hello("127.0.0.1"), "port 0": hello("127.0.0.1:0"), "port": hello("127.0.0.1:http"), "another family": hello("[::1]:80"),
		"socket": hello("unix:///run/docker.sock"),
		"empty":  {MessageType: &remote.RemoteMessage_ConnectRequest{}},
		"client": {MessageType: &remote.RemoteMessage_ConnectRequest{ConnectRequest: &remote.ConnectRequest{
			ConnectionType: &remote.ConnectRequest_ClientConnection{ClientConnection: &remote.ClientConnection{}}}}},
	} {
		s := f.open(f.connect(certified(f.file)))
		require.NoError(t, s.Send(m))
		ends(t, what, s, codes.PermissionDenied)
		f.unharmed(what)
	}
	f.mirrors()
}

// Who cannot be answered does not know: the way of the answers was cut before the daemon had said hello on it. It is told by a hang-up, and
// what it asks anew is answered.
func TestAPeerThatCannotBeAnsweredIsHungUp(t *testing.T) {
	if !isolated(t) {
		return
	}
	f := besieged(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	address := l.Addr().String()
	bystander := f.greeted("127.0.0.1:9")
	asks := envelope(actor.NewPID(f.file.Address, gatewayName), &messages.Request{Version: 1, Id: "1", Kind: messages.OpVersion}, nil)
	asks.GetMessageBatch().Senders = []*actor.PID{actor.NewPID(address, answersName)}
	for range 2 {
		s := f.greeted(address)
		require.NoError(t, s.Send(asks))
		ends(t, "a peer that cannot be answered", s, codes.Unavailable)
		require.Eventually(t, func() bool { return !f.rdd.edge.out.here(address) }, patience, time.Millisecond)
		f.unharmed("a peer that cannot be answered")
	}
	require.NoError(t, bystander.Send(hello("127.0.0.1:9")), "nobody else is hung up")
	ends(t, "a second hello", bystander, codes.PermissionDenied)
}

func watchWith(target *actor.PID, data []byte) *remote.RemoteMessage {
	return envelope(target, &actor.Watch{}, func(b *remote.MessageBatch) { b.Envelopes[0].MessageData = data })
}

// What is wrong below the messages: gRPC itself, sizes, calls that the library has and dies of.
func TestAttacksOnTheTransport(t *testing.T) {
	if !isolated(t) {
		return
	}
	f := besieged(t)
	gate := actor.NewPID(f.file.Address, gatewayName)
	request := &messages.Request{Version: 1, Id: "1", Kind: "get", Body: []byte("{}")}
	conn := f.connect(certified(f.file))
	raw := remote.NewRemotingClient(conn)
	ctx := within(t, patience)
	for what, call := range map[string]func() error{
		"processes": func() error { _, err := raw.ListProcesses(ctx, &remote.ListProcessesRequest{}); return err },
		"diagnostics": func() error {
			_, err := raw.GetProcessDiagnostics(ctx, &remote.GetProcessDiagnosticsRequest{})
			return err
		},
		"a later method": func() error {
			return conn.Invoke(ctx, "/remote.Remoting/Later", &emptypb.Empty{}, &emptypb.Empty{})
		},
		"a later service": func() error { return conn.Invoke(ctx, "/later.Service/Call", &emptypb.Empty{}, &emptypb.Empty{}) },
	} {
		require.Equal(t, codes.Unimplemented, status.Code(call()), what)
		f.unharmed(what)
	}
	oversized := envelope(gate, &messages.Request{Version: 1, Id: "1", Kind: "get", Body: make([]byte, maxRequestBatch)}, nil)
	garbled := func(m *remote.RemoteMessage) *remote.RemoteMessage { // fields that a later version may have
		m.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "later"))
		return m
	}
	for what, c := range map[string]struct {
		m    *remote.RemoteMessage
		want codes.Code
	}{
		"oversized":               {oversized, codes.ResourceExhausted},
		"no request":              {envelope(gate, request, func(b *remote.MessageBatch) { b.Envelopes[0].MessageData = []byte("\xff\xff") }), codes.Unknown},
		"a later kind of message": {garbled(&remote.RemoteMessage{}), codes.PermissionDenied},
	} {
		s := f.greeted(peerAddress)
		require.NoError(t, s.Send(c.m), what)
		ends(t, what, s, c.want)
		f.unharmed(what)
	}
	// One connection has a bounded number of streams; more of them wait, and cost nobody anything.
	many := f.connect(certified(f.file))
	for n := range 100 {
		go func() {
			s, err := remote.NewRemotingClient(many).Receive(ctx)
			if err == nil {
				_ = s.Send(hello(fmt.Sprintf("127.0.0.1:%d", 1000+n)))
			}
		}()
	}
	f.unharmed("many streams")
	// A flood of work, by one who takes no answer.
	flood := f.greeted(peerAddress)
	wave := envelope(gate, &messages.Request{Version: 1, Id: "1", Kind: messages.OpList, Body: []byte(`{"kind":"container"}`)}, func(b *remote.MessageBatch) {
		for len(b.Envelopes) < maxEnvelopes {
			b.Envelopes = append(b.Envelopes, b.Envelopes[0])
		}
	})
	for range 20 {
		require.NoError(t, flood.Send(wave))
	}
	f.unharmed("a flood")
	require.NoError(t, flood.CloseSend())
	f.unharmed("the end of a flood")
	// Harmless, and so it is taken: a peer may watch the gateway, say that one of its own ended, and have no one to answer to.
	s := f.greeted(peerAddress)
	mine := actor.NewPID(peerAddress, "mine")
	for _, m := range []*remote.RemoteMessage{
		envelope(gate, &actor.Watch{Watcher: mine}, nil), envelope(gate, &actor.Unwatch{Watcher: mine}, nil), envelope(gate, &actor.Terminated{Who: mine}, nil),
		envelope(gate, request, func(b *remote.MessageBatch) { b.Senders, b.Envelopes[0].Sender = nil, 0 }),
		envelope(gate, request, func(b *remote.MessageBatch) {
			b.Envelopes[0].MessageHeader = &remote.MessageHeader{HeaderData: map[string]string{"a": "b"}}
			b.Envelopes[0].TargetRequestId, b.Envelopes[0].SenderRequestId = 1<<31, 1<<31
		}), envelope(gate, request, func(b *remote.MessageBatch) { b.Envelopes = nil }), garbled(envelope(gate, request, nil)),
	} {
		require.NoError(t, s.Send(m))
	}
	f.unharmed("harmless things")
	// Who says hello with another's address gets nothing of it, and takes nothing away when it leaves.
	l := f.client.b.(*remoteBackend).link
	mimic := f.greeted(l.o.system.Address())
	require.NoError(t, mimic.Send(&remote.RemoteMessage{}))
	ends(t, "mimic", mimic, codes.PermissionDenied)
	f.unharmed("mimic")
	f.mirrors()
}

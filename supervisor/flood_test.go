package supervisor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpccreds "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/rdd-desktop/rdd/messages"
)

// allConnects is how many clients connect and are gone when RDD_TEST_CONNECTS=10000 asks for it; it takes minutes.
const allConnects = 10_000

// connects is how many are made: by default as many as take some seconds.
func connects(t *testing.T) int {
	if s := os.Getenv("RDD_TEST_CONNECTS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		return n
	}
	info, _ := debug.ReadBuildInfo()
	if slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return allConnects / 20
	}
	return allConnects / 5
}

// openFiles is how many files this process has open; −1 where nobody tells.
func openFiles() int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(list) - 1
}

// flat requires that goroutines and files are no more than before, soon after everybody left.
func flat(t *testing.T, goroutines, files int) {
	t.Helper()
	const some = 8 // of the library's pools, and of the legitimate client at this moment
	if assert.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+some && openFiles() <= files+some }, patience, 50*time.Millisecond) {
		return
	}
	var all bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&all, 1))
	t.Fatalf("goroutines: %d, now %d; files: %d, now %d\n%s", goroutines, runtime.NumGoroutine(), files, openFiles(), &all)
}

// Clients connect, subscribe, and are gone without a word: nothing of them stays.
func Test_F32_ConnectsLeaveNothingBehind(t *testing.T) {
	n := connects(t)
	if !isolatedFor(t, 15*time.Minute) {
		t.Run(strconv.Itoa(allConnects), func(t *testing.T) {
			if n < allConnects {
				t.Skipf("it takes minutes, so %d connects were made: RDD_TEST_CONNECTS=%d makes all", n, allConnects)
			}
		})
		return
	}
	f := besieged(t)
	f.unharmed("before")
	goroutines, files := runtime.NumGoroutine(), openFiles()
	subscribe := envelope(actor.NewPID(f.file.Address, gatewayName), &messages.Request{Version: 1, Id: "1", Kind: messages.OpNext,
		Body: []byte(`{"kind":"container","cursor":"` + formatVersion(f.rdd.table.Load().Version()) + `"}`)},
		func(b *remote.MessageBatch) { b.Senders[0].Id = answersName })
	one := func(n int) error {
		conn, err := grpc.NewClient(f.file.Address, grpc.WithTransportCredentials(certified(f.file)))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		s, err := remote.NewRemotingClient(conn).Receive(context.Background())
		if err != nil {
			return err
		}
		address := fmt.Sprintf("127.0.0.1:%d", 1+n%1000) // where nobody answers
		if err := s.Send(hello(address)); err != nil {
			return err
		}
		if _, err := s.Recv(); err != nil {
			return err
		}
		return s.Send(subscribeAs(subscribe, address))
	}
	began := time.Now()
	var group sync.WaitGroup
	const atOnce = 8
	for worker := range atOnce {
		group.Go(func() {
			for i := worker; i < n; i += atOnce {
				if err := one(i); err != nil {
					t.Errorf("connect %d: %v", i, err)
					return
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d connects in %s; %d goroutines and %d files before", n, time.Since(began).Round(time.Millisecond), goroutines, files)
	flat(t, goroutines, files)
	f.unharmed("after")
	f.mirrors()
}

func subscribeAs(m *remote.RemoteMessage, address string) *remote.RemoteMessage {
	b := m.GetMessageBatch()
	return &remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{MessageBatch: &remote.MessageBatch{
		TypeNames: b.TypeNames, Targets: b.Targets, Envelopes: b.Envelopes, Senders: []*actor.PID{actor.NewPID(address, answersName)}}}}
}

// A reader that sleeps holds up nobody: what it missed is not kept for it, and it is told so when it wakes up.
func Test_F45_AReaderThatSleepsGetsGone(t *testing.T) {
	if !isolated(t) {
		return
	}
	d := newDaemon(t)
	web := d.put(container(hexID(1), "web"))
	c, ctx := d.dial(), within(t, 90*time.Second)
	sleeper, err := c.Watch(ctx, "container", WatchOptions{})
	require.NoError(t, err)
	follower, err := c.Watch(ctx, "container", WatchOptions{})
	require.NoError(t, err)
	for range 2 {
		_, err := sleeper.Next(ctx)
		require.NoError(t, err)
		_, err = follower.Next(ctx)
		require.NoError(t, err)
	}
	goroutines := runtime.NumGoroutine()
	const changes = 9_000 // history has 8192
	for n := range changes {
		next := messages.DeepCopy(web)
		next.(*messages.Container).Status.RestartCount = n + 1
		d.put(next)
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines+8, "nothing waits for the sleeper")
	require.Empty(t, d.edge.out.waiting())
	_, err = sleeper.Next(ctx)
	require.ErrorIs(t, err, messages.ErrGone)
	_, err = sleeper.Next(ctx)
	require.ErrorIs(t, err, messages.ErrGone, "and it stays so")
	// It lists again, and is back.
	again, err := c.Watch(ctx, "container", WatchOptions{})
	require.NoError(t, err)
	e, err := again.Next(ctx)
	require.NoError(t, err)
	require.Equal(t, changes, e.Object.(*messages.Container).Status.RestartCount)
	// The other one had the same history to read: it sees Gone too, or what was there.
	_, err = follower.Next(ctx)
	require.ErrorIs(t, err, messages.ErrGone)
}

// deaf is a peer's side that takes the daemon's connection and reads nothing.
type deaf struct {
	remote.UnimplementedRemotingServer
	greeted chan struct{}
}

// Receive implements [remote.RemotingServer].
func (d *deaf) Receive(s remote.Remoting_ReceiveServer) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	if err := s.Send(&remote.RemoteMessage{MessageType: &remote.RemoteMessage_ConnectResponse{ConnectResponse: &remote.ConnectResponse{}}}); err != nil {
		return err
	}
	d.greeted <- struct{}{}
	<-s.Context().Done()
	return s.Context().Err()
}

// deaf starts such a peer.
func (f *fortress) deaf() (peer *deaf, address string) {
	l, err := net.Listen("tcp", loopback+":0")
	require.NoError(f.t, err)
	peer = &deaf{greeted: make(chan struct{}, 100)}
	server := grpc.NewServer(grpc.Creds(grpccreds.NewTLS(must(f.file.Client.parse(f.file.ID)).acceptConfig())))
	remote.RegisterRemotingServer(server, peer)
	go func() { _ = server.Serve(l) }()
	f.t.Cleanup(server.Stop)
	return peer, l.Addr().String()
}

// Who has left is not dialled for the sake of an answer, and what it still wanted is not worked on.
func Test_F45_NobodyIsAnsweredWhoHasLeft(t *testing.T) {
	if !isolated(t) {
		return
	}
	f := besieged(t)
	peer, address := f.deaf()
	s := f.greeted(address)
	out := f.rdd.edge.out
	require.True(t, out.here(address))
	now, err := f.client.List(t.Context(), "container", ListOptions{})
	require.NoError(t, err)
	next := envelope(actor.NewPID(f.file.Address, gatewayName), &messages.Request{Version: 1, Id: "1", Kind: messages.OpNext,
		Body: []byte(`{"kind":"container","cursor":"` + now.ResourceVersion + `"}`)}, nil)
	next.GetMessageBatch().Senders = []*actor.PID{actor.NewPID(address, "future$1")} // of those the daemon watches none
	for range 20 {
		require.NoError(t, s.Send(next))
	}
	f.unharmed("a peer that waits")
	require.NoError(t, s.CloseSend())
	require.Eventually(t, func() bool { return !out.here(address) }, patience, time.Millisecond)
	f.mirrors() // news for it
	f.unharmed("a peer that left")
	select {
	case <-peer.greeted:
		t.Fatal("the daemon has dialled it")
	case <-time.After(300 * time.Millisecond):
	}
}

// A peer that asks and never reads is dropped before it costs more than it may; so is the send that it held up.
func Test_F45_APeerThatNeverReadsIsDropped(t *testing.T) {
	if !isolated(t) {
		return
	}
	f := besieged(t)
	large := make(map[string]string)
	for n := range 100 {
		large[fmt.Sprint("l", n)] = fmt.Sprintf("%01000d", n)
	}
	for n := range 10 {
		f.runWith(fmt.Sprint("large", n), large)
	}
	require.Eventually(t, func() bool {
		l, err := f.client.List(t.Context(), "container", ListOptions{})
		return err == nil && len(l.Items) == 11
	}, patience, 10*time.Millisecond)
	goroutines, files := runtime.NumGoroutine(), openFiles()
	const limit = maxUnread / 8
	out := f.rdd.edge.out
	out.mu.Lock()
	out.limit = limit
	out.mu.Unlock()

	peer, address := f.deaf()
	s := f.greeted(address)
	list := subscribeAs(envelope(actor.NewPID(f.file.Address, gatewayName),
		&messages.Request{Version: 1, Id: "1", Kind: messages.OpList, Body: []byte(`{"kind":"container"}`)}, nil), address)
	require.NoError(t, s.Send(list))
	<-peer.greeted // the daemon has found it
	most := 0
	var err error
	for ; err == nil; err = s.Send(list) {
		most = max(most, out.waiting()[address])
	}
	require.ErrorIs(t, err, io.EOF)
	ends(t, "deaf", s, codes.PermissionDenied)
	require.LessOrEqual(t, most, limit+2*messages.MaxFrameBytes)
	f.unharmed("a deaf peer")
	flat(t, goroutines+3, files+3) // its own server
	require.Eventually(t, func() bool { return len(out.waiting()) == 0 }, patience, 10*time.Millisecond)
	f.mirrors()
}

// A client whose machine sleeps, or whose process is stopped, keeps its connection and says nothing: it is let go.
func Test_F45_AHalfOpenClientIsLetGo(t *testing.T) {
	if !isolated(t) {
		return
	}
	w, i := newWorld(t, 1), newInstance(t)
	e, err := startEdge(context.Background(), w.b, EdgeConfig{File: i.Edge(), Boot: 1, silent: time.Second})
	require.NoError(t, err)
	t.Cleanup(e.stop)
	d := &aDaemon{world: w, i: i, edge: e, core: &w.b.core}
	d.put(container(hexID(1), "web"))
	c := d.dial()
	_, err = c.Get(within(t, patience), "container", "web")
	require.NoError(t, err)
	goroutines := runtime.NumGoroutine()
	wire := newWire(t, e.file.Address)
	var streams []remote.Remoting_ReceiveClient
	var conns []*grpc.ClientConn
	for n := range 10 {
		conn, err := grpc.NewClient(wire.address, grpc.WithTransportCredentials(certified(e.file)))
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		s, err := remote.NewRemotingClient(conn).Receive(context.Background())
		require.NoError(t, err)
		require.NoError(t, s.Send(hello(fmt.Sprintf("127.0.0.1:%d", 1+n))))
		_, err = s.Recv()
		require.NoError(t, err)
		streams, conns = append(streams, s), append(conns, conn)
	}
	known := func() int { return len(e.out.addresses()) }
	require.Equal(t, 11, known())
	wire.freeze()
	require.Eventually(t, func() bool { return known() == 1 }, patience, 10*time.Millisecond, "only who answers is left")
	_, err = c.Get(within(t, patience), "container", "web")
	require.NoError(t, err)
	wire.cut()
	for _, s := range streams {
		_, err := s.Recv()
		require.Equal(t, codes.Unavailable, status.Code(err))
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+8 }, patience, 10*time.Millisecond)
}

// wire is a line to the daemon that can freeze: what is sent is taken, and nothing arrives.
type wire struct {
	address string
	l       net.Listener
	frozen  chan struct{}

	mu    sync.Mutex
	conns []net.Conn
}

func newWire(t *testing.T, to string) *wire {
	l, err := net.Listen("tcp", loopback+":0")
	require.NoError(t, err)
	w := &wire{address: l.Addr().String(), l: l, frozen: make(chan struct{})}
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				_ = a.Close()
				return
			}
			w.mu.Lock()
			w.conns = append(w.conns, a, b)
			w.mu.Unlock()
			go w.carry(a, b)
			go w.carry(b, a)
		}
	}()
	t.Cleanup(w.cut)
	return w
}

func (w *wire) carry(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		select {
		case <-w.frozen:
			continue
		default:
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (w *wire) freeze() { close(w.frozen) }

func (w *wire) cut() {
	_ = w.l.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.Close()
	}
}

// waiting is what waits for each peer, in bytes.
func (o *outbox) waiting() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := map[string]int{}
	for address, bytes := range o.unread {
		all[address] = bytes
	}
	return all
}

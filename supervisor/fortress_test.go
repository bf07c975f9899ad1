package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/remote"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpccreds "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
	"github.com/rdd-desktop/rdd/vmdriver/simulated"
)

// patience is how long a test waits for what must come soon; it is a limit, never a pause.
const patience = 30 * time.Second

// fortress is the whole tree behind its real port, with a client that works all the time.
type fortress struct {
	t      *testing.T
	world  *sim.Engine
	rdd    *Rdd
	client *Client
	file   *edgeFile
	errors *errorLog
	answer atomic.Int64 // what the client was answered
	lost   chan error   // why it stopped
}

func besieged(t *testing.T) *fortress {
	i := newInstance(t)
	f := &fortress{t: t, world: sim.New(sim.Options{}), errors: &errorLog{}, lost: make(chan error, 2)}
	_, err := f.world.Import("busybox", "")
	require.NoError(t, err)
	f.run("web")
	f.rdd, err = Start(t.Context(), Config{Instance: &i, Edge: true, Log: slog.New(f.errors), Dialer: f.world.Dialer(), TestHooks: true,
		Drivers: map[string]vmdriver.Driver{messages.DriverSimulated: simulated.Around(f.world)}})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, f.rdd.Stop(ctx))
		f.world.Close()
	})
	_, err = f.rdd.Client().Set(t.Context(), messages.SetRequest{Patch: []byte(`{"running":true,"virtualMachine":{"driver":"simulated"}}`)})
	require.NoError(t, err)
	_, err = f.rdd.Client().WaitSettled(t.Context(), SettleOptions{Timeout: patience})
	require.NoError(t, err)
	f.file, err = readEdgeFile(i.Edge())
	require.NoError(t, err)
	f.client, err = Dial(within(t, patience), i)
	require.NoError(t, err)
	f.work()
	return f
}

func (f *fortress) run(name string) string { return f.runWith(name, nil) }

func (f *fortress) runWith(name string, labels map[string]string) string {
	id, err := f.world.Run(sim.ContainerOptions{Name: name, Image: "busybox", Labels: labels})
	require.NoError(f.t, err)
	return id
}

// work lets the client read, and watch, until the test ends; it stops at its first error.
func (f *fortress) work() {
	ctx, cancel := context.WithCancel(context.Background())
	watch, err := f.client.Watch(ctx, "container", WatchOptions{Bookmarks: true})
	require.NoError(f.t, err)
	var done sync.WaitGroup
	until := func(what string, once func() error) {
		done.Go(func() {
			for ctx.Err() == nil {
				if err := once(); err != nil && ctx.Err() == nil {
					f.lost <- fmt.Errorf("%s: %w", what, err)
					return
				}
				f.answer.Add(1)
			}
		})
	}
	until("get", func() error {
		patient, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		_, err := f.client.Get(patient, "container", "web")
		return err
	})
	until("watch", func() error {
		_, err := watch.Next(ctx)
		return err
	})
	f.t.Cleanup(func() {
		cancel()
		done.Wait()
		_ = f.client.Close()
	})
}

// unharmed requires that nobody but the attacker noticed: the client goes on, the mirror too, no actor failed, nothing is
// logged as an error.
func (f *fortress) unharmed(after string) {
	f.t.Helper()
	before := f.answer.Load()
	require.Eventually(f.t, func() bool { return f.answer.Load() > before+5 || len(f.lost) > 0 }, patience, time.Millisecond, after)
	select {
	case err := <-f.lost:
		require.NoError(f.t, err, after)
	default:
	}
	require.Zero(f.t, restarts(f.rdd.house.Nodes.Tree()), after)
	require.Empty(f.t, f.errors.all(), after)
}

// mirrors requires that the tree still works from end to end.
func (f *fortress) mirrors() {
	f.t.Helper()
	id := f.run("after")
	require.Eventually(f.t, func() bool {
		_, err := f.client.Get(f.t.Context(), "container", id)
		return err == nil
	}, patience, 5*time.Millisecond)
}

func restarts(n messages.TreeNode) int {
	sum := n.Restarts
	for _, c := range n.Children {
		sum += restarts(c)
	}
	return sum
}

// errorLog keeps what is logged as an error.
type errorLog struct {
	mu   sync.Mutex
	said []string
}

func (*errorLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }
func (e *errorLog) WithAttrs([]slog.Attr) slog.Handler         { return e }
func (e *errorLog) WithGroup(string) slog.Handler              { return e }
func (e *errorLog) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	e.mu.Lock()
	defer e.mu.Unlock()
	e.said = append(e.said, text)
	return nil
}

func (e *errorLog) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.said
}

// certified are the credentials that edge.json gives.
func certified(file *edgeFile) grpccreds.TransportCredentials {
	return grpccreds.NewTLS(must(file.Client.parse(file.ID)).dialConfig())
}

// connect makes a connection of its own; anything may be sent on it.
func (f *fortress) connect(creds grpccreds.TransportCredentials) *grpc.ClientConn {
	conn, err := grpc.NewClient(f.file.Address, grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBatch)))
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (f *fortress) open(conn *grpc.ClientConn) remote.Remoting_ReceiveClient {
	s, err := f.receive(conn)
	require.NoError(f.t, err)
	return s
}

func (f *fortress) receive(conn *grpc.ClientConn) (remote.Remoting_ReceiveClient, error) {
	return remote.NewRemotingClient(conn).Receive(within(f.t, patience))
}

// greeted is a stream of a peer that the daemon takes for one of its clients.
func (f *fortress) greeted(address string) remote.Remoting_ReceiveClient {
	s := f.open(f.connect(certified(f.file)))
	require.NoError(f.t, s.Send(hello(address)))
	m, err := s.Recv()
	require.NoError(f.t, err)
	require.False(f.t, m.GetConnectResponse().GetBlocked())
	return s
}

// ends requires that the stream ends with one of the codes.
func ends(t *testing.T, what string, s remote.Remoting_ReceiveClient, want ...codes.Code) {
	t.Helper()
	var err error
	for err == nil {
		_, err = s.Recv() // a goodbye, at most
	}
	require.Contains(t, want, status.Code(err), "%s: %v", what, err)
}

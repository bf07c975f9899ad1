package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	grpccreds "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// EdgeConfig says where the edge makes itself known.
type EdgeConfig struct {
	// File is the path of edge.json; empty = none is written (tests).
	File string
	// Boot of this serve.
	Boot int64
	// Log, if nil, discards.
	Log *slog.Logger
	// silent is how long a peer may be silent before it is asked for a sign of life, and again how long that may take. Default 30 s.
	silent time.Duration
}

// Bounds of what a peer may have of us.
const (
	// maxRequestBatch is the most bytes of one batch of requests from a peer.
	maxRequestBatch = 16 << 20
	// greetTime is how long a connection may take to prove who it is.
	greetTime = 15 * time.Second
	// maxSilence is the default of EdgeConfig.silent.
	maxSilence = 30 * time.Second
)

// edge is the second actor system: the remote and the gateway. It gets a backend, never an address in core.
type edge struct {
	cfg     EdgeConfig
	file    *edgeFile
	system  *actor.ActorSystem
	remote  *remote.Remote
	gateway *actor.PID
	out     *outbox
	cancel  context.CancelFunc
	once    sync.Once
}

// starting serialises starts of the library's remote in one process: each replaces the process-wide grpc logger.
var starting sync.Mutex

// startEdge listens on 127.0.0.1 and writes edge.json. The library cannot be stopped without a trace: what is left of it
// after stop is idle memory, and stop may take up to 3 s.
func startEdge(ctx context.Context, b backend, cfg EdgeConfig) (_ *edge, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.silent == 0 {
		cfg.silent = maxSilence
	}
	id, client, serveID, err := newAuthority(time.Now())
	if err != nil {
		return nil, fmt.Errorf("make the edge's certificates: %w", err)
	}
	start, err := processStart(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("read our own start time: %w", err)
	}
	e := &edge{cfg: cfg, out: newOutbox()}
	load := &gatewayLoad{}
	f := newFilter(cfg.Log, gatewayName, gatewayAccept)
	f.met, f.parted, f.reads = e.out.met, e.parted, e.out.reads
	f.pace = func(ctx context.Context) {
		if load.queued.Load() >= maxQueue {
			_ = sleep(ctx, 20*time.Millisecond)
		}
	}
	e.system, e.remote, err = startRemote(cfg.Log, f, maxRequestBatch,
		grpccreds.NewTLS(id.acceptConfig()), grpccreds.NewTLS(id.dialConfig()),
		remoteOptions{
			server: []grpc.ServerOption{grpc.ConnectionTimeout(greetTime),
				grpc.KeepaliveParams(keepalive.ServerParameters{Time: cfg.silent, Timeout: cfg.silent})},
			dial: []grpc.DialOption{grpc.WithStreamInterceptor(e.out.stream)},
		})
	if err != nil {
		return nil, err
	}
	e.system.EventStream.Subscribe(func(m any) {
		if t, ok := m.(*remote.EndpointTerminatedEvent); ok {
			e.out.ended(t.Address)
			f.hangUp(t.Address) // what was to go over that connection is lost, and the peer may not have noticed
		}
	})
	ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	props := actor.PropsFromProducer(gatewayProducer(ctx, b, cfg.Log, load, e.out),
		actor.WithGuardian(restartAlways{log: cfg.Log}))
	if e.gateway, err = e.system.Root.SpawnNamed(props, gatewayName); err != nil {
		e.stop()
		return nil, fmt.Errorf("spawn the gateway: %w", err)
	}
	e.file = &edgeFile{
		ID: serveID, Address: e.system.Address(), Boot: cfg.Boot, PID: os.Getpid(), ProcessStart: start,
		WireVersions: WireVersions(), Client: client,
	}
	if cfg.File != "" {
		if err := e.file.write(cfg.File); err != nil {
			e.stop()
			return nil, fmt.Errorf("write %s: %w", cfg.File, err)
		}
	}
	return e, nil
}

// remoteOptions are what one side of the edge wants beyond what both have.
type remoteOptions struct {
	server []grpc.ServerOption
	dial   []grpc.DialOption
}

// startRemote starts an actor system with a listener on 127.0.0.1, before anything is spawned in it.
func startRemote(log *slog.Logger, f *filter, maxBytes int, accept, dial grpccreds.TransportCredentials, more remoteOptions) (
	_ *actor.ActorSystem, _ *remote.Remote, err error) {
	starting.Lock()
	defer starting.Unlock()
	defer func() {
		if p := recover(); p != nil { // it panics when it cannot listen
			err = fmt.Errorf("start the edge: %v", p)
		}
	}()
	door := &doorbell{TransportCredentials: accept, rung: make(chan struct{})}
	library := slog.New(quiet{log.Handler()})
	system := actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return library }),
		actor.WithDeadLetterRequestLogging(false))
	f.own = system.Address
	cfg := remote.Configure(loopback, 0,
		remote.WithServerOptions(append(append(f.options(), more.server...),
			grpc.Creds(door), grpc.MaxRecvMsgSize(maxBytes), grpc.MaxConcurrentStreams(16))...),
		remote.WithDialOptions(append(more.dial, grpc.WithTransportCredentials(dial), grpc.WithNoProxy())...),
		remote.WithEndpointWriterBatchSize(batchSize), remote.WithEndpointWriterQueueSize(1024))
	cfg.MaxRetryCount = 1
	r := remote.NewRemote(system, cfg)
	r.Start()
	return system, r, door.ring(system.Address())
}

// parted drops our own connection to a peer that left: the library would try to reach it for ever.
func (e *edge) parted(address string) {
	if e.out.parted(address) {
		e.system.EventStream.Publish(&remote.EndpointTerminatedEvent{Address: address})
	}
}

// stop removes edge.json, answers nobody any more and closes the listener.
func (e *edge) stop() {
	e.once.Do(func() {
		if e.cfg.File != "" && e.file != nil {
			removeEdgeFile(e.cfg.File, e.file.ID)
		}
		if e.cancel != nil {
			e.cancel()
		}
		if e.gateway != nil {
			bounded(2*time.Second, func() { _ = e.system.Root.PoisonFuture(e.gateway).Wait() })
		}
		peers := e.out.addresses()
		if len(peers) > 0 {
			time.Sleep(100 * time.Millisecond) // the last answers leave
		}
		for _, address := range peers {
			e.system.EventStream.Publish(&remote.EndpointTerminatedEvent{Address: address})
		}
		// Not its graceful way, which drops what its own goroutines still use.
		bounded(time.Second, func() { e.remote.Shutdown(false) })
		e.system.Shutdown()
	})
}

// bounded waits for f, but no longer than d.
func bounded(d time.Duration, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

// restartAlways is the gateway's supervision: it holds nothing worth keeping, and without it nobody can reach the daemon.
type restartAlways struct{ log *slog.Logger }

// HandleFailure implements actor.SupervisorStrategy.
func (s restartAlways) HandleFailure(_ *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID,
	_ *actor.RestartStatistics, reason, _ any) {
	s.log.Error("the gateway failed and is restarted", "actor", child.Id, "reason", fmt.Sprint(reason), "stack", string(debug.Stack()))
	supervisor.RestartChildren(child)
}

// quiet passes on everything the library logs as Debug: what matters to anyone else is logged by us.
type quiet struct{ slog.Handler }

// Enabled implements slog.Handler.
func (q quiet) Enabled(ctx context.Context, _ slog.Level) bool {
	return q.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle implements slog.Handler.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return q.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/uuid"

	"github.com/rdd-desktop/rdd/actors/app"
	"github.com/rdd-desktop/rdd/actors/calls"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/engine"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/mirror"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/actors/vm"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/moby"
	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// callsLimit is how long calls that change the engine may still run when everything else has ended.
const callsLimit = 2 * time.Second

// Config of a running rdd. The zero value works: everything in memory, the engine that DOCKER_HOST or the current Docker context
// names, no edge.
type Config struct {
	// Instance whose directory, lock and journal are used. Nil = no file at all: intents and App.spec end with the process.
	Instance *Instance
	// Log. Nil = discard.
	Log *slog.Logger
	// Edge lets other processes of the user in (the command line needs it); it needs an Instance. Off = no remote, no
	// listener, no process-wide side effect.
	Edge bool
	// TestHooks allows Client.Debug.
	TestHooks bool
	// TestKill, with TestHooks, ends the process at a point of its run, e.g. "journal:3". Empty = nowhere.
	TestKill string
	// Version is shown by Client.Version.
	Version string
	// Drivers by name. Nil = those of this build: external, and with an Instance on Linux native.
	Drivers map[string]vmdriver.Driver
	// Dialer makes clients of the engine. Nil = Docker's API.
	Dialer dockerio.Dialer
	// Intervals of the watcher.
	Intervals Intervals
	// OnShutdown is called when a client asks the daemon to end; it should call Detach if the engine is to be kept, else Stop. Nil =
	// Client.Shutdown is refused.
	OnShutdown func(keepEngine bool)
}

// Intervals are the clocks of the watcher; zero = default.
type Intervals struct {
	// Audit: how often the mirror is compared with whole lists. Default 60 s, ±10 % jitter.
	Audit time.Duration
	// Heartbeat: how often the engine is pinged. Default 10 s. A frozen engine is noticed after at most this and 2 s.
	Heartbeat time.Duration
}

// Rdd is a running tree.
type Rdd struct {
	cfg    Config
	house  *kit.House
	calls  *calls.Scheduler
	table  *store.Table
	client *Client
	edge   *edge
	lock   *flock.Flock
	file   journal.Backend
	meta   journal.Meta
	failed chan error
	once   sync.Once
	err    error
}

// Start runs rdd until Stop. It returns when every actor of the tree has started, which does not mean that an engine is connected:
// wait for that with Client.WaitSettled or a condition.
//
// Errors: Forbidden (the instance belongs to somebody else), Invalid (paths too long), Conflict (another process holds the
// instance), Internal (journal unreadable; nothing was changed).
func Start(ctx context.Context, cfg Config) (_ *Rdd, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Edge && cfg.Instance == nil {
		return nil, messages.NewError(messages.CodeBadRequest, "start", "", "rdd", "an edge needs an Instance to be found by")
	}
	if cfg.Drivers == nil {
		cfg.Drivers = drivers(cfg.Instance, cfg.Log)
	}
	if cfg.Dialer == nil {
		cfg.Dialer = moby.Dialer{}
	}
	r := &Rdd{cfg: cfg, failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			r.release()
		}
	}()
	if err := r.open(); err != nil {
		return nil, err
	}
	if err := r.startTree(ctx); err != nil {
		return nil, err
	}
	backend := newLocalBackend(r.core())
	r.client = newLocalClient(backend)
	if cfg.Edge {
		r.edge, err = startEdge(ctx, backend, EdgeConfig{File: cfg.Instance.Edge(), Boot: r.meta.Boot, Log: cfg.Log})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start the edge: %w", err), r.house.Stop(ctx))
		}
	}
	return r, nil
}

// open takes the instance's lock and opens its journal; without an instance both are in memory.
func (r *Rdd) open() (err error) {
	i := r.cfg.Instance
	if i == nil {
		r.file, r.meta = journal.Memory()
		return nil
	}
	if err := i.Check(); err != nil {
		return err
	}
	if err := os.MkdirAll(i.Dir(), 0o700); err != nil {
		return messages.WrapError(messages.CodeInternal, "create", "instance directory", i.Dir(), err)
	}
	if r.lock, err = lockInstance(*i, "start"); err != nil {
		return err
	}
	r.file, r.meta, err = journal.Open(i.Journal())
	return err
}

func (r *Rdd) startTree(ctx context.Context) error {
	cfg := r.cfg
	var kill kit.KillPoint
	if cfg.TestHooks {
		var err error
		if kill, err = kit.ParseKillPoint(cfg.TestKill); err != nil {
			return err
		}
	}
	r.house = kit.NewHouse(kit.HouseConfig{Log: cfg.Log, Hooks: cfg.TestHooks, Kill: kill, Lab: kit.LabOf(ctx), OnFailed: func(err error) {
		select {
		case r.failed <- err:
		default:
		}
	}})
	r.table = store.NewTable(r.meta.Boot)
	r.calls = calls.New(r.house.Hooks)
	name := uuid.NewString() // without an instance nothing outlives the process, uids neither
	if cfg.Instance != nil {
		name = cfg.Instance.Name
	}
	return r.house.Root(ctx, tree(parts{
		journal: r.file,
		table:   r.table,
		app:     app.Deps{Table: r.table, Resolve: r.resolve, Backends: r.backends, Sizeless: r.sizeless},
		vm:      vm.Deps{Drivers: cfg.Drivers},
		engine: &engine.Deps{Dialer: cfg.Dialer, Calls: r.calls, Table: r.table,
			Audit: cfg.Intervals.Audit, Heartbeat: cfg.Intervals.Heartbeat},
		mirror: &mirror.Deps{Table: r.table, Calls: r.calls, Now: time.Now, Instance: name},
	}))
}

// Client talks to this rdd without leaving the process.
func (r *Rdd) Client() *Client { return r.client }

// Failed tells, once, that a part of the tree failed too often to be restarted. The rest goes on; the embedder should Stop.
func (r *Rdd) Failed() <-chan error { return r.failed }

// Stop ends the tree in reverse start order, then the engine if it is ours, then gives the journal and the lock back. App.spec.running
// stays as it is: the next Start goes on from there. It is idempotent; what did not stop in time is in the error.
func (r *Rdd) Stop(ctx context.Context) error { return r.end(ctx, false) }

// Detach is Stop without the end of the engine: its containers run on, and the next Start adopts it.
func (r *Rdd) Detach(ctx context.Context) error { return r.end(ctx, true) }

func (r *Rdd) end(ctx context.Context, keepEngine bool) error {
	r.once.Do(func() {
		if r.edge != nil {
			r.edge.stop()
		}
		r.err = r.house.Stop(ctx)
		running, cancel := context.WithTimeout(ctx, callsLimit)
		r.calls.Shutdown(running)
		cancel()
		if !keepEngine {
			_, err := endEngines(ctx, r.cfg.Log, r.cfg.Drivers)
			r.err = errors.Join(r.err, err)
		}
		r.release()
	})
	return r.err
}

func (r *Rdd) release() {
	if r.file != nil {
		_ = r.file.Close() // closed by its actor already, unless the tree never started
	}
	if r.lock != nil {
		unlockInstance(r.lock)
	}
}

// core is the tree as the client's backend sees it.
func (r *Rdd) core() Core {
	return Core{
		Table:  r.table,
		Set:    r.set,
		Delete: r.delete,
		Write:  r.write,
		Action: r.action,
		Tree:   r.house.Nodes.Tree,
		Events: r.events,
		Version: func(context.Context) (*messages.VersionReply, error) {
			return r.version(), nil
		},
		Debug:    r.debug,
		Shutdown: r.shutdown,
	}
}

func (r *Rdd) set(ctx context.Context, m messages.SetRequest) (*messages.SetReply, error) {
	answer, err := r.house.Ask(ctx, control.App, app.Set{Request: m})
	if err != nil {
		return nil, err
	}
	reply, ok := answer.(messages.SetReply)
	if !ok {
		return nil, messages.NewError(messages.CodeInternal, "set", messages.KindApp, messages.AppName, fmt.Sprintf("unexpected answer %T", answer))
	}
	return &reply, nil
}

// ownersOf is whom to ask about a kind's resources.
var ownersOf = map[string]string{
	messages.KindContainer: control.Containers, messages.KindImage: control.Images,
	messages.KindVolume: control.Volumes, messages.KindContainerNamespace: control.Moby,
}

func (r *Rdd) action(ctx context.Context, item store.Item, m messages.ActionRequest) (messages.Object, error) {
	name := item.Object.GetName()
	answer, err := r.house.Ask(ctx, control.Containers, mirror.Act{Owner: item.Owner, Name: name, Request: m})
	if err != nil {
		return nil, err
	}
	done, ok := answer.(mirror.Acted)
	if !ok {
		return nil, messages.NewError(messages.CodeInternal, m.Action, messages.KindContainer, name, fmt.Sprintf("unexpected answer %T", answer))
	}
	return done.Object, done.Err
}

func (r *Rdd) delete(ctx context.Context, kind messages.Kind, obj messages.Object, owner string, m messages.DeleteRequest) (messages.Object, error) {
	path := ownersOf[kind.Name]
	if path == "" {
		return nil, messages.NewError(messages.CodeForbidden, "delete", kind.Name, obj.GetName(), "it cannot be deleted")
	}
	answer, err := r.house.Ask(ctx, path, mirror.Delete{Owner: owner, Name: obj.GetName(), UID: string(m.UID), Detach: m.Detach})
	if err != nil {
		return nil, err
	}
	done, ok := answer.(mirror.Deleted)
	switch {
	case !ok:
		return nil, messages.NewError(messages.CodeInternal, "delete", kind.Name, obj.GetName(), fmt.Sprintf("unexpected answer %T", answer))
	case done.Err != nil:
		return nil, done.Err
	case done.Object == nil:
		return obj, nil
	}
	return done.Object, nil
}

// events waits for news, if asked to, for up to 5 s.
func (r *Rdd) events(ctx context.Context, m messages.EventsRequest) (messages.EventsReply, error) {
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	for {
		changed := r.house.Events.Changed()
		reply := r.house.Events.Since(m.Since)
		if len(reply.Events) > 0 || !m.Wait {
			return reply, nil
		}
		select {
		case <-changed:
		case <-deadline.C:
			return reply, nil
		case <-ctx.Done():
			return reply, ctx.Err()
		}
	}
}

func (r *Rdd) version() *messages.VersionReply {
	oldest, newest := moby.APIRange()
	v := &messages.VersionReply{
		Version: r.cfg.Version, WireVersions: WireVersions(), Operations: Operations(), Boot: r.meta.Boot,
		PID: os.Getpid(), EngineAPIRange: oldest + "–" + newest,
	}
	if r.cfg.Instance != nil {
		v.Instance = r.cfg.Instance.Name
	}
	if it, ok := r.table.Load().Get(store.Key{Kind: messages.KindApp, Name: messages.AppName}); ok {
		v.Engine = it.Object.(*messages.App).Status.Engine.DeepCopy()
	}
	return v
}

func (r *Rdd) debug(_ context.Context, m messages.DebugRequest) (*messages.DebugReply, error) {
	if r.house.Hooks == nil {
		return nil, messages.NewError(messages.CodeForbidden, "debug", "actor", m.Actor, "test hooks are off")
	}
	r.house.Hooks.Arm(m)
	return &messages.DebugReply{Armed: m.Action + " " + m.Actor}, nil
}

func (r *Rdd) shutdown(_ context.Context, m messages.ShutdownRequest) (*messages.ShutdownReply, error) {
	if r.cfg.OnShutdown == nil {
		return nil, messages.NewError(messages.CodeForbidden, "shut down", "", "rdd", "it is embedded: its owner stops it")
	}
	time.AfterFunc(50*time.Millisecond, func() { r.cfg.OnShutdown(m.KeepEngine) }) // the reply goes first
	return &messages.ShutdownReply{PID: os.Getpid()}, nil
}

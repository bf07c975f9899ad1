package simulated

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/dockerio/sim/server"
	"github.com/rdd-desktop/rdd/vmdriver"
)

// How soon after a change the objects are saved: at first, and as a multiple of what saving takes.
const (
	saveDelay = 200 * time.Millisecond
	saveShare = 20
)

// vm is one run of an engine.
type vm struct {
	engine *sim.Engine
	server *server.Server
	save   func(*sim.Engine) error
	log    *slog.Logger
	once   sync.Once
	ended  chan struct{} // closed when it went down, by Stop or by itself
	saver  sync.WaitGroup
	stop   context.CancelFunc
}

func run(engine *sim.Engine, l net.Listener, save func(*sim.Engine) error, log *slog.Logger) *vm {
	v := &vm{engine: engine, server: server.New(engine), save: save, log: log, ended: make(chan struct{})}
	v.server.Serve(l)
	var ctx context.Context
	ctx, v.stop = context.WithCancel(context.Background())
	v.saver.Go(func() { v.keepSaved(ctx) })
	return v
}

func (v *vm) observe() vmdriver.Observation {
	select {
	case <-v.ended:
		return vmdriver.Observation{Phase: vmdriver.Broken, Message: "the simulated engine has ended"}
	default:
		return vmdriver.Observation{Phase: vmdriver.Running}
	}
}

// keepSaved saves the objects after each burst of changes, so that a process that is killed loses little.
func (v *vm) keepSaved(ctx context.Context) {
	pause := saveDelay
	for {
		changed := v.engine.Changed()
		began := time.Now()
		if err := v.save(v.engine); err != nil {
			v.log.Warn("the simulated engine's objects could not be saved", "err", err)
		}
		pause = max(saveDelay, saveShare*time.Since(began))
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// down ends the engine: in order, or as a power failure does.
func (v *vm) down(force bool) (err error) {
	v.once.Do(func() {
		v.stop()
		v.saver.Wait()
		if force {
			v.engine.PowerOff()
		} else {
			v.engine.Shutdown()
		}
		err = v.server.Close()
		close(v.ended)
	})
	return err
}

// end is down, and saves what is left.
func (v *vm) end(force bool) error {
	err := errors.Join(v.down(force), v.save(v.engine))
	v.engine.Close()
	return err
}

package kit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// Stop ends the tree in reverse start order: one child of the root, wait for it to have terminated, the next; then the root,
// then the actor system. A child that takes longer than its Shutdown is logged, named in the error, and left behind. When ctx
// ends nothing is waited for any more. Only the first call does it; others wait for it. Never call it in an actor's turn.
func (h *House) Stop(ctx context.Context) error {
	h.stopMu.Lock()
	first := h.stopping.CompareAndSwap(false, true)
	h.stopMu.Unlock()
	if first {
		h.stopErr = h.stop(ctx)
		close(h.stopped)
		return h.stopErr
	}
	select {
	case <-h.stopped:
		return h.stopErr
	case <-ctx.Done():
		return fmt.Errorf("stop house: %w", context.Cause(ctx))
	}
}

func (h *House) stop(ctx context.Context) error {
	var errs []error
	if root, pid := h.Nodes.rootAt(); pid != nil {
		for _, c := range slices.Backward(h.Nodes.below(root)) {
			errs = append(errs, h.stopOne(ctx, c.pid, c.spec.shutdown()))
		}
		errs = append(errs, h.stopOne(ctx, pid, root.spec.shutdown()))
	}
	h.end()
	if n := h.work.wait(ctx); n > 0 {
		errs = append(errs, fmt.Errorf("stop house: %d calls still running", n))
	}
	h.System.Shutdown()
	return errors.Join(errs...)
}

func (h *House) stopOne(ctx context.Context, pid *actor.PID, within time.Duration) error {
	w := h.newWaiter()
	defer h.System.ProcessRegistry.Remove(w.pid)
	h.sendSystem(pid, &actor.Watch{Watcher: w.pid})
	h.System.Root.Stop(pid)
	limit := time.NewTimer(within)
	defer limit.Stop()
	err := fmt.Errorf("stop %s: not done after %v", pid.Id, within)
	select {
	case <-w.answer:
		h.Hooks.Resume(pid.Id, "stop")
		return nil
	case <-limit.C:
	case <-ctx.Done():
		err = fmt.Errorf("stop %s: %w", pid.Id, context.Cause(ctx))
	}
	h.Log.Warn("actor does not stop, going on without it", "actor", pid.Id, "error", err)
	return err
}

func (r *Registry) rootAt() (*node, *actor.PID) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.root == nil {
		return nil, nil
	}
	return r.root, r.root.pid
}

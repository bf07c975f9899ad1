package kit

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/rdd-desktop/rdd/messages"
)

// askDefault is the deadline of an Ask whose context has none.
const askDefault = 10 * time.Second

// Ask sends msg to the actor at path and waits for the answer. Never call it in an actor's turn.
//
// An error answer (*messages.Error or any error) is returned as error. Nobody there, or an actor that terminates before it
// answered, is Unavailable; the end of ctx (default 10 s) is ctx's error. No goroutine is left behind.
func (h *House) Ask(ctx context.Context, path string, msg any) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("ask %s: %w", path, context.Cause(ctx))
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askDefault)
		defer cancel()
	}
	w := h.newWaiter()
	defer h.System.ProcessRegistry.Remove(w.pid)
	to := h.pid(path)
	h.sendSystem(to, &actor.Watch{Watcher: w.pid})
	h.System.Root.RequestWithCustomSender(to, msg, w.pid)
	select {
	case <-ctx.Done():
		h.sendSystem(to, &actor.Unwatch{Watcher: w.pid})
		return nil, fmt.Errorf("ask %s: %w", path, context.Cause(ctx))
	case answer := <-w.answer:
		h.Hooks.Resume(path, "ask")
		switch a := answer.(type) {
		case *actor.Terminated, *actor.DeadLetterResponse:
			return nil, unavailable(path)
		case error:
			h.sendSystem(to, &actor.Unwatch{Watcher: w.pid})
			return nil, a
		}
		h.sendSystem(to, &actor.Unwatch{Watcher: w.pid})
		return answer, nil
	}
}

// waiter is a process that takes the first message it gets: the answer, or the news that none can come. The library's Future
// does not hear of a receiver that stops, and writes its result outside its lock.
type waiter struct {
	pid    *actor.PID
	answer chan any
}

const waiterPrefix = "ask$"

func (h *House) newWaiter() *waiter {
	w := &waiter{answer: make(chan any, 1)}
	w.pid, _ = h.System.ProcessRegistry.Add(w, fmt.Sprint(waiterPrefix, Token()))
	return w
}

// waits says whether a sender is somebody's Ask, who should hear of a failure instead of waiting for a timeout.
func waits(sender *actor.PID) bool {
	return sender != nil && strings.HasPrefix(sender.Id, waiterPrefix)
}

// SendUserMessage implements actor.Process.
func (w *waiter) SendUserMessage(_ *actor.PID, msg any) { w.take(actor.UnwrapEnvelopeMessage(msg)) }

// SendSystemMessage implements actor.Process.
func (w *waiter) SendSystemMessage(_ *actor.PID, msg any) {
	if t, ok := msg.(*actor.Terminated); ok {
		w.take(t)
	}
}

// Stop implements actor.Process.
func (w *waiter) Stop(*actor.PID) {}

func (w *waiter) take(msg any) {
	select {
	case w.answer <- msg:
	default: // only the first counts
	}
}

// actorFailed is the answer to a request whose handling failed.
func actorFailed(path string, f *Failure) *messages.Error {
	return &messages.Error{
		Class: messages.ClassTransient, Code: messages.CodeInternal, Name: path, Message: "actor failed: " + f.Error(),
	}
}

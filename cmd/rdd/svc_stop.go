package main

import (
	"context"
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

const stopPause = 20 * time.Millisecond

func newSvcStop(c *cli) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "stop", Short: "Stop the daemon and the engine it runs", Args: cobra.NoArgs,
		Long: "Stop the daemon and the engine it runs, and wait for its end. App.spec.running stays as it is: the next start goes on from\n" +
			"there. A daemon that does not answer is told by signals: SIGTERM, and SIGKILL after the time-out.",
		RunE: func(cmd *cobra.Command, _ []string) error { return c.svcStop(cmd.Context(), timeout) },
	}
	cmd.Flags().DurationVar(&timeout, "timeout", stopLimit, "how long to wait for its end; 0 = without limit")
	return cmd
}

func (c *cli) svcStop(ctx context.Context, timeout time.Duration) error {
	i, err := c.theInstance()
	if err != nil {
		return err
	}
	if err := i.Check(); err != nil {
		return err
	}
	told, err := shutdown(ctx, i)
	if err == nil {
		if err := waitForEnd(ctx, told, timeout); err != nil {
			return err
		}
		c.printf("rdd %s stopped\n", i.Name)
		return nil
	}
	if !lost(err) && !errors.Is(err, messages.ErrTimeout) {
		return err
	}
	p, ok := holder(i)
	if !ok {
		if errors.Is(err, messages.ErrDaemonNotRunning) {
			c.printf("rdd %s not running\n", i.Name)
			return nil
		}
		return err
	}
	c.notef("the daemon does not answer (%v); sending SIGTERM to process %d", err, p.pid)
	return c.stopBySignal(ctx, i, p, timeout)
}

// shutdown asks the daemon over the edge to end, and tells which process will.
func shutdown(ctx context.Context, i supervisor.Instance) (process, error) {
	client, err := dialInstance(ctx, i)
	if err != nil {
		return process{}, err
	}
	v, err := getVersion(ctx, client)
	if err != nil {
		return process{}, err
	}
	p := process{pid: v.PID}
	p.start, _ = processStart(v.PID)
	ctx, cancel := request(ctx)
	defer cancel()
	if _, err := client.Shutdown(ctx); err != nil && !lost(err) {
		return p, err
	}
	return p, nil
}

// process is one run of a process: its pid may be given to another one, pid and start time together may not.
type process struct {
	pid   int
	start string
}

// runs reports whether it still does.
func (p process) runs() bool {
	start, ok := processStart(p.pid)
	return ok && start == p.start
}

func waitForEnd(ctx context.Context, p process, timeout time.Duration) error {
	begin := time.Now()
	for p.runs() {
		if timeout > 0 && time.Since(begin) > timeout {
			e := messages.NewError(messages.CodeTimeout, "stop", "daemon", "",
				"process "+strconv.Itoa(p.pid)+" has not ended after "+short(timeout)+"; it goes on stopping")
			e.Details = map[string]string{"pid": strconv.Itoa(p.pid)}
			return e
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(stopPause):
		}
	}
	return nil
}

// stopBySignal ends a daemon that no longer listens.
func (c *cli) stopBySignal(ctx context.Context, i supervisor.Instance, p process, timeout time.Duration) error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := waitForEnd(ctx, p, timeout)
	if errors.Is(err, messages.ErrTimeout) {
		c.notef("process %d has not ended after %s; sending SIGKILL", p.pid, short(timeout))
		if err := p.signal(syscall.SIGKILL); err != nil {
			return err
		}
		err = waitForEnd(ctx, p, startLimit)
	}
	if err != nil {
		return err
	}
	c.printf("rdd %s stopped\n", i.Name)
	return nil
}

// signal sends s to this run of the process only: the handle is taken first, then what it holds is compared.
func (p process) signal(s os.Signal) error {
	h, err := os.FindProcess(p.pid)
	if err != nil {
		return nil
	}
	defer func() { _ = h.Release() }()
	if !p.runs() {
		return nil
	}
	if err := h.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return messages.WrapError(messages.CodeInternal, "signal", "process", strconv.Itoa(p.pid), err)
	}
	return nil
}

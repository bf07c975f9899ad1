package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

const stopPause = 20 * time.Millisecond

// stopping is how a daemon is ended.
type stopping struct {
	timeout    time.Duration
	keepEngine bool
}

func newSvcStop(c *cli) *cobra.Command {
	var how stopping
	cmd := &cobra.Command{
		Use: "stop", Short: "Stop the daemon and the engine it runs", Args: cobra.NoArgs,
		Long: "Stop the daemon and the engine it runs, and wait for the end of both. App.spec.running stays as it is: the next start goes on\n" +
			"from there. A daemon that does not answer is told by signals: SIGTERM, and SIGKILL after the time-out. An engine that\n" +
			"a daemon left running when it was killed is stopped too.",
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		i, err := c.checkedInstance()
		if err != nil {
			return err
		}
		word, err := c.stopDaemon(cmd.Context(), i, how)
		if err == nil {
			c.printf("rdd %s %s\n", i.Name, word)
		}
		return err
	}
	timeoutFlag(cmd, &how)
	cmd.Flags().BoolVar(&how.keepEngine, "keep-engine", false, "leave the engine and its containers running; the next start adopts it")
	return cmd
}

func timeoutFlag(cmd *cobra.Command, how *stopping) {
	cmd.Flags().DurationVar(&how.timeout, "timeout", stopLimit, "how long to wait for its end; 0 = without limit")
}

func newSvcRestart(c *cli) *cobra.Command {
	how := stopping{keepEngine: true}
	cmd := &cobra.Command{
		Use: "restart", Short: "Start the daemon anew; the engine and its containers run on", Args: cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		i, err := c.checkedInstance()
		if err != nil {
			return err
		}
		if _, err := c.stopDaemon(cmd.Context(), i, how); err != nil {
			return err
		}
		return c.svcStart(cmd.Context())
	}
	timeoutFlag(cmd, &how)
	return cmd
}

func newSvcDelete(c *cli) *cobra.Command {
	var how stopping
	cmd := &cobra.Command{
		Use: "delete", Short: "Stop the daemon and remove everything the instance has", Args: cobra.NoArgs,
		Long: "Stop the daemon, end the engine it runs, and remove everything the instance has: containers, images and volumes of that engine,\n" +
			"settings, logs. An engine that is not rdd's own is left as it is.",
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		i, err := c.checkedInstance()
		if err != nil {
			return err
		}
		how.keepEngine = true // its end needs no order: the data goes too
		if _, err := c.stopDaemon(cmd.Context(), i, how); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), stopLimit)
		defer cancel()
		if err := i.Delete(ctx, slog.New(slog.DiscardHandler)); err != nil {
			return err
		}
		c.printf("rdd %s deleted\n", i.Name)
		return nil
	}
	timeoutFlag(cmd, &how)
	return cmd
}

func (c *cli) checkedInstance() (supervisor.Instance, error) {
	i, err := c.theInstance()
	if err == nil {
		err = i.Check()
	}
	return i, err
}

// stopDaemon ends the daemon, if there is one, and then the engine, if that is wanted and one runs; the word says what was done.
func (c *cli) stopDaemon(ctx context.Context, i supervisor.Instance, how stopping) (word string, err error) {
	word, err = c.endDaemon(ctx, i, how)
	if err != nil || how.keepEngine {
		return word, err
	}
	// The daemon has done so; unless it was killed, or failed to.
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	left, err := i.StopEngine(ctx, slog.New(slog.DiscardHandler))
	if left && err == nil {
		word += "; its engine ran on, and is stopped now"
	}
	return word, err
}

func (c *cli) endDaemon(ctx context.Context, i supervisor.Instance, how stopping) (string, error) {
	told, err := shutdown(ctx, i, how.keepEngine)
	if err == nil {
		return "stopped", waitForEnd(ctx, told, how.timeout)
	}
	if !lost(err) && !errors.Is(err, messages.ErrTimeout) {
		return "", err
	}
	p, ok := holder(i)
	if !ok {
		if errors.Is(err, messages.ErrDaemonNotRunning) {
			return "not running", nil
		}
		return "", err
	}
	if how.keepEngine {
		c.notef("the daemon does not answer (%v); sending SIGKILL to process %d, which leaves the engine running", err, p.pid)
		return "killed", c.kill(ctx, p)
	}
	c.notef("the daemon does not answer (%v); sending SIGTERM to process %d", err, p.pid)
	return "stopped", c.stopBySignal(ctx, p, how.timeout)
}

// shutdown asks the daemon over the edge to end, and tells which process will.
func shutdown(ctx context.Context, i supervisor.Instance, keepEngine bool) (process, error) {
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
	if _, err := client.Shutdown(ctx, messages.ShutdownRequest{KeepEngine: keepEngine}); err != nil && !lost(err) {
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
func (c *cli) stopBySignal(ctx context.Context, p process, timeout time.Duration) error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := waitForEnd(ctx, p, timeout)
	if errors.Is(err, messages.ErrTimeout) {
		c.notef("process %d has not ended after %s; sending SIGKILL", p.pid, short(timeout))
		return c.kill(ctx, p)
	}
	return err
}

func (c *cli) kill(ctx context.Context, p process) error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	return waitForEnd(ctx, p, startLimit)
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

package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

func newRestart(c *cli) *cobra.Command {
	o := setOptions{wait: true}
	cmd := &cobra.Command{
		Use: "restart", Short: "Stop the container engine, then start it (set running=false, then running=true)", Args: cobra.NoArgs,
		Long: "Stop the container engine, wait until it has stopped, start it, and wait until all of it runs. When the stop fails or takes too\n" +
			"long, nothing is started: running stays false.",
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.restart(cmd.Context(), &o) }
	f := cmd.Flags()
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long to wait for both together; what goes on then is said. 0 = without limit")
	f.BoolVar(&o.noAutostart, "no-autostart", false, "fail when the daemon does not run")
	outputFlag(cmd, &o.output, "json")
	return cmd
}

func (c *cli) restart(ctx context.Context, o *setOptions) error {
	begin := time.Now()
	client, err := c.dial(ctx)
	if errors.Is(err, messages.ErrDaemonNotRunning) && !o.noAutostart {
		client, err = c.startDaemon(ctx, o.output == "")
	}
	if err != nil {
		return err
	}
	switch accepted, err := c.assign(ctx, client, "running=false", begin, waitLimit(o.timeout), o); {
	case err != nil && accepted != nil:
		return notStartedAgain(err)
	case err != nil:
		return err
	}
	limit := time.Duration(-1)
	if o.timeout > 0 {
		limit = max(o.timeout-time.Since(begin), time.Millisecond) // what is settled already is still found
	}
	app, err := c.assign(ctx, client, "running=true", begin, limit, o)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return c.printJSON(app)
	}
	c.notef("restarted in %.1fs", time.Since(begin).Seconds())
	return nil
}

func (c *cli) assign(ctx context.Context, client *supervisor.Client, assignment string, begin time.Time, limit time.Duration, o *setOptions) (*messages.App, error) {
	patch, err := messages.ParseAssignments([]string{assignment})
	if err != nil {
		return nil, err
	}
	return c.change(ctx, client, patch, begin, limit, o)
}

// notStartedAgain adds to a stop that was accepted and did not come about how things stand.
func notStartedAgain(err error) error {
	var e explained
	if !errors.As(err, &e) {
		e = explained{error: err}
	}
	e.lines = append(e.lines, "it is not started again: running is false now; when it has stopped: rdd start")
	return e
}

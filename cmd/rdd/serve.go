package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// stopLimit bounds an orderly stop: an engine may need its containers' stop time-outs.
const stopLimit = 2 * time.Minute

func newServe(c *cli) *cobra.Command {
	var background bool
	level := os.Getenv("RDD_LOG_LEVEL")
	if level == "" {
		level = "info"
	}
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the daemon here until it is told to stop", Args: cobra.NoArgs,
		Long: "Run the daemon here until SIGTERM, SIGINT or svc stop. It logs to stderr and to the log file (svc paths log_dir).\n" +
			"RDD_LOG_DIR moves the log files, RDD_KEEP_LOGS=1 keeps all old ones.",
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if _, err := parseLevel(level); err != nil {
			return err
		}
		if background {
			return c.svcStart(cmd.Context())
		}
		return c.serve(cmd.Context(), level)
	}
	cmd.Flags().BoolVar(&background, "background", false, "start it in the background, as svc start does")
	cmd.Flags().StringVar(&level, "log-level", level, "debug, info, warn or error (default $RDD_LOG_LEVEL, else info)")
	cmd.Flags().BoolVar(&c.child, "child", false, "started in the background by another rdd")
	_ = cmd.Flags().MarkHidden("child")
	return cmd
}

// serve runs the daemon. It ends with a signal, a shutdown over the edge, or a failure nobody above could heal.
func (c *cli) serve(ctx context.Context, levelName string) error {
	i, err := c.theInstance()
	if err != nil {
		return err
	}
	if err := i.Check(); err != nil {
		return err
	}
	level, err := parseLevel(levelName)
	if err != nil {
		return err
	}
	// Signals first: one that comes while rdd starts must stop it in order too.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	keepFilesFromChildren()
	if err := os.MkdirAll(i.LogDir(), 0o700); err != nil {
		return messages.WrapError(messages.CodeForbidden, "make", "log directory", i.LogDir(), err)
	}
	var also io.Writer
	if !c.child {
		also = c.err
	}
	logger, file := newLogger(i, also, level)
	defer func() { _ = file.Close() }()
	return runDaemon(ctx, i, logger, signals)
}

func runDaemon(ctx context.Context, i supervisor.Instance, logger *slog.Logger, signals <-chan os.Signal) error {
	asked := make(chan bool, 1)
	r, err := supervisor.Start(ctx, supervisor.Config{
		Instance: &i, Log: logger, Edge: true, Version: version,
		TestHooks: os.Getenv("RDD_TEST_HOOKS") == "1", TestKill: os.Getenv("RDD_TEST_KILL"),
		OnShutdown: func(keepEngine bool) {
			select {
			case asked <- keepEngine:
			default: // the first one counts
			}
		},
	})
	if err != nil {
		logger.Error("rdd did not start", "instance", i.Name, "err", err)
		return err
	}
	logger.Info("rdd runs", "instance", i.Name, "version", version, "pid", os.Getpid())
	var failure error
	end := r.Stop
	select {
	case s := <-signals:
		logger.Info("stopping", "cause", s.String())
	case keepEngine := <-asked:
		logger.Info("stopping", "cause", "svc stop", "keep engine", keepEngine)
		if keepEngine {
			end = r.Detach
		}
	case <-ctx.Done():
		logger.Info("stopping", "cause", ctx.Err().Error())
	case failure = <-r.Failed():
		logger.Error("rdd failed", "err", failure)
		end = r.Detach // containers do not pay for a failure of rdd
	}
	return stopDaemon(end, logger, signals, failure)
}

// stopDaemon stops in order; a second signal does not wait for that.
func stopDaemon(end func(context.Context) error, logger *slog.Logger, signals <-chan os.Signal, failure error) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- end(ctx) }()
	select {
	case err := <-done:
		if failure == nil {
			failure = err
		}
	case s := <-signals:
		failure = messages.NewError(messages.CodeInternal, "stop", "daemon", "", "interrupted by a second signal: "+s.String())
	}
	if failure != nil {
		logger.Error("rdd ended", "err", failure)
		return failure
	}
	logger.Info("rdd ended")
	return nil
}

package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

// newDebug exists only with RDD_TEST_HOOKS=1, for the client and for the daemon.
func newDebug(c *cli) *cobra.Command {
	cmd := group("debug", "Break things on purpose (tests only)")
	cmd.Hidden = true
	cmd.AddCommand(newDebugPanic(c), newDebugDelay(c))
	return cmd
}

func newDebugPanic(c *cli) *cobra.Command {
	var count int
	var always, noTrigger bool
	cmd := &cobra.Command{
		Use: "panic ACTOR[#EFFECT]", Short: "Let an actor panic at its next message", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := messages.DebugRequest{Actor: args[0], Action: "panic", Count: count, NoTrigger: noTrigger}
			if always {
				r.Count = -1
			}
			return c.debug(cmd.Context(), r)
		},
	}
	cmd.Flags().IntVar(&count, "count", 1, "at how many messages")
	cmd.Flags().BoolVar(&always, "always", false, "at every message")
	cmd.Flags().BoolVar(&noTrigger, "no-trigger", false, "wait for the next message instead of sending one")
	cmd.MarkFlagsMutuallyExclusive("count", "always")
	return cmd
}

func newDebugDelay(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "delay ACTOR[#EFFECT] DURATION", Short: "Delay an actor", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := time.ParseDuration(args[1])
			if err != nil || d < 0 {
				return badRequest("%q is not a duration such as 500ms", args[1])
			}
			return c.debug(cmd.Context(), messages.DebugRequest{Actor: args[0], Action: "delay", Delay: metav1.Duration{Duration: d}, Count: -1})
		},
	}
}

func (c *cli) debug(ctx context.Context, r messages.DebugRequest) error {
	client, err := c.dial(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := request(ctx)
	defer cancel()
	reply, err := client.Debug(ctx, r)
	if err != nil {
		return err
	}
	c.printf("%s\n", printable(reply.Armed))
	return nil
}

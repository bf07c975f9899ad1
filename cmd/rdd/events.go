package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// stackLines is how much of a stack shows without --stack.
const stackLines = 4

type eventsOptions struct {
	since int64
	watch bool
	stack bool
	json  bool
}

func newEvents(c *cli) *cobra.Command {
	var o eventsOptions
	var output string
	cmd := &cobra.Command{
		Use: "events", Short: "Print what happened inside rdd: failures, restarts, reconnects, repairs", Args: cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.json = output == "json"
		return c.events(cmd.Context(), &o)
	}
	cmd.Flags().Int64Var(&o.since, "since", 0, "only events after this number")
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "go on with every event")
	cmd.Flags().BoolVar(&o.stack, "stack", false, "whole stacks of failures")
	outputFlag(cmd, &output, "json")
	return cmd
}

func (c *cli) events(ctx context.Context, o *eventsOptions) error {
	l, err := c.link(ctx)
	if err != nil {
		return err
	}
	all := messages.EventsReply{Events: []messages.HouseEvent{}}
	since := o.since
	for {
		var r *messages.EventsReply
		err := l.repeatIf(ctx, o.watch, func(client *supervisor.Client) (err error) {
			ctx, cancel := request(ctx)
			defer cancel()
			r, err = client.Events(ctx, messages.EventsRequest{Since: since, Wait: o.watch})
			return err
		})
		if err != nil {
			return err
		}
		if r.Lost > 0 {
			c.notef("%d older events are gone", r.Lost)
		}
		if o.json && !o.watch {
			all.Events, all.Next, all.Lost = append(all.Events, r.Events...), r.Next, all.Lost+r.Lost
		} else if err := c.printEvents(r.Events, o); err != nil {
			return err
		}
		// A daemon that was started again counts from the beginning.
		ended := len(r.Events) == 0 || r.Next == since
		since = r.Next
		if ended && !o.watch {
			break
		}
	}
	if o.json {
		return c.printJSON(all)
	}
	return nil
}

func (c *cli) printEvents(events []messages.HouseEvent, o *eventsOptions) error {
	for _, e := range events {
		if o.json {
			if err := c.printJSONLine(e); err != nil {
				return err
			}
			continue
		}
		c.printEvent(e, o.stack)
	}
	return nil
}

// eventText is what happened, in one line.
func eventText(e messages.HouseEvent) string {
	message := firstLine(e.Message)
	if e.Attempt > 0 {
		message += fmt.Sprintf(" (attempt %d", e.Attempt)
		if e.Delay != nil {
			message += ", after " + short(e.Delay.Duration)
		}
		message += ")"
	}
	return strings.TrimSpace(message)
}

func (c *cli) printEvent(e messages.HouseEvent, whole bool) {
	line := fmt.Sprintf("%5d  %s  %-14s  %-24s  %s", e.Seq, e.Time.Local().Format("2006-01-02 15:04:05.000"), e.Type, e.Actor, eventText(e))
	c.printf("%s\n", strings.TrimRight(printable(line), " "))
	if e.Stack == "" {
		return
	}
	stack := strings.Split(strings.TrimRight(e.Stack, "\n"), "\n")
	more := 0
	if !whole && len(stack) > stackLines {
		more = len(stack) - stackLines
		stack = stack[:stackLines]
	}
	for _, s := range stack {
		c.printf("         %s\n", printable(s))
	}
	if more > 0 {
		c.printf("         … %d more lines (--stack)\n", more)
	}
}

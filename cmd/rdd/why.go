package main

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// whyLimit bounds the question why a wait ended: a daemon that hangs must not make it longer.
const whyLimit = 2 * time.Second

func newWhy(c *cli) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "why [TYPE/NAME]", Short: "Tell what keeps the application, or a resource, from being what it should be", Args: cobra.MaximumNArgs(2),
		Long: "Tell what keeps the application, or a resource, from being what it should be: the chain of blocking conditions, how long each\n" +
			"holds, what has failed and when it is tried again. When nothing blocks, it says so. The exit code is 0 either way.",
		Example: "  rdd why\n  rdd why image/busybox:latest",
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return c.why(cmd.Context(), args, output == "json") }
	cmd.ValidArgsFunction = c.resources(true)
	outputFlag(cmd, &output, "json")
	return cmd
}

func (c *cli) why(ctx context.Context, args []string, asJSON bool) error {
	if len(args) == 0 {
		args = []string{"app/" + messages.AppName}
	}
	targets, err := parseTargets(args)
	if err != nil {
		return err
	}
	if len(targets) != 1 || !named(targets) {
		return badRequest("which one? Give TYPE/NAME")
	}
	client, err := c.dial(ctx)
	if err != nil {
		return err
	}
	why, err := client.Why(ctx, targets[0].kind.Name, targets[0].name)
	if err != nil {
		return err
	}
	if asJSON {
		return c.printJSON(why)
	}
	if len(why.BlockedBy) == 0 {
		c.printf("nothing blocks %s\n", printable(why.Resource))
		return nil
	}
	c.printf("%s\n", printable(why.Resource))
	for _, line := range whyLines(why, time.Now()) {
		c.printf("%s\n", printable(line))
	}
	return nil
}

// whyNow asks why a resource is not what it should be, within a moment; without an answer it is what last tells, if there is one.
func whyNow(ctx context.Context, client *supervisor.Client, kind, name string, last messages.Object) *supervisor.Blockage {
	ctx, cancel := context.WithTimeout(ctx, whyLimit)
	defer cancel()
	why, err := client.Why(ctx, kind, name)
	switch {
	case err == nil:
		return why
	case last != nil:
		return supervisor.BlockageOf(last)
	}
	return &supervisor.Blockage{}
}

// whyLines are the chains for people, the nearest blocker of each first.
func whyLines(why *supervisor.Blockage, now time.Time) []string {
	return chainLines(why.BlockedBy, "  ", now)
}

func chainLines(blockers []supervisor.Blocker, indent string, now time.Time) []string {
	width := 0
	for _, b := range blockers {
		width = max(width, len(b.Who))
	}
	var lines []string
	for _, b := range blockers {
		line := fmt.Sprintf("%sblocked by  %-*s  ", indent, width, b.Who)
		if b.Condition != "" {
			line += b.Condition + "=" + string(b.Status) + "  "
		}
		line += "reason=" + orElse(b.Reason, "-")
		if b.Since != nil {
			line += " for " + short(now.Sub(b.Since.Time).Truncate(time.Second))
		}
		if b.Message != "" {
			line += ": " + b.Message
		}
		lines = append(lines, line)
		for _, r := range b.Retries {
			lines = append(lines, indent+"            "+retryText(r, now))
		}
		lines = append(lines, chainLines(b.BlockedBy, indent+"  ", now)...)
	}
	return lines
}

func retryText(r supervisor.Retried, now time.Time) string {
	return fmt.Sprintf("%s of %s: %s", r.What, r.Actor, triesText(r.Retry, now))
}

// triesText is how often something failed and when it is tried again.
func triesText(r messages.Retry, now time.Time) string {
	tries, next := "tries", "now"
	if r.Tries == 1 {
		tries = "try"
	}
	if wait := r.Next.Sub(now); wait > 0 {
		next = "in " + short(wait.Round(100*time.Millisecond))
	}
	return fmt.Sprintf("%d %s failed, next %s", r.Tries, tries, next)
}

// whyDetails are the details of an error for programs: those it has, and the cause at the end of the chain.
func whyDetails(why *supervisor.Blockage, known map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, known)
	b := why.Cause()
	if b == nil {
		return out
	}
	out["blockedBy"], out["condition"], out["status"] = b.Who, b.Condition, string(b.Status)
	out["reason"], out["message"] = b.Reason, b.Message
	delete(out, "since")
	if b.Since != nil {
		out["since"] = b.Since.UTC().Format(time.RFC3339)
	}
	if len(b.Retries) > 0 {
		out["nextRetry"] = b.Retries[0].Next.UTC().Format(time.RFC3339Nano)
	}
	maps.DeleteFunc(out, func(_, v string) bool { return v == "" })
	return out
}

package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

type waitOptions struct {
	condition string
	selector  messages.Selector
	scope     scope
	timeout   time.Duration
	uid       string
	all       bool
	output    string
}

func newWait(c *cli) *cobra.Command {
	var o waitOptions
	cmd := &cobra.Command{
		Use:   "wait TYPE/NAME… | TYPE NAME… | TYPE (--all | -l SEL | --field-selector SEL)",
		Short: "Wait for a condition of resources",
		Long: "Wait for a condition of resources.\n\n--for takes condition=NAME[=VALUE], jsonpath='{PATH}'[=VALUE], create or delete. Waiting for the deletion\n" +
			"of what is gone succeeds. A resource made again under the same name (another uid) does not satisfy a wait on the first.",
		Example: "  rdd ctl wait app/app --for=condition=Settled --timeout=5m\n  rdd ctl wait container/web --for=jsonpath='{.status.status}'=running",
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return c.wait(cmd.Context(), args, &o) }
	cmd.ValidArgsFunction = c.resources(false)
	f := cmd.Flags()
	f.StringVar(&o.condition, "for", "", "what to wait for: condition=NAME[=VALUE], jsonpath='{PATH}'[=VALUE], create, delete")
	completeFlag(cmd, "for", "condition=", "create", "delete", "jsonpath=")
	f.StringVarP(&o.selector.Labels, "selector", "l", "", "label selector")
	f.StringVar(&o.selector.Fields, "field-selector", "", "field selector")
	f.StringVarP(&o.scope.namespace, "namespace", "n", "", "only resources of this namespace")
	f.BoolVar(&o.all, "all", false, "all resources of the kind")
	o.flags(cmd)
	return cmd
}

// flags adds those of every wait; cmd.RunE must be set.
func (o *waitOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "how long to wait for the condition; 0 checks once, a negative value waits without limit")
	f.StringVar(&o.uid, "uid", "", "the resource's uid")
	outputFlag(cmd, &o.output, "json", "name")
}

func newWaitCondition(c *cli) *cobra.Command {
	var o waitOptions
	cmd := &cobra.Command{
		Use:     "wait-condition (TYPE/NAME… | TYPE NAME…) CONDITION[=VALUE]",
		Short:   "Wait for a condition of resources by its name (wait --for=condition=…)",
		Example: "  rdd ctl wait-condition app/app Settled\n  rdd ctl wait-condition container web IntentApplied --timeout 1m",
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) < 2 {
			return badRequest("which condition of which resource? Give TYPE/NAME CONDITION")
		}
		last := len(args) - 1
		o.condition = "condition=" + args[last]
		return c.wait(cmd.Context(), args[:last], &o)
	}
	cmd.ValidArgsFunction = c.conditions
	o.flags(cmd)
	return cmd
}

func (c *cli) wait(ctx context.Context, args []string, o *waitOptions) error {
	targets, err := parseTargets(args)
	if err != nil {
		return err
	}
	if err := checkSelector(targets, o.selector); err != nil {
		return err
	}
	if o.condition == "" {
		return badRequest("what to wait for? Give --for=condition=NAME[=VALUE], --for=jsonpath='{PATH}'[=VALUE], --for=create or --for=delete")
	}
	if !named(targets) && !o.all && o.selector == (messages.Selector{}) {
		return badRequest("which %s? Give names, -l, --field-selector or --all", targets[0].kind.Plural)
	}
	if o.uid != "" && (len(targets) != 1 || !named(targets)) {
		return badRequest("--uid needs exactly one name")
	}
	condition, err := supervisor.ParseFor(o.condition)
	if err != nil {
		return err
	}
	client, err := c.dial(ctx)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(o.timeout)
	var errs []error
	for _, t := range targets {
		left := o.timeout
		if left > 0 {
			// What is already true is still found when the time is up.
			left = max(time.Until(deadline), 0)
		}
		if err := c.waitOne(ctx, client, t, condition, left, o); err != nil {
			errs = append(errs, err)
		}
	}
	return together(errs)
}

func (c *cli) waitOne(ctx context.Context, client *supervisor.Client, t target, condition supervisor.For, left time.Duration, o *waitOptions) error {
	if o.scope.foreign(t.kind) {
		if t.name == "" {
			return notFound("wait for", target{kind: t.kind})
		}
		return notFound("wait for", t)
	}
	met, err := client.Wait(ctx, t.kind.Name, supervisor.WaitOptions{
		For: condition, Name: t.name, Selector: o.selector, UID: o.uid, Timeout: left})
	if errors.Is(err, messages.ErrTimeout) {
		return timedOut(ctx, client, err, t)
	}
	if err != nil {
		return err
	}
	if o.output == "json" {
		for _, r := range met {
			if err := c.printJSON(r); err != nil {
				return err
			}
		}
		return nil
	}
	suffix := " condition met"
	if o.output == "name" {
		suffix = ""
	}
	if t.name != "" {
		c.printf("%s%s\n", printable(t.String()), suffix)
		return nil
	}
	for _, r := range met {
		c.printf("%s%s\n", printable(messages.NameOf(r)), suffix)
	}
	return nil
}

// timedOut says in kubectl's words which wait failed, and what blocks the resource; while there is none, what blocks the App.
func timedOut(ctx context.Context, client *supervisor.Client, err error, t target) error {
	details := messages.AsError(err).Details
	kind, name := t.kind.Name, details["name"]
	var lines []string
	if name == "" {
		kind, name = messages.KindApp, messages.AppName
		lines = append(lines, "  "+details["blocker"])
	}
	why := whyNow(ctx, client, kind, name, nil)
	lines = append(lines, whyLines(why, time.Now())...)
	if len(lines) == 0 && details["blocker"] != "" {
		lines = append(lines, "  "+details["blocker"])
	}
	if lost := details["connection"]; lost != "" {
		lines = append(lines, "  "+lost)
	}
	out := messages.NewError(messages.CodeTimeout, "", "", "", "timed out waiting for the condition on "+t.String())
	out.Details = whyDetails(why, details)
	return explained{out, lines}
}

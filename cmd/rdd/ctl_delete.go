package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

type deleteOptions struct {
	selector       messages.Selector
	scope          scope
	wait           bool
	timeout        time.Duration
	ignoreNotFound bool
	uid            string
	all            bool
	detach         bool
	yes            bool
	output         string
}

func newDelete(c *cli) *cobra.Command {
	var o deleteOptions
	cmd := &cobra.Command{
		Use:   "delete TYPE NAME… | TYPE/NAME… | TYPE (--all | -l SEL | --field-selector SEL)",
		Short: "Delete resources and the engine's objects behind them",
		Long: "Delete resources and the engine's objects behind them.\n\nA container is removed, running or not, and keeps its volumes. A tagged image is untagged; its last tag removes\n" +
			"the image. Nothing that is in use is removed by force: the deletion waits, and says for whom.\n\n" +
			"--detach is the way out of a deletion that cannot end: the resource goes, what is behind it stays, and when the engine has it\n" +
			"still, it comes back as another resource, with another uid.",
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return c.delete(cmd.Context(), args, &o) }
	cmd.ValidArgsFunction = c.resources(false)
	f := cmd.Flags()
	f.StringVarP(&o.selector.Labels, "selector", "l", "", "label selector")
	f.StringVar(&o.selector.Fields, "field-selector", "", "field selector")
	f.StringVarP(&o.scope.namespace, "namespace", "n", "", "only resources of this namespace")
	f.BoolVar(&o.wait, "wait", true, "wait until they are gone")
	f.DurationVar(&o.timeout, "timeout", 0, "how long to wait until they are gone; 0 = without limit")
	f.BoolVar(&o.ignoreNotFound, "ignore-not-found", false, "succeed when there is no resource of that name")
	f.StringVar(&o.uid, "uid", "", "delete only the resource with this uid")
	f.BoolVar(&o.all, "all", false, "all resources of the kind")
	f.BoolVar(&o.detach, "detach", false, "forget the resource only: nothing is removed from the engine, a deletion under way ends (needs --yes)")
	f.BoolVar(&o.yes, "yes", false, "yes, --detach is meant")
	outputFlag(cmd, &o.output, "json", "name")
	return cmd
}

func (c *cli) delete(ctx context.Context, args []string, o *deleteOptions) error {
	targets, err := parseTargets(args)
	if err != nil {
		return err
	}
	if err := checkSelector(targets, o.selector); err != nil {
		return err
	}
	if !named(targets) && !o.all && o.selector == (messages.Selector{}) {
		return badRequest("which %s? Give names, -l, --field-selector or --all", targets[0].kind.Plural)
	}
	if o.uid != "" && (len(targets) != 1 || !named(targets)) {
		return badRequest("--uid needs exactly one name")
	}
	if o.detach && !o.yes {
		return messages.NewError(messages.CodeForbidden, "", "", "",
			"--detach forgets the resource and leaves the engine's object: intents and a deletion under way are lost. If that is meant, say --yes too")
	}
	client, err := c.dial(ctx)
	if err != nil {
		return err
	}
	var errs []error
	var doomed []messages.Object
	for _, t := range targets {
		asked, failed := c.askDelete(ctx, client, t, o)
		doomed, errs = append(doomed, asked...), append(errs, failed...)
	}
	if len(doomed) == 0 && len(errs) == 0 && !named(targets) && o.output != "json" {
		c.nothingFound(o.scope)
	}
	deadline := time.Now().Add(o.timeout)
	for _, r := range doomed {
		left := time.Duration(-1)
		if o.timeout > 0 {
			left = max(time.Until(deadline), 0)
		}
		if err := c.finishDelete(ctx, client, r, left, o); err != nil {
			errs = append(errs, err)
		}
	}
	return together(errs)
}

// askDelete starts the deletion of everything a target stands for.
func (c *cli) askDelete(ctx context.Context, client *supervisor.Client, t target, o *deleteOptions) (asked []messages.Object, failed []error) {
	requests := []messages.DeleteRequest{{Kind: t.kind.Name, Name: t.name, UID: types.UID(o.uid), Detach: o.detach}}
	switch {
	case o.scope.foreign(t.kind) && t.name != "":
		if o.ignoreNotFound {
			return nil, nil
		}
		return nil, []error{notFound("delete", t)}
	case o.scope.foreign(t.kind):
		return nil, nil
	case t.name == "":
		list, err := client.List(ctx, t.kind.Name, supervisor.ListOptions{Selector: o.selector})
		if err != nil {
			return nil, []error{err}
		}
		requests = nil
		for _, r := range list.Items {
			requests = append(requests, messages.DeleteRequest{Kind: t.kind.Name, Name: r.GetName(), UID: r.GetUID(), Detach: o.detach})
		}
	}
	for _, req := range requests {
		r, err := deleteOne(ctx, client, req)
		switch {
		case errors.Is(err, messages.ErrNotFound) && (o.ignoreNotFound || t.name == ""):
		case err != nil:
			failed = append(failed, err)
		default:
			asked = append(asked, r)
		}
	}
	return asked, failed
}

func deleteOne(ctx context.Context, client *supervisor.Client, req messages.DeleteRequest) (messages.Object, error) {
	ctx, cancel := request(ctx)
	defer cancel()
	return client.Delete(ctx, req)
}

// finishDelete waits for the end of a deletion when that is asked for, and says what became of it.
func (c *cli) finishDelete(ctx context.Context, client *supervisor.Client, r messages.Object, left time.Duration, o *deleteOptions) error {
	word := "marked for deletion"
	if o.wait {
		word = "deleted"
		if err := c.waitGone(ctx, client, r, left, o.timeout, o.output != "json"); err != nil {
			return err
		}
	}
	if o.detach {
		word = "detached"
	}
	switch o.output {
	case "json":
		return c.printJSON(r)
	case "name":
		return printName(r, c.out)
	}
	c.printf("%s %s\n", printable(messages.NameOf(r)), word)
	return nil
}

// waitGone waits until this incarnation is gone, and tells once why it takes longer.
func (c *cli) waitGone(ctx context.Context, client *supervisor.Client, r messages.Object, left, total time.Duration, tell bool) error {
	gone, err := supervisor.ParseFor("delete")
	if err != nil {
		return err
	}
	kind := r.GetObjectKind().GroupVersionKind().Kind
	last, told := blockage(r), ""
	note := func() {
		if last != nil && tell && last.Reason != told {
			told = last.Reason
			c.notef("%s: deletion blocked (%s): %s", messages.NameOf(r), last.Reason, last.Message)
		}
	}
	note()
	_, err = client.Wait(ctx, kind, supervisor.WaitOptions{
		For: gone, Name: r.GetName(), UID: string(r.GetUID()), Timeout: left,
		Progress: func(e messages.WatchEvent) {
			if e.Object != nil && e.Object.GetUID() == r.GetUID() && e.Type != messages.Bookmark {
				last = blockage(e.Object)
				note()
			}
		},
	})
	switch {
	case errors.Is(err, messages.ErrNotFound):
		return nil
	case errors.Is(err, messages.ErrTimeout):
		return notGone(r, whyNow(ctx, client, kind, r.GetName(), r), err, total)
	}
	return err
}

// notGone is the time-out of a deletion, with the chain of what blocks it.
func notGone(r messages.Object, why *supervisor.Blockage, cause error, total time.Duration) error {
	text := messages.NameOf(r) + ": not gone after " + short(total) + "; the deletion goes on"
	e := messages.NewError(messages.CodeTimeout, "delete", "", "", text)
	e.Details = whyDetails(why, messages.AsError(cause).Details)
	e.Details["resource"] = messages.NameOf(r)
	return explained{e, whyLines(why, time.Now())}
}

// blockage is the condition that says why a deletion takes longer; nil when none does.
func blockage(o messages.Object) *metav1.Condition {
	c := messages.Condition(o, messages.ConditionDeletionBlocked)
	if c == nil || c.Status != metav1.ConditionTrue {
		return nil
	}
	return c
}

package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

type actionOptions struct {
	grace   time.Duration
	graced  bool
	wait    bool
	timeout time.Duration
	uid     string
	output  string
}

func newAction(c *cli) *cobra.Command {
	var o actionOptions
	cmd := &cobra.Command{
		Use:   "action NAME " + strings.Join(messages.Actions(), "|"),
		Short: "Start, stop, pause, unpause, restart or kill a container, once",
		Long: "Start, stop, pause, unpause, restart or kill a container, once, and print the receipt. An accepted action outlives the command and the\n" +
			"daemon. What is so already, like the start of a running container, has succeeded.\n\n" +
			"Exit code: 0 it has succeeded (with --wait=false: it was accepted), 9 it failed, 3 it was rejected, or a newer one took its place.",
		Example: "  rdd ctl action web stop --grace 30s\n  rdd ctl action container/web restart --wait=false",
		Args:    exactly(2, "NAME and one of "+strings.Join(messages.Actions(), ", ")),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.graced = cmd.Flags().Changed("grace")
		return c.action(cmd.Context(), args, &o)
	}
	cmd.ValidArgsFunction = c.containerThenVerb
	f := cmd.Flags()
	f.DurationVar(&o.grace, "grace", 0, "how long stop and restart wait before they kill (default: the container's own, else 10s)")
	f.BoolVar(&o.wait, "wait", true, "wait until it has ended")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long to wait for that; the action goes on. 0 = without limit")
	f.StringVar(&o.uid, "uid", "", "only if this is the container's uid")
	outputFlag(cmd, &o.output, "json")
	return cmd
}

// containerThenVerb completes NAME VERB.
func (c *cli) containerThenVerb(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		prefix := ""
		if kind, _, slashed := strings.Cut(word, "/"); slashed {
			prefix = kind + "/"
		}
		return starting(word, inTime(func(ctx context.Context) ([]string, error) { return c.namesOf(ctx, messages.KindContainer, prefix) })), noFiles
	case 1:
		return starting(word, messages.Actions()), noFiles
	}
	return nil, noFiles
}

func (c *cli) action(ctx context.Context, args []string, o *actionOptions) error {
	name, verb := args[0], args[1]
	if kind, rest, slashed := strings.Cut(name, "/"); slashed {
		k, ok := messages.KindByName(kind)
		if !ok || k.Name != messages.KindContainer {
			return badRequest("%q: only a container takes actions", name)
		}
		name = rest
	}
	if name == "" {
		return badRequest("a name is empty")
	}
	if !slices.Contains(messages.Actions(), verb) {
		return badRequest("unknown action %q: want one of %s", verb, strings.Join(messages.Actions(), ", "))
	}
	r := messages.ActionRequest{Name: name, Action: verb, UID: types.UID(o.uid)}
	if o.graced {
		if verb != messages.ActionStop && verb != messages.ActionRestart {
			return badRequest("--grace is for stop and restart")
		}
		if o.grace < 0 {
			return badRequest("--grace %s: want 0 or more", o.grace)
		}
		r.Grace = &metav1.Duration{Duration: o.grace}
	}
	client, err := c.dial(ctx)
	if err != nil {
		return err
	}
	container, err := askAction(ctx, client, r)
	if err != nil {
		return err
	}
	asked := container.Status.LastAction
	if asked == nil {
		return messages.NewError(messages.CodeInternal, verb, messages.KindContainer, name, "the daemon sent no receipt")
	}
	receipt, ended := *asked, error(nil)
	if o.wait {
		receipt, ended = c.waitAction(ctx, client, container, receipt, o)
	}
	if err := c.printReceipt(container, receipt, o.output); err != nil {
		return err
	}
	return ended
}

func askAction(ctx context.Context, client *supervisor.Client, r messages.ActionRequest) (*messages.Container, error) {
	ctx, cancel := request(ctx)
	defer cancel()
	return client.Action(ctx, r)
}

// waitAction waits for the end of an action of a container. It returns the receipt as it is then; the error says that it did not
// succeed. The receipt of a newer action in its place is the end of this one.
func (c *cli) waitAction(ctx context.Context, client *supervisor.Client, of *messages.Container, asked messages.ActionReceipt, o *actionOptions) (messages.ActionReceipt, error) {
	if asked.State != messages.ActionPending {
		return asked, receiptError(of, asked)
	}
	ended, err := supervisor.ParseFor("jsonpath={.status.lastAction.completedAt}")
	if err != nil {
		return asked, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	receipt, replaced := asked, false
	_, err = client.Wait(ctx, messages.KindContainer, supervisor.WaitOptions{
		For: ended, Name: of.Name, UID: string(of.UID), Timeout: waitLimit(o.timeout),
		Progress: func(e messages.WatchEvent) {
			if now, ok := e.Object.(*messages.Container); ok && now.UID == of.UID && !replaced {
				receipt, replaced = receiptNow(asked, receipt, e, now.Status.LastAction)
			}
			if replaced {
				cancel()
			}
		},
	})
	switch {
	case replaced || err == nil:
		return receipt, receiptError(of, receipt)
	case errors.Is(err, messages.ErrTimeout):
		return receipt, notEnded(of, receipt, whyNow(ctx, client, messages.KindContainer, of.Name, of), err, o.timeout)
	}
	return receipt, err
}

// receiptNow is the receipt of an action after a change of its container; replaced: no better one will come.
func receiptNow(asked, known messages.ActionReceipt, e messages.WatchEvent, last *messages.ActionReceipt) (receipt messages.ActionReceipt, replaced bool) {
	superseded := known
	superseded.State = messages.ActionSuperseded
	switch {
	case e.Type == messages.Deleted && e.Reason == messages.ReasonMirrorReset:
		superseded.Error = messages.ReasonMirrorReset + ": the application was stopped, or has another engine"
		return superseded, true
	case last == nil:
		return known, false
	case last.ID != asked.ID:
		superseded.Error = "a newer action (" + last.Action + ") took its place"
		return superseded, true
	}
	return *last, false
}

// receiptError is nil for an action that has succeeded or goes on. Errors: TerminalFailure, Conflict.
func receiptError(of *messages.Container, r messages.ActionReceipt) error {
	name := orElse(of.Status.Name, of.Name)
	switch r.State {
	case messages.ActionFailed:
		why := strings.TrimPrefix(r.Error, r.Action+": ") // the verb is said already
		return messages.NewError(messages.CodeTerminal, r.Action, messages.KindContainer, name, orElse(why, r.State))
	case messages.ActionSuperseded:
		return messages.NewError(messages.CodeConflict, r.Action, messages.KindContainer, name, "superseded: "+orElse(r.Error, "something newer took its place"))
	}
	return nil
}

// notEnded is the time-out of an action, with the chain of what blocks the container.
func notEnded(of *messages.Container, r messages.ActionReceipt, why *supervisor.Blockage, cause error, total time.Duration) error {
	text := messages.NameOf(of) + ": not ended after " + short(total) + "; the action goes on"
	e := messages.NewError(messages.CodeTimeout, r.Action, "", "", text)
	e.Details = whyDetails(why, messages.AsError(cause).Details)
	e.Details["resource"], e.Details["action"] = messages.NameOf(of), r.ID
	return explained{e, whyLines(why, time.Now())}
}

// printReceipt prints one receipt: a line for people, the whole for programs.
func (c *cli) printReceipt(of *messages.Container, r messages.ActionReceipt, output string) error {
	if output == "json" {
		return c.printJSON(r)
	}
	took := ""
	if r.CompletedAt != nil {
		took = "  in " + short(r.CompletedAt.Sub(r.RequestedAt.Time))
	}
	c.printf("%s  %s %s%s  (id %s)\n", printable(messages.NameOf(of)), r.Action, r.State, took, printable(r.ID))
	return nil
}

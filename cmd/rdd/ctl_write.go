package main

import (
	"context"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// writeOptions are the flags of every command that changes resources.
type writeOptions struct {
	dryRun          bool
	uid             string
	resourceVersion string
	output          string
}

// flags adds them; cmd.RunE must be set.
func (o *writeOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "check everything as the real thing does, show what would be, change nothing")
	f.StringVar(&o.uid, "uid", "", "only if this is the resource's uid")
	f.StringVar(&o.resourceVersion, "resource-version", "", "only if this is the resource's version")
	outputFlag(cmd, &o.output, "json", "yaml", "name")
}

// request is a write with the preconditions of the flags.
func (o *writeOptions) request(t target) messages.WriteRequest {
	return messages.WriteRequest{Kind: t.kind.Name, Name: t.name, PatchType: messages.PatchMerge, UID: types.UID(o.uid),
		ResourceVersion: o.resourceVersion, DryRun: o.dryRun}
}

// checkOne: a precondition is about one resource. Error: BadRequest.
func (o *writeOptions) checkOne(targets []target) error {
	if (o.uid != "" || o.resourceVersion != "") && len(targets) != 1 {
		return badRequest("--uid and --resource-version need exactly one name")
	}
	return nil
}

// writeOne sends one write, and tells what the daemon has to say about it.
func (c *cli) writeOne(ctx context.Context, client *supervisor.Client, r messages.WriteRequest) (*messages.WriteReply, error) {
	ctx, cancel := request(ctx)
	defer cancel()
	reply, err := client.Write(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, w := range reply.Warnings {
		c.notef("warning: %s", w)
	}
	return reply, nil
}

// outcome tells what became of writes: a line each, or each resource as it is now.
type outcome struct {
	c *cli
	o *writeOptions
	p printer
}

func (c *cli) newOutcome(o *writeOptions) (*outcome, error) {
	out := &outcome{c: c, o: o}
	if o.output == "" || o.output == "table" {
		return out, nil
	}
	var err error
	out.p, err = newPrinter(c.out, printOptions{output: o.output})
	return out, err
}

// tell says in a word what was done to a resource.
func (out *outcome) tell(r *messages.WriteReply, word string) error {
	if out.p != nil {
		return out.p.list(listing{items: []messages.Object{r.Object}, single: true})
	}
	if out.o.dryRun {
		word += " (dry run)"
	}
	out.c.printf("%s %s\n", printable(messages.NameOf(r.Object)), word)
	return nil
}

// parseOneTarget reads TYPE NAME or TYPE/NAME. Error: BadRequest.
func parseOneTarget(args []string) (target, error) {
	targets, err := parseTargets(args)
	if err != nil {
		return target{}, err
	}
	if len(targets) != 1 || !named(targets) {
		return target{}, badRequest("which one? Give TYPE NAME or TYPE/NAME")
	}
	return targets[0], nil
}

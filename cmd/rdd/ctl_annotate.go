package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// pairs is a map of metadata that a command changes.
type pairs struct {
	// field of metadata: labels or annotations.
	field string
	// done is what was done to a resource, undone when some were only removed, in kubectl's words.
	done, undone string
	of           func(messages.Object) map[string]string
}

type pairOptions struct {
	writeOptions
	overwrite bool
}

func newAnnotate(c *cli) *cobra.Command {
	cmd := pairCommand(c, pairs{"annotations", "annotated", "annotated", messages.Object.GetAnnotations}, "annotate", "Set and remove annotations of resources")
	cmd.Long = "Set and remove annotations of resources. K=V sets one, K- removes it. One that has another value is changed only with --overwrite.\n\n" +
		"The annotation " + messages.ActionAnnotation + " asks a container for an action (" + strings.Join(messages.Actions(), ", ") +
		");\nit is consumed. rdd ctl action does the same and waits for the end."
	cmd.Example = "  rdd ctl annotate container web owner=me\n  rdd ctl annotate container/web owner-"
	return cmd
}

func newLabel(c *cli) *cobra.Command {
	cmd := pairCommand(c, pairs{"labels", "labeled", "unlabeled", messages.Object.GetLabels}, "label", "Set and remove labels of resources")
	cmd.Long = "Set and remove labels of resources. K=V sets one, K- removes it. One that has another value is changed only with --overwrite.\n\n" +
		"These are the labels of the resource, which -l selects by; those that docker gave an object are in status.labels."
	cmd.Example = "  rdd ctl label volume data keep=true\n  rdd ctl label image/busybox:latest keep-"
	return cmd
}

func pairCommand(c *cli, p pairs, use, short string) *cobra.Command {
	var o pairOptions
	cmd := &cobra.Command{Use: use + " (TYPE NAME… | TYPE/NAME…) K=V|K-…", Short: short}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return c.setPairs(cmd.Context(), p, args, &o) }
	cmd.ValidArgsFunction = c.resources(false)
	cmd.Flags().BoolVar(&o.overwrite, "overwrite", false, "change what has another value")
	o.flags(cmd)
	return cmd
}

func (c *cli) setPairs(ctx context.Context, p pairs, args []string, o *pairOptions) error {
	targets, want, err := parsePairs(args, p.field)
	if err != nil {
		return err
	}
	if err := o.checkOne(targets); err != nil {
		return err
	}
	out, err := c.newOutcome(&o.writeOptions)
	if err != nil {
		return err
	}
	client, err := c.dial(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range targets {
		reply, err := c.setPairsOf(ctx, client, t, p, want, o)
		if err == nil {
			err = out.tell(reply, p.word(reply, want))
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return together(errs)
}

// word is what was done: a consumed action is no change of the annotations.
func (p pairs) word(r *messages.WriteReply, want map[string]*string) string {
	verb := want[messages.ActionAnnotation]
	if p.field == "annotations" && verb != nil {
		return *verb + " requested"
	}
	done := p.undone
	for _, value := range want {
		if value != nil {
			done = p.done
		}
	}
	return changedWord(r, done, "not "+done)
}

// setPairsOf changes one resource. Not to overwrite is a promise about the resource as it is when it is written: it is read, and written
// in that version only; one that somebody else changed meanwhile is read again, until the request's time is up.
func (c *cli) setPairsOf(ctx context.Context, client *supervisor.Client, t target, p pairs, want map[string]*string, o *pairOptions) (*messages.WriteReply, error) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{p.field: want}})
	if err != nil {
		return nil, messages.WrapError(messages.CodeInternal, "write", t.kind.Name, t.name, err)
	}
	r := o.request(t)
	r.Patch = patch
	if o.overwrite {
		return c.writeOne(ctx, client, r)
	}
	ctx, cancel := request(ctx)
	defer cancel()
	for {
		now, err := client.Get(ctx, t.kind.Name, t.name)
		if err != nil {
			return nil, err
		}
		if err := p.keeps(t, p.of(now), want); err != nil {
			return nil, err
		}
		if o.resourceVersion == "" {
			r.ResourceVersion = now.GetResourceVersion()
		}
		if o.uid == "" {
			r.UID = now.GetUID()
		}
		reply, err := c.writeOne(ctx, client, r)
		if !errors.Is(err, messages.ErrConflict) || o.resourceVersion != "" || o.uid != "" || ctx.Err() != nil {
			return reply, err
		}
	}
}

// keeps refuses to give what has a value another one. Error: Conflict.
func (p pairs) keeps(t target, now map[string]string, want map[string]*string) error {
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if old, has := now[k]; has && want[k] != nil && *want[k] != old {
			return messages.NewError(messages.CodeConflict, "write", t.kind.Name, t.name,
				fmt.Sprintf("metadata.%s[%s] is %q already; --overwrite changes it", p.field, k, old))
		}
	}
	return nil
}

// parsePairs reads TYPE NAME… or TYPE/NAME…, then K=V and K-; a nil value is one to remove. The first name may look like anything.
// Error: BadRequest.
func parsePairs(args []string, field string) ([]target, map[string]*string, error) {
	names := 2
	if len(args) > 0 && strings.Contains(args[0], "/") {
		names = 1
	}
	for names < len(args) && !isPair(args[names]) {
		names++
	}
	if names >= len(args) {
		return nil, nil, badRequest("which %s of which resource? Give TYPE NAME… or TYPE/NAME…, then K=V to set and K- to remove", field)
	}
	targets, err := parseTargets(args[:names])
	if err != nil {
		return nil, nil, err
	}
	want := map[string]*string{}
	for _, a := range args[names:] {
		key, value, set := strings.Cut(a, "=")
		if !isPair(a) {
			return nil, nil, badRequest("%q: want K=V or K-; names come before them", a)
		}
		if !set {
			key = strings.TrimSuffix(a, "-")
		}
		if _, twice := want[key]; twice || key == "" {
			return nil, nil, badRequest("%q: the key is empty, or given twice", a)
		}
		want[key] = nil
		if set {
			want[key] = &value
		}
	}
	return targets, want, nil
}

func isPair(arg string) bool { return strings.Contains(arg, "=") || strings.HasSuffix(arg, "-") }

package main

import (
	"bytes"
	"context"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// describedEvents is how many events about a resource are shown, the newest.
const describedEvents = 10

func newDescribe(c *cli) *cobra.Command {
	var o getOptions
	var events bool
	cmd := &cobra.Command{
		Use:   "describe TYPE[,TYPE] | TYPE NAME… | TYPE/NAME…",
		Short: "Print everything about resources for people: fields, conditions with their ages, events",
		Long: "Print everything about resources for people: every field, the conditions with their ages, and what happened inside rdd about\n" +
			"them lately. Programs use ctl get -o json.",
		Example: "  rdd ctl describe app\n  rdd ctl describe container/web",
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return c.describe(cmd.Context(), args, &o, events) }
	cmd.ValidArgsFunction = c.resources(false)
	f := cmd.Flags()
	f.StringVarP(&o.selector.Labels, "selector", "l", "", "label selector, e.g. app=web,tier!=db")
	f.StringVar(&o.selector.Fields, "field-selector", "", "field selector, e.g. status.status=running")
	f.StringVarP(&o.scope.namespace, "namespace", "n", "", "only resources of this namespace")
	f.BoolVarP(&o.scope.all, "all-namespaces", "A", false, "resources of all namespaces")
	f.BoolVar(&events, "show-events", true, "show what happened about them")
	return cmd
}

func (c *cli) describe(ctx context.Context, args []string, o *getOptions, events bool) error {
	targets, err := parseTargets(args)
	if err != nil {
		return err
	}
	if err := checkSelector(targets, o.selector); err != nil {
		return err
	}
	client, err := c.dial(ctx)
	if err != nil {
		return err
	}
	var found []messages.Object
	var errs []error
	for _, t := range targets {
		items, _, err := fetch(ctx, client, t, o)
		switch {
		case err != nil && t.name == "":
			return err
		case err != nil:
			errs = append(errs, err)
		}
		found = append(found, items...)
	}
	var happened []messages.HouseEvent
	if events && len(found) > 0 {
		if happened, err = allEvents(ctx, client); err != nil {
			return err
		}
	}
	if len(found) == 0 && len(errs) == 0 {
		c.nothingFound(o.scope)
	}
	for i, r := range found {
		if i > 0 {
			c.printf("\n\n")
		}
		if err := writeDescription(c.out, r, eventsAbout(r, happened), time.Now()); err != nil {
			return err
		}
	}
	return together(errs)
}

func allEvents(ctx context.Context, client *supervisor.Client) ([]messages.HouseEvent, error) {
	ctx, cancel := request(ctx)
	defer cancel()
	r, err := client.Events(ctx, messages.EventsRequest{})
	if err != nil {
		return nil, err
	}
	return r.Events, nil
}

// eventsAbout are the newest events of the actors that work on a resource.
func eventsAbout(o messages.Object, all []messages.HouseEvent) []messages.HouseEvent {
	actors := supervisor.ActorsOf(o)
	var out []messages.HouseEvent
	for _, e := range all {
		if slices.Contains(actors, e.Actor) {
			out = append(out, e)
		}
	}
	return out[max(0, len(out)-describedEvents):]
}

// writeDescription writes one resource.
func writeDescription(w io.Writer, o messages.Object, events []messages.HouseEvent, now time.Time) error {
	var b bytes.Buffer
	if err := writeFields(&b, o); err != nil {
		return err
	}
	if conditions := o.Conditions(); len(conditions) > 0 {
		lines := [][]string{{"  TYPE", "STATUS", "REASON", "AGE", "LAST TRANSITION", "OBSERVED", "MESSAGE"}}
		for _, cond := range conditions {
			age, at, observed := "-", "-", "-"
			if !cond.LastTransitionTime.IsZero() {
				age, at = short(now.Sub(cond.LastTransitionTime.Time).Truncate(time.Second)), cond.LastTransitionTime.UTC().Format(time.RFC3339)
			}
			if cond.ObservedGeneration > 0 {
				observed = itoa(cond.ObservedGeneration)
			}
			lines = append(lines, []string{"  " + cond.Type, string(cond.Status), cond.Reason, age, at, observed, cond.Message})
		}
		b.WriteString("Conditions:\n")
		rows(&b, lines)
	}
	if len(events) == 0 {
		b.WriteString("Events:  <none>\n")
	} else {
		lines := [][]string{{"  AGE", "TYPE", "ACTOR", "MESSAGE"}}
		for _, e := range events {
			lines = append(lines, []string{"  " + short(now.Sub(e.Time.Time).Truncate(time.Second)), e.Type, e.Actor, eventText(e)})
		}
		b.WriteString("Events:\n")
		rows(&b, lines)
	}
	_, err := b.WriteTo(w)
	return err
}

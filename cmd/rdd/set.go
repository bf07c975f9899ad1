package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// setOptions are the flags of set, start and stop.
type setOptions struct {
	dryRun       bool
	wait         bool
	timeout      time.Duration
	ifGeneration int64
	noAutostart  bool
	output       string
}

func newSet(c *cli) *cobra.Command {
	var b strings.Builder
	b.WriteString("Change what the application shall be, start the daemon when it does not run, and wait until all of it has taken\n" +
		"effect. Without arguments it lists the properties and their values.\n\nProperties:\n")
	for _, p := range messages.Properties() {
		b.WriteString("  " + p.Name + " (" + p.Type + ", " + p.Valid() + "): " + p.Help + "\n")
	}
	cmd := settingCommand(c, "set [PROPERTY=VALUE…]", "Change properties of the application", nil)
	cmd.Long = strings.TrimSpace(b.String())
	cmd.ValidArgsFunction = assignments
	cmd.Example = "  rdd set running=true --timeout 5m\n  rdd set virtualMachine.driver=external virtualMachine.socket=/var/run/docker.sock"
	return cmd
}

func newStart(c *cli) *cobra.Command {
	return settingCommand(c, "start", "Start the container engine (set running=true)", []string{"running=true"})
}

func newStop(c *cli) *cobra.Command {
	return settingCommand(c, "stop", "Stop the container engine (set running=false)", []string{"running=false"})
}

func settingCommand(c *cli, use, short string, fixed []string) *cobra.Command {
	var o setOptions
	cmd := &cobra.Command{Use: use, Short: short}
	if fixed != nil {
		cmd.Args = cobra.NoArgs
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if fixed != nil {
			args = fixed
		}
		if len(args) == 0 {
			return c.listProperties(cmd.Context(), &o)
		}
		return c.set(cmd.Context(), args, &o)
	}
	f := cmd.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "check the values, change nothing, start nothing")
	f.BoolVar(&o.wait, "wait", true, "wait until everything has taken effect")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long to wait for that; the change goes on. 0 = without limit")
	f.Int64Var(&o.ifGeneration, "if-generation", 0, "only if this is the present generation")
	f.BoolVar(&o.noAutostart, "no-autostart", false, "fail when the daemon does not run")
	outputFlag(cmd, &o.output, "json")
	return cmd
}

// listProperties prints every property with its present value, "-" while no daemon tells it.
func (c *cli) listProperties(ctx context.Context, o *setOptions) error {
	app, err := c.app(ctx)
	if err != nil && !errors.Is(err, messages.ErrDaemonNotRunning) {
		return err
	}
	type row struct {
		Name    string   `json:"name"`
		Type    string   `json:"type"`
		Valid   string   `json:"valid"`
		Enum    []string `json:"enum,omitempty"`
		Value   *string  `json:"value"`
		Default string   `json:"default"`
		Help    string   `json:"help"`
	}
	var all []row
	lines := [][]string{{"PROPERTY", "TYPE", "VALID", "VALUE", "DEFAULT"}}
	for _, p := range messages.Properties() {
		r, value := row{p.Name, p.Type, p.Valid(), p.Enum, nil, p.Default, p.Help}, "-"
		if app != nil {
			value = messages.Value(app.Spec, p.Name)
			r.Value = &value
		}
		all = append(all, r)
		lines = append(lines, []string{p.Name, p.Type, p.Valid(), orElse(value, `""`), orElse(p.Default, `""`)})
	}
	if o.output == "json" {
		return c.printJSON(all)
	}
	rows(c.out, lines)
	return nil
}

// app gets the App from a running daemon.
func (c *cli) app(ctx context.Context) (*messages.App, error) {
	client, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	return getApp(ctx, client)
}

func getApp(ctx context.Context, client *supervisor.Client) (*messages.App, error) {
	ctx, cancel := request(ctx)
	defer cancel()
	o, err := client.Get(ctx, messages.KindApp, messages.AppName)
	if err != nil {
		return nil, err
	}
	app, ok := o.(*messages.App)
	if !ok {
		return nil, messages.NewError(messages.CodeInternal, "get", messages.KindApp, messages.AppName, "the daemon sent something else")
	}
	return app, nil
}

func (c *cli) set(ctx context.Context, args []string, o *setOptions) error {
	patch, err := messages.ParseAssignments(args)
	if err != nil {
		return err
	}
	begin := time.Now()
	client, err := c.dial(ctx)
	if errors.Is(err, messages.ErrDaemonNotRunning) && !o.noAutostart {
		if o.dryRun && o.output == "" && o.ifGeneration == 0 {
			c.printf("app/app  valid (dry run; no daemon runs that could check it further)\n")
			return nil
		}
		if !o.dryRun {
			client, err = c.startDaemon(ctx, o.output == "")
		}
	}
	if err != nil {
		return err
	}
	app, err := c.change(ctx, client, patch, begin, waitLimit(o.timeout), o)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return c.printJSON(app)
	}
	if o.wait && !o.dryRun {
		c.notef("settled in %.1fs", time.Since(begin).Seconds())
	}
	return nil
}

// change sets properties and, unless told not to, waits for at most limit until they have taken effect. With an error from the
// wait it returns the App as accepted.
func (c *cli) change(ctx context.Context, client *supervisor.Client, patch json.RawMessage, begin time.Time, limit time.Duration, o *setOptions) (*messages.App, error) {
	reply, err := setApp(ctx, client, messages.SetRequest{Patch: patch, IfGeneration: o.ifGeneration, DryRun: o.dryRun})
	if err != nil {
		return nil, err
	}
	for _, w := range reply.Warnings {
		c.notef("warning: %s", w)
	}
	if o.output != "json" {
		note := ""
		switch {
		case o.dryRun:
			note = "  (dry run)"
		case !reply.Changed:
			note = "  (unchanged)"
		}
		c.printf("app/app  generation %d%s\n", reply.App.Generation, note)
	}
	if !o.wait || o.dryRun {
		return reply.App, nil
	}
	app, err := c.settle(ctx, client, reply.App, begin, limit, o)
	if err != nil {
		return reply.App, err
	}
	return app, nil
}

func setApp(ctx context.Context, client *supervisor.Client, r messages.SetRequest) (*messages.SetReply, error) {
	ctx, cancel := request(ctx)
	defer cancel()
	return client.Set(ctx, r)
}

// settle waits until the change has taken effect and shows the way there on stderr.
func (c *cli) settle(ctx context.Context, client *supervisor.Client, app *messages.App, begin time.Time, limit time.Duration, o *setOptions) (*messages.App, error) {
	show := newProgress(c, app, begin, o.output == "json")
	last := app
	done, err := client.WaitSettled(ctx, supervisor.SettleOptions{
		Generation: app.Generation, Timeout: limit,
		Progress: func(a *messages.App) { last = a; show.app(a) },
	})
	if err == nil && done != nil {
		show.app(done)
	}
	show.end()
	if err == nil {
		c.noteReset(app, done)
		return done, nil
	}
	c.noteReset(app, last)
	why := whyNow(ctx, client, messages.KindApp, messages.AppName, last)
	if errors.Is(err, messages.ErrTimeout) {
		return nil, notSettled(err, why, app, o)
	}
	if lines := whyLines(why, time.Now()); len(lines) > 0 && errors.Is(err, messages.ErrTerminal) {
		return nil, explained{err, lines}
	}
	return nil, err
}

// noteReset says how many accepted wishes a reset of the mirrors between the two has ended undone.
func (c *cli) noteReset(before, after *messages.App) {
	was, is := before.Status.LastReset, after.Status.LastReset
	if is == nil || is.Superseded == 0 || was != nil && was.Sweep >= is.Sweep {
		return
	}
	what := "1 pending deletion or intent"
	if is.Superseded > 1 {
		what = fmt.Sprintf("%d pending deletions and intents", is.Superseded)
	}
	c.notef("%s ended undone as %s/%s; rdd events names them", what, messages.ReasonSuperseded, messages.ReasonMirrorReset)
}

// notSettled is the time-out of a change, with the chain of what blocks it.
func notSettled(cause error, why *supervisor.Blockage, app *messages.App, o *setOptions) error {
	e := messages.NewError(messages.CodeTimeout, "", "", "", "")
	e.Message = "not settled after " + short(o.timeout) + " (app/app generation " + itoa(app.Generation) + ")"
	e.Details = whyDetails(why, messages.AsError(cause).Details)
	e.Details["generation"] = itoa(app.Generation)
	verb := "change"
	if app.Spec.Running {
		verb = "start"
	}
	return explained{e, append(whyLines(why, time.Now()), "the "+verb+" continues; follow it with: rdd status --watch")}
}

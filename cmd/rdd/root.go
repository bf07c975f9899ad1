package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/supervisor"
)

const (
	// requestTimeout is the deadline of one request; waiting for a state has its own.
	requestTimeout = 10 * time.Second
	// dialTimeout is the deadline of a connection to the daemon.
	dialTimeout = 5 * time.Second
)

// cli is one run of the command line.
type cli struct {
	out, err io.Writer
	// instance is --instance; empty = RDD_INSTANCE or the default.
	instance string
	// parsed is set once the command line proved well-formed: an error before that is a usage error.
	parsed bool
	// child is set in a daemon that was started in the background.
	child bool
}

func newRoot(c *cli) *cobra.Command {
	root := group("rdd", "Run containers on this desktop, and mirror, watch and change them")
	root.Version = version
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetOut(c.out)
	root.SetErr(c.err)
	root.PersistentFlags().StringVar(&c.instance, "instance", c.instance,
		"name of the instance, [a-z0-9][a-z0-9-]{0,31} (default $RDD_INSTANCE, else 2)")
	completeFlagWith(root, "instance", instanceNames)
	root.CompletionOptions.SetDefaultShellCompDirective(noFiles)
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		c.parsed = true
		_, err := supervisor.NewInstance(c.instance)
		return err
	}
	ctl := group("ctl", "Work with resources")
	ctl.AddCommand(newGet(c), newDescribe(c), newWatch(c), newWait(c), newWaitCondition(c), newDelete(c), newPatch(c), newAnnotate(c), newLabel(c),
		newApply(c), newAction(c), newExplain(c), newAPIResources(c))
	svc := group("svc", "Work with the background service")
	svc.AddCommand(newServe(c), newSvcCreate(c), newSvcStart(c), newSvcStop(c), newSvcRestart(c), newSvcDelete(c), newSvcStatus(c),
		newSvcLog(c), newSvcPaths(c), newSvcLs(c))
	root.AddCommand(newSet(c), newStart(c), newStop(c), newRestart(c), newStatus(c), newVersion(c), ctl, svc, newTree(c), newEvents(c), newWhy(c))
	if os.Getenv("RDD_TEST_HOOKS") == "1" {
		root.AddCommand(newDebug(c))
	}
	return root
}

// group is a command that only has others below it; unlike cobra's own such commands it refuses an unknown one.
func group(use, short string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				text += "; did you mean " + strings.Join(near, ", ") + "?"
			}
			return badRequest("%s", text)
		},
		SuggestionsMinimumDistance: 2,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

// exactly takes n arguments; what they are is said otherwise.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return badRequest("want %s; there are %d arguments", what, len(args))
		}
		return nil
	}
}

// theInstance is the one this run is about.
func (c *cli) theInstance() (supervisor.Instance, error) { return supervisor.NewInstance(c.instance) }

// dial connects to the daemon; it never starts one.
func (c *cli) dial(ctx context.Context) (*supervisor.Client, error) {
	i, err := c.theInstance()
	if err != nil {
		return nil, err
	}
	return dialInstance(ctx, i)
}

// dialInstance connects within a deadline. Clients of a one-shot command are not closed: the process ends, and an orderly
// goodbye to a peer that hangs would cost seconds.
func dialInstance(ctx context.Context, i supervisor.Instance) (*supervisor.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return supervisor.Dial(ctx, i)
}

// request makes the context of one request.
func request(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, requestTimeout)
}

// outputFlag adds -o with the formats a command knows; "table" is the default.
func outputFlag(cmd *cobra.Command, to *string, formats ...string) {
	cmd.Flags().StringVarP(to, "output", "o", "", "output format: "+strings.Join(formats, "|"))
	completeFlag(cmd, "output", append([]string{"table"}, formats...)...)
	inner := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *to != "" && *to != "table" && !slices.Contains(formats, *to) {
			return badRequest("unknown output format %q: want %s", *to, strings.Join(formats, ", "))
		}
		return inner(cmd, args)
	}
}

func (c *cli) printf(format string, args ...any) { _, _ = fmt.Fprintf(c.out, format, args...) }

// notef tells people something beside the data.
func (c *cli) notef(format string, args ...any) {
	_, _ = fmt.Fprintln(c.err, printable(fmt.Sprintf(format, args...)))
}

// waitLimit translates --timeout=0 of the commands that know no "check once" into the client's "unlimited".
func waitLimit(d time.Duration) time.Duration {
	if d <= 0 {
		return -1
	}
	return d
}

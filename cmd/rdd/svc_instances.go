package main

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

const (
	// probeLimit is how long one instance may take to tell how it is; maxProbes are asked at once.
	probeLimit = 2 * time.Second
	maxProbes  = 8
)

func newSvcCreate(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "create", Short: "Make the instance's directories; start nothing", Args: cobra.NoArgs,
		Long: "Make the instance's directories, for this user alone (0700). What is there already stays. Nothing is started.",
		RunE: func(*cobra.Command, []string) error {
			i, err := c.theInstance()
			if err != nil {
				return err
			}
			created, err := i.Create()
			if err != nil {
				return err
			}
			word := "exists already"
			if created {
				word = "created"
			}
			c.printf("rdd %s %s (%s)\n", i.Name, word, i.Dir())
			return nil
		},
	}
}

// instanceRow is one instance in a listing; also its JSON.
type instanceRow struct {
	Name string `json:"name"`
	// State is running, stopped, or unresponsive: its process lives and does not answer.
	State   string `json:"state"`
	PID     int    `json:"pid,omitempty"`
	Version string `json:"version,omitempty"`
	Dir     string `json:"dir"`
}

func newSvcLs(c *cli) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "ls", Short: "List the instances of this user", Args: cobra.NoArgs,
		Long: "List the instances of this user: running, stopped, or unresponsive (its process lives and does not answer). Nothing is created.",
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.svcLs(cmd.Context(), output) }
	outputFlag(cmd, &output, "json", "name")
	return cmd
}

func (c *cli) svcLs(ctx context.Context, output string) error {
	instances, err := supervisor.Instances()
	if err != nil {
		return err
	}
	if output == "name" {
		for _, i := range instances {
			c.printf("%s\n", i.Name)
		}
		return nil
	}
	all := probeAll(ctx, instances)
	if output == "json" {
		return c.printJSON(all)
	}
	if len(all) == 0 {
		c.notef("No instances found")
		return nil
	}
	lines := [][]string{{"NAME", "STATE", "PID", "VERSION", "DIR"}}
	for _, r := range all {
		pid := "-"
		if r.PID > 0 {
			pid = strconv.Itoa(r.PID)
		}
		lines = append(lines, []string{r.Name, r.State, pid, orElse(r.Version, "-"), r.Dir})
	}
	rows(c.out, lines)
	return nil
}

// probeAll asks all instances, some at once, and keeps their order.
func probeAll(ctx context.Context, instances []supervisor.Instance) []instanceRow {
	out := make([]instanceRow, len(instances))
	turns := make(chan struct{}, maxProbes)
	var all sync.WaitGroup
	for n, i := range instances {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			out[n] = probe(ctx, i)
		})
	}
	all.Wait()
	return out
}

func probe(ctx context.Context, i supervisor.Instance) instanceRow {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	r := instanceRow{Name: i.Name, State: "stopped", Dir: i.Dir()}
	client, err := dialInstance(ctx, i)
	if err == nil {
		var v *messages.VersionReply
		if v, err = client.Version(ctx); err == nil {
			r.State, r.PID, r.Version = "running", v.PID, v.Version
			return r
		}
	}
	if p, lives := holder(i); lives {
		r.State, r.PID = "unresponsive", p.pid
	}
	if errors.Is(err, messages.ErrUnsupported) {
		r.State = "running" // it answers, and speaks another version
	}
	return r
}

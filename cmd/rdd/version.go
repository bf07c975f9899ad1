package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
)

// versionReport is what version prints with -o json.
type versionReport struct {
	Client clientVersion `json:"client"`
	// Daemon is absent when none runs.
	Daemon *messages.VersionReply `json:"daemon,omitempty"`
}

type clientVersion struct {
	Version      string `json:"version"`
	WireVersions []int  `json:"wireVersions"`
	Go           string `json:"go"`
	Platform     string `json:"platform"`
}

func newVersion(c *cli) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "version", Short: "Print the versions of rdd, its daemon and the container engine", Args: cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.version(cmd.Context(), output == "json") }
	outputFlag(cmd, &output, "json")
	return cmd
}

func (c *cli) version(ctx context.Context, asJSON bool) error {
	r := versionReport{Client: clientVersion{Version: version, WireVersions: []int{messages.WireVersion}, Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH}}
	client, err := c.dial(ctx)
	if err == nil {
		r.Daemon, err = getVersion(ctx, client)
	}
	if asJSON {
		if err := c.printJSON(r); err != nil {
			return err
		}
	} else {
		c.printVersion(r)
	}
	if errors.Is(err, messages.ErrDaemonNotRunning) {
		return nil
	}
	return err
}

func (c *cli) printVersion(r versionReport) {
	c.field("rdd", fmt.Sprintf("%s  %s  %s  wire %s", r.Client.Version, r.Client.Platform, r.Client.Go, list(r.Client.WireVersions)))
	d := r.Daemon
	if d == nil {
		c.field("daemon", "not running")
		return
	}
	c.field("daemon", fmt.Sprintf("%s  pid %d  instance %s  wire %s", d.Version, d.PID, d.Instance, list(d.WireVersions)))
	c.field("docker", "API "+orElse(d.EngineAPIRange, "-"))
	if e := d.Engine; e != nil {
		c.field("engine", strings.TrimSpace(e.Name+" "+e.Version)+"  API "+orElse(e.APIVersion, "-"))
	}
}

func list(numbers []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(numbers), " ", ","), "[]")
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

const (
	// startLimit is how long a daemon may take until it answers.
	startLimit = 10 * time.Second
	startPause = 15 * time.Millisecond
	// respawnPause is how long another daemon has to answer or to end before this one tries again.
	respawnPause = 500 * time.Millisecond
	// errFileLimit is the size at which rdd.err begins a new file.
	errFileLimit = 1 << 20
)

func newSvcStart(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "start", Short: "Start the daemon in the background", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.svcStart(cmd.Context()) },
	}
}

func (c *cli) svcStart(ctx context.Context) error {
	client, err := c.dial(ctx)
	word := "already running"
	if errors.Is(err, messages.ErrDaemonNotRunning) {
		word = "started"
		client, err = c.startDaemon(ctx, false)
	}
	if err != nil {
		return err
	}
	v, err := getVersion(ctx, client)
	if err != nil {
		return err
	}
	c.printf("rdd %s %s (pid %d)\n", v.Instance, word, v.PID)
	return nil
}

// startDaemon starts the daemon in the background and waits until it answers; of several that do so at once one becomes the
// daemon. When it does not start, the error is the daemon's own.
func (c *cli) startDaemon(ctx context.Context, tell bool) (*supervisor.Client, error) {
	i, err := c.theInstance()
	if err != nil {
		return nil, err
	}
	if err := i.Check(); err != nil {
		return nil, err
	}
	d, err := spawn(i)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(startLimit)
	var died error
	var again <-chan time.Time
	for {
		client, err := dialInstance(ctx, i)
		if err == nil {
			if tell {
				c.notef("started the daemon")
			}
			return client, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if time.Now().After(deadline) {
			return nil, d.late(died, err)
		}
		select {
		case died = <-d.ended:
			// Another one holds the instance: it is about to answer, or about to end. Any other end is the answer.
			if died == nil || !errors.Is(died, messages.ErrConflict) {
				return nil, d.late(died, err)
			}
			again = time.After(respawnPause)
		case <-again:
			again = nil
			if d, err = spawn(i); err != nil {
				return nil, err
			}
		case <-time.After(startPause):
		}
	}
}

// daemon is a child that shall become the daemon.
type daemon struct {
	pid     int
	errFile string
	// offset in errFile where its words can begin.
	offset int64
	// ended gets the child's own error, once.
	ended chan error
}

// spawn starts this binary again as the daemon: session of its own, working directory /, no file of ours.
func spawn(i supervisor.Instance) (*daemon, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, messages.WrapError(messages.CodeInternal, "start", "daemon", i.Name, err)
	}
	if err := os.MkdirAll(i.LogDir(), 0o700); err != nil {
		return nil, messages.WrapError(messages.CodeForbidden, "make", "log directory", i.LogDir(), err)
	}
	d := &daemon{errFile: errFile(i), ended: make(chan error, 1)}
	if info, err := os.Stat(d.errFile); err == nil && info.Size() > errFileLimit {
		_ = os.Rename(d.errFile, d.errFile+".1")
	}
	words, err := os.OpenFile(d.errFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, messages.WrapError(messages.CodeForbidden, "open", "log file", d.errFile, err)
	}
	defer func() { _ = words.Close() }()
	if d.offset, err = words.Seek(0, io.SeekEnd); err != nil {
		return nil, messages.WrapError(messages.CodeInternal, "read", "log file", d.errFile, err)
	}
	keepFilesFromChildren()
	cmd := exec.Command(self, "--instance", i.Name, "svc", "serve", "--child")
	cmd.Args[0] = os.Args[0]
	cmd.Dir = filepath.VolumeName(self) + string(filepath.Separator)
	cmd.Stdout, cmd.Stderr = words, words
	cmd.SysProcAttr = detached()
	if err := cmd.Start(); err != nil {
		return nil, messages.WrapError(messages.CodeInternal, "start", "daemon", i.Name, err)
	}
	d.pid = cmd.Process.Pid
	go func() {
		err := cmd.Wait()
		d.ended <- d.lastWords(err)
	}()
	return d, nil
}

// lastWords is the error the child left in its file; nil when it left none and ended well.
func (d *daemon) lastWords(exit error) error {
	data, err := os.ReadFile(d.errFile)
	if err != nil || int64(len(data)) < d.offset {
		data = nil
	} else {
		data = data[d.offset:]
	}
	var rest []string
	for line := range strings.Lines(string(data)) {
		var s status
		if json.Unmarshal([]byte(line), &s) == nil && s.Kind == "Status" {
			if s.Details["pid"] == strconv.Itoa(d.pid) {
				delete(s.Details, "pid")
				e := messages.NewError(s.Reason, "", "", "", s.Message)
				e.Details = s.Details
				return e
			}
			continue
		}
		rest = append(rest, strings.TrimRight(line, "\n"))
	}
	if exit == nil {
		return nil
	}
	const most = 20
	text := "the daemon ended at once: " + exit.Error()
	if len(rest) > 0 {
		text += "\n" + strings.Join(rest[:min(most, len(rest))], "\n")
	}
	return messages.NewError(messages.CodeInternal, "start", "daemon", "", text)
}

// late is the error of a daemon that does not answer: its own words, else the last failed connection.
func (d *daemon) late(died, dialled error) error {
	if died != nil {
		return died
	}
	return messages.NewError(messages.CodeTimeout, "start", "daemon", "",
		"no answer within "+short(startLimit)+" ("+dialled.Error()+"); see "+d.errFile)
}

func newSvcStatus(c *cli) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "status", Short: "Tell whether the daemon runs (exit code 7 when it does not)", Args: cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := c.dial(cmd.Context())
		if err != nil {
			return err
		}
		v, err := getVersion(cmd.Context(), client)
		if err != nil {
			return err
		}
		if output == "json" {
			return c.printJSON(v)
		}
		c.printf("rdd %s running (pid %d, version %s, boot %d)\n", v.Instance, v.PID, v.Version, v.Boot)
		return nil
	}
	outputFlag(cmd, &output, "json")
	return cmd
}

func newSvcPaths(c *cli) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "paths [KEY]", Short: "Print where the instance keeps its files", Args: cobra.MaximumNArgs(1),
		Long: "Print where the instance keeps its files. It creates none of them.\n\n" +
			"-o shell prints assignments for eval: RDD_DIR, RDD_LOG_DIR, ….",
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error { return c.svcPaths(args, output) }
	outputFlag(cmd, &output, "shell", "json")
	return cmd
}

func (c *cli) svcPaths(args []string, output string) error {
	i, err := c.theInstance()
	if err != nil {
		return err
	}
	all := i.Paths()
	if len(args) == 1 {
		var found []supervisor.Path
		var keys []string
		for _, p := range all {
			keys = append(keys, p.Key)
			if p.Key == args[0] {
				found = append(found, p)
			}
		}
		if found == nil {
			return badRequest("unknown path %q: want one of %s", args[0], strings.Join(keys, ", "))
		}
		all = found
	}
	switch {
	case output == "json":
		values := make(map[string]string, len(all))
		for _, p := range all {
			values[p.Key] = p.Value
		}
		return c.printJSON(values)
	case output == "shell":
		for _, p := range all {
			c.printf("RDD_%s='%s'\n", strings.ToUpper(p.Key), strings.ReplaceAll(p.Value, "'", `'\''`))
		}
	case len(args) == 1:
		c.printf("%s\n", all[0].Value)
	default:
		var lines [][]string
		for _, p := range all {
			lines = append(lines, []string{p.Key, p.Value})
		}
		rows(c.out, lines)
	}
	return nil
}

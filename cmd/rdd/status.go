package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

// statusReport is everything status tells; also its JSON.
type statusReport struct {
	Instance string `json:"instance"`
	// State is one word for the exit code.
	State string `json:"state"`
	// Code is the exit code.
	Code int `json:"code"`
	// Daemon is absent when none runs.
	Daemon *messages.VersionReply `json:"daemon,omitempty"`
	App    *messages.App          `json:"app,omitempty"`
}

// States of a statusReport.
const (
	stateRunning     = "Running"
	stateStopped     = "Stopped"
	stateNotRunning  = "DaemonNotRunning"
	stateUnreachable = "EngineUnreachable"
	stateStarting    = "Starting"
	stateStopping    = "Stopping"
	stateFailed      = "Failed"
	stateDegraded    = "Degraded"
)

func newStatus(c *cli) *cobra.Command {
	var watch bool
	var output string
	cmd := &cobra.Command{
		Use: "status", Short: "Tell how the application is", Args: cobra.NoArgs,
		Long: "Tell how the application is.\n\nExit code: 0 settled and running, 7 the daemon does not run, 8 the engine cannot be reached, 10 stopped, 11 starting,\n" +
			"stopping or degraded.",
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if watch {
			return c.watchStatus(cmd.Context(), output == "json")
		}
		return c.status(cmd.Context(), output == "json")
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "go on with every change")
	outputFlag(cmd, &output, "json")
	return cmd
}

func (c *cli) status(ctx context.Context, asJSON bool) error {
	i, err := c.theInstance()
	if err != nil {
		return err
	}
	r, err := c.gatherStatus(ctx, i)
	if r == nil {
		return err
	}
	if asJSON {
		if err := c.printJSON(r); err != nil {
			return err
		}
	} else {
		c.printStatus(r)
	}
	switch {
	case err != nil:
		return err
	case r.Code != 0:
		return exitStatus(r.Code)
	}
	return nil
}

// gatherStatus asks the daemon; without one it is a report together with the error.
func (c *cli) gatherStatus(ctx context.Context, i supervisor.Instance) (*statusReport, error) {
	r := &statusReport{Instance: i.Name}
	client, err := dialInstance(ctx, i)
	if errors.Is(err, messages.ErrDaemonNotRunning) {
		r.State, r.Code = stateNotRunning, exitCode(err)
		return r, err
	}
	if err != nil {
		return nil, err
	}
	if r.Daemon, err = getVersion(ctx, client); err != nil {
		return nil, err
	}
	if r.App, err = getApp(ctx, client); err != nil {
		return nil, err
	}
	r.State, r.Code = judge(r.App)
	return r, nil
}

func getVersion(ctx context.Context, client *supervisor.Client) (*messages.VersionReply, error) {
	ctx, cancel := request(ctx)
	defer cancel()
	return client.Version(ctx)
}

// judge says in one word how the application is, and the exit code for it.
func judge(app *messages.App) (string, int) {
	settled := messages.Condition(app, messages.ConditionSettled)
	isSettled := settled != nil && settled.Status == metav1.ConditionTrue && app.Status.ObservedGeneration >= app.Generation
	running := messages.Condition(app, messages.ConditionRunning)
	engine := messages.Condition(app, messages.ConditionContainerEngineReady)
	unreachable := []string{messages.ReasonConnectFailed, messages.ReasonCannotConnect, messages.ReasonDisconnected}
	switch {
	case running != nil && messages.TerminalReason(running.Reason):
		if app.Status.Driver == messages.DriverExternal {
			return stateUnreachable, exitCodes[messages.CodeEngineUnreachable] // there is no vm of ours that could have failed: the engine cannot be reached
		}
		return stateFailed, exitDegraded
	case !app.Spec.Running && isSettled:
		return stateStopped, exitStopped
	case !app.Spec.Running:
		return stateStopping, exitDegraded
	case engine != nil && engine.Status == metav1.ConditionFalse && slices.Contains(unreachable, engine.Reason):
		return stateUnreachable, exitCodes[messages.CodeEngineUnreachable]
	case !isSettled:
		return stateStarting, exitDegraded
	case engine == nil || engine.Status == metav1.ConditionTrue || engine.Reason == messages.ReasonNotApplicable:
		return stateRunning, 0
	}
	return stateDegraded, exitDegraded
}

func (c *cli) printStatus(r *statusReport) {
	colours := colourful(c.out)
	colour := map[int]string{0: green, exitStopped: faint}[r.Code]
	if colour == "" {
		colour = red
	}
	c.field("instance", r.Instance)
	c.field("state", paint(colours, colour, r.State))
	if r.Daemon == nil {
		return
	}
	c.field("daemon", fmt.Sprintf("pid %d  version %s  boot %d", r.Daemon.PID, r.Daemon.Version, r.Daemon.Boot))
	app := r.App
	c.field("app", fmt.Sprintf("generation %d (observed %d)  running=%t  engine %s", app.Generation, app.Status.ObservedGeneration,
		app.Spec.Running, app.Spec.ContainerEngine.Name))
	if app.Status.Driver != "" {
		c.field("driver", app.Status.Driver)
	}
	if app.Status.Endpoint != "" {
		source := ""
		if app.Status.EndpointSource != "" {
			source = "  (" + app.Status.EndpointSource + ")"
		}
		c.field("endpoint", app.Status.Endpoint+source)
	}
	if e := app.Status.Engine; e != nil {
		c.printEngine(e)
	}
	if len(app.Conditions()) == 0 {
		return
	}
	c.printf("\n")
	lines := [][]string{{"CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"}}
	for _, cond := range app.Conditions() {
		lines = append(lines, []string{cond.Type, string(cond.Status), cond.Reason, ago(cond.LastTransitionTime.Time), cond.Message})
	}
	rows(c.out, lines)
}

func (c *cli) printEngine(e *messages.EngineStatus) {
	text := strings.TrimSpace(e.Name + " " + e.Version)
	if e.APIVersion != "" {
		text += "  API " + e.APIVersion
	}
	if e.ClockSkew != "" {
		text += "  clock skew " + e.ClockSkew
	}
	c.field("engine", text)
	for i, m := range e.Mirrors {
		head := ""
		if i == 0 {
			head = "mirrors"
		}
		k, _ := messages.KindByName(m.Kind)
		line := fmt.Sprintf("%d %s", m.Objects, orElse(k.Plural, m.Kind))
		if m.LastProof != nil {
			line += "  proved " + ago(m.LastProof.Time) + " ago"
		}
		if m.Repairs > 0 {
			line += fmt.Sprintf("  repairs %d", m.Repairs)
		}
		c.field(head, line)
	}
}

// field prints one line of a report; the value may be coloured.
func (c *cli) field(name, value string) {
	if strings.HasPrefix(value, "\x1b") {
		c.printf("%-10s %s\n", name, value)
		return
	}
	c.printf("%-10s %s\n", name, printable(value))
}

// ago is how long ago t was.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return short(time.Since(t).Truncate(time.Second))
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// watchStatus prints the state whenever the App changes, and goes on through a restart of the daemon.
func (c *cli) watchStatus(ctx context.Context, asJSON bool) error {
	l, err := c.link(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kind, _ := messages.KindByName(messages.KindApp)
	f := &follower{c: c, link: l, kind: kind, known: map[string]messages.Object{}}
	changes, ended := make(chan []messages.WatchEvent), make(chan error, 1)
	go func() { ended <- f.run(ctx, changes) }()
	seen := map[string]metav1.Condition{}
	last := ""
	for {
		select {
		case err := <-ended:
			return err
		case batch := <-changes:
			for _, e := range batch {
				app, ok := e.Object.(*messages.App)
				if !ok || e.Type == messages.Deleted {
					continue
				}
				state, code := judge(app)
				if asJSON {
					r := statusReport{Instance: l.instance.Name, State: state, Code: code, App: app}
					if err := c.printJSONLine(r); err != nil {
						return err
					}
					continue
				}
				last = c.printChanges(app, seen, state, last)
			}
		}
	}
}

// printChanges prints a line for every condition that changed, and one for a new state.
func (c *cli) printChanges(app *messages.App, seen map[string]metav1.Condition, state, last string) string {
	now := time.Now().Format("15:04:05")
	for _, cond := range app.Conditions() {
		old := seen[cond.Type]
		seen[cond.Type] = cond
		if old.Status != cond.Status || old.Reason != cond.Reason || old.Message != cond.Message {
			line := fmt.Sprintf("%s  %-20s  %-7s  %-15s  %s", now, cond.Type, cond.Status, cond.Reason, cond.Message)
			c.printf("%s\n", strings.TrimRight(printable(line), " "))
		}
	}
	if state != last {
		c.printf("%s  %s (generation %d)\n", now, state, app.Generation)
	}
	return state
}

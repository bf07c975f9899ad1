package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

func container(name, state string, exit int) *messages.Container {
	k, _ := messages.KindByName(messages.KindContainer)
	c := k.New().(*messages.Container)
	c.Name, c.Namespace, c.ResourceVersion, c.UID = strings.Repeat(name[:1], 64), messages.DefaultNamespace, "7", "uid-1"
	c.Annotations = map[string]string{messages.ActionAnnotation: "stop"}
	c.Status.Name, c.Status.Status, c.Status.ExitCode = name, state, &exit
	c.Status.Ports = []messages.ContainerPort{{Name: "80/tcp", Bindings: []messages.PortBinding{{HostIP: "0.0.0.0", HostPort: "8080"}}}}
	return c
}

func TestExitCodeOfEveryCode(t *testing.T) {
	for _, code := range []messages.Code{messages.CodeNotFound, messages.CodeAlreadyExists, messages.CodeConflict, messages.CodeInUse,
		messages.CodeInvalid, messages.CodeForbidden, messages.CodeBadRequest, messages.CodeAmbiguous, messages.CodeTimeout,
		messages.CodeGone, messages.CodeUnsupported, messages.CodeUnavailable, messages.CodeDaemonNotRunning,
		messages.CodeEngineUnreachable, messages.CodeTerminal, messages.CodeInternal} {
		require.Contains(t, exitCodes, code)
		err := fmt.Errorf("wrapped: %w", messages.NewError(code, "get", "container", "x", "why"))
		require.Equal(t, exitCodes[code], exitCode(err), code)
		require.Equal(t, exitCodes[code], exitCode(explained{err, nil}), code)
		require.Equal(t, exitCodes[code], exitCode(severalErrors{err, fmt.Errorf("other")}), code)
	}
	require.Equal(t, 1, exitCode(fmt.Errorf("unknown")))
}

func TestOutputFormats(t *testing.T) {
	web, big := container("web", "running", 0), container("db", "exited", 12345678)
	for _, tc := range []struct {
		output string
		single bool
		want   string
	}{
		{"name", false, "container/" + web.Name + "\ncontainer/" + big.Name + "\n"},
		{"jsonpath={.items[*].status.name}", false, "web db"},
		{"jsonpath={range .items[*]}{.status.name}={.status.status}{\"\\n\"}{end}", false, "web=running\ndb=exited\n"},
		{"jsonpath={.items[1].status.exitCode}", false, "12345678"},
		{`jsonpath={.metadata.annotations.containers\.rancherdesktop\.io/action}`, true, "stop"},
		{`jsonpath={.status.ports[?(@.name=="80/tcp")].bindings[0].hostPort}`, true, "8080"},
		{"jsonpath=.status.name", true, "web"},
		{"jsonpath={.status.nonsense}", true, ""},
		{"go-template={{range .items}}{{.status.name}} {{end}}", false, "web db "},
		{"custom-columns=NAME:.status.name,CODE:status.exitCode,NONE:.x", false, "NAME   CODE       NONE\nweb    0          <none>\ndb     12345678   <none>\n"},
	} {
		var b bytes.Buffer
		p, err := newPrinter(&b, printOptions{output: tc.output})
		require.NoError(t, err, tc.output)
		items := []messages.Object{web, big}
		if tc.single {
			items = items[:1]
		}
		// Twice: a printer keeps nothing between documents.
		for range 2 {
			b.Reset()
			require.NoError(t, p.list(listing{items: items, single: tc.single, version: "9"}), tc.output)
			if !strings.HasPrefix(tc.output, "custom") {
				require.Equal(t, tc.want, b.String(), tc.output)
			}
		}
	}
}

func TestListIsAList(t *testing.T) {
	var b bytes.Buffer
	p, err := newPrinter(&b, printOptions{output: "json"})
	require.NoError(t, err)
	require.NoError(t, p.list(listing{version: "9"}))
	require.JSONEq(t, `{"apiVersion":"v1","kind":"List","items":[],"metadata":{"resourceVersion":"9"}}`, b.String())
	b.Reset()
	require.NoError(t, p.event(messages.WatchEvent{Type: messages.Added, Object: container("web", "running", 0)}))
	require.Equal(t, 1, strings.Count(b.String(), "\n"), "a watch prints one object a line")
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	p, err := newPrinter(&b, printOptions{withEvents: true})
	require.NoError(t, err)
	evil := container("web", "running\x1b[2J\n", 0)
	require.NoError(t, p.event(messages.WatchEvent{Type: messages.Added, Object: evil}))
	require.NoError(t, p.event(messages.WatchEvent{Type: messages.Deleted, Reason: messages.ReasonMirrorReset, Object: evil}))
	lines := strings.Split(b.String(), "\n")
	require.Len(t, lines, 4)
	require.Regexp(t, `^EVENT +NAME +ID +IMAGE +STATE`, lines[0])
	require.Regexp(t, `^ADDED +web +wwwwwwwwwwww .*running\?\[2J\?`, lines[1])
	require.Regexp(t, `^DELETED\(MirrorReset\) +web `, lines[2])
}

func TestParseTargets(t *testing.T) {
	for in, want := range map[string]string{
		"containers":                      "containers",
		"co,IMG":                          "containers images",
		"all":                             "apps containers images volumes containernamespaces",
		"image ghcr.io/a/b:1":             "image/ghcr.io/a/b:1",
		"container/web image/alpine:3.20": "container/web image/alpine:3.20",
		"vol a b":                         "volume/a volume/b",
		"containers,containers,all":       "containers apps images volumes containernamespaces",
	} {
		targets, err := parseTargets(strings.Fields(in))
		require.NoError(t, err, in)
		var got []string
		for _, x := range targets {
			got = append(got, x.String())
		}
		require.Equal(t, want, strings.Join(got, " "), in)
	}
}

func TestFollowerComparesSnapshots(t *testing.T) {
	k, _ := messages.KindByName(messages.KindContainer)
	f := &follower{kind: k, known: map[string]messages.Object{}}
	bookmark := messages.WatchEvent{Type: messages.Bookmark, Version: "10"}
	same, changed, gone := container("same", "running", 0), container("changed", "running", 0), container("gone", "running", 0)
	same.UID, changed.UID, gone.UID = "1", "2", "3"
	f.snapshot = []messages.Object{same, changed, gone}
	require.Equal(t, []string{"ADDED same", "ADDED changed", "ADDED gone"}, said(f.initial(bookmark)))
	require.Equal(t, "10", f.version)

	newer, again := changed.DeepCopy(), container("gone", "running", 0)
	newer.ResourceVersion, again.UID = "12", "4"
	f.snapshot = []messages.Object{same, newer, again}
	require.Equal(t, []string{"DELETED gone", "MODIFIED changed", "ADDED gone"}, said(f.initial(bookmark)))
	require.Equal(t, []string{"DELETED same"}, said(f.live(messages.WatchEvent{Type: messages.Deleted, Version: "13", Object: same})))
	require.Equal(t, "13", f.version)
	require.Len(t, f.known, 2)
}

func said(events []messages.WatchEvent) []string {
	var out []string
	for _, e := range events {
		out = append(out, string(e.Type)+" "+e.Object.(*messages.Container).Status.Name)
	}
	return out
}

func TestSortBy(t *testing.T) {
	a, b, c := container("a", "x", 10), container("b", "x", 9), container("c", "x", 0)
	c.Status.ExitCode = nil
	items := []messages.Object{a, b, c}
	p, err := relaxedPath(".status.exitCode")
	require.NoError(t, err)
	require.NoError(t, sortBy(items, p))
	require.Equal(t, []messages.Object{c, b, a}, items)
}

func TestRenderTree(t *testing.T) {
	now := time.Now()
	at := metav1.NewMicroTime(now.Add(-2 * time.Hour))
	root := &messages.TreeNode{Path: "rdd", State: "up 6d4h", Children: []messages.TreeNode{
		{Path: "rdd/engine", State: "Live", Restarts: 3, Last: "stream closed", LastAt: &at},
		{Path: "rdd/containers", State: "5 children"},
	}}
	for i := range 5 {
		root.Children[1].Children = append(root.Children[1].Children,
			messages.TreeNode{Path: fmt.Sprintf("rdd/containers/%064x", i), State: "Synced"})
	}
	root.Children[1].Children[3].State, root.Children[1].Children[3].Detail = "InspectTimeout", "5 tries, next in 50s"
	require.Equal(t, `rdd                  up 6d4h         restarts 0
├─ engine            Live            restarts 3  last: stream closed 2h ago
└─ containers        5 children      restarts 0
   └─ 000000000000…  InspectTimeout  restarts 0  5 tries, next in 50s
`, renderTree(root, false, now))
	require.Equal(t, 8, strings.Count(renderTree(root, true, now), "\n"))
}

func TestJudge(t *testing.T) {
	app := func(running bool, conditions ...string) *messages.App {
		a := &messages.App{Spec: messages.AppSpec{Running: running}}
		for _, c := range conditions {
			f := strings.Split(c, "/")
			a.Status.ConditionList = append(a.Status.ConditionList, metav1.Condition{Type: f[0], Status: metav1.ConditionStatus(f[1]), Reason: f[2]})
		}
		return a
	}
	for _, tc := range []struct {
		app  *messages.App
		want string
		code int
	}{
		{app(true, "Settled/True/Settled", "ContainerEngineReady/True/Connected"), stateRunning, 0},
		{app(true, "Settled/True/Settled", "ContainerEngineReady/Unknown/NotApplicable"), stateRunning, 0},
		{app(true, "Settled/False/NotSettled", "ContainerEngineReady/False/ConnectFailed"), stateUnreachable, 8},
		{app(true, "Settled/True/Settled", "ContainerEngineReady/False/Disconnected"), stateUnreachable, 8},
		{app(true, "Settled/False/CannotConnect", "ContainerEngineReady/False/CannotConnect", "Running/True/Started"), stateUnreachable, 8},
		{app(true, "Settled/False/NotSettled", "Running/False/Starting"), stateStarting, 11},
		{app(true, "Settled/False/NotSettled", "Running/False/StartFailed"), stateFailed, 11},
		{app(false, "Settled/True/Settled"), stateStopped, 10},
		{app(false, "Settled/False/NotSettled"), stateStopping, 11},
		{app(false), stateStopping, 11},
	} {
		state, code := judge(tc.app)
		require.Equal(t, tc.want, state)
		require.Equal(t, tc.code, code)
	}
}

func TestSeekTail(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(name, []byte("1\n2\n"+strings.Repeat("x", 200_000)+"\n4"), 0o600))
	for n, want := range map[int]int{0: 0, 1: 1, 2: 200_002, 3: 200_004, 9: 200_006} {
		f, err := os.Open(name)
		require.NoError(t, err)
		require.NoError(t, seekTail(f, n))
		var b bytes.Buffer
		_, err = b.ReadFrom(f)
		require.NoError(t, err)
		require.Equal(t, want, b.Len(), n)
		require.NoError(t, f.Close())
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 300 * time.Millisecond: "300ms", 20 * time.Second: "20s", 5 * time.Minute: "5m",
		90 * time.Second: "1m30s", 2 * time.Hour: "2h"} {
		require.Equal(t, want, short(d))
	}
}

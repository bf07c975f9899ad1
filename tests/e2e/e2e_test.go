// Package e2e runs the whole tree, in process, on a real Docker Engine that is driven with the docker CLI: after each
// operation the mirror must equal the engine.
package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/tests/enginetest"
	"github.com/rdd-desktop/rdd/vmdriver"
	"github.com/rdd-desktop/rdd/vmdriver/external"
)

// sideBySide is how many of the tests that say t.Parallel run at once: they mostly wait for processes.
const sideBySide = "6"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", sideBySide); err != nil {
		panic(err)
	}
	code := enginetest.Run(m)
	_ = os.RemoveAll(binDir)
	os.Exit(code)
}

// patience is how long a test waits for what must come soon; it is a limit, never a pause.
const patience = 20 * time.Second

type house struct {
	*testing.T
	engine *enginetest.Client
	client *supervisor.Client
	took   []time.Duration
}

// startExternal runs rdd on the engine at host.
func startExternal(t *testing.T, e *enginetest.Client, host string, intervals supervisor.Intervals) *house {
	t.Helper()
	r, err := supervisor.Start(t.Context(), supervisor.Config{
		TestHooks: true, Intervals: intervals,
		Drivers: map[string]vmdriver.Driver{messages.DriverExternal: external.New(external.Config{
			Getenv: func(name string) string { return map[string]string{"DOCKER_HOST": host}[name] }, Home: t.TempDir(),
		})},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, r.Stop(ctx))
	})
	h := &house{T: t, engine: e, client: r.Client()}
	h.set("running=true", "virtualMachine.driver=external")
	return h
}

func (h *house) set(assignments ...string) {
	h.Helper()
	patch, err := messages.ParseAssignments(assignments)
	require.NoError(h, err)
	_, err = h.client.Set(h.Context(), messages.SetRequest{Patch: patch})
	require.NoError(h, err)
}

func (h *house) settled() *house {
	h.Helper()
	_, err := h.client.WaitSettled(h.Context(), supervisor.SettleOptions{Timeout: patience})
	require.NoError(h, err)
	return h
}

// within waits until is holds and says how long that took; it fails after limit.
func (h *house) within(limit time.Duration, what string, is func() bool) time.Duration {
	h.Helper()
	began := time.Now()
	require.Eventually(h, is, limit, 5*time.Millisecond, what)
	return time.Since(began)
}

func (h *house) list(kind string) messages.Objects {
	l, err := h.client.List(h.Context(), kind, supervisor.ListOptions{})
	require.NoError(h, err)
	return l.Items
}

func (h *house) get(kind, name string) messages.Object {
	o, err := h.client.Get(h.Context(), kind, name)
	if err != nil {
		require.ErrorIs(h, err, messages.ErrNotFound)
		return nil
	}
	return o
}

func (h *house) container(name string) *messages.Container {
	c, _ := h.get("container", name).(*messages.Container)
	return c
}

func (h *house) condition(kind, name, condition string) metav1.Condition {
	o := h.get(kind, name)
	if o == nil {
		return metav1.Condition{}
	}
	if c := messages.Condition(o, condition); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// mirror and truth render the same facts, one a line, from rdd and from the docker CLI.
func (h *house) mirror() string {
	var out []string
	for _, o := range h.list("container") {
		c := o.(*messages.Container)
		out = append(out, strings.Join([]string{"container", c.Name, c.Status.Name, c.Status.Status, c.Status.Image}, " "))
	}
	for _, o := range h.list("image") {
		i := o.(*messages.Image)
		out = append(out, fmt.Sprintf("image %s %s", i.Status.ID, i.Status.RepoTag))
	}
	for _, o := range h.list("volume") {
		out = append(out, "volume "+o.(*messages.Volume).Status.Name)
	}
	sort.Strings(out)
	return strings.Join(out, "\n")
}

func (h *house) truth() string {
	var out []string
	if ids := strings.Fields(h.engine.Docker(h.T, "ps", "-aq", "--no-trunc")); len(ids) > 0 {
		text, err := h.engine.DockerErr(append([]string{"inspect", "-f", "container {{.Id}} {{.Name}} {{.State.Status}} {{.Image}}"}, ids...)...)
		if err != nil {
			return "changing: " + err.Error()
		}
		for l := range strings.Lines(text) {
			out = append(out, strings.Replace(strings.TrimSpace(l), " /", " ", 1))
		}
	}
	images, err := h.engine.API(h.Context(), "GET", "/images/json", nil)
	require.NoError(h, err)
	var list []struct {
		ID       string `json:"Id"`
		RepoTags []string
	}
	require.NoError(h, json.Unmarshal(images, &list))
	for _, i := range list {
		tags := slices.DeleteFunc(i.RepoTags, func(s string) bool { return s == "<none>:<none>" })
		if len(tags) == 0 {
			tags = []string{""}
		}
		for _, tag := range tags {
			out = append(out, fmt.Sprintf("image %s %s", i.ID, tag))
		}
	}
	for _, v := range strings.Fields(h.engine.Docker(h.T, "volume", "ls", "-q")) {
		out = append(out, "volume "+v)
	}
	sort.Strings(out)
	return strings.Join(out, "\n")
}

// equal waits until the mirror equals the engine, and keeps how long that took. What it looks at costs several processes: on a
// machine with other work one look may take a second.
func (h *house) equal(what string) {
	h.Helper()
	h.equalWithin(patience, what)
}

func (h *house) equalWithin(limit time.Duration, what string) {
	h.Helper()
	var mirror, truth string
	began := time.Now()
	for time.Since(began) < limit {
		if mirror, truth = h.mirror(), h.truth(); mirror == truth {
			h.took = append(h.took, time.Since(began))
			h.Logf("%-40s equal after %s", what, time.Since(began).Round(time.Millisecond))
			return
		}
	}
	require.Equal(h, truth, mirror, "%s: the mirror is not the engine's after %s", what, limit)
}

func TestTheMirrorEqualsTheEngine(t *testing.T) { onEach(t, theMirrorEqualsTheEngine) }

func theMirrorEqualsTheEngine(t *testing.T, e place) {
	e.ImportBusybox(t, "busybox:latest")
	h := e.start(t, supervisor.Intervals{}).settled()
	h.equal("first pass")
	d := func(args ...string) { t.Helper(); e.Docker(t, args...) }
	for _, step := range []struct {
		what string
		do   func()
		// also is what the engine's list does not show.
		also func() bool
	}{
		{"run", func() { d("run", "-d", "--name", "web", "busybox", "sleep", "3600") }, nil},
		{"pause", func() { d("pause", "web") }, nil},
		{"unpause", func() { d("unpause", "web") }, nil},
		{"rename", func() { d("rename", "web", "site") }, func() bool { return h.container("site") != nil && h.container("web") == nil }},
		{"stop", func() { d("stop", "-t", "0", "site") }, func() bool { return *h.container("site").Status.ExitCode == 137 }},
		{"start", func() { d("start", "site") }, nil},
		// No start and no die: found by the network events around the attempt.
		{"a command that does not exist", func() { _, _ = e.DockerErr("run", "-d", "--name", "bad", "busybox", "nosuch") },
			func() bool { return h.container("bad") != nil && h.container("bad").Status.Error != "" }},
		// The restart policy works without a word: found by the second look after each death. The loop is ended before the
		// comparison, since neither side holds still in it.
		{"a restart loop", func() {
			d("run", "-d", "--name", "loop", "--restart", "always", "busybox", "sh", "-c", "sleep 0.1; exit 3")
			h.within(patience, "restarts are seen", func() bool { c := h.container("loop"); return c != nil && c.Status.RestartCount > 1 })
			d("update", "--restart", "no", "loop")
			h.within(patience, "it ends", func() bool { return strings.Contains(h.truth(), " loop exited ") })
		}, func() bool { return *h.container("loop").Status.ExitCode == 3 }},
		{"rm", func() { d("rm", "-f", "loop"); d("rm", "bad") }, nil},
		{"tag", func() { d("tag", "busybox:latest", "demo:1") }, nil},
		// The event names the image, not the tag: found by the list it causes.
		{"untag", func() { d("rmi", "demo:1") }, nil},
		{"another image", func() { e.ImportImage(t, "other:1", "other") }, nil},
		// No event for the loser: found by the list that the winner's event causes.
		{"a tag that moves", func() { d("tag", "busybox:latest", "other:1") }, nil},
		{"image prune", func() { d("image", "prune", "-f") }, nil},
		{"volume create", func() { d("volume", "create", "v1"); d("volume", "create", "v2") }, nil},
		{"volume rm", func() { d("volume", "rm", "v1") }, nil},
		// One event, no destroy: found by the list it causes.
		{"volume prune", func() { d("volume", "prune", "-f") }, nil},
		{"ports", func() {
			d("run", "-d", "--name", "ports", "-p", "127.0.0.1::80", "--expose", "81", "busybox", "sleep", "3600")
		}, func() bool {
			p := h.container("ports").Status.Ports
			return len(p) == 2 && p[0].Name == "80/tcp" && len(p[0].Bindings) == 1 && p[1].Name == "81/tcp" && len(p[1].Bindings) == 0
		}},
		{"container prune", func() { d("stop", "-t", "0", "ports"); d("container", "prune", "-f") }, nil},
		{"rm -f", func() { d("rm", "-f", "site") }, nil},
	} {
		step.do()
		h.equal(step.what)
		if step.also != nil {
			h.within(patience, step.what, step.also)
		}
	}
	slices.Sort(h.took)
	require.Less(t, h.took[len(h.took)/2], time.Second, "half of the operations are seen within a second, however busy the machine")
}

func TestAnInUseImageSaysWhoHoldsItAndGoesWithItsUser(t *testing.T) {
	onEach(t, anInUseImageSaysWhoHoldsItAndGoesWithItsUser)
}

func anInUseImageSaysWhoHoldsItAndGoesWithItsUser(t *testing.T, e place) {
	e.ImportBusybox(t, "busybox:latest")
	e.Docker(t, "run", "-d", "--name", "user", "busybox", "sleep", "3600")
	h := e.start(t, supervisor.Intervals{}).settled()
	_, err := h.client.Delete(t.Context(), messages.DeleteRequest{Kind: "image", Name: "busybox:latest"})
	require.NoError(t, err)
	h.within(patience, "blocked", func() bool {
		c := h.condition("image", "busybox:latest", messages.ConditionDeletionBlocked)
		return c.Reason == messages.ReasonInUse && c.Message == "in use by container user"
	})
	e.Docker(t, "rm", "-f", "user")
	h.within(time.Second, "the image goes with its user", func() bool { return h.get("image", "busybox:latest") == nil })
	h.equal("after")
}

func TestDeletingAContainerForcesAndKeepsVolumes(t *testing.T) {
	onEach(t, deletingAContainerForcesAndKeepsVolumes)
}

func deletingAContainerForcesAndKeepsVolumes(t *testing.T, e place) {
	e.ImportBusybox(t, "busybox:latest")
	e.Docker(t, "run", "-d", "--name", "web", "-v", "data:/data", "busybox", "sleep", "3600")
	h := e.start(t, supervisor.Intervals{}).settled()
	for _, target := range []messages.DeleteRequest{{Kind: "container", Name: "web"}, {Kind: "volume", Name: "data"}} {
		require.NotNil(t, h.get(target.Kind, target.Name))
		_, err := h.client.Delete(t.Context(), target)
		require.NoError(t, err)
		h.within(patience, "gone", func() bool { return h.get(target.Kind, target.Name) == nil })
		h.equal("delete " + target.Kind)
	}
}

// steady watches containers and counts what must not happen to a mirror while its engine is away.
func (h *house) steady() (deleted func() int) {
	w, err := h.client.Watch(h.Context(), "container", supervisor.WatchOptions{})
	require.NoError(h, err)
	n := make(chan int, 1)
	n <- 0
	ctx, cancel := context.WithCancel(h.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			ev, err := w.Next(ctx)
			if err != nil {
				return
			}
			if ev.Type == messages.Deleted {
				n <- <-n + 1
			}
		}
	}()
	h.Cleanup(func() { cancel(); <-done; w.Close() })
	return func() int { v := <-n; n <- v; return v }
}

func TestADaemonKilledAndStartedAgain(t *testing.T) {
	e := enginetest.New(t, enginetest.Options{LiveRestore: true})
	e.ImportBusybox(t, "busybox:latest")
	e.Docker(t, "run", "-d", "--name", "web", "busybox", "sleep", "3600")
	h := startExternal(t, &e.Client, e.Host(), supervisor.Intervals{Heartbeat: time.Second}).settled()
	uid := h.container("web").UID
	deleted := h.steady()
	ready := func() metav1.ConditionStatus {
		return h.condition("app", "app", messages.ConditionContainerEngineReady).Status
	}
	require.NoError(t, e.Kill())
	t.Logf("condition False after %s", h.within(time.Second, "not ready", func() bool { return ready() == metav1.ConditionFalse }))
	require.NotNil(t, h.container("web"), "a crash is a moment: the mirrors stay")
	require.NoError(t, e.Restart(t.Context()))
	t.Logf("condition True %s after its return", h.within(2*time.Second, "ready", func() bool { return ready() == metav1.ConditionTrue }))
	require.Equal(t, uid, h.container("web").UID)
	h.equal("after the outage")

	require.NoError(t, e.Freeze())
	t.Logf("frozen: condition False after %s", h.within(4*time.Second, "not ready", func() bool { return ready() == metav1.ConditionFalse }))
	require.NoError(t, e.Thaw())
	h.within(5*time.Second, "ready", func() bool { return ready() == metav1.ConditionTrue })
	require.Equal(t, uid, h.container("web").UID)
	require.Zero(t, deleted())
}

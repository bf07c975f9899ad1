package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
	"github.com/rdd-desktop/rdd/tests/enginetest"
)

// deed is something a user asks for. The daemon is killed at each point it passes while it does it.
type deed struct {
	name string
	// from is the state of the target before: running, exited, paused; none for what is no container.
	from string
	ask  func(k *killed) error
	// done: the world is as it was asked for. over: nothing of it is pending any more.
	done, over func(k *killed) bool
	// events that the engine must have told of the target, each this often: what is done twice shows here.
	events map[string]int
	// unknown: after a kill in between nobody can know, and it may end as Failed/OutcomeUnknown.
	unknown bool
}

// killed is one instance whose daemon is killed again and again, with a target and a bystander on the engine that all share.
type killed struct {
	*testing.T
	engine   *enginetest.Client
	instance supervisor.Instance
	env      []string
	client   *supervisor.Client
	daemon   *exec.Cmd
	ended    chan struct{}
	round    int
	id       string // of the target
	bystood  string // startedAt of the bystander
}

// points are where a daemon ends; see docs/testing.md. again is where the next one ends, which finds what the first has left; empty = it
// lives. RDD_TEST_KILLS=all has all of them.
var (
	points = []string{"journal", "journal-after", "engine", "engine-after"}
	again  = []string{"", "journal-after:1", "engine-after:1"}
)

// obedient ends at once when it is told to.
var obedient = []string{"busybox", "sh", "-c", `trap "exit 0" TERM; sleep 3600 & wait`}

func (k *killed) target() string { return fmt.Sprintf("%s-%d", k.instance.Name, k.round) }

// serve starts a daemon that ends at a point ("" = never).
func (k *killed) serve(point string) {
	k.Helper()
	bin, err := binary()
	require.NoError(k, err)
	k.daemon = exec.Command(bin, "--instance", k.instance.Name, "svc", "serve")
	k.daemon.Env = append(slices.Clone(k.env), "RDD_TEST_KILL="+point) // the tests beside this one have the same list
	require.NoError(k, k.daemon.Start())
	k.ended = make(chan struct{})
	daemon, ended := k.daemon, k.ended
	go func() { _ = daemon.Wait(); close(ended) }()
	k.client = nil
	k.until("the daemon answers, or is dead", func() bool {
		if k.dead() {
			return true
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c, err := supervisor.Dial(ctx, k.instance)
		if err == nil {
			k.client = c
		}
		return err == nil
	})
}

func (k *killed) dead() bool {
	select {
	case <-k.ended:
		return true
	default:
		return false
	}
}

// kill ends the daemon, whatever it does.
func (k *killed) kill() {
	_ = k.daemon.Process.Kill()
	<-k.ended
}

// until waits for what must come soon.
func (k *killed) until(what string, is func() bool) {
	k.Helper()
	deadline := time.Now().Add(2 * patience)
	for !is() {
		if time.Now().After(deadline) {
			k.Fatalf("%s, round %d: never: %s", k.Name(), k.round, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// settled waits until the mirror is right; it says no when the daemon died over it.
func (k *killed) settled() bool {
	k.Helper()
	ok := false
	k.until("settled", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if k.client != nil {
			_, err := k.client.WaitSettled(ctx, supervisor.SettleOptions{Timeout: time.Second})
			ok = err == nil
		}
		return ok || k.dead()
	})
	return ok
}

func (k *killed) get(kind, name string) messages.Object {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	o, err := k.client.Get(ctx, kind, name)
	if err != nil {
		return nil
	}
	return o
}

func (k *killed) container() *messages.Container {
	c, _ := k.get("container", k.id).(*messages.Container)
	return c
}

func (k *killed) inspect(name, format string) string {
	out, err := k.engine.DockerErr("inspect", "-f", format, name)
	if err != nil {
		return ""
	}
	return out
}

func (k *killed) state(want string) bool { return k.inspect(k.target(), "{{.State.Status}}") == want }

// lay makes the target.
func (k *killed) lay(from string) {
	k.Helper()
	k.round++
	if from == "" {
		return
	}
	k.id = k.engine.Docker(k, append([]string{"run", "-d", "--name", k.target()}, obedient...)...)
	switch from {
	case messages.ContainerExited:
		k.engine.Docker(k, "stop", k.target())
	case messages.ContainerPaused:
		k.engine.Docker(k, "pause", k.target())
	}
}

func (k *killed) write(patch string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := k.client.Write(ctx, messages.WriteRequest{Kind: "container", Name: k.id, Patch: []byte(patch)})
	return err
}

func (k *killed) act(action string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := k.client.Action(ctx, messages.ActionRequest{Name: k.id, Action: action, Grace: &metav1.Duration{Duration: time.Second}})
	return err
}

func (k *killed) delete(kind, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := k.client.Delete(ctx, messages.DeleteRequest{Kind: kind, Name: name})
	return err
}

// stateDeed asks for a state by spec.
func stateDeed(from, state, to string, events map[string]int) deed {
	return deed{
		name: from + " to " + state, from: from, events: events,
		ask:  func(k *killed) error { return k.write(fmt.Sprintf(`{"spec":{"state":%q}}`, state)) },
		done: func(k *killed) bool { return k.state(to) },
		over: func(k *killed) bool {
			c := k.container()
			return c != nil && (c.Spec.State != state || c.Status.ObservedGeneration == c.Generation)
		},
	}
}

// actionDeed asks for an action.
func actionDeed(action, from, to string, events map[string]int) deed {
	return deed{
		name: action, from: from, events: events, unknown: action == messages.ActionKill,
		ask:  func(k *killed) error { return k.act(action) },
		done: func(k *killed) bool { return k.state(to) },
		over: func(k *killed) bool {
			c := k.container()
			return c != nil && (c.Status.LastAction == nil || c.Status.LastAction.State != messages.ActionPending)
		},
	}
}

func deeds() []deed {
	const running, exited, paused = messages.ContainerRunning, messages.ContainerExited, messages.ContainerPaused
	return []deed{
		stateDeed(exited, messages.StateRunning, running, map[string]int{"start": 1}),
		stateDeed(paused, messages.StateRunning, running, map[string]int{"unpause": 1, "start": 0}),
		stateDeed(running, messages.StateCreated, exited, map[string]int{"die": 1, "start": 0}),
		stateDeed(paused, messages.StateCreated, exited, map[string]int{"unpause": 1, "die": 1, "start": 0}),
		stateDeed(running, messages.StatePaused, paused, map[string]int{"pause": 1, "die": 0}),
		stateDeed(exited, messages.StatePaused, paused, map[string]int{"start": 1, "pause": 1}),
		actionDeed(messages.ActionStart, exited, running, map[string]int{"start": 1}),
		actionDeed(messages.ActionStop, running, exited, map[string]int{"die": 1, "start": 0}),
		actionDeed(messages.ActionPause, running, paused, map[string]int{"pause": 1}),
		actionDeed(messages.ActionUnpause, paused, running, map[string]int{"unpause": 1}),
		actionDeed(messages.ActionRestart, running, running, map[string]int{"die": 1, "start": 1, "restart": 1}),
		actionDeed(messages.ActionKill, running, exited, map[string]int{"die": 1, "kill": 1, "start": 0}),
		{
			name: "delete container", from: running, events: map[string]int{"destroy": 1},
			ask:  func(k *killed) error { return k.delete("container", k.id) },
			done: func(k *killed) bool { return k.inspect(k.target(), "{{.Id}}") == "" && k.container() == nil },
			over: func(k *killed) bool { c := k.container(); return c == nil || c.DeletionTimestamp == nil },
		},
		{
			name: "delete image",
			ask: func(k *killed) error {
				k.engine.Docker(k, "tag", "busybox", k.target())
				k.until("the tag is mirrored", func() bool { return k.dead() || k.get("image", k.target()) != nil })
				return k.delete("image", k.target())
			},
			done: func(k *killed) bool {
				return k.inspect(k.target(), "{{.Id}}") == "" && k.get("image", k.target()) == nil
			},
			over: func(k *killed) bool {
				i := k.get("image", k.target())
				return i == nil || i.GetDeletionTimestamp() == nil
			},
		},
		{
			name: "delete volume",
			ask: func(k *killed) error {
				k.engine.Docker(k, "volume", "create", k.target())
				k.until("the volume is mirrored", func() bool { return k.dead() || k.get("volume", k.target()) != nil })
				return k.delete("volume", k.target())
			},
			done: func(k *killed) bool {
				_, err := k.engine.DockerErr("volume", "inspect", k.target())
				return err != nil && k.get("volume", k.target()) == nil
			},
			over: func(k *killed) bool {
				v := k.get("volume", k.target())
				return v == nil || v.GetDeletionTimestamp() == nil
			},
		},
		appDeed(),
	}
}

// appDeed changes the App: what it wants is mirrored or not, and the engine is not ours to stop.
func appDeed() deed {
	running := func(k *killed) *messages.App { a, _ := k.get("app", "app").(*messages.App); return a }
	return deed{
		name: "set running=false",
		ask: func(k *killed) error {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_, err := k.client.Set(ctx, messages.SetRequest{Patch: []byte(`{"running":false}`)})
			return err
		},
		done: func(k *killed) bool {
			a := running(k)
			return a != nil && !a.Spec.Running && k.settledNow() && k.get("ns", "moby") == nil
		},
		over: func(k *killed) bool { return running(k) != nil && k.settledNow() },
	}
}

func (k *killed) settledNow() bool {
	a := k.get("app", "app")
	if a == nil {
		return false
	}
	c := messages.Condition(a, messages.ConditionSettled)
	return c != nil && c.Status == metav1.ConditionTrue && c.ObservedGeneration >= a.GetGeneration()
}

// at does the deed with a daemon that dies at the point, one that dies at another point while it goes on with it (if again is not
// empty), and one that lives. It says how many of them died there.
func (k *killed) at(d deed, point, again string) (deaths int) {
	k.Helper()
	k.lay(d.from)
	since := k.engine.Docker(k, "info", "-f", "{{.SystemTime}}")
	k.serve(point)
	var refused error
	asked := k.settled()
	if asked {
		if d.from != "" {
			k.until("the target is mirrored", func() bool { return k.dead() || k.container() != nil })
		}
		if asked = !k.dead(); asked {
			refused = d.ask(k)
		}
	}
	accepted := asked && refused == nil
	k.until("it is done, or the daemon dead", func() bool { return k.dead() || asked && d.over(k) && d.done(k) })
	deaths = k.end()
	if deaths > 0 && again != "" {
		k.serve(again)
		k.settled()
		k.until("it goes on, or is dead", func() bool { return k.dead() || d.over(k) })
		deaths += k.end()
	}
	k.serve("")
	k.settled()
	k.until("nothing is pending", func() bool { return d.over(k) })
	if accepted && !(d.unknown && k.failed()) {
		k.until("what was accepted is done", func() bool { return d.done(k) })
		k.told(d, since, func(got, want int) bool { return got == want })
	} else {
		k.told(d, since, func(got, want int) bool { return got <= want })
	}
	require.Equal(k, k.bystood, k.inspect(k.instance.Name+"-by", "{{.State.StartedAt}}"), "%s at %s: the bystander", d.name, point)
	k.tidy(d)
	return deaths
}

// end kills the daemon unless it is dead; it counts those that died of themselves.
func (k *killed) end() int {
	if k.dead() {
		return 1
	}
	k.kill()
	return 0
}

// failed: an action whose outcome nobody can know says so.
func (k *killed) failed() bool {
	c := k.container()
	return c != nil && c.Status.LastAction != nil && c.Status.LastAction.State == messages.ActionFailed &&
		strings.Contains(c.Status.LastAction.Error, "OutcomeUnknown")
}

// told compares what the engine told of the target with what it should have.
func (k *killed) told(d deed, since string, right func(got, want int) bool) {
	k.Helper()
	if len(d.events) == 0 || d.from == "" {
		return
	}
	out := k.engine.Docker(k, "events", "--since", since, "--until", k.engine.Docker(k, "info", "-f", "{{.SystemTime}}"),
		"--filter", "container="+k.id, "--format", "{{.Action}}")
	got := map[string]int{}
	for _, action := range strings.Fields(out) {
		got[action]++
	}
	for action, want := range d.events {
		require.True(k, right(got[action], want), "%s: %q happened %d times, wanted %d: %s", d.name, action, got[action], want, strings.Fields(out))
	}
}

func (k *killed) tidy(d deed) {
	k.Helper()
	if a, _ := k.get("app", "app").(*messages.App); a != nil && !a.Spec.Running {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := k.client.Set(ctx, messages.SetRequest{Patch: []byte(`{"running":true}`)})
		require.NoError(k, err)
		k.settled()
	}
	_ = k.client.Close()
	k.kill()
	switch {
	case d.from != "":
		_, _ = k.engine.DockerErr("rm", "-f", k.target()) // gone where it was deleted
	case strings.HasSuffix(d.name, "image"):
		_, _ = k.engine.DockerErr("rmi", k.target())
	default:
		_, _ = k.engine.DockerErr("volume", "rm", k.target())
	}
}

// The daemon is killed before and after each commit of its journal and each call that changes the engine, while it does what it was
// asked for: what was accepted is done, once; what was not is not done by halves; and nobody else is touched.
func Test_F18_KilledAtEveryPointOfEveryDeed(t *testing.T) {
	e := enginetest.ForTest(t)
	e.Clean(t)
	e.ImportBusybox(t, "busybox:latest")
	bin, err := binary() // with the compiler's caches of the real home
	require.NoError(t, err)
	t.Setenv("HOME", shortDir(t))
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("RDD_LOG_DIR", "")
	env := append(os.Environ(), "RDD_TEST_HOOKS=1", "DOCKER_HOST="+e.Host(), "PATH="+filepath.Dir(bin)+":"+os.Getenv("PATH"))
	rounds := 1
	if os.Getenv("RDD_TEST_KILLS") == "all" {
		rounds = len(again)
	}
	var killPoints atomic.Int64
	t.Cleanup(func() { t.Logf("%d deaths of a daemon", killPoints.Load()) })
	for i, d := range deeds() {
		t.Run(strings.ReplaceAll(d.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			k := &killed{T: t, engine: &e.Client, instance: supervisor.Instance{Name: fmt.Sprintf("k%02d", i)}, env: env}
			k.engine.Docker(t, append([]string{"run", "-d", "--name", k.instance.Name + "-by"}, obedient...)...)
			k.bystood = k.inspect(k.instance.Name+"-by", "{{.State.StartedAt}}")
			k.serve("")
			t.Cleanup(k.kill)
			_, err := k.client.Set(t.Context(), messages.SetRequest{Patch: []byte(`{"running":true,"virtualMachine":{"driver":"external"}}`)})
			require.NoError(t, err)
			require.True(t, k.settled())
			k.kill()
			for _, next := range again[:rounds] {
				for _, where := range points {
					deaths := 0
					for n := 1; ; n++ {
						more := k.at(d, fmt.Sprintf("%s:%d", where, n), next)
						if more == 0 {
							break
						}
						deaths += more
					}
					killPoints.Add(int64(deaths))
					t.Logf("%s, then %q: %d deaths", where, next, deaths)
				}
			}
		})
	}
}

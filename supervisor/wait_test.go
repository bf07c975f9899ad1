package supervisor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/messages"
)

func TestParseFor(t *testing.T) {
	for text, want := range map[string]For{
		"delete":                              {mode: forDelete},
		"DELETE":                              {mode: forDelete},
		"create":                              {mode: forCreate},
		"condition=Ready":                     {mode: forCondition, condition: "Ready", value: "true"},
		"condition=Ready=False":               {mode: forCondition, condition: "Ready", value: "False", hasValue: true},
		"jsonpath={.status.x}=V":              {mode: forPath, path: "{.status.x}", value: "V", hasValue: true},
		"jsonpath='{.status.x}'='V w'":        {mode: forPath, path: "{.status.x}", value: "V w", hasValue: true},
		`jsonpath="{.status.x}"="V"`:          {mode: forPath, path: "{.status.x}", value: "V", hasValue: true},
		"jsonpath='{.status.x}'":              {mode: forPath, path: "{.status.x}"},
		"jsonpath=.status.x=a=b":              {mode: forPath, path: "{.status.x}", value: "a=b", hasValue: true},
		"jsonpath=status.x":                   {mode: forPath, path: "{.status.x}"},
		`jsonpath={.a[?(@.b=="c")].d}=e`:      {mode: forPath, path: `{.a[?(@.b=="c")].d}`, value: "e", hasValue: true},
		`jsonpath='{.a[?(@.b=="c")].d}'=True`: {mode: forPath, path: `{.a[?(@.b=="c")].d}`, value: "True", hasValue: true},
	} {
		got, err := ParseFor(text)
		require.NoError(t, err, text)
		want.text = text
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "ready", "condition=", "condition=X=", "jsonpath=", "jsonpath={.x}=", "jsonpath={.x", "jsonpath='{.x}", "jsonpath={.a}{.b}", "delete=1", "jsonpath={.a[}"} {
		_, err := ParseFor(text)
		require.ErrorIs(t, err, messages.ErrBadRequest, text)
	}
}

// Each row is one state of one container and what a single look says of it.
func TestConditionSemantics(t *testing.T) {
	running := condition("Running", "True", "EngineState", 0)
	for _, c := range []struct {
		o    messages.Object
		f    string
		want any // bool, or the sentinel
	}{
		{with(container(hexID(1), "a"), running), "condition=Running", true},
		{with(container(hexID(1), "a"), running), "condition=running=TRUE", true},
		{with(container(hexID(1), "a"), running), "condition=Running=false", false},
		{with(container(hexID(1), "a")), "condition=Running", false},
		{appObject(3, condition("Settled", "True", "Settled", 2)), "condition=Settled", false},
		{appObject(3, condition("Settled", "True", "Settled", 3)), "condition=Settled", true},
		{appObject(3, condition("Settled", "True", "Settled", 0)), "condition=Settled", true},
		{func() messages.Object {
			a := appObject(3, condition("Settled", "True", "Settled", 0))
			a.Status.ObservedGeneration = 2
			return a
		}(), "condition=Settled", false},
		{appObject(3, condition("Running", "False", "StartFailed", 3)), "condition=Running", messages.ErrTerminal},
		{appObject(3, condition("Running", "False", "StartFailed", 2)), "condition=Running", false},
		{appObject(3, condition("Running", "False", "StartFailed", 3)), "condition=Running=False", true},
		{appObject(3, condition("ContainerEngineReady", "Unknown", "NotApplicable", 3)), "condition=ContainerEngineReady", false},
		{container(hexID(1), "a"), "jsonpath={.status.status}=created", true},
		{container(hexID(1), "a"), "jsonpath={.status.status}=running", false},
		{container(hexID(1), "a"), "jsonpath={.status.health}", false},
		{container(hexID(1), "a"), "jsonpath={.status.name}", true},
		{container(hexID(1), "a"), "jsonpath={.metadata.generation}=1", true},
		{with(container(hexID(1), "a"), running), `jsonpath={.status.conditions[?(@.type=="Running")].status}=True`, true},
		{with(container(hexID(1), "a"), running), "jsonpath={.status.conditions}=x", messages.ErrBadRequest},
		{with(container(hexID(1), "a"), running, condition("X", "True", "Y", 0)), "jsonpath={.status.conditions[*].type}=x", messages.ErrBadRequest},
		{container(hexID(1), "a"), "create", true},
		{container(hexID(1), "a"), "delete", false},
	} {
		w := newWorld(t, 1)
		w.put(c.o)
		kind := c.o.GetObjectKind().GroupVersionKind().Kind
		got, err := w.c.Wait(context.Background(), kind, WaitOptions{For: must(ParseFor(c.f)), Name: c.o.GetName()})
		switch want := c.want.(type) {
		case error:
			require.ErrorIs(t, err, want, c.f)
		case bool:
			if want {
				require.NoError(t, err, c.f)
				require.Len(t, got, 1)
			} else {
				require.ErrorIs(t, err, messages.ErrTimeout, c.f)
			}
		}
	}
}

func waitAt(t *testing.T, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t, 1)) })
}

func TestWaitForWhatIsNotThere(t *testing.T) {
	waitAt(t, func(t *testing.T, w *world) {
		ctx, start := context.Background(), time.Now()
		wait := func(o WaitOptions, f string) ([]messages.Object, error) {
			o.For = must(ParseFor(f))
			if o.Timeout == 0 {
				o.Timeout = 30 * time.Second
			}
			return w.c.Wait(ctx, "container", o)
		}
		_, err := wait(WaitOptions{Name: "web"}, "condition=Running")
		require.ErrorIs(t, err, messages.ErrNotFound)
		_, err = wait(WaitOptions{Name: "web"}, "delete")
		require.NoError(t, err)
		_, err = wait(WaitOptions{}, "condition=Running")
		require.ErrorIs(t, err, messages.ErrNotFound)
		require.Contains(t, err.Error(), "no matching resources found")
		_, err = wait(WaitOptions{}, "delete")
		require.NoError(t, err)
		require.Zero(t, time.Since(start))
		_, err = wait(WaitOptions{Name: "web"}, "create")
		require.ErrorIs(t, err, messages.ErrTimeout)
		require.Equal(t, 30*time.Second, time.Since(start))
		_, err = w.c.Wait(ctx, "container", WaitOptions{Name: "web"})
		require.ErrorIs(t, err, messages.ErrBadRequest)

		go func() {
			time.Sleep(2 * time.Second)
			w.put(container(hexID(9), "other"))
			time.Sleep(time.Second)
			w.put(container(hexID(1), "web"))
		}()
		start = time.Now()
		got, err := wait(WaitOptions{Name: "web"}, "create")
		require.NoError(t, err)
		require.Equal(t, hexID(1), got[0].GetName())
		require.Equal(t, 3*time.Second, time.Since(start))
		got, err = wait(WaitOptions{}, "create")
		require.NoError(t, err)
		require.Len(t, got, 2)
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		_, err = w.c.Wait(cancelled, "container", WaitOptions{Name: "web", For: must(ParseFor("delete")), Timeout: -1})
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestWaitSeesAStateThatPasses(t *testing.T) {
	waitAt(t, func(t *testing.T, w *world) {
		c := container(hexID(1), "web")
		w.put(c)
		var seen []string
		done := make(chan error, 1)
		go func() {
			_, err := w.c.Wait(context.Background(), "container", WaitOptions{For: must(ParseFor("jsonpath={.status.status}=running")),
				Name: "web", Timeout: -1, Progress: func(e messages.WatchEvent) { seen = append(seen, string(e.Type)) }})
			done <- err
		}()
		time.Sleep(time.Minute)
		for _, state := range []string{"running", "exited"} {
			c = c.DeepCopy()
			c.Status.Status = state
			w.put(c)
		}
		require.NoError(t, <-done)
		require.Equal(t, []string{"ADDED", "MODIFIED"}, seen)
	})
}

func TestWaitForDeletionAndRecreation(t *testing.T) {
	waitAt(t, func(t *testing.T, w *world) {
		start := func(f string, o WaitOptions) chan error {
			o.For, o.Timeout = must(ParseFor(f)), time.Hour
			done := make(chan error, 1)
			go func() {
				_, err := w.c.Wait(context.Background(), "volume", o)
				done <- err
			}()
			synctest.Wait()
			return done
		}
		first := withUID(volume("data"), "u1")
		w.put(first)
		gone := start("delete", WaitOptions{Name: "data"})
		goneUID := start("delete", WaitOptions{Name: "data", UID: "u1"})
		met := start("jsonpath={.status.mountpoint}=/new", WaitOptions{Name: "data"})
		metUID := start("jsonpath={.status.mountpoint}=/new", WaitOptions{Name: "data", UID: "u1"})
		second := withUID(volume("data"), "u2")
		second.Status.Mountpoint = "/new"
		w.put(second) // DELETED, ADDED in one breath
		require.NoError(t, <-gone)
		require.NoError(t, <-goneUID)
		require.NoError(t, <-met, "as in kubectl")
		require.ErrorIs(t, <-metUID, messages.ErrNotFound)
		require.NoError(t, <-start("delete", WaitOptions{Name: "data", UID: "u1"}), "already another one")
		require.ErrorIs(t, <-start("condition=Synced", WaitOptions{Name: "data", UID: "u1"}), messages.ErrNotFound)

		blocked := withUID(volume("data"), "u2")
		blocked.Status.ConditionList = []metav1.Condition{condition("DeletionBlocked", "True", "InUse", 0)}
		w.put(blocked)
		_, err := w.c.Wait(context.Background(), "volume", WaitOptions{For: must(ParseFor("delete")), Name: "data", Timeout: time.Second})
		require.ErrorIs(t, err, messages.ErrTimeout)
		require.Equal(t, "InUse", messages.AsError(err).Details["reason"])
		require.Contains(t, err.Error(), "because InUse")
	})
}

// A human name may come back on another object.
func TestWaitFollowsAHumanName(t *testing.T) {
	waitAt(t, func(t *testing.T, w *world) {
		w.put(container(hexID(1), "web"))
		done := make(chan error, 1)
		go func() {
			_, err := w.c.Wait(context.Background(), "container", WaitOptions{For: must(ParseFor("condition=Running")), Name: "web", Timeout: time.Hour})
			done <- err
		}()
		synctest.Wait()
		w.remove(container(hexID(1), "web"))
		synctest.Wait()
		w.put(container(hexID(2), "web"))
		synctest.Wait()
		w.put(with(container(hexID(2), "web"), condition("Running", "True", "EngineState", 0)))
		require.NoError(t, <-done)
	})
}

func TestWaitForMany(t *testing.T) {
	waitAt(t, func(t *testing.T, w *world) {
		on := condition("Running", "True", "EngineState", 0)
		for n := range 4 {
			c := container(hexID(n), fmt.Sprint("c", n))
			if n < 3 {
				c.Labels = map[string]string{"app": "x"}
			}
			w.put(c)
		}
		done := make(chan error, 1)
		var got []messages.Object
		go func() {
			var err error
			got, err = w.c.Wait(context.Background(), "container", WaitOptions{For: must(ParseFor("condition=Running")),
				Selector: messages.Selector{Labels: "app=x"}, Timeout: time.Hour})
			done <- err
		}()
		synctest.Wait()
		for n := range 3 {
			select {
			case <-done:
				t.Fatal("too early")
			default:
			}
			w.put(with(container(hexID(n), ""), on)) // leaves the selection: it was chosen at the start
			synctest.Wait()
			w.put(container(hexID(n), "")) // and what was met once stays met
			synctest.Wait()
		}
		require.NoError(t, <-done)
		require.Len(t, got, 3)
		_, err := w.c.Wait(context.Background(), "container", WaitOptions{For: must(ParseFor("condition=Running")), Timeout: time.Second})
		require.ErrorIs(t, err, messages.ErrTimeout)
		require.Equal(t, "4", messages.AsError(err).Details["open"])
	})
}

// flaky is a daemon that is lost and comes back as another serve.
type flaky struct {
	backend // unused methods
	mu      sync.Mutex
	b       backend
	down    error
}

func (f *flaky) is(b backend, down error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.b, f.down = b, down
}

func (f *flaky) now() (backend, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.b, f.down
}

func (f *flaky) get(ctx context.Context, r messages.GetRequest) (messages.Object, error) {
	b, err := f.now()
	if err != nil {
		return nil, err
	}
	return b.get(ctx, r)
}

func (f *flaky) list(ctx context.Context, r messages.ListRequest) (*messages.ListReply, error) {
	b, err := f.now()
	if err != nil {
		return nil, err
	}
	return b.list(ctx, r)
}

func (f *flaky) next(ctx context.Context, r messages.NextRequest) (*messages.Batch, error) {
	b, _ := f.now()
	batch, err := b.next(ctx, r)
	if _, down := f.now(); down != nil {
		return nil, down
	}
	return batch, err
}

func TestWaitSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, fresh := newWorld(t, 1), newWorld(t, 2)
		f := &flaky{b: old.b}
		c := newLocalClient(f)
		web := withUID(container(hexID(1), "web"), "u1")
		old.put(web)
		deleted, running, byUID := make(chan error, 1), make(chan error, 1), make(chan error, 1)
		wait := func(done chan error, how, uid string) {
			_, err := c.Wait(context.Background(), "container", WaitOptions{For: must(ParseFor(how)), Name: "web", UID: uid, Timeout: time.Hour})
			done <- err
		}
		go wait(deleted, "delete", "")
		go wait(running, "condition=Running", "")
		go wait(byUID, "condition=Running", "u1")
		synctest.Wait()
		f.is(old.b, messages.NewError(messages.CodeDaemonNotRunning, "", "", "", "away"))
		time.Sleep(30 * time.Second)
		f.is(fresh.b, nil)
		time.Sleep(10 * time.Second) // the mirrors are not back: their absence says nothing
		for _, done := range []chan error{deleted, running, byUID} {
			select {
			case err := <-done:
				t.Fatal("too early:", err)
			default:
			}
		}
		fresh.put(withUID(with(container(hexID(1), "web"), condition("Running", "True", "EngineState", 0)), "u1"))
		fresh.put(appObject(1, condition("ContainerEngineReady", "True", "Connected", 1)))
		require.NoError(t, <-running)
		require.NoError(t, <-byUID)
		fresh.remove(web)
		require.NoError(t, <-deleted)
	})
}

func TestWaitTellsThatTheDaemonIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		f := &flaky{b: w.b, down: messages.NewError(messages.CodeDaemonNotRunning, "", "", "", "away")}
		c := newLocalClient(f)
		o := WaitOptions{For: must(ParseFor("condition=Running")), Name: "web"}
		_, err := c.Wait(context.Background(), "container", o)
		require.ErrorIs(t, err, messages.ErrDaemonNotRunning, "a single look does not wait")
		o.Timeout = 10 * time.Second
		_, err = c.Wait(context.Background(), "container", o)
		require.ErrorIs(t, err, messages.ErrTimeout)
		require.Contains(t, err.Error(), "timed out: condition=Running: the daemon has not answered yet; ")
		require.Contains(t, err.Error(), "away")
		_, err = c.WaitSettled(context.Background(), SettleOptions{Timeout: 10 * time.Second})
		require.ErrorIs(t, err, messages.ErrTimeout)
		require.Contains(t, err.Error(), "the daemon has not answered yet")
		f.is(w.b, messages.NewError(messages.CodeForbidden, "", "", "", "no"))
		_, err = c.WaitSettled(context.Background(), SettleOptions{Timeout: 10 * time.Second})
		require.ErrorIs(t, err, messages.ErrForbidden)
	})
}

func TestWaitSettled(t *testing.T) {
	waitAt(t, func(t *testing.T, w *world) {
		type result struct {
			a   *messages.App
			err error
		}
		var seen []int64
		start := func(o SettleOptions) chan result {
			done := make(chan result, 1)
			go func() {
				a, err := w.c.WaitSettled(context.Background(), o)
				done <- result{a, err}
			}()
			synctest.Wait()
			return done
		}
		w.put(appObject(1, condition("Settled", "True", "Settled", 1)))
		done := start(SettleOptions{Generation: 2, Progress: func(a *messages.App) { seen = append(seen, a.Generation) }})
		w.put(appObject(2, condition("Settled", "True", "Settled", 1)))
		synctest.Wait()
		w.put(appObject(2, condition("Settled", "False", "NotSettled", 2), condition("Running", "False", "StartFailed", 1)))
		synctest.Wait()
		w.put(appObject(2, condition("Settled", "True", "Settled", 2)))
		r := <-done
		require.NoError(t, r.err)
		require.Equal(t, []int64{1, 2, 2, 2}, seen)
		require.NoError(t, (<-start(SettleOptions{})).err)

		w.put(appObject(3, condition("Settled", "False", "NotSettled", 3), condition("Running", "False", "StartFailed", 3)))
		r = <-start(SettleOptions{Generation: 3})
		require.ErrorIs(t, r.err, messages.ErrTerminal)
		require.Equal(t, "StartFailed", messages.AsError(r.err).Details["reason"])
		w.put(appObject(4, condition("Settled", "Unknown", "Progressing", 4)))
		r = <-start(SettleOptions{Timeout: 20 * time.Second})
		require.ErrorIs(t, r.err, messages.ErrTimeout)
		require.Contains(t, r.err.Error(), "not settled after 20s (generation 4): Settled=Unknown, reason Progressing")
		var e *messages.Error
		require.True(t, errors.As(r.err, &e))
		require.Equal(t, "4", e.Details["generation"])
		require.Equal(t, types.UID(""), types.UID(e.Details["uid"]))
	})
}

package virtual

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// maxGoroutines of a quiet house: the tree's own are a handful, work in flight is bounded.
const maxGoroutines = 60

// always checks what must be true at any moment, whatever goes wrong: what watchers are told fits together, the house stands, and
// nothing was done to the engine that nobody asked for.
func (h *house) always() {
	for _, r := range h.watches {
		if err := h.drain(r); err != nil {
			h.fatal("%v", err) // a watcher that was told something wrong is never right again
		}
	}
	select {
	case err := <-h.rdd.Failed():
		h.fatal("given up: %v", err)
	default:
	}
	for _, c := range h.world.MutatingCalls() {
		if !h.wanted(c) {
			h.fatal("%s %s, which nobody asked for", c.Op, c.Name)
		}
		h.calls[c.Op]++
	}
	h.world.ResetCalls()
}

// check is every invariant at this moment; nil = all hold. Full compares what only an inspect tells too.
func (h *house) check(full bool) error {
	h.always()
	for _, r := range h.watches {
		if err := r.same(h.list(r.kind)); err != nil {
			return err
		}
	}
	if err := h.checkApp(); err != nil {
		return err
	}
	truth := h.world.Snapshot()
	if err := h.checkMirror(truth, full); err != nil {
		return err
	}
	if err := h.checkConditions(truth); err != nil {
		return err
	}
	if err := h.checkIntents(truth); err != nil {
		return err
	}
	return h.uids.check(h)
}

func (h *house) checkApp() error {
	app := h.app()
	for _, kind := range []string{messages.ConditionContainerEngineReady, messages.ConditionRunning, messages.ConditionSettled} {
		c := messages.Condition(app, kind)
		if c == nil || c.Status != metav1.ConditionTrue || c.ObservedGeneration != app.Generation {
			return fmt.Errorf("the App's %s is not true: %+v", kind, c)
		}
	}
	return nil
}

// checkMirror compares the mirror with the engine, both ways.
func (h *house) checkMirror(truth sim.Snapshot, full bool) error {
	want := map[string]func(messages.Object) string{}
	for _, c := range truth.Containers {
		want[messages.KindContainer+"/"+c.ID] = func(o messages.Object) string { return containerDiffers(c, o.(*messages.Container).Status, full) }
	}
	for _, i := range truth.Images {
		for _, tag := range tagsOf(i) {
			want[messages.KindImage+"/"+messages.ImageName(i.ID, tag)] = func(o messages.Object) string {
				s := o.(*messages.Image).Status
				return differs("image", s.ID, i.ID, "tag", s.RepoTag, tag, "labels", s.Labels, i.Labels, "size", s.Size, i.Size,
					"architecture", s.Architecture, i.Architecture)
			}
		}
	}
	for _, v := range truth.Volumes {
		want[messages.KindVolume+"/"+messages.VolumeName(v.Name)] = func(o messages.Object) string {
			s := o.(*messages.Volume).Status
			return differs("name", s.Name, v.Name, "driver", s.Driver, v.Driver, "labels", s.Labels, v.Labels, "mountpoint", s.Mountpoint, v.Mountpoint)
		}
	}
	want[messages.KindContainerNamespace+"/"+messages.NamespaceMoby] = func(messages.Object) string { return "" }
	for _, k := range messages.Kinds() {
		if k.Name == messages.KindApp {
			continue
		}
		for _, o := range h.list(k.Name) {
			key := k.Name + "/" + o.GetName()
			compare := want[key]
			if compare == nil {
				return fmt.Errorf("%s is mirrored, and the engine has no such thing", key)
			}
			delete(want, key)
			if what := compare(o); what != "" {
				return fmt.Errorf("%s: %s", key, what)
			}
		}
	}
	for key := range want {
		return fmt.Errorf("%s is not mirrored", key)
	}
	return nil
}

func tagsOf(i dockerio.Image) []string {
	if len(i.Tags) == 0 {
		return []string{""}
	}
	return i.Tags
}

// differs compares triples of word, mirrored and true; nothing and empty are the same.
func differs(triples ...any) string {
	for i := 0; i+2 < len(triples); i += 3 {
		mirrored, truth := triples[i+1], triples[i+2]
		if reflect.DeepEqual(mirrored, truth) {
			continue
		}
		a, _ := json.Marshal(mirrored) // plain values marshal
		b, _ := json.Marshal(truth)
		if string(a) != string(b) {
			return fmt.Sprintf("%v is %s, mirrored %s", triples[i], b, a)
		}
	}
	return ""
}

func containerDiffers(c dockerio.Container, s messages.ContainerStatus, full bool) string {
	if what := differs("name", s.Name, c.Name, "status", s.Status, c.Status, "image", s.Image, c.ImageID, "health", s.Health, c.Health,
		"labels", s.Labels, c.Labels); what != "" || !full {
		return what
	}
	code := 0
	if s.ExitCode != nil {
		code = *s.ExitCode
	}
	running := metav1.ConditionFalse
	if c.Running {
		running = metav1.ConditionTrue
	}
	mirrored := metav1.ConditionUnknown
	for _, cond := range s.ConditionList {
		if cond.Type == messages.ConditionRunning {
			mirrored = cond.Status
		}
	}
	exit := c.ExitCode
	if c.Running {
		exit = 0 // of a running container it is not told
	}
	return differs("path", s.Path, c.Path, "args", s.Args, c.Args, "image name", s.ImageName, c.ImageName, "ports", s.Ports, c.Ports,
		"pid", s.Pid, c.Pid, "exit code", code, exit, "error", s.Error, c.Error, "started", s.StartedAt, c.StartedAt.Status(),
		"finished", s.FinishedAt, c.FinishedAt.Status(), "restarts", s.RestartCount, c.RestartCount, "mounts", s.Mounts, c.Mounts,
		"networks", s.Networks, c.Networks, "Running", mirrored, running)
}

// checkConditions: everything is Synced, and what terminates is held up by somebody the engine knows.
func (h *house) checkConditions(truth sim.Snapshot) error {
	used := map[string]bool{}
	for _, c := range truth.Containers {
		for _, m := range c.Mounts {
			used[m.Name] = true
		}
		used[c.ImageID] = true
	}
	for _, k := range messages.Kinds() {
		if !k.Mirrored {
			continue
		}
		for _, o := range h.list(k.Name) {
			what := messages.NameOf(o)
			if c := messages.Condition(o, messages.ConditionSynced); c == nil || c.Status != metav1.ConditionTrue {
				return fmt.Errorf("%s is not synced: %+v", what, c)
			}
			if o.GetDeletionTimestamp() == nil {
				continue
			}
			of := ""
			switch o := o.(type) {
			case *messages.Image:
				of = o.Status.ID
			case *messages.Volume:
				of = o.Status.Name
			}
			c := messages.Condition(o, messages.ConditionDeletionBlocked)
			if !used[of] || c == nil || c.Reason != messages.ReasonInUse {
				return fmt.Errorf("%s is terminating and nobody holds it: %+v", what, c)
			}
		}
	}
	return nil
}

// underWay is how long an intent may be open with the engine up: an old restart is waited for, a hung call runs into its deadline.
const underWay = 90 * time.Second

// checkIntents: what was accepted has an end, or says what is tried again; what is said to be applied is so, or has drifted.
func (h *house) checkIntents(truth sim.Snapshot) error {
	for _, o := range h.list(messages.KindContainer) {
		c := o.(*messages.Container)
		what := messages.NameOf(o)
		if a := c.Status.LastAction; a != nil && a.State == messages.ActionPending && time.Since(a.RequestedAt.Time) > underWay {
			return fmt.Errorf("%s: action %s has no end", what, a.Action)
		}
		intent, drifted := messages.Condition(o, messages.ConditionIntentApplied), messages.Condition(o, messages.ConditionDrifted)
		switch {
		case c.Spec.State == messages.StateUnknown && (intent != nil || drifted != nil):
			return fmt.Errorf("%s: nothing is wanted of it, and it says %+v %+v", what, intent, drifted)
		case c.Spec.State == messages.StateUnknown:
		case intent == nil:
			return fmt.Errorf("%s: spec.state is %s, and nothing is said of it", what, c.Spec.State)
		case c.DeletionTimestamp == nil && c.Status.ObservedGeneration < c.Generation && intent.Reason != messages.ReasonRetrying &&
			time.Since(intent.LastTransitionTime.Time) > underWay:
			return fmt.Errorf("%s: spec.state=%s has no end: %+v", what, c.Spec.State, intent)
		}
		if drifted == nil || drifted.Status != metav1.ConditionFalse {
			continue
		}
		for _, t := range truth.Containers {
			if t.ID == c.Name && !slices.Contains(statusesOf[c.Spec.State], t.Status) {
				return fmt.Errorf("%s: spec.state=%s, it is %s, and is said not to have drifted", what, c.Spec.State, t.Status)
			}
		}
	}
	return nil
}

// statusesOf a state that was brought about.
var statusesOf = map[string][]string{
	messages.StateRunning: {messages.ContainerRunning}, messages.StatePaused: {messages.ContainerPaused},
	messages.StateCreated: {messages.ContainerCreated, messages.ContainerExited},
}

// identities remembers which uid stood for which object of the engine.
type identities struct {
	mu    sync.Mutex
	byUID map[types.UID]string
	// born counts per name what ends an incarnation.
	born map[string]int
	seen map[string]incarnation
	// late are tags that were given anew to the image they had: nothing but an event, which may be lost, and the time of the last tagging
	// tell that. An open deletion of one ends when somebody looks.
	late map[string]bool
	// newest is the latest time that the engine's clock has had. As long as it is behind that, a session hears events again that were
	// before: a volume made again since then may be taken for made again once more.
	newest dockerio.Time
}

type incarnation struct {
	uid  types.UID
	what string
}

func newIdentities() *identities {
	return &identities{byUID: map[types.UID]string{}, born: map[string]int{}, seen: map[string]incarnation{}, late: map[string]bool{}}
}

// again says that a name stands for another object from now on.
func (i *identities) again(key string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.born[key]++
}

// unheard says that a tag was given anew to the image it had.
func (i *identities) unheard(key string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.late[key] = true
}

// watched takes in what the engine tells, whether or not the house gets it.
func (i *identities) watched(e dockerio.Event) {
	if e.Type == dockerio.TypeVolume && e.Action == "destroy" {
		i.again(messages.KindVolume + "/" + messages.VolumeName(e.ID))
	}
}

// blind: nobody can tell whether a volume that has gone and come is the same one.
func (i *identities) blind() {
	maps.DeleteFunc(i.seen, func(key string, _ incarnation) bool { return strings.HasPrefix(key, messages.KindVolume+"/") })
}

// reset: nothing that comes is what was before.
func (i *identities) reset() { clear(i.seen) }

// check: one incarnation has one uid, and no uid stands for two.
func (i *identities) check(h *house) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := h.world.Now()
	back := now.Sub(i.newest) < 0
	if !back {
		i.newest = now
	}
	for _, k := range messages.Kinds() {
		if k.Name == messages.KindApp {
			continue
		}
		for _, o := range h.list(k.Name) {
			key := k.Name + "/" + o.GetName()
			what := fmt.Sprint(key, " ", i.born[key])
			was, ok := i.seen[key]
			switch {
			case ok && was.uid != o.GetUID() && i.late[key]:
				delete(i.late, key)
				i.seen[key] = incarnation{o.GetUID(), what}
			case ok && was.uid != o.GetUID() && back && k.Name == messages.KindVolume:
				i.seen[key] = incarnation{o.GetUID(), what}
			case ok && was.what == what && was.uid != o.GetUID():
				h.fatal("%s has another uid, and is the same object", messages.NameOf(o))
			case ok && was.what != what && was.uid == o.GetUID() && strings.HasPrefix(key, messages.KindVolume):
				return fmt.Errorf("%s has the same uid, and is another object", messages.NameOf(o))
			}
			if of, ok := i.byUID[o.GetUID()]; ok && of != key {
				h.fatal("uid %s stands for %s and %s", o.GetUID(), of, key)
			}
			i.byUID[o.GetUID()] = key
		}
	}
	return nil
}

// remember what uid stands for what, once nothing is under way any more.
func (i *identities) remember(h *house) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, k := range messages.Kinds() {
		if k.Name == messages.KindApp {
			continue
		}
		for _, o := range h.list(k.Name) {
			key := k.Name + "/" + o.GetName()
			i.seen[key] = incarnation{o.GetUID(), fmt.Sprint(key, " ", i.born[key])}
			if o.GetDeletionTimestamp() == nil {
				delete(i.late, key) // only an open deletion asks which one it is
			}
		}
	}
}

// settling: a container's restart policy is at work, or was ended, of which no event tells.
func (h *house) settling() bool {
	return slices.ContainsFunc(h.world.Snapshot().Containers, func(c dockerio.Container) bool {
		return c.RestartPolicy != "no" && (!c.Running || c.Restarting)
	})
}

// converge waits for every invariant to hold, at most that long, and that they go on to hold when what was still under way is through:
// the mirror may look right while a question is open.
func (h *house) converge(limit time.Duration, full bool) {
	h.t.Helper()
	h.hold(limit, full)
	h.pass(soon)
	h.hold(soon, full)
	h.uids.remember(h)
	h.checkWishes()
}

// hold waits for every invariant to hold, at most that long.
func (h *house) hold(limit time.Duration, full bool) {
	h.t.Helper()
	if h.settling() {
		limit = max(limit, afterSettling)
	}
	deadline := time.Now().Add(limit)
	for {
		err := h.check(full)
		if err == nil {
			break
		}
		if !time.Now().Before(deadline) {
			h.newEvents()
			h.fatal("not in %s: %v\n\nwhat the house said last:\n%s", limit, err, h.lastWords(30))
		}
		h.pass(min(100*time.Millisecond, time.Until(deadline)))
	}
	h.newEvents()
}

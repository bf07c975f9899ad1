package supervisor

import (
	"context"
	"errors"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/messages"
)

// Blockage is what keeps a resource from being what it should be.
type Blockage struct {
	// Resource as people name it, e.g. app/app or image/alpine:3.20.
	Resource string `json:"resource"`
	// BlockedBy is empty when nothing does.
	BlockedBy []Blocker `json:"blockedBy"`
}

// Blocker is one link of a chain: who blocks, by which condition, since when, and what is done about it.
type Blocker struct {
	// Who is a part of the house (vm, engine, journal, store) or a resource.
	Who string `json:"who"`
	// Condition with its Status; empty where there is none, as of a container that uses an image.
	Condition string                 `json:"condition,omitempty"`
	Status    metav1.ConditionStatus `json:"status,omitempty"`
	Reason    string                 `json:"reason,omitempty"`
	Message   string                 `json:"message,omitempty"`
	Since     *metav1.Time           `json:"since,omitempty"`
	// Terminal: waiting does not help.
	Terminal bool `json:"terminal,omitempty"`
	// Retries are what failed and is tried again.
	Retries []Retried `json:"retries,omitempty"`
	// BlockedBy is what blocks this one in turn.
	BlockedBy []Blocker `json:"blockedBy,omitempty"`
}

// Retried is a Retry and the actor that has it.
type Retried struct {
	Actor string `json:"actor"`
	messages.Retry
}

// Words for what has no condition.
const (
	reasonTerminating = "Terminating"
	reasonUser        = "User"
	reasonFailed      = "ActorFailed"
)

// Cause follows the first chain to its end; nil when nothing blocks.
func (b *Blockage) Cause() *Blocker {
	var cause *Blocker
	for list := b.BlockedBy; len(list) > 0; list = cause.BlockedBy {
		cause = &list[0]
	}
	return cause
}

// Why tells what keeps a resource from being what it should be. Errors: NotFound, Ambiguous, BadRequest.
func (c *Client) Why(ctx context.Context, kind, name string) (*Blockage, error) {
	o, err := c.Get(ctx, kind, name)
	if err != nil {
		return nil, err
	}
	var f facts
	if f.tree, err = c.Tree(ctx); err != nil {
		return nil, err
	}
	if o.GetObjectKind().GroupVersionKind().Kind != messages.KindApp {
		app, err := c.Get(ctx, messages.KindApp, messages.AppName)
		if err != nil && !errors.Is(err, messages.ErrNotFound) {
			return nil, err
		}
		f.app, _ = app.(*messages.App)
	}
	if f.users, err = c.users(ctx, o); err != nil {
		return nil, err
	}
	return f.blockage(o), nil
}

// BlockageOf is what o alone tells of it: for a daemon that does not answer any more.
func BlockageOf(o messages.Object) *Blockage { return facts{}.blockage(o) }

// users are the resources that keep o from being removed; none are looked for while nothing says so.
func (c *Client) users(ctx context.Context, o messages.Object) ([]messages.Object, error) {
	held := messages.Condition(o, messages.ConditionDeletionBlocked)
	if held == nil || held.Reason != messages.ReasonInUse {
		return nil, nil
	}
	k, err := kindOf(o.GetObjectKind().GroupVersionKind().Kind)
	if err != nil {
		return nil, err
	}
	var out []messages.Object
	for _, by := range messages.Kinds() {
		if by.Uses == nil {
			continue
		}
		l, err := c.List(ctx, by.Name, ListOptions{})
		if err != nil {
			return nil, err
		}
		out = append(out, slices.DeleteFunc(l.Items, func(user messages.Object) bool { return !k.UsedBy(o, user) })...)
	}
	return out, nil
}

// facts are what a blockage is made of, beside the resource; any may be missing.
type facts struct {
	tree  *messages.TreeNode
	app   *messages.App
	users []messages.Object
}

func (f facts) blockage(o messages.Object) *Blockage {
	b := &Blockage{Resource: messages.NameOf(o), BlockedBy: []Blocker{}}
	if app, ok := o.(*messages.App); ok {
		b.BlockedBy = append(b.BlockedBy, f.appBlockers(app)...)
		return b
	}
	b.BlockedBy = append(b.BlockedBy, f.objectBlockers(o)...)
	return b
}

// appBlockers is why the App is not settled: the first part that is not where it should be, as the condition Settled has it; the
// rest only waits for that.
func (f facts) appBlockers(app *messages.App) []Blocker {
	settled := messages.Condition(app, messages.ConditionSettled)
	if settled != nil && settled.Status == metav1.ConditionTrue && app.Status.ObservedGeneration >= app.Generation {
		return nil
	}
	var out []Blocker
	for _, path := range []string{control.Journal, control.Store} {
		if n := f.node(path); n != nil && len(n.Retries) > 0 {
			b := Blocker{Who: strings.TrimPrefix(path, control.Root+"/"), Reason: reasonFailed, Message: n.Last, Retries: f.retries("", path)}
			if n.LastAt != nil {
				b.Since = &metav1.Time{Time: n.LastAt.Time}
			}
			out = append(out, b)
		}
	}
	switch vm, engine := f.vmBlocker(app), f.engineBlocker(app); {
	case vm != nil:
		out = append(out, *vm)
	case engine != nil:
		out = append(out, *engine)
	case len(out) == 0 && settled == nil:
		out = append(out, Blocker{Who: "app", Condition: messages.ConditionSettled, Status: metav1.ConditionUnknown, Retries: f.retries("", control.App)})
	case len(out) == 0:
		out = append(out, f.blocker("app", *settled, "", control.App))
	}
	return out
}

func (f facts) vmBlocker(app *messages.App) *Blocker {
	c := messages.Condition(app, messages.ConditionRunning)
	if c == nil || c.ObservedGeneration >= app.Generation && !messages.TerminalReason(c.Reason) &&
		(c.Status == metav1.ConditionTrue) == app.Spec.Running && c.Status != metav1.ConditionUnknown {
		return nil
	}
	b := f.blocker("vm", *c, "", control.VM)
	return &b
}

func (f facts) engineBlocker(app *messages.App) *Blocker {
	c := messages.Condition(app, messages.ConditionContainerEngineReady)
	if c == nil {
		return nil
	}
	there := c.Status == metav1.ConditionTrue
	if !app.Spec.Running {
		there = c.Reason == messages.ReasonStopped
	}
	if c.ObservedGeneration >= app.Generation && (there || c.Reason == messages.ReasonNotApplicable) {
		return nil
	}
	paths := []string{control.Engine, control.Session}
	for _, k := range messages.Kinds() {
		if k.Mirrored {
			paths = append(paths, control.Root+"/"+k.Plural) // they list for the first pass
		}
	}
	b := f.blocker("engine", *c, "", paths...)
	return &b
}

// objectBlockers is why a mirror is not in sync, and why a deletion takes longer.
func (f facts) objectBlockers(o messages.Object) []Blocker {
	var out []Blocker
	actors := ActorsOf(o)
	if c := messages.Condition(o, messages.ConditionSynced); c != nil && c.Status != metav1.ConditionTrue {
		out = append(out, f.waitsForEngine(f.blocker(messages.NameOf(o), *c, "", actors...)))
	}
	if container, ok := o.(*messages.Container); ok {
		out = append(out, f.intentBlockers(container)...)
	}
	c := messages.Condition(o, messages.ConditionDeletionBlocked)
	switch {
	case c != nil && c.Status == metav1.ConditionTrue:
		b := f.waitsForEngine(f.blocker(messages.NameOf(o), *c, o.GetName(), actors...))
		for _, user := range f.users {
			b.BlockedBy = append(b.BlockedBy, Blocker{Who: messages.NameOf(user), Reason: reasonUser, Message: "uses " + messages.NameOf(o),
				BlockedBy: facts{tree: f.tree, app: f.app}.objectBlockers(user)})
		}
		out = append(out, b)
	case o.GetDeletionTimestamp() != nil:
		out = append(out, Blocker{Who: messages.NameOf(o), Reason: reasonTerminating, Message: "its deletion is under way", Since: o.GetDeletionTimestamp(),
			Retries: f.retries(o.GetName(), actors...)})
	}
	return out
}

// intentBlockers is why a container is not what its user wants: spec.state is not brought about, or was and is no more; the newest
// action goes on, or failed.
func (f facts) intentBlockers(o *messages.Container) []Blocker {
	var out []Blocker
	who, actors := messages.NameOf(o), ActorsOf(o)
	if c := messages.Condition(o, messages.ConditionIntentApplied); c != nil && c.Status != metav1.ConditionTrue {
		out = append(out, f.waitsForEngine(f.blocker(who, *c, o.Name, actors...)))
	}
	if c := messages.Condition(o, messages.ConditionDrifted); c != nil && c.Status == metav1.ConditionTrue {
		out = append(out, f.blocker(who, *c, o.Name, actors...))
	}
	last := o.Status.LastAction
	if last == nil || last.State != messages.ActionPending && last.State != messages.ActionFailed {
		return out
	}
	text := last.Action
	if last.Error != "" {
		text += ": " + strings.TrimPrefix(last.Error, last.Action+": ")
	}
	return append(out, Blocker{Who: who + " action", Reason: last.State, Message: text, Since: &metav1.Time{Time: last.RequestedAt.Time},
		Terminal: last.State == messages.ActionFailed})
}

// waitsForEngine adds what blocks the engine to whoever waits for it.
func (f facts) waitsForEngine(b Blocker) Blocker {
	reasons := []string{messages.ReasonEngineUnreachable, messages.ReasonEngineStopping, messages.ReasonEngineDown}
	if f.app != nil && slices.Contains(reasons, b.Reason) {
		b.BlockedBy = append(b.BlockedBy, f.appBlockers(f.app)...)
	}
	return b
}

func (f facts) blocker(who string, c metav1.Condition, object string, actors ...string) Blocker {
	b := Blocker{Who: who, Condition: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message,
		Terminal: messages.TerminalReason(c.Reason), Retries: f.retries(object, actors...)}
	if !c.LastTransitionTime.IsZero() {
		b.Since = &c.LastTransitionTime
	}
	return b
}

// retries are what these actors try again, for the object where it has a word of its own.
func (f facts) retries(object string, actors ...string) []Retried {
	var out []Retried
	for _, path := range actors {
		if n := f.node(path); n != nil {
			for _, r := range n.Retries {
				if r.Object == "" || r.Object == object {
					out = append(out, Retried{Actor: path, Retry: r})
				}
			}
		}
	}
	return out
}

func (f facts) node(path string) *messages.TreeNode {
	n := f.tree
	for n != nil && n.Path != path {
		i := slices.IndexFunc(n.Children, func(c messages.TreeNode) bool { return path == c.Path })
		if i < 0 { // not before: a volume's name may be another one's with a slash and more
			i = slices.IndexFunc(n.Children, func(c messages.TreeNode) bool { return strings.HasPrefix(path, c.Path+"/") })
		}
		if i < 0 {
			return nil
		}
		n = &n.Children[i]
	}
	return n
}

// ActorsOf are the paths of the actors that work on a resource.
func ActorsOf(o messages.Object) []string {
	k, ok := messages.KindByName(o.GetObjectKind().GroupVersionKind().Kind)
	switch {
	case !ok:
		return nil
	case k.Name == messages.KindApp:
		return []string{control.App, control.VM, control.Engine, control.Session}
	case k.Name == messages.KindContainerNamespace:
		return []string{control.Namespaces + "/" + o.GetName()}
	}
	var out []string
	for _, name := range append(k.IDs(o), k.HumanNames(o)...) {
		out = append(out, control.Root+"/"+k.Plural+"/"+name)
	}
	return out
}

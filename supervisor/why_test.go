package supervisor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/messages"
)

// chain is a blockage in one line a link: who condition/reason [retries].
func chain(list []Blocker, indent string) []string {
	var out []string
	for _, b := range list {
		line := indent + b.Who
		if b.Condition != "" {
			line += " " + b.Condition
		}
		line += " " + b.Reason
		for _, r := range b.Retries {
			line += " [" + r.Actor + " " + r.What + "]"
		}
		out = append(append(out, line), chain(b.BlockedBy, indent+"  ")...)
	}
	return out
}

func retry(what, object string) []messages.Retry {
	return []messages.Retry{{What: what, Object: object, Tries: 2, Next: metav1.NewMicroTime(time.Unix(1_900_000_000, 0))}}
}

func running(a *messages.App) *messages.App {
	a.Spec.Running, a.Status.ObservedGeneration = true, a.Generation
	return a
}

func TestWhyTheAppIsNotSettled(t *testing.T) {
	settled := condition("Settled", "True", "Settled", 2)
	unsettled := condition("Settled", "False", "Starting", 2)
	started, down := condition("Running", "True", "Started", 2), condition("Running", "False", "Starting", 2)
	connected, failed := condition("ContainerEngineReady", "True", "Connected", 2), condition("ContainerEngineReady", "False", "ConnectFailed", 2)
	tree := &messages.TreeNode{Path: "rdd", Children: []messages.TreeNode{
		{Path: "rdd/journal"}, {Path: "rdd/vm", Retries: retry("start", "")},
		{Path: "rdd/engine", Children: []messages.TreeNode{{Path: "rdd/engine/session", Retries: retry("restart", "")}}},
		{Path: "rdd/containers", Retries: retry("list", "")},
	}}
	journalDown := &messages.TreeNode{Path: "rdd", Children: []messages.TreeNode{{Path: "rdd/journal", Last: "disk full", Retries: retry("restart", "")}}}
	stopping := appObject(2, unsettled, started, condition("ContainerEngineReady", "False", "Stopping", 1))
	for _, c := range []struct {
		name string
		app  *messages.App
		tree *messages.TreeNode
		want []string
	}{
		{"nothing", running(appObject(2, settled, started, connected)), tree, nil},
		{"the vm; the engine only waits for it", running(appObject(2, unsettled, down, failed)), tree, []string{"vm Running Starting [rdd/vm start]"}},
		{"the engine", running(appObject(2, unsettled, started, failed)), tree,
			[]string{"engine ContainerEngineReady ConnectFailed [rdd/engine/session restart] [rdd/containers list]"}},
		{"a vm that has acted on an older spec only", running(appObject(3, unsettled, started, connected)), nil, []string{"vm Running Started"}},
		{"none of the parts", running(appObject(2, unsettled, started, connected)), nil, []string{"app Settled Starting"}},
		{"an engine that is not mirrored", running(appObject(2, unsettled, started, condition("ContainerEngineReady", "Unknown", "NotApplicable", 2))), nil,
			[]string{"app Settled Starting"}},
		{"a stop that waits for the vm", stopping, nil, []string{"vm Running Started"}},
		{"a stop that waits for the engine", appObject(2, unsettled, condition("Running", "False", "Stopped", 2), failed), nil,
			[]string{"engine ContainerEngineReady ConnectFailed"}},
		{"the journal", running(appObject(2, unsettled, started, connected)), journalDown, []string{"journal ActorFailed [rdd/journal restart]"}},
		{"no word yet", running(appObject(2)), nil, []string{"app Settled "}},
	} {
		require.Equal(t, c.want, chain(facts{tree: c.tree}.blockage(c.app).BlockedBy, ""), c.name)
	}
}

func TestWhyAResourceIsBlocked(t *testing.T) {
	down := running(appObject(2, condition("Settled", "False", "Disconnected", 2), condition("Running", "True", "Started", 2),
		condition("ContainerEngineReady", "False", "Disconnected", 2)))
	web := container(hexID(1), "web")
	web.Status.Image = "sha256:abc"
	busy := image("sha256:abc", "busybox:latest")
	now := metav1.Now()
	busy.DeletionTimestamp = &now
	busy.Status.ConditionList = []metav1.Condition{condition("DeletionBlocked", "True", "InUse", 0), condition("Synced", "True", "Mirrored", 0)}
	tree := &messages.TreeNode{Path: "rdd", Children: []messages.TreeNode{{Path: "rdd/images", Children: []messages.TreeNode{
		{Path: "rdd/images/sha256:abc", Retries: append(retry("remove", busy.Name), retry("remove", "another tag")...)},
	}}}}
	f := facts{tree: tree, app: down, users: []messages.Object{web}}
	require.Equal(t, []string{"image/busybox:latest DeletionBlocked InUse [rdd/images/sha256:abc remove]", "  container/web User"},
		chain(f.blockage(busy).BlockedBy, ""))
	require.Equal(t, "container/web", f.blockage(busy).Cause().Who)
	require.Empty(t, f.blockage(web).BlockedBy)
	require.Nil(t, f.blockage(web).Cause())

	lost := with(web, condition("Synced", "Unknown", "EngineUnreachable", 0))
	require.Equal(t, []string{"container/web Synced EngineUnreachable", "  engine ContainerEngineReady Disconnected"}, chain(f.blockage(lost).BlockedBy, ""))
	require.Equal(t, []string{"container/web Synced EngineUnreachable"}, chain(BlockageOf(lost).BlockedBy, ""))
	slow := with(web)
	slow.DeletionTimestamp = &now
	require.Equal(t, []string{"container/web Terminating"}, chain(f.blockage(slow).BlockedBy, ""))
}

func TestWhyAsksForTheUsers(t *testing.T) {
	w := newWorld(t, 1)
	w.b.core.Tree = func() messages.TreeNode { return messages.TreeNode{Path: "rdd"} }
	user, other := container(hexID(1), "web"), container(hexID(2), "other")
	user.Status.Mounts = []messages.ContainerMount{{Type: "volume", Name: "data", Destination: "/data"}}
	other.Status.Mounts = []messages.ContainerMount{{Type: "bind", Source: "data", Destination: "/data"}}
	held := volume("data")
	held.Status.ConditionList = []metav1.Condition{condition("DeletionBlocked", "True", "InUse", 0)}
	for _, o := range []messages.Object{appObject(1), user, other, held} {
		w.put(o)
	}
	b, err := w.c.Why(t.Context(), "volume", "data")
	require.NoError(t, err)
	require.Equal(t, []string{"volume/data DeletionBlocked InUse", "  container/web User"}, chain(b.BlockedBy, ""))
	_, err = w.c.Why(t.Context(), "volume", "nonsense")
	require.ErrorIs(t, err, messages.ErrNotFound)
}

// What a container's user wants and does not have, and the action that goes on or failed.
func TestWhyAContainerIsNotWhatIsWanted(t *testing.T) {
	at := metav1.NewMicroTime(time.Unix(1_900_000_000, 0))
	tree := &messages.TreeNode{Path: "rdd", Children: []messages.TreeNode{
		{Path: "rdd/containers", Children: []messages.TreeNode{{Path: "rdd/containers/" + hexID(1), Retries: retry("spec.state", hexID(1))}}}}}
	for _, c := range []struct {
		name       string
		conditions []metav1.Condition
		last       *messages.ActionReceipt
		want       []string
		terminal   bool
	}{
		{"all is done", []metav1.Condition{condition("IntentApplied", "True", "Applied", 2)}, &messages.ActionReceipt{State: messages.ActionSucceeded}, nil, false},
		{"tried again", []metav1.Condition{condition("IntentApplied", "False", "Retrying", 2)}, nil,
			[]string{"container/web IntentApplied Retrying [rdd/containers/" + hexID(1) + " spec.state]"}, false},
		{"cannot be", []metav1.Condition{condition("IntentApplied", "False", "Failed", 2)}, nil,
			[]string{"container/web IntentApplied Failed [rdd/containers/" + hexID(1) + " spec.state]"}, true},
		{"drift", []metav1.Condition{condition("Drifted", "True", "Drifted", 2), condition("IntentApplied", "True", "Applied", 2)}, nil,
			[]string{"container/web Drifted Drifted [rdd/containers/" + hexID(1) + " spec.state]"}, false},
		{"an action goes on", nil, &messages.ActionReceipt{Action: "stop", State: messages.ActionPending, RequestedAt: at},
			[]string{"container/web action Pending"}, false},
		{"an action failed", nil, &messages.ActionReceipt{Action: "pause", State: messages.ActionFailed, Error: "pause: it is exited", RequestedAt: at},
			[]string{"container/web action Failed"}, true},
	} {
		web := container(hexID(1), "web")
		web.Status.ConditionList, web.Status.LastAction = c.conditions, c.last
		found := facts{tree: tree}.blockage(web).BlockedBy
		require.Equal(t, c.want, chain(found, ""), c.name)
		if len(found) > 0 {
			require.Equal(t, c.terminal, found[0].Terminal, c.name)
		}
		if c.last != nil && c.last.Error != "" {
			require.Equal(t, "pause: it is exited", found[0].Message)
		}
	}
}

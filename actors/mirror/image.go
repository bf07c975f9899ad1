package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/calls"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

func imageOps() *kindOps {
	kind, _ := messages.KindByName(messages.KindImage)
	return &kindOps{
		kind: kind, path: control.Images, listOnly: true,
		valid:   isEngineID,
		list:    listImages,
		inspect: func(ctx context.Context, e dockerio.Engine, id string) (any, error) { return e.InspectImage(ctx, id) },
		remove:  removeImage,
		differs: imageDiffers,
		owner:   newImage,
	}
}

func listImages(ctx context.Context, e dockerio.Engine) ([]row, error) {
	list, err := e.ListImages(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]row, 0, len(list))
	for _, r := range list {
		out = append(out, row{ID: r.ID, Data: r})
	}
	return out, nil
}

// removeImage removes one reference, or an image without any, after looking what it stands for now: a tag that names another
// image, and an image that got a tag, are not what was asked for any more. Between the look and the call a tag can still move;
// Docker's API has no way to close that.
func removeImage(ctx context.Context, e dockerio.Engine, id, ref, _ string) error {
	now, err := e.InspectImage(ctx, ref)
	switch {
	case errors.Is(err, messages.ErrNotFound):
		return nil
	case err != nil:
		return err
	case now.ID != id, ref == id && len(now.Tags) > 0:
		return nil
	}
	return e.RemoveImage(ctx, ref)
}

func imageDiffers(data any, stored []store.Item) string {
	want := map[string]bool{}
	r := data.(dockerio.ImageRow)
	for _, name := range imageNames(r) {
		want[name] = true
	}
	for _, it := range stored {
		if it.Object.GetDeletionTimestamp() == nil && !want[it.Object.GetName()] {
			return "mirrors a tag it does not have"
		}
		delete(want, it.Object.GetName())
	}
	if len(want) > 0 {
		return "a tag is not mirrored"
	}
	return ""
}

// imageNames are the resources of an image: one per tag, or one without.
func imageNames(r dockerio.ImageRow) []string {
	if len(r.Tags) == 0 {
		return []string{messages.ImageName(r.ID, "")}
	}
	var out []string
	for _, tag := range r.Tags {
		out = append(out, messages.ImageName(r.ID, tag))
	}
	return out
}

// image is the actor of one image id; it owns one resource per tag, or one without.
//
//	address   rdd/images/<id>
//	parent    rdd/images
//	messages  as object
//	restart   as object; its tags come with the next list
type image struct {
	owner
	// row is the newest list's word, facts what an inspect adds (it never changes for an id).
	row   *dockerio.ImageRow
	facts *dockerio.Image
	// absent: the newest list did not have it.
	absent     bool
	releasing  uint64
	inspectErr string
	reason     string
	// asks wait for the answer to a look that began after they came; looked is when the newest that is over began.
	asks   []imageAsk
	looked uint64
}

type (
	// imageAsk is a client's request: a Delete or a Write.
	imageAsk struct {
		msg    any
		sender *actor.PID
		seq    uint64
	}
	// lookOver: what was asked for at that moment has waited long enough.
	lookOver struct{ seq uint64 }
)

// lookLimit is how long a request waits for the look; then it is accepted for the image as it was last seen.
const lookLimit = time.Second

func newImage(d *Deps, ops *kindOps, id string, load bool) kit.Actor {
	i := &image{owner: newOwner(d, ops, id, load)}
	i.identify = func(messages.Object) string { return i.identity() }
	i.identified = func() bool { return i.facts != nil }
	return i
}

// identity is the image's, as the newest inspect saw it.
func (i *image) identity() string {
	if i.facts == nil || i.facts.LastTagTime.IsZero() {
		return ""
	}
	return i.id + "|" + i.facts.LastTagTime.String()
}

// Receive implements kit.Actor.
func (i *image) Receive(c *kit.Context, msg any) {
	switch m := msg.(type) {
	case *actor.Started:
		i.start(c)
		for t := range i.targets.all() {
			t.ref = t.stored.(*messages.Image).Status.RepoTag
			if t.ref == "" {
				t.ref = i.id
			}
		}
		c.Label("", "")
	case *actor.Restarting:
		i.restarting(c)
		for _, a := range i.asks {
			i.refuse(c, a, "its actor was restarted, nothing has changed; try again")
		}
		return
	case observe:
		i.observe(c, m)
	case inspectOutcome:
		i.inspected(c, m)
	case retryDue, creditBack:
		i.step(c, m)
	case Delete, Write:
		i.lookFirst(c, imageAsk{msg: m, sender: c.Sender(), seq: calls.NextSeq()})
	case lookOver:
		i.looked = max(i.looked, m.seq)
	case removeOutcome:
		i.removed(c, m)
	case removeDueFor:
		if t := i.targets.get(m.name); t != nil {
			i.removal(c, t, removeDue{})
		}
	case users:
		i.usersChanged(c, m)
	case showReason:
		i.degrade(c, metav1.ConditionUnknown, m.Reason, m.Message)
	case sweepNow:
		i.row = nil
		i.sweep(c)
	case journal.Loaded:
		i.loaded(c, m)
		i.show(c)
		if i.proving() {
			i.step(c, marked{}) // what was seen before the journal had told of it is no proof
		}
	case journal.Committed:
		i.committed(c, m)
	default:
		i.writes(c, m)
	}
	i.consent(c)
	i.noteIdentity(c)
	i.release(c)
	i.endTurn(c)
}

func (i *image) observe(c *kit.Context, m observe) {
	c.Reply(taken{ID: i.id})
	if m.Pass != 0 {
		i.pass = m.Pass
	}
	if m.Rewatch {
		i.rewatch(c)
	}
	if m.Release {
		i.releasing = max(i.releasing, m.Seq)
	}
	fresh := m.Session.Epoch != 0 && m.Session.Epoch != i.session.Epoch
	if fresh {
		i.lane = calls.Sync
		i.online(c, m.Session)
	}
	retagged := false
	if r, ok := m.Row.(dockerio.ImageRow); ok && m.Seq >= i.applied {
		retagged = i.facts != nil && i.row != nil && !slices.Equal(i.row.Tags, r.Tags)
		i.applied, i.row, i.absent = m.Seq, &r, false
		i.finishing = false
		i.show(c)
	}
	i.absent = i.absent || m.Absent && m.Seq >= i.applied
	answered := i.facts != nil && i.row != nil && !i.absent
	if fresh {
		i.step(c, began{Answered: answered})
	}
	// Each tag moves the time of the last one, which is part of the identity; after a gap a deletion waits for it.
	if m.Absent || m.Changed || i.finished || retagged || fresh && (i.proving() || i.accepted()) {
		i.finished = false
		i.step(c, marked{})
	}
	if answered || i.probe.known() {
		i.passed()
	}
}

// accepted: the journal has something of it, by the identity that it had.
func (i *image) accepted() bool {
	for t := range i.targets.all() {
		if t.record != nil || t.writing != nil || t.rem.asked() {
			return true
		}
	}
	return false
}

// lookFirst has a request wait for a look at the image: the journal must know it by what it is when the request is accepted, and a tag
// given anew moves that; the list that tells of the tag does not tell of it, and where no event told of it, nothing does.
func (i *image) lookFirst(c *kit.Context, a imageAsk) {
	if len(i.asks) == maxWrites {
		i.refuse(c, a, fmt.Sprintf("%d requests wait already; try again", maxWrites))
		return
	}
	i.asks = append(i.asks, a)
	i.lane = calls.Live
	i.step(c, marked{})
	c.After(lookLimit, lookOver{seq: a.seq})
}

// consent takes the requests that have waited for their look, or for which there is nobody to ask.
func (i *image) consent(c *kit.Context) {
	for len(i.asks) > 0 && (i.asks[0].seq <= i.looked || !i.probe.Live) {
		a := i.asks[0]
		i.asks = i.asks[1:]
		switch m := a.msg.(type) {
		case Delete:
			i.askDelete(c, m, a.sender)
		case Write:
			i.askWrite(c, m, a.sender)
		}
	}
}

func (i *image) refuse(c *kit.Context, a imageAsk, why string) {
	switch m := a.msg.(type) {
	case Delete:
		c.ReplyTo(a.sender, Deleted{Err: messages.NewError(messages.CodeUnavailable, "delete", i.ops.kind.Name, m.Name, why)})
	case Write:
		c.ReplyTo(a.sender, Written{Err: i.writeError(messages.CodeUnavailable, m.Name, why)})
	}
}

// noteIdentity makes the journal know the image by what it is now; the turn that learned it may have been before the journal's answer.
func (i *image) noteIdentity(c *kit.Context) {
	if i.facts == nil {
		return
	}
	for t := range i.targets.all() {
		if t.rem.deleting() && !t.rem.Prove {
			i.prove(c, t, i.identity())
		}
	}
	i.proveAgain(c)
}

// show makes the resources what the newest list says: those of tags it lost go, those it has are published.
func (i *image) show(c *kit.Context) {
	if i.row == nil {
		return
	}
	keep := map[string]bool{}
	tags := i.row.Tags
	if len(tags) == 0 {
		tags = []string{""}
	}
	for _, tag := range tags {
		keep[messages.ImageName(i.id, tag)] = true
	}
	for t := range i.targets.all() {
		switch {
		case keep[t.name] || t.want == nil:
		default:
			i.gone(c, t)
		}
	}
	for _, tag := range tags {
		ref := tag
		if ref == "" {
			ref = i.id
		}
		_, written := i.objects[messages.ImageName(i.id, tag)]
		if (written || i.loading) && i.facts == nil && i.reason == "" {
			continue // the inspect tells whether what was written to it before is of this image
		}
		i.showTag(c, i.target(messages.ImageName(i.id, tag), ref), tag)
	}
	i.replay(c)
}

func (i *image) showTag(c *kit.Context, t *target, tag string) {
	if t.rem.Phase == removed {
		return // the resource stands for what is gone; others hold it
	}
	obj, _ := t.current().(*messages.Image)
	if obj == nil {
		obj = i.ops.kind.New().(*messages.Image)
	}
	s := &obj.Status
	s.ID, s.RepoTag, s.RepoDigests, s.CreatedAt = i.id, tag, i.row.Digests, i.row.Created.Status()
	s.Size, s.Labels, s.Namespace = i.row.Size, i.row.Labels, messages.NamespaceMoby
	switch {
	case i.facts != nil:
		s.Architecture, s.OS = i.facts.Architecture, i.facts.OS
		i.setCondition(obj, messages.ConditionSynced, metav1.ConditionTrue, messages.ReasonMirrored, "")
	case i.reason != "":
		i.setCondition(obj, messages.ConditionSynced, metav1.ConditionFalse, i.reason, i.inspectErr)
	default:
		i.setCondition(obj, messages.ConditionSynced, metav1.ConditionUnknown, messages.ReasonPending, "known from a list; not inspected yet")
	}
	i.claim(c, t, obj)
	i.publish(c, t, obj)
}

func (i *image) replay(c *kit.Context) {
	if len(i.records) > 0 && i.facts != nil && i.row != nil {
		i.replayRecords(c, i.identify(nil))
	}
}

func (i *image) inspected(c *kit.Context, m inspectOutcome) {
	if !i.probe.Asking {
		return
	}
	if m.epoch != i.session.Epoch {
		i.step(c, stale{})
		return
	}
	i.looked = max(i.looked, m.out.Seq)
	err := m.out.Err
	switch {
	case err == nil:
		facts := m.out.Value.(dockerio.Image)
		i.facts, i.reason, i.inspectErr = &facts, "", ""
		for t := range i.targets.all() {
			i.prove(c, t, i.identity())
		}
		c.Label("", "")
		i.step(c, found{})
		if i.absent && len(facts.Tags) == 0 {
			i.vanish(c) // a parent of another image now: the engine does not list it, nor do we
			break
		}
		i.show(c)
	case errors.Is(err, messages.ErrNotFound):
		i.applied = max(i.applied, m.out.Seq)
		i.step(c, missing{})
		i.vanish(c)
	case errors.Is(err, calls.ErrNoSession):
		i.step(c, failed{NoSession: true})
		return
	default:
		i.step(c, failed{})
		i.reason, i.inspectErr = messages.ReasonInspectFailed, err.Error()
		if calls.IsTimeout(err) {
			i.reason = messages.ReasonInspectTimeout
		}
		c.Label(i.reason, err.Error())
		i.show(c)
		i.degrade(c, metav1.ConditionFalse, i.reason, i.inspectErr)
	}
	i.passed()
}

// vanish: the engine has no such image any more.
func (i *image) vanish(c *kit.Context) {
	i.row, i.facts = nil, nil
	for t := range i.targets.all() {
		if t.want != nil || t.rem.asked() {
			i.gone(c, t)
		}
	}
	i.finish(c)
}

// removed takes the outcome of a removal: a list that was asked for before it is old now.
func (i *image) removed(c *kit.Context, m removeOutcome) {
	if m.out.Err == nil {
		i.applied = calls.NextSeq()
		if t := i.targets.get(m.name); t != nil && i.row != nil {
			r := *i.row
			r.Tags = slices.DeleteFunc(slices.Clone(r.Tags), func(tag string) bool { return tag == t.ref })
			i.row = &r
		}
	}
	i.removeDone(c, m)
	if m.out.Err == nil {
		i.step(c, marked{})
		c.Tell(i.ops.path, relist{})
	}
}

// release tells that what the list took away is gone from the store.
func (i *image) release(c *kit.Context) {
	if i.releasing != 0 && i.idle() {
		c.Tell(i.ops.path, released{ID: i.id, Seq: i.releasing})
		i.releasing = 0
	}
}

// relist asks the supervisor for a list: only that tells what tags are left.
type relist struct{}

package mirror

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/admission"
	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/messages"
)

// recordBuckets are what an owner, and the supervisor before it, reads in the journal.
var recordBuckets = []string{journal.BucketDeletions, journal.BucketObjects, journal.BucketOperations}

// askRecords asks the journal for the kind's records, and again when a restart of the journal has lost the question.
func askRecords(c *kit.Context, prefix string) {
	for _, bucket := range recordBuckets {
		c.Tell(control.Journal, journal.Load{Token: c.Token(), Bucket: bucket, Prefix: prefix})
	}
	c.After(loadAgain, loadOverdue{})
}

// loadOverdue: the journal should have answered by now.
type loadOverdue struct{}

// recordPrefix is what the keys of the owner's records begin with.
func (o *owner) recordPrefix() string {
	if name := skeletonName(o.id); name != "" {
		return journal.ObjectKey(o.ops.kind.Name, name)
	}
	if o.ops.name != nil {
		return journal.ObjectKey(o.ops.kind.Name, o.ops.name(o.id))
	}
	return journal.ObjectKey(o.ops.kind.Name, "")
}

// loaded keeps the records until the engine has answered whether they still speak of the same object.
func (o *owner) loaded(c *kit.Context, m journal.Loaded) {
	if m.Err != nil || !o.loading {
		return // loadOverdue asks again
	}
	if o.got == nil {
		o.got = map[string][]journal.Entry{}
	}
	o.got[m.Bucket] = m.Entries
	if len(o.got) < len(recordBuckets) {
		return
	}
	o.loading = false
	o.loadDeletions(c, o.got[journal.BucketDeletions])
	o.loadObjects(c, o.got[journal.BucketObjects])
	o.intents.recall(c, o.got[journal.BucketOperations])
	o.inherited, o.got = nil, nil
	for t := range o.targets.all() {
		o.flush(c, t)
		o.nextWrite(c, t)
	}
}

func (o *owner) loadDeletions(c *kit.Context, entries []journal.Entry) {
	o.records = map[string]journal.DeletionRecord{}
	for _, e := range entries {
		rec, err := journal.DecodeDeletion(e)
		if err != nil {
			panic(fmt.Errorf("load deletions of %s %q: %w", o.ops.kind.Name, o.id, err))
		}
		if rec.Owner != o.id {
			continue
		}
		o.records[rec.Name] = rec
		if t := o.targets.get(rec.Name); t != nil && t.stored != nil && o.inherited[rec.Name] == rec.UID {
			delete(o.records, rec.Name) // the same incarnation, watched by this process without a gap
			t.deletedAt, t.proof, t.noted = &metav1.Time{Time: rec.Asked}, rec.Identity, rec.Identity
			if rec.Done {
				o.removal(c, t, orphaned{})
			} else {
				// What the incarnation before failed on may have been the news; the first look of this one may be over.
				o.removal(c, t, replayed{Prove: o.ops.ambiguous() && o.ops.valid(o.id)})
				if t.rem.Prove {
					o.lookAgain(c)
				}
			}
		}
	}
}

func (o *owner) loadObjects(c *kit.Context, entries []journal.Entry) {
	o.objects = map[string]journal.ObjectRecord{}
	for _, e := range entries {
		rec, err := journal.DecodeObject(e)
		if err != nil {
			panic(fmt.Errorf("load what was written to %s %q: %w", o.ops.kind.Name, o.id, err))
		}
		if rec.Owner != o.id {
			continue
		}
		t := o.targets.get(rec.Name)
		switch {
		case t != nil && t.stored != nil && o.inherited[rec.Name] == rec.UID:
			o.adopt(c, t, rec) // the same incarnation, watched by this process without a gap
		case rec.Skeleton:
			t = o.target(rec.Name, "")
			obj := o.skeletonOf(t)
			t.record = &rec
			restore(obj, rec)
			o.publish(c, t, obj)
		default:
			o.objects[rec.Name] = rec
			if t != nil && t.want != nil {
				obj := t.current()
				o.claim(c, t, obj)
				o.publish(c, t, obj)
			}
		}
	}
}

// adopt makes a record what t has.
func (o *owner) adopt(c *kit.Context, t *target, rec journal.ObjectRecord) {
	t.record = &rec
	obj := t.current()
	restore(obj, rec)
	if t.rem.Phase == removed && len(rec.Finalizers) == 0 {
		o.letGo(c, t, obj) // the incarnation before did not get to it
		return
	}
	o.publish(c, t, obj)
}

// claim looks whether what was written before the daemon was restarted is of the object that is about to be published, and then puts
// it in: readers never see the one without the other.
func (o *owner) claim(c *kit.Context, t *target, obj messages.Object) {
	rec, open := o.objects[t.name]
	if !open || !o.identified() {
		return
	}
	delete(o.objects, t.name)
	if identity := o.identify(obj); identity == "" || identity != rec.Identity {
		c.House.Events.Add(messages.HouseEvent{Type: messages.EventSuperseded, Actor: c.Path(),
			Message: fmt.Sprintf("what was written to %s %q: Superseded/IdentityChanged: what the engine has now is not what it was written to", rec.Kind, rec.Name)})
		c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: []journal.Op{journal.DropObject(rec.Kind, rec.Name)}})
		return
	}
	t.record = &rec
	restore(obj, rec)
}

// heldOver publishes what others held when the daemon ended: the engine has no such object, and it is still theirs. What nobody holds
// is forgotten. It reports whether something is held.
func (o *owner) heldOver(c *kit.Context) (held bool) {
	for name, rec := range inOrder(o.objects) {
		delete(o.objects, name)
		if len(rec.Finalizers) == 0 {
			c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: []journal.Op{journal.DropObject(rec.Kind, rec.Name)}})
			continue
		}
		t := o.target(name, "")
		t.deletedAt = &metav1.Time{Time: o.d.Now().UTC().Truncate(time.Second)}
		if del, open := o.records[name]; open {
			delete(o.records, name)
			t.deletedAt = &metav1.Time{Time: del.Asked}
		}
		t.record, t.want, held = &rec, o.ops.kind.New(), true
		restore(t.want, rec)
		o.setCondition(t.want, messages.ConditionSynced, metav1.ConditionFalse, messages.ReasonNoEngineObject, "the engine does not have it any more")
		o.removal(c, t, orphaned{})
	}
	return held
}

// recordOf is what clients wrote into obj.
func (o *owner) recordOf(t *target, obj messages.Object) journal.ObjectRecord {
	rec := journal.ObjectRecord{
		Kind: o.ops.kind.Name, Name: t.name, Owner: o.id, UID: obj.GetUID(), Created: obj.GetCreationTimestamp().Time,
		Generation: obj.GetGeneration(), Labels: obj.GetLabels(), Annotations: obj.GetAnnotations(), Finalizers: admission.Foreign(obj),
		Skeleton: !o.ops.valid(o.id),
	}
	if !rec.Skeleton {
		rec.Identity = o.identify(obj)
	}
	if con, ok := obj.(*messages.Container); ok {
		spec := con.Spec
		rec.Spec, rec.ObservedGeneration, rec.LastAction = &spec, con.Status.ObservedGeneration, con.Status.LastAction
	}
	return rec
}

// restore puts what clients wrote into obj.
func restore(obj messages.Object, rec journal.ObjectRecord) {
	obj.SetLabels(rec.Labels)
	obj.SetAnnotations(rec.Annotations)
	ours := len(obj.GetFinalizers()) == 0 || len(admission.Foreign(obj)) < len(obj.GetFinalizers())
	obj.SetFinalizers(rec.Finalizers)
	obj.SetFinalizers(withFinalizer(obj.GetFinalizers(), ours))
	if obj.GetUID() == "" {
		obj.SetUID(rec.UID)
		obj.SetCreationTimestamp(metav1.Time{Time: rec.Created})
	}
	if con, ok := obj.(*messages.Container); ok && rec.Spec != nil {
		con.Spec, con.Generation = *rec.Spec, rec.Generation
		con.Status.ObservedGeneration, con.Status.LastAction = rec.ObservedGeneration, rec.LastAction
	}
}

// proveAgain keeps the identity in the records what it is: an image's moves with each tag.
func (o *owner) proveAgain(c *kit.Context) {
	for t := range o.targets.all() {
		if t.record == nil || t.want == nil || t.writing != nil {
			continue
		}
		if identity := o.identify(t.want); identity != "" && identity != t.record.Identity {
			rec := *t.record
			rec.Identity = identity
			t.record = &rec
			c.Tell(control.Journal, journal.Commit{Token: c.Token(), Ops: []journal.Op{journal.PutObject(rec)}})
		}
	}
}

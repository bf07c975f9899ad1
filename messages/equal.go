package messages

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Equal compares two resources; what is empty and what is nil are the same.
func Equal(a, b Object) bool {
	created, other := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	return a.GetUID() == b.GetUID() && a.GetResourceVersion() == b.GetResourceVersion() && created.Equal(&other) && SameContent(a, b)
}

// SameContent is [Equal] for all but what the store assigns: uid, creationTimestamp, resourceVersion.
//
// Each event of a container costs two comparisons, so that one of containers knows their fields instead of looking for them.
func SameContent(a, b Object) bool {
	if x, ok := a.(*Container); ok {
		y, ok := b.(*Container)
		return ok && x.TypeMeta == y.TypeMeta && sameMeta(&x.ObjectMeta, &y.ObjectMeta) && x.Spec == y.Spec && x.Status.equal(&y.Status)
	}
	return equality.Semantic.DeepEqual(contentOf(a), contentOf(b))
}

func contentOf(o Object) Object {
	cp := ShallowCopy(o)
	cp.SetResourceVersion("")
	cp.SetUID("")
	cp.SetCreationTimestamp(metav1.Time{})
	return cp
}

func sameMeta(a, b *metav1.ObjectMeta) bool {
	//lint:ignore SA1019 it is a field; who sets it wants it kept
	return a.SelfLink == b.SelfLink && a.Name == b.Name && a.GenerateName == b.GenerateName && a.Namespace == b.Namespace &&
		a.Generation == b.Generation && a.DeletionTimestamp.Equal(b.DeletionTimestamp) &&
		same(a.DeletionGracePeriodSeconds, b.DeletionGracePeriodSeconds) &&
		maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations) && slices.Equal(a.Finalizers, b.Finalizers) &&
		equality.Semantic.DeepEqual(a.OwnerReferences, b.OwnerReferences) && equality.Semantic.DeepEqual(a.ManagedFields, b.ManagedFields)
}

func (s *ContainerStatus) equal(o *ContainerStatus) bool {
	return s.ObservedGeneration == o.ObservedGeneration && s.Name == o.Name && s.Namespace == o.Namespace && s.Path == o.Path &&
		slices.Equal(s.Args, o.Args) && s.Image == o.Image && s.ImageName == o.ImageName &&
		SamePorts(s.Ports, o.Ports) && maps.Equal(s.Labels, o.Labels) &&
		s.Status == o.Status && s.Pid == o.Pid && same(s.ExitCode, o.ExitCode) && s.Error == o.Error &&
		s.CreatedAt.Equal(o.CreatedAt) && s.StartedAt.Equal(o.StartedAt) && s.FinishedAt.Equal(o.FinishedAt) &&
		s.RestartCount == o.RestartCount && s.Health == o.Health &&
		slices.Equal(s.Mounts, o.Mounts) && slices.Equal(s.Networks, o.Networks) && s.LastAction.equal(o.LastAction) &&
		slices.EqualFunc(s.ConditionList, o.ConditionList, sameCondition)
}

func (r *ActionReceipt) equal(o *ActionReceipt) bool {
	if r == nil || o == nil {
		return r == o
	}
	return r.ID == o.ID && r.Action == o.Action && r.State == o.State && r.Error == o.Error && r.RequestedAt.Equal(&o.RequestedAt) &&
		r.ObservedAt.Equal(o.ObservedAt) && r.CompletedAt.Equal(o.CompletedAt)
}

// SamePorts compares what two containers expose.
func SamePorts(a, b []ContainerPort) bool { return slices.EqualFunc(a, b, ContainerPort.equal) }

func (p ContainerPort) equal(o ContainerPort) bool {
	return p.Name == o.Name && slices.Equal(p.Bindings, o.Bindings)
}

func sameCondition(a, b metav1.Condition) bool {
	return a.LastTransitionTime.Equal(&b.LastTransitionTime) && a.Type == b.Type && a.Status == b.Status &&
		a.ObservedGeneration == b.ObservedGeneration && a.Reason == b.Reason && a.Message == b.Message
}

// same compares what two pointers point to.
func same[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

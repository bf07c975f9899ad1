package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

func volumeOps() *kindOps {
	kind, _ := messages.KindByName(messages.KindVolume)
	return &kindOps{
		kind: kind, path: control.Volumes, rowIsAll: true, recreates: true,
		valid: isEngineID,
		name:  messages.VolumeName,
		list:  listVolumes,
		inspect: func(ctx context.Context, e dockerio.Engine, id string) (any, error) {
			return e.InspectVolume(ctx, id)
		},
		remove:   removeVolume,
		seenAs:   func(seen any) string { return identityOfVolume(seen.(dockerio.Volume)) },
		fill:     func(o messages.Object, seen any, _ time.Time) { fillVolume(o.(*messages.Volume), seen) },
		differs:  volumeDiffers,
		identity: volumeIdentity,
		settling: func(any) bool { return false },
		uses:     func(any) *using { return nil },
		owner:    newObject,
	}
}

func listVolumes(ctx context.Context, e dockerio.Engine) ([]row, error) {
	list, err := e.ListVolumes(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]row, 0, len(list))
	for _, v := range list {
		out = append(out, row{ID: v.Name, Data: v})
	}
	return out, nil
}

// fillVolume keeps createdAt as first seen: Docker derives it from a directory's ctime, which moves.
func fillVolume(v *messages.Volume, seen any) {
	v.Status.Namespace = messages.NamespaceMoby
	e, ok := seen.(dockerio.Volume)
	if !ok {
		return
	}
	created := v.Status.CreatedAt
	if created == nil {
		created = e.Created.Status()
	}
	v.Status = messages.VolumeStatus{
		Name: e.Name, Driver: e.Driver, Mountpoint: e.Mountpoint, Labels: e.Labels, Scope: e.Scope, Options: e.Options,
		CreatedAt: created, Namespace: messages.NamespaceMoby, ConditionList: v.Status.ConditionList,
	}
}

// removeVolume removes the volume of that name after looking whether it is still the one that was seen last. Between the look and
// the call another one can take the name; Docker's API has no way to close that.
func removeVolume(ctx context.Context, e dockerio.Engine, id, _, proof string) error {
	now, err := e.InspectVolume(ctx, id)
	switch {
	case errors.Is(err, messages.ErrNotFound):
		return nil
	case err != nil:
		return err
	case proof != "" && identityOfVolume(now) != proof:
		return messages.NewError(messages.CodeUnavailable, "remove", messages.KindVolume, id,
			"it is not as it was seen last, perhaps another one under its name; it is being looked at")
	}
	return e.RemoveVolume(ctx, id)
}

// identityOfVolume is all that Docker tells of which volume a name stands for; empty when it tells no time of creation.
func identityOfVolume(v dockerio.Volume) string {
	var seen messages.Volume
	fillVolume(&seen, v)
	return volumeIdentity(&seen)
}

func volumeIdentity(o messages.Object) string {
	s := o.(*messages.Volume).Status
	if s.CreatedAt == nil {
		return ""
	}
	labels, _ := json.Marshal([]map[string]string{s.Labels, s.Options}) // maps of strings always marshal, sorted
	return fmt.Sprintf("%s|%v|%s|%s", s.Name, s.CreatedAt, s.Driver, labels)
}

func volumeDiffers(data any, stored []store.Item) string {
	if len(stored) == 0 {
		return "not mirrored"
	}
	v, s := data.(dockerio.Volume), stored[0].Object.(*messages.Volume).Status
	if v.Driver != s.Driver || v.Mountpoint != s.Mountpoint || v.Scope != s.Scope {
		return "driver, mountpoint or scope differs"
	}
	return ""
}

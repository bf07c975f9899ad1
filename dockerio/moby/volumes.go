package moby

import (
	"context"

	"github.com/moby/moby/api/types/volume"
	"github.com/moby/moby/client"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// ListVolumes implements [dockerio.Volumes].
func (e *engine) ListVolumes(ctx context.Context) ([]dockerio.Volume, error) {
	w := what{"list", kindVolumes, ""}
	r, err := call(ctx, e, w, func(ctx context.Context) (client.VolumeListResult, error) {
		return e.api.VolumeList(ctx, client.VolumeListOptions{})
	})
	if err != nil {
		return nil, err
	}
	rows := make([]dockerio.Volume, 0, len(r.Items))
	for _, v := range r.Items {
		if v.Name == "" {
			return nil, w.unreadable("a volume without a name")
		}
		if !canBeAsked(v.Name) {
			continue // drivers name volumes as they like: one that is out of reach hides no other
		}
		rows = append(rows, volumeOf(v))
	}
	return rows, nil
}

// InspectVolume implements [dockerio.Volumes].
func (e *engine) InspectVolume(ctx context.Context, name string) (dockerio.Volume, error) {
	w := what{"inspect", messages.KindVolume, name}
	if err := w.checkName(); err != nil {
		return dockerio.Volume{}, err
	}
	r, err := call(ctx, e, w, func(ctx context.Context) (client.VolumeInspectResult, error) {
		return e.api.VolumeInspect(ctx, name, client.VolumeInspectOptions{})
	})
	if err != nil {
		return dockerio.Volume{}, err
	}
	if r.Volume.Name == "" {
		return dockerio.Volume{}, w.unreadable("a volume without a name")
	}
	return volumeOf(r.Volume), nil
}

// RemoveVolume implements [dockerio.Volumes].
func (e *engine) RemoveVolume(ctx context.Context, name string) error {
	w := what{"remove", messages.KindVolume, name}
	if err := w.checkName(); err != nil {
		return err
	}
	_, err := call(ctx, e, w, func(ctx context.Context) (client.VolumeRemoveResult, error) {
		return e.api.VolumeRemove(ctx, name, client.VolumeRemoveOptions{})
	})
	return err
}

func volumeOf(v volume.Volume) dockerio.Volume {
	return dockerio.Volume{
		Name:       v.Name,
		Driver:     v.Driver,
		Mountpoint: v.Mountpoint,
		Labels:     notEmpty(v.Labels),
		Scope:      v.Scope,
		Options:    notEmpty(v.Options),
		Created:    dockerio.ParseTime(v.CreatedAt),
	}
}

package moby

import (
	"context"
	"slices"
	"strings"

	"github.com/moby/moby/client"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

// ListImages implements [dockerio.Images].
func (e *engine) ListImages(ctx context.Context) ([]dockerio.ImageRow, error) {
	w := what{"list", kindImages, ""}
	r, err := call(ctx, e, w, func(ctx context.Context) (client.ImageListResult, error) {
		return e.api.ImageList(ctx, client.ImageListOptions{})
	})
	if err != nil {
		return nil, err
	}
	rows := make([]dockerio.ImageRow, 0, len(r.Items))
	for _, i := range r.Items {
		if !canBeAsked(i.ID) {
			return nil, w.unreadable("an image without an id")
		}
		rows = append(rows, dockerio.ImageRow{
			ID:      i.ID,
			Tags:    references(i.RepoTags),
			Digests: references(i.RepoDigests),
			Created: dockerio.UnixTime(i.Created),
			Size:    i.Size,
			Labels:  notEmpty(i.Labels),
		})
	}
	return rows, nil
}

// InspectImage implements [dockerio.Images].
func (e *engine) InspectImage(ctx context.Context, ref string) (dockerio.Image, error) {
	w := what{"inspect", messages.KindImage, ref}
	if err := w.checkName(); err != nil {
		return dockerio.Image{}, err
	}
	r, err := call(ctx, e, w, func(ctx context.Context) (client.ImageInspectResult, error) {
		return e.api.ImageInspect(ctx, ref)
	})
	if err != nil {
		return dockerio.Image{}, err
	}
	if r.ID == "" {
		return dockerio.Image{}, w.unreadable("an image without an id")
	}
	image := dockerio.Image{
		ImageRow: dockerio.ImageRow{
			ID:      r.ID,
			Tags:    references(r.RepoTags),
			Digests: references(r.RepoDigests),
			Created: dockerio.ParseTime(r.Created),
			Size:    r.Size,
		},
		Architecture: r.Architecture,
		OS:           r.Os,
		LastTagTime:  dockerio.EngineTime(r.Metadata.LastTagTime),
	}
	if r.Config != nil {
		image.Labels = notEmpty(r.Config.Labels)
	}
	return image, nil
}

// RemoveImage implements [dockerio.Images]. As with `docker rmi`, parents that nobody else uses go with the image.
func (e *engine) RemoveImage(ctx context.Context, ref string) error {
	w := what{"remove", messages.KindImage, ref}
	if err := w.checkName(); err != nil {
		return err
	}
	_, err := call(ctx, e, w, func(ctx context.Context) (client.ImageRemoveResult, error) {
		return e.api.ImageRemove(ctx, ref, client.ImageRemoveOptions{PruneChildren: true})
	})
	return err
}

// references drops what stands for "none" ("<none>:<none>", "<none>@<none>", "<none>@sha256:…") and sorts the rest.
func references(list []string) []string {
	var out []string
	for _, r := range list {
		if r != "" && !strings.HasPrefix(r, "<none>") {
			out = append(out, r)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

package sim

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

type image struct {
	id           string
	tags         []string // sorted
	digests      []string
	labels       map[string]string
	architecture string
	marker       string
	size         int64
	created      time.Time
	lastTag      time.Time
	users        map[*container]struct{}
}

func (i *image) use(c *container) {
	if i.users == nil {
		i.users = map[*container]struct{}{}
	}
	i.users[c] = struct{}{}
}

func (i *image) row() dockerio.ImageRow {
	return dockerio.ImageRow{
		ID: i.id, Tags: filled(i.tags), Digests: filled(i.digests), Labels: filledMap(i.labels), Size: i.size,
		Created: dockerio.UnixTime(i.created.Unix()),
	}
}

func (i *image) inspect() dockerio.Image {
	row := i.row()
	row.Created = dockerio.EngineTime(i.created)
	return dockerio.Image{ImageRow: row, Architecture: i.architecture, OS: "linux", LastTagTime: dockerio.EngineTime(i.lastTag)}
}

func (e *Engine) newImage(now time.Time) *image {
	i := &image{id: "sha256:" + e.newID("image"), architecture: "amd64", size: 1_000_000, created: now}
	e.images.put(i.id, i)
	return i
}

// normalTag adds the default tag.
func normalTag(ref string) string {
	if strings.Contains(ref, "@") || strings.LastIndex(ref, ":") > strings.LastIndex(ref, "/") {
		return ref
	}
	return ref + ":latest"
}

func repository(tag string) string { return tag[:strings.LastIndex(tag, ":")] }

// setTag gives tag to i, taking it from whoever has it. No event.
func (e *Engine) setTag(i *image, tag string) {
	if loser := e.tags[tag]; loser == i {
		return
	} else if loser != nil {
		loser.tags = slices.DeleteFunc(loser.tags, func(t string) bool { return t == tag })
	}
	e.tags[tag] = i
	i.tags = append(i.tags, tag)
	slices.Sort(i.tags)
}

func (e *Engine) untag(i *image, tag string) {
	delete(e.tags, tag)
	i.tags = slices.DeleteFunc(i.tags, func(t string) bool { return t == tag })
	e.emitImage("untag", i.id, i.id, i.labels)
}

func (e *Engine) deleteImage(i *image) {
	for _, tag := range i.tags {
		delete(e.tags, tag)
	}
	e.images.remove(i.id)
	e.emitImage("delete", i.id, i.id, i.labels)
}

// findImage resolves a reference or an id; byID tells which it was.
func (e *Engine) findImage(verb, ref string) (i *image, byID bool, err error) {
	if ref == "" {
		return nil, false, messages.NewError(messages.CodeInvalid, verb, messages.KindImage, "", "no reference")
	}
	if i = e.images.get(ref); i != nil {
		return i, true, nil
	}
	if i = e.tags[normalTag(ref)]; i != nil {
		return i, false, nil
	}
	digits := strings.TrimPrefix(ref, "sha256:")
	if isHex(digits) {
		if i = e.images.get("sha256:" + digits); i != nil {
			return i, true, nil
		}
		if len(digits) < 64 {
			found, ambiguous := e.images.byPrefix("sha256:" + digits)
			if ambiguous {
				return nil, false, messages.NewError(messages.CodeAmbiguous, verb, messages.KindImage, ref, "several images begin with it")
			}
			if found != nil {
				return found, true, nil
			}
		}
	}
	return nil, false, notFound(verb, messages.KindImage, ref)
}

func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdef") == ""
}

// ImageOptions of an image to import.
type ImageOptions struct {
	// Tag, e.g. "busybox:latest"; empty = a dangling image.
	Tag string
	// Marker is the image's content. Each import makes a new id all the same, as a real import does.
	Marker       string
	Labels       map[string]string
	Architecture string // default "amd64"
	Size         int64  // default 1 MB
}

// Import is docker import: a new image under tag, which it takes from any other.
func (e *Engine) Import(tag, marker string) (id string, err error) {
	return e.ImportImage(ImageOptions{Tag: tag, Marker: marker})
}

// ImportImage is Import with more to say.
func (e *Engine) ImportImage(options ImageOptions) (id string, err error) {
	err = e.change(func() error {
		i := e.makeImage(options)
		e.emitImage("import", i.id, i.id, i.labels)
		id = i.id
		return nil
	})
	return id, err
}

// Build is docker build: like Import, but announced by a tag event only (by nothing without a tag).
func (e *Engine) Build(options ImageOptions) (id string, err error) {
	err = e.change(func() error {
		id = e.makeImage(options).id
		return nil
	})
	return id, err
}

func (e *Engine) makeImage(options ImageOptions) *image {
	i := e.newImage(e.now())
	i.marker, i.labels = options.Marker, maps.Clone(options.Labels)
	if options.Architecture != "" {
		i.architecture = options.Architecture
	}
	if options.Size > 0 {
		i.size = options.Size
	}
	if options.Tag != "" {
		e.tagImage(i, normalTag(options.Tag))
	}
	return i
}

func (e *Engine) tagImage(i *image, tag string) {
	e.setTag(i, tag)
	i.lastTag = e.now()
	e.emitImage("tag", i.id, tag, i.labels)
}

// Tag is docker tag. The image that had the tag loses it without an event.
func (e *Engine) Tag(ref, tag string) error {
	return e.change(func() error {
		i, _, err := e.findImage("tag", ref)
		if err != nil {
			return err
		}
		e.tagImage(i, normalTag(tag))
		return nil
	})
}

// Rmi is docker rmi.
func (e *Engine) Rmi(ref string, force bool) error {
	return e.change(func() error { return e.removeImage(ref, force) })
}

func (e *Engine) removeImage(ref string, force bool) error {
	i, byID, err := e.findImage("remove", ref)
	if err != nil {
		return err
	}
	running := map[*container]struct{}{}
	for c := range i.users {
		if c.running {
			running[c] = struct{}{}
		}
	}
	if byID {
		switch {
		case len(running) > 0:
			return inUse("remove", messages.KindImage, ref, running)
		case !force && len(i.users) > 0:
			return inUse("remove", messages.KindImage, ref, i.users)
		case !force && len(i.tags) > 1:
			why := "several tags name it: " + strings.Join(i.tags, ", ")
			return messages.NewError(messages.CodeConflict, "remove", messages.KindImage, ref, why)
		}
		for _, tag := range slices.Clone(i.tags) {
			e.untag(i, tag)
		}
		e.deleteImage(i)
		return nil
	}
	if !force && len(i.tags) == 1 && len(i.users) > 0 {
		return inUse("remove", messages.KindImage, ref, i.users)
	}
	e.untag(i, normalTag(ref))
	if len(i.tags) == 0 && len(running) == 0 { // by force, stopped containers keep nothing
		e.deleteImage(i)
	}
	return nil
}

// Archive is an image as docker save writes it.
type Archive struct {
	image image
}

// ID of the image in the archive.
func (a Archive) ID() string { return a.image.id }

func (i *image) archive() Archive {
	a := Archive{image: *i}
	a.image.tags, a.image.labels = slices.Clone(i.tags), maps.Clone(i.labels)
	a.image.users, a.image.digests, a.image.lastTag = nil, nil, time.Time{}
	return a
}

// Save is docker save.
func (e *Engine) Save(ref string) (a Archive, err error) {
	err = e.change(func() error {
		i, byID, err := e.findImage("save", ref)
		if err != nil {
			return err
		}
		a = i.archive()
		if byID {
			a.image.tags = nil
		} else {
			a.image.tags = []string{normalTag(ref)}
		}
		e.emitImage("save", i.id, i.id, i.labels)
		return nil
	})
	return a, err
}

// Load is docker load: the image has the id it had, and takes its tags. The only event is load.
func (e *Engine) Load(a Archive) (id string, err error) {
	err = e.change(func() error {
		i := e.place(a)
		e.emitImage("load", i.id, i.id, i.labels)
		id = i.id
		return nil
	})
	return id, err
}

func (e *Engine) place(a Archive) *image {
	i := e.images.get(a.image.id)
	if i == nil {
		copied := a.image
		copied.tags = nil
		i = &copied
		e.images.put(i.id, i)
		for c := range e.containers.all() {
			if c.image.id == i.id { // it was removed by force under them
				c.image = i
				i.use(c)
			}
		}
	}
	for _, tag := range a.image.tags {
		e.setTag(i, tag)
	}
	return i
}

// Publish puts an image into the registry Pull pulls from; the engine does not have it yet.
func (e *Engine) Publish(options ImageOptions) (id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	tag := normalTag(options.Tag)
	i := &image{
		id: "sha256:" + e.newID("image"), architecture: "amd64", size: 1_000_000, created: e.now(),
		marker: options.Marker, labels: maps.Clone(options.Labels), tags: []string{tag},
	}
	if options.Architecture != "" {
		i.architecture = options.Architecture
	}
	if options.Size > 0 {
		i.size = options.Size
	}
	a := i.archive()
	a.image.digests = []string{repository(tag) + "@sha256:" + e.newID("digest")}
	e.catalogue[tag] = a
	return i.id
}

// Pull is docker pull from what was published. The only event is pull; its id is the reference.
func (e *Engine) Pull(ref string) (id string, err error) {
	err = e.change(func() error {
		tag := normalTag(ref)
		a, ok := e.catalogue[tag]
		if !ok {
			return notFound("pull", messages.KindImage, tag)
		}
		i := e.place(a)
		for _, digest := range a.image.digests {
			if !slices.Contains(i.digests, digest) {
				i.digests = append(slices.Clone(i.digests), digest)
				slices.Sort(i.digests)
			}
		}
		e.emitImage("pull", tag, repository(tag), i.labels)
		id = i.id
		return nil
	})
	return id, err
}

// ImagePrune is docker image prune: dangling images without a container go; with all, tagged ones too.
func (e *Engine) ImagePrune(all bool) (removed []string) {
	_ = e.change(func() error {
		var list []*image
		for i := range e.images.all() {
			if len(i.users) == 0 && (all || len(i.tags) == 0) {
				list = append(list, i)
			}
		}
		for _, i := range list {
			for _, tag := range slices.Clone(i.tags) {
				e.untag(i, tag)
			}
			e.deleteImage(i)
			removed = append(removed, i.id)
		}
		e.emitPrune(dockerio.TypeImage)
		return nil
	})
	return removed
}

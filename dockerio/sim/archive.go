package sim

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rdd-desktop/rdd/messages"
)

// Archive is an image as docker save writes it.
type Archive struct {
	image image
}

// ID of the image in the archive.
func (a Archive) ID() string { return a.image.id }

// Tags it brings.
func (a Archive) Tags() []string { return slices.Clone(a.image.tags) }

// Options it could have been made with.
func (a Archive) Options() ImageOptions {
	i := a.image
	return ImageOptions{ID: i.id, Marker: i.marker, Labels: maps.Clone(i.labels), Architecture: i.architecture, Size: i.size, Config: i.config}
}

// MakeArchive is an archive that somebody else wrote.
func MakeArchive(id string, tags []string, o ImageOptions) Archive {
	a := Archive{image: image{id: id, tags: slices.Clone(tags), labels: o.Labels, architecture: o.Architecture, marker: o.Marker, size: o.Size, config: o.Config}}
	slices.Sort(a.image.tags)
	return a
}

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
		id: cmp.Or(options.ID, "sha256:"+e.newID("image")), architecture: "amd64", size: 1_000_000, created: e.now(),
		marker: options.Marker, labels: maps.Clone(options.Labels), tags: []string{tag}, config: options.Config,
	}
	if options.Architecture != "" {
		i.architecture = options.Architecture
	}
	if options.Size > 0 {
		i.size = options.Size
	}
	a := i.archive()
	a.image.digests = []string{repository(tag) + "@" + i.digest("manifest")}
	e.catalogue[tag] = a
	return i.id
}

// registers tells whether something was published at a registry of that name.
func (e *Engine) registers(host string) bool {
	for tag := range e.catalogue {
		if strings.HasPrefix(tag, host+"/") {
			return true
		}
	}
	return false
}

// Pull is docker pull from what was published. The only event is pull; its id is the reference.
func (e *Engine) Pull(ref string) (id string, err error) {
	err = e.change(func() error {
		tag := normalTag(ref)
		a, ok := e.catalogue[tag]
		host, _, hosted := strings.Cut(tag, "/")
		switch {
		case ok:
		case hosted && strings.ContainsAny(host, ".:") && e.registers(host):
			return refuse(messages.CodeNotFound, "pull", messages.KindImage, tag, "manifest unknown")
		case hosted && strings.ContainsAny(host, ".:"):
			return refuse(messages.CodeUnavailable, "pull", messages.KindImage, tag,
				"Get \"http://%s/v2/\": dial tcp %s: connect: connection refused", host, host)
		default:
			return refuse(messages.CodeNotFound, "pull", messages.KindImage, tag,
				"pull access denied for %s, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
				repository(tag))
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

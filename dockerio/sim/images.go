package sim

import (
	"crypto/sha256"
	"encoding/hex"
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
	config       ImageConfig
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

// Familiar is a reference as people write it: with a tag, and without the name of Docker's own registry.
func Familiar(ref string) string { return normalTag(ref) }

// normalTag adds the default tag, and drops what stands for Docker's own registry.
func normalTag(ref string) string {
	if rest, ok := strings.CutPrefix(ref, "docker.io/"); ok {
		ref = strings.TrimPrefix(rest, "library/")
	}
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

// Removed is what became of an image: one of its references went, or it was deleted.
type Removed struct{ Untagged, Deleted string }

func (e *Engine) untag(i *image, tag string) Removed {
	delete(e.tags, tag)
	i.tags = slices.DeleteFunc(i.tags, func(t string) bool { return t == tag })
	e.emitImage("untag", i.id, i.id, i.labels)
	return Removed{Untagged: tag}
}

// digest is that of something that belongs to the image: "manifest" and "blob" in a registry, "layer" here.
func (i *image) digest(what string) string {
	sum := sha256.Sum256([]byte(what + " of " + i.id))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (e *Engine) deleteImage(i *image) []Removed {
	for _, tag := range i.tags {
		delete(e.tags, tag)
	}
	e.images.remove(i.id)
	e.emitImage("delete", i.id, i.id, i.labels)
	if len(i.users) > 0 {
		return []Removed{{Deleted: i.id}} // its layer goes with its containers
	}
	return []Removed{{Deleted: i.id}, {Deleted: i.digest("layer")}}
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
	return nil, false, noSuchImage(verb, ref)
}

func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdef") == ""
}

// ImageOptions of an image to import.
type ImageOptions struct {
	// ID; empty = one is made.
	ID string
	// Tag, e.g. "busybox:latest"; empty = a dangling image.
	Tag string
	// Marker is the image's content. Each import makes a new id all the same, as a real import does.
	Marker       string
	Labels       map[string]string
	Architecture string // default "amd64"
	Size         int64  // default 1 MB
	Config       ImageConfig
}

// ImageConfig is what containers of an image begin with.
type ImageConfig struct {
	Cmd          []string            `json:",omitempty"`
	Entrypoint   []string            `json:",omitempty"`
	Env          []string            `json:",omitempty"`
	WorkingDir   string              `json:",omitempty"`
	User         string              `json:",omitempty"`
	StopSignal   string              `json:",omitempty"`
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Volumes      map[string]struct{} `json:",omitempty"`
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
	i.marker, i.labels, i.config = options.Marker, maps.Clone(options.Labels), options.Config
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
	_, err := e.RemoveImage(ref, force)
	return err
}

// RemoveImage is Rmi, and tells what went.
func (e *Engine) RemoveImage(ref string, force bool) (removed []Removed, err error) {
	err = e.change(func() error {
		removed, err = e.removeImage(ref, force)
		return err
	})
	return removed, err
}

func (e *Engine) removeImage(ref string, force bool) (removed []Removed, err error) {
	i, byID, err := e.findImage("remove", ref)
	if err != nil {
		return nil, err
	}
	busy := func(format string, args ...any) ([]Removed, error) {
		return nil, refuse(messages.CodeInUse, "remove", messages.KindImage, ref, "conflict: unable to "+format, args...)
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
			return busy("delete %s (cannot be forced) - image is being used by running container %s", shortID(i.id), shortID(anyOf(running).id))
		case !force && len(i.users) > 0:
			return busy("delete %s (must be forced) - image is being used by stopped container %s", shortID(i.id), shortID(anyOf(i.users).id))
		case !force && len(i.tags) > 1:
			return nil, refuse(messages.CodeConflict, "remove", messages.KindImage, ref,
				"conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", shortID(i.id))
		}
		return e.discard(i), nil
	}
	if !force && len(i.tags) == 1 && len(i.users) > 0 {
		return busy("remove repository reference %q (must force) - container %s is using its referenced image %s",
			ref, shortID(anyOf(i.users).id), shortID(i.id))
	}
	removed = append(removed, e.untag(i, normalTag(ref)))
	removed = append(removed, i.dropDigests(repository(normalTag(ref)))...)
	if len(i.tags) == 0 && len(running) == 0 { // by force, stopped containers keep nothing
		removed = append(removed, e.deleteImage(i)...)
	}
	return removed, nil
}

// dropDigests takes away the digests of a repository in which the image has no tag left. No event.
func (i *image) dropDigests(name string) (removed []Removed) {
	if slices.ContainsFunc(i.tags, func(tag string) bool { return repository(tag) == name }) {
		return nil
	}
	kept := []string{}
	for _, d := range i.digests {
		if strings.HasPrefix(d, name+"@") {
			removed = append(removed, Removed{Untagged: d})
		} else {
			kept = append(kept, d)
		}
	}
	i.digests = kept
	return removed
}

// discard takes an image's tags away and deletes it.
func (e *Engine) discard(i *image) (removed []Removed) {
	for _, tag := range slices.Clone(i.tags) {
		removed = append(removed, e.untag(i, tag))
	}
	for _, digest := range i.digests {
		removed = append(removed, Removed{Untagged: digest})
	}
	return append(removed, e.deleteImage(i)...)
}

// shortID is an id as people see it.
func shortID(id string) string { return strings.TrimPrefix(id, "sha256:")[:12] }

// Pick chooses objects by labels and time of creation; a nil one chooses all.
type Pick func(labels map[string]string, created dockerio.Time) bool

func (p Pick) takes(labels map[string]string, created time.Time) bool {
	return p == nil || p(labels, dockerio.EngineTime(created))
}

// ImagePrune is docker image prune: dangling images without a container go; with all, tagged ones too.
func (e *Engine) ImagePrune(all bool, pick Pick) (removed []Removed, reclaimed int64) {
	_ = e.change(func() error {
		var list []*image
		for i := range e.images.all() {
			if len(i.users) == 0 && (all || len(i.tags) == 0) && pick.takes(i.labels, i.created) {
				list = append(list, i)
			}
		}
		for _, i := range list {
			removed = append(removed, e.discard(i)...)
			reclaimed += i.size
		}
		e.emitPrune(dockerio.TypeImage)
		return nil
	})
	return removed, reclaimed
}

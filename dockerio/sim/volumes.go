package sim

import (
	"maps"
	"strings"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

type volume struct {
	name      string
	labels    map[string]string
	options   map[string]string
	created   time.Time
	anonymous bool
	users     map[*container]struct{}
}

func (v *volume) use(c *container) {
	if v.users == nil {
		v.users = map[*container]struct{}{}
	}
	v.users[c] = struct{}{}
}

func (v *volume) path() string { return "/var/lib/docker/volumes/" + v.name + "/_data" }

func (v *volume) inspect() dockerio.Volume {
	return dockerio.Volume{
		Name: v.name, Driver: "local", Mountpoint: v.path(), Scope: "local",
		Labels: filledMap(v.labels), Options: filledMap(v.options),
		Created: dockerio.UnixTime(v.created.Unix()),
	}
}

// VolumeOptions of a volume to create.
type VolumeOptions struct {
	// Name; empty = an anonymous one.
	Name    string
	Labels  map[string]string
	Options map[string]string
}

// VolumeCreate is docker volume create. A volume of that name is left as it is, without an event.
func (e *Engine) VolumeCreate(options VolumeOptions) (name string, err error) {
	err = e.change(func() error {
		name = e.ensureVolume(options).name
		return nil
	})
	return name, err
}

func (e *Engine) ensureVolume(options VolumeOptions) *volume {
	anonymous := options.Name == ""
	if anonymous {
		options.Name = e.newID("volume")
	}
	if v := e.volumes.get(options.Name); v != nil {
		return v
	}
	v := &volume{
		name: options.Name, labels: maps.Clone(options.Labels), options: maps.Clone(options.Options),
		created: e.now(), anonymous: anonymous,
	}
	e.volumes.put(v.name, v)
	e.emitVolume(v, "create", nil)
	return v
}

// Anonymous tells whether a volume was made without a name.
func (e *Engine) Anonymous(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := e.volumes.get(name)
	return v != nil && v.anonymous
}

// VolumeRm is docker volume rm.
func (e *Engine) VolumeRm(name string) error {
	return e.change(func() error { return e.removeVolume(name) })
}

func (e *Engine) removeVolume(name string) error {
	if name == "" {
		return messages.NewError(messages.CodeInvalid, "remove", messages.KindVolume, "", "no name")
	}
	v := e.volumes.get(name)
	if v == nil {
		return noSuchVolume("remove", name)
	}
	if len(v.users) > 0 {
		return refuse(messages.CodeInUse, "remove", messages.KindVolume, name, "remove %s: volume is in use - [%s]", name, strings.Join(idsOf(v.users), ", "))
	}
	e.volumes.remove(name)
	e.emitVolume(v, "destroy", nil)
	return nil
}

// VolumePrune is docker volume prune: every volume without a container goes. One prune event, no destroy.
func (e *Engine) VolumePrune(pick Pick) (removed []string) {
	_ = e.change(func() error {
		for v := range e.volumes.all() {
			if len(v.users) == 0 && pick.takes(v.labels, v.created) {
				removed = append(removed, v.name)
			}
		}
		for _, name := range removed {
			e.volumes.remove(name)
		}
		e.emitPrune(dockerio.TypeVolume)
		return nil
	})
	return removed
}

// VolumeTouch moves a volume's creation time to now, as a change of its directory does. There is no event.
func (e *Engine) VolumeTouch(name string) error {
	return e.change(func() error {
		v := e.volumes.get(name)
		if v == nil {
			return noSuchVolume("touch", name)
		}
		v.created = e.now()
		return nil
	})
}

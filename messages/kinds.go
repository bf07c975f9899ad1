package messages

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Kind is one row of the table of kinds: everything the rest of the house needs to know of a kind by data. A new kind is a
// new row.
type Kind struct {
	// Name as in TypeMeta, e.g. "Container".
	Name string
	// Plural is what people type and lists are named by, e.g. "containers".
	Plural string
	// Aliases are the other spellings the command line takes, all lower case.
	Aliases []string
	// APIVersion as in TypeMeta.
	APIVersion string
	// Mirrored says that an engine object stands behind each resource.
	Mirrored bool
	// New makes an empty resource with its TypeMeta.
	New func() Object
	// Columns of a table, in order.
	Columns []Column
	// HumanNames are the names a person may use besides metadata.name, e.g. "web" or "busybox:latest".
	HumanNames func(Object) []string
	// IDs are engine ids of which a unique prefix is accepted as a name.
	IDs func(Object) []string
	// Uses are the resources a resource of this kind keeps from being removed. Nil = none.
	Uses func(Object) []Use
}

// Use names a resource that is used, by one of its human names or ids.
type Use struct{ Kind, Name string }

// UsedBy reports whether user keeps o from being removed.
func (k Kind) UsedBy(o, user Object) bool {
	by, ok := KindByName(user.GetObjectKind().GroupVersionKind().Kind)
	if !ok || by.Uses == nil {
		return false
	}
	names := append(k.HumanNames(o), k.IDs(o)...)
	return slices.ContainsFunc(by.Uses(user), func(u Use) bool { return u.Kind == k.Name && slices.Contains(names, u.Name) })
}

// Column of a table of resources.
type Column struct {
	Name string
	// Wide columns show only with -o wide.
	Wide bool
	// Value of the cell; now and skew let it show an age on the engine's clock.
	Value func(o Object, now time.Time) string
	// Note explains the cell below the table; nil, or an empty note = nothing to explain.
	Note func(o Object) string
}

// Kinds is the table, in the order lists show it.
func Kinds() []Kind { return kinds }

// KindByName finds a kind by its name, plural or alias, whatever the case.
func KindByName(name string) (Kind, bool) {
	n := strings.ToLower(name)
	for _, k := range kinds {
		if n == strings.ToLower(k.Name) || n == k.Plural {
			return k, true
		}
		for _, a := range k.Aliases {
			if n == a {
				return k, true
			}
		}
	}
	return Kind{}, false
}

// Kind names.
const (
	KindApp                = "App"
	KindContainer          = "Container"
	KindImage              = "Image"
	KindVolume             = "Volume"
	KindContainerNamespace = "ContainerNamespace"
)

// NameOf names a resource as a person would type it: kind/name, with the first of its human names.
func NameOf(o Object) string {
	k, ok := KindByName(o.GetObjectKind().GroupVersionKind().Kind)
	if !ok {
		return o.GetName()
	}
	name := o.GetName()
	if names := k.HumanNames(o); len(names) > 0 {
		name = names[0]
	}
	return strings.ToLower(k.Name) + "/" + name
}

func noNames(Object) []string { return nil }

func typeMeta(kind, apiVersion string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: apiVersion}
}

var kinds = []Kind{appKind, containerKind, imageKind, volumeKind, containerNamespaceKind}

// ImageName is the metadata.name of the resource for a tag of an image; tag is empty for a dangling image.
func ImageName(id, tag string) string {
	s := id
	if tag != "" {
		s += "\x00" + tag
	}
	return "img-" + hexSum(s)
}

// VolumeName is the metadata.name of the resource for a Docker volume.
func VolumeName(name string) string { return "vol-" + hexSum(name) }

func hexSum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

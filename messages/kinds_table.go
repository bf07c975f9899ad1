package messages

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

var appKind = Kind{
	Name: KindApp, Plural: "apps", Aliases: []string{"app"}, APIVersion: AppAPIVersion,
	New: func() Object { return &App{TypeMeta: typeMeta(KindApp, AppAPIVersion)} },
	Columns: []Column{
		column("NAME", func(a *App) string { return a.Name }),
		column("RUNNING", func(a *App) string { return fmt.Sprint(a.Spec.Running) }),
		column("ENGINE", func(a *App) string { return a.Spec.ContainerEngine.Name }),
		column("DRIVER", func(a *App) string { return dash(a.Status.Driver) }),
		column("SETTLED", func(a *App) string { return conditionCell(a, ConditionSettled) }),
		ageColumn,
		wide("ENDPOINT", func(a *App) string { return dash(a.Status.Endpoint) }),
	},
	HumanNames: noNames, IDs: noNames,
}

var containerKind = Kind{
	Name: KindContainer, Plural: "containers", Aliases: []string{"co"}, APIVersion: ContainerAPIVersion, Mirrored: true,
	New: func() Object { return &Container{TypeMeta: typeMeta(KindContainer, ContainerAPIVersion)} },
	Columns: []Column{
		column("NAME", func(c *Container) string { return dash(c.Status.Name) }),
		column("ID", func(c *Container) string { return short(c.Name) }),
		column("IMAGE", func(c *Container) string { return dash(shortImage(c.Status.ImageName)) }),
		column("STATE", func(c *Container) string { return stateCell(c, c.Status.Status) }),
		column("HEALTH", func(c *Container) string { return dash(c.Status.Health) }),
		{Name: "INTENT", Value: func(o Object, _ time.Time) string { return intentCell(o.(*Container)) }, Note: driftNote},
		column("SYNCED", func(c *Container) string { return conditionCell(c, ConditionSynced) }),
		ageColumn,
		wide("PORTS", func(c *Container) string { return dash(portsCell(c.Status.Ports)) }),
		wide("PID", func(c *Container) string { return fmt.Sprint(c.Status.Pid) }),
		wide("POLICY", func(c *Container) string { return dash(c.Spec.Policy) }),
		wide("LAST ACTION", func(c *Container) string { return lastActionCell(c.Status.LastAction) }),
	},
	HumanNames: func(o Object) []string { return nonEmpty(o.(*Container).Status.Name) },
	IDs:        func(o Object) []string { return []string{o.GetName()} },
	Uses: func(o Object) []Use {
		s := o.(*Container).Status
		out := []Use{{KindImage, s.Image}}
		for _, m := range s.Mounts {
			if m.Type == "volume" {
				out = append(out, Use{KindVolume, m.Name})
			}
		}
		return out
	},
}

var imageKind = Kind{
	Name: KindImage, Plural: "images", Aliases: []string{"img"}, APIVersion: ContainerAPIVersion, Mirrored: true,
	New: func() Object { return &Image{TypeMeta: typeMeta(KindImage, ContainerAPIVersion)} },
	Columns: []Column{
		column("TAG", func(i *Image) string { return orElse(i.Status.RepoTag, "<none>") }),
		column("ID", func(i *Image) string { return short(strings.TrimPrefix(orElse(i.Status.ID, i.Name), "sha256:")) }),
		column("SIZE", func(i *Image) string { return byteSize(i.Status.Size) }),
		column("STATE", func(i *Image) string { return stateCell(i, "") }),
		column("SYNCED", func(i *Image) string { return conditionCell(i, ConditionSynced) }),
		ageColumn,
		wide("PLATFORM", func(i *Image) string { return strings.Trim(i.Status.OS+"/"+i.Status.Architecture, "/") }),
		wide("NAME", func(i *Image) string { return i.Name }),
	},
	HumanNames: func(o Object) []string {
		i := o.(*Image)
		names := nonEmpty(i.Status.RepoTag)
		if t, ok := strings.CutSuffix(i.Status.RepoTag, ":latest"); ok {
			names = append(names, t)
		}
		return names
	},
	IDs: func(o Object) []string {
		id := o.(*Image).Status.ID
		return nonEmpty(o.GetName(), id, strings.TrimPrefix(id, "sha256:"))
	},
}

var volumeKind = Kind{
	Name: KindVolume, Plural: "volumes", Aliases: []string{"vol"}, APIVersion: ContainerAPIVersion, Mirrored: true,
	New: func() Object { return &Volume{TypeMeta: typeMeta(KindVolume, ContainerAPIVersion)} },
	Columns: []Column{
		column("NAME", func(v *Volume) string { return orElse(v.Status.Name, v.Name) }),
		column("DRIVER", func(v *Volume) string { return dash(v.Status.Driver) }),
		column("STATE", func(v *Volume) string { return stateCell(v, "") }),
		column("SYNCED", func(v *Volume) string { return conditionCell(v, ConditionSynced) }),
		ageColumn,
		wide("MOUNTPOINT", func(v *Volume) string { return dash(v.Status.Mountpoint) }),
	},
	HumanNames: func(o Object) []string { return nonEmpty(o.(*Volume).Status.Name) },
	IDs:        func(o Object) []string { return []string{o.GetName()} },
}

var containerNamespaceKind = Kind{
	Name: KindContainerNamespace, Plural: "containernamespaces", Aliases: []string{"ns"}, APIVersion: ContainerAPIVersion,
	New: func() Object {
		return &ContainerNamespace{TypeMeta: typeMeta(KindContainerNamespace, ContainerAPIVersion)}
	},
	Columns: []Column{
		column("NAME", func(n *ContainerNamespace) string { return n.Name }),
		ageColumn,
		wide("UID", func(n *ContainerNamespace) string { return string(n.UID) }),
	},
	HumanNames: noNames, IDs: noNames,
}

func column[T Object](name string, value func(T) string) Column {
	return Column{Name: name, Value: func(o Object, _ time.Time) string { return value(o.(T)) }}
}

func wide[T Object](name string, value func(T) string) Column {
	c := column(name, value)
	c.Wide = true
	return c
}

// ageColumn is the age of the engine object where the engine tells it, else of the resource. now is on the engine's clock.
var ageColumn = Column{Name: "AGE", Value: func(o Object, now time.Time) string {
	created := o.GetCreationTimestamp().Time
	if t := engineCreated(o); t != nil {
		created = t.Time
	}
	if created.IsZero() {
		return "-"
	}
	return duration.HumanDuration(now.Sub(created))
}}

func engineCreated(o Object) *metav1.MicroTime {
	switch r := o.(type) {
	case *Container:
		return r.Status.CreatedAt
	case *Image:
		return r.Status.CreatedAt
	case *Volume:
		return r.Status.CreatedAt
	}
	return nil
}

// stateCell shows that a resource is terminating before anything else.
func stateCell(o Object, state string) string {
	if o.GetDeletionTimestamp() != nil {
		if c := Condition(o, ConditionDeletionBlocked); c != nil && c.Status == metav1.ConditionTrue {
			return "Terminating(" + c.Reason + ")"
		}
		return "Terminating"
	}
	return dash(state)
}

func conditionCell(o Object, conditionType string) string {
	c := Condition(o, conditionType)
	switch {
	case c == nil:
		return "-"
	case c.Status == metav1.ConditionTrue:
		return "True"
	}
	return c.Reason
}

// intentCell is what spec.state wants: "-" for nothing, with the reason while that is not brought about, with a star when it was and
// somebody else changed it since.
func intentCell(c *Container) string {
	if c.Spec.State == "" || c.Spec.State == StateUnknown {
		return "-"
	}
	if driftNote(c) != "" {
		return c.Spec.State + "*"
	}
	if applied := Condition(c, ConditionIntentApplied); applied != nil && applied.Status == metav1.ConditionFalse {
		return c.Spec.State + "(" + applied.Reason + ")"
	}
	return c.Spec.State
}

// driftNote explains the star of intentCell.
func driftNote(o Object) string {
	drifted := Condition(o, ConditionDrifted)
	if drifted == nil || drifted.Status != metav1.ConditionTrue {
		return ""
	}
	return "* " + dash(o.(*Container).Status.Name) + ": " + orElse(drifted.Message, "changed outside rdd") + " (drift)"
}

func lastActionCell(r *ActionReceipt) string {
	if r == nil {
		return "-"
	}
	return r.Action + "(" + r.State + ")"
}

func portsCell(ports []ContainerPort) string {
	var out []string
	for _, p := range ports {
		if len(p.Bindings) == 0 {
			out = append(out, p.Name)
		}
		for _, b := range p.Bindings {
			host := b.HostIP
			if strings.Contains(host, ":") {
				host = "[" + host + "]"
			}
			out = append(out, fmt.Sprintf("%s:%s->%s", host, b.HostPort, p.Name))
		}
	}
	return strings.Join(out, ",")
}

func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return dash(id)
}

func shortImage(ref string) string {
	if id, ok := strings.CutPrefix(ref, "sha256:"); ok {
		return short(id)
	}
	return ref
}

func dash(s string) string { return orElse(s, "-") }

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func nonEmpty(list ...string) []string {
	var out []string
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// byteSize as docker prints sizes: decimal units, three digits.
func byteSize(n int64) string {
	f, units := float64(n), []string{"B", "kB", "MB", "GB", "TB"}
	i := 0
	for f >= 1000 && i < len(units)-1 {
		f /= 1000
		i++
	}
	return fmt.Sprintf("%.3g%s", f, units[i])
}

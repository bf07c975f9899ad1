package mirror

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/messages"
)

func containerOps() *kindOps {
	kind, _ := messages.KindByName(messages.KindContainer)
	return &kindOps{
		kind: kind, path: control.Containers, reprobe: true,
		valid: isContainerID,
		name:  func(id string) string { return id },
		list:  listContainers,
		inspect: func(ctx context.Context, e dockerio.Engine, id string) (any, error) {
			return e.InspectContainer(ctx, id)
		},
		remove: func(ctx context.Context, e dockerio.Engine, id, _, _ string) error {
			return e.RemoveContainer(ctx, id)
		},
		act:   actOnContainer,
		sight: func(seen any) sight { return containerSight(seen.(dockerio.Container)) },
		fill: func(o messages.Object, seen any, now time.Time) {
			fillContainer(o.(*messages.Container), seen, now)
		},
		differs:  containerDiffers,
		identity: func(o messages.Object) string { return o.GetName() },
		settling: func(seen any) bool { return containerSettling(seen.(dockerio.Container)) },
		uses:     func(seen any) *using { return containerUses(seen.(dockerio.Container)) },
		owner:    newObject,
	}
}

func actOnContainer(ctx context.Context, e dockerio.Engine, id, verb string, grace time.Duration) error {
	switch verb {
	case messages.ActionStart:
		return e.StartContainer(ctx, id)
	case messages.ActionStop:
		return e.StopContainer(ctx, id, grace)
	case messages.ActionRestart:
		return e.RestartContainer(ctx, id, grace)
	case messages.ActionKill:
		return e.KillContainer(ctx, id)
	case messages.ActionPause:
		return e.PauseContainer(ctx, id)
	case messages.ActionUnpause:
		return e.UnpauseContainer(ctx, id)
	}
	panic(fmt.Sprintf("act on container %q: no verb %q", id, verb)) // admission lets no other pass
}

func containerSight(e dockerio.Container) sight {
	s := sight{Status: e.Status, StartedAt: e.StartedAt, Policy: e.RestartPolicy, Restarts: e.RestartCount, ExitCode: e.ExitCode, Grace: e.StopTimeout}
	if s.Grace < 0 {
		s.Grace = longestGrace
	}
	return s
}

// isContainerID keeps names away from calls that take ids: the engine would resolve them too.
func isContainerID(id string) bool {
	_, err := hex.DecodeString(id)
	return err == nil && len(id) == 64
}

func listContainers(ctx context.Context, e dockerio.Engine) ([]row, error) {
	list, err := e.ListContainers(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]row, 0, len(list))
	for _, r := range list {
		if !isContainerID(r.ID) { // it could never be asked for, and so never go
			return nil, messages.NewError(messages.CodeUnavailable, "list", messages.KindContainer, fmt.Sprintf("%.100s", r.ID), "this is no id of a container")
		}
		out = append(out, row{ID: r.ID, Data: r})
	}
	return out, nil
}

// fillContainer writes what a list's row or an inspect tells into the resource; spec is never touched once it is there.
func fillContainer(c *messages.Container, seen any, now time.Time) {
	if c.Spec.State == "" {
		c.Spec = messages.ContainerSpec{State: messages.StateUnknown, Policy: messages.PolicyOnce}
		c.Generation, c.Status.ObservedGeneration = 1, 1
	}
	s := &c.Status
	s.Namespace = messages.NamespaceMoby
	switch e := seen.(type) {
	case dockerio.ContainerRow:
		keep(&s.Name, e.Name)
		keep(&s.Image, e.ImageID)
		keep(&s.ImageName, e.ImageName)
		s.Status, s.Health, s.ExitCode, s.CreatedAt = e.State, e.Health, e.ExitCode, e.Created.Status()
		s.Labels, s.Mounts = e.Labels, e.Mounts
	case dockerio.Container:
		keep(&s.Name, e.Name)
		keep(&s.Path, e.Path)
		keep(&s.Image, e.ImageID)
		keep(&s.ImageName, e.ImageName)
		keep(&s.Error, e.Error)
		s.Status, s.Health, s.Pid, s.RestartCount = e.Status, e.Health, e.Pid, e.RestartCount
		keepAs(&s.CreatedAt, e.Created.Status(), (*metav1.MicroTime).Equal)
		keepAs(&s.StartedAt, e.StartedAt.Status(), (*metav1.MicroTime).Equal)
		keepAs(&s.FinishedAt, e.FinishedAt.Status(), (*metav1.MicroTime).Equal)
		keepAs(&s.Labels, e.Labels, maps.Equal)
		keepAs(&s.Args, e.Args, slices.Equal)
		keepAs(&s.Mounts, e.Mounts, slices.Equal)
		keepAs(&s.Networks, e.Networks, slices.Equal)
		keepAs(&s.Ports, e.Ports, messages.SamePorts)
		s.ExitCode = exitCode(e)
		s.ConditionList = messages.SetConditions(s.ConditionList, now, stateConditions(e)...)
	}
}

// keep leaves what is there where the news is the same: versions of a resource share what has not changed, in history too.
func keep(field *string, news string) {
	if *field != news {
		*field = news
	}
}

// keepAs is keep for what == does not compare.
func keepAs[T any](field *T, news T, same func(a, b T) bool) {
	if !same(*field, news) {
		*field = news
	}
}

func stateConditions(e dockerio.Container) []metav1.Condition {
	message := unique.Make("the engine's status is " + e.Status).Value() // one for all that are so
	state := func(kind string, is bool) metav1.Condition {
		c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: messages.ReasonEngineState, Message: message}
		if is {
			c.Status = metav1.ConditionTrue
		}
		return c
	}
	return []metav1.Condition{
		state(messages.ConditionRunning, e.Running), state(messages.ConditionPaused, e.Paused),
		state(messages.ConditionRestarting, e.Restarting), state(messages.ConditionOOMKilled, e.OOMKilled),
		state(messages.ConditionDead, e.Dead),
	}
}

// exitCode is absent until the container has ended once.
func exitCode(e dockerio.Container) *int {
	if e.Running || e.Status == messages.ContainerCreated && e.ExitCode == 0 {
		return nil
	}
	code := e.ExitCode
	return &code
}

// containerSettling: it died, and its restart policy may start it again, or wait to, without an event.
func containerSettling(e dockerio.Container) bool {
	return e.Restarting || !e.Running && e.RestartPolicy != "" && e.RestartPolicy != "no"
}

func containerUses(e dockerio.Container) *using {
	u := &using{ID: e.ID, Name: e.Name, Image: e.ImageID}
	for _, m := range e.Mounts {
		if m.Type == "volume" && m.Name != "" {
			u.Volumes = append(u.Volumes, m.Name)
		}
	}
	slices.Sort(u.Volumes)
	return u
}

func sameUse(a, b *using) bool {
	return a.Name == b.Name && a.Image == b.Image && slices.Equal(a.Volumes, b.Volumes)
}

// containerDiffers compares what a list tells with the mirror.
func containerDiffers(data any, stored []store.Item) string {
	r := data.(dockerio.ContainerRow)
	if len(stored) == 0 {
		return "not mirrored"
	}
	s := stored[0].Object.(*messages.Container).Status
	switch {
	case s.Name != r.Name:
		return fmt.Sprintf("name is %q, mirrored %q", r.Name, s.Name)
	case s.Status != r.State:
		return fmt.Sprintf("state is %s, mirrored %s", r.State, s.Status)
	case s.Image != r.ImageID:
		return "image id differs"
	case r.Health != "" && s.Health != r.Health:
		return fmt.Sprintf("health is %s, mirrored %s", r.Health, s.Health)
	case r.ExitCode != nil && r.State == messages.ContainerExited && (s.ExitCode == nil || *s.ExitCode != *r.ExitCode):
		return fmt.Sprintf("exit code is %d", *r.ExitCode)
	}
	return ""
}

package virtual

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rdd-desktop/rdd/dockerio"
	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// Bounds of what a user keeps, so that a day does not fill the engine.
const (
	manyContainers = 10
	manyImages     = 6
)

// something is one thing a user of docker, or of rdd, does now and then; it gives the words for it. What the engine refuses is
// refused: users err.
type something struct {
	weight int
	do     func(h *house) string
}

var habits = []something{
	{6, runContainer},
	{2, onContainer("start", (*sim.Engine).Start)},
	{2, onContainer("stop", (*sim.Engine).Stop)},
	{2, onContainer("kill", (*sim.Engine).Kill)},
	{2, onContainer("restart", (*sim.Engine).Restart)},
	{2, onContainer("pause", (*sim.Engine).Pause)},
	{2, onContainer("unpause", (*sim.Engine).Unpause)},
	{1, onContainer("oom", (*sim.Engine).OOM)},
	{1, onContainer("noise", (*sim.Engine).Noise)},
	{1, onContainer("healthy", func(e *sim.Engine, ref string) error { return e.SetHealth(ref, "healthy") })},
	{2, onContainer("exit 3", func(e *sim.Engine, ref string) error { return e.Exit(ref, 3) })},
	{1, onContainer("update --restart=always", func(e *sim.Engine, ref string) error { return e.UpdatePolicy(ref, "always") })},
	{1, crashThenKill},
	{4, onContainer("rm -f", func(e *sim.Engine, ref string) error { return e.Rm(ref, true) })},
	{2, rename},
	{3, importImage},
	{3, tag},
	{3, rmi},
	{1, func(h *house) string {
		removed, _ := h.world.ImagePrune(false, nil)
		return fmt.Sprint("image prune ", len(removed))
	}},
	{3, createVolume},
	{3, removeVolume},
	{2, recreateVolume},
	{1, pruneVolumes},
	{1, func(h *house) string { return fmt.Sprint("container prune ", len(h.world.ContainerPrune(nil))) }},
	{4, deleteThroughRdd},
	{1, deleteNamespace},
	{4, wishThroughRdd},
	{3, actThroughRdd},
}

// live does one thing, chosen by the seed.
func (h *house) live() {
	total := 0
	for _, s := range habits {
		total += s.weight
	}
	pick := h.rng.IntN(total)
	for _, s := range habits {
		if pick -= s.weight; pick < 0 {
			h.tell("user: %s", s.do(h))
			break
		}
	}
	h.pass(time.Duration(h.rng.IntN(30)) * time.Millisecond)
}

// crashThenKill ends a container for good that waits for its restart policy, or ends it: no event tells of the first.
func crashThenKill(h *house) string {
	words := onContainer("exit 3", func(e *sim.Engine, ref string) error {
		err := e.Exit(ref, 3)
		if err == nil {
			h.pass(50 * time.Millisecond)
			err = e.Kill(ref)
		}
		return err
	})(h)
	return words + ", and kill 50 ms later"
}

// one of a list; false when it is empty.
func one[T any](h *house, of []T) (T, bool) {
	if len(of) == 0 {
		var none T
		return none, false
	}
	return of[h.rng.IntN(len(of))], true
}

func said(words string, err error) string {
	if err != nil {
		return words + ": " + err.Error()
	}
	return words
}

func onContainer(words string, act func(*sim.Engine, string) error) func(*house) string {
	return func(h *house) string {
		c, ok := one(h, h.world.Snapshot().Containers)
		if !ok {
			return words + " nothing"
		}
		return said(words+" "+c.Name, act(h.world, c.ID))
	}
}

func runContainer(h *house) string {
	s := h.world.Snapshot()
	image, ok := one(h, s.Images)
	if !ok || len(s.Containers) >= manyContainers {
		return "run nothing"
	}
	o := sim.ContainerOptions{Name: fmt.Sprintf("c%d", h.rng.IntN(20)), Image: image.ID, AutoRemove: h.rng.IntN(8) == 0, Health: h.rng.IntN(4) == 0}
	if h.rng.IntN(2) == 0 {
		o.Volumes = []string{volumeName(h) + ":/data"}
	}
	if h.rng.IntN(3) == 0 {
		o.RunFor, o.ExitCode = time.Duration(1+h.rng.IntN(600))*time.Second, h.rng.IntN(2)
	}
	if h.rng.IntN(3) == 0 && !o.AutoRemove {
		o.RestartPolicy = []string{"always", "unless-stopped", "on-failure", "on-failure:3"}[h.rng.IntN(4)]
	}
	if h.rng.IntN(10) == 0 {
		o.Cmd = []string{sim.MissingCommand}
	}
	_, err := h.world.Run(o)
	return said(fmt.Sprintf("run %s --restart=%s for %s", o.Name, o.RestartPolicy, o.RunFor), err)
}

func rename(h *house) string {
	c, ok := one(h, h.world.Snapshot().Containers)
	if !ok {
		return "rename nothing"
	}
	to := fmt.Sprintf("c%d", h.rng.IntN(20))
	return said("rename "+c.Name+" "+to, h.world.Rename(c.ID, to))
}

func tagName(h *house) string { return fmt.Sprintf("t%d:%d", h.rng.IntN(3), h.rng.IntN(2)) }

func volumeName(h *house) string { return fmt.Sprintf("v%d", h.rng.IntN(8)) }

// moved notes that from now on a tag's resource may be another one.
func (h *house) moved(images []dockerio.Image) {
	for _, i := range images {
		for _, tag := range append(tagsOf(i), "") {
			h.uids.again(messages.KindImage + "/" + messages.ImageName(i.ID, tag))
		}
	}
}

func importImage(h *house) string {
	images := h.world.Snapshot().Images
	name := tagName(h)
	if len(images) >= manyImages {
		return "import nothing"
	}
	h.moved(images)
	_, err := h.world.Import(name, "")
	return said("import "+name, err)
}

func tag(h *house) string {
	images := h.world.Snapshot().Images
	i, ok := one(h, images)
	if !ok {
		return "tag nothing"
	}
	h.moved(images)
	name := tagName(h)
	key := messages.KindImage + "/" + messages.ImageName(i.ID, name)
	h.uids.again(key)
	if slices.Contains(tagsOf(i), name) {
		h.uids.unheard(key)
	}
	return said("tag "+i.ID[:15]+" "+name, h.world.Tag(i.ID, name))
}

func rmi(h *house) string {
	images := h.world.Snapshot().Images
	i, ok := one(h, images)
	if !ok {
		return "rmi nothing"
	}
	ref, _ := one(h, tagsOf(i))
	if ref == "" {
		ref = i.ID
	}
	h.moved(images)
	return said("rmi "+ref, h.world.Rmi(ref, false))
}

func createVolume(h *house) string {
	name := volumeName(h)
	_, err := h.world.VolumeCreate(sim.VolumeOptions{Name: name})
	return said("volume create "+name, err)
}

func removeVolume(h *house) string {
	v, ok := one(h, h.world.Snapshot().Volumes)
	if !ok {
		return "volume rm nothing"
	}
	return said("volume rm "+v.Name, h.world.VolumeRm(v.Name))
}

// recreateVolume leaves no time between the end of a volume and the next one of its name.
func recreateVolume(h *house) string {
	v, ok := one(h, h.world.Snapshot().Volumes)
	if !ok {
		return "recreate nothing"
	}
	err := h.world.VolumeRm(v.Name)
	if err == nil {
		_, err = h.world.VolumeCreate(sim.VolumeOptions{Name: v.Name})
	}
	return said("recreate volume "+v.Name, err)
}

// pruneVolumes: no event tells which went.
func pruneVolumes(h *house) string {
	h.uids.blind()
	return fmt.Sprint("volume prune ", len(h.world.VolumePrune(nil)))
}

func deleteThroughRdd(h *house) string {
	kind := []string{messages.KindContainer, messages.KindImage, messages.KindVolume}[h.rng.IntN(3)]
	o, ok := one(h, h.list(kind))
	if !ok {
		return "rdd delete nothing"
	}
	if kind == messages.KindImage {
		h.moved(h.world.Snapshot().Images)
	}
	err := h.delete(kind, o.GetName())
	return said("rdd delete "+messages.NameOf(o), err)
}

func wishThroughRdd(h *house) string {
	o, ok := one(h, h.list(messages.KindContainer))
	if !ok {
		return "rdd patch nothing"
	}
	state, _ := one(h, messages.ContainerStates())
	policy := messages.PolicyOnce
	if h.rng.IntN(4) == 0 {
		policy = messages.PolicyEnforce
	}
	var err error
	h.order.do(func() {
		err = h.write(context.Background(), messages.WriteRequest{Kind: messages.KindContainer, Name: o.GetName(),
			Patch: fmt.Appendf(nil, `{"spec":{"state":%q,"policy":%q}}`, state, policy)})
	})
	return said(fmt.Sprintf("rdd patch %s %s %s", messages.NameOf(o), state, policy), err)
}

func actThroughRdd(h *house) string {
	o, ok := one(h, h.list(messages.KindContainer))
	if !ok {
		return "rdd ctl action nothing"
	}
	verb, _ := one(h, messages.Actions())
	var err error
	h.order.do(func() { err = h.act(context.Background(), messages.ActionRequest{Name: o.GetName(), Action: verb}) })
	return said("rdd ctl action "+messages.NameOf(o)+" "+verb, err)
}

func deleteNamespace(h *house) string {
	h.uids.again(messages.KindContainerNamespace + "/" + messages.NamespaceMoby)
	return said("rdd delete containernamespace/moby", h.delete(messages.KindContainerNamespace, messages.NamespaceMoby))
}

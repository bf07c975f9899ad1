package mirror

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/dockerio/sim"
	"github.com/rdd-desktop/rdd/messages"
)

// What was published is never changed: the versions of a resource share what has not changed, and history and watchers keep them.
func TestPublishedVersionsAreNeverChanged(t *testing.T) {
	inRoom(t, func(r *room) {
		base := r.image("busybox:latest")
		seen := map[messages.Object]string{}
		text := func(o messages.Object) string {
			data, err := json.Marshal(o)
			require.NoError(r, err)
			return string(data)
		}
		after := r.table.Load().Version()
		dirty := map[string]map[string]Mark{messages.KindContainer: {}, messages.KindVolume: {"data": {}, "extra": {}}}
		look := func() {
			for kind, path := range paths {
				r.Tell(path, Dirty{Epoch: r.epoch, Marks: dirty[kind], Relist: true})
			}
			r.pass(time.Second)
			changes, next, err := r.table.Load().Changes("", after, 10_000)
			require.NoError(r, err)
			after = next
			for _, c := range changes {
				if c.New != nil {
					seen[c.New] = text(c.New)
				}
			}
			for o, was := range seen {
				require.Equal(r, was, text(o))
			}
		}
		r.session()
		look()
		id, err := r.world.Run(sim.ContainerOptions{Name: "web", Image: "busybox", Volumes: []string{"data:/data"}, Labels: map[string]string{"a": "b"}})
		require.NoError(r, err)
		dirty[messages.KindContainer][id] = Mark{}
		web, data, extra := thing{messages.KindContainer, id, id}, thing{messages.KindVolume, "data", messages.VolumeName("data")}, r.volume("extra")
		look()
		write := func(x thing, patch string) {
			answer, err := r.Ask(r.Context(), paths[x.kind], Write{Owner: x.owner, Name: x.name,
				Request: messages.WriteRequest{Kind: x.kind, Name: x.name, Patch: json.RawMessage(patch)}})
			require.NoError(r, err)
			require.NoError(r, answer.(Written).Err)
		}
		for _, step := range []func() error{
			func() error { return r.world.Stop("web") }, func() error { return r.world.Start("web") },
			func() error { return r.world.Pause("web") }, func() error { return r.world.Unpause("web") },
			func() error { return r.world.Rename("web", "shop") }, func() error { return r.world.Exit("shop", 3) },
			func() error { return r.world.Tag("busybox:latest", "other:1") }, func() error { return r.world.Rmi("other:1", false) },
			func() error { write(web, `{"spec":{"state":"running"}}`); return nil },
			func() error { r.lost(); return nil },
			func() error { r.session(); return nil },
			func() error { return r.delete(extra.kind, extra.owner, extra.name) },
			func() error { return r.delete(data.kind, data.owner, data.name) },
		} {
			require.NoError(r, step())
			look()
			for i, x := range []thing{web, base, data} {
				write(x, fmt.Sprintf(`{"metadata":{"labels":{"l%d":"%d"},"annotations":{"n":"%d"},"finalizers":[%q,"example.com/f%d"]}}`,
					len(seen), i, len(seen), messages.Finalizer, i))
				look()
			}
		}
		r.sweep()
		look()
		require.Greater(r, len(seen), 60)
	})
}

package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/actors/control"
	"github.com/rdd-desktop/rdd/actors/journal"
	"github.com/rdd-desktop/rdd/actors/kit"
	"github.com/rdd-desktop/rdd/actors/mirror"
	"github.com/rdd-desktop/rdd/actors/store"
	"github.com/rdd-desktop/rdd/messages"
)

// written is a house with one mirrored container, and when back is nil a probe in the place of the journal, which has nothing.
func written(t *testing.T, back journal.Backend) (h *kit.TestHouse, table *store.Table, id string) {
	t.Helper()
	empty := kit.NewProbe()
	empty.Answer = func(c *kit.Context, msg any) {
		if m, ok := msg.(journal.Load); ok {
			c.Reply(journal.Loaded{Token: m.Token, Bucket: m.Bucket})
		}
	}
	_, scheduler, id := engineWith(t)
	table = store.NewTable(1)
	table.Seed()
	cfg := kit.TestConfig{
		Actors: map[string]kit.ChildSpec{
			control.Store:      {New: store.New(table)},
			control.Containers: {New: mirror.Containers(&mirror.Deps{Table: table, Calls: scheduler, Now: time.Now, Instance: "test"})},
		},
		Probes: []string{control.Engine, control.Images, control.Volumes, client},
	}
	if back != nil {
		cfg.Actors[control.Journal] = kit.ChildSpec{New: journal.New(back)}
	} else {
		cfg.Actors[control.Journal] = kit.ChildSpec{New: empty.New}
	}
	h, err := kit.StartTest(cfg)
	require.NoError(t, err)
	h.Probes[client].Answer = func(c *kit.Context, msg any) {
		if m, ok := msg.(mirror.Write); ok {
			c.Tell(control.Containers, m)
		}
	}
	_, err = kit.Await[control.Hello](h.Probes[control.Engine], time.Minute, nil)
	require.NoError(t, err)
	if back == nil {
		h.Probes[control.Journal] = empty
	}
	h.Tell(control.Containers, mirror.Session{Epoch: 1, EngineID: "A"})
	require.Eventually(t, func() bool { return table.Load().Count(messages.KindContainer) == 1 }, time.Minute, time.Millisecond)
	return h, table, id
}

const client = "rdd/client"

func label(id string, n int) mirror.Write {
	return mirror.Write{Owner: id, Name: id, Request: messages.WriteRequest{Kind: "Container", Name: id,
		Patch: json.RawMessage(fmt.Sprintf(`{"metadata":{"labels":{"n":"%d"}}}`, n))}}
}

// As many writes may wait for one resource as the bound says; one more is refused, and can be tried again.
func TestWritesThatWaitAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back, _ := journal.Memory()
		h, table, id := written(t, back)
		defer func() { require.NoError(t, h.Stop(context.Background())) }()
		gate := make(chan struct{})
		back.(*journal.MemoryBackend).OnCommit(func([]journal.Op) error { <-gate; return nil })
		const most = 256
		for n := range 1 + most + 1 {
			h.Tell(client, label(id, n))
		}
		synctest.Wait()
		refused, err := kit.Await[mirror.Written](h.Probes[client], time.Minute, nil)
		require.NoError(t, err)
		require.ErrorIs(t, refused.Err, messages.ErrUnavailable)
		close(gate)
		for n := range 1 + most {
			done, err := kit.Await[mirror.Written](h.Probes[client], time.Minute, nil)
			require.NoError(t, err)
			require.NoError(t, done.Err)
			require.Equal(t, fmt.Sprint(n), done.Reply.Object.GetLabels()["n"], "in their order")
		}
		it, _ := table.Load().Get(store.Key{Kind: messages.KindContainer, Name: id})
		require.Equal(t, fmt.Sprint(most), it.Object.GetLabels()["n"])
	})
}

// The journal was asked, was restarted before it answered, and refuses when it is asked again: the first question may have got
// through, so that what was before is committed again before anybody is told that nothing has changed.
func TestAWriteThatIsRefusedAfterAnUnansweredQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, table, id := written(t, nil)
		defer func() { require.NoError(t, h.Stop(context.Background())) }()
		j, owner := h.Probes[control.Journal], control.Containers+"/"+id
		commit := func() journal.Commit {
			m, err := kit.Await[journal.Commit](j, time.Minute, nil)
			require.NoError(t, err)
			require.Len(t, m.Ops, 1)
			require.Equal(t, journal.BucketObjects, m.Ops[0].Bucket)
			return m
		}
		h.Tell(client, label(id, 1))
		first := commit()
		second := commit() // two seconds later
		require.Equal(t, first, second)
		h.Tell(owner, journal.Committed{Token: second.Token, Err: errors.New("no")})
		undo := commit()
		require.Nil(t, undo.Ops[0].Value, "nothing was written before")
		h.Tell(owner, journal.Committed{Token: undo.Token, Err: errors.New("no")})
		again := commit()
		require.Equal(t, undo, again, "until it is through, nobody is told anything")
		for _, m := range h.Probes[client].Drain() {
			_, told := m.(mirror.Written)
			require.False(t, told)
		}
		h.Tell(owner, journal.Committed{Token: again.Token})
		done, err := kit.Await[mirror.Written](h.Probes[client], time.Minute, nil)
		require.NoError(t, err)
		require.ErrorContains(t, done.Err, "nothing has changed")
		it, _ := table.Load().Get(store.Key{Kind: messages.KindContainer, Name: id})
		require.Empty(t, it.Object.GetLabels())

		h.Tell(client, label(id, 2))
		h.Tell(owner, journal.Committed{Token: commit().Token})
		done, err = kit.Await[mirror.Written](h.Probes[client], time.Minute, nil)
		require.NoError(t, err)
		require.NoError(t, done.Err)
	})
}

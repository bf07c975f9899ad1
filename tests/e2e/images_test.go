package e2e

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdd-desktop/rdd/messages"
	"github.com/rdd-desktop/rdd/supervisor"
)

func (h *house) images() (tags []string, dangling int) {
	for _, o := range h.list("image") {
		if tag := o.(*messages.Image).Status.RepoTag; tag != "" {
			tags = append(tags, tag)
		} else {
			dangling++
		}
	}
	return tags, dangling
}

func TestOneMirrorPerTag(t *testing.T) { onEach(t, oneMirrorPerTag) }

func oneMirrorPerTag(t *testing.T, e place) {
	id := e.ImportImage(t, "a:1", "a")
	e.Docker(t, "tag", "a:1", "a:2")
	h := e.start(t, supervisor.Intervals{}).settled()
	h.equal("two tags, two mirrors")

	_, err := h.client.Delete(t.Context(), messages.DeleteRequest{Kind: "image", Name: "a:1"})
	require.NoError(t, err)
	h.within(patience, "one mirror goes", func() bool { return h.get("image", "a:1") == nil })
	h.equal("one tag removed through rdd")

	e.ImportImage(t, "a:2", "b")
	h.equal("the tag moved")
	tags, dangling := h.images()
	require.Equal(t, []string{"a:2"}, tags)
	require.Equal(t, 1, dangling)

	e.Docker(t, "tag", id, "back:1")
	h.equal("the dangling one is tagged")
	_, dangling = h.images()
	require.Zero(t, dangling, "its mirror is replaced")

	file := filepath.Join(t.TempDir(), "image.tar")
	e.Docker(t, "save", "-o", file, "back:1")
	e.Docker(t, "rmi", "back:1")
	h.equal("rmi")
	e.Docker(t, "load", "-i", file)
	h.equal("load")

	e.Docker(t, "rmi", "back:1")
	e.ImportImage(t, "gone:1", "c")
	e.ImportImage(t, "gone:1", "d")
	h.equal("another dangling one")
	for _, o := range h.list("image") {
		if i := o.(*messages.Image); i.Status.RepoTag == "" {
			_, err := h.client.Delete(t.Context(), messages.DeleteRequest{Kind: "image", Name: i.Name})
			require.NoError(t, err)
		}
	}
	h.within(patience, "a dangling image is removed with its mirror", func() bool { _, n := h.images(); return n == 0 })
	h.equal("no dangling image")
}

// The name of a resource holds the image's id: whoever deletes it after the tag has moved asks for something that is not there any
// more, and the image that has the tag now is not touched, whatever rdd knew at that moment.
func TestDeletingTheResourceOfAMovedTagTouchesNothingElse(t *testing.T) {
	onEach(t, deletingTheResourceOfAMovedTagTouchesNothingElse)
}

func deletingTheResourceOfAMovedTagTouchesNothingElse(t *testing.T, e place) {
	ids := []string{e.ImportImage(t, "one:1", "one"), e.ImportImage(t, "two:1", "two")}
	e.Docker(t, "tag", ids[0], "moving:1")
	h := e.start(t, supervisor.Intervals{}).settled()
	h.equal("first pass")
	for i := range 10 {
		from, to := ids[i%2], ids[(i+1)%2]
		e.Docker(t, "tag", to, "moving:1")
		_, err := h.client.Delete(t.Context(), messages.DeleteRequest{Kind: "image", Name: messages.ImageName(from, "moving:1")})
		require.True(t, err == nil || errors.Is(err, messages.ErrNotFound), "%v", err)
		h.equal("moved")
		require.Equal(t, to, e.Docker(t, "image", "inspect", "-f", "{{.Id}}", "moving:1"))
	}
}

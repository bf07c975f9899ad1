package store

import (
	"slices"
	"sort"

	"github.com/rdd-desktop/rdd/messages"
)

// Change is one step of history. Old is nil for a creation, New for a removal.
type Change struct {
	Version  uint64
	Old, New messages.Object
	Reason   string
}

const chunkSize = 128

type chunk [chunkSize]Change

// changes is a persistent queue of changes in the order of versions. The one writer appends behind the end that any reader
// knows of, and drops whole chunks at the front; a reader keeps the slice header it has. An entry costs its own size, no
// node of a tree.
type changes struct {
	chunks []*chunk
	first  int // index of the oldest in chunks
	end    int // index behind the newest
}

func (l changes) len() int         { return l.end - l.first }
func (l changes) at(i int) *Change { i += l.first; return &l.chunks[i/chunkSize][i%chunkSize] }

// add appends. Only the writer calls it, and only on the newest version.
func (l changes) add(c Change) changes {
	if l.end == len(l.chunks)*chunkSize {
		l.chunks = append(slices.Clip(l.chunks), new(chunk))
	}
	l.chunks[l.end/chunkSize][l.end%chunkSize] = c
	l.end++
	return l
}

// drop forgets the oldest.
func (l changes) drop() changes {
	l.first++
	if l.first == chunkSize {
		l.chunks, l.first, l.end = l.chunks[1:], 0, l.end-chunkSize
	}
	return l
}

// after is the index of the first change later than version.
func (l changes) after(version uint64) int {
	return sort.Search(l.len(), func(i int) bool { return l.at(i).Version > version })
}

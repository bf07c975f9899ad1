package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"math"
)

// The layout of a bbolt file, as far as a check of its pages needs it.
const (
	pageHeader    = 16
	flagBranch    = 0x01
	flagLeaf      = 0x02
	flagFreelist  = 0x10
	flagBucket    = 0x01
	elementSize   = 16
	bucketHeader  = 16
	metaSize      = 64
	metaMagic     = 0xED0CDAED
	metaVersion   = 2
	minPageSize   = 512
	maxPageSize   = 65536
	noFreelist    = math.MaxUint64
	maxVerifyDeep = 64
)

// verify checks a bbolt file page by page, by reading, not by mapping it: bbolt itself runs into page faults, endless loops
// and panics on a damaged or truncated file. Everything reachable must lie inside the file, be of the right type, in order,
// and used once; every page must be either reachable or on the list of free pages, since a page that is neither may hold
// records that a damaged count or pointer has cut off. It costs one read of each page.
func verify(f io.ReaderAt, size int64) error {
	m, err := newestMeta(f)
	if err != nil {
		return err
	}
	if have := uint64(size) / m.pageSize; have < m.highWater {
		return fmt.Errorf("truncated: %d pages of %d are there", have, m.highWater)
	}
	v := &verifier{f: f, meta: m, used: map[uint64]bool{0: true, 1: true}}
	if m.freelist == noFreelist {
		return fmt.Errorf("it has no list of free pages")
	}
	if err := v.freelist(); err != nil {
		return err
	}
	if err := v.tree(m.root, nil, nil, 0); err != nil {
		return err
	}
	for _, id := range v.free {
		if v.used[id] {
			return fmt.Errorf("page %d is in use and on the list of free pages", id)
		}
		v.used[id] = true
	}
	for id := range m.highWater {
		if !v.used[id] {
			return fmt.Errorf("page %d is neither in use nor on the list of free pages", id)
		}
	}
	return nil
}

type fileMeta struct{ pageSize, root, freelist, highWater, txid uint64 }

func newestMeta(f io.ReaderAt) (fileMeta, error) {
	var best fileMeta
	why := fmt.Errorf("there is no valid meta page")
	try := func(offset int64) {
		m, err := readMeta(f, offset)
		switch {
		case err != nil:
			if offset == 0 {
				why = fmt.Errorf("there is no valid meta page: %w", err)
			}
		case best.pageSize == 0 || (m.txid > best.txid && m.pageSize == best.pageSize):
			best = m
		}
	}
	try(0)
	if best.pageSize != 0 {
		try(int64(best.pageSize))
		return best, nil
	}
	for size := int64(minPageSize); size <= maxPageSize && best.pageSize == 0; size *= 2 {
		try(size)
		if best.pageSize != uint64(size) {
			best = fileMeta{}
		}
	}
	if best.pageSize == 0 {
		return best, why
	}
	return best, nil
}

func readMeta(f io.ReaderAt, offset int64) (fileMeta, error) {
	b := make([]byte, pageHeader+metaSize)
	if _, err := f.ReadAt(b, offset); err != nil {
		return fileMeta{}, fmt.Errorf("it cannot be read: %w", err)
	}
	b = b[pageHeader:]
	h := fnv.New64a()
	_, _ = h.Write(b[:metaSize-8])
	ne := binary.NativeEndian
	m := fileMeta{
		pageSize: uint64(ne.Uint32(b[8:])), root: ne.Uint64(b[16:]), freelist: ne.Uint64(b[32:]),
		highWater: ne.Uint64(b[40:]), txid: ne.Uint64(b[48:]),
	}
	switch {
	case ne.Uint32(b) != metaMagic:
		return m, fmt.Errorf("this is no bbolt file")
	case ne.Uint32(b[4:]) != metaVersion:
		return m, fmt.Errorf("bbolt file version %d, not %d", ne.Uint32(b[4:]), metaVersion)
	case ne.Uint64(b[56:]) != h.Sum64():
		return m, fmt.Errorf("its checksum is wrong")
	case m.pageSize < minPageSize || m.pageSize > maxPageSize:
		return m, fmt.Errorf("a page size of %d", m.pageSize)
	}
	return m, nil
}

type verifier struct {
	f    io.ReaderAt
	meta fileMeta
	used map[uint64]bool
	free []uint64
}

// page reads a page with its overflow and marks it used.
func (v *verifier) page(id uint64) (body []byte, flags, count uint16, err error) {
	if id >= v.meta.highWater {
		return nil, 0, 0, fmt.Errorf("page %d is outside of the file (%d pages)", id, v.meta.highWater)
	}
	head := make([]byte, pageHeader)
	if _, err := v.f.ReadAt(head, int64(id*v.meta.pageSize)); err != nil {
		return nil, 0, 0, fmt.Errorf("page %d: %w", id, err)
	}
	ne := binary.NativeEndian
	pages := uint64(ne.Uint32(head[12:])) + 1
	if got := ne.Uint64(head); got != id {
		return nil, 0, 0, fmt.Errorf("page %d says that it is page %d", id, got)
	}
	if pages > v.meta.highWater-id {
		return nil, 0, 0, fmt.Errorf("page %d reaches beyond the end of the file", id)
	}
	for i := id; i < id+pages; i++ {
		if v.used[i] {
			return nil, 0, 0, fmt.Errorf("page %d is used twice", i)
		}
		v.used[i] = true
	}
	body = make([]byte, pages*v.meta.pageSize)
	if _, err := v.f.ReadAt(body, int64(id*v.meta.pageSize)); err != nil {
		return nil, 0, 0, fmt.Errorf("page %d: %w", id, err)
	}
	return body, ne.Uint16(head[8:]), ne.Uint16(head[10:]), nil
}

func (v *verifier) freelist() error {
	body, flags, count, err := v.page(v.meta.freelist)
	if err != nil {
		return fmt.Errorf("list of free pages: %w", err)
	}
	if flags != flagFreelist {
		return fmt.Errorf("page %d is no list of free pages (flags %#x)", v.meta.freelist, flags)
	}
	ne := binary.NativeEndian
	n, body := uint64(count), body[pageHeader:]
	if count == math.MaxUint16 {
		n, body = ne.Uint64(body), body[8:]
	}
	if n > uint64(len(body))/8 {
		return fmt.Errorf("list of free pages: %d entries do not fit", n)
	}
	last := uint64(1)
	for i := range n {
		id := ne.Uint64(body[8*i:])
		if id <= last || id >= v.meta.highWater {
			return fmt.Errorf("list of free pages: entry %d is out of order or range", id)
		}
		last = id
		v.free = append(v.free, id)
	}
	return nil
}

// tree checks the tree of a bucket; its keys lie in [from, to).
func (v *verifier) tree(id uint64, from, to []byte, deep int) error {
	if deep > maxVerifyDeep {
		return fmt.Errorf("page %d: the tree is too deep", id)
	}
	body, flags, count, err := v.page(id)
	if err != nil {
		return err
	}
	if count == 0 { // bbolt has an empty bucket inside the page of its parent
		return fmt.Errorf("page %d: it has no elements", id)
	}
	if _, err := v.node(body, flags, count, from, to, deep); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// node checks a page, or what stands for one inside of another, and gives where its last element ends.
func (v *verifier) node(body []byte, flags, count uint16, from, to []byte, deep int) (end uint64, err error) {
	if flags != flagBranch && flags != flagLeaf {
		return 0, fmt.Errorf("neither branch nor leaf (flags %#x)", flags)
	}
	elements := uint64(pageHeader) + uint64(count)*elementSize
	if elements > uint64(len(body)) {
		return 0, fmt.Errorf("%d elements do not fit", count)
	}
	ne := binary.NativeEndian
	type element struct {
		key, value []byte
		flags      uint32
		child      uint64
	}
	list := make([]element, count)
	end = elements // bbolt puts the data of the elements after them without a gap: a count that is wrong shows here
	for i := range list {
		at := uint64(pageHeader + i*elementSize)
		e := body[at : at+elementSize]
		var pos, ksize, vsize uint64
		if flags == flagBranch {
			pos, ksize, list[i].child = uint64(ne.Uint32(e)), uint64(ne.Uint32(e[4:])), ne.Uint64(e[8:])
		} else {
			list[i].flags = ne.Uint32(e)
			pos, ksize, vsize = uint64(ne.Uint32(e[4:])), uint64(ne.Uint32(e[8:])), uint64(ne.Uint32(e[12:]))
		}
		start := at + pos
		if start != end || start+ksize+vsize > uint64(len(body)) {
			return 0, fmt.Errorf("the data of element %d are not where they belong", i)
		}
		end = start + ksize + vsize
		list[i].key, list[i].value = body[start:start+ksize], body[start+ksize:start+ksize+vsize]
		key := list[i].key
		switch {
		case i > 0 && bytes.Compare(list[i-1].key, key) >= 0,
			from != nil && bytes.Compare(key, from) < 0, to != nil && bytes.Compare(key, to) >= 0:
			return 0, fmt.Errorf("key %d is out of order", i)
		}
	}
	for i, e := range list {
		switch {
		case flags == flagBranch:
			below := to
			if i+1 < len(list) {
				below = list[i+1].key
			}
			if err := v.tree(e.child, e.key, below, deep+1); err != nil {
				return 0, err
			}
		case e.flags == flagBucket:
			if err := v.bucket(e.value, deep); err != nil {
				return 0, fmt.Errorf("bucket %q: %w", e.key, err)
			}
		case e.flags != 0:
			return 0, fmt.Errorf("element %d has unknown flags %#x", i, e.flags)
		}
	}
	return end, nil
}

func (v *verifier) bucket(value []byte, deep int) error {
	if len(value) < bucketHeader {
		return fmt.Errorf("its header is cut")
	}
	ne := binary.NativeEndian
	if root := ne.Uint64(value); root != 0 {
		if len(value) > bucketHeader {
			return fmt.Errorf("its header is too long")
		}
		return v.tree(root, nil, nil, deep+1)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader {
		return fmt.Errorf("its inline page is cut")
	}
	flags, count := ne.Uint16(inline[8:]), ne.Uint16(inline[10:])
	if flags != flagLeaf {
		return fmt.Errorf("its inline page is no leaf")
	}
	end, err := v.node(inline, flags, count, nil, nil, deep+1)
	if err == nil && end != uint64(len(inline)) {
		err = fmt.Errorf("its inline page is longer than its elements")
	}
	return err
}

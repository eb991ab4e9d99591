package vdisk

import (
	"iter"
	"sync"

	"github.com/tidwall/btree"
)

// piece says where the bytes of a range are: in a layer's files, or nowhere when layer is nil, since they are zeros.
type piece struct {
	start, end int64
	layer      *layer
}

// extentMap maps disjoint ranges to layers; ranges that touch and have the same layer are one. A map is changed by one
// goroutine at a time and not while it is read; copies are independent of each other and made in constant time.
type extentMap struct {
	copying sync.Mutex // makes copies of a frozen map safe beside each other
	tree    *btree.BTreeG[piece]
}

func newExtentMap() *extentMap {
	earlier := func(a, b piece) bool { return a.start < b.start }
	return &extentMap{tree: btree.NewBTreeGOptions(earlier, btree.Options{NoLocks: true})}
}

// set maps the range of p to its layer.
func (m *extentMap) set(p piece) {
	m.carve(p.start, p.end)
	if left, ok := m.upTo(p.start); ok && left.end == p.start && left.layer == p.layer {
		m.tree.Delete(left)
		p.start = left.start
	}
	if right, ok := m.tree.Get(piece{start: p.end}); ok && right.layer == p.layer {
		m.tree.Delete(right)
		p.end = right.end
	}
	m.tree.Set(p)
}

// carve takes the range out of the map.
func (m *extentMap) carve(start, end int64) {
	var covered []piece
	for p := range m.overlapping(start, end) {
		covered = append(covered, p)
	}
	for _, p := range covered {
		m.tree.Delete(p)
		if p.start < start {
			m.tree.Set(piece{p.start, start, p.layer})
		}
		if p.end > end {
			m.tree.Set(piece{end, p.end, p.layer})
		}
	}
}

// covers reports whether the whole range is mapped to that layer.
func (m *extentMap) covers(p piece) bool {
	found, ok := m.upTo(p.start)
	return ok && found.layer == p.layer && found.end >= p.end
}

// touches reports whether any byte of the range is mapped.
func (m *extentMap) touches(start, end int64) bool {
	for range m.overlapping(start, end) {
		return true
	}
	return false
}

// overlapping yields the pieces that share bytes with the range, in order and not clipped.
func (m *extentMap) overlapping(start, end int64) iter.Seq[piece] {
	return func(yield func(piece) bool) {
		m.tree.Ascend(m.firstAfter(start), func(p piece) bool { return p.start < end && yield(p) })
	}
}

// firstAfter returns a key from which the pieces that end after offset follow.
func (m *extentMap) firstAfter(offset int64) piece {
	if p, ok := m.upTo(offset); ok && p.end > offset {
		return p
	}
	return piece{start: offset}
}

// upTo returns the last piece that starts at offset or before.
func (m *extentMap) upTo(offset int64) (found piece, ok bool) {
	m.tree.Descend(piece{start: offset}, func(p piece) bool {
		found, ok = p, true
		return false
	})
	return found, ok
}

func (m *extentMap) copy() *extentMap {
	m.copying.Lock()
	defer m.copying.Unlock()
	return &extentMap{tree: m.tree.Copy()}
}

func (m *extentMap) len() int { return m.tree.Len() }

// cursor walks over the pieces of a map that nobody changes meanwhile.
type cursor struct {
	steps   btree.IterG[piece]
	current piece
	ok      bool
}

func newCursor(m *extentMap, start int64) *cursor {
	c := &cursor{steps: m.tree.Iter()}
	if c.ok = c.steps.Seek(m.firstAfter(start)); c.ok {
		c.current = c.steps.Item()
	}
	return c
}

// passOver moves on to the first piece that ends after offset.
func (c *cursor) passOver(offset int64) {
	for c.ok && c.current.end <= offset {
		if c.ok = c.steps.Next(); c.ok {
			c.current = c.steps.Item()
		}
	}
}

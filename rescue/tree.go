package main

import (
	"encoding/binary"
	"math/bits"
)

// nodeMax is the most bytes of a node (§5, §7), unplaced the frame number that says that a child's place is not known.
const (
	nodeMax  = 16 << 10
	unplaced = 255
	ownPack  = 255
)

// place is where a chunk or node may lie: a slot of a frame of a pack.
type place struct {
	pack           [32]byte
	offset, stored int64
	slot           int
}

// child is one present child of a node.
type child struct {
	index int
	id    [32]byte
	hint  *place // nil when the node does not know
}

// node is a parsed node of a disk map (§7).
type node struct {
	level    byte
	bitmap   []byte
	ids      []byte
	children []child
}

// parseNode reads a node. own is the pack it lies in, which its hints may mean.
func parseNode(content []byte, fanOut int, own [32]byte) (*node, error) {
	if len(content) > nodeMax || len(content) < 4+fanOut/8 {
		return nil, damaged("a node has %d bytes", len(content))
	}
	if content[0] > 1 {
		return nil, newer("a node has version %d", content[0])
	}
	if content[0] != 1 || !allZero(content[2:4]) {
		return nil, damaged("a node does not begin like one")
	}
	n := &node{level: content[1], bitmap: content[4 : 4+fanOut/8]}
	rest := content[4+fanOut/8:]
	for i := range fanOut {
		if n.bitmap[i/8]>>(i%8)&1 == 1 {
			n.children = append(n.children, child{index: i})
		}
	}
	if len(n.children) == 0 || len(rest) < 32*len(n.children) {
		return nil, damaged("a node has %d children in %d bytes", len(n.children), len(rest))
	}
	n.ids, rest = rest[:32*len(n.children)], rest[32*len(n.children):]
	for i := range n.children {
		n.children[i].id = [32]byte(n.ids[32*i:])
	}
	return n, n.parseHints(rest, own)
}

// parseHints reads what follows the ids: packs, frames, and a frame and slot per child.
func (n *node) parseHints(rest []byte, own [32]byte) error {
	short := damaged("the hints of a node end too early")
	if len(rest) < 1 || len(rest) < 1+32*int(rest[0])+1 {
		return short
	}
	packs := rest[1 : 1+32*int(rest[0])]
	rest = rest[1+len(packs):]
	frames := make([]*place, rest[0])
	rest = rest[1:]
	if len(rest) != 9*len(frames)+2*len(n.children) {
		return short
	}
	for i := range frames {
		frames[i] = &place{
			pack: own, offset: int64(binary.BigEndian.Uint32(rest[1:])), stored: int64(binary.BigEndian.Uint32(rest[5:])),
		}
		number := int(rest[0])
		rest = rest[9:]
		if number == ownPack {
			continue
		}
		if 32*number >= len(packs) {
			return damaged("a hint of a node leads to pack %d of %d", number, len(packs)/32)
		}
		frames[i].pack = [32]byte(packs[32*number:])
	}
	for i := range n.children {
		frame, slot := int(rest[2*i]), int(rest[2*i+1])
		switch {
		case frame == unplaced:
		case frame < len(frames):
			hint := *frames[frame]
			hint.slot = slot
			n.children[i].hint = &hint
		default:
			return damaged("a hint of a node leads to frame %d of %d", frame, len(frames))
		}
	}
	return nil
}

// shape is what follows from a disk's size: how many chunks, and how high the tree (§7).
type shape struct {
	parameters
	size   int64
	chunks int64
	height int
}

// diskSizeMax is far beyond any disk, and keeps all products within 64 bits.
const diskSizeMax = 1 << 56

func shapeOf(p parameters, size int64) (shape, error) {
	if size < 0 || size > diskSizeMax {
		return shape{}, damaged("a disk cannot have %d bytes", size)
	}
	s := shape{parameters: p, size: size, chunks: (size + int64(p.ChunkSize) - 1) / int64(p.ChunkSize), height: 1}
	for s.span(s.height) < s.chunks {
		s.height++
	}
	return s, nil
}

// span is the number of chunks below one child of a node of that level; a chunk is its own, so span(0) is 1.
func (s shape) span(level int) int64 {
	span := int64(1)
	for range level {
		high, low := bits.Mul64(uint64(span), uint64(s.FanOut))
		if high != 0 || low > diskSizeMax {
			return diskSizeMax
		}
		span = int64(low)
	}
	return span
}

// extent is the bytes of the disk from a chunk on, as many chunks as given or up to the disk's end.
func (s shape) extent(first, chunks int64) (offset, length int64) {
	offset = first * int64(s.ChunkSize)
	end := s.size
	if chunks < s.chunks-first {
		end = (first + chunks) * int64(s.ChunkSize)
	}
	return offset, end - offset
}

// Package tree is the disk map: a persistent hash tree of fixed fan-out over chunk ids (doc/format.md §7).
//
// Update makes a new tree from an old one and a sorted list of changes, writing only the nodes on the paths to what
// changed. A node's id covers what it maps, never where things lie: places are hints. Nothing here knows packs or storage;
// nodes come from a Source and go to a Sink.
package tree

import (
	"encoding/binary"
	"math/bits"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// Child is a chunk or a node below a node. Place is nil where nobody knows it; the index is asked then.
type Child struct {
	ID    chunk.ID
	Place *chunk.Place
}

// Node maps fanOut children at one level; level 0 maps chunks.
type Node struct {
	Level    int
	Children []Child
}

// NewNode returns a node of holes.
func NewNode(level, fanOut int) *Node {
	return &Node{Level: level, Children: make([]Child, fanOut)}
}

// MemoryBytes returns about what the node takes in memory, the places of its children and the names of packs included.
func (n *Node) MemoryBytes() int64 {
	const child, place = 40, 48
	bytes := int64(len(n.Children)) * child
	var last *chunk.PackRef
	for i := range n.Children {
		p := n.Children[i].Place
		if p == nil {
			continue
		}
		bytes += place
		if p.Pack != last { // what comes in between may come twice
			bytes += chunk.PackRefBytes
		}
		last = p.Pack
	}
	return bytes
}

// IsHole reports whether all children are holes.
func (n *Node) IsHole() bool {
	for i := range n.Children {
		if !n.Children[i].ID.IsHole() {
			return false
		}
	}
	return true
}

// ID returns the node's id. A node of holes has the zero id.
func (n *Node) ID(h *chunk.Hasher) chunk.ID {
	if n.IsHole() {
		return chunk.ID{}
	}
	bitmap, ids := n.identity()
	return h.Node(byte(n.Level), bitmap, ids)
}

func (n *Node) identity() (bitmap, ids []byte) {
	bitmap = make([]byte, len(n.Children)/8)
	ids = make([]byte, 0, len(n.Children)*len(chunk.ID{}))
	for i := range n.Children {
		if id := n.Children[i].ID; !id.IsHole() {
			bitmap[i/8] |= 1 << (i % 8)
			ids = append(ids, id[:]...)
		}
	}
	return bitmap, ids
}

const (
	nodeVersion  = 1
	packHere     = 255 // the hint's pack is the one that the node lies in
	nodeHeader   = 4
	frameHint    = 9
	packNameSize = layout.HashSize
)

type frameKey struct {
	pack   byte
	offset uint32
	stored uint32
}

// Encode returns the node's bytes. here is the pack that the node is going to lie in. The pack of every hint must be named
// or be here; a place that does not fit a hint (more than 254 packs or 255 frames in one node) is left out by writing frame
// number 255, which sends readers to the index.
func (n *Node) Encode(here *chunk.PackRef) []byte {
	bitmap, ids := n.identity()
	out := make([]byte, 0, nodeHeader+len(bitmap)+len(ids)+256)
	out = append(out, nodeVersion, byte(n.Level), 0, 0)
	out = append(append(out, bitmap...), ids...)

	packs, frames, slots := n.hints(here)
	out = append(out, byte(len(packs)))
	for _, name := range packs {
		out = append(out, name[:]...)
	}
	out = append(out, byte(len(frames)))
	for _, f := range frames {
		out = append(out, f.pack)
		out = binary.BigEndian.AppendUint32(out, f.offset)
		out = binary.BigEndian.AppendUint32(out, f.stored)
	}
	return append(out, slots...)
}

// noHint is the frame number of a child whose place the node does not know.
const noHint = 255

func (n *Node) hints(here *chunk.PackRef) (packs []layout.Hash, frames []frameKey, slots []byte) {
	packNumbers, frameNumbers := map[string]byte{}, map[frameKey]byte{}
	for i := range n.Children {
		child := &n.Children[i]
		if child.ID.IsHole() {
			continue
		}
		frame, ok := byte(noHint), child.Place != nil && child.Place.Slot < 256
		if ok {
			var pack byte
			if pack, packs, ok = packNumber(child.Place.Pack, here, packNumbers, packs); ok {
				key := frameKey{pack, uint32(child.Place.Offset), uint32(child.Place.Stored)}
				frame, frames = frameNumber(key, frameNumbers, frames)
			}
		}
		if frame == noHint {
			slots = append(slots, noHint, 0)
			continue
		}
		slots = append(slots, frame, byte(child.Place.Slot))
	}
	return packs, frames, slots
}

func packNumber(pack, here *chunk.PackRef, numbers map[string]byte, packs []layout.Hash) (byte, []layout.Hash, bool) {
	if pack == here {
		return packHere, packs, true
	}
	name := pack.Name()
	holdfast.Invariant(name != "", "a node is encoded before the packs it points to are stored")
	if number, known := numbers[name]; known {
		return number, packs, true
	}
	short, ok := packName(name)
	if !ok || len(packs) >= packHere {
		return 0, packs, false
	}
	numbers[name] = byte(len(packs))
	return byte(len(packs)), append(packs, short), true
}

func frameNumber(key frameKey, numbers map[frameKey]byte, frames []frameKey) (byte, []frameKey) {
	if number, known := numbers[key]; known {
		return number, frames
	}
	if len(frames) >= noHint {
		return noHint, frames
	}
	numbers[key] = byte(len(frames))
	return byte(len(frames)), append(frames, key)
}

// Decode reads a node of the given level that lies in the pack here. The bytes are hostile until their id is checked:
// anything malformed is KindCorrupt.
func Decode(data []byte, level, fanOut int, here *chunk.PackRef) (*Node, error) {
	bitmapSize := fanOut / 8
	if len(data) > layout.NodeBytesMax {
		return nil, corrupt("a tree node has %d bytes", len(data))
	}
	if len(data) < nodeHeader+bitmapSize || data[0] != nodeVersion || int(data[1]) != level || data[2] != 0 || data[3] != 0 {
		return nil, corrupt("a tree node is malformed")
	}
	bitmap := data[nodeHeader : nodeHeader+bitmapSize]
	present := 0
	for _, b := range bitmap {
		present += bits.OnesCount8(b)
	}
	rest := data[nodeHeader+bitmapSize:]
	const idSize = len(chunk.ID{})
	if present == 0 || len(rest) < present*idSize {
		return nil, corrupt("a tree node of level %d is cut short", level)
	}
	ids, rest := rest[:present*idSize], rest[present*idSize:]
	places, err := decodePlaces(rest, present, here, level)
	if err != nil {
		return nil, err
	}
	n, next := NewNode(level, fanOut), 0
	for i := range n.Children {
		if bitmap[i/8]&(1<<(i%8)) == 0 {
			continue
		}
		n.Children[i] = Child{ID: chunk.ID(ids[next*idSize : (next+1)*idSize]), Place: places[next]}
		if n.Children[i].ID.IsHole() {
			return nil, corrupt("a tree node holds the id of a hole")
		}
		next++
	}
	return n, nil
}

func decodePlaces(rest []byte, present int, here *chunk.PackRef, level int) ([]*chunk.Place, error) {
	short := corrupt("the hints of a tree node of level %d are cut short", level)
	if len(rest) < 1 {
		return nil, short
	}
	packCount := int(rest[0])
	rest = rest[1:]
	if len(rest) < packCount*packNameSize+1 {
		return nil, short
	}
	packs := make([]*chunk.PackRef, packCount)
	for i := range packs {
		packs[i] = chunk.NamedPack(packObject(level, layout.Hash(rest[i*packNameSize:])))
	}
	rest = rest[packCount*packNameSize:]
	frameCount := int(rest[0])
	rest = rest[1:]
	if len(rest) != frameCount*frameHint+2*present {
		return nil, short
	}
	frames, slots := rest[:frameCount*frameHint], rest[frameCount*frameHint:]
	places := make([]*chunk.Place, present)
	for i := range places {
		number, slot := int(slots[2*i]), int(slots[2*i+1])
		if number == noHint {
			continue
		}
		if number >= frameCount {
			return nil, corrupt("a hint of a tree node names frame %d of %d", number, frameCount)
		}
		f := frames[number*frameHint:]
		pack := here
		if f[0] != packHere {
			if int(f[0]) >= packCount {
				return nil, corrupt("a hint of a tree node names pack %d of %d", f[0], packCount)
			}
			pack = packs[f[0]]
		}
		places[i] = &chunk.Place{Pack: pack, Offset: int64(binary.BigEndian.Uint32(f[1:])), Stored: int(binary.BigEndian.Uint32(f[5:])), Slot: slot}
	}
	return places, nil
}

// packObject names the pack of a hint: children of leaves lie in data packs, children of other nodes in tree packs.
func packObject(level int, hash layout.Hash) string {
	if level == 0 {
		return layout.Name(layout.DataPack, hash)
	}
	return layout.Name(layout.TreePack, hash)
}

func packName(name string) (layout.Hash, bool) {
	kind, hash := layout.Parse(name)
	return hash, kind == layout.DataPack || kind == layout.TreePack
}

func corrupt(format string, args ...any) error {
	return holdfast.Errorf(holdfast.KindCorrupt, format, args...)
}

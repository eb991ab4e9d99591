package collect

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"sort"
	"time"

	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// shelf is what is known of all packs of one kind: about a hundred bytes a pack, whatever the packs hold. Packs are numbered in order
// of their names, and those that a listing missed come after.
//
// What is needed of a data pack is kept in a filter of one bit per 64 KiB of the pack: it may take a chunk that is dead for one that
// is needed, never the other way round. Nodes are kept exactly, because a node that was seen is not visited again.
type shelf struct {
	kind   layout.Kind
	names  []layout.Hash
	sizes  []uint32
	flags  []packFlag
	locks  map[int]time.Time
	sorted int // how many of the names are in order
	late   map[layout.Hash]int

	filters []uint64 // of data packs, one after the other
	starts  []uint32 // where each pack's filter begins
	nodes   nodeSet  // of tree packs
	live    []uint32 // bytes of the nodes seen in each tree pack, their records in the directory counted
}

type packFlag uint8

const (
	barred packFlag = 1 << iota // condemned or damaged: nothing is looked for in it
	whole                       // all of it is needed: a point that may need it is damaged
	moving                      // what is needed of it is moved to other packs
	strewn                      // a newest point that is too scattered lies in it
	doomed                      // condemned
	owned                       // a newest point lies in it; the first one to be marked decides in which order it is written
)

const (
	filterUnit  = 64 << 10 // bytes of a data pack for one bit of its filter
	filterWords = 4        // at least: small packs are not to be misjudged
)

// packInfo is a pack as a listing shows it.
type packInfo struct {
	hash        layout.Hash
	size        int64
	lockedUntil time.Time
}

func newShelf(kind layout.Kind, packs []packInfo) *shelf {
	slices.SortFunc(packs, func(a, b packInfo) int { return bytes.Compare(a.hash[:], b.hash[:]) })
	s := &shelf{kind: kind, locks: map[int]time.Time{}, late: map[layout.Hash]int{}, nodes: newNodeSet()}
	for _, p := range packs {
		s.append(p)
	}
	s.sorted = len(packs)
	return s
}

func (s *shelf) append(p packInfo) int {
	i := len(s.names)
	s.names = append(s.names, p.hash)
	s.sizes = append(s.sizes, uint32(min(p.size, math.MaxUint32)))
	s.flags = append(s.flags, 0)
	if !p.lockedUntil.IsZero() {
		s.locks[i] = p.lockedUntil
	}
	if s.kind == layout.TreePack {
		s.live = append(s.live, 0)
		return i
	}
	s.starts = append(s.starts, uint32(len(s.filters)))
	s.filters = append(s.filters, make([]uint64, max(filterWords, (p.size+64*filterUnit-1)/(64*filterUnit)))...)
	return i
}

// add takes up a pack that the listing missed.
func (s *shelf) add(p packInfo) int {
	i := s.append(p)
	s.late[p.hash] = i
	return i
}

func (s *shelf) len() int { return len(s.names) }

// find returns a pack's number.
func (s *shelf) find(hash layout.Hash) (int, bool) {
	i := sort.Search(s.sorted, func(i int) bool { return bytes.Compare(s.names[i][:], hash[:]) >= 0 })
	if i < s.sorted && s.names[i] == hash {
		return i, true
	}
	i, ok := s.late[hash]
	return i, ok
}

func (s *shelf) name(i int) string           { return layout.Name(s.kind, s.names[i]) }
func (s *shelf) size(i int) int64            { return int64(s.sizes[i]) }
func (s *shelf) is(i int, f packFlag) bool   { return s.flags[i]&f != 0 }
func (s *shelf) set(i int, f packFlag)       { s.flags[i] |= f }
func (s *shelf) unset(i int, f packFlag)     { s.flags[i] &^= f }
func (s *shelf) lockedUntil(i int) time.Time { return s.locks[i] }
func (s *shelf) filterOf(i int) (words []uint64) {
	end := len(s.filters)
	if i+1 < len(s.starts) {
		end = int(s.starts[i+1])
	}
	return s.filters[s.starts[i]:end]
}

// needChunk notes that the chunk at a place of a data pack is needed.
func (s *shelf) needChunk(i int, offset int64, slot int) {
	words := s.filterOf(i)
	// Two chunks that share a bit in one pack do not share one in the pack that they are moved to, or they would be moved for ever.
	salt := binary.BigEndian.Uint64(s.names[i][8:])
	bit := scatter(salt^(uint64(offset)<<8|uint64(slot))) % uint64(64*len(words))
	words[bit/64] |= 1 << (bit % 64)
}

// liveBytes returns the bytes of all nodes that are needed.
func (s *shelf) liveBytes() (total int64) {
	for _, bytes := range s.live {
		total += int64(bytes)
	}
	return total
}

// needNode notes that the node at a place of a tree pack is needed and reports whether that is new.
func (s *shelf) needNode(i int, offset int64, stored int) bool {
	if !s.nodes.add(i, offset, stored) {
		return false
	}
	s.live[i] += uint32(stored + nodeRecord)
	return true
}

// needed reports whether anything of a pack is.
func (s *shelf) needed(i int) bool {
	if s.is(i, whole) {
		return true
	}
	if s.kind == layout.TreePack {
		return s.live[i] > 0
	}
	return slices.ContainsFunc(s.filterOf(i), func(w uint64) bool { return w != 0 })
}

// chunks estimates how many chunks of a data pack are needed, from how full its filter is.
func (s *shelf) chunks(i int) float64 {
	ones, words := 0, s.filterOf(i)
	for _, w := range words {
		ones += bits.OnesCount64(w)
	}
	size := float64(64 * len(words))
	if ones == 64*len(words) {
		ones-- // too full to tell
	}
	return -size * math.Log(1-float64(ones)/size)
}

// scatter mixes the bits of x.
func scatter(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xBF58476D1CE4E5B9
	x ^= x >> 27
	x *= 0x94D049BB133111EB
	return x ^ x>>31
}

// nodeSet is a set of places of nodes. Nodes of at least nodeUnit bytes, as most are, take a bit per nodeUnit of their pack: no two
// of them begin in the same one. Smaller ones take an entry of a map each.
type nodeSet struct {
	large map[int][]uint64
	small map[nodePlace]struct{}
}

type nodePlace struct {
	pack   int32
	offset uint32
}

const (
	nodeUnit   = 512
	nodeRecord = 10 + 32 // bytes of a node in its pack's directory (doc/format.md §5)
)

func newNodeSet() nodeSet { return nodeSet{large: map[int][]uint64{}, small: map[nodePlace]struct{}{}} }

// has reports whether the set holds a place.
func (n nodeSet) has(pack int, offset int64, stored int) bool {
	if stored < nodeUnit {
		_, known := n.small[nodePlace{int32(pack), uint32(offset)}]
		return known
	}
	unit, words := int(offset/nodeUnit), n.large[pack]
	return unit/64 < len(words) && words[unit/64]&(1<<(unit%64)) != 0
}

// add reports whether the place is new.
func (n nodeSet) add(pack int, offset int64, stored int) bool {
	if n.has(pack, offset, stored) {
		return false
	}
	if stored < nodeUnit {
		n.small[nodePlace{int32(pack), uint32(offset)}] = struct{}{}
		return true
	}
	unit, words := int(offset/nodeUnit), n.large[pack]
	if unit/64 >= len(words) {
		words = append(words, make([]uint64, unit/64+1-len(words))...)
		n.large[pack] = words
	}
	words[unit/64] |= 1 << (unit % 64)
	return true
}

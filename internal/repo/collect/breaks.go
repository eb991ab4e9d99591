package collect

import (
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
)

// breaks measures how scattered one point lies: how often whoever reads its chunks in order must go on elsewhere than in the frame that
// was read last or the one after it. Nil measures nothing.
type breaks struct {
	scattered Scattered
	packs     map[int]int // chunks in each data pack
	order     []int       // these packs, as they were met first
	jumps     map[jump]int
	pack      int
	offset    int64
	next      int64 // where the frame after the last one begins
	reading   bool
}

func newBreaks(point holdfast.PointID) *breaks {
	return &breaks{scattered: Scattered{Point: point}, packs: map[int]int{}, jumps: map[jump]int{}}
}

// at notes that the next chunk lies there.
func (b *breaks) at(place *chunk.Place, pack int) {
	if b == nil {
		return
	}
	if b.packs[pack]++; b.packs[pack] == 1 {
		b.order = append(b.order, pack)
	}
	if b.reading && pack == b.pack && place.Offset == b.offset {
		return
	}
	b.scattered.Bytes += int64(place.Stored)
	if !b.reading || pack != b.pack || place.Offset != b.next {
		b.scattered.Seeks++
		b.jump(pack)
	}
	b.reading, b.pack, b.offset, b.next = true, pack, place.Offset, place.Offset+int64(place.Stored)
}

// jump notes a break, unless it is where the disk begins.
func (b *breaks) jump(to int) {
	j := jump{int32(b.pack), int32(to)}
	if _, known := b.jumps[j]; b.reading && (known || len(b.jumps) < jumpsMax) {
		b.jumps[j]++
	}
}

// end ends a disk.
func (b *breaks) end() {
	if b != nil {
		b.reading = false
	}
}

// result sums up.
func (b *breaks) result() Scattered {
	s := b.scattered
	s.Packs = len(b.packs)
	if s.Bytes > 0 {
		s.SeeksPerGiB = float64(s.Seeks) / (float64(s.Bytes) / (1 << 30))
	}
	return s
}

// inReadingOrder returns the points in the order in which they are marked and moved: first the newest one of each machine, whose
// reading is to be fast, then all others, newest first. newest says how many are of the first kind.
func inReadingOrder(points []oplog.PointState) (ordered []oplog.PointState, newest int) {
	seen := map[string]bool{}
	var others []oplog.PointState
	for _, p := range slices.Backward(points) {
		if seen[p.Subject] {
			others = append(others, p)
			continue
		}
		seen[p.Subject] = true
		ordered = append(ordered, p)
	}
	return append(ordered, others...), len(ordered)
}

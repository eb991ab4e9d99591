package collect

import "slices"

// jump is a break in the reading of a point: from one data pack to another, or within one. Packs are numbers on their shelf.
type jump struct{ from, to int32 }

// jumpsMax bounds the different jumps that are kept of one point, some 30 bytes each. Of a point with more, the first ones are mended first.
const jumpsMax = 1 << 20

// strewing is what is known of a newest point that is read with too many breaks.
type strewing struct {
	order []int // its data packs, in the order in which they are met first; those that another newest point met before are left out
	jumps map[jump]int
}

// gather returns packs of a point which, moved together in the order of reading, spare enough breaks for what is moved. live says how many
// bytes of a pack would be moved, and false for one that cannot be.
//
// A break goes when both of its ends are moved. So packs are given up whose share in such breaks, half of each, is below the limit for their
// bytes, until the rest is worth it. What was gathered lies in order, has no such share any more, and is not gathered again; and of the breaks that
// are left, per GiB that could be moved, no more than twice the limit are its own.
func (r Rule) gather(s strewing, live func(pack int) (int64, bool)) []int {
	budget := r.GatherBytesMax
	members := map[int32]int64{}
	for _, pack := range s.order {
		if bytes, movable := live(pack); movable && r.SeeksPerGiBMax > 0 && bytes <= budget {
			members[int32(pack)] = bytes
			budget -= bytes
		}
	}
	for r.giveUp(members, s.jumps) {
	}
	var packs []int
	for pack := range members {
		packs = append(packs, int(pack))
	}
	slices.Sort(packs)
	return packs
}

// giveUp drops the members whose share is too small, and reports whether there were any.
func (r Rule) giveUp(members map[int32]int64, jumps map[jump]int) bool {
	share := map[int32]float64{} // halves of breaks
	for j, times := range jumps {
		if _, from := members[j.from]; !from {
			continue
		}
		if _, to := members[j.to]; !to {
			continue
		}
		share[j.from] += float64(times) / 2
		share[j.to] += float64(times) / 2
	}
	dropped := false
	for pack, bytes := range members {
		if share[pack] < r.SeeksPerGiBMax*float64(bytes)/(1<<30) || share[pack] < gatherSeeksMin {
			delete(members, pack)
			dropped = true
		}
	}
	return dropped
}

// gatherSeeksMin is the share of breaks below which no pack is worth a request, however small it is. What was gathered goes on from one pack to the
// next: a share of one.
const gatherSeeksMin = 2

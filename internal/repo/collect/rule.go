package collect

import (
	"cmp"
	"math/bits"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// Rule says which packs are worth being repacked. The zero value means DefaultRule. It saves work and storage; no safety rests on it.
type Rule struct {
	// FreedPerMoved is how many bytes must be freed for each byte that is moved.
	FreedPerMoved float64
	// ScatteredFreedPerMoved takes its place for packs that the newest points of a machine are scattered over.
	ScatteredFreedPerMoved float64
	// SeeksPerGiBMax is how many breaks in the reading of a disk's newest point are put up with, per GiB.
	SeeksPerGiBMax float64
	// GatherBytesMax bounds what one collection moves of a machine's newest point to put it in order, although little or nothing is freed by that.
	GatherBytesMax int64
	// MoveBytesMax bounds what one collection moves.
	MoveBytesMax int64
	// MinAge keeps young packs from being moved: what is younger often dies soon.
	MinAge time.Duration
	// SmallBytes is the size below which packs are united, as soon as Unite of the same size class are there.
	SmallBytes int64
	Unite      int
}

// DefaultRule returns the rule that is used when none is given: at least half of a pack is dead, a quarter where the newest points
// are scattered; moved are 64 GiB at most. With these, what is stored stays below twice what is needed.
func DefaultRule() Rule {
	return Rule{
		FreedPerMoved: 1, ScatteredFreedPerMoved: 1.0 / 3, SeeksPerGiBMax: 256, GatherBytesMax: 4 << 30, MoveBytesMax: 64 << 30, MinAge: 24 * time.Hour,
		SmallBytes: layout.PackBytesTarget / 4, Unite: 8,
	}
}

func (r Rule) orDefault() Rule {
	if r == (Rule{}) {
		return DefaultRule()
	}
	return r
}

// candidate is a pack that something is needed of.
type candidate struct {
	kind      layout.Kind
	pack      int   // number on its shelf
	size      int64 // bytes
	live      int64 // bytes of what is needed, roughly
	young     bool
	scattered bool
}

// cost is what moving a pack takes of what may be moved at once. Nodes are small, and where each was moved is kept in memory.
func (c candidate) cost() int64 {
	if c.kind == layout.TreePack {
		return 16 * c.live
	}
	return c.live
}

// choose returns the candidates to repack: those that free most for what is moved first, then small ones that are worth uniting.
func (r Rule) choose(all []candidate) []candidate {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b candidate) int {
		return cmp.Compare(float64(a.live)/float64(a.size), float64(b.live)/float64(b.size))
	})
	var chosen []candidate
	taken, moved := make([]bool, len(all)), int64(0)
	take := func(i int) {
		if cost := all[i].cost(); !taken[i] && moved+cost <= r.MoveBytesMax {
			taken[i], moved, chosen = true, moved+cost, append(chosen, all[i])
		}
	}
	for i, c := range all {
		if r.worth(c) {
			take(i)
		}
	}
	classes := map[sizeClass][]int{}
	for i, c := range all {
		if c.size < r.SmallBytes && !taken[i] && !c.young {
			class := sizeClass{c.kind, (bits.Len64(uint64(c.size)) - 1) / 3}
			classes[class] = append(classes[class], i)
		}
	}
	for class := range sizeClassMax {
		for _, kind := range []layout.Kind{layout.DataPack, layout.TreePack} {
			if members := classes[sizeClass{kind, class}]; len(members) >= r.Unite {
				for _, i := range members {
					take(i)
				}
			}
		}
	}
	return chosen
}

// sizeClass groups packs of a kind whose sizes are within a factor of eight.
type sizeClass struct {
	kind  layout.Kind
	class int
}

const sizeClassMax = 64 / 3

// worth applies the cost rule.
func (r Rule) worth(c candidate) bool {
	wanted := r.FreedPerMoved
	if c.scattered {
		wanted = min(wanted, r.ScatteredFreedPerMoved)
	}
	return !c.young && float64(c.size-c.live) >= wanted*float64(c.live)
}

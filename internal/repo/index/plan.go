package index

import (
	"math/bits"
	"slices"
)

// Step is one merge that Plan finds worth doing: the runs of one partition, and those runs of the partitions below it that they are
// merged with.
type Step struct {
	Runs    []About
	Targets []Target // in order of their prefixes, which are disjoint
}

// Target is a partition that a merge makes runs for.
type Target struct {
	Prefix Prefix
	Runs   []About // merged into the new runs
	Room   int     // entries that a new run may have
}

// Entries returns how many entries the step reads, about.
func (s Step) Entries() int {
	n := 0
	for _, run := range s.Dropped() {
		n += run.Entries
	}
	return n
}

// Dropped returns all runs that the step unites.
func (s Step) Dropped() []About {
	all := slices.Clone(s.Runs)
	for _, target := range s.Targets {
		all = append(all, target.Runs...)
	}
	return all
}

// classFactor is the ratio of sizes within which runs are alike, and classRuns how many alike may stand side by side in a partition.
const (
	classBits = 2
	classRuns = 3
)

func sizeClass(entries int) int { return (bits.Len(uint(max(entries, 1))) - 1) / classBits }

// PlanAdd returns the runs of the partition of all ids that so many new entries are merged with: as soon as classRuns runs of one size
// class or below stand there, the new entries are merged with them. None is too large to be merged in a publication.
func PlanAdd(runs []About, entries int, limits Limits) Step {
	step := Step{Targets: []Target{{}}}
	step.Targets[0].Runs = alike(partitionsOf(runs).of(Prefix{}), entries, limits)
	step.Targets[0].Room = min(entries+step.Entries(), limits.room())
	return step
}

// Rewrite returns the step that writes one run of so many entries anew.
func Rewrite(run About, entries int) Step {
	return Step{Runs: []About{run}, Targets: []Target{{Prefix: run.Prefix, Room: entries}}}
}

// alike returns the runs that a new one of so many entries is merged with.
func alike(runs []About, entries int, limits Limits) []About {
	runs = slices.DeleteFunc(slices.Clone(runs), func(run About) bool { return run.Entries == 0 }) // of unknown size
	slices.SortStableFunc(runs, func(a, b About) int { return a.Entries - b.Entries })
	taken := 0
	for {
		class, end := sizeClass(entries), taken
		for end < len(runs) && runs[end].Entries > 0 && sizeClass(runs[end].Entries) <= class {
			end++
		}
		sum := entries
		for _, run := range runs[taken:end] {
			sum += run.Entries
		}
		if end-taken < classRuns || sum > limits.RunEntries {
			return runs[:taken]
		}
		entries, taken = sum, end
	}
}

// room is how many entries a run may really have: ids are hashes, so what is expected is nearly what comes.
func (l Limits) room() int { return l.RunEntries + l.RunEntries/8 }

// Plan returns the merge that is most worth doing, the lowest partition first so that it has room for what comes from above; false when
// there is none. It is a pure function of what is known about the runs: see doc/format.md §8.
//
// Every step moves entries down or makes fewer runs of them, so doing what Plan says ends. An entry is written about once per factor of
// four in the buffers it passes, and some six times in its leaf.
func Plan(runs []About, limits Limits) (Step, bool) {
	p := partitionsOf(runs)
	var worst *partition
	for _, part := range p.byPrefix {
		if p.isDue(part, limits) && (worst == nil || part.prefix.length > worst.prefix.length ||
			part.prefix.length == worst.prefix.length && part.prefix.bits < worst.prefix.bits) {
			worst = part
		}
	}
	if worst == nil {
		return Step{}, false
	}
	step := Step{Runs: worst.runs}
	if p.inner[worst.prefix] {
		for _, below := range worst.prefix.below(1) {
			step.Targets = append(step.Targets, p.cover(below, worst, limits)...)
		}
		return step, true
	}
	for _, prefix := range split(worst.prefix, worst.entries, limits) {
		step.Targets = append(step.Targets, Target{Prefix: prefix, Room: limits.room()})
	}
	return step, true
}

// partition is the runs of one prefix.
type partition struct {
	prefix  Prefix
	runs    []About
	entries int
}

type partitions struct {
	byPrefix map[Prefix]*partition
	inner    map[Prefix]bool // prefixes that begin a longer one
}

func partitionsOf(runs []About) partitions {
	p := partitions{map[Prefix]*partition{}, map[Prefix]bool{}}
	for _, run := range runs {
		part := p.byPrefix[run.Prefix]
		if part == nil {
			part = &partition{prefix: run.Prefix}
			p.byPrefix[run.Prefix] = part
			for length := run.Prefix.length - 1; length >= 0; length-- {
				above := newPrefix(run.Prefix.bits, length)
				if p.inner[above] {
					break
				}
				p.inner[above] = true
			}
		}
		part.runs, part.entries = append(part.runs, run), part.entries+run.Entries
	}
	return p
}

func (p partitions) of(prefix Prefix) []About {
	if part := p.byPrefix[prefix]; part != nil {
		return part.runs
	}
	return nil
}

func (p partitions) isDue(part *partition, limits Limits) bool {
	full := part.entries > limits.RunEntries
	switch {
	case p.inner[part.prefix]:
		return full || part.prefix.length%limits.Stride != 0
	case part.prefix.length == 0: // a young index, or a small one
		return full
	}
	return len(part.runs) > 1 && part.prefix.length < prefixLengthMax || full && part.prefix.length < prefixLengthMax
}

// cover returns the targets below a partition that is emptied, for the ids of one prefix.
func (p partitions) cover(prefix Prefix, from *partition, limits Limits) []Target {
	share := from.entries >> (prefix.length - from.prefix.length)
	if p.inner[prefix] && prefix.length%limits.Stride != 0 {
		halves := prefix.below(1)
		return append(p.cover(halves[0], from, limits), p.cover(halves[1], from, limits)...)
	}
	if p.inner[prefix] {
		runs := alike(p.of(prefix), share, limits)
		return []Target{{Prefix: prefix, Runs: runs, Room: limits.room()}}
	}
	entries := share
	for _, run := range p.of(prefix) {
		entries += run.Entries
	}
	targets := []Target{}
	for _, part := range split(prefix, entries, limits) {
		targets = append(targets, Target{Prefix: part, Room: limits.room()})
	}
	targets[0].Runs = p.of(prefix) // they cover all of the parts
	return targets
}

// split cuts a leaf that is going to have so many entries into parts that have room to grow.
func split(prefix Prefix, entries int, limits Limits) []Prefix {
	if entries <= limits.RunEntries-limits.RunEntries/8 {
		return []Prefix{prefix}
	}
	digits := 1
	for entries>>digits > limits.RunEntries*3/4 && prefix.length+digits < prefixLengthMax {
		digits++
	}
	return prefix.below(min(digits, prefixLengthMax-prefix.length))
}

package ledger

import (
	"math"
	"slices"
	"time"
)

// Load is an amount of stored objects, and what it takes to read them.
type Load struct {
	Objects  int64 `json:"objects"`
	Bytes    int64 `json:"bytes"`
	Requests int64 `json:"requests"`
}

// Add adds another load.
func (l *Load) Add(o Load) {
	l.Objects, l.Bytes, l.Requests = l.Objects+o.Objects, l.Bytes+o.Bytes, l.Requests+o.Requests
}

// Inventory is what is stored, by cell.
type Inventory [Cells]Load

// In sums up some ranges.
func (v *Inventory) In(ranges []Range) Load {
	var sum Load
	for _, r := range ranges {
		for c := r.From; c <= r.To; c++ {
			sum.Add(v[c])
		}
	}
	return sum
}

// Day is how far shares are apart when they are run as they are meant to be.
const Day = 24 * time.Hour

// ahead is how far a share looks into the future: to the next one, which a timer may start some hours late.
const ahead = Day + Day/4

// Plan is what is due, and how things stand.
type Plan struct {
	Ranges  []Range `json:"ranges"`  // to be read now
	Due     Load    `json:"due"`     // what lies in them
	Stored  Load    `json:"stored"`  // everything
	Overdue Load    `json:"overdue"` // proven, but longer ago than was promised
	Never   Load    `json:"never"`   // in cells that were never proven
}

// Today plans a share. When shares are run at most a day and a quarter apart, then from the promised time after the first one on no
// byte is older than that, counted from its publication or from the last proof. The space is walked in order of age. A share is as large as the
// time since the last one wants it, so that days that were missed are made up; what would grow too old before the next
// share is always in it. A proof from the future is none.
func Today(l Ledger, v *Inventory, now time.Time, within time.Duration) Plan {
	ages, last := agesOf(l, now)
	plan := Plan{Stored: v.In(Whole()), Ranges: []Range{}}
	for c, a := range ages {
		switch {
		case !a.known:
			plan.Never.Add(v[c])
		case now.Sub(a.proven) > within:
			plan.Overdue.Add(v[c])
		}
	}
	plan.Ranges = ranges(due(ages, now, within, now.Sub(last)))
	plan.Due = v.In(plan.Ranges)
	return plan
}

// age is when a cell was last proven.
type age struct {
	cell   Cell
	proven time.Time
	known  bool
}

// agesOf returns the age of every cell, and when the last share was; a day ago when there was none.
func agesOf(l Ledger, now time.Time) (ages []age, last time.Time) {
	ages = make([]age, Cells)
	for c := range ages {
		ages[c].cell = Cell(c)
	}
	for _, p := range l {
		if p.Time.After(now) {
			continue
		}
		if p.Time.After(last) {
			last = p.Time
		}
		for c := p.From; c <= p.To; c++ {
			ages[c].proven, ages[c].known = p.Time, true
		}
	}
	if last.IsZero() {
		last = now.Add(-Day)
	}
	return ages, last
}

// due chooses the cells of a share: those whose promise would break before the next one, and of all others the oldest, as
// many as the time since the last share asks for.
func due(ages []age, now time.Time, within, since time.Duration) []Cell {
	slices.SortStableFunc(ages, func(a, b age) int { return a.proven.Compare(b.proven) })
	count := share(since, within)
	var cells []Cell
	for i, a := range ages {
		left := within - now.Sub(a.proven)
		if i < count || a.known && left >= 0 && left < ahead {
			cells = append(cells, a.cell)
		}
	}
	slices.Sort(cells)
	return cells
}

// share returns how many cells a share has: the whole space in the promised time, less the look ahead.
func share(since, within time.Duration) int {
	if within <= ahead {
		return Cells
	}
	return int(min(Cells, math.Ceil(Cells*float64(since)/float64(within-ahead))))
}

// ranges joins sorted cells.
func ranges(cells []Cell) []Range {
	joined := []Range{}
	for _, c := range cells {
		if k := len(joined) - 1; k >= 0 && joined[k].To+1 == c {
			joined[k].To = c
			continue
		}
		joined = append(joined, Range{c, c})
	}
	return joined
}

// Price is what reading costs, in any currency.
type Price struct {
	TenThousandReads float64 // per 10,000 read requests
	GiBOut           float64 // per 2³⁰ bytes that leave the store's region
}

// Of returns the cost of reading a load.
func (p Price) Of(l Load) float64 {
	return float64(l.Requests)/1e4*p.TenThousandReads + float64(l.Bytes)/(1<<30)*p.GiBOut
}

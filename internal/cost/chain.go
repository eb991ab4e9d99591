package cost

import (
	"math"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// The model of what kept points hold.
//
// A machine holds so many bytes of data, its size. In a time t a share changed(t) = 1 − (1 − c)^t of it is written over at
// least once, c being the daily churn and t in days: c after one day, less than twice c after two, since some of it is
// written twice, and never more than all. It matters only how much time lies between two points, not when.
//
// Of a chain of kept points the newest holds the size. Each older one holds besides what it does not share with the next
// younger one: what changed between the two. So a chain holds its size and the sum of changed(gap) over the gaps between
// neighbours. When a point in the middle goes, its two gaps become one, which is smaller than the two together: what both its
// neighbours had in common with it alone is free, and the rest is held by one of them. When the oldest goes, its gap goes.
//
// This is what Azure bills of incremental snapshots (the first holds everything, later ones what changed; deleting one
// moves what others need), and it is what a store of hash trees holds, where a chunk is kept while any kept point needs it.
// Of a store it leaves out: nodes, index and manifests (about one part in a thousand), duplicates between machines (which
// make it less), and that what is freed lies in packs until they are collected (which makes it more for a while).

// point is a live point of a chain.
type point struct {
	created int64 // seconds since 1970
	gap     int64 // bytes: what changed since the point before it; 0 of the oldest
}

// chain is what the live points of one machine in one place hold.
type chain struct {
	size   int64   // bytes of data of the machine, as they lie there
	rate   float64 // of change: the natural logarithm of 1 / (1 − daily churn), for a second
	began  int64   // when the oldest of all its points was made, live or not: what lies there was written then or later
	points []point // by time
	change int64   // bytes: the sum of all gaps
}

// Bytes that a chain holds now: what its newest point alone would hold, and what the older ones hold besides.
func (c *chain) base() int64 {
	if len(c.points) == 0 {
		return 0
	}
	return c.size
}

// changed returns how many of size bytes change at least once in so many seconds. It is rounded up: so the parts of a gap are
// never smaller than the whole, and keeping more never costs less.
func changed(size int64, rate float64, seconds int64) int64 {
	if seconds <= 0 {
		return 0
	}
	const dust = 1e-14 // what the logarithm leaves: ten percent of a GB are ten percent, and not one byte more
	share := -math.Expm1(-rate * float64(seconds))
	return min(size, int64(math.Ceil(float64(size)*share*(1-dust))))
}

func (c *chain) changed(seconds int64) int64 { return changed(c.size, c.rate, seconds) }

// rateOf returns the rate of change of a daily churn from 0 to 1.
func rateOf(dailyChurn float64) float64 { return -math.Log1p(-dailyChurn) / secondsPerDay }

// since returns how many seconds lie between the newest point and an instant; -1 when there is no point.
func (c *chain) since(at int64) int64 {
	if len(c.points) == 0 {
		return -1
	}
	return max(0, at-c.points[len(c.points)-1].created)
}

// add puts a point into the chain and returns how many bytes the chain did not hold before.
func (c *chain) add(created int64) int64 {
	if len(c.points) == 0 {
		c.began = created
		c.points = append(c.points, point{created: created})
		return c.size
	}
	before := c.change
	i := len(c.points)
	if created < c.points[i-1].created {
		i, _ = slices.BinarySearchFunc(c.points, created+1, point.compare)
	}
	added := point{created: created}
	if i > 0 {
		added.gap = c.changed(created - c.points[i-1].created)
		c.change += added.gap
	} else {
		c.began = min(c.began, created)
	}
	if i < len(c.points) {
		c.setGap(i, c.changed(c.points[i].created-created))
	}
	c.points = slices.Insert(c.points, i, added)
	return c.change - before
}

// freed is what the removal of a point lets go.
type freed struct {
	bytes int64
	// when the freed bytes were written: at created, or up to span seconds before. With atBegan, what is older than the span was
	// written at its beginning; otherwise nothing is.
	span    int64
	atBegan bool
}

// remove takes a point out of the chain. There must be one of that time.
func (c *chain) remove(created int64) freed {
	i := c.find(created)
	f := freed{bytes: c.base() + c.change, span: created - c.began, atBegan: true}
	if i > 0 {
		f.span, f.atBegan = created-c.points[i-1].created, false
	}
	switch {
	case i+1 == len(c.points):
		c.change -= c.points[i].gap
	case i == 0:
		c.setGap(1, 0)
	default:
		c.change -= c.points[i].gap
		c.setGap(i+1, c.changed(c.points[i+1].created-c.points[i-1].created))
	}
	c.cut(i)
	f.bytes -= c.base() + c.change
	return f
}

// find returns the place of a point. It looks at the oldest ones first: nearly always it is one of them that goes.
func (c *chain) find(created int64) int {
	const oldest = 4
	for i := range min(oldest, len(c.points)) {
		if c.points[i].created == created {
			return i
		}
	}
	i, found := slices.BinarySearchFunc(c.points, created, point.compare)
	if !found {
		holdfast.Invariant(false, "no point of %s is there to be removed", time.Unix(created, 0).UTC())
	}
	return i
}

func (c *chain) setGap(i int, gap int64) {
	c.change += gap - c.points[i].gap
	c.points[i].gap = gap
}

// cut takes out the i-th point by moving the shorter side: points go near the oldest end, and chains are thousands long.
func (c *chain) cut(i int) {
	if i > len(c.points)/2 {
		c.points = slices.Delete(c.points, i, i+1)
		return
	}
	copy(c.points[1:i+1], c.points[:i])
	c.points = c.points[1:]
}

func (p point) compare(created int64) int { return int(min(1, max(-1, p.created-created))) }

// owed returns for how many seconds, in the mean, what was freed must still be paid for when it goes at a time and storage has
// a minimum. What a point holds was written when it was made, or long before: of its data the share e^(−rate × x) is older than
// x seconds. So it is the mean of (minimum − age), where that is more than nothing, over this distribution.
func (f freed) owed(rate float64, created, removed, minimum int64) int64 {
	most := float64(minimum - (removed - created)) // of what was written when the point was made
	span := float64(f.span)
	switch {
	case f.bytes == 0 || most <= 0:
		return 0
	case f.span == 0 || math.IsInf(rate, 1): // all of it was written then
		return int64(math.Round(most))
	case rate == 0: // nothing ever changes: all of it was written at the beginning
		return int64(math.Round(max(0, most-span)))
	}
	reach := min(most, span)
	young := -math.Expm1(-rate * reach) // the share that is younger than reach
	mean := most*young - young/rate + reach*(1-young)
	if f.atBegan {
		mean += max(0, most-span) * math.Exp(-rate*span)
	} else {
		mean /= -math.Expm1(-rate * span)
	}
	return int64(math.Round(min(most, max(0, mean)))) // of tiny rates little is left but what rounding leaves
}

package cost

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

const (
	testDay  = secondsPerDay
	testSize = 100 << 30
)

func newChain(churn float64) *chain { return &chain{size: testSize, rate: rateOf(churn)} }

func (c *chain) held() int64 { return c.base() + c.change }

// By hand, with a churn of 10 % a day: a day changes 10 GiB of 100, two days 19, three 27.1.
func TestChain_ByHand(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		days int64
		want float64
	}{{0, 0}, {1, 10}, {2, 19}, {3, 27.1}, {1000, 100}} {
		if got := newChain(0.1).changed(c.days * testDay); math.Abs(float64(got)-c.want*gib) > 1 {
			t.Errorf("%d days change %d bytes, by hand %v GiB", c.days, got, c.want)
		}
	}
	c := newChain(0.1)
	steps := []struct {
		what string
		do   func() int64 // what is added or freed, in bytes
		want float64      // GiB
		held float64
	}{
		{"the first point is whole", func() int64 { return c.add(0) }, 100, 100},
		{"the next adds what changed", func() int64 { return c.add(testDay) }, 10, 110},
		{"and so does the third", func() int64 { return c.add(2 * testDay) }, 10, 120},
		{"one in the middle frees what changed twice", func() int64 { return c.remove(testDay).bytes }, 1, 119},
		{"the oldest frees what it alone held", func() int64 { return c.remove(0).bytes }, 19, 100},
		{"the last one frees everything", func() int64 { return c.remove(2 * testDay).bytes }, 100, 0},
		{"and then the next is whole again", func() int64 { return c.add(9 * testDay) }, 100, 100},
	}
	for _, s := range steps {
		if got := s.do(); math.Abs(float64(got)-s.want*gib) > 2 {
			t.Errorf("%s: %d bytes, by hand %v GiB", s.what, got, s.want)
		}
		if math.Abs(float64(c.held())-s.held*gib) > 2 {
			t.Errorf("%s: %d bytes are held, by hand %v GiB", s.what, c.held(), s.held)
		}
	}
}

// However points come and go, the chain holds its size and the changes between neighbours, and no gap is lost or counted twice.
func TestChain_Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.Int64Range(0, 1<<45), rapid.Int64Range(0, 1000)).Draw(t, "size") // what is rounded shows in small ones
		c := &chain{size: size, rate: rateOf(rapid.Float64Range(0, 1).Draw(t, "churn"))}
		var live []int64
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			before := c.held()
			if len(live) > 0 && rapid.IntRange(0, 2).Draw(t, "remove") > 0 {
				i := rapid.IntRange(0, len(live)-1).Draw(t, "which")
				f := c.remove(live[i])
				live = slices.Delete(live, i, i+1)
				if f.bytes < 0 || before-f.bytes != c.held() {
					t.Fatalf("%d bytes were freed, %d held before and %d after", f.bytes, before, c.held())
				}
			} else {
				at := rapid.Int64Range(0, 400*testDay).Draw(t, "at")
				added := c.add(at)
				live = append(live, at)
				slices.Sort(live)
				if added < 0 || before+added != c.held() {
					t.Fatalf("%d bytes were added, %d held before and %d after", added, before, c.held())
				}
			}
			want := int64(0)
			for i := range live {
				if i == 0 {
					want += c.size
				} else {
					want += c.changed(live[i] - live[i-1])
				}
			}
			if c.held() != want {
				t.Fatalf("%d bytes are held, the model says %d", c.held(), want)
			}
		}
	})
}

// disk is a machine's data, block by block: when each version of it was stored.
type disk [][]int64

// needed counts the versions that the kept points need.
func (d disk) needed(kept []int64) (count int64) {
	d.each(kept, func(int64) { count++ })
	return count
}

// each calls visit with the time of every version that a kept point needs.
func (d disk) each(kept []int64, visit func(stored int64)) {
	for _, versions := range d {
		for i, stored := range versions {
			gone := int64(math.MaxInt64)
			if i+1 < len(versions) {
				gone = versions[i+1]
			}
			if j, _ := slices.BinarySearch(kept, stored); j < len(kept) && kept[j] < gone {
				visit(stored)
			}
		}
	}
}

// The model against a store of blocks that are written over at random: what is held, and what is owed for what went too early,
// agree within three percent over a year of backups of which days, weeks and months are kept.
func TestChain_AgreesWithBlocks(t *testing.T) {
	const (
		blocks  = 4_000
		every   = testDay / 2
		churn   = 0.03
		minimum = 30 * testDay
	)
	random := rand.New(rand.NewPCG(7, 11))
	d := make(disk, blocks)
	c := &chain{size: blocks * 1000, rate: rateOf(churn)}
	var kept []int64
	var modelHeld, realHeld, modelOwed, realOwed float64
	for run := range int64(360) {
		now := run * every
		for b := range d {
			if run == 0 || random.Float64() < -math.Expm1(-c.rate*every) {
				d[b] = append(d[b], now)
			}
		}
		kept = append(kept, now)
		c.add(now)
		for _, gone := range outdated(kept, now) {
			before := map[int64]int64{}
			d.each(kept, func(stored int64) { before[stored]++ })
			kept = slices.DeleteFunc(slices.Clone(kept), func(at int64) bool { return at == gone })
			d.each(kept, func(stored int64) { before[stored]-- })
			for stored, n := range before {
				realOwed += float64(n) * 1000 * float64(max(0, minimum-(now-stored)))
			}
			f := c.remove(gone)
			modelOwed += float64(f.bytes) * float64(f.owed(c.rate, gone, now, minimum))
		}
		modelHeld, realHeld = modelHeld+float64(c.held()), realHeld+1000*float64(d.needed(kept))
	}
	t.Logf("held %.3f of what blocks hold, owed %.3f", modelHeld/realHeld, modelOwed/realOwed)
	if math.Abs(modelHeld/realHeld-1) > 0.03 || math.Abs(modelOwed/realOwed-1) > 0.03 {
		t.Errorf("held %v, blocks hold %v; owed %v, of blocks %v", modelHeld, realHeld, modelOwed, realOwed)
	}
}

// outdated are points older than a week, but for one a week of them until they are ten weeks old.
func outdated(kept []int64, now int64) (gone []int64) {
	for _, at := range kept {
		age := now - at
		if age > 70*testDay || age > 7*testDay && at%(7*testDay) != 0 {
			gone = append(gone, at)
		}
	}
	return gone
}

// What is owed at the ends: nothing changes, all changes at once, and nothing is owed after the minimum.
func TestFreed_Owed(t *testing.T) {
	const minimum = 30 * testDay
	for _, c := range []struct {
		what  string
		f     freed
		churn float64
		age   int64 // of the point, in days
		want  int64 // days
	}{
		{"the only point, young", freed{bytes: 1, atBegan: true}, 0.03, 10, 20},
		{"the only point, old enough", freed{bytes: 1, atBegan: true}, 0.03, 30, 0},
		{"written long before, since nothing changes", freed{bytes: 1, span: 15 * testDay, atBegan: true}, 0, 10, 5},
		{"written at the last moment, since all changes", freed{bytes: 1, span: 15 * testDay, atBegan: true}, 1, 10, 20},
		{"nothing was freed", freed{span: testDay}, 0.03, 1, 0},
	} {
		if got := c.f.owed(rateOf(c.churn), 0, c.age*testDay, minimum); got != c.want*testDay {
			t.Errorf("%s: %v days are owed, want %d", c.what, float64(got)/testDay, c.want)
		}
	}
}

// What is owed is the mean over all ages that what was freed may have, added up here in small steps.
func TestFreed_OwedIsTheMean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const minimum = 30 * testDay
		f := freed{bytes: 1, span: rapid.Int64Range(testDay/24, 60*testDay).Draw(t, "span"), atBegan: rapid.Bool().Draw(t, "atBegan")}
		rate := rateOf(rapid.Float64Range(0.001, 0.9).Draw(t, "churn"))
		age := rapid.Int64Range(0, 40*testDay).Draw(t, "age")
		const steps = 2000
		weights, mean := 0.0, 0.0
		owed := func(older float64) float64 { return max(0, float64(minimum-age)-older) }
		for i := range steps {
			from, to := float64(f.span)*float64(i)/steps, float64(f.span)*float64(i+1)/steps
			weight := math.Exp(-rate*from) - math.Exp(-rate*to)
			weights, mean = weights+weight, mean+weight*owed((from+to)/2)
		}
		if f.atBegan {
			mean += (1 - weights) * owed(float64(f.span))
		} else {
			mean /= weights
		}
		if got := float64(f.owed(rate, 0, age, minimum)); math.Abs(got-mean) > 60+mean/1000 {
			t.Fatalf("%v seconds are owed, added up %v", got, mean)
		}
	})
}

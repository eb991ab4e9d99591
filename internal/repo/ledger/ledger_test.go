package ledger_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/ledger"
)

func start() time.Time { return time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC) }

// A cell is the first three digits of a hash, and is written as such.
func TestCell(t *testing.T) {
	hash := layout.Hash{0x8d, 0xf1}
	c := ledger.CellOf(hash)
	if c.String() != hash.String()[:3] {
		t.Errorf("cell %s of %s", c, hash)
	}
	for _, text := range []string{`"8DF"`, `"8d"`, `"08df"`, `"xyz"`, `""`} {
		if err := json.Unmarshal([]byte(text), &c); err == nil {
			t.Errorf("%s is taken for a cell", text)
		}
	}
}

// The ledger is, cell by cell, the newest proof by order: compared with a plain array after any sequence of proofs, also
// after a round trip through a checkpoint's JSON.
func TestLedger_Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l ledger.Ledger
		var model [ledger.Cells]int // number of the proof, 0 for none
		for n := range rapid.IntRange(1, 12).Draw(t, "proofs") {
			ranges := drawRanges(t)
			l = l.With(ranges, ledger.Proven{Level: 1, Time: start().Add(time.Duration(n) * time.Hour), Seen: uint64(n + 1)})
			for _, r := range ranges {
				for c := r.From; c <= r.To; c++ {
					model[c] = n + 1
				}
			}
			data, err := json.Marshal(l)
			if err != nil {
				t.Fatal(err)
			}
			l = nil
			if err := json.Unmarshal(data, &l); err != nil {
				t.Fatal(err)
			}
		}
		var got [ledger.Cells]int
		for i, p := range l {
			if i > 0 && l[i-1].To+1 == p.From && l[i-1].Seen == p.Seen {
				t.Errorf("ranges %v and %v are not joined", l[i-1], p)
			}
			for c := p.From; c <= p.To; c++ {
				got[c] = int(p.Seen)
			}
		}
		if got != model {
			t.Error("the ledger is not the newest proof of each cell")
		}
		oldest := slices.Min(model[:])
		since, whole := l.Since(1)
		if whole != (oldest > 0) || whole && !since.Equal(start().Add(time.Duration(oldest-1)*time.Hour)) {
			t.Errorf("since %v (%t), the oldest proof is %d", since, whole, oldest)
		}
		if _, whole := l.Since(uint64(oldest + 1)); whole {
			t.Error("a proof that had not seen an entry covers it")
		}
	})
}

func drawRanges(t *rapid.T) []ledger.Range {
	cuts := rapid.SliceOfNDistinct(rapid.IntRange(0, ledger.Cells-1), 2, 8, rapid.ID).Draw(t, "cuts")
	slices.Sort(cuts)
	var ranges []ledger.Range
	for pair := range slices.Chunk(cuts[:len(cuts)/2*2], 2) {
		ranges = append(ranges, ledger.Range{From: ledger.Cell(pair[0]), To: ledger.Cell(pair[1])})
	}
	return ranges
}

// Hostile checkpoints: ranges that no fold makes are refused.
func TestLedger_Hostile(t *testing.T) {
	for _, text := range []string{`[{"from":"010","to":"00f"}]`, `[{"from":"000","to":"010"},{"from":"010","to":"020"}]`, `[{"from":"1000","to":"1001"}]`} {
		var l ledger.Ledger
		if err := json.Unmarshal([]byte(text), &l); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

// object is one of a simulated repository.
type object struct {
	cell   ledger.Cell
	bytes  int64
	proven time.Time // or born
}

// The promise: whatever is added and removed meanwhile, when shares are run day by day, from N days after the first one on no byte is older
// than N days. Days that are missed are made up by the next share. A share never reads more than its part and what would
// grow too old.
func TestToday_Promise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		days := rapid.IntRange(2, 40).Draw(t, "N")
		within := time.Duration(days) * ledger.Day
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		old := start().Add(-100 * ledger.Day)
		objects := born(random, 200, old)
		var l ledger.Ledger
		now := start()
		for day := range 3*days + 3 {
			for _, o := range objects {
				if age := now.Sub(o.proven); day >= days && age > within {
					t.Fatalf("day %d: a byte was read %v ago, %d days were promised", day, age, days)
				}
			}
			plan := ledger.Today(l, inventory(objects), now, within)
			l = l.With(plan.Ranges, ledger.Proven{Level: 1, Time: now, Seen: uint64(day)})
			prove(objects, plan.Ranges, now)
			if day > days && plan.Never != (ledger.Load{}) {
				t.Fatalf("day %d: %+v were never read", day, plan.Never)
			}
			now = now.Add(ledger.Day + time.Duration(random.IntN(15)-4)*time.Hour/2) // a timer is early or late
			objects = change(random, objects, now)
		}
	})
}

func born(random *rand.Rand, n int, at time.Time) []object {
	objects := make([]object, n)
	for i := range objects {
		objects[i] = object{ledger.Cell(random.IntN(ledger.Cells)), 1 + random.Int64N(1<<25), at}
	}
	return objects
}

// change is what backups and removals do in a day.
func change(random *rand.Rand, objects []object, now time.Time) []object {
	objects = slices.DeleteFunc(objects, func(object) bool { return random.IntN(20) == 0 })
	return append(objects, born(random, random.IntN(20), now.Add(-time.Hour))...)
}

func prove(objects []object, ranges []ledger.Range, now time.Time) {
	for i := range objects {
		if ledger.Has(ranges, objects[i].cell) {
			objects[i].proven = now
		}
	}
}

func inventory(objects []object) *ledger.Inventory {
	var v ledger.Inventory
	for _, o := range objects {
		v[o.cell].Add(ledger.Load{Objects: 1, Bytes: o.bytes, Requests: 1})
	}
	return &v
}

// uniform is a repository with one object of 1 MiB in each cell.
func uniform() *ledger.Inventory {
	var v ledger.Inventory
	for c := range v {
		v[c] = ledger.Load{Objects: 1, Bytes: 1 << 20, Requests: 1}
	}
	return &v
}

// Shares are even: on a repository that does not change, a daily share is the N-th part, give or take what the look ahead costs;
// run twice on one day the second finds nothing to do; after ten missed days eleven shares are done.
func TestToday_EvenShares(t *testing.T) {
	const days = 30
	var l ledger.Ledger
	now := start()
	for day := range 3 * days {
		plan := ledger.Today(l, uniform(), now, days*ledger.Day)
		if plan.Due.Objects < ledger.Cells/days || plan.Due.Objects > ledger.Cells/days*11/10 {
			t.Errorf("day %d: %d of %d objects", day, plan.Due.Objects, ledger.Cells)
		}
		if plan.Overdue.Objects != 0 || len(plan.Ranges) > 2 {
			t.Errorf("day %d: %+v", day, plan)
		}
		l = l.With(plan.Ranges, ledger.Proven{Level: 1, Time: now})
		if again := ledger.Today(l, uniform(), now, days*ledger.Day); again.Due.Objects != 0 {
			t.Errorf("day %d: %d more on the same day", day, again.Due.Objects)
		}
		now = now.Add(ledger.Day)
	}
	now = now.Add(10 * ledger.Day)
	if plan := ledger.Today(l, uniform(), now, days*ledger.Day); plan.Due.Objects < 11*ledger.Cells/days || plan.Due.Objects > 13*ledger.Cells/days || plan.Overdue.Objects == 0 {
		t.Errorf("after ten missed days: %+v", plan)
	}
}

// A proof that claims to come from the future proves nothing; a stricter promise works off what is too old by now, in shares.
func TestToday_WrongClockAndNewPromise(t *testing.T) {
	future := ledger.Ledger{}.With(ledger.Whole(), ledger.Proven{Level: 1, Time: start().Add(1000 * ledger.Day)})
	if plan := ledger.Today(future, uniform(), start(), 30*ledger.Day); plan.Never.Objects != ledger.Cells || plan.Due.Objects == 0 {
		t.Errorf("with a proof from the future: %+v", plan)
	}
	l := ledger.Ledger{}.With(ledger.Whole(), ledger.Proven{Level: 1, Time: start().Add(-20 * ledger.Day)})
	l = l.With([]ledger.Range{{From: 0, To: 0}}, ledger.Proven{Level: 1, Time: start().Add(-ledger.Day)})
	plan := ledger.Today(l, uniform(), start(), 7*ledger.Day)
	if plan.Overdue.Objects != ledger.Cells-1 || plan.Due.Objects > ledger.Cells/5 || plan.Due.Objects < ledger.Cells/7 {
		t.Errorf("with a stricter promise: %+v", plan)
	}
}

func TestPrice(t *testing.T) {
	cost := ledger.Price{TenThousandReads: 0.004, GiBOut: 0.05}.Of(ledger.Load{Bytes: 10 << 30, Requests: 25_000})
	if cost < 0.5099 || cost > 0.5101 {
		t.Errorf("cost %v", cost)
	}
}

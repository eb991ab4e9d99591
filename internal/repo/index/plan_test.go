package index_test

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
)

// Whatever is added in whatever portions, by sessions that write runs of their own and by others beside them, and however often and far
// merging goes in between: lookups answer as a map does, every run holds ids of its prefix alone and fits its limit, and merging ends.
func TestIndex_EqualsMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := index.Limits{RunEntries: rapid.SampledFrom([]int{32, 64, 200}).Draw(t, "run entries"), Stride: rapid.IntRange(1, 4).Draw(t, "stride"), AheadBytes: 1}
		f, r := newFixture(limits), newRand(rapid.Uint64().Draw(t, "seed"))
		model, live := map[chunk.ID]string{}, index.NewChange(nil)
		var ids []chunk.ID
		batch := func(n int) []index.Entry {
			entries := random(r, n)
			for i := range entries {
				if len(ids) > 0 && r.IntN(10) == 0 { // said twice, and the same place, as two writers do that merge the same runs
					entries[i].ID = ids[r.IntN(len(ids))]
				}
				if _, ok := model[entries[i].ID]; !ok {
					ids = append(ids, entries[i].ID)
				}
				model[entries[i].ID] += "|" + described(entries[i])
			}
			return entries
		}
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) {
				must(t, live.Add(t.Context(), f.merger, batch(rapid.IntRange(1, 60).Draw(t, "entries"))))
			},
			"publish much": func(t *rapid.T) {
				own := index.NewChange(nil)
				for range rapid.IntRange(1, 6).Draw(t, "spills") {
					must(t, own.Add(t.Context(), f.merger, batch(limits.RunEntries/4)))
					must(t, own.Tend(t.Context(), f.merger, rapid.IntRange(0, 1000).Draw(t, "budget")))
				}
				live.Adopt(own.Added)
			},
			"tend": func(t *rapid.T) {
				must(t, live.Tend(t.Context(), f.merger, rapid.IntRange(0, 3000).Draw(t, "budget")))
			},
			"": func(t *rapid.T) {
				x := index.New(f.reader(), live.Runs())
				for range 20 {
					if len(ids) == 0 {
						break
					}
					id := ids[r.IntN(len(ids))]
					if at := firstOf(t, x, id); at == "nowhere" || !contains(model[id], at) {
						t.Fatalf("%s is at %s, want one of %s", id, at, model[id])
					}
					if at := firstOf(t, x, randomID(r)); at != "nowhere" {
						t.Fatalf("a stranger is at %s", at)
					}
				}
			},
		})
		must(t, live.Tend(t.Context(), f.merger, 1<<30))
		if step, due := index.Plan(live.Runs(), limits); due {
			t.Fatalf("%+v is still due", step)
		}
		checkShape(t, f, live.Runs(), slices.Collect(maps.Keys(model)))
	})
}

type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contains(places, place string) bool {
	for known := range splitPlaces(places) {
		if known == place {
			return true
		}
	}
	return false
}

func splitPlaces(places string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for len(places) > 0 {
			end := 1
			for end < len(places) && places[end] != '|' {
				end++
			}
			if !yield(places[1:end]) {
				return
			}
			places = places[end:]
		}
	}
}

func firstOf(t *rapid.T, x *index.Index, id chunk.ID) string {
	var found *chunk.Place
	must(t, x.Lookup(t.Context(), id, func(p *chunk.Place) bool {
		found = p
		return true
	}))
	return describe(found)
}

// checkShape holds runs that are tended against what the plan promises.
func checkShape(t *rapid.T, f *fixture, runs []index.About, ids []chunk.ID) {
	asked, x := 0, index.New(f.reader(), runs)
	for _, id := range ids {
		asked = max(asked, x.Asked(id))
	}
	if most := askedMax(len(ids), f.limits); asked > most {
		t.Fatalf("%d runs are asked for one id of %d, at most %d should be", asked, len(ids), most)
	}
	for _, about := range runs {
		run, err := f.reader().MustOpen(t.Context(), about)
		must(t, err)
		must(t, run.Check(t.Context()))
		if run.Len() != about.Entries || run.Len() > f.limits.RunEntries*9/8 {
			t.Fatalf("%+v has %d entries", about, run.Len())
		}
		must(t, run.Entries(t.Context(), func(e index.Entry) error {
			if digits := fmt.Sprintf("%08b%08b%08b%08b", e.ID[0], e.ID[1], e.ID[2], e.ID[3]); digits[:about.Prefix.Len()] != about.Prefix.String() {
				return fmt.Errorf("%s lies in a run of prefix %s", digits, about.Prefix)
			}
			return nil
		}))
	}
}

// askedMax is the number of runs that may have to be asked for one id: in each buffer on the way to its leaf three of each size class
// up to the limit (and what comes while they are merged), and the leaf.
func askedMax(entries int, limits index.Limits) int {
	classes := (bits.Len(uint(limits.RunEntries)) + 1) / 2
	leafDigits := bits.Len(uint(entries*4/limits.RunEntries + 1))
	buffers := leafDigits/limits.Stride + 1
	return buffers*3*classes + 1
}

// grow simulates an index without its entries: what Plan makes of numbers alone, ids being spread evenly.
type grow struct {
	limits  index.Limits
	runs    []index.About
	names   int
	written int64 // entries
}

func (g *grow) do(t testing.TB, step index.Step, entries int) {
	t.Helper()
	gone := map[string]bool{}
	for _, run := range step.Dropped() {
		gone[run.Name] = true
	}
	g.runs = slices.DeleteFunc(g.runs, func(run index.About) bool { return gone[run.Name] })
	var below []index.About // runs of targets, whose entries go to the target and those beside it
	for i, target := range step.Targets {
		below = append(below, target.Runs...)
		n := entries
		for _, run := range slices.Concat(step.Runs, below) {
			if digits := target.Prefix.Len() - run.Prefix.Len(); digits >= 0 && target.Prefix.String()[:run.Prefix.Len()] == run.Prefix.String() {
				n += (run.Entries + i%2) >> digits // so that roundings do not lose entries
			}
		}
		if n == 0 {
			continue
		}
		if n > g.limits.RunEntries*9/8 {
			t.Fatalf("a run of %d entries", n)
		}
		g.names++
		g.runs = append(g.runs, index.About{Name: fmt.Sprint(g.names), Prefix: target.Prefix, Entries: n})
		g.written += int64(n)
	}
}

const tib = 8 << 20 // chunks of 128 KiB

// grown is what TestPlan_AtScale looks at.
type grown struct {
	runs, asked, steps, worst int
	amplification             float64
}

// growTo adds entries in portions, as sessions do, and does what Plan says after each.
func (g *grow) growTo(t testing.TB, from, size int) grown {
	t.Helper()
	const portion = 96 << 10 // a session's spill
	found := grown{}
	total := from
	for ; total < size; total += portion {
		g.do(t, index.PlanAdd(g.runs, portion, g.limits), portion)
		for {
			step, due := index.Plan(g.runs, g.limits)
			if !due {
				break
			}
			g.do(t, step, 0)
			found.steps, found.worst = found.steps+1, max(found.worst, step.Entries())
		}
	}
	x, r, sum := index.New(newFixture(g.limits).reader(), g.runs), newRand(1), 0
	for range 1000 {
		found.asked = max(found.asked, x.Asked(randomID(r)))
	}
	for _, run := range g.runs {
		sum += run.Entries
	}
	if sum < total*99/100 || sum > total*101/100 {
		t.Errorf("%d entries of %d are left: the simulation is wrong", sum, total)
	}
	found.runs, found.amplification = len(g.runs), float64(g.written)/float64(total)
	return found
}

// At the sizes that the format is made for, with the default limits, the number of runs that an id asks grows with the logarithm of the
// entries, runs are neither tiny nor more than a log entry can name, no step reads more than a few hundred MB, and an entry is written
// some ten times until it lies in its leaf. BenchmarkPlanAtScale goes on to 100 TiB.
func TestPlan_AtScale(t *testing.T) {
	g, last := &grow{limits: index.DefaultLimits()}, 0
	for _, size := range []int{1 * tib, 10 * tib} {
		found := g.growTo(t, last, size)
		last = size
		t.Logf("%3d TiB: %+v", size/tib, found)
		if found.asked > 6+2*bits.Len(uint(size/tib)) || found.runs > 64+size/(128<<10) || found.amplification > 30 || found.worst > 8<<20 {
			t.Error("that is too much")
		}
	}
}

// BenchmarkPlanAtScale grows the plan of an index, without its entries, to 100 TiB of chunks.
func BenchmarkPlanAtScale(b *testing.B) {
	for b.Loop() {
		g := &grow{limits: index.DefaultLimits()}
		found := g.growTo(b, 0, 100*tib)
		b.ReportMetric(float64(found.runs), "runs")
		b.ReportMetric(float64(found.asked), "runs-asked")
		b.ReportMetric(found.amplification, "written/entry")
		b.ReportMetric(float64(found.worst), "entries-in-greatest-step")
	}
}

// What makes a merge due, and what it is merged into; sizes are of a limit of 100 entries and buffers every two digits.
func TestPlan(t *testing.T) {
	limits := index.Limits{RunEntries: 100, Stride: 2}
	run := func(prefix string, entries int) index.About {
		p, ok := index.ParsePrefix(prefix)
		if !ok {
			t.Fatal(prefix)
		}
		return index.About{Name: fmt.Sprint(prefix, "/", entries), Prefix: p, Entries: entries}
	}
	for _, row := range []struct {
		name string
		runs []index.About
		want string // runs → targets with what they are merged with; "" for nothing
	}{
		{"nothing", nil, ""},
		{"a young index", []index.About{run("", 60), run("", 40)}, ""},
		{"a young index that is full", []index.About{run("", 60), run("", 41)}, "[/60 /41] → 0[] 1[]"},
		{"a very full one", []index.About{run("", 500)}, "[/500] → 000[] 001[] 010[] 011[] 100[] 101[] 110[] 111[]"},
		{"a buffer", []index.About{run("", 100), run("0", 50), run("1", 50)}, ""},
		{"a full buffer", []index.About{run("", 60), run("", 41), run("0", 30), run("1", 30)}, "[/60 /41] → 0[0/30] 1[1/30]"},
		{"a full buffer above full leaves", []index.About{run("", 101), run("0", 90), run("1", 20)}, "[/101] → 00[0/90] 01[] 1[1/20]"},
		{"a full buffer above an empty half", []index.About{run("", 101), run("0", 20)}, "[/101] → 0[0/20] 1[]"},
		{"a full buffer above a buffer", []index.About{run("", 101), run("00", 20), run("001", 5), run("01", 5), run("1", 5)}, "[/101] → 00[] 01[01/5] 1[1/5]"},
		{"a buffer with runs alike", []index.About{run("", 101), run("00", 20), run("00", 21), run("00", 22), run("001", 5), run("01", 5), run("1", 5)}, "[/101] → 00[00/20 00/21 00/22] 01[01/5] 1[1/5]"},
		{"a leaf of two runs", []index.About{run("0", 30), run("0", 31), run("1", 5)}, "[0/30 0/31] → 0[]"},
		{"a leaf that is full", []index.About{run("0", 101), run("1", 5)}, "[0/101] → 00[] 01[]"},
		{"no buffer", []index.About{run("0", 3), run("00", 31), run("01", 30)}, "[0/3] → 00[00/31] 01[01/30]"},
		{"the lowest first", []index.About{run("", 200), run("0", 3), run("00", 31), run("01", 30)}, "[0/3] → 00[00/31] 01[01/30]"},
	} {
		step, due := index.Plan(row.runs, limits)
		got := ""
		if due {
			got = names(step.Runs) + " →"
			for _, target := range step.Targets {
				got += " " + target.Prefix.String() + names(target.Runs)
			}
		}
		if got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
}

func names(runs []index.About) string {
	list := []string{}
	for _, run := range runs {
		list = append(list, run.Name)
	}
	return fmt.Sprint(list)
}

// A publication merges what is alike, in cascades, and nothing that is much larger.
func TestPlanAdd(t *testing.T) {
	limits := index.Limits{RunEntries: 10_000}
	for _, row := range []struct {
		runs    []int
		entries int
		merged  []int
	}{
		{nil, 10, nil},
		{[]int{10, 11}, 10, nil},
		{[]int{10, 11, 12}, 10, []int{10, 11, 12}},
		{[]int{10, 11, 12, 100, 101}, 10, []int{10, 11, 12}},
		{[]int{1, 2, 3, 6, 7, 8, 24, 25, 26}, 1, []int{1, 2, 3, 6, 7, 8, 24, 25, 26}},
		{[]int{1, 2, 3, 16, 17, 60, 61, 62}, 1, []int{1, 2, 3}},
		{[]int{5, 6, 7}, 1000, []int{5, 6, 7}},
		{[]int{9000, 9000, 9000}, 9000, nil}, // no run may be that large
		{[]int{0, 10, 11}, 10, nil},          // nobody knows the first one
	} {
		var runs []index.About
		for i, n := range row.runs {
			runs = append(runs, index.About{Name: fmt.Sprint(i), Entries: n})
		}
		runs = append(runs, index.About{Name: "another partition", Prefix: mustPrefix("0"), Entries: row.entries})
		step := index.PlanAdd(runs, row.entries, limits)
		var merged []int
		for _, run := range step.Targets[0].Runs {
			merged = append(merged, run.Entries)
		}
		if !slices.Equal(merged, row.merged) || len(step.Targets) != 1 || len(step.Runs) > 0 {
			t.Errorf("%d to %v: merged with %v, want %v", row.entries, row.runs, merged, row.merged)
		}
	}
}

func mustPrefix(digits string) index.Prefix {
	p, ok := index.ParsePrefix(digits)
	if !ok {
		panic(digits)
	}
	return p
}

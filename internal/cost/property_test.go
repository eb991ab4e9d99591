package cost_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cost"
)

// life is when a point is made and when it goes, in hours from the beginning; never when gone is beyond the end.
type life struct {
	kind       holdfast.PointKind
	repository string
	made, gone int
}

const hoursOfTest = 24 * 100

// drawLives makes points of one machine: some snapshots, and backups and archives into repositories of all tiers.
func drawLives(t *rapid.T) []life {
	places := []life{
		{kind: holdfast.PointSnapshot},
		{kind: holdfast.PointBackup, repository: "hot"},
		{kind: holdfast.PointBackup, repository: "cool"},
		{kind: holdfast.PointBackup, repository: "cold"},
		{kind: holdfast.PointBackup, repository: "folder"},
		{kind: holdfast.PointArchive, repository: "archive"},
	}
	var lives []life
	for range rapid.IntRange(0, 40).Draw(t, "points") {
		l := rapid.SampledFrom(places).Draw(t, "place")
		l.made = rapid.IntRange(0, hoursOfTest-1).Draw(t, "made")
		l.gone = l.made + rapid.IntRange(0, hoursOfTest).Draw(t, "kept")
		lives = append(lives, l)
	}
	return lives
}

func drawSetting(t *rapid.T, p *cost.Prices) cost.Setting {
	ratio := rapid.OneOf(rapid.Float64Range(0, 1), rapid.SampledFrom([]float64{0, 0.5, 1}))
	return cost.Setting{
		Prices:      p,
		Assumptions: cost.Assumptions{Occupied: ratio.Draw(t, "occupied"), DailyChurn: ratio.Draw(t, "churn"), Compression: ratio.Draw(t, "compression")},
		Repositories: []cost.Repository{
			{Name: "hot", Region: "westeurope", Tier: holdfast.TierHot, ReadEvery: 30 * 24 * time.Hour, Immutable: true},
			{Name: "cool", Region: "northeurope", Tier: holdfast.TierCool, Redundancy: cost.ZRS},
			{Name: "cold", Region: "eastus", Tier: holdfast.TierCold, ReadEvery: 90 * 24 * time.Hour},
			{Name: "folder"},
			{Name: "archive", Region: "japaneast", Tier: holdfast.TierArchive},
		},
		Zonal:  []string{"westeurope"},
		Reader: rapid.SampledFrom([]string{"", "northeurope"}).Draw(t, "reader"),
	}
}

// tell tells a machine of its points in order of time.
func tell(v *cost.Machine, lives []life) {
	type event struct {
		hour int
		do   func()
	}
	var events []event
	for _, l := range lives {
		p := cost.Point{Kind: l.kind, Repository: l.repository, Created: begin().Add(time.Duration(l.made) * time.Hour)}
		if l.kind == holdfast.PointArchive {
			p.Source = "cool"
		}
		events = append(events, event{l.made, func() { v.Made(p) }})
		if l.gone < hoursOfTest {
			at := begin().Add(time.Duration(l.gone) * time.Hour)
			events = append(events, event{l.gone, func() { v.Removed(p, at) }})
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return a.hour - b.hour })
	for _, e := range events {
		e.do()
	}
}

func report(t *rapid.T, s cost.Setting, machines ...[]life) (*cost.Meter, cost.Report) {
	m, err := cost.NewMeter(s, begin())
	if err != nil {
		t.Fatal(err)
	}
	for i, lives := range machines {
		tell(m.Machine(vm(fmt.Sprint("vm-", i), int64(10+i)), cost.Protection{Policy: fmt.Sprint("policy-", i%2)}), lives)
	}
	return m, m.Report(begin().Add(hoursOfTest * time.Hour))
}

// No cost and no quantity is negative, each part is the sum of its lines, the total that of the parts, the month that of its policies and
// of its machines; and the same events give the same report, byte for byte.
func TestReport_AddsUp(t *testing.T) {
	p := prices(t)
	rapid.Check(t, func(t *rapid.T) {
		s := drawSetting(t, p)
		machines := [][]life{drawLives(t), drawLives(t), drawLives(t)}
		m, r := report(t, s, machines...)
		for i, month := range r.Months {
			check(t, month.Costs)
			var policies, single cost.Money
			for _, p := range month.Policies {
				check(t, p.Costs)
				policies += p.Costs.Total
			}
			for _, v := range m.Machines(r, i) {
				check(t, v.Costs)
				single += v.Costs.Total
			}
			if policies != month.Costs.Total || single != month.Costs.Total {
				t.Fatalf("month %d costs %d, its policies %d, its machines %d", i, month.Costs.Total, policies, single)
			}
		}
		_, again := report(t, s, machines...)
		first, _ := json.Marshal(r)
		second, err := json.Marshal(again)
		if err != nil || string(first) != string(second) {
			t.Fatalf("the same events give two reports, %v", err)
		}
	})
}

func check(t *rapid.T, c cost.Costs) {
	parts := map[cost.Part]cost.Money{}
	for _, l := range c.Lines {
		if l.Cost < 0 || l.Quantity < 0 || math.IsNaN(l.Quantity) || l.Price == cost.PriceUnknown {
			t.Fatalf("line %+v", l)
		}
		parts[l.Part] += l.Cost
	}
	if c.Snapshots != parts[cost.PartSnapshots] || c.Backups != parts[cost.PartBackups] || c.Archives != parts[cost.PartArchives] ||
		c.Traffic != parts[cost.PartTraffic] || c.Transactions != parts[cost.PartTransactions] ||
		c.Total != c.Snapshots+c.Backups+c.Archives+c.Traffic+c.Transactions {
		t.Fatalf("%+v is not the sum of its lines", c)
	}
}

// Machines cost together what each costs alone, to the last digit, in every month.
func TestReport_MachinesAreIndependent(t *testing.T) {
	p := prices(t)
	rapid.Check(t, func(t *rapid.T) {
		s := drawSetting(t, p)
		a, b := drawLives(t), drawLives(t)
		_, both := report(t, s, a, b)
		_, first := report(t, s, a)
		_, second := report(t, s, nil, b)
		for i := range both.Months {
			if both.Months[i].Costs.Total != first.Months[i].Costs.Total+second.Months[i].Costs.Total {
				t.Fatalf("month %d: %d together, %d and %d alone", i, both.Months[i].Costs.Total, first.Months[i].Costs.Total, second.Months[i].Costs.Total)
			}
		}
	})
}

// Keeping points longer never makes storage cheaper, in any month and place. (Requests, and what is owed for deleting early, may
// become less.)
func TestReport_KeepingLongerIsNeverCheaper(t *testing.T) {
	p := prices(t)
	rapid.Check(t, func(t *rapid.T) {
		s := drawSetting(t, p)
		short := drawLives(t)
		long := slices.Clone(short)
		for i := range long {
			long[i].gone += rapid.IntRange(0, hoursOfTest).Draw(t, "longer")
		}
		_, less := report(t, s, short)
		_, more := report(t, s, long)
		for i := range less.Months {
			before, after := storage(less.Months[i].Costs), storage(more.Months[i].Costs)
			for place, cost := range before {
				if after[place] < cost {
					t.Fatalf("month %d, %s: %d, and %d when all is kept longer", i, place, cost, after[place])
				}
			}
		}
	})
}

// storage returns what lies in each place costs.
func storage(c cost.Costs) map[string]cost.Money {
	by := map[string]cost.Money{}
	for _, l := range c.Lines {
		if l.Meter == "newest point" || l.Meter == "older points" {
			by[string(l.Part)+l.Repository] += l.Cost
		}
	}
	return by
}

// The benchmark is the largest installation that is planned for: 3,000 machines with 24 snapshots and a backup a day for 90 days, of which
// a week of snapshots and a month of backups are kept. Events come in order of time, as a simulation makes them.
func BenchmarkMeter(b *testing.B) {
	const machines, days = 3000, 90
	for b.Loop() {
		m, calls := meter(b, nil), cost.NewCalls()
		costs, callers := make([]*cost.Machine, machines), make([]*cost.Caller, machines)
		for i := range machines {
			machine := vm(fmt.Sprint("vm-", i), 128)
			costs[i], callers[i] = m.Machine(machine, cost.Protection{Policy: fmt.Sprint("policy-", i%10)}), calls.Machine(machine)
		}
		for hour := range days * 24 {
			for i := range machines {
				protect(costs[i], callers[i], hour)
			}
		}
		r := m.Report(begin().AddDate(0, 0, days))
		b.ReportMetric(r.Months[1].Costs.Total.Float(), "USD/month")
		b.ReportMetric(float64(len(calls.Report().Findings)), "findings")
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(machines*days*25), "ns/point")
}

// protect is what one machine is told of in an hour.
func protect(v *cost.Machine, calls *cost.Caller, hour int) {
	at := begin().Add(time.Duration(hour) * time.Hour)
	v.Made(cost.Point{Kind: holdfast.PointSnapshot, Created: at})
	calls.Do(at, cost.WorkSnapshot)
	if old := hour - 7*24; old >= 0 {
		v.Removed(cost.Point{Kind: holdfast.PointSnapshot, Created: at.AddDate(0, 0, -7)}, at)
		calls.Do(at, cost.WorkRemove)
	}
	if hour%24 != 22 {
		return
	}
	v.Made(cost.Point{Kind: holdfast.PointBackup, Repository: "main", Created: at})
	calls.Do(at, cost.WorkBackup)
	if old := hour - 30*24; old >= 0 {
		v.Removed(cost.Point{Kind: holdfast.PointBackup, Repository: "main", Created: at.AddDate(0, 0, -30)}, at)
	}
}

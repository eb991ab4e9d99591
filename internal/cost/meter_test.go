package cost_test

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cost"
)

const gib = 1 << 30

func begin() time.Time { return time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC) }

// vm is a machine in West Europe with one disk.
func vm(name string, gigabytes int64) holdfast.InventoryVM {
	return holdfast.InventoryVM{
		ID: holdfast.NewResourceID("s", "g", "Microsoft.Compute/virtualMachines", name), Name: name, Region: "westeurope",
		Disks: []holdfast.InventoryDisk{{LUN: holdfast.OSDisk, Name: name + "-os", SizeBytes: gigabytes * gib}},
	}
}

func prices(t testing.TB) *cost.Prices {
	t.Helper()
	p, err := cost.BuiltIn()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func meter(t testing.TB, change func(*cost.Setting)) *cost.Meter {
	t.Helper()
	s := cost.Setting{
		Prices: prices(t), Assumptions: cost.DefaultAssumptions(),
		Repositories: []cost.Repository{{Name: "main", Region: "westeurope", Tier: holdfast.TierHot}},
	}
	if change != nil {
		change(&s)
	}
	m, err := cost.NewMeter(s, begin())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// By hand: a disk of 200 GiB is half full, so a snapshot holds 100 GiB, for 0.05 USD a GB-month. The second one is a day older:
// 3 % of it changed, 3 GiB. Both are there for the 30 days from 2 March on, of the 31 that March has.
func TestMeter_SnapshotsByHand(t *testing.T) {
	m := meter(t, nil)
	v := m.Machine(vm("a", 200), cost.Protection{Policy: "gold"})
	first := cost.Point{Kind: holdfast.PointSnapshot, Created: begin()}
	second := cost.Point{Kind: holdfast.PointSnapshot, Created: begin().AddDate(0, 0, 1)}
	v.Made(first)
	v.Made(second)
	r := m.Report(begin().AddDate(0, 1, 0))
	want := 0.05 * (100 + 3*30.0/31)
	if got := r.Months[0].Costs.Snapshots.Float(); got < want-1e-6 || got > want+1e-6 {
		t.Errorf("snapshots cost %v, by hand %v", got, want)
	}
	if c := r.Months[0].Costs; c.Total != c.Snapshots || !r.Months[0].Whole || len(r.Months) != 1 {
		t.Errorf("%+v", r)
	}
}

// linesOf returns the quantity and cost of each line, by part, meter and tier.
func linesOf(c cost.Costs) map[string][2]float64 {
	lines := map[string][2]float64{}
	for _, l := range c.Lines {
		lines[string(l.Part)+" "+l.Meter+" "+string(l.Tier)] = [2]float64{l.Quantity, l.Cost.Float()}
	}
	return lines
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-8*max(1, math.Abs(b)) }

// By hand: 100 GiB, of which 40 % are data and half is left after compression, so 20 GiB are stored; 10 % change a day. Two backups a
// day apart go to the cool tier of another European region, the first is removed after ten days.
func TestMeter_BackupsByHand(t *testing.T) {
	m := meter(t, func(s *cost.Setting) {
		s.Assumptions = cost.Assumptions{Occupied: 0.4, DailyChurn: 0.1, Compression: 0.5}
		s.Repositories = []cost.Repository{{Name: "north", Region: "northeurope", Tier: holdfast.TierCool, ReadEvery: 31 * 24 * time.Hour}}
	})
	v := m.Machine(vm("a", 100), cost.Protection{Policy: "gold"})
	first := cost.Point{Kind: holdfast.PointBackup, Repository: "north", Created: begin()}
	second := cost.Point{Kind: holdfast.PointBackup, Repository: "north", Created: begin().AddDate(0, 0, 1)}
	v.Made(first)
	v.Made(second)
	v.Removed(first, begin().AddDate(0, 0, 10))
	got := linesOf(m.Report(begin().AddDate(0, 1, 0)).Months[0].Costs)

	kept := 20 + 2*9/31.0 // GiB in the mean: 20 all the month, and the 2 that the first alone holds for nine days
	// What the first alone held, 2 GiB, was written when it was made, for there was nothing before: 20 days too early.
	early := 2 * 20 / 31.0
	requests := 2 // points
	for line, want := range map[string][2]float64{
		"backups newest point cool":        {20, 20 * 0.01},
		"backups older points cool":        {kept - 20, (kept - 20) * 0.01},
		"backups early deletion cool":      {early, early * 0.01},
		"traffic data moved ":              {22, 22 * 0.02},
		"transactions write requests cool": {float64(1280+128+requests*cost.WritesPerPoint+1) / 1e4, float64(1280+128+requests*cost.WritesPerPoint+1) / 1e4 * 0.1},
		"transactions read requests cool":  {(float64(requests*cost.ReadsPerPoint) + kept*64) / 1e4, (float64(requests*cost.ReadsPerPoint) + kept*64) / 1e4 * 0.01},
		"transactions list requests cool":  {float64(requests*cost.ListsPerPoint) / 1e4, float64(requests*cost.ListsPerPoint) / 1e4 * 0.05},
		"transactions other requests cool": {float64(requests*cost.OthersPerPoint) / 1e4, float64(requests*cost.OthersPerPoint) / 1e4 * 0.004},
		"transactions data read cool":      {kept, kept * 0.01}, // all that is stored is read once a month to prove it
	} {
		if !near(got[line][0], want[0]) || !near(got[line][1], want[1]) {
			t.Errorf("%s: %v for %v, by hand %v for %v", line, got[line][0], got[line][1], want[0], want[1])
		}
		delete(got, line)
	}
	if len(got) > 0 {
		t.Errorf("more lines: %v", got)
	}
}

// By hand: an archive is copied from a cool repository in another continent: read there, moved from there, kept for a day, owed for 179.
func TestMeter_ArchivesByHand(t *testing.T) {
	m := meter(t, func(s *cost.Setting) {
		s.Assumptions = cost.Assumptions{Occupied: 0.5, DailyChurn: 0.03, Compression: 0.5}
		s.Repositories = []cost.Repository{
			{Name: "west", Region: "westeurope", Tier: holdfast.TierCool},
			{Name: "vault", Region: "eastus", Tier: holdfast.TierArchive, Immutable: true},
		}
	})
	v := m.Machine(vm("a", 128), cost.Protection{Policy: "gold"})
	archive := cost.Point{Kind: holdfast.PointArchive, Repository: "vault", Source: "west", Created: begin()}
	v.Made(archive)
	v.Removed(archive, begin().AddDate(0, 0, 1))
	got := linesOf(m.Report(begin().AddDate(0, 1, 0)).Months[0].Costs)
	for line, want := range map[string][2]float64{
		"archives newest point archive":       {32 / 31.0, 32 / 31.0 * 0.00099},
		"archives early deletion archive":     {32 * 179 / 31.0, 32 * 179 / 31.0 * 0.00099},
		"traffic data moved ":                 {32, 32 * 0.05},
		"transactions data read cool":         {32, 32 * 0.01},
		"transactions read requests cool":     {2048 / 1e4, 2048 / 1e4 * 0.01},
		"transactions write requests archive": {2048 / 1e4, 2048 / 1e4 * 0.1},
	} {
		if !near(got[line][0], want[0]) || !near(got[line][1], want[1]) {
			t.Errorf("%s: %v for %v, by hand %v for %v", line, got[line][0], got[line][1], want[0], want[1])
		}
	}
	if _, ok := got["transactions write requests hot"]; !ok {
		t.Errorf("what is not data does not lie in the hot tier: %v", got)
	}
}

// Where Holdfast reads elsewhere, plain bytes cross the border to there and compressed ones the border to the repository; a backup
// that reads everything moves everything.
func TestMeter_ReaderElsewhere(t *testing.T) {
	m := meter(t, func(s *cost.Setting) {
		s.Reader = "northeurope"
		s.Assumptions = cost.Assumptions{Occupied: 1, DailyChurn: 0.1, Compression: 0.5}
	})
	v := m.Machine(vm("a", 10), cost.Protection{Policy: "gold"})
	for day := range 3 {
		v.Made(cost.Point{Kind: holdfast.PointBackup, Repository: "main", Created: begin().AddDate(0, 0, day), Full: day == 2})
	}
	moved := map[string]float64{}
	for _, l := range m.Report(begin().AddDate(0, 1, 0)).Months[0].Costs.Lines {
		if l.Part == cost.PartTraffic {
			moved[l.Region+" "+l.ToRegion] = l.Quantity
		}
	}
	if !near(moved["westeurope northeurope"], 10+1+10) || !near(moved["northeurope westeurope"], 5+0.5+0.5) || len(moved) != 2 {
		t.Errorf("moved %v", moved)
	}
}

// Locks of what points share are moved once in a window of ten days, not by each point.
func TestMeter_LocksAreMovedOnceInAWindow(t *testing.T) {
	m := meter(t, func(s *cost.Setting) {
		s.Assumptions = cost.Assumptions{Occupied: 1, DailyChurn: 0, Compression: 1}
		s.Repositories[0].Immutable = true
	})
	v := m.Machine(vm("a", 10), cost.Protection{})
	for day := range 30 {
		v.Made(cost.Point{Kind: holdfast.PointBackup, Repository: "main", Created: begin().AddDate(0, 0, day)})
	}
	for _, l := range m.Report(begin().AddDate(0, 1, 0)).Months[0].Costs.Lines {
		if want := float64(30*cost.OthersPerPoint+2*640) / 1e4; l.Meter == "other requests" && !near(l.Quantity, want) {
			t.Errorf("%v other requests, want %v: 640 packs at day 10 and at day 20", l.Quantity, want)
		}
	}
}

// A point that was there before costs storage from the beginning on and no requests; months are those of the calendar, cut at both
// ends; and a folder costs nothing.
func TestMeter_Edges(t *testing.T) {
	s := cost.Setting{Prices: prices(t), Assumptions: cost.DefaultAssumptions(), Repositories: []cost.Repository{{Name: "folder"}}}
	from := time.Date(2026, 1, 20, 12, 0, 0, 0, time.UTC)
	m, err := cost.NewMeter(s, from)
	if err != nil {
		t.Fatal(err)
	}
	v := m.Machine(vm("a", 10), cost.Protection{})
	v.Made(cost.Point{Kind: holdfast.PointSnapshot, Created: from.AddDate(0, -1, 0)})
	v.Made(cost.Point{Kind: holdfast.PointBackup, Repository: "folder", Created: from.AddDate(0, -1, 0)})
	v.Made(cost.Point{Kind: holdfast.PointBackup, Repository: "unheard of", Created: from})
	r := m.Report(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC))
	if len(r.Months) != 3 || r.Months[0].Whole || !r.Months[1].Whole || r.Months[2].Whole || r.Typical() != 1 {
		t.Fatalf("months %+v", r.Months)
	}
	days := []float64{11.5 / 31, 1, 1.0 / 31}
	for i, month := range r.Months {
		if want := 5 * days[i] * 0.05; !near(month.Costs.Total.Float(), want) || month.Costs.Total != month.Costs.Snapshots {
			t.Errorf("month %d costs %v, want %v", i, month.Costs.Total.Float(), want)
		}
		for _, l := range month.Costs.Lines {
			if (l.Price == cost.PriceNotApplicable) != (l.Repository != "") {
				t.Errorf("line %+v", l)
			}
		}
	}
}

// What was there before the simulation began asked for nothing in it.
func TestMeter_PointsFromBeforeSendNoRequests(t *testing.T) {
	m := meter(t, nil)
	v := m.Machine(vm("a", 10), cost.Protection{})
	v.Made(cost.Point{Kind: holdfast.PointBackup, Repository: "main", Created: begin().Add(-time.Second)})
	if c := m.Report(begin().AddDate(0, 1, 0)).Months[0].Costs; c.Transactions != 0 || c.Backups == 0 {
		t.Errorf("%+v", c)
	}
}

// Snapshots are zone-redundant where the region has zones, and locally redundant elsewhere; each at its own price.
func TestMeter_RedundancyOfSnapshots(t *testing.T) {
	table := patched(t, `"snapshot", "redundancy": "ZRS", "region": "westeurope", "unit": "GB-month", "price": 0.05`,
		`"snapshot", "redundancy": "ZRS", "region": "westeurope", "unit": "GB-month", "price": 0.06`)
	dearer, err := cost.ReadPrices(table)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		zonal []string
		want  cost.Redundancy
		price float64
	}{{nil, cost.LRS, 0.05}, {[]string{"eastus", "westeurope"}, cost.ZRS, 0.06}} {
		m := meter(t, func(s *cost.Setting) { s.Prices, s.Zonal = dearer, c.zonal })
		m.Machine(vm("a", 10), cost.Protection{}).Made(cost.Point{Kind: holdfast.PointSnapshot, Created: begin()})
		for _, l := range m.Report(begin().AddDate(0, 1, 0)).Months[0].Costs.Lines {
			if l.Redundancy != c.want || l.UnitPrice.Float() != c.price {
				t.Errorf("zones in %v: %+v", c.zonal, l)
			}
		}
	}
}

// The rows of both kinds of policy, as costs see them; what goes to a place of its own in a region does.
func TestRows(t *testing.T) {
	schedule := holdfast.SchedulePolicy{Rows: []holdfast.ScheduleRow{
		{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, KeepCount: 7},
		{Flag: holdfast.Weekly, Kind: holdfast.PointBackup, KeepFor: holdfast.Days(30), Repository: "main"},
	}}
	want := []cost.Row{snapshotRow(7), {Flag: holdfast.Weekly, Kind: holdfast.PointBackup, Repository: "main", KeepFor: holdfast.Days(30)}}
	if got := cost.ScheduleRows(schedule); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	template := holdfast.SLATemplate{Rows: []holdfast.SLARow{
		{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, KeepFor: holdfast.Days(2)},
		{Flag: holdfast.Daily, Kind: holdfast.PointBackup, KeepFor: holdfast.Days(30)},
		{Flag: holdfast.Monthly, Kind: holdfast.PointArchive, KeepFor: holdfast.Years(3)},
	}}
	storage := holdfast.StorageTemplate{
		Backups:  holdfast.Placement{Default: "main", Regions: map[string]string{"eastus": "east"}},
		Archives: holdfast.Placement{Default: "vault"},
	}
	want = []cost.Row{
		{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, KeepFor: holdfast.Days(2)},
		backupRow("east", holdfast.Days(30)),
		{Flag: holdfast.Monthly, Kind: holdfast.PointArchive, Repository: "vault", KeepFor: holdfast.Years(3)},
	}
	if got := cost.SLARows(template, storage, "eastus"); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Repositories come from documents with what is known of them there.
func TestRepositories(t *testing.T) {
	got := cost.Repositories([]holdfast.RepositorySpec{{Name: "main", Region: "eastus", Tier: holdfast.TierCool, Immutable: true}})
	got = append(got, cost.Repositories([]holdfast.RepositorySpec{{Name: "twice", Region: "eastus", Tier: holdfast.TierCool, Redundancy: holdfast.RedundancyGRS}})...)
	if want := []cost.Repository{
		{Name: "main", Region: "eastus", Tier: holdfast.TierCool, Immutable: true},
		{Name: "twice", Region: "eastus", Tier: holdfast.TierCool, Redundancy: cost.GRS},
	}; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestReport_AssumedLRS names the repositories whose redundancy had to be assumed: not those that say it, nor folders.
func TestReport_AssumedLRS(t *testing.T) {
	m, err := cost.NewMeter(cost.Setting{Prices: prices(t), Assumptions: cost.DefaultAssumptions(), Repositories: []cost.Repository{
		{Name: "silent", Region: "westeurope", Tier: holdfast.TierHot}, {Name: "said", Region: "westeurope", Tier: holdfast.TierHot, Redundancy: cost.LRS}, {Name: "shelf"},
	}}, begin())
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Report(begin().AddDate(0, 1, 0)).AssumedLRS; !slices.Equal(got, []string{"silent"}) {
		t.Errorf("LRS is assumed of %q, want silent alone", got)
	}
}

func TestMeter_Refused(t *testing.T) {
	twice := []cost.Repository{{Name: "a"}, {Name: "a"}}
	for _, c := range []struct {
		setting cost.Setting
		field   string
	}{
		{cost.Setting{}, ""},
		{cost.Setting{Prices: prices(t), Assumptions: cost.Assumptions{Occupied: 1.1}}, "occupied"},
		{cost.Setting{Prices: prices(t), Assumptions: cost.Assumptions{DailyChurn: -0.1}}, "dailyChurn"},
		{cost.Setting{Prices: prices(t), Assumptions: cost.Assumptions{Compression: math.NaN()}}, "compression"},
		{cost.Setting{Prices: prices(t), Repositories: twice}, "repositories"},
	} {
		_, err := cost.NewMeter(c.setting, begin())
		var e *holdfast.Error
		if !errors.As(err, &e) || e.Field != c.field {
			t.Errorf("%+v: %v, want the field %q", c.setting, err, c.field)
		}
	}
}

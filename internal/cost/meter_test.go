package cost_test

import (
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

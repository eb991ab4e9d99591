package cost_test

import (
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cost"
)

// daily makes points of a kind every day for some days, and keeps each for keep days.
func daily(v *cost.Machine, kind holdfast.PointKind, repository string, days, keep int) {
	for day := range days {
		at := begin().AddDate(0, 0, day)
		v.Made(cost.Point{Kind: kind, Repository: repository, Source: "main", Created: at})
		if old := day - keep; old >= 0 {
			v.Removed(cost.Point{Kind: kind, Repository: repository, Created: begin().AddDate(0, 0, old)}, at)
		}
	}
}

func backupRow(repository string, keep holdfast.Period) cost.Row {
	return cost.Row{Flag: holdfast.Daily, Kind: holdfast.PointBackup, Repository: repository, KeepFor: keep}
}

func snapshotRow(keep int) cost.Row {
	return cost.Row{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, KeepCount: keep}
}

// situation is a machine and what is done with it; the report ends after 62 days, of which two months are whole.
type situation struct {
	what    string
	setting func(*cost.Setting)
	rows    []cost.Row
	vm      func(*holdfast.InventoryVM)
	do      func(*cost.Machine)
	want    []cost.WarningKind
}

// Each warning has a situation that raises it alone and one, beside it, that just does not.
func TestWarnings(t *testing.T) {
	repositories := func(list ...cost.Repository) func(*cost.Setting) {
		return func(s *cost.Setting) { s.Repositories = list }
	}
	at := func(name, region string, tier holdfast.Tier) cost.Repository {
		return cost.Repository{Name: name, Region: region, Tier: tier}
	}
	backups := func(days, keep int) func(*cost.Machine) {
		return func(v *cost.Machine) { daily(v, holdfast.PointBackup, "main", days, keep) }
	}
	for _, s := range []situation{
		{"nothing to say", nil, []cost.Row{backupRow("main", holdfast.Days(14))}, nil, backups(62, 14), nil},

		{
			"29 days in the cool tier", repositories(at("main", "westeurope", holdfast.TierCool)),
			[]cost.Row{backupRow("main", holdfast.Days(29))},
			nil, backups(62, 29),
			[]cost.WarningKind{cost.RetentionTooShortForCoolStorage},
		},
		{"a month in the cool tier", repositories(at("main", "westeurope", holdfast.TierCool)), []cost.Row{backupRow("main", holdfast.Months(1))}, nil, backups(62, 30), nil},
		{
			"89 days in the cold tier", repositories(at("main", "westeurope", holdfast.TierCold)),
			[]cost.Row{backupRow("main", holdfast.Days(89))},
			nil, nil,
			[]cost.WarningKind{cost.RetentionTooShortForCoolStorage, cost.SimulationShortened},
		},
		{
			"hours in the archive tier", repositories(at("main", "westeurope", holdfast.TierArchive)),
			[]cost.Row{backupRow("main", holdfast.Hours(36))},
			nil, nil,
			[]cost.WarningKind{cost.RetentionTooShortForCoolStorage},
		},
		{
			"six months in the archive tier", repositories(at("main", "westeurope", holdfast.TierArchive)),
			[]cost.Row{backupRow("main", holdfast.Months(6))},
			nil, nil,
			[]cost.WarningKind{cost.SimulationShortened},
		},

		{
			"a repository in another region", repositories(at("main", "northeurope", holdfast.TierHot)),
			[]cost.Row{backupRow("main", holdfast.Days(14))},
			nil, backups(62, 14),
			[]cost.WarningKind{cost.BackupToDifferentRegion},
		},
		{"a folder", repositories(at("main", "", "")), []cost.Row{backupRow("main", holdfast.Days(14))}, nil, backups(62, 14), nil},
		{
			"an archive in another region than what it is copied from", repositories(at("main", "westeurope", holdfast.TierHot), at("vault", "northeurope", holdfast.TierArchive)), nil, nil,
			func(v *cost.Machine) { daily(v, holdfast.PointArchive, "vault", 1, 1) },
			[]cost.WarningKind{cost.BackupToDifferentRegion},
		},
		{
			"an archive beside what it is copied from", repositories(at("main", "westeurope", holdfast.TierHot), at("vault", "westeurope", holdfast.TierArchive)), nil, nil,
			func(v *cost.Machine) { daily(v, holdfast.PointArchive, "vault", 1, 1) }, nil,
		},

		{"a cool tier would do", nil, []cost.Row{backupRow("main", holdfast.Days(40))}, nil, backups(62, 40), []cost.WarningKind{cost.StorageCouldBeCheaper}},
		{
			"a cool tier would save less than one dollar", nil,
			[]cost.Row{backupRow("main", holdfast.Days(40))},
			func(m *holdfast.InventoryVM) { m.Disks[0].SizeBytes = 100 * gib }, backups(62, 40), nil,
		},
		{
			"a cool tier would cost more, since all is read every week", func(s *cost.Setting) { s.Repositories[0].ReadEvery = 7 * 24 * time.Hour },
			[]cost.Row{backupRow("main", holdfast.Days(40))},
			nil, backups(62, 40), nil,
		},
		{
			"a hot tier would do, since all is read every week", repositories(cost.Repository{Name: "main", Region: "westeurope", Tier: holdfast.TierCool, ReadEvery: 7 * 24 * time.Hour}),
			[]cost.Row{backupRow("main", holdfast.Days(40))},
			nil, backups(62, 40),
			[]cost.WarningKind{cost.StorageCouldBeCheaper},
		},

		{
			"a region without prices", repositories(at("main", "japaneast", holdfast.TierHot)),
			[]cost.Row{backupRow("main", holdfast.Days(14))},
			func(m *holdfast.InventoryVM) { m.Region = "japaneast" }, backups(62, 14),
			[]cost.WarningKind{cost.PriceIsApproximate},
		},
		{
			"a tier that is left to the account", repositories(at("main", "westeurope", holdfast.TierInferred)),
			[]cost.Row{backupRow("main", holdfast.Days(14))},
			nil, backups(62, 14),
			[]cost.WarningKind{cost.PriceIsApproximate},
		},

		{"no disks", nil, nil, func(m *holdfast.InventoryVM) { m.Disks = nil }, nil, []cost.WarningKind{cost.VMHasNoDisks}},

		{
			"thirty snapshots", nil,
			[]cost.Row{snapshotRow(30)},
			nil, func(v *cost.Machine) { daily(v, holdfast.PointSnapshot, "", 62, 30) },
			[]cost.WarningKind{cost.SnapshotsRetentionAffectsCosts},
		},
		{"five snapshots", nil, []cost.Row{snapshotRow(5)}, nil, func(v *cost.Machine) { daily(v, holdfast.PointSnapshot, "", 62, 5) }, nil},

		{"everything is read each time, from afar", func(s *cost.Setting) { s.Reader = "northeurope" }, []cost.Row{backupRow("main", holdfast.Days(14))}, nil, func(v *cost.Machine) {
			for day := range 2 {
				v.Made(cost.Point{Kind: holdfast.PointBackup, Repository: "main", Created: begin().AddDate(0, 0, day), Full: true})
			}
		}, []cost.WarningKind{cost.SnapshotsRetentionAffectsTrafficCosts}},
		{"everything is read each time, beside it", nil, []cost.Row{backupRow("main", holdfast.Days(14))}, nil, func(v *cost.Machine) {
			for day := range 2 {
				v.Made(cost.Point{Kind: holdfast.PointBackup, Repository: "main", Created: begin().AddDate(0, 0, day), Full: true})
			}
		}, nil},
		{"the first backup reads everything, from afar", func(s *cost.Setting) { s.Reader = "northeurope" }, []cost.Row{backupRow("main", holdfast.Days(14))}, nil, func(v *cost.Machine) {
			v.Made(cost.Point{Kind: holdfast.PointBackup, Repository: "main", Created: begin(), Full: true})
		}, nil},

		{
			"63 days are kept of 62 simulated", nil,
			[]cost.Row{{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, KeepFor: holdfast.Days(63)}},
			nil, nil,
			[]cost.WarningKind{cost.SimulationShortened},
		},
		{"62 days are kept of 62 simulated", nil, []cost.Row{{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, KeepFor: holdfast.Days(62)}}, nil, nil, nil},
	} {
		t.Run(s.what, func(t *testing.T) { judge(t, s) })
	}
}

func judge(t *testing.T, s situation) {
	m := meter(t, s.setting)
	machine := vm("a", 1000)
	if s.vm != nil {
		s.vm(&machine)
	}
	v := m.Machine(machine, cost.Protection{Policy: "gold", Rows: s.rows})
	if s.do != nil {
		s.do(v)
	}
	var got []cost.WarningKind
	for _, w := range m.Report(begin().AddDate(0, 0, 62)).Warnings {
		got = append(got, w.Kind)
		if w.Policy != "gold" || len(w.VMs) != 1 || w.Message == "" || w.Hint == "" {
			t.Errorf("%+v", w)
		}
		for _, row := range w.Rows {
			if !slices.Contains(s.rows, row) {
				t.Errorf("%s names the row %+v", w.Kind, row)
			}
		}
	}
	if !slices.Equal(got, s.want) {
		t.Errorf("warnings %v, want %v", got, s.want)
	}
}

// A warning about many machines and rows is one, with all of them; about another policy it is another one.
func TestWarnings_AreGathered(t *testing.T) {
	m := meter(t, func(s *cost.Setting) { s.Repositories[0].Tier = holdfast.TierCold })
	rows := []cost.Row{backupRow("main", holdfast.Days(7)), {Flag: holdfast.Weekly, Kind: holdfast.PointBackup, Repository: "main", KeepFor: holdfast.Days(30)}}
	m.Machine(vm("b", 10), cost.Protection{Policy: "gold", Rows: rows})
	m.Machine(vm("a", 10), cost.Protection{Policy: "gold", Rows: rows})
	m.Machine(vm("c", 10), cost.Protection{Policy: "bronze", Rows: rows[:1]})
	warnings := m.Report(begin().AddDate(0, 2, 0)).Warnings
	if len(warnings) != 2 {
		t.Fatalf("%+v", warnings)
	}
	if w := warnings[0]; w.Policy != "bronze" || len(w.Rows) != 1 || len(w.VMs) != 1 || w.Repository != "main" {
		t.Errorf("%+v", w)
	}
	if w := warnings[1]; w.Policy != "gold" || !slices.Equal(w.Rows, rows) || len(w.VMs) != 2 || w.VMs[0].Name() != "a" {
		t.Errorf("%+v", w)
	}
}

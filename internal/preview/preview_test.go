package preview_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cost"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

const subscription = "11111111-1111-1111-1111-111111111111"

// office is a schedule-based policy for everything in westeurope: snapshots at 07, 09 and 11 on working days, of which three
// daily and two weekly ones are kept, and a backup at 07 for three days, on Mondays for fourteen.
func office() holdfast.SchedulePolicy {
	hours := func(h ...int) []holdfast.TimeOfDay {
		var times []holdfast.TimeOfDay
		for _, hour := range h {
			times = append(times, holdfast.NewTimeOfDay(hour, 0))
		}
		return times
	}
	working, mondays := holdfast.WorkingDays, holdfast.WeekdaySet(time.Monday)
	return holdfast.SchedulePolicy{
		PolicyCommon: holdfast.PolicyCommon{Name: "office", Enabled: true, Priority: 1, Sources: holdfast.Sources{Regions: []string{"westeurope"}, All: true}},
		Rows: []holdfast.ScheduleRow{
			{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, When: holdfast.Calendar{Days: working, Times: hours(7, 9, 11)}, KeepCount: 3},
			{Flag: holdfast.Weekly, Kind: holdfast.PointSnapshot, When: holdfast.Calendar{Days: mondays, Times: hours(7)}, KeepCount: 2},
			{Flag: holdfast.Daily, Kind: holdfast.PointBackup, When: holdfast.Calendar{Days: working, Times: hours(7)}, KeepFor: holdfast.Days(3), Repository: "hot"},
			{Flag: holdfast.Weekly, Kind: holdfast.PointBackup, When: holdfast.Calendar{Days: mondays, Times: hours(7)}, KeepFor: holdfast.Days(14), Repository: "hot"},
		},
	}
}

// gold is an SLA policy for what is tagged so.
func gold() holdfast.SLAPolicy {
	return holdfast.SLAPolicy{
		PolicyCommon: holdfast.PolicyCommon{
			Name: "gold", Enabled: true, Priority: 1,
			Sources: holdfast.Sources{Regions: []string{"westeurope", "eastus"}, Include: []holdfast.Selector{{Tag: &holdfast.Tag{Name: "sla", Value: "gold"}}}},
		},
		Template: "gold", Storage: "near",
	}
}

func documents() holdfast.Documents {
	return holdfast.Documents{
		Installation:     holdfast.Installation{Zone: "Europe/Brussels", RetentionAt: holdfast.NewTimeOfDay(0, 15)},
		SchedulePolicies: []holdfast.SchedulePolicy{office()},
		SLAPolicies:      []holdfast.SLAPolicy{gold()},
		SLATemplates: []holdfast.SLATemplate{{
			Name: "gold", TargetPercent: 97, Grace: time.Hour, ChangedRanges: true, ProofLevel: 2, ProofAge: holdfast.Days(30),
			SnapshotWindow: holdfast.Window{Opens: holdfast.NewTimeOfDay(10, 0), Closes: holdfast.NewTimeOfDay(18, 0)},
			BackupWindow:   holdfast.Window{Opens: holdfast.NewTimeOfDay(22, 0), Closes: holdfast.NewTimeOfDay(6, 0)},
			Rows: []holdfast.SLARow{
				{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, Every: holdfast.Hours(4), KeepFor: holdfast.Days(2)},
				{Flag: holdfast.Daily, Kind: holdfast.PointBackup, Every: holdfast.Hours(24), KeepFor: holdfast.Days(7)},
				{Flag: holdfast.Weekly, Kind: holdfast.PointBackup, Days: holdfast.WeekdaySet(time.Sunday), KeepFor: holdfast.Days(30)},
				{Flag: holdfast.Monthly, Kind: holdfast.PointArchive, Months: holdfast.EveryMonth, On: holdfast.MonthDay{Day: 1}, KeepFor: holdfast.Months(6)},
			},
		}},
		StorageTemplates: []holdfast.StorageTemplate{{Name: "near", Backups: holdfast.Placement{Default: "hot"}, Archives: holdfast.Placement{Default: "vault"}}},
		Repositories: []holdfast.RepositorySpec{
			{Name: "hot", Region: "westeurope", Tier: holdfast.TierHot, Encrypted: true}, {Name: "vault", Region: "westeurope", Tier: holdfast.TierArchive, Encrypted: true},
		},
	}
}

// machineID is the id of the n-th machine.
func machineID(n int) holdfast.ResourceID {
	return holdfast.NewResourceID(subscription, "shop", "Microsoft.Compute/virtualMachines", fmt.Sprintf("vm-%04d", n))
}

// inventory has machines in two regions, every third of which is gold; the last one has a disk that cannot be backed up.
func inventory(n int) holdfast.Inventory {
	inv := holdfast.Inventory{Zonal: []string{"westeurope"}}
	for i := range n {
		vm := holdfast.InventoryVM{
			ID: machineID(i), Name: fmt.Sprintf("vm-%04d", i), Region: [...]string{"westeurope", "eastus"}[i%2], Tags: map[string]string{},
			Disks: []holdfast.InventoryDisk{{LUN: holdfast.OSDisk, Name: "os", SizeBytes: 128 << 30, SKU: "Premium_LRS"}},
		}
		if i%3 == 0 {
			vm.Tags["sla"] = "gold"
		}
		if i == n-1 {
			vm.Disks[0].Refused = "it is a shared disk"
		}
		inv.VMs = append(inv.VMs, vm)
	}
	return inv
}

func begin(t testing.TB, in preview.Input, from string) *preview.Preview {
	t.Helper()
	prices, err := cost.BuiltIn()
	if err != nil {
		t.Fatal(err)
	}
	in.Prices, in.Assumptions = prices, cost.DefaultAssumptions()
	p, err := preview.New(in, at(t, from))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func at(t testing.TB, text string) time.Time {
	t.Helper()
	instant, err := time.Parse("2006-01-02 15:04", text)
	if err != nil {
		t.Fatal(err)
	}
	return instant
}

// lines runs a preview and returns its events as JSON.
func lines(t testing.TB, p *preview.Preview, until time.Time) string {
	t.Helper()
	var out []byte
	for e, err := range p.Run(until) {
		if err != nil {
			t.Fatal(err)
		}
		if out, err = e.Lines(out); err != nil {
			t.Fatal(err)
		}
	}
	return string(out)
}

// said is a run as people would note it down: instant, event, machine, point, flags.
func said(t *testing.T, p *preview.Preview, until string, vm holdfast.ResourceID, names ...preview.Name) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(lines(t, p, at(t, until))) {
		var e struct {
			At, Event, Point, Flags string
			VM                      holdfast.ResourceID
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if e.VM == vm && e.Event == string(n) {
				fmt.Fprintf(&b, "%s %s %s %s\n", e.At, e.Event, e.Point, e.Flags)
			}
		}
	}
	return b.String()
}

// TestRun_Harmonised is the worked example of the catalogue, §4.4: snapshots, of which 3 daily and 2 weekly ones are kept; the
// fourth daily one of Tuesday takes the flag of Monday 07:00, which stays as a weekly one, and so on.
func TestRun_Harmonised(t *testing.T) {
	d := documents()
	d.SLAPolicies, d.SchedulePolicies[0].Rows, d.Installation.Zone = nil, d.SchedulePolicies[0].Rows[:2], "UTC"
	p := begin(t, preview.Input{Documents: d, Inventory: inventory(3)}, "2026-03-02 00:00")
	got := said(t, p, "2026-03-03 09:30", machineID(0), preview.Snapshot, preview.Unflag, preview.Remove)
	want := `2026-03-02T07:00:00Z snapshot 20260302-070000-snapshot DW
2026-03-02T09:00:00Z snapshot 20260302-090000-snapshot D
2026-03-02T11:00:00Z snapshot 20260302-110000-snapshot D
2026-03-03T07:00:00Z snapshot 20260303-070000-snapshot D
2026-03-03T07:00:00Z unflag 20260302-070000-snapshot D
2026-03-03T09:00:00Z snapshot 20260303-090000-snapshot D
2026-03-03T09:00:00Z remove 20260302-090000-snapshot D
`
	if got != want {
		t.Errorf("got\n%s\nand should have got\n%s", got, want)
	}
	if got := said(t, p, "2026-03-16 08:00", machineID(0), preview.Remove); !strings.Contains(got, "2026-03-16T07:00:00Z remove 20260302-070000-snapshot W") {
		t.Errorf("the Monday of the first week does not go on that of the third:\n%s", got)
	}
}

// TestRun_SLA meets every slot of machines that can be backed up, misses those of one that cannot, and closes periods with the
// mean over all machines.
func TestRun_SLA(t *testing.T) {
	p := begin(t, preview.Input{Documents: documents(), Inventory: inventory(7)}, "2026-06-01 00:00")
	all := lines(t, p, at(t, "2026-06-09 12:00"))
	for what, want := range map[string]string{
		"a snapshot on the wall clock of Amsterdam": `{"at":"2026-06-02T08:00:00Z","vm":"` + string(machineID(0)) + `","policy":"gold","event":"snapshot","slot":"2026-06-02T08:00:00Z","point":"20260602-080000-snapshot","flags":"D"}`,
		"its slot":                    `{"at":"2026-06-02T08:00:00Z","vm":"` + string(machineID(0)) + `","policy":"gold","event":"met","slot":"2026-06-02T08:00:00Z","point":"20260602-080000-snapshot","flags":"D","reason":"snapshot"}`,
		"a snapshot in New York":      `{"at":"2026-06-02T14:00:00Z","vm":"` + string(machineID(3)) + `","policy":"gold","event":"snapshot"`,
		"the weekly flag":             `"event":"backup","slot":"2026-06-07T20:00:00Z","point":"20260607-200000-backup-hot","flags":"DW"`,
		"the archive":                 `"event":"archive","slot":"2026-06-01T20:00:00Z","point":"20260601-200000-archive-vault","flags":"M","reason":"to vault, of the newest backup"}`,
		"a machine that is refused":   `"vm":"` + string(machineID(6)) + `","policy":"gold","event":"refused","slot":"2026-06-02T08:00:00Z","flags":"D","reason":"no snapshot: disk os: it is a shared disk"}`,
		"its slot, missed":            `{"at":"2026-06-02T12:00:00Z","vm":"` + string(machineID(6)) + `","policy":"gold","event":"missed","slot":"2026-06-02T08:00:00Z","flags":"D","reason":"snapshot: failed"}`,
		"the period, of two in three": `"event":"period","flags":"D","reason":"daily snapshots of 2026-06-02: 66.7 %, the target of 97 % is missed"`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not there: %s\n%s", what, want, grep(all, "gold", 40))
		}
	}
}

func grep(text, word string, most int) string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) && len(found) < most {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}

// TestRun_Clocks marks the day on which the clocks change.
func TestRun_Clocks(t *testing.T) {
	p := begin(t, preview.Input{Documents: documents(), Inventory: inventory(3)}, "2026-03-28 00:00")
	if all := lines(t, p, at(t, "2026-03-31 00:00")); !strings.Contains(all, `{"at":"2026-03-29T01:00:00Z","event":"clock","reason":"Europe/Brussels: the clocks go forward from 02:00 to 03:00"}`) {
		t.Errorf("no change of the clocks:\n%s", grep(all, "clock", 9))
	}
	for _, s := range p.Summary().Policies {
		for _, d := range s.Days {
			if d.Date.String() == "2026-03-29" && !d.Shifted && s.Name == "office" {
				t.Error("the day is not marked")
			}
		}
	}
}

// TestRun_Continued: a preview of some days and then some more is the preview of all of them, wherever it is cut.
func TestRun_Continued(t *testing.T) {
	in := preview.Input{Documents: documents(), Inventory: inventory(5)}
	end := at(t, "2026-04-02 00:00")
	whole := begin(t, in, "2026-03-26 00:00")
	want := lines(t, whole, end)
	wantSummary := marshal(t, whole.Summary())
	rapid.Check(t, func(rt *rapid.T) {
		p := begin(t, in, "2026-03-26 00:00")
		var got strings.Builder
		for now := at(t, "2026-03-26 00:00"); now.Before(end); {
			now = now.Add(time.Duration(rapid.IntRange(1, 100_000).Draw(rt, "seconds")) * time.Second)
			if now.After(end) {
				now = end
			}
			got.WriteString(lines(t, p, now))
		}
		if got.String() != want {
			rt.Fatalf("differs:\n%s", firstDifference(got.String(), want))
		}
		if summary := marshal(t, p.Summary()); summary != wantSummary {
			rt.Fatalf("the summaries differ:\n%s\n%s", summary, wantSummary)
		}
	})
}

// TestRun_Alike: machines that are gone through together have the events that each would have alone.
func TestRun_Alike(t *testing.T) {
	inv := inventory(9)
	all := lines(t, begin(t, preview.Input{Documents: documents(), Inventory: inv}, "2026-03-26 00:00"), at(t, "2026-04-02 00:00"))
	for _, vm := range inv.VMs {
		alone := inv
		alone.VMs = []holdfast.InventoryVM{vm}
		want := grep(lines(t, begin(t, preview.Input{Documents: documents(), Inventory: alone}, "2026-03-26 00:00"), at(t, "2026-04-02 00:00")), string(vm.ID), 1<<30)
		if got := grep(all, string(vm.ID), 1<<30); got != want {
			t.Errorf("%s: %s", vm.Name, firstDifference(got, want))
		}
	}
}

// TestRun_ExistingPoints takes over what is there: bases, and points that go by the rules in force.
func TestRun_ExistingPoints(t *testing.T) {
	old := retention.Point{
		ID: "20260301-070000-11111111", VM: machineID(0), Kind: holdfast.PointBackup, Policy: "office", Created: at(t, "2026-03-01 07:00"), Flags: holdfast.Flags(holdfast.Daily), Repository: "hot", Good: true,
	}
	d := documents()
	d.SLAPolicies = nil
	p := begin(t, preview.Input{Documents: d, Inventory: inventory(3), Points: []retention.Point{old}}, "2026-03-03 00:00")
	got := said(t, p, "2026-03-06 00:00", machineID(0), preview.Remove)
	if !strings.Contains(got, "2026-03-04T23:15:00Z remove 20260301-070000-11111111 D\n") {
		t.Errorf("a backup kept for three days does not go in the pass after them:\n%s", got)
	}
}

// TestNew_PointsLeftOut names the machines whose points cannot be part of a preview, to people in the summary and to scripts in an
// event, and says nothing of the others, however their ids are written.
func TestNew_PointsLeftOut(t *testing.T) {
	point := func(id, policy string, vm holdfast.ResourceID, created string) retention.Point {
		return retention.Point{ID: holdfast.PointID(id), VM: vm, Kind: holdfast.PointBackup, Policy: policy, Created: at(t, created), Flags: holdfast.Flags(holdfast.Daily), Repository: "hot", Good: true}
	}
	here, gone := holdfast.ResourceID(strings.ToUpper(string(machineID(0)))), machineID(99)
	p := begin(t, preview.Input{Documents: documents(), Inventory: inventory(3), Points: []retention.Point{
		point("a", "office", here, "2026-03-01 07:00"), point("b", "older", gone, "2026-03-01 07:00"), point("c", "office", gone, "2026-03-02 07:00"),
	}}, "2026-03-03 00:00")
	s := p.Summary()
	if want := []preview.LeftOut{{VM: gone, Policy: "office", Points: 2}}; !slices.Equal(s.LeftOut, want) {
		t.Errorf("left out are %+v, want %+v", s.LeftOut, want)
	}
	told := slices.ContainsFunc(s.Conclusions(), func(e preview.Event) bool {
		return e.Name == preview.Warning && e.Policy == "office" && strings.HasPrefix(e.Reason, "leftOut: ") && slices.Equal(e.Machines, []holdfast.ResourceID{gone})
	})
	if !told {
		t.Errorf("no event tells of it: %+v", s.Conclusions())
	}
}

// TestRun_ExistingArchive: what was archived before the preview began is not archived again.
func TestRun_ExistingArchive(t *testing.T) {
	d := documents()
	d.SLATemplates[0].Rows = d.SLATemplates[0].Rows[2:] // backups on Sundays, an archive on the first, which is a Wednesday
	points := []retention.Point{
		{ID: "backup", VM: machineID(0), Kind: holdfast.PointBackup, Policy: "gold", Created: at(t, "2026-06-28 20:00"), Flags: holdfast.Flags(holdfast.Weekly), Repository: "hot", Good: true},
		{ID: "archive", VM: machineID(0), Kind: holdfast.PointArchive, Policy: "gold", Created: at(t, "2026-06-28 21:00"), Flags: holdfast.Flags(holdfast.Monthly), Repository: "vault", Good: true},
	}
	for n, want := range map[int]preview.Name{1: preview.Archive, 2: preview.Refused} {
		p := begin(t, preview.Input{Documents: d, Inventory: inventory(3), Points: points[:n]}, "2026-07-01 00:00")
		if got := said(t, p, "2026-07-02 00:00", machineID(0), preview.Archive, preview.Refused); !strings.Contains(got, " "+string(want)+" ") {
			t.Errorf("with %d points there is no event %s:\n%s", n, want, got)
		}
	}
}

// TestRun_ExistingFlag: the flag of a window that a point took before the preview began is not given to another one.
func TestRun_ExistingFlag(t *testing.T) {
	d := documents()
	d.SLATemplates[0].Rows[1].Every = holdfast.Hours(2) // from 20:00 UTC on Sunday, 7 June
	first := retention.Point{
		ID: "first", VM: machineID(0), Kind: holdfast.PointBackup, Policy: "gold", Created: at(t, "2026-06-07 20:00"), Flags: holdfast.Flags(holdfast.Daily).With(holdfast.Weekly), Repository: "hot", Good: true,
	}
	for _, good := range []bool{true, false} {
		first.Good = good
		p := begin(t, preview.Input{Documents: d, Inventory: inventory(3), Points: []retention.Point{first}}, "2026-06-07 21:00")
		got := said(t, p, "2026-06-08 04:00", machineID(0), preview.Backup)
		if twice := strings.Contains(got, " DW\n"); twice == good || got == "" {
			t.Errorf("after a first point with good %t:\n%s", good, got)
		}
	}
}

// TestRun_ExistingLimit: a limit that a point brings with it is held at the close of sessions that make snapshots alone.
func TestRun_ExistingLimit(t *testing.T) {
	d := documents()
	d.SLATemplates[0].Rows = d.SLATemplates[0].Rows[:1]
	var points []retention.Point
	for i := range 3 {
		points = append(points, retention.Point{
			ID: holdfast.PointID(fmt.Sprintf("weekly-%d", i)), VM: machineID(0), Kind: holdfast.PointSnapshot, Policy: "office", Created: at(t, "2026-05-01 07:00").AddDate(0, 0, 7*i),
			Flags: holdfast.Flags(holdfast.Weekly), Good: true, Keep: retention.Keep{Weekly: retention.Limit{Counted: true, Count: 2}},
		})
	}
	p := begin(t, preview.Input{Documents: d, Inventory: inventory(3), Points: points}, "2026-06-01 00:00")
	if got, want := said(t, p, "2026-06-01 12:00", machineID(0), preview.Remove), "2026-06-01T08:00:00Z remove weekly-0 W\n"; got != want {
		t.Errorf("got %q and should have got %q", got, want)
	}
}

// TestNew_RegionWithoutZone names the machine for which nobody knows what time it is; schedule-based policies do not ask.
func TestNew_RegionWithoutZone(t *testing.T) {
	d, inv := documents(), inventory(3)
	d.SLAPolicies[0].Sources.Regions, inv.VMs[0].Region = []string{"atlantis"}, "atlantis"
	_, err := preview.New(preview.Input{Documents: d, Inventory: inv}, at(t, "2026-06-01 00:00"))
	if holdfast.KindOf(err) != holdfast.KindInvalid || !strings.Contains(err.Error(), string(machineID(0))) || !strings.Contains(err.Error(), `"atlantis"`) {
		t.Errorf("the error is %v", err)
	}
	d.SLAPolicies, d.SchedulePolicies[0].Sources.Regions = nil, []string{"atlantis"}
	p := begin(t, preview.Input{Documents: d, Inventory: inv}, "2026-06-01 00:00")
	if got := said(t, p, "2026-06-02 00:00", machineID(0), preview.Backup); got == "" {
		t.Error("a schedule-based policy backs up nothing there")
	}
}

func marshal(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return fmt.Sprintf("line %d of %d and %d:\n%s\n%s", i, len(a), len(b), a[i], append(b, "nothing")[min(i, len(b))])
		}
	}
	return "the beginning of what is wanted"
}

// TestLines_IsJSON: a line made by putting the machine into what is encoded once is the line encoded as a whole.
func TestLines_IsJSON(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		e := preview.Event{
			At: time.Unix(rapid.Int64Range(0, 4e9).Draw(rt, "at"), 0), Name: preview.Met, Policy: rapid.String().Draw(rt, "policy"), Reason: rapid.String().Draw(rt, "reason"),
			Machines: []holdfast.ResourceID{holdfast.ResourceID(rapid.String().Draw(rt, "machine") + "x"), "machine"},
		}
		out, err := e.Lines(nil)
		if err != nil {
			rt.Fatal(err)
		}
		for i, line := range bytes.Split(bytes.TrimSuffix(out, []byte("\n")), []byte("\n")) {
			var got struct{ VM, Policy, Reason string }
			if err := json.Unmarshal(line, &got); err != nil {
				rt.Fatal(err)
			}
			if want := strings.ToValidUTF8(string(e.Machines[i]), "\uFFFD"); got.VM != want || got.Reason != strings.ToValidUTF8(e.Reason, "\uFFFD") {
				rt.Fatalf("%q is not %q, %q", line, want, e.Reason)
			}
		}
	})
}

// BenchmarkRun previews a quarter of an estate under both kinds of policy.
func BenchmarkRun(b *testing.B) {
	for _, machines := range []int{1, 300, 3_000} {
		b.Run(fmt.Sprint(machines), func(b *testing.B) {
			in := preview.Input{Documents: documents(), Inventory: inventory(machines)}
			for b.Loop() {
				p, events := begin(b, in, "2026-01-01 00:00"), 0
				for e, err := range p.Run(at(b, "2026-04-01 00:00")) {
					if err != nil {
						b.Fatal(err)
					}
					events += max(1, len(e.Machines))
				}
				b.ReportMetric(float64(events), "events")
			}
		})
	}
}

// TestSummary_Cost: a month of backups that stay stores what was read of the disk, compressed, and says so to scripts.
func TestSummary_Cost(t *testing.T) {
	d := documents()
	d.SLAPolicies, d.SchedulePolicies[0].Rows = nil, d.SchedulePolicies[0].Rows[2:3]
	d.SchedulePolicies[0].Rows[0].KeepFor = holdfast.Days(365)
	p := begin(t, preview.Input{Documents: d, Inventory: inventory(3)}, "2026-02-01 00:00") // one of the three is in the region and fit
	lines(t, p, at(t, "2026-03-01 00:00"))
	// 64 GB of data at 60 %, and 3 % of it a day more, from Monday the second on.
	stored := p.Summary().Cost.Months[0].Costs.Stored(cost.PartBackups)
	if least, most := 64*0.6*26/28, 64*0.6*26/28*(1+0.03*28); stored < least || stored > most {
		t.Errorf("%.1f GB-months of backups, not between %.1f and %.1f", stored, least, most)
	}
	for _, e := range p.Summary().Conclusions() {
		if e.Name == preview.Cost && !strings.Contains(e.Reason, fmt.Sprintf("backups %.1f, archives 0.0", stored)) {
			t.Errorf("the cost is told as %q", e.Reason)
		}
	}
}

package preview_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// drawTimes are one to four times of day, in order.
func drawTimes(t *rapid.T) []holdfast.TimeOfDay {
	var times []holdfast.TimeOfDay
	for minute := rapid.IntRange(0, 300).Draw(t, "first"); minute < 24*60 && len(times) < 4; minute += rapid.IntRange(30, 900).Draw(t, "step") {
		times = append(times, holdfast.TimeOfDay(minute))
	}
	return times
}

// drawSchedule is a schedule-based policy for a region, with any of its rows.
func drawSchedule(t *rapid.T) holdfast.SchedulePolicy {
	p := office()
	p.Enabled, p.Rows = rapid.IntRange(0, 9).Draw(t, "enabled") > 0, nil
	p.Sources.Regions = []string{"westeurope", "atlantis"}
	p.Zone = rapid.SampledFrom([]string{"", "America/Santiago", "Asia/Kolkata", "Pacific/Apia"}).Draw(t, "zone")
	days := holdfast.WeekdaySet(time.Weekday(rapid.IntRange(0, 6).Draw(t, "weekday")))
	times := drawTimes(t)
	add := func(flag holdfast.Flag, kind holdfast.PointKind, when holdfast.Calendar) {
		if !rapid.Bool().Draw(t, fmt.Sprint(flag, kind)) {
			return
		}
		row := holdfast.ScheduleRow{Flag: flag, Kind: kind, When: when}
		switch kind {
		case holdfast.PointSnapshot:
			row.KeepCount = rapid.IntRange(0, 5).Draw(t, "keep")
		case holdfast.PointBackup:
			row.KeepFor, row.Repository = holdfast.Days(rapid.IntRange(1, 9).Draw(t, "days")), rapid.SampledFrom([]string{"hot", "warm"}).Draw(t, "repository")
		case holdfast.PointArchive:
			row.KeepFor, row.Repository = holdfast.Months(1), "vault"
		}
		p.Rows = append(p.Rows, row)
	}
	add(holdfast.Daily, holdfast.PointSnapshot, holdfast.Calendar{Times: times})
	add(holdfast.Daily, holdfast.PointBackup, holdfast.Calendar{Times: times[:1]})
	add(holdfast.Weekly, holdfast.PointSnapshot, holdfast.Calendar{Days: days, Times: times[:1]})
	add(holdfast.Weekly, holdfast.PointBackup, holdfast.Calendar{Days: days, Times: times[len(times)-1:]})
	add(holdfast.Monthly, holdfast.PointArchive, holdfast.Calendar{Months: holdfast.EveryMonth, On: holdfast.MonthDay{Day: rapid.IntRange(1, 31).Draw(t, "day")}, Times: drawTimes(t)[:1]})
	return p
}

// drawWindow may cross midnight, and lasts a day where it opens when it closes.
func drawWindow(t *rapid.T) holdfast.Window {
	return holdfast.Window{Opens: holdfast.NewTimeOfDay(rapid.IntRange(0, 23).Draw(t, "opens"), 0), Closes: holdfast.NewTimeOfDay(rapid.IntRange(0, 23).Draw(t, "closes"), 0)}
}

// drawTemplate is an SLA template with any rows beside a daily one of backups.
func drawTemplate(t *rapid.T) holdfast.SLATemplate {
	template := documents().SLATemplates[0]
	template.SnapshotWindow, template.BackupWindow = drawWindow(t), drawWindow(t)
	template.ChangedRanges = rapid.Bool().Draw(t, "ranged")
	template.Grace = time.Duration(rapid.IntRange(0, 180).Draw(t, "grace")) * time.Minute
	template.Rows = nil
	row := func(r holdfast.SLARow) {
		if rapid.IntRange(0, 2).Draw(t, fmt.Sprint("row", r.Flag, r.Kind)) > 0 {
			template.Rows = append(template.Rows, r)
		}
	}
	keep := holdfast.Days(rapid.IntRange(1, 8).Draw(t, "kept"))
	day := holdfast.MonthDay{Day: rapid.IntRange(1, 31).Draw(t, "on")}
	days := holdfast.WeekdaySet(time.Weekday(rapid.IntRange(0, 6).Draw(t, "weekly")))
	row(holdfast.SLARow{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, Every: holdfast.Minutes(rapid.SampledFrom([]int{60, 240, 1440}).Draw(t, "every")), KeepFor: keep})
	row(holdfast.SLARow{Flag: holdfast.Weekly, Kind: holdfast.PointSnapshot, Days: days, KeepFor: holdfast.Days(9)})
	row(holdfast.SLARow{Flag: holdfast.Monthly, Kind: holdfast.PointSnapshot, Months: holdfast.EveryMonth, On: day, KeepFor: holdfast.Months(1)})
	row(holdfast.SLARow{Flag: holdfast.Daily, Kind: holdfast.PointBackup, Every: holdfast.Hours(rapid.SampledFrom([]int{4, 8, 24}).Draw(t, "hours")), KeepFor: keep})
	row(holdfast.SLARow{Flag: holdfast.Weekly, Kind: holdfast.PointBackup, Days: days, KeepFor: holdfast.Days(9)})
	row(holdfast.SLARow{Flag: holdfast.Monthly, Kind: holdfast.PointArchive, Months: holdfast.EveryMonth, On: day, KeepFor: holdfast.Months(1)})
	return template
}

// drawPoints are points that existed before a preview began, of any machine, some of them special.
func drawPoints(t *rapid.T, machines int, from time.Time) []retention.Point {
	var points []retention.Point
	for i := range rapid.IntRange(0, 12).Draw(t, "points") {
		kind := rapid.SampledFrom([]holdfast.PointKind{holdfast.PointSnapshot, holdfast.PointBackup, holdfast.PointArchive}).Draw(t, "kind")
		p := retention.Point{
			ID: holdfast.PointID(fmt.Sprintf("old-%d", i)), VM: machineID(rapid.IntRange(0, machines-1).Draw(t, "vm")), Kind: kind, Policy: rapid.SampledFrom([]string{"office", "gold", "gone"}).Draw(t, "by"),
			Created: from.Add(-time.Duration(rapid.IntRange(1, 1_000).Draw(t, "age")) * time.Hour), Flags: holdfast.Flags(rapid.SampledFrom([]holdfast.Flag{holdfast.Daily, holdfast.Weekly}).Draw(t, "flag")),
			Good: rapid.IntRange(0, 4).Draw(t, "good") > 0,
		}
		switch rapid.IntRange(0, 3).Draw(t, "special") {
		case 0:
			p.Manual, p.Policy, p.Flags = true, "", 0
		case 1:
			p.LockedUntil = from.Add(time.Duration(rapid.IntRange(-99, 300).Draw(t, "locked")) * time.Hour)
		case 2:
			p.Base = kind == holdfast.PointSnapshot
		}
		switch kind {
		case holdfast.PointBackup:
			p.Repository = "hot"
		case holdfast.PointArchive:
			p.Repository = "vault"
		case holdfast.PointSnapshot:
		}
		points = append(points, p)
	}
	return points
}

// world is a preview's input, and what is expected of it.
type world struct {
	in      preview.Input
	from    time.Time
	until   time.Time
	existed map[string]bool // machine and point
}

func drawWorld(t *rapid.T) world {
	zones := []string{"UTC", "Europe/Brussels", "America/New_York", "Pacific/Auckland", "Australia/Lord_Howe"}
	starts := []string{"2026-03-27", "2026-10-23", "2026-03-06", "2026-04-03", "2026-12-29", "2028-02-27", "2011-12-28"}
	start, err := time.Parse(time.DateOnly, rapid.SampledFrom(starts).Draw(t, "date"))
	if err != nil {
		t.Fatal(err)
	}
	w := world{from: start.Add(time.Duration(rapid.IntRange(0, 2*24*60).Draw(t, "from")) * time.Minute), existed: map[string]bool{}}
	w.until = w.from.Add(time.Duration(rapid.IntRange(1, 14*86_400).Draw(t, "length")) * time.Second)
	d := documents()
	d.Repositories = append(d.Repositories, holdfast.RepositorySpec{Name: "warm", Region: "eastus", Tier: holdfast.TierCool, Encrypted: true})
	d.Installation.Zone = rapid.SampledFrom(zones).Draw(t, "installation")
	d.SchedulePolicies[0], d.SLATemplates[0] = drawSchedule(t), drawTemplate(t)
	d.SLAPolicies[0].Enabled = rapid.IntRange(0, 9).Draw(t, "gold enabled") > 0
	d.SLAPolicies[0].Sources.Regions = []string{"westeurope", "eastus", "australiaeast"}
	machines := rapid.IntRange(1, 7).Draw(t, "machines")
	inv := inventory(machines)
	for i := range inv.VMs {
		inv.VMs[i].Region = rapid.SampledFrom([]string{"westeurope", "eastus", "australiaeast", "atlantis"}).Draw(t, "region")
		if rapid.IntRange(0, 9).Draw(t, "disks") == 0 {
			inv.VMs[i].Disks = nil
		}
	}
	w.in = preview.Input{Documents: d, Inventory: inv, Points: drawPoints(t, machines, w.from)}
	for _, p := range w.in.Points {
		w.existed[string(p.VM)+" "+string(p.ID)] = true
	}
	return w
}

// fit reports whether points can be made of a machine.
func (w world) fit(id holdfast.ResourceID) bool {
	for _, vm := range w.in.Inventory.VMs {
		if vm.ID == id {
			return len(vm.Disks) > 0 && vm.Disks[0].Refused == ""
		}
	}
	return false
}

// wantMet compares how many slots of snapshots and backups each machine met with how many its region has.
func (w world) wantMet(t *rapid.T, met map[holdfast.ResourceID]int) {
	policy := w.in.Documents.SLAPolicies[0]
	for _, vm := range w.in.Inventory.VMs {
		want := 0
		if policy.Enabled && vm.Tags["sla"] == "gold" && vm.Region != "atlantis" && w.fit(vm.ID) {
			zone, err := plan.ZoneOfRegion(vm.Region)
			if err != nil {
				t.Fatal(err)
			}
			for slot := range schedule.Slots(w.in.Documents.SLATemplates[0], zone, w.from, w.until) {
				if slot.Kind != holdfast.PointArchive {
					want++
				}
			}
		}
		if met[vm.ID] != want {
			t.Fatalf("%s in %s met %d slots of %d", vm.Name, vm.Region, met[vm.ID], want)
		}
	}
}

// TestRun_AnyWorld: whatever the documents, the machines, the points and the days are, events come in order of time, a point is
// made once, removed once and after it was made, what is kept is what was made less what was removed, and every slot of a
// machine that can be backed up is met.
func TestRun_AnyWorld(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := drawWorld(rt)
		p := begin(t, w.in, w.from.Format("2006-01-02 15:04"))
		ends, met, now := map[string]int{}, map[holdfast.ResourceID]int{}, time.Time{}
		var made, kept int
		all := w.existed
		for e, err := range p.Run(w.until) {
			if err != nil {
				rt.Fatal(err)
			}
			if e.At.Before(now) || !e.At.Before(w.until) {
				rt.Fatalf("%+v after %s", e, now)
			}
			now = e.At
			for _, vm := range e.Machines {
				id := string(vm) + " " + string(e.Point)
				switch e.Name {
				case preview.Snapshot, preview.Backup, preview.Archive:
					if all[id] || !w.fit(vm) {
						rt.Fatalf("made again, or of what cannot be backed up: %+v", e)
					}
					all[id], made = true, made+1
				case preview.Remove:
					if !all[id] {
						rt.Fatalf("removed what is not there: %+v", e)
					}
					delete(all, id)
				case preview.Unflag:
					if !all[id] {
						rt.Fatalf("unflagged what is not there: %+v", e)
					}
				case preview.Met, preview.Missed, preview.Excused:
					ends[fmt.Sprint(vm, e.Policy, e.Slot, e.Flags, e.Reason)]++
					if e.Name == preview.Missed && w.fit(vm) && !strings.HasPrefix(e.Reason, "archive") {
						rt.Fatalf("missed: %+v", e)
					}
					if e.Name == preview.Met && !strings.HasPrefix(e.Reason, "archive") {
						met[vm]++
					}
				}
			}
		}
		w.wantMet(rt, met)
		for end, n := range ends {
			if n != 1 {
				rt.Fatalf("%s ended %d times", end, n)
			}
		}
		protected := map[string]bool{}
		for _, vm := range w.in.Inventory.VMs {
			protected[string(vm.ID)] = vm.Tags["sla"] == "gold" && vm.Region != "atlantis" || vm.Region == "westeurope" || vm.Region == "atlantis"
		}
		left := 0
		for id := range all {
			if vm, _, _ := strings.Cut(id, " "); protected[vm] {
				left++
			}
		}
		for _, s := range p.Summary().Policies {
			for _, n := range s.Kept {
				kept += n
			}
		}
		if kept != left {
			rt.Fatalf("%d are kept, and of %d made and those before %d are left", kept, made, left)
		}
	})
}

// TestRun_AnyWorldContinued: cutting a preview in two changes nothing in any world.
func TestRun_AnyWorldContinued(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := drawWorld(rt)
		from := w.from.Format("2006-01-02 15:04")
		whole := lines(t, begin(t, w.in, from), w.until)
		p := begin(t, w.in, from)
		cut := w.from.Add(time.Duration(rapid.Int64Range(0, int64(w.until.Sub(w.from))).Draw(rt, "cut")))
		if got := lines(t, p, cut) + lines(t, p, w.until); got != whole {
			rt.Fatalf("cut at %s: %s", cut, firstDifference(got, whole))
		}
	})
}

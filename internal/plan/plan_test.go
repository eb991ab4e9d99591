package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/plan"
)

const (
	shop = holdfast.ResourceID("/subscriptions/s/resourceGroups/shop/providers/Microsoft.Compute/virtualMachines/web-1")
	bank = holdfast.ResourceID("/subscriptions/s/resourceGroups/bank/providers/Microsoft.Compute/virtualMachines/db-1")
)

// office backs up at 07:00 and snapshots at 07:00 and 12:00, every day, in UTC.
func office() holdfast.SchedulePolicy {
	hours := func(h ...int) holdfast.Calendar {
		c := holdfast.Calendar{Days: holdfast.EveryDay}
		for _, hour := range h {
			c.Times = append(c.Times, holdfast.NewTimeOfDay(hour, 0))
		}
		return c
	}
	return holdfast.SchedulePolicy{
		PolicyCommon: holdfast.PolicyCommon{Name: "office", Enabled: true, Priority: 1, Retries: 3},
		Rows: []holdfast.ScheduleRow{
			{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, When: hours(7, 12), KeepCount: 4},
			{Flag: holdfast.Daily, Kind: holdfast.PointBackup, When: hours(7), KeepFor: holdfast.Days(14), Repository: "hot"},
			{
				Flag: holdfast.Weekly, Kind: holdfast.PointBackup, KeepFor: holdfast.Days(60), Repository: "hot",
				When: holdfast.Calendar{Days: holdfast.WeekdaySet(time.Monday), Times: []holdfast.TimeOfDay{holdfast.NewTimeOfDay(7, 0)}},
			},
		},
		HealthCheck: &holdfast.HealthCheck{When: holdfast.Calendar{Days: holdfast.WeekdaySet(time.Monday)}},
	}
}

// gold snapshots every hour and backs up every six from 18:00 to 06:00, with a weekly row on Mondays and an archive on the
// first day of each month.
func gold() holdfast.Documents {
	return holdfast.Documents{
		SLATemplates: []holdfast.SLATemplate{{
			Name: "gold", TargetPercent: 97, Grace: time.Hour,
			SnapshotWindow: holdfast.Window{}, BackupWindow: holdfast.Window{Opens: holdfast.NewTimeOfDay(18, 0), Closes: holdfast.NewTimeOfDay(6, 0)},
			Rows: []holdfast.SLARow{
				{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, Every: holdfast.Hours(1), KeepFor: holdfast.Days(1)},
				{Flag: holdfast.Daily, Kind: holdfast.PointBackup, Every: holdfast.Hours(6), KeepFor: holdfast.Days(30)},
				{Flag: holdfast.Weekly, Kind: holdfast.PointBackup, Days: holdfast.WeekdaySet(time.Monday), KeepFor: holdfast.Days(90)},
				{Flag: holdfast.Monthly, Kind: holdfast.PointArchive, Months: holdfast.EveryMonth, On: holdfast.MonthDay{Day: 1}, KeepFor: holdfast.Months(12)},
			},
		}},
		StorageTemplates: []holdfast.StorageTemplate{{
			Name: "near", Backups: holdfast.Placement{Default: "hot", Regions: map[string]string{"eastus": "hot-us"}}, Archives: holdfast.Placement{Default: "vault"},
		}},
		SLAPolicies: []holdfast.SLAPolicy{{
			PolicyCommon: holdfast.PolicyCommon{Name: "gold", Enabled: true, Priority: 1}, Template: "gold", Storage: "near",
		}},
	}
}

// estate makes an estate in which every policy protects the same machines.
func estate(t testing.TB, d holdfast.Documents, machines ...plan.Machine) plan.Estate {
	t.Helper()
	d.Installation.RetentionAt = holdfast.NewTimeOfDay(0, 15)
	e, err := plan.New(d, func(string) []plan.Machine { return machines })
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func officeEstate(t testing.TB) plan.Estate {
	return estate(t, holdfast.Documents{SchedulePolicies: []holdfast.SchedulePolicy{office()}}, plan.Machine{ID: shop, Region: "westeurope"}, plan.Machine{ID: bank, Region: "westeurope"})
}

func at(t testing.TB, text string) time.Time {
	t.Helper()
	instant, err := time.Parse("2006-01-02 15:04", text)
	if err != nil {
		t.Fatal(err)
	}
	return instant
}

// said are intents as text, without the daily pass.
func said(intents []plan.Intent) string {
	var lines []string
	for _, i := range intents {
		if i.Verb != plan.Retain {
			lines = append(lines, i.String())
		}
	}
	return strings.Join(lines, "\n")
}

func wantSaid(t *testing.T, intents []plan.Intent, want ...string) {
	t.Helper()
	if got := said(intents); got != strings.Join(want, "\n") {
		t.Errorf("the intents are\n%s\nand should be\n%s", got, strings.Join(want, "\n"))
	}
}

// TestDecide_Run starts a run at its time, once, with the flags of all its rows.
func TestDecide_Run(t *testing.T) {
	e := officeEstate(t)
	s := plan.Begin(e, at(t, "2026-03-01 12:30"))
	if due := s.Due(); !due.Equal(at(t, "2026-03-02 00:15")) {
		t.Errorf("the first thing to decide is at %s, not the daily pass", due)
	}
	before := plan.Decide(at(t, "2026-03-02 06:59"), e, s)
	wantSaid(t, before.Intents)
	if len(before.Intents) != 1 || before.Intents[0].Verb != plan.Retain {
		t.Errorf("the daily pass was not made up for: %v", before.Intents)
	}
	d := plan.Decide(at(t, "2026-03-02 07:00"), e, before.After)
	wantSaid(t, d.Intents, "2026-03-02T07:00:00Z start office, snapshot D, backup DW to hot, 2 machines")
	if !d.Intents[0].CheckAfter {
		t.Error("Monday's run is not followed by the health check")
	}
	wantSaid(t, plan.Decide(at(t, "2026-03-02 07:01"), e, d.After).Intents)
}

// TestDecide_AtTheBeginning decides a slot at the very instant at which an estate begins.
func TestDecide_AtTheBeginning(t *testing.T) {
	e := officeEstate(t)
	s := plan.Begin(e, at(t, "2026-03-03 07:00"))
	wantSaid(t, plan.Decide(at(t, "2026-03-03 07:00"), e, s).Intents, "2026-03-03T07:00:00Z start office, snapshot D, backup D to hot, 2 machines")
}

// TestDecide_ScheduleAfterDowntime runs the newest run once if it is less than 24 hours old, and skips the older ones aloud
// (decisions, "Fine print: Schedule-based policies after downtime").
func TestDecide_ScheduleAfterDowntime(t *testing.T) {
	e := officeEstate(t)
	s := plan.Begin(e, at(t, "2026-03-03 08:00"))
	wantSaid(t, plan.Decide(at(t, "2026-03-04 11:00"), e, s).Intents,
		"2026-03-03T12:00:00Z skip office, snapshot D, 2 machines: notRunning",
		"2026-03-04T07:00:00Z start office, snapshot D, backup D to hot, 2 machines")

	rare := office()
	rare.Rows = rare.Rows[2:] // Mondays alone
	e = estate(t, holdfast.Documents{SchedulePolicies: []holdfast.SchedulePolicy{rare}}, plan.Machine{ID: shop})
	s = plan.Begin(e, at(t, "2026-03-01 00:00"))
	wantSaid(t, plan.Decide(at(t, "2026-03-03 06:59"), e, s).Intents, "2026-03-02T07:00:00Z start office, snapshot, backup W to hot, 1 machines")
	wantSaid(t, plan.Decide(at(t, "2026-03-03 07:00"), e, s).Intents, "2026-03-02T07:00:00Z skip office, snapshot, backup W to hot, 1 machines: notRunning")
}

// TestDecide_Overlap skips a machine that is still in work, and starts the others.
func TestDecide_Overlap(t *testing.T) {
	e := officeEstate(t)
	s := plan.Begin(e, at(t, "2026-03-03 08:00"))
	s.Working[bank.Key()] = plan.Work{Backup: true}
	wantSaid(t, plan.Decide(at(t, "2026-03-03 12:00"), e, s).Intents,
		"2026-03-03T12:00:00Z skip office, snapshot D, 1 machines: overlap",
		"2026-03-03T12:00:00Z start office, snapshot D, 1 machines")
}

// TestDecide_SLA starts sessions by the wall clock of each region: snapshots and backups apart, and an archive after the
// backup of its window; every session of a window may be the one that takes the weekly flag.
func TestDecide_SLA(t *testing.T) {
	e := estate(t, gold(), plan.Machine{ID: shop, Region: "westeurope"}, plan.Machine{ID: bank, Region: "eastus"})
	s := plan.Begin(e, at(t, "2026-06-01 15:30")) // a Monday; 18:00 in westeurope is 16:00, in eastus 22:00
	wantSaid(t, plan.Decide(at(t, "2026-06-01 16:00"), e, s).Intents,
		"2026-06-01T16:00:00Z start gold in eastus, snapshot D, 1 machines",
		"2026-06-01T16:00:00Z start gold in westeurope, snapshot D, 1 machines",
		"2026-06-01T16:00:00Z start gold in westeurope, backup DW to hot, archive M to vault, 1 machines")
	s = plan.Begin(e, at(t, "2026-06-01 22:00"))
	wantSaid(t, plan.Decide(at(t, "2026-06-01 22:00"), e, s).Intents,
		"2026-06-01T22:00:00Z start gold in eastus, snapshot D, 1 machines",
		"2026-06-01T22:00:00Z start gold in eastus, backup DW to hot-us, archive M to vault, 1 machines",
		"2026-06-01T22:00:00Z start gold in westeurope, snapshot D, 1 machines",
		"2026-06-01T22:00:00Z start gold in westeurope, backup DW to hot, 1 machines")
}

// TestDecide_SLAOverlap misses a backup slot while the machine's backup runs; snapshots are made all the same.
func TestDecide_SLAOverlap(t *testing.T) {
	e := estate(t, gold(), plan.Machine{ID: shop, Region: "westeurope"})
	s := plan.Begin(e, at(t, "2026-06-02 22:00"))
	s.Working[shop.Key()] = plan.Work{Backup: true}
	wantSaid(t, plan.Decide(at(t, "2026-06-02 22:00"), e, s).Intents,
		"2026-06-02T22:00:00Z start gold in westeurope, snapshot D, 1 machines",
		"2026-06-02T22:00:00Z skip gold in westeurope, backup D to hot, 1 machines: overlap")
}

// TestDecide_SLAAfterDowntime runs the newest slot of each kind while its deadline has not passed.
func TestDecide_SLAAfterDowntime(t *testing.T) {
	e := estate(t, gold(), plan.Machine{ID: shop, Region: "westeurope"})
	s := plan.Begin(e, at(t, "2026-06-02 15:30"))
	wantSaid(t, plan.Decide(at(t, "2026-06-02 18:10"), e, s).Intents,
		"2026-06-02T16:00:00Z skip gold in westeurope, snapshot D, 1 machines: notRunning",
		"2026-06-02T16:00:00Z start gold in westeurope, backup D to hot, 1 machines",
		"2026-06-02T17:00:00Z skip gold in westeurope, snapshot D, 1 machines: notRunning",
		"2026-06-02T18:00:00Z start gold in westeurope, snapshot D, 1 machines")
	// The slot of 22:00 is due until its window closed, at 04:00, and an hour of grace.
	for now, want := range map[string]string{"2026-06-03 04:59": "start", "2026-06-03 05:00": "skip"} {
		intents := slices.DeleteFunc(plan.Decide(at(t, now), e, s).Intents, func(i plan.Intent) bool { return !i.Slot.Equal(at(t, "2026-06-02 22:00")) })
		if text := said(intents); !strings.Contains(text, want+" gold in westeurope, backup D to hot") {
			t.Errorf("at %s the backup of 22:00 is to be %sed:\n%s", now, want, text)
		}
	}
}

// TestDecide_Retries tries again what failed when its time has come, and not once the next run does the same.
func TestDecide_Retries(t *testing.T) {
	e := officeEstate(t)
	failed := []plan.Machine{{ID: shop, Region: "westeurope"}}
	again := plan.Again{
		Policy: "office", Slot: at(t, "2026-03-03 07:00"), Attempt: 1, Due: at(t, "2026-03-03 07:20"), Machines: failed,
		Makes: []plan.Making{{Kind: holdfast.PointSnapshot, Flags: holdfast.Flags(holdfast.Daily)}},
	}
	s := plan.Begin(e, at(t, "2026-03-03 07:01"))
	s.Retries = []plan.Again{again}
	wantSaid(t, plan.Decide(at(t, "2026-03-03 07:19"), e, s).Intents)
	d := plan.Decide(at(t, "2026-03-03 07:20"), e, s)
	wantSaid(t, d.Intents, "2026-03-03T07:00:00Z retry office, snapshot D, 1 machines")
	if len(d.After.Retries) != 0 || len(s.Retries) != 1 {
		t.Error("the retry is still waiting, or the state that was asked about has changed")
	}
	again.Due = at(t, "2026-03-03 12:05")
	s.Retries = []plan.Again{again}
	wantSaid(t, plan.Decide(at(t, "2026-03-03 12:05"), e, s).Intents,
		"2026-03-03T07:00:00Z skip office, snapshot D, 1 machines: superseded",
		"2026-03-03T12:00:00Z start office, snapshot D, 2 machines")
}

// TestDecide_ByHand makes each kind that the policy makes, without flags, also when it is disabled.
func TestDecide_ByHand(t *testing.T) {
	p := office()
	p.Enabled = false
	e := estate(t, holdfast.Documents{SchedulePolicies: []holdfast.SchedulePolicy{p}}, plan.Machine{ID: shop})
	s := plan.Begin(e, at(t, "2026-03-03 06:00"))
	s.Requests = []plan.Request{{Policy: "office", At: at(t, "2026-03-03 09:30")}}
	d := plan.Decide(at(t, "2026-03-03 09:30"), e, s)
	wantSaid(t, d.Intents, "2026-03-03T09:30:00Z start office, snapshot, backup to hot, 1 machines")
	if !d.Intents[0].Manual || len(d.After.Requests) != 0 {
		t.Error("the session is not a manual one, or is asked for still")
	}
}

// TestFollow decides no slot twice and passes none over when the documents change.
func TestFollow(t *testing.T) {
	before := officeEstate(t)
	s := plan.Decide(at(t, "2026-03-03 07:00"), before, plan.Begin(before, at(t, "2026-03-03 06:00"))).After
	edited := office()
	edited.Rows[0].When.Times = append(edited.Rows[0].When.Times, holdfast.NewTimeOfDay(9, 0))
	after := estate(t, holdfast.Documents{SchedulePolicies: []holdfast.SchedulePolicy{edited}}, plan.Machine{ID: shop})
	s = s.Follow(after, at(t, "2026-03-03 07:00"))
	wantSaid(t, plan.Decide(at(t, "2026-03-03 09:00"), after, s).Intents, "2026-03-03T09:00:00Z start office, snapshot D, 1 machines")
}

// TestDecide_EverySlotOnce asks at random moments and compares with asking at each due instant: every slot is decided once,
// started or skipped, and keys never repeat.
func TestDecide_EverySlotOnce(t *testing.T) {
	d := gold()
	d.SchedulePolicies = []holdfast.SchedulePolicy{office()}
	e := estate(t, d, plan.Machine{ID: shop, Region: "westeurope"}, plan.Machine{ID: bank, Region: "eastus"})
	from, to := at(t, "2026-03-27 00:00"), at(t, "2026-03-31 00:00") // the clocks of Europe change
	all := map[string]bool{}
	for s := plan.Begin(e, from); s.Due().Before(to); {
		decided := plan.Decide(s.Due(), e, s)
		for _, i := range decided.Intents {
			if i.Verb == plan.Skip || all[slotOf(i)] {
				t.Fatalf("decided at its time: %s", i)
			}
			all[slotOf(i)] = true
		}
		s = decided.After
	}
	rapid.Check(t, func(rt *rapid.T) {
		seen, keys := map[string]bool{}, map[string]bool{}
		s := plan.Begin(e, from)
		for now := from; now.Before(to); {
			now = now.Add(time.Duration(rapid.IntRange(1, 3000).Draw(rt, "minutes")) * time.Minute)
			decided := plan.Decide(minTime(now, to.Add(-1)), e, s)
			for _, i := range decided.Intents {
				if seen[slotOf(i)] || keys[i.Key()] {
					rt.Fatalf("decided twice: %s", i)
				}
				seen[slotOf(i)], keys[i.Key()] = true, true
			}
			s = decided.After
		}
		for slot := range all {
			if !seen[slot] && !strings.HasPrefix(slot, "retain") { // passes are made up for once
				rt.Fatalf("never decided: %s", slot)
			}
		}
	})
}

// slotOf names what an intent decides: its slot, whatever is done about it.
func slotOf(i plan.Intent) string {
	if i.Verb == plan.Retain {
		return fmt.Sprint("retain ", i.Slot)
	}
	return fmt.Sprint(i.Policy, i.Region, i.Slot, i.Makes)
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// BenchmarkDecide is one planning pass at an instant at which all policies have a slot.
func BenchmarkDecide(b *testing.B) {
	for _, machines := range []int{3_000, 100_000} {
		b.Run(fmt.Sprint(machines), func(b *testing.B) {
			d := gold()
			d.SchedulePolicies = []holdfast.SchedulePolicy{office()}
			all := make([]plan.Machine, machines)
			for i := range all {
				all[i] = plan.Machine{ID: holdfast.NewResourceID("s", "g", "Microsoft.Compute/virtualMachines", fmt.Sprintf("vm-%06d", i)), Region: "westeurope"}
			}
			e := estate(b, d, all...)
			s := plan.Begin(e, at(b, "2026-06-01 06:30"))
			for i := range machines / 100 { // one in a hundred is in work
				s.Working[all[i*100].ID.Key()] = plan.Work{Backup: true}
			}
			now := at(b, "2026-06-01 07:00")
			b.ReportAllocs()
			for b.Loop() {
				if len(plan.Decide(now, e, s).Intents) < 3 {
					b.Fatal("nothing was decided")
				}
			}
		})
	}
}

package sla_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// daily is the world of most rules: hourly backups from 10:00 to 18:00, and a machine that joined in the morning.
func daily(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.do(inForce("02-20 00:00", 1, hourly()), joined("03-02 08:00", "web-1"))
	return w
}

// weekly asks for backups every four hours of the night, and for one of Monday's in each week.
func weekly() holdfast.SLATemplate {
	t := asks(hourly(), every(holdfast.PointBackup, holdfast.Hours(4)), weeklyOn(holdfast.PointBackup, time.Monday))
	t.BackupWindow = window("22:00-06:00")
	return t
}

func nightly(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.do(inForce("02-20 00:00", 1, weekly()), joined("03-02 12:00", "web-1"))
	return w
}

// Each rule of doc/policies.md, "SLA", is a case here that bears its sentence.
func TestRules_Ledger(t *testing.T) {
	for rule, test := range map[string]func(t *testing.T){
		"when a slot becomes due, an expectation is written with its versions, slot, window and deadline": func(t *testing.T) {
			w := daily(t)
			w.until("03-02 09:59")
			if len(w.lines) != 0 {
				t.Fatalf("%v", w.lines)
			}
			w.until("03-02 10:00")
			want := sla.Expectation{
				Policy: shop, PolicyVersion: 1, Template: "gold", TemplateVersion: 1, Machine: machine("web-1"), Region: dublin, Row: dailyBackups,
				Slot: when("03-02 10:00"), Opens: when("03-02 10:00"), Closes: when("03-02 18:00"), Deadline: when("03-02 11:00"), Entry: date("03-02"), State: sla.Open,
			}
			if got := w.lines["shop web-1 backup daily 03-02 10:00"]; got != want {
				t.Errorf("%+v", got)
			}
		},
		"a slot is met by a point of its own session that is durable before the deadline, retries included": func(t *testing.T) {
			w := daily(t)
			w.do(
				sla.SessionStarted{At: when("03-02 10:01"), Work: work("web-1", holdfast.PointBackup, "03-02 10:00")},
				sla.SessionFailed{At: when("03-02 10:20"), Work: work("web-1", holdfast.PointBackup, "03-02 10:00")},
				backed("03-02 10:59", "web-1", "03-02 10:00"),
			)
			w.wantLine("web-1", "03-02 10:00", sla.Met, "")
			line := w.lines["shop web-1 backup daily 03-02 10:00"]
			if line.Point != pointOf("web-1", holdfast.PointBackup, "03-02 10:00") || !line.Ended.Equal(when("03-02 10:59")) {
				t.Errorf("%+v", line)
			}
		},
		"a point durable exactly at the deadline is late": func(t *testing.T) {
			w := daily(t)
			w.do(backed("03-02 11:00", "web-1", "03-02 10:00"))
			w.wantLine("web-1", "03-02 10:00", sla.Missed, sla.NoPoint)
			if len(w.notes) != 1 || w.notes[0].Point != pointOf("web-1", holdfast.PointBackup, "03-02 10:00") {
				t.Errorf("%+v", w.notes)
			}
		},
		"a point of another session, or of another kind, does not meet a daily slot": func(t *testing.T) {
			w := daily(t)
			w.do(backed("03-02 11:05", "web-1", "03-02 10:00"), made("03-02 11:06", "web-1", holdfast.PointSnapshot, "03-02 11:00"))
			w.until("03-02 12:00")
			w.wantLine("web-1", "03-02 11:00", sla.Missed, sla.NoPoint)
		},
		"a missed slot raises its alarm by itself, at the deadline": func(t *testing.T) {
			w := daily(t)
			w.until("03-02 11:30")
			if line := w.lines["shop web-1 backup daily 03-02 10:00"]; line.State != sla.Missed || !line.Ended.Equal(when("03-02 11:00")) {
				t.Errorf("%+v", line)
			}
		},
		"a miss says whether nothing was started, the session failed, or was still at work": func(t *testing.T) {
			w := daily(t)
			w.do(
				sla.SessionStarted{At: when("03-02 10:01"), Work: work("web-1", holdfast.PointBackup, "03-02 10:00")},
				sla.SessionStarted{At: when("03-02 11:01"), Work: work("web-1", holdfast.PointBackup, "03-02 11:00")},
				sla.SessionFailed{At: when("03-02 11:30"), Work: work("web-1", holdfast.PointBackup, "03-02 11:00")},
			)
			w.until("03-02 13:00")
			w.wantLine("web-1", "03-02 10:00", sla.Missed, sla.Late)
			w.wantLine("web-1", "03-02 11:00", sla.Missed, sla.Failed)
			w.wantLine("web-1", "03-02 12:00", sla.Missed, sla.NoPoint)
		},
		"an expectation that has ended stays as it is; what comes later about it is noted": func(t *testing.T) {
			w := daily(t)
			w.do(
				backed("03-02 10:10", "web-1", "03-02 10:00"), backed("03-02 10:11", "web-1", "03-02 10:00"),
				sla.SessionFailed{At: when("03-02 10:12"), Work: work("web-1", holdfast.PointBackup, "03-02 10:00")},
				sla.SessionStarted{At: when("03-02 10:12"), Work: work("web-1", holdfast.PointBackup, "03-02 10:00")},
				sla.SessionSkipped{At: when("03-02 10:12"), Work: work("web-1", holdfast.PointBackup, "03-02 10:00")},
			)
			w.wantCount("web-1", dailyBackups, "03-02", "1 planned 1 met 0 missed 0 excused 0 open MetSLA")
			if len(w.notes) != 4 {
				t.Errorf("%+v", w.notes)
			}
		},
		"a backup slot that falls due while that machine's backup runs is missed at once": func(t *testing.T) {
			w := daily(t)
			w.do(sla.SessionSkipped{At: when("03-02 11:00"), Work: work("web-1", holdfast.PointBackup, "03-02 11:00")})
			w.wantLine("web-1", "03-02 11:00", sla.Missed, sla.Overlap)
			if line := w.lines["shop web-1 backup daily 03-02 11:00"]; !line.Ended.Equal(when("03-02 11:00")) {
				t.Errorf("%+v", line)
			}
		},
		"snapshots are never skipped": func(t *testing.T) {
			w := daily(t)
			err := w.ledger.Apply(sla.SessionSkipped{At: when("03-02 11:00"), Work: work("web-1", holdfast.PointSnapshot, "03-02 11:00")}, w)
			if !holdfast.IsKind(err, holdfast.KindInvalid) {
				t.Errorf("%v", err)
			}
		},
		"an edit at the slot is the new version": func(t *testing.T) {
			w := daily(t)
			w.until("03-02 10:30")
			w.do(inForce("03-02 11:00", 2, with(hourly(), func(t *holdfast.SLATemplate) { t.Grace = 0 })))
			w.until("03-02 17:00")
			if a, b := w.lines["shop web-1 backup daily 03-02 10:00"], w.lines["shop web-1 backup daily 03-02 11:00"]; a.TemplateVersion != 1 || b.TemplateVersion != 2 {
				t.Errorf("%+v\n%+v", a, b)
			}
			if line := w.lines["shop web-1 backup daily 03-02 17:00"]; !line.Deadline.Equal(when("03-02 18:00")) {
				t.Errorf("%+v", line)
			}
		},
		"an open expectation keeps the deadline with which it was written, whatever is edited": func(t *testing.T) {
			w := daily(t)
			w.until("03-02 10:00")
			w.do(inForce("03-02 10:05", 2, with(hourly(), func(t *holdfast.SLATemplate) { t.Rows[0].Every = holdfast.Minutes(15) })))
			w.do(backed("03-02 10:50", "web-1", "03-02 10:00"))
			w.wantLine("web-1", "03-02 10:00", sla.Met, "")
			w.wantLine("web-1", "03-02 10:15", sla.Missed, sla.NoPoint)
		},
		"before a policy's first version nothing is expected": func(t *testing.T) {
			w := newWorld(t)
			w.do(inForce("03-02 12:30", 1, hourly()), joined("03-02 12:30", "web-1"), joined("03-02 14:30", "web-2"))
			w.until("03-03 12:00")
			w.wantCount("web-1", dailyBackups, "03-02", "5 planned 0 met 5 missed 0 excused 0 open MissedSLA")
			w.wantNone("web-1", dailyBackups, "03-02 12:00")
			w.wantCount("web-2", dailyBackups, "03-02", "5 planned 0 met 3 missed 2 excused 0 open MissedSLA")
			w.wantNone("web-2", dailyBackups, "03-02 12:00")
		},
		"slots of a disabled policy are excused, also at the instant; those that are open stay open": func(t *testing.T) {
			w := daily(t)
			w.do(
				sla.PolicyDisabled{At: when("03-02 11:00"), Policy: shop}, joined("03-02 11:30", "web-2"),
				sla.PolicyEnabled{At: when("03-02 13:00"), Policy: shop},
			)
			w.served("03-02", "web-1", 13, 14, 15, 16, 17)
			w.until("03-02 23:00")
			w.wantLine("web-1", "03-02 10:00", sla.Missed, sla.NoPoint)
			w.wantLine("web-1", "03-02 11:00", sla.Excused, sla.Disabled)
			w.wantLine("web-1", "03-02 12:00", sla.Excused, sla.Disabled)
			w.wantCount("web-1", dailyBackups, "03-02", "8 planned 5 met 1 missed 2 excused 0 open MissedSLA")
			w.wantLine("web-2", "03-02 11:00", sla.Excused, sla.JoinedLate)
			w.wantLine("web-2", "03-02 12:00", sla.Excused, sla.Disabled)
			w = daily(t)
			w.do(sla.PolicyDisabled{At: when("03-02 10:30"), Policy: shop}, backed("03-02 10:40", "web-1", "03-02 10:00"))
			w.wantLine("web-1", "03-02 10:00", sla.Met, "")
		},
		"a version that is put in force without being enabled excuses its slots": func(t *testing.T) {
			w := newWorld(t)
			first := inForce("02-20 00:00", 1, hourly()).(sla.PolicyInForce)
			first.Terms.Enabled = false
			w.do(first, joined("03-02 08:00", "web-1"))
			w.until("03-02 23:00")
			w.wantCount("web-1", dailyBackups, "03-02", "8 planned 0 met 0 missed 8 excused 0 open none")
			w.wantEntry(dailyBackups, "03-02", "– – none")
		},
		"snapshots every five minutes have fifteen minutes": func(t *testing.T) {
			w := newWorld(t)
			w.do(inForce("02-20 00:00", 1, asks(hourly(), every(holdfast.PointSnapshot, holdfast.Minutes(5)))), joined("03-02 08:00", "web-1"))
			w.do(
				made("03-02 10:14", "web-1", holdfast.PointSnapshot, "03-02 10:00"),
				made("03-02 10:20", "web-1", holdfast.PointSnapshot, "03-02 10:05"),
			)
			w.wantRow("web-1", dailySnapshots, "03-02 10:00", sla.Met, "")
			w.wantRow("web-1", dailySnapshots, "03-02 10:05", sla.Missed, sla.NoPoint)
			w.wantRow("web-1", dailySnapshots, "03-02 10:10", sla.Open, "")
		},
	} {
		t.Run(strings.ReplaceAll(rule, " ", "_"), test)
	}
}

func TestRules_WeeklyAndMonthly(t *testing.T) {
	backup := holdfast.PointBackup
	for rule, test := range map[string]func(t *testing.T){
		"a weekly slot stands at the opening of its day's window and is met by any point of the window, a daily one by its own": func(t *testing.T) {
			w := nightly(t)
			w.do(backed("03-03 02:30", "web-1", "03-03 02:00"))
			w.wantRow("web-1", weeklyBackups, "03-02 22:00", sla.Met, "")
			w.wantLine("web-1", "03-02 22:00", sla.Missed, sla.NoPoint)
			w.wantLine("web-1", "03-03 02:00", sla.Met, "")
		},
		"in time means before the close of the window and the grace": func(t *testing.T) {
			w := nightly(t)
			w.do(backed("03-03 06:59", "web-1", "03-03 02:00"))
			w.wantRow("web-1", weeklyBackups, "03-02 22:00", sla.Met, "")
			w = nightly(t)
			w.do(backed("03-03 07:00", "web-1", "03-03 02:00"))
			w.wantRow("web-1", weeklyBackups, "03-02 22:00", sla.Missed, sla.NoPoint)
		},
		"a point of another day's window does not meet it": func(t *testing.T) {
			w := newWorld(t)
			all := weekly()
			all.BackupWindow = window("00:00-00:00")
			w.do(inForce("02-20 00:00", 1, all), joined("03-01 12:00", "web-1"))
			w.do(backed("03-02 00:30", "web-1", "03-01 20:00")) // Sunday's
			w.wantRow("web-1", weeklyBackups, "03-02 00:00", sla.Open, "")
			w.until("03-03 00:59")
			w.wantRow("web-1", weeklyBackups, "03-02 00:00", sla.Open, "")
			w.do(backed("03-03 00:59", "web-1", "03-03 00:00")) // Tuesday's
			w.until("03-03 01:00")
			w.wantRow("web-1", weeklyBackups, "03-02 00:00", sla.Missed, sla.NoPoint)
		},
		"without a daily row the weekly slot has a session of its own": func(t *testing.T) {
			w := newWorld(t)
			w.do(inForce("02-20 00:00", 1, asks(weekly(), weeklyOn(backup, time.Monday))), joined("03-02 12:00", "web-1"))
			w.do(backed("03-02 22:30", "web-1", "03-02 22:00"))
			w.wantRow("web-1", weeklyBackups, "03-02 22:00", sla.Met, "")
		},
		"archives use the window of backups, are monthly, and are met by archives alone": func(t *testing.T) {
			w := newWorld(t)
			w.do(inForce("02-20 00:00", 1, asks(weekly(), every(backup, holdfast.Hours(4)), monthlyOn(holdfast.PointArchive, holdfast.LastDay))), joined("03-02 12:00", "web-1"))
			w.do(backed("03-31 21:30", "web-1", "03-31 21:00"))
			w.wantRow("web-1", archives, "03-31 21:00", sla.Open, "")
			w.do(made("04-01 05:59", "web-1", holdfast.PointArchive, "03-31 21:00"))
			w.wantRow("web-1", archives, "03-31 21:00", sla.Met, "")
		},
		"an overlapped weekly slot waits for a later session of its window, and is missed at once without one": func(t *testing.T) {
			w := nightly(t)
			w.do(sla.SessionSkipped{At: when("03-02 22:00"), Work: work("web-1", backup, "03-02 22:00")})
			w.wantLine("web-1", "03-02 22:00", sla.Missed, sla.Overlap)
			w.wantRow("web-1", weeklyBackups, "03-02 22:00", sla.Open, "")
			w.do(sla.SessionSkipped{At: when("03-03 02:00"), Work: work("web-1", backup, "03-03 02:00")})
			w.wantRow("web-1", weeklyBackups, "03-02 22:00", sla.Open, "")
			w.until("03-03 07:00")
			w.wantRow("web-1", weeklyBackups, "03-02 22:00", sla.Missed, sla.Overlap)
			w = newWorld(t)
			w.do(
				inForce("02-20 00:00", 1, asks(weekly(), weeklyOn(backup, time.Monday))), joined("03-02 12:00", "web-1"),
				sla.SessionSkipped{At: when("03-02 22:00"), Work: work("web-1", backup, "03-02 22:00")},
			)
			w.wantRow("web-1", weeklyBackups, "03-02 22:00", sla.Missed, sla.Overlap)
		},
		"a skipped later slot does not hide that the weekly one's session is at work": func(t *testing.T) {
			w := nightly(t)
			w.do(
				sla.SessionStarted{At: when("03-02 22:00"), Work: work("web-1", backup, "03-02 22:00")},
				sla.SessionSkipped{At: when("03-03 02:01"), Work: work("web-1", backup, "03-03 02:00")},
				backed("03-03 05:00", "web-1", "03-02 22:00"),
			)
			w.wantLine("web-1", "03-02 22:00", sla.Missed, sla.Late)
			w.wantRow("web-1", weeklyBackups, "03-02 22:00", sla.Met, "")
		},
	} {
		t.Run(strings.ReplaceAll(rule, " ", "_"), test)
	}
}

func TestRules_JoiningAndLeaving(t *testing.T) {
	for rule, test := range map[string]func(t *testing.T){
		"joined at the slot is expected": func(t *testing.T) {
			w := daily(t)
			w.do(joined("03-02 11:00", "web-2"))
			w.until("03-02 11:00")
			w.wantLine("web-2", "03-02 10:00", sla.Excused, sla.JoinedLate)
			w.wantLine("web-2", "03-02 11:00", sla.Open, "")
		},
		"left at the slot is not expected": func(t *testing.T) {
			w := daily(t)
			w.do(left("03-02 11:00", "web-1"))
			w.until("03-02 20:00")
			w.wantLine("web-1", "03-02 10:00", sla.Missed, sla.NoPoint) // its deadline was the same instant
			w.wantNone("web-1", dailyBackups, "03-02 11:00")
		},
		"after the window has closed, the slots of the local day are excused": func(t *testing.T) {
			w := daily(t)
			w.do(joined("03-02 20:00", "web-2"))
			w.wantCount("web-2", dailyBackups, "03-02", "8 planned 0 met 0 missed 8 excused 0 open none")
			w.until("03-03 00:00")
			w.wantEntry(dailyBackups, "03-02", "0 0 MissedSLA") // web-1's alone
		},
		"in a window that crosses midnight, the day is the one on which it opened": func(t *testing.T) {
			w := nightly(t)
			w.do(joined("03-03 03:00", "web-2"))
			w.wantCount("web-2", dailyBackups, "03-02", "2 planned 0 met 0 missed 2 excused 0 open none")
			w.wantCount("web-2", dailyBackups, "03-03", "not there")
			w.do(joined("03-03 06:30", "web-3")) // the window has closed, the entry has not
			w.wantCount("web-3", dailyBackups, "03-02", "not there")
			w.wantCount("web-3", weeklyBackups, "03-02", "1 planned 0 met 0 missed 1 excused 0 open none")
		},
		"slots of the week and the month that are past are excused as well": func(t *testing.T) {
			w := newWorld(t)
			w.do(inForce("02-20 00:00", 1, asks(weekly(), append(weekly().Rows, monthlyOn(holdfast.PointBackup, 3))...)), joined("03-05 12:00", "web-1"))
			w.wantRow("web-1", weeklyBackups, "03-02 22:00", sla.Excused, sla.JoinedLate)
			w.wantRow("web-1", monthlyBackups, "03-03 22:00", sla.Excused, sla.JoinedLate)
			w.wantNone("web-1", dailyBackups, "03-02 22:00")
			w.wantNone("web-1", weeklyBackups, "02-23 22:00")
		},
		"excused are the slots of the versions that were in force at them": func(t *testing.T) {
			w := daily(t)
			w.do(inForce("03-02 12:30", 2, with(hourly(), func(t *holdfast.SLATemplate) { t.Rows[0].Every = holdfast.Hours(2) })), joined("03-02 15:00", "web-2"))
			w.until("03-02 23:00")
			w.wantCount("web-1", dailyBackups, "03-02", "5 planned 0 met 5 missed 0 excused 0 open MissedSLA")
			w.wantCount("web-2", dailyBackups, "03-02", "5 planned 0 met 1 missed 4 excused 0 open MissedSLA")
			if line := w.lines["shop web-2 backup daily 03-02 11:00"]; line.TemplateVersion != 1 {
				t.Errorf("%+v", line)
			}
		},
		"who leaves outside a window keeps its score, and open slots are excused": func(t *testing.T) {
			w := daily(t)
			w.served("03-02", "web-1", 10)
			w.do(left("03-02 18:30", "web-1")) // the last deadline is at 19:00
			w.wantCount("web-1", dailyBackups, "03-02", "8 planned 1 met 6 missed 1 excused 0 open MissedSLA")
			w.wantLine("web-1", "03-02 17:00", sla.Excused, sla.Left)
			w.until("03-04 00:00")
			w.wantCount("web-1", dailyBackups, "03-03", "not there")
		},
		"who leaves inside a window is removed: counted, not scored; open slots are excused, met ones stay met": func(t *testing.T) {
			w := daily(t)
			w.do(joined("03-02 08:30", "web-2"))
			w.served("03-02", "web-1", 10)
			w.do(left("03-02 11:30", "web-1"))
			w.wantCount("web-1", dailyBackups, "03-02", "2 planned 1 met 0 missed 1 excused 0 open Removed")
			w.wantLine("web-1", "03-02 11:00", sla.Excused, sla.Left)
			w.wantLine("web-1", "03-02 10:00", sla.Met, "")
			w.served("03-02", "web-2", 12, 13, 14, 15)
			w.until("03-03 00:00")
			w.wantEntry(dailyBackups, "03-02", "50 0 MissedSLA")
			if c, _ := w.ledger.Entry(shop, dailyBackups, date("03-02")); c.Machines != (sla.Machines{Total: 2, Missed: 1, Removed: 1}) {
				t.Errorf("%+v", c)
			}
		},
		"removed is for the rows that have a slot on that day": func(t *testing.T) {
			w := nightly(t)
			w.until("03-03 12:00")
			w.do(left("03-04 01:00", "web-1")) // in Tuesday's window; the weekly row asks on Mondays
			w.wantCount("web-1", dailyBackups, "03-03", "1 planned 0 met 0 missed 1 excused 0 open Removed")
			w.wantCount("web-1", dailyBackups, "03-02", "2 planned 0 met 2 missed 0 excused 0 open MissedSLA")
			w.wantCount("web-1", weeklyBackups, "03-02", "1 planned 0 met 1 missed 0 excused 0 open MissedSLA")
			w = nightly(t)
			w.do(left("03-03 01:00", "web-1")) // in Monday's
			w.wantCount("web-1", weeklyBackups, "03-02", "1 planned 0 met 0 missed 1 excused 0 open Removed")
		},
		"a slot that an edit took away today still makes who leaves removed": func(t *testing.T) {
			w := nightly(t)
			w.do(inForce("03-03 00:00", 2, asks(weekly(), weekly().Rows[0])), left("03-03 01:00", "web-1"))
			w.wantCount("web-1", weeklyBackups, "03-02", "1 planned 0 met 0 missed 1 excused 0 open Removed")
		},
		"who returns before the entry closes is scored again; the slots in between are excused": func(t *testing.T) {
			w := daily(t)
			w.served("03-02", "web-1", 10)
			w.do(left("03-02 11:30", "web-1"), joined("03-02 14:00", "web-1"))
			w.served("03-02", "web-1", 14, 15, 16)
			w.until("03-03 00:00")
			w.wantCount("web-1", dailyBackups, "03-02", "8 planned 4 met 1 missed 3 excused 0 open MissedSLA")
			w.wantLine("web-1", "03-02 11:00", sla.Excused, sla.Left)
			w.wantLine("web-1", "03-02 12:00", sla.Excused, sla.JoinedLate)
			w.wantLine("web-1", "03-02 13:00", sla.Excused, sla.JoinedLate)
		},
		"who returns after the entry has closed stays removed from it": func(t *testing.T) {
			w := daily(t)
			w.do(left("03-02 11:30", "web-1"), joined("03-03 00:00", "web-1"))
			w.wantCount("web-1", dailyBackups, "03-02", "2 planned 0 met 1 missed 1 excused 0 open Removed")
		},
		"a policy that is removed lets its machines leave": func(t *testing.T) {
			w := daily(t)
			w.served("03-02", "web-1", 10)
			w.do(sla.PolicyRemoved{At: when("03-02 11:30"), Policy: shop})
			w.until("03-04 00:00")
			w.wantCount("web-1", dailyBackups, "03-02", "2 planned 1 met 0 missed 1 excused 0 open Removed")
			w.wantClosed(dailyBackups, "03-02", "03-03 00:00")
			if len(w.lines) != 2 {
				t.Errorf("%v", w.lines)
			}
		},
		"a machine without anything met or missed has no ratio and is left out of the mean": func(t *testing.T) {
			w := daily(t)
			w.served("03-02", "web-1", 10, 11, 12, 13, 14, 15, 16, 17)
			w.do(joined("03-02 18:10", "web-2"))
			w.until("03-03 00:00")
			w.wantEntry(dailyBackups, "03-02", "100 0 MetSLA")
			if c, _ := w.ledger.Entry(shop, dailyBackups, date("03-02")); c.Machines != (sla.Machines{Total: 2, Met: 1, None: 1}) {
				t.Errorf("%+v", c)
			}
		},
	} {
		t.Run(strings.ReplaceAll(rule, " ", "_"), test)
	}
}

func TestRules_Downtime(t *testing.T) {
	stopped := func(at string) sla.Event { return sla.ServerStopped{At: when(at)} }
	back := func(at string) sla.Event { return sla.ServerStarted{At: when(at)} }
	for rule, test := range map[string]func(t *testing.T){
		"the newest slot stays open while its deadline has not passed; older ones are missed as of their deadlines": func(t *testing.T) {
			w := daily(t)
			w.do(stopped("03-02 09:30"), back("03-02 13:20"))
			w.wantLine("web-1", "03-02 11:00", sla.Missed, sla.NotRunning)
			w.wantLine("web-1", "03-02 12:00", sla.Missed, sla.NotRunning)
			w.wantLine("web-1", "03-02 13:00", sla.Open, "")
			if line := w.lines["shop web-1 backup daily 03-02 11:00"]; !line.Ended.Equal(when("03-02 12:00")) {
				t.Errorf("%+v", line)
			}
			w.do(backed("03-02 13:50", "web-1", "03-02 13:00"))
			w.wantLine("web-1", "03-02 13:00", sla.Met, "")
		},
		"the newest slot whose deadline has passed and all older ones are missed": func(t *testing.T) {
			w := daily(t)
			w.do(stopped("03-02 16:30"), back("03-02 19:00"))
			w.wantLine("web-1", "03-02 15:00", sla.Missed, sla.NoPoint)
			w.wantLine("web-1", "03-02 16:00", sla.Missed, sla.NotRunning)
			w.wantLine("web-1", "03-02 17:00", sla.Missed, sla.NotRunning)
		},
		"a slot that was at work when the server stopped is missed as notRunning when its deadline passes meanwhile": func(t *testing.T) {
			w := daily(t)
			w.do(sla.SessionStarted{At: when("03-02 10:00"), Work: work("web-1", holdfast.PointBackup, "03-02 10:00")}, stopped("03-02 10:30"))
			w.until("03-02 11:30")
			w.wantLine("web-1", "03-02 10:00", sla.Missed, sla.NotRunning)
		},
		"an older slot whose deadline has not passed is missed when the server is back": func(t *testing.T) {
			w := newWorld(t)
			w.do(inForce("02-20 00:00", 1, asks(hourly(), every(holdfast.PointSnapshot, holdfast.Minutes(5)))), joined("03-02 08:00", "web-1"))
			w.do(stopped("03-02 09:59"), back("03-02 10:07"))
			w.wantRow("web-1", dailySnapshots, "03-02 10:00", sla.Missed, sla.NotRunning)
			w.wantRow("web-1", dailySnapshots, "03-02 10:05", sla.Open, "")
			if line := w.lines["shop web-1 snapshot daily 03-02 10:00"]; !line.Ended.Equal(when("03-02 10:07")) {
				t.Errorf("%+v", line)
			}
		},
		"a weekly slot stays open while the newest session can meet it": func(t *testing.T) {
			w := nightly(t)
			w.do(stopped("03-02 21:00"), back("03-03 02:30"))
			w.wantLine("web-1", "03-02 22:00", sla.Missed, sla.NotRunning)
			w.wantRow("web-1", weeklyBackups, "03-02 22:00", sla.Open, "")
			w.do(backed("03-03 04:00", "web-1", "03-03 02:00"))
			w.wantRow("web-1", weeklyBackups, "03-02 22:00", sla.Met, "")
		},
		"a weekly slot is missed when the newest session is of another window": func(t *testing.T) {
			w := newWorld(t)
			all := weekly()
			all.BackupWindow = window("00:00-00:00")
			w.do(inForce("02-20 00:00", 1, all), joined("03-01 12:00", "web-1"), stopped("03-01 23:00"), back("03-03 00:30"))
			w.wantRow("web-1", weeklyBackups, "03-02 00:00", sla.Missed, sla.NotRunning)
			w.wantLine("web-1", "03-03 00:00", sla.Open, "")
		},
		"a slot at the instant of the return is an ordinary one": func(t *testing.T) {
			w := daily(t)
			w.do(stopped("03-02 09:30"), back("03-02 11:00"))
			w.until("03-02 12:00")
			w.wantLine("web-1", "03-02 10:00", sla.Missed, sla.NotRunning)
			w.wantLine("web-1", "03-02 11:00", sla.Missed, sla.NoPoint)
		},
	} {
		t.Run(strings.ReplaceAll(rule, " ", "_"), test)
	}
}

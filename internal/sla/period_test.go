package sla_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

func TestRules_Periods(t *testing.T) {
	for rule, test := range map[string]func(t *testing.T){
		"an entry closes when its last local midnight has passed, or its last deadline if that is later": func(t *testing.T) {
			w := daily(t)
			w.until("03-03 00:00")
			w.wantClosed(dailyBackups, "03-02", "03-03 00:00")
			w = nightly(t)
			w.until("03-03 06:59")
			w.wantClosed(dailyBackups, "03-02", "open")
			w.until("03-09 00:00")
			w.wantClosed(dailyBackups, "03-02", "03-03 07:00")
			w.wantClosed(weeklyBackups, "03-02", "03-09 00:00")
		},
		"a deadline of the day before the last may be the last one": func(t *testing.T) {
			w := newWorld(t)
			ends := asks(hourly(), weeklyOn(holdfast.PointBackup, time.Friday, time.Saturday))
			ends.BackupWindow, ends.Grace = window("12:00-12:00"), 24*time.Hour
			w.do(inForce("02-20 00:00", 1, ends), joined("03-02 08:00", "web-1"))
			w.until("03-10 00:00")
			w.wantClosed(weeklyBackups, "03-02", "03-09 12:00")
		},
		"a region without machines holds it open as well": func(t *testing.T) {
			w := newWorld(t)
			w.do(inForce("02-20 00:00", 1, hourly(), dublin, newYork), joined("03-02 08:00", "web-1"))
			w.until("03-04 00:00")
			w.wantClosed(dailyBackups, "03-02", "03-03 05:00")
		},
		"so does a region of a machine that the version does not name": func(t *testing.T) {
			w := daily(t)
			w.do(joinedIn("03-02 09:00", "web-2", newYork))
			w.until("03-04 00:00")
			w.wantClosed(dailyBackups, "03-02", "03-03 05:00")
		},
		"but not when the last of them has left": func(t *testing.T) {
			w := daily(t)
			w.do(joinedIn("03-02 09:00", "web-2", newYork), left("03-03 02:00", "web-2"))
			w.until("03-04 00:00")
			w.wantClosed(dailyBackups, "03-02", "03-03 02:00")
		},
		"a region that is taken away holds nothing open, and an entry may close at once": func(t *testing.T) {
			w := newWorld(t)
			w.do(inForce("02-20 00:00", 1, hourly(), dublin, newYork), joined("03-02 08:00", "web-1"), inForce("03-03 02:00", 2, hourly(), dublin))
			w.until("03-04 00:00")
			w.wantClosed(dailyBackups, "03-02", "03-03 02:00")
			w.wantClosed(dailyBackups, "03-03", "03-04 00:00")
		},
		"nothing reopens a closed entry: who joins where it is still that day is expected from the next one on": func(t *testing.T) {
			w := daily(t)
			w.do(inForce("03-03 02:00", 2, with(hourly(), func(t *holdfast.SLATemplate) { t.BackupWindow = window("20:00-23:00") }), dublin, newYork))
			w.do(joinedIn("03-03 02:00", "web-2", newYork)) // 21:00 of 2 March in New York
			w.until("03-03 12:00")
			w.wantCount("web-2", dailyBackups, "03-02", "not there")
			w.wantNone("web-2", dailyBackups, "03-03 01:00")
			w.wantNone("web-2", dailyBackups, "03-03 02:00")
			w.until("03-04 02:00")
			w.wantLine("web-2", "03-04 01:00", sla.Missed, sla.NoPoint)
		},
		"an entry is judged against the target of the version that its last expectation belongs to": func(t *testing.T) {
			w := daily(t)
			w.served("03-02", "web-1", 10, 11, 12, 13)
			lower := with(hourly(), func(t *holdfast.SLATemplate) { t.TargetPercent = 50 })
			w.do(inForce("03-02 17:00", 2, lower), inForce("03-02 18:00", 3, with(lower, func(t *holdfast.SLATemplate) { t.TargetPercent = 99 })))
			w.until("03-03 00:00")
			w.wantEntry(dailyBackups, "03-02", "50 0 MetSLA")
		},
		"slots of before, excused for who joins late, do not make an older version's target count": func(t *testing.T) {
			w := newWorld(t)
			w.do(inForce("02-20 00:00", 1, hourly(), dublin, newYork), joined("03-02 08:00", "web-1"))
			w.do(inForce("03-02 17:00", 2, with(hourly(), func(t *holdfast.SLATemplate) { t.TargetPercent, t.BackupWindow = 50, window("17:00-18:00") }), dublin, newYork))
			w.do(joinedIn("03-02 18:00", "web-2", newYork)) // asked for at 15:00 and 16:00 by the first version
			w.wantCount("web-2", dailyBackups, "03-02", "2 planned 0 met 0 missed 2 excused 0 open none")
			if c, _ := w.ledger.Entry(shop, dailyBackups, date("03-02")); c.TargetPercent != 50 {
				t.Errorf("the target is %g %%", c.TargetPercent)
			}
		},
		"the ratio is met when it is the target or more": func(t *testing.T) {
			for target, want := range map[float64]sla.Status{87.5: sla.MetSLA, 87.6: sla.MissedSLA} {
				w := newWorld(t)
				w.do(inForce("02-20 00:00", 1, with(hourly(), func(t *holdfast.SLATemplate) { t.TargetPercent = target })), joined("03-02 08:00", "web-1"))
				w.served("03-02", "web-1", 10, 11, 12, 13, 14, 15, 16)
				w.until("03-03 00:00")
				if c, _ := w.ledger.Entry(shop, dailyBackups, date("03-02")); c.Status != want {
					t.Errorf("87.5 %% against %g %%: %s", target, c.Status)
				}
			}
		},
		"retention of points changes no ratio of created ones": func(t *testing.T) {
			w := daily(t)
			w.served("03-02", "web-1", 10)
			w.do(sla.PointRemoved{At: when("03-02 12:00"), Point: pointOf("web-1", holdfast.PointBackup, "03-02 10:00")})
			w.wantLine("web-1", "03-02 10:00", sla.Met, "")
		},
		"a chart has the newest fourteen closed days, and twelve weeks and months; the open entry is not drawn": func(t *testing.T) {
			w := newWorld(t)
			w.do(inForce("01-01 00:00", 1, asks(weekly(), append(weekly().Rows, monthlyOn(holdfast.PointBackup, 3))...)), joined("01-01 00:00", "web-1"))
			w.until("12-31 12:00")
			for _, c := range []struct {
				row         sla.Row
				n           int
				first, last string
			}{
				{dailyBackups, 14, "12-17", "12-30"}, {weeklyBackups, 12, "10-05", "12-21"}, {monthlyBackups, 11, "01-01", "11-01"},
			} {
				series := w.ledger.Series(shop, c.row)
				if len(series) != c.n || series[0].Entry != date(c.first) || series[c.n-1].Entry != date(c.last) {
					t.Errorf("%v: %d entries from %s to %s", c.row, len(series), series[0].Entry, series[len(series)-1].Entry)
				}
			}
		},
		"an entry in which nothing was due has no figure": func(t *testing.T) {
			w := newWorld(t)
			quarterly := monthlyOn(holdfast.PointBackup, 3)
			quarterly.Months = holdfast.NewMonthSet(time.January, time.April)
			w.do(inForce("01-01 00:00", 1, asks(hourly(), quarterly)), joined("01-01 00:00", "web-1"))
			w.until("05-01 12:00")
			var statuses []sla.Status
			for _, c := range w.ledger.Series(shop, monthlyBackups) {
				statuses = append(statuses, c.Status)
			}
			if !slices.Equal(statuses, []sla.Status{sla.MissedSLA, sla.None, sla.None, sla.MissedSLA}) {
				t.Errorf("%v", statuses)
			}
		},
		"an entry closes where the last day has an hour more": func(t *testing.T) {
			w := newWorld(t)
			w.do(inForce("10-20 00:00", 1, hourly()), joined("10-24 08:00", "web-1"))
			w.until("10-27 00:00")
			w.wantClosed(dailyBackups, "10-24", "10-24 23:00")
			w.wantClosed(dailyBackups, "10-25", "10-26 00:00")
		},
	} {
		t.Run(strings.ReplaceAll(rule, " ", "_"), test)
	}
}

// proofs is a world in which all eight backups of 2 March exist. The entry closes on 3 March, and its figure of proven points
// freezes on 10 March, both at 00:00.
func proofs(t *testing.T) *world {
	t.Helper()
	w := daily(t)
	w.served("03-02", "web-1", 10, 11, 12, 13, 14, 15, 16, 17)
	return w
}

func TestRules_Proofs(t *testing.T) {
	id := func(slot string) holdfast.PointID { return pointOf("web-1", holdfast.PointBackup, slot) }
	for rule, test := range map[string]func(t *testing.T){
		"a point counts as proven while its level is at least what the template asks": func(t *testing.T) {
			w := proofs(t)
			w.do(proven("03-02 20:00", "web-1", "03-02 10:00", 1), proven("03-02 20:00", "web-1", "03-02 11:00", 2), proven("03-02 20:00", "web-1", "03-02 12:00", 5))
			w.wantEntry(dailyBackups, "03-02", "100 25 MetSLA")
		},
		"proofs count up to seven days after the entry has closed, and not after": func(t *testing.T) {
			w := proofs(t)
			w.do(proven("03-09 23:59", "web-1", "03-02 10:00", 2))
			w.until("03-10 00:00")
			w.wantEntry(dailyBackups, "03-02", "100 12.5 MetSLA")
			w.do(proven("03-10 00:00", "web-1", "03-02 11:00", 2), proven("03-11 00:00", "web-1", "03-02 12:00", 2))
			w.do(sla.PointProven{At: when("03-11 00:00"), Point: id("03-02 10:00"), Level: 2})
			w.wantEntry(dailyBackups, "03-02", "100 12.5 MetSLA")
			if len(w.notes) != 3 {
				t.Errorf("%+v", w.notes)
			}
			periods := w.periods["shop backup daily 2026-03-02"]
			if len(periods) != 2 || periods[0].Frozen != (time.Time{}) || !periods[1].Frozen.Equal(when("03-10 00:00")) || *periods[1].ProvenRatio != 12.5 {
				t.Errorf("%+v", periods)
			}
		},
		"a proof exactly as old as allowed counts, an older one does not": func(t *testing.T) {
			w := newWorld(t)
			w.do(inForce("02-20 00:00", 1, with(hourly(), func(t *holdfast.SLATemplate) { t.ProofAge = holdfast.Days(5) })), joined("03-02 08:00", "web-1"))
			w.served("03-02", "web-1", 10, 11)
			w.until("03-03 00:00")
			w.do(
				sla.PointProven{At: when("03-06 00:00"), Point: id("03-02 10:00"), Level: 2, OK: true, Proved: when("03-05 00:00")},
				sla.PointProven{At: when("03-06 00:00"), Point: id("03-02 11:00"), Level: 2, OK: true, Proved: when("03-04 23:59")},
			)
			w.wantEntry(dailyBackups, "03-02", "25 25 MissedSLA")
			w.until("03-10 00:00")
			w.wantEntry(dailyBackups, "03-02", "25 12.5 MissedSLA")
		},
		"a failed proof voids the earlier ones, of all levels": func(t *testing.T) {
			w := proofs(t)
			w.do(proven("03-02 20:00", "web-1", "03-02 10:00", 4), sla.PointProven{At: when("03-02 21:00"), Point: id("03-02 10:00"), Level: 1})
			w.wantEntry(dailyBackups, "03-02", "100 0 MetSLA")
			w.do(sla.PointProven{At: when("03-02 22:00"), Point: id("03-02 10:00"), Level: 2, OK: true, Proved: when("03-02 20:30")})
			w.wantEntry(dailyBackups, "03-02", "100 0 MetSLA")
			w.do(proven("03-02 22:30", "web-1", "03-02 10:00", 2))
			w.wantEntry(dailyBackups, "03-02", "100 12.5 MetSLA")
		},
		"a point that retention removed keeps the proof it had, which ages no more": func(t *testing.T) {
			w := newWorld(t)
			w.do(inForce("02-20 00:00", 1, with(hourly(), func(t *holdfast.SLATemplate) { t.ProofAge = holdfast.Days(2) })), joined("03-02 08:00", "web-1"))
			w.served("03-02", "web-1", 10, 11)
			w.do(proven("03-02 20:00", "web-1", "03-02 10:00", 2), proven("03-02 20:00", "web-1", "03-02 11:00", 2))
			w.do(sla.PointRemoved{At: when("03-03 12:00"), Point: id("03-02 10:00")})
			w.do(sla.PointProven{At: when("03-03 13:00"), Point: id("03-02 10:00"), Level: 2})
			w.until("03-10 00:00")
			w.wantEntry(dailyBackups, "03-02", "25 12.5 MissedSLA")
		},
		"level 2 is a matter of packs: a snapshot gets its level from a restore or a boot test": func(t *testing.T) {
			w := newWorld(t)
			w.do(inForce("02-20 00:00", 1, asks(hourly(), every(holdfast.PointSnapshot, holdfast.Hours(8)))), joined("03-02 08:00", "web-1"))
			w.do(made("03-02 10:10", "web-1", holdfast.PointSnapshot, "03-02 10:00"))
			w.do(sla.PointProven{At: when("03-02 12:00"), Point: pointOf("web-1", holdfast.PointSnapshot, "03-02 10:00"), Level: 3, OK: true})
			w.wantEntry(dailySnapshots, "03-02", "100 100 MetSLA")
		},
		"one point that met several rows is proven for each of them": func(t *testing.T) {
			w := nightly(t)
			w.do(backed("03-02 22:30", "web-1", "03-02 22:00"), proven("03-03 12:00", "web-1", "03-02 22:00", 2))
			w.wantEntry(weeklyBackups, "03-02", "100 100 MetSLA")
			w.wantEntry(dailyBackups, "03-02", "50 50 MissedSLA")
		},
		"each expectation asks for the proof of its own version": func(t *testing.T) {
			w := daily(t)
			w.served("03-02", "web-1", 10)
			w.do(inForce("03-02 10:59", 2, with(hourly(), func(t *holdfast.SLATemplate) { t.ProofLevel = 4 })))
			w.served("03-02", "web-1", 11)
			w.do(proven("03-02 11:59", "web-1", "03-02 10:00", 2), proven("03-02 11:59", "web-1", "03-02 11:00", 2))
			w.wantCount("web-1", dailyBackups, "03-02", "2 planned 2 met 0 missed 0 excused 0 open MetSLA")
			w.wantEntry(dailyBackups, "03-02", "100 50 MetSLA")
		},
		"without a proof level every point counts": func(t *testing.T) {
			w := newWorld(t)
			w.do(inForce("02-20 00:00", 1, with(hourly(), func(t *holdfast.SLATemplate) { t.ProofLevel, t.ProofAge = 0, holdfast.Period{} })), joined("03-02 08:00", "web-1"))
			w.served("03-02", "web-1", 10)
			w.wantEntry(dailyBackups, "03-02", "100 100 MetSLA")
		},
		"provenNow is judged by the template in force, and does not count what retention removed": func(t *testing.T) {
			w := proofs(t)
			w.until("03-12 00:00")
			points := func(yield func(sla.Proven) bool) {
				for i := range 8 {
					var s sla.Standing
					if i < 6 {
						s = s.Proven(sla.PointProven{At: when("03-11 00:00"), Level: 3, OK: true})
					}
					if i < 2 {
						s = s.RemovedAt(when("03-12 00:00"))
					}
					if !yield(sla.Proven{Machine: machine("WEB-1"), Standing: s}) {
						return
					}
				}
			}
			machines := w.ledger.Machines(shop, dailyBackups, date("03-02"))
			for level, want := range map[int]string{2: "50", 3: "50", 4: "0"} {
				template := with(hourly(), func(t *holdfast.SLATemplate) { t.ProofLevel = level })
				if got := percent(sla.ProvenNow(machines, points, template, when("03-12 00:00"))); got != want {
					t.Errorf("level %d: %s %%, not %s", level, got, want)
				}
			}
			w.wantEntry(dailyBackups, "03-02", "100 0 MetSLA")
		},
	} {
		t.Run(strings.ReplaceAll(rule, " ", "_"), test)
	}
}

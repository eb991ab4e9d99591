package sla_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// Eight sessions are planned, hourly from 10:00 to 18:00, and a machine joins at 12:30. Elsewhere its earlier sessions are
// credited, (3+5)/8 and (3+3)/8; here they are excused and count on neither side: 5/5 and 3/5.
func TestCatalogue_JoinedAtHalfPastTwelve(t *testing.T) {
	for _, c := range []struct {
		hours       []int
		count, want string
	}{
		{[]int{13, 14, 15, 16, 17}, "8 planned 5 met 0 missed 3 excused 0 open MetSLA", "100 0 MetSLA"},
		{[]int{13, 14, 15}, "8 planned 3 met 2 missed 3 excused 0 open MissedSLA", "60 0 MissedSLA"},
	} {
		w := newWorld(t)
		w.do(inForce("02-20 00:00", 1, hourly()), joined("03-02 12:30", "web-1"))
		w.served("03-02", "web-1", c.hours...)
		w.until("03-03 00:00")
		w.wantCount("web-1", dailyBackups, "03-02", c.count)
		w.wantEntry(dailyBackups, "03-02", c.want)
		w.wantLine("web-1", "03-02 12:00", sla.Excused, sla.JoinedLate)
		w.wantLine("web-1", "03-02 13:00", sla.Met, "")
	}
}

// A policy's ratio is the unweighted mean over its machines, whatever they were asked for: 100 % and 60 % make 80 %.
func TestCatalogue_MeanOverMachines(t *testing.T) {
	w := newWorld(t)
	w.do(inForce("02-20 00:00", 1, hourly()), joined("03-01 20:00", "web-1"))
	w.served("03-02", "web-1", 10, 11, 12)
	w.do(joined("03-02 12:30", "web-2"))
	for _, h := range []int{13, 14, 15} {
		w.served("03-02", "web-1", h)
		w.served("03-02", "web-2", h)
	}
	w.served("03-02", "web-1", 16, 17)
	w.until("03-03 00:00")
	w.wantEntry(dailyBackups, "03-02", "80 0 MissedSLA")
	c, _ := w.ledger.Entry(shop, dailyBackups, date("03-02"))
	if c.Machines != (sla.Machines{Total: 2, Met: 1, Missed: 1}) || c.Planned != 16 || c.Met != 11 || c.Missed != 2 || c.Excused != 3 {
		t.Errorf("%+v", c)
	}
}

// Two-hourly from 10 to 14 with both made is 100 %. An edit to hourly, four planned, makes it 50 % elsewhere, since charts are
// computed again; here the entry stays at 2/2.
func TestCatalogue_EditKeepsOldEntries(t *testing.T) {
	old := with(hourly(), func(t *holdfast.SLATemplate) {
		t.BackupWindow = window("10:00-14:00")
		t.Rows[0].Every = holdfast.Hours(2)
	})
	w := newWorld(t)
	w.do(inForce("02-20 00:00", 1, old), joined("03-01 20:00", "web-1"))
	w.served("03-02", "web-1", 10, 12)
	w.do(inForce("03-03 09:00", 2, with(old, func(t *holdfast.SLATemplate) { t.Rows[0].Every = holdfast.Hours(1) })))
	w.until("03-04 00:00")
	w.wantEntry(dailyBackups, "03-02", "100 0 MetSLA")
	w.wantCount("web-1", dailyBackups, "03-02", "2 planned 2 met 0 missed 0 excused 0 open MetSLA")
	w.wantCount("web-1", dailyBackups, "03-03", "4 planned 0 met 4 missed 0 excused 0 open MissedSLA")
}

// The end of a window is exclusive: 10:00 to 13:00 asks for three points, to 13:05 for four.
func TestCatalogue_WindowEndsExclusive(t *testing.T) {
	for closes, want := range map[string]string{"13:00": "3 planned", "13:05": "4 planned"} {
		w := newWorld(t)
		w.do(inForce("02-20 00:00", 1, with(hourly(), func(t *holdfast.SLATemplate) { t.BackupWindow = window("10:00-" + closes) })), joined("03-01 20:00", "web-1"))
		w.until("03-03 00:00")
		if got := w.counted("web-1", dailyBackups, "03-02"); got[:9] != want {
			t.Errorf("to %s: %s", closes, got)
		}
	}
}

// The window is on the wall clock of each machine's region, and the figure is there when it has closed in all of them.
func TestCatalogue_RegionsFinishAtDifferentTimes(t *testing.T) {
	w := newWorld(t)
	w.do(inForce("02-20 00:00", 1, hourly(), dublin, newYork), joined("03-01 20:00", "web-1"), joinedIn("03-01 20:00", "web-2", newYork))
	w.until("03-02 15:30")
	w.wantLine("web-1", "03-02 10:00", sla.Missed, sla.NoPoint)
	w.wantLine("web-2", "03-02 15:00", sla.Open, "")
	w.wantNone("web-2", dailyBackups, "03-02 10:00")
	w.until("03-03 04:59")
	w.wantClosed(dailyBackups, "03-02", "open")
	w.until("03-03 05:00")
	w.wantClosed(dailyBackups, "03-02", "03-03 05:00")
}

// In the weekly view only the points of the weekly row are planned, from Monday to Sunday; archives are always monthly.
func TestCatalogue_WeeklyAndMonthlyViews(t *testing.T) {
	w := newWorld(t)
	w.do(inForce("02-20 00:00", 1, asks(hourly(),
		every(holdfast.PointBackup, holdfast.Hours(1)), weeklyOn(holdfast.PointBackup, 1), monthlyOn(holdfast.PointBackup, 3), monthlyOn(holdfast.PointArchive, 1),
	)), joined("02-28 20:00", "web-1"))
	w.served("03-02", "web-1", 13)
	w.until("04-02 00:00")
	w.wantCount("web-1", weeklyBackups, "03-08", "1 planned 1 met 0 missed 0 excused 0 open MetSLA")
	w.wantCount("web-1", weeklyBackups, "03-09", "1 planned 0 met 1 missed 0 excused 0 open MissedSLA")
	w.wantCount("web-1", monthlyBackups, "03-31", "1 planned 0 met 1 missed 0 excused 0 open MissedSLA")
	w.wantCount("web-1", archives, "03-31", "1 planned 0 met 1 missed 0 excused 0 open MissedSLA")
	w.wantClosed(weeklyBackups, "03-02", "03-09 00:00")
	w.wantClosed(archives, "03-01", "03-31 23:00")
}

package schedule_test

import (
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// TestEntry puts days into the entries of the charts, and ends these with the local midnight after their last day.
func TestEntry(t *testing.T) {
	for _, c := range []struct {
		flag        holdfast.Flag
		day         civil.Date
		first, last civil.Date
		zone, ends  string
	}{
		{holdfast.Daily, date(2026, time.May, 6), date(2026, time.May, 6), date(2026, time.May, 6), "UTC", "2026-05-07 00:00"},
		{holdfast.Weekly, date(2026, time.May, 6), date(2026, time.May, 4), date(2026, time.May, 10), "UTC", "2026-05-11 00:00"},
		{holdfast.Weekly, date(2026, time.May, 4), date(2026, time.May, 4), date(2026, time.May, 10), "UTC", "2026-05-11 00:00"},
		{holdfast.Weekly, date(2027, time.January, 3), date(2026, time.December, 28), date(2027, time.January, 3), "UTC", "2027-01-04 00:00"},
		{holdfast.Monthly, date(2028, time.February, 10), date(2028, time.February, 1), date(2028, time.February, 29), "UTC", "2028-03-01 00:00"},
		{holdfast.Monthly, date(2026, time.December, 31), date(2026, time.December, 1), date(2026, time.December, 31), "America/New_York", "2027-01-01 05:00"},
		{holdfast.Yearly, date(2026, time.May, 6), date(2026, time.January, 1), date(2026, time.December, 31), "UTC", "2027-01-01 00:00"},
		{holdfast.Daily, date(2011, time.December, 29), date(2011, time.December, 29), date(2011, time.December, 29), "Pacific/Apia", "2011-12-30 10:00"},
		{holdfast.Daily, date(2025, time.March, 29), date(2025, time.March, 29), date(2025, time.March, 29), "Asia/Beirut", "2025-03-29 22:00"},
	} {
		e := schedule.EntryOf(c.flag, c.day)
		if e.First != c.first || e.Last() != c.last || shown(e.Ends(load(t, c.zone)), time.UTC) != c.ends {
			t.Errorf("%s entry of %s: %s to %s, ends at %s", c.flag, c.day, e.First, e.Last(), shown(e.Ends(load(t, c.zone)), time.UTC))
		}
		if next := e.Next(); next != schedule.EntryOf(c.flag, c.last.AddDays(1)) || !next.Begins(time.UTC).Equal(e.Ends(time.UTC)) {
			t.Errorf("%s entry of %s is followed by that of %s", c.flag, c.day, next.First)
		}
	}
}

// TestEntry_OfSlot counts a slot behind midnight on the day on which its window opened.
func TestEntry_OfSlot(t *testing.T) {
	sunday := date(2026, time.May, 31)
	template := holdfast.SLATemplate{BackupWindow: window(t, "22:00-06:00"), Rows: []holdfast.SLARow{
		{Flag: holdfast.Daily, Kind: holdfast.PointBackup, Every: holdfast.Hours(3)},
		{Flag: holdfast.Weekly, Kind: holdfast.PointBackup, Days: holdfast.WeekdaySet(time.Sunday)},
		{Flag: holdfast.Monthly, Kind: holdfast.PointBackup, On: holdfast.MonthDay{Day: holdfast.LastDay}},
	}}
	want := map[holdfast.Flag]civil.Date{holdfast.Daily: sunday, holdfast.Weekly: date(2026, time.May, 25), holdfast.Monthly: date(2026, time.May, 1)}
	slots := 0
	for s := range schedule.Slots(template, time.UTC, utc(t, "2026-05-31 22:00"), utc(t, "2026-06-01 22:00")) {
		slots++
		if e := s.Entry(); e.Flag != s.Flag || e.First != want[s.Flag] {
			t.Errorf("the slot at %s belongs to the %s entry of %s", s.At, e.Flag, e.First)
		}
	}
	if slots != 5 {
		t.Errorf("%d slots, not 3 daily ones, a weekly and a monthly one", slots)
	}
}

package schedule_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// TestSlots_Catalogue counts the slots of the worked examples in §7.4 of the reference catalogue: the end of a window is
// not part of it.
func TestSlots_Catalogue(t *testing.T) {
	for _, c := range []struct {
		window string
		every  holdfast.Period
		want   []string
	}{
		{"10:00-13:00", holdfast.Hours(1), []string{"10:00", "11:00", "12:00"}},
		{"10:00-13:05", holdfast.Hours(1), []string{"10:00", "11:00", "12:00", "13:00"}},
		{"10:00-14:00", holdfast.Hours(2), []string{"10:00", "12:00"}},
		{"10:00-18:00", holdfast.Hours(1), []string{"10:00", "11:00", "12:00", "13:00", "14:00", "15:00", "16:00", "17:00"}},
		{"00:00-00:00", holdfast.Hours(8), []string{"00:00", "08:00", "16:00"}},
		{"22:00-06:00", holdfast.Hours(3), []string{"22:00", "01:00", "04:00"}},
		{"09:15-09:15", holdfast.Hours(24), []string{"09:15"}},
		{"09:15-09:16", holdfast.Minutes(5), []string{"09:15"}},
	} {
		day := date(2026, time.May, 5)
		template := holdfast.SLATemplate{
			SnapshotWindow: window(t, c.window),
			Rows:           []holdfast.SLARow{{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, Every: c.every}},
		}
		var got []string
		for s := range schedule.Slots(template, time.UTC, civil.Begin(day, time.UTC), civil.Begin(day.AddDays(2), time.UTC)) {
			if s.Day == day {
				got = append(got, s.At.Format("15:04"))
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s in %s: %v, not %v", c.every, c.window, got, c.want)
		}
	}
}

// TestSlots_Regions opens a window on the wall clock of each region: the example of §7.4 of the reference catalogue, with the
// daylight saving that it leaves aside.
func TestSlots_Regions(t *testing.T) {
	template := holdfast.SLATemplate{
		SnapshotWindow: window(t, "09:00-21:00"),
		Rows:           []holdfast.SLARow{{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, Every: holdfast.Hours(12)}},
	}
	for _, c := range []struct {
		region string
		day    civil.Date
		want   string
	}{
		{"northeurope", date(2026, time.January, 15), "2026-01-15 09:00"},
		{"centralus", date(2026, time.January, 15), "2026-01-15 15:00"},
		{"northeurope", date(2026, time.July, 15), "2026-07-15 08:00"},
		{"centralus", date(2026, time.July, 15), "2026-07-15 14:00"},
		{"westus3", date(2026, time.July, 15), "2026-07-15 16:00"}, // Phoenix saves no daylight
		{"centralindia", date(2026, time.July, 15), "2026-07-15 03:30"},
		{"newzealandnorth", date(2026, time.July, 15), "2026-07-14 21:00"},
	} {
		name, known := schedule.RegionZone(c.region)
		if !known {
			t.Fatalf("%s is not known", c.region)
		}
		zone := load(t, name)
		for s := range schedule.Slots(template, zone, civil.Begin(c.day, zone), civil.Begin(c.day.AddDays(1), zone)) {
			if got := shown(s.At, time.UTC); got != c.want || s.Day != c.day {
				t.Errorf("%s: %s of %s, not %s", c.region, got, s.Day, c.want)
			}
		}
	}
}

// line writes a slot: the local date and time, its row, the window and the deadline.
func line(s schedule.Slot, zone *time.Location) string {
	local := func(at time.Time) string { return at.In(zone).Format("02 15:04") }
	words := []string{local(s.At), s.Flag.String(), string(s.Kind), local(s.Opens) + "-" + local(s.Closes), "by", local(s.Deadline)}
	if s.Shift != civil.Unshifted {
		words = append(words, s.Shift.String())
	}
	return strings.Join(words, " ")
}

// slotCase is a template, and its slots on some days of a zone.
type slotCase struct {
	name     string
	zone     string
	template holdfast.SLATemplate
	from     civil.Date
	days     int
	want     []string
}

func (c slotCase) hold(t *testing.T) {
	t.Helper()
	zone := load(t, c.zone)
	var got []string
	for s := range schedule.Slots(c.template, zone, civil.Begin(c.from, zone), civil.Begin(c.from.AddDays(c.days), zone)) {
		got = append(got, line(s, zone))
	}
	if !slices.Equal(got, c.want) {
		t.Errorf("%s:\n%s\nnot\n%s", c.name, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
	}
}

// snapshots is a template of daily snapshots.
func snapshots(t *testing.T, in string, every holdfast.Period) holdfast.SLATemplate {
	return holdfast.SLATemplate{
		SnapshotWindow: window(t, in), Grace: time.Hour,
		Rows: []holdfast.SLARow{{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, Every: every}},
	}
}

// TestSlots_Deadlines ends a slot at the next one of its row, or at the close of its window and the grace, and never before
// a quarter of an hour has passed.
func TestSlots_Deadlines(t *testing.T) {
	both := holdfast.SLATemplate{
		SnapshotWindow: window(t, "08:00-12:00"), BackupWindow: window(t, "10:00-14:00"), Grace: 30 * time.Minute,
		Rows: []holdfast.SLARow{
			{Flag: holdfast.Monthly, Kind: holdfast.PointArchive, On: holdfast.MonthDay{Day: 1}},
			{Flag: holdfast.Weekly, Kind: holdfast.PointBackup, Days: holdfast.EveryDay},
			{Flag: holdfast.Daily, Kind: holdfast.PointBackup, Every: holdfast.Hours(2)},
			{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, Every: holdfast.Hours(2)},
		},
	}
	day := date(2026, time.June, 1)
	for _, c := range []slotCase{
		{"rows and kinds do not end one another", "UTC", both, day, 1, []string{
			"01 08:00 daily snapshot 01 08:00-01 12:00 by 01 10:00",
			"01 10:00 daily snapshot 01 08:00-01 12:00 by 01 12:30",
			"01 10:00 daily backup 01 10:00-01 14:00 by 01 12:00",
			"01 10:00 weekly backup 01 10:00-01 14:00 by 01 14:30",
			"01 10:00 monthly archive 01 10:00-01 14:00 by 01 14:30",
			"01 12:00 daily backup 01 10:00-01 14:00 by 01 14:30",
		}},
		{"the next window's slot ends the last one of this", "UTC", snapshots(t, "00:00-00:00", holdfast.Hours(12)), day, 1, []string{
			"01 00:00 daily snapshot 01 00:00-02 00:00 by 01 12:00",
			"01 12:00 daily snapshot 01 00:00-02 00:00 by 02 00:00",
		}},
		{"however late that is, when the grace is long", "UTC", holdfast.SLATemplate{
			BackupWindow: window(t, "22:00-23:00"), Grace: 20 * 24 * time.Hour,
			Rows: []holdfast.SLARow{{Flag: holdfast.Weekly, Kind: holdfast.PointBackup, Days: holdfast.WeekdaySet(time.Monday)}},
		}, day, 1, []string{"01 22:00 weekly backup 01 22:00-01 23:00 by 08 22:00"}},
		{"a quarter of an hour at least", "UTC", snapshots(t, "10:00-10:06", holdfast.Minutes(5)), day, 1, []string{
			"01 10:00 daily snapshot 01 10:00-01 10:06 by 01 10:15",
			"01 10:05 daily snapshot 01 10:00-01 10:06 by 01 11:06",
		}},
		{"a window over midnight is its opening day's", "UTC", snapshots(t, "22:00-02:00", holdfast.Hours(2)), day, 1, []string{
			"01 00:00 daily snapshot 31 22:00-01 02:00 by 01 03:00",
			"01 22:00 daily snapshot 01 22:00-02 02:00 by 02 00:00",
		}},
	} {
		c.hold(t)
	}
}

// TestSlots_Clock steps on the wall clock, whatever happens to it, and places the ends of windows as it places slots.
func TestSlots_Clock(t *testing.T) {
	spring, autumn, skipped := date(2026, time.March, 29), date(2026, time.October, 25), date(2011, time.December, 29)
	for _, c := range []slotCase{
		{"every 8 hours is 00, 08, 16 each day, in spring", "Europe/Brussels", snapshots(t, "00:00-00:00", holdfast.Hours(8)), spring, 1, []string{
			"29 00:00 daily snapshot 29 00:00-30 00:00 by 29 08:00",
			"29 08:00 daily snapshot 29 00:00-30 00:00 by 29 16:00",
			"29 16:00 daily snapshot 29 00:00-30 00:00 by 30 00:00",
		}},
		{"slots in the gap are one, with the one behind it", "Europe/Brussels", snapshots(t, "01:30-04:00", holdfast.Minutes(30)), spring, 1, []string{
			"29 01:30 daily snapshot 29 01:30-29 04:00 by 29 03:00",
			"29 03:00 daily snapshot 29 01:30-29 04:00 by 29 03:30 after gap",
			"29 03:30 daily snapshot 29 01:30-29 04:00 by 29 05:00",
		}},
		{"a window that opens in the gap", "Europe/Brussels", snapshots(t, "02:15-05:15", holdfast.Hours(2)), spring, 1, []string{
			"29 03:00 daily snapshot 29 03:00-29 05:15 by 29 04:15 after gap",
			"29 04:15 daily snapshot 29 03:00-29 05:15 by 29 06:15",
		}},
		{"a window that lies in the gap keeps its slot", "Europe/Brussels", snapshots(t, "02:00-02:30", holdfast.Hours(1)), spring, 1, []string{
			"29 03:00 daily snapshot 29 03:00-29 03:00 by 29 04:00 after gap",
		}},
		{"a repeated hour has its slots once, and closes a window once", "Europe/Brussels", snapshots(t, "01:30-02:45", holdfast.Minutes(30)), autumn, 1, []string{
			"25 01:30 daily snapshot 25 01:30-25 02:45 by 25 02:00",
			"25 02:00 daily snapshot 25 01:30-25 02:45 by 25 02:30 first of two",
			"25 02:30 daily snapshot 25 01:30-25 02:45 by 25 02:45 first of two", // the second 02:45, an hour after the close
		}},
		{"half an hour is repeated", "Australia/Lord_Howe", snapshots(t, "01:00-03:00", holdfast.Minutes(30)), date(2026, time.April, 5), 1, []string{
			"05 01:00 daily snapshot 05 01:00-05 03:00 by 05 01:30",
			"05 01:30 daily snapshot 05 01:00-05 03:00 by 05 02:00 first of two",
			"05 02:00 daily snapshot 05 01:00-05 03:00 by 05 02:30",
			"05 02:30 daily snapshot 05 01:00-05 03:00 by 05 04:00",
		}},
		{"a day that begins after its gap", "Asia/Beirut", snapshots(t, "00:00-00:00", holdfast.Hours(12)), date(2025, time.March, 30), 1, []string{
			"30 01:00 daily snapshot 30 01:00-31 00:00 by 30 12:00 after gap",
			"30 12:00 daily snapshot 30 01:00-31 00:00 by 31 00:00",
		}},
		{"a date that does not exist has its slots when the next one begins", "Pacific/Apia", snapshots(t, "10:00-14:00", holdfast.Hours(2)), skipped, 3, []string{
			"29 10:00 daily snapshot 29 10:00-29 14:00 by 29 12:00",
			"29 12:00 daily snapshot 29 10:00-29 14:00 by 29 15:00",
			"31 00:00 daily snapshot 31 00:00-31 00:00 by 31 01:00 after gap",
			"31 10:00 daily snapshot 31 10:00-31 14:00 by 31 12:00",
			"31 12:00 daily snapshot 31 10:00-31 14:00 by 31 15:00",
		}},
		{"and is one with the next one's where that has one then", "Pacific/Apia", snapshots(t, "00:00-00:00", holdfast.Hours(24)), skipped, 3, []string{
			"29 00:00 daily snapshot 29 00:00-31 00:00 by 31 00:00",
			"31 00:00 daily snapshot 31 00:00-01 00:00 by 01 00:00 after gap",
		}},
		{"a window over the midnight that the gap swallows", "America/Nuuk", snapshots(t, "22:30-00:30", holdfast.Minutes(30)), date(2025, time.March, 29), 2, []string{
			"29 00:00 daily snapshot 28 22:30-29 00:30 by 29 01:30",
			"29 22:30 daily snapshot 29 22:30-30 00:30 by 30 00:00",
			"30 00:00 daily snapshot 29 22:30-30 00:30 by 30 01:30 after gap",
			"30 22:30 daily snapshot 30 22:30-31 00:30 by 30 23:00",
			"30 23:00 daily snapshot 30 22:30-31 00:30 by 30 23:30",
			"30 23:30 daily snapshot 30 22:30-31 00:30 by 31 00:00",
		}},
	} {
		c.hold(t)
	}
}

// TestSlots_CutAtTheEndOfAWindow finds a slot that a gap moved to the close of its window, asked from that instant on.
func TestSlots_CutAtTheEndOfAWindow(t *testing.T) {
	zone, spring := load(t, "Europe/Brussels"), date(2026, time.March, 29)
	template := snapshots(t, "02:00-02:30", holdfast.Hours(1))
	gap := civil.At(spring, holdfast.NewTimeOfDay(2, 0), zone)
	for s := range schedule.Slots(template, zone, gap, gap.Add(1)) {
		if s.At.Equal(gap) && s.Closes.Equal(gap) && s.Day == spring {
			return
		}
	}
	t.Error("the slot is lost")
}

// TestSessions makes one session of all rows that ask for a kind at one instant, and none of two kinds.
func TestSessions(t *testing.T) {
	template := holdfast.SLATemplate{
		SnapshotWindow: window(t, "00:00-00:00"), BackupWindow: window(t, "00:00-06:00"),
		Rows: []holdfast.SLARow{
			{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, Every: holdfast.Hours(12)},
			{Flag: holdfast.Daily, Kind: holdfast.PointBackup, Every: holdfast.Hours(4)},
			{Flag: holdfast.Weekly, Kind: holdfast.PointBackup, Days: holdfast.WeekdaySet(time.Monday)},
			{Flag: holdfast.Monthly, Kind: holdfast.PointBackup, On: holdfast.MonthDay{Ordinal: holdfast.First, Weekday: time.Monday}},
			{Flag: holdfast.Monthly, Kind: holdfast.PointArchive, Months: holdfast.NewMonthSet(time.June), On: holdfast.MonthDay{Day: 1}},
		},
	}
	day := date(2026, time.June, 1) // a Monday
	var got []string
	for s := range schedule.Sessions(template, time.UTC, civil.Begin(day, time.UTC), civil.Begin(day.AddDays(2), time.UTC)) {
		var flags holdfast.Flags
		for _, slot := range s.Slots {
			flags = flags.With(slot.Flag)
			if !slot.At.Equal(s.At) || slot.Kind != s.Kind {
				t.Errorf("the session of %s at %s serves a slot of %s at %s", s.Kind, s.At, slot.Kind, slot.At)
			}
		}
		got = append(got, s.At.Format("02 15:04 ")+string(s.Kind)+" "+flags.String())
	}
	want := []string{
		"01 00:00 snapshot D", "01 00:00 backup DWM", "01 00:00 archive M", "01 04:00 backup D", "01 12:00 snapshot D",
		"02 00:00 snapshot D", "02 00:00 backup D", "02 04:00 backup D", "02 12:00 snapshot D",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

// TestHealthChecks stand at the close of the backup window, on the days that are picked.
func TestHealthChecks(t *testing.T) {
	template := holdfast.SLATemplate{
		BackupWindow: window(t, "22:00-06:00"),
		Rows:         []holdfast.SLARow{{Flag: holdfast.Weekly, Kind: holdfast.PointBackup, Days: holdfast.WeekdaySet(time.Monday)}},
		HealthCheck:  &holdfast.HealthCheck{When: holdfast.Calendar{On: holdfast.MonthDay{Ordinal: holdfast.Last, Weekday: time.Friday}}},
	}
	checks := func() (found []string) {
		for at := range schedule.HealthChecks(template, time.UTC, utc(t, "2026-01-31 06:00"), utc(t, "2026-04-25 06:00")) {
			found = append(found, shown(at, time.UTC))
		}
		return found
	}
	if got, want := checks(), []string{"2026-01-31 06:00", "2026-02-28 06:00", "2026-03-28 06:00"}; !slices.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
	template.Rows[0].Kind = holdfast.PointSnapshot
	if got := checks(); got != nil {
		t.Errorf("%v, but there are no backups to check", got)
	}
}

func anyTemplate(rt *rapid.T) holdfast.SLATemplate {
	anyWindow := func(label string) holdfast.Window {
		end := rapid.Map(rapid.IntRange(0, 95), func(n int) holdfast.TimeOfDay { return holdfast.TimeOfDay(15 * n) })
		return holdfast.Window{Opens: end.Draw(rt, label+" opens"), Closes: end.Draw(rt, label+" closes")}
	}
	every := rapid.SampledFrom([]holdfast.Period{holdfast.Minutes(5), holdfast.Minutes(20), holdfast.Hours(1), holdfast.Hours(3), holdfast.Hours(24)})
	template := holdfast.SLATemplate{
		SnapshotWindow: anyWindow("snapshots"), BackupWindow: anyWindow("backups"),
		Grace: time.Duration(rapid.IntRange(0, 100).Draw(rt, "grace")) * time.Hour,
	}
	for _, row := range []holdfast.SLARow{
		{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, Every: every.Draw(rt, "snapshots every")},
		{Flag: holdfast.Daily, Kind: holdfast.PointBackup, Every: every.Draw(rt, "backups every")},
		{Flag: holdfast.Weekly, Kind: holdfast.PointBackup, Days: holdfast.Weekdays(rapid.IntRange(1, 127).Draw(rt, "weekdays"))},
		{Flag: holdfast.Monthly, Kind: holdfast.PointSnapshot, On: holdfast.MonthDay{Day: rapid.IntRange(1, 31).Draw(rt, "day")}},
		{Flag: holdfast.Monthly, Kind: holdfast.PointArchive, On: holdfast.MonthDay{Day: 1}},
	} {
		if rapid.Bool().Draw(rt, "has row") {
			template.Rows = append(template.Rows, row)
		}
	}
	return template
}

// TestSlots_Property proves what holds for all slots: a stretch of time cut in two has in its parts what it has as a whole,
// rows are in strict order, and windows and deadlines lie where they must.
func TestSlots_Property(t *testing.T) {
	names := zoneNames(t)
	rapid.Check(t, func(rt *rapid.T) {
		zone, template := anyZone(t, rt, names), anyTemplate(rt)
		from := anyInstant(rt, zone)
		length := rapid.Int64Range(0, 4*24*60).Draw(rt, "length")
		to := from.Add(time.Duration(length) * time.Minute)
		whole := slices.Collect(schedule.Slots(template, zone, from, to))
		cut := from.Add(time.Duration(rapid.Int64Range(0, length).Draw(rt, "cut")) * time.Minute)
		if len(whole) > 0 && rapid.Bool().Draw(rt, "cut at a slot") {
			cut = rapid.SampledFrom(whole).Draw(rt, "slot").At
		}
		parts := append(slices.Collect(schedule.Slots(template, zone, from, cut)), slices.Collect(schedule.Slots(template, zone, cut, to))...)
		if !slices.Equal(whole, parts) {
			rt.Fatalf("whole %v\nparts %v", whole, parts)
		}
		type row struct {
			flag holdfast.Flag
			kind holdfast.PointKind
		}
		before, last := make(map[row]schedule.Slot), from
		for _, s := range whole {
			if s.At.Before(last) || !s.At.Before(to) {
				rt.Fatalf("%s is out of order, or out of %s to %s", line(s, zone), from, to)
			}
			b, again := before[row{s.Flag, s.Kind}]
			if again && (!b.At.Before(s.At) || b.Deadline.After(s.At) && b.Deadline.After(b.At.Add(schedule.DeadlineMin))) {
				rt.Fatalf("%s comes after %s", line(s, zone), line(b, zone))
			}
			closing := s.Closes.Add(template.Grace)
			if s.At.Before(s.Opens) || s.At.After(s.Closes) || s.At.Equal(s.Closes) && s.Shift != civil.AfterGap ||
				s.Deadline.Before(s.At.Add(schedule.DeadlineMin)) || s.Deadline.After(closing) && s.Deadline.After(s.At.Add(schedule.DeadlineMin)) {
				rt.Fatalf("%s", line(s, zone))
			}
			before[row{s.Flag, s.Kind}], last = s, s.At
		}
	})
}

// TestSlots_EveryZone proves that each local day of a zone has one slot of a row that asks for one a day, whatever the clock
// does: also none that only the end of a window would see.
func TestSlots_EveryZone(t *testing.T) {
	template := snapshots(t, "23:30-00:30", holdfast.Hours(24))
	first, last := date(2026, time.January, 1), date(2027, time.December, 31)
	for _, name := range zoneNames(t) {
		zone, day := load(t, name), first
		for s := range schedule.Slots(template, zone, civil.Begin(first, zone), civil.Begin(last.AddDays(1), zone)) {
			if s.Day != day {
				t.Fatalf("%s: the slot of %s is that of %s", name, day, s.Day)
			}
			day = day.AddDays(1)
		}
		if want := last.AddDays(1); day != want {
			t.Fatalf("%s: the slots end before %s", name, day)
		}
	}
}

// BenchmarkSlots walks over years of a template that asks for a snapshot every five minutes, and for everything else. The
// time for each slot must not depend on how many years there are.
func BenchmarkSlots(b *testing.B) {
	zone, err := civil.Zone("America/New_York")
	if err != nil {
		b.Fatal(err)
	}
	first := holdfast.MonthDay{Day: 1}
	template := holdfast.SLATemplate{Grace: time.Hour, Rows: []holdfast.SLARow{
		{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, Every: holdfast.Minutes(5)},
		{Flag: holdfast.Weekly, Kind: holdfast.PointSnapshot, Days: holdfast.WeekdaySet(time.Monday)},
		{Flag: holdfast.Monthly, Kind: holdfast.PointSnapshot, On: first},
		{Flag: holdfast.Daily, Kind: holdfast.PointBackup, Every: holdfast.Hours(8)},
		{Flag: holdfast.Weekly, Kind: holdfast.PointBackup, Days: holdfast.WeekdaySet(time.Monday)},
		{Flag: holdfast.Monthly, Kind: holdfast.PointBackup, On: first},
		{Flag: holdfast.Monthly, Kind: holdfast.PointArchive, On: first},
	}}
	from := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	for _, years := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("years=%d", years), func(b *testing.B) {
			slots := 0
			for b.Loop() {
				for range schedule.Slots(template, zone, from, from.AddDate(years, 0, 0)) {
					slots++
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(slots), "ns/slot")
		})
	}
	b.Run("minute", func(b *testing.B) { // what a scheduler asks at every tick
		for b.Loop() {
			for range schedule.Sessions(template, zone, from, from.Add(time.Minute)) {
			}
		}
	})
}

func window(t *testing.T, text string) holdfast.Window {
	t.Helper()
	var w holdfast.Window
	if err := w.Opens.UnmarshalText([]byte(text[:5])); err != nil {
		t.Fatal(err)
	}
	if err := w.Closes.UnmarshalText([]byte(text[6:])); err != nil {
		t.Fatal(err)
	}
	return w
}

func date(year int, month time.Month, day int) civil.Date {
	return civil.Date{Year: year, Month: month, Day: day}
}

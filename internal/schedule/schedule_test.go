package schedule_test

import (
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// text writes a run as its local time, what is made, and what else is to be said of it.
func text(r schedule.Run, zone *time.Location) string {
	words := []string{r.At.In(zone).Format("2006-01-02 15:04")}
	if r.MakesSnapshot() {
		words = append(words, "snapshot:"+r.Snapshot.String())
	}
	for _, b := range r.Backups {
		words = append(words, "backup:"+b.Flags.String()+"@"+b.Repository)
	}
	for _, a := range r.Archives {
		words = append(words, "archive:"+a.Flags.String()+"@"+a.Repository)
	}
	if r.HealthCheck {
		words = append(words, "check")
	}
	if r.Shift != civil.Unshifted {
		words = append(words, r.Shift.String())
	}
	return strings.Join(words, " ")
}

func texts(runs iter.Seq[schedule.Run], zone *time.Location) []string {
	var all []string
	for r := range runs {
		all = append(all, text(r, zone))
	}
	return all
}

func at(times ...string) []holdfast.TimeOfDay {
	all := make([]holdfast.TimeOfDay, len(times))
	for i, word := range times {
		if err := all[i].UnmarshalText([]byte(word)); err != nil {
			panic(err)
		}
	}
	return all
}

// policy makes one of rows, each written as flag, kind and repository.
func policy(rows map[string]holdfast.Calendar) holdfast.SchedulePolicy {
	var p holdfast.SchedulePolicy
	for name, when := range rows {
		words := strings.Fields(name + " .")
		row := holdfast.ScheduleRow{Kind: holdfast.PointKind(words[1]), When: when, Repository: words[2]}
		if err := row.Flag.UnmarshalText([]byte(words[0])); err != nil {
			panic(err)
		}
		p.Rows = append(p.Rows, row)
	}
	slices.SortFunc(p.Rows, func(a, b holdfast.ScheduleRow) int { return int(a.Flag) - int(b.Flag) })
	return p
}

// TestRuns unites what rows ask for at the same instant, and leaves each at its own otherwise.
func TestRuns(t *testing.T) {
	mondays, firstMonday := holdfast.WeekdaySet(time.Monday), holdfast.MonthDay{Ordinal: holdfast.First, Weekday: time.Monday}
	for _, c := range []struct {
		name string
		rows map[string]holdfast.Calendar
		from civil.Date
		days int
		want []string
	}{
		{
			"a point gets the flag of each schedule whose slot is its own: §4.4",
			map[string]holdfast.Calendar{
				"daily snapshot":  {Days: holdfast.WorkingDays, Times: at("07:00", "09:00", "11:00")},
				"weekly snapshot": {Days: mondays, Times: at("07:00")},
			},
			date(2026, time.May, 3), 3, // a Sunday
			[]string{
				"2026-05-04 07:00 snapshot:DW", "2026-05-04 09:00 snapshot:D", "2026-05-04 11:00 snapshot:D",
				"2026-05-05 07:00 snapshot:D", "2026-05-05 09:00 snapshot:D", "2026-05-05 11:00 snapshot:D",
			},
		},
		{
			"a backup without a row of snapshots is fed by one without flags",
			map[string]holdfast.Calendar{"daily backup A": {Times: at("22:00")}},
			date(2026, time.May, 3), 1,
			[]string{"2026-05-03 22:00 snapshot: backup:D@A"},
		},
		{
			"each repository is a target of its own",
			map[string]holdfast.Calendar{
				"daily backup A":  {Times: at("22:00")},
				"weekly backup B": {Days: mondays, Times: at("22:00")}, "monthly backup A": {On: firstMonday, Times: at("22:00")},
			},
			date(2026, time.May, 4), 1,
			[]string{"2026-05-04 22:00 snapshot: backup:DM@A backup:W@B"},
		},
		{
			"a day of the month that coincides with nothing makes an extra point",
			map[string]holdfast.Calendar{
				"daily backup A":   {Days: holdfast.WorkingDays, Times: at("22:00")},
				"monthly backup A": {On: holdfast.MonthDay{Day: holdfast.LastDay}, Times: at("04:00")},
			},
			date(2026, time.May, 29), 3, // a Friday
			[]string{"2026-05-29 22:00 snapshot: backup:D@A", "2026-05-31 04:00 snapshot: backup:M@A"},
		},
		{
			"months end on their last day",
			map[string]holdfast.Calendar{"yearly backup A": {Months: holdfast.NewMonthSet(time.February), On: holdfast.MonthDay{Day: 29}, Times: at("01:00")}},
			date(2027, time.January, 1), 800,
			[]string{"2027-02-28 01:00 snapshot: backup:Y@A", "2028-02-29 01:00 snapshot: backup:Y@A", "2029-02-28 01:00 snapshot: backup:Y@A"},
		},
		{
			"nothing is due without times",
			map[string]holdfast.Calendar{"daily backup A": {}},
			date(2026, time.May, 1), 30, nil,
		},
	} {
		from, to := civil.Begin(c.from, time.UTC), civil.Begin(c.from.AddDays(c.days), time.UTC)
		if got := texts(schedule.Runs(policy(c.rows), time.UTC, from, to), time.UTC); !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%s\nnot\n%s", c.name, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// TestRuns_Archive serves an archive after its day's backup, and by itself on a day without one.
func TestRuns_Archive(t *testing.T) {
	day := date(2026, time.June, 1) // a Monday
	for _, c := range []struct {
		name, archive string
		backups       []string
		want          []string
	}{
		{"with the backup at its time", "07:00", []string{"07:00", "19:00"}, []string{"07:00 snapshot: backup:D@A archive:M@C", "19:00 snapshot: backup:D@A"}},
		{"with the next backup of the day", "03:00", []string{"07:00", "19:00"}, []string{"07:00 snapshot: backup:D@A archive:M@C", "19:00 snapshot: backup:D@A"}},
		{"with the last backup when none follows", "23:00", []string{"07:00", "19:00"}, []string{"07:00 snapshot: backup:D@A", "19:00 snapshot: backup:D@A archive:M@C"}},
		{"alone without a backup", "07:00", nil, []string{"07:00 archive:M@C", "12:00 snapshot:D"}},
		{"beside a snapshot that feeds no backup", "12:00", nil, []string{"12:00 snapshot:D archive:M@C"}},
	} {
		rows := map[string]holdfast.Calendar{"monthly archive C": {On: holdfast.MonthDay{Day: 1}, Times: at(c.archive)}}
		if c.backups != nil {
			rows["daily backup A"] = holdfast.Calendar{Times: at(c.backups...)}
		} else {
			rows["daily snapshot"] = holdfast.Calendar{Times: at("12:00")}
		}
		var got []string
		for r := range schedule.Runs(policy(rows), time.UTC, civil.Begin(day, time.UTC), civil.Begin(day.AddDays(1), time.UTC)) {
			got = append(got, strings.TrimPrefix(text(r, time.UTC), "2026-06-01 "))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, not %q", c.name, got, c.want)
		}
	}
}

// TestRuns_HealthCheck marks the last run with a backup on the days that are picked, and no other.
func TestRuns_HealthCheck(t *testing.T) {
	p := policy(map[string]holdfast.Calendar{
		"daily snapshot":    {Times: at("06:00", "12:00", "18:00", "23:00")},
		"daily backup A":    {Days: holdfast.WorkingDays, Times: at("06:00", "18:00")},
		"monthly archive C": {On: holdfast.MonthDay{Day: 6}, Times: at("20:00")},
	})
	p.HealthCheck = &holdfast.HealthCheck{When: holdfast.Calendar{Days: holdfast.WeekdaySet(time.Friday, time.Saturday)}}
	var got []string
	for r := range schedule.Runs(p, time.UTC, civil.Begin(date(2026, time.June, 1), time.UTC), civil.Begin(date(2026, time.June, 15), time.UTC)) {
		if r.HealthCheck {
			got = append(got, r.At.Format("Mon 02 15:04"))
		}
	}
	if want := []string{"Fri 05 18:00", "Fri 12 18:00"}; !slices.Equal(got, want) {
		t.Errorf("checked after %v, not %v", got, want)
	}
}

// TestRuns_Clock loses no day to a clock that is moved, and doubles none.
func TestRuns_Clock(t *testing.T) {
	for _, c := range []struct {
		zone string
		from civil.Date
		days int
		at   []string
		want []string
	}{
		{"Europe/Brussels", date(2026, time.March, 28), 3, []string{"02:30"}, []string{"28 02:30", "29 03:00 after gap", "30 02:30"}},
		{"Europe/Brussels", date(2026, time.March, 29), 1, []string{"02:00", "02:30", "03:00", "03:30"}, []string{"29 03:00 after gap", "29 03:30"}},
		{"Europe/Brussels", date(2026, time.October, 24), 3, []string{"02:30"}, []string{"24 02:30", "25 02:30 first of two", "26 02:30"}},
		{"America/New_York", date(2026, time.March, 8), 1, []string{"02:30"}, []string{"08 03:00 after gap"}},
		{"America/New_York", date(2026, time.November, 1), 1, []string{"00:30", "01:30", "02:30"}, []string{"01 00:30", "01 01:30 first of two", "01 02:30"}},
		{"Australia/Lord_Howe", date(2026, time.October, 4), 1, []string{"02:15", "02:30"}, []string{"04 02:30 after gap"}},
		{"Australia/Lord_Howe", date(2026, time.April, 5), 1, []string{"01:15", "01:45"}, []string{"05 01:15", "05 01:45 first of two"}},
		{"Africa/Casablanca", date(2024, time.March, 10), 1, []string{"02:30"}, []string{"10 02:30 first of two"}},
		{"Africa/Casablanca", date(2024, time.April, 14), 1, []string{"02:30"}, []string{"14 03:00 after gap"}},
		{"Asia/Beirut", date(2025, time.March, 29), 3, []string{"00:15"}, []string{"29 00:15", "30 01:00 after gap", "31 00:15"}},
		{"America/Nuuk", date(2025, time.March, 29), 2, []string{"23:30"}, []string{"30 00:00 after gap", "30 23:30"}},
		{"America/Nuuk", date(2025, time.March, 29), 2, []string{"00:00", "23:30"}, []string{"29 00:00", "30 00:00 after gap", "30 23:30"}},
		{"America/Nuuk", date(2025, time.March, 30), 1, []string{"23:30"}, []string{"30 00:00 after gap", "30 23:30"}},
		{"America/St_Johns", date(2006, time.October, 28), 3, []string{"00:00", "23:30"}, []string{"28 00:00", "28 23:30 first of two", "29 00:00 first of two", "29 23:30", "30 00:00", "30 23:30"}},
		{"Pacific/Apia", date(2011, time.December, 29), 3, []string{"12:00"}, []string{"29 12:00", "31 00:00 after gap", "31 12:00"}},
		{"Pacific/Apia", date(2011, time.December, 29), 3, []string{"00:00"}, []string{"29 00:00", "31 00:00 after gap"}},
	} {
		zone := load(t, c.zone)
		p := policy(map[string]holdfast.Calendar{"daily snapshot": {Times: at(c.at...)}})
		var got []string
		for r := range schedule.Runs(p, zone, civil.Begin(c.from, zone), civil.Begin(c.from.AddDays(c.days), zone)) {
			got = append(got, strings.Replace(text(r, zone)[len("2006-01-"):], " snapshot:D", "", 1))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s from %s at %v: %q, not %q", c.zone, c.from, c.at, got, c.want)
		}
	}
}

// TestRuns_EveryZone runs a daily policy in every zone of the world, in a year in which a date was left out and in years to
// come: each date has its run exactly once, at its time or at the end of the gap that swallowed it.
func TestRuns_EveryZone(t *testing.T) {
	for _, name := range zoneNames(t) {
		zone := load(t, name)
		for _, minute := range at("00:00", "02:30", "23:30") {
			for _, year := range []int{2011, 2027} {
				daily(t, zone, minute, year)
			}
		}
	}
}

func daily(t *testing.T, zone *time.Location, minute holdfast.TimeOfDay, year int) {
	t.Helper()
	p := policy(map[string]holdfast.Calendar{"daily snapshot": {Times: []holdfast.TimeOfDay{minute}}})
	first, last := date(year, time.January, 1), date(year, time.December, 31)
	next, stop := iter.Pull(schedule.Runs(p, zone, civil.Begin(first, zone), civil.Begin(last.AddDays(1), zone)))
	defer stop()
	var before schedule.Run
	for _, d := range datesBetween(first, last) {
		wanted := time.Date(d.Year, d.Month, d.Day, 0, int(minute), 0, 0, time.UTC).Unix()
		if before.Shift == civil.AfterGap && firstAfter(before.At, wanted, zone) {
			continue // the date before has none of its instants, so its run is this one's
		}
		r, ok := next()
		if !ok || !firstAfter(r.At, wanted, zone) {
			t.Fatalf("%s: %s on %s runs at %s", zone, minute, d, shown(r.At, zone))
		}
		if moved := wall(r.At, zone) != wanted; moved != (r.Shift == civil.AfterGap) {
			t.Fatalf("%s: %s on %s runs at %s, said to be %q", zone, minute, d, shown(r.At, zone), r.Shift)
		}
		before = r
	}
	if r, ok := next(); ok {
		t.Fatalf("%s: one run too many at %s", zone, shown(r.At, zone))
	}
}

// firstAfter reports whether the zone's clock shows a local time, or a later one, at an instant and did not just before.
func firstAfter(at time.Time, wanted int64, zone *time.Location) bool {
	return wall(at, zone) >= wanted && wall(at.Add(-time.Second), zone) < wanted
}

// wall is what the zone's clock shows, in seconds as if it were UTC.
func wall(at time.Time, zone *time.Location) int64 {
	_, offset := at.In(zone).Zone()
	return at.Unix() + int64(offset)
}

func shown(at time.Time, zone *time.Location) string { return at.In(zone).Format("2006-01-02 15:04") }

// anyZone draws a zone of the world.
func anyZone(t *testing.T, rt *rapid.T, names []string) *time.Location {
	return load(t, rapid.SampledFrom(names).Draw(rt, "zone"))
}

// anyInstant draws one within some hours of a change of the zone's clock, or anywhere.
func anyInstant(rt *rapid.T, zone *time.Location) time.Time {
	at := time.Unix(rapid.Int64Range(1_200_000_000, 2_500_000_000).Draw(rt, "instant"), 0)
	if _, change := at.In(zone).ZoneBounds(); !change.IsZero() && rapid.Bool().Draw(rt, "near") {
		return change.Add(time.Duration(rapid.IntRange(-50*60, 50*60).Draw(rt, "minutes")) * time.Minute)
	}
	return at
}

func anyCalendar(rt *rapid.T) holdfast.Calendar {
	c := holdfast.Calendar{Times: rapid.SliceOfN(rapid.Map(rapid.IntRange(0, 287), func(n int) holdfast.TimeOfDay { return holdfast.TimeOfDay(5 * n) }), 1, 5).Draw(rt, "times")}
	if rapid.Bool().Draw(rt, "days") {
		c.Days = holdfast.Weekdays(rapid.IntRange(1, 127).Draw(rt, "weekdays"))
	}
	return c
}

func anyPolicy(rt *rapid.T) holdfast.SchedulePolicy {
	p := holdfast.SchedulePolicy{}
	kinds := []holdfast.PointKind{holdfast.PointSnapshot, holdfast.PointBackup, holdfast.PointArchive}
	for range rapid.IntRange(1, 5).Draw(rt, "rows") {
		p.Rows = append(p.Rows, holdfast.ScheduleRow{
			Flag: rapid.SampledFrom([]holdfast.Flag{holdfast.Daily, holdfast.Weekly, holdfast.Monthly, holdfast.Yearly}).Draw(rt, "flag"),
			Kind: rapid.SampledFrom(kinds).Draw(rt, "kind"), When: anyCalendar(rt), Repository: rapid.SampledFrom([]string{"A", "B"}).Draw(rt, "repository"),
		})
	}
	if rapid.Bool().Draw(rt, "check") {
		p.HealthCheck = &holdfast.HealthCheck{}
	}
	return p
}

// TestRuns_CutAnywhere proves that a stretch of time cut in two has in its parts what it has as a whole, in strict order.
func TestRuns_CutAnywhere(t *testing.T) {
	names := zoneNames(t)
	rapid.Check(t, func(rt *rapid.T) {
		zone, p := anyZone(t, rt, names), anyPolicy(rt)
		from := anyInstant(rt, zone)
		length := rapid.Int64Range(0, 10*24*60).Draw(rt, "length")
		to := from.Add(time.Duration(length) * time.Minute)
		whole := slices.Collect(schedule.Runs(p, zone, from, to))
		cut := from.Add(time.Duration(rapid.Int64Range(0, length).Draw(rt, "cut")) * time.Minute)
		if len(whole) > 0 && rapid.Bool().Draw(rt, "cut at a run") {
			cut = rapid.SampledFrom(whole).Draw(rt, "run").At
		}
		parts := append(slices.Collect(schedule.Runs(p, zone, from, cut)), slices.Collect(schedule.Runs(p, zone, cut, to))...)
		if !reflect.DeepEqual(whole, parts) {
			rt.Fatalf("whole %v\nparts %v", whole, parts)
		}
		for i, r := range whole {
			if r.At.Before(from) || !r.At.Before(to) || i > 0 && !whole[i-1].At.Before(r.At) {
				rt.Fatalf("run %d at %s is out of order, or out of %s to %s", i, r.At, from, to)
			}
			if !r.MakesSnapshot() && len(r.Archives) == 0 {
				rt.Fatalf("the run at %s makes nothing", r.At)
			}
		}
	})
}

// TestRuns_CutInRepeatedMidnight cuts where a date begins before the one before it has ended: at one minute past midnight the
// clock of St John's went back by an hour.
func TestRuns_CutInRepeatedMidnight(t *testing.T) {
	zone := load(t, "America/St_Johns")
	p := policy(map[string]holdfast.Calendar{"daily snapshot": {Times: at("00:00")}})
	from := civil.At(date(2006, time.October, 28), holdfast.NewTimeOfDay(12, 0), zone)
	to := civil.At(date(2006, time.October, 29), 0, zone).Add(30 * time.Minute)
	if on := civil.DateOf(to, zone); on != date(2006, time.October, 28) {
		t.Fatalf("it is %s again", on)
	}
	if got := texts(schedule.Runs(p, zone, from, to), zone); !slices.Equal(got, []string{"2006-10-29 00:00 snapshot:D first of two"}) {
		t.Errorf("%q before", got)
	}
	if got := texts(schedule.Runs(p, zone, to, to.Add(2*time.Hour)), zone); got != nil {
		t.Errorf("%q after", got)
	}
}

// TestNext finds the first run after an instant, years away if need be, and says when there is none.
func TestNext(t *testing.T) {
	after := time.Date(2026, time.May, 4, 7, 0, 0, 0, time.UTC) // a Monday
	leap := holdfast.Calendar{Months: holdfast.NewMonthSet(time.February), On: holdfast.MonthDay{Day: 29}, Days: holdfast.WeekdaySet(time.Monday), Times: at("03:00")}
	for _, c := range []struct {
		name string
		when holdfast.Calendar
		want string
	}{
		{"what is due at the instant itself is past", holdfast.Calendar{Times: at("07:00")}, "2026-05-05 07:00"},
		{"the same day", holdfast.Calendar{Times: at("07:00", "07:05")}, "2026-05-04 07:05"},
		{"the last day of February, should it be a Monday", leap, "2033-02-28 03:00"},
		{"never", holdfast.Calendar{}, ""},
		{"never: the first Monday is no Tuesday", holdfast.Calendar{
			On: holdfast.MonthDay{Ordinal: holdfast.First, Weekday: time.Monday}, Days: holdfast.WeekdaySet(time.Tuesday), Times: at("03:00"),
		}, ""},
	} {
		got := ""
		if r, ok := schedule.Next(policy(map[string]holdfast.Calendar{"daily snapshot": c.when}), time.UTC, after); ok {
			got = shown(r.At, time.UTC)
		}
		if got != c.want {
			t.Errorf("%s: %q, not %q", c.name, got, c.want)
		}
	}
}

// TestMissed makes up for the newest run if it is less than a day old, and skips what is older.
func TestMissed(t *testing.T) {
	p := policy(map[string]holdfast.Calendar{"daily snapshot": {Days: holdfast.WorkingDays, Times: at("07:00", "19:00")}})
	for _, c := range []struct {
		name, since, now, run string
		skipped               []string
	}{
		{"nothing was due", "2026-05-04 07:00", "2026-05-04 18:59", "", nil},
		{"due now", "2026-05-04 18:59", "2026-05-04 19:00", "2026-05-04 19:00", nil},
		{"down for two days", "2026-05-04 07:00", "2026-05-06 08:00", "2026-05-06 07:00", []string{"2026-05-04 19:00", "2026-05-05 07:00", "2026-05-05 19:00"}},
		{"less than a day old", "2026-05-08 07:00", "2026-05-09 18:59", "2026-05-08 19:00", nil},
		{"a day old", "2026-05-08 07:00", "2026-05-09 19:00", "", []string{"2026-05-08 19:00"}},
	} {
		run, skipped := schedule.Missed(p, time.UTC, utc(t, c.since), utc(t, c.now))
		got := ""
		if run != nil {
			got = shown(run.At, time.UTC)
		}
		var old []string
		for _, r := range skipped {
			old = append(old, shown(r.At, time.UTC))
		}
		if got != c.run || !slices.Equal(old, c.skipped) {
			t.Errorf("%s: runs %q, skips %q", c.name, got, old)
		}
	}
}

func utc(t *testing.T, text string) time.Time {
	t.Helper()
	return readTime(t, "2006-01-02 15:04", text)
}

// BenchmarkRuns walks over years of one policy. The time for each run must not depend on how many years there are.
func BenchmarkRuns(b *testing.B) {
	zone, err := civil.Zone("Europe/Brussels")
	if err != nil {
		b.Fatal(err)
	}
	hourly := holdfast.Calendar{}
	for hour := range 24 {
		hourly.Times = append(hourly.Times, holdfast.NewTimeOfDay(hour, 0))
	}
	p := policy(map[string]holdfast.Calendar{
		"daily snapshot": hourly, "daily backup A": {Times: at("07:00", "19:00")},
		"weekly backup A":   {Days: holdfast.WeekdaySet(time.Monday), Times: at("07:00")},
		"monthly archive C": {On: holdfast.MonthDay{Ordinal: holdfast.Last, Weekday: time.Friday}, Times: at("07:00")},
	})
	from := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	for _, years := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("years=%d", years), func(b *testing.B) {
			runs := 0
			for b.Loop() {
				for range schedule.Runs(p, zone, from, from.AddDate(years, 0, 0)) {
					runs++
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(runs), "ns/run")
		})
	}
	b.Run("next", func(b *testing.B) {
		for b.Loop() {
			schedule.Next(p, zone, from)
		}
	})
}

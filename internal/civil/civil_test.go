package civil_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
)

// TestAt places times into gaps, repeated hours and a date that never was.
func TestAt(t *testing.T) {
	for _, c := range []struct {
		zone string
		date civil.Date
		at   holdfast.TimeOfDay
		want string
	}{
		{"Europe/Brussels", civil.Date{2026, time.March, 29}, holdfast.NewTimeOfDay(2, 30), "2026-03-29T03:00:00+02:00"},
		{"Europe/Brussels", civil.Date{2026, time.March, 29}, holdfast.NewTimeOfDay(3, 0), "2026-03-29T03:00:00+02:00"},
		{"Europe/Brussels", civil.Date{2026, time.October, 25}, holdfast.NewTimeOfDay(2, 30), "2026-10-25T02:30:00+02:00"},
		{"America/New_York", civil.Date{2026, time.March, 8}, holdfast.NewTimeOfDay(2, 30), "2026-03-08T03:00:00-04:00"},
		{"America/New_York", civil.Date{2026, time.November, 1}, holdfast.NewTimeOfDay(1, 30), "2026-11-01T01:30:00-04:00"},
		{"Australia/Lord_Howe", civil.Date{2026, time.October, 4}, holdfast.NewTimeOfDay(2, 15), "2026-10-04T02:30:00+11:00"},
		{"Asia/Beirut", civil.Date{2026, time.March, 29}, holdfast.NewTimeOfDay(0, 15), "2026-03-29T01:00:00+03:00"},
		{"Pacific/Apia", civil.Date{2011, time.December, 30}, holdfast.NewTimeOfDay(12, 0), "2011-12-31T00:00:00+14:00"},
		{"UTC", civil.Date{2026, time.February, 30}, 0, "2026-03-02T00:00:00Z"},
	} {
		got := civil.At(c.date, c.at, load(t, c.zone)).In(load(t, c.zone)).Format(time.RFC3339)
		if got != c.want {
			t.Errorf("%s %s in %s is %s, not %s", c.date, c.at, c.zone, got, c.want)
		}
	}
}

// TestAt_Property holds the rule against its definition: the instant shows the wanted wall clock, and an earlier one that
// does too is not to be found; or no instant shows it, and the one before shows less and this one more.
func TestAt_Property(t *testing.T) {
	zones := []string{
		"Europe/Brussels", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Beirut", "Pacific/Apia",
		"America/Sao_Paulo", "Asia/Tehran", "Antarctica/Troll", "Africa/Cairo", "America/Santiago", "UTC",
	}
	rapid.Check(t, func(rt *rapid.T) {
		zone := load(t, rapid.SampledFrom(zones).Draw(rt, "zone"))
		date := civil.Date{2005, time.January, 1}.AddDays(rapid.IntRange(0, 11_000).Draw(rt, "day"))
		minute := holdfast.TimeOfDay(rapid.IntRange(0, 1439).Draw(rt, "minute"))
		got := civil.At(date, minute, zone)
		want := date.String() + " " + minute.String()
		shown := func(at time.Time) string { return at.In(zone).Format("2006-01-02 15:04") }
		if shown(got) < want || shown(got.Add(-time.Second)) >= want {
			rt.Fatalf("%s: shows %s there and %s a second before", want, shown(got), shown(got.Add(-time.Second)))
		}
		for back := time.Minute; back <= 26*time.Hour; back += time.Minute {
			if shown(got.Add(-back)) == want {
				rt.Fatalf("%s: was shown %s earlier already", want, back)
			}
		}
	})
}

// TestAt_LastDayOfLeapYear comes to an end, and to the right one, where the standard library's bounds of a zone's rule lie
// behind the instant that was asked for. How far ahead zones go by their rule alone depends on the machine's database.
func TestAt_LastDayOfLeapYear(t *testing.T) {
	for _, name := range []string{"Europe/Brussels", "America/New_York", "Pacific/Auckland", "Asia/Tokyo"} {
		zone := load(t, name)
		for year := 2028; year < 2100; year += 4 {
			for day := range 8 {
				date := civil.Date{year, time.December, 28}.AddDays(day)
				got := civil.At(date, holdfast.NewTimeOfDay(13, 15), zone).In(zone)
				if want := date.String() + " 13:15"; got.Format("2006-01-02 15:04") != want {
					t.Errorf("%s: %s is %s", name, want, got)
				}
			}
		}
	}
}

// TestAdd ends short months on their last day, and keeps the wall clock over a change of the clock.
func TestAdd(t *testing.T) {
	for _, c := range []struct {
		zone, from string
		period     holdfast.Period
		want       string
	}{
		{"UTC", "2026-01-31T07:00:00Z", holdfast.Months(1), "2026-02-28T07:00:00Z"},
		{"UTC", "2024-02-29T07:00:00Z", holdfast.Years(1), "2025-02-28T07:00:00Z"},
		{"Europe/Brussels", "2026-03-28T07:00:30+01:00", holdfast.Days(1), "2026-03-29T07:00:30+02:00"},
		{"Europe/Brussels", "2026-03-28T02:30:00+01:00", holdfast.Days(1), "2026-03-29T03:00:00+02:00"},
		{"Europe/Brussels", "2026-03-28T07:00:00+01:00", holdfast.Hours(24), "2026-03-29T08:00:00+02:00"},
	} {
		from, err := time.Parse(time.RFC3339, c.from)
		if err != nil {
			t.Fatal(err)
		}
		if got := civil.Add(from, c.period, load(t, c.zone)).In(load(t, c.zone)).Format(time.RFC3339); got != c.want {
			t.Errorf("%s and %s is %s, not %s", c.from, c.period, got, c.want)
		}
	}
}

// TestDate_Weeks finds the Monday of every day of a fortnight.
func TestDate_Weeks(t *testing.T) {
	for i := range 14 {
		date := civil.Date{2026, time.March, 2}.AddDays(i) // a Monday and what follows
		if want := (civil.Date{2026, time.March, 2}).AddDays(i / 7 * 7); date.Monday() != want {
			t.Errorf("the week of %s begins on %s, not %s", date, date.Monday(), want)
		}
	}
}

// TestShift_Text writes what the clock did as people read it, and reads it again; anything else is refused.
func TestShift_Text(t *testing.T) {
	for _, shift := range []civil.Shift{civil.Unshifted, civil.AfterGap, civil.FirstOfTwo} {
		text, err := shift.MarshalText()
		var back civil.Shift
		if err != nil || back.UnmarshalText(text) != nil || back != shift {
			t.Errorf("%d is written as %q and read as %d: %v", shift, text, back, err)
		}
	}
	var shift civil.Shift
	if err := shift.UnmarshalText([]byte("gap")); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("gap is read as %q: %v", shift, err)
	}
}

// TestZone refuses what is no zone, and what would be another one on another machine.
func TestZone(t *testing.T) {
	for _, name := range []string{"", "Local", "Mars/Olympus", "../etc/passwd"} {
		if zone, err := civil.Zone(name); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%q: %v, %v", name, zone, err)
		}
	}
}

func load(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := civil.Zone(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// TestWall_Property holds the quick way against At, for times in any order, and its word for what the clock did against the
// instants at which the clock shows the time.
func TestWall_Property(t *testing.T) {
	zones := []string{"Europe/Brussels", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "America/Nuuk", "Asia/Kolkata", "UTC"}
	rapid.Check(t, func(rt *rapid.T) {
		zone := load(t, rapid.SampledFrom(zones).Draw(rt, "zone"))
		wall := civil.NewWall(zone)
		for range 50 {
			date := civil.Date{2005, time.January, 1}.AddDays(rapid.IntRange(0, 11_000).Draw(rt, "day"))
			if _, change := civil.Begin(date, zone).In(zone).ZoneBounds(); !change.IsZero() {
				date = civil.DateOf(change, zone).AddDays(rapid.IntRange(-2, 2).Draw(rt, "beside"))
			}
			minute := rapid.IntRange(0, 2*24*60-1).Draw(rt, "minute")
			got, shift := wall.PlaceMinute(date, minute)
			date, minute = date.AddDays(minute/(24*60)), minute%(24*60)
			if want := civil.At(date, holdfast.TimeOfDay(minute), zone); !got.Equal(want) {
				rt.Fatalf("%s, minute %d: %s, not %s", date, minute, got, want)
			}
			if want := shiftOf(got, date.String()+" "+holdfast.TimeOfDay(minute).String(), zone); shift != want {
				rt.Fatalf("%s, minute %d: %q, not %q", date, minute, shift, want)
			}
		}
	})
}

// shiftOf looks for the instants around one at which the clock shows what is wanted.
func shiftOf(at time.Time, wanted string, zone *time.Location) civil.Shift {
	shown := func(at time.Time) string { return at.In(zone).Format("2006-01-02 15:04") }
	if shown(at) != wanted {
		return civil.AfterGap
	}
	for _, later := range []time.Duration{30 * time.Minute, time.Hour, 2 * time.Hour, 24 * time.Hour} {
		if shown(at.Add(later)) == wanted {
			return civil.FirstOfTwo
		}
	}
	return civil.Unshifted
}

// BenchmarkWall places the times of a day.
func BenchmarkWall(b *testing.B) {
	zone, err := civil.Zone("Europe/Brussels")
	if err != nil {
		b.Fatal(err)
	}
	wall, date := civil.NewWall(zone), civil.Date{2026, time.January, 1}
	for minute := 0; b.Loop(); minute++ {
		wall.PlaceMinute(date, minute%(365*24*60))
	}
}

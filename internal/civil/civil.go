// Package civil places dates and times of the wall clock into the instants of a zone, and steps over calendars.
//
// It promises that no day loses its time to a change of the clock (doc/policies.md, "Time"): a local time that does not exist is the first instant after the gap; one that exists twice is the
// first of the two. A local date that does not exist at all (Apia, 30 December 2011) begins with the next one that does.
// It reads no clock and knows no zone by itself.
package civil

import (
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Date is a date of the proleptic Gregorian calendar, without a zone.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// DateOf returns the date on which an instant lies in a zone.
func DateOf(t time.Time, zone *time.Location) Date {
	year, month, day := t.In(zone).Date()
	return Date{year, month, day}
}

// String returns the date as 2026-03-01.
func (d Date) String() string { return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day) }

// Weekday is the day of the week.
func (d Date) Weekday() time.Weekday { return d.utc().Weekday() }

// AddDays returns the date n days later.
func (d Date) AddDays(n int) Date { return fromUTC(d.utc().AddDate(0, 0, n)) }

// AddMonths returns the same day n months later, the month's last day where it is shorter.
func (d Date) AddMonths(n int) Date {
	first := time.Date(d.Year, d.Month+time.Month(n), 1, 0, 0, 0, 0, time.UTC)
	return Date{first.Year(), first.Month(), min(d.Day, lengthOf(first.Year(), first.Month()))}
}

// Before reports whether d is earlier than other.
func (d Date) Before(other Date) bool { return d.utc().Before(other.utc()) }

// Compare orders dates: negative when d is earlier than other, zero when they are equal.
func (d Date) Compare(other Date) int { return d.utc().Compare(other.utc()) }

// Monday returns the Monday of the date's week.
func (d Date) Monday() Date { return d.AddDays(-int(d.Weekday()+6) % 7) }

// FirstOfMonth returns the first day of the date's month.
func (d Date) FirstOfMonth() Date { return Date{d.Year, d.Month, 1} }

// LastOfMonth reports whether the date is the last day of its month.
func (d Date) LastOfMonth() bool { return d.Day == lengthOf(d.Year, d.Month) }

func (d Date) utc() time.Time { return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC) }

func fromUTC(t time.Time) Date {
	year, month, day := t.Date()
	return Date{year, month, day}
}

func lengthOf(year int, month time.Month) int {
	return time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// At returns the instant of a time of day on a date in a zone.
func At(d Date, t holdfast.TimeOfDay, zone *time.Location) time.Time {
	return resolve(d.utc().Add(time.Duration(t)*time.Minute), zone)
}

// Begin returns the first instant of a date in a zone.
func Begin(d Date, zone *time.Location) time.Time { return At(d, 0, zone) }

// Add returns the instant a period after t. Minutes and hours are absolute. Days, months and years keep the wall clock of
// the zone: a short month ends on its last day, and gaps and repeated hours are resolved as everywhere here.
func Add(t time.Time, p holdfast.Period, zone *time.Location) time.Time {
	if length, ok := p.Duration(); ok {
		return t.Add(length)
	}
	local := t.In(zone)
	date := DateOf(t, zone)
	switch p.Unit {
	case holdfast.UnitDay:
		date = date.AddDays(p.N)
	case holdfast.UnitMonth:
		date = date.AddMonths(p.N)
	case holdfast.UnitYear:
		date = date.AddMonths(12 * p.N)
	case holdfast.UnitMinute, holdfast.UnitHour:
	}
	clock := time.Duration(local.Hour())*time.Hour + time.Duration(local.Minute())*time.Minute +
		time.Duration(local.Second())*time.Second + time.Duration(local.Nanosecond())
	return resolve(date.utc().Add(clock), zone)
}

// reach is further than any zone is, or changes, from UTC: offsets lie within 16 hours, and Apia skipped 24.
const reach = 48 * time.Hour

// resolve finds the instant at which the wall clock of the zone shows wall, which is given as if it were UTC: the first
// one where there are two, the end of the gap where there is none.
func resolve(wall time.Time, zone *time.Location) time.Time {
	instant, _ := place(wall, zone)
	return instant
}

// place is resolve, and says what the clock did to the time.
func place(wall time.Time, zone *time.Location) (time.Time, Shift) {
	start := wall.Add(-reach)
	for {
		candidate, end := shown(wall, start, zone)
		if candidate.Before(start) {
			return start.UTC(), AfterGap // the clock jumped over wall when this stretch began
		}
		if end.IsZero() {
			return candidate.UTC(), Unshifted
		}
		if candidate.Before(end) {
			return candidate.UTC(), repeated(wall, end, zone)
		}
		start = end
	}
}

// shown returns the instant at which the zone's clock would show wall if it ran for ever as it does at start, and when that
// ends at the earliest; the zero time means never.
func shown(wall, start time.Time, zone *time.Location) (candidate, end time.Time) {
	local := start.In(zone)
	_, offset := local.Zone()
	_, end = local.ZoneBounds()
	if !end.IsZero() && !end.After(start) {
		// Where a zone goes by its rule alone, the standard library lets each year end after 365 days, so that on the last day
		// of a leap year the bound lies behind. The rule is asked again in the next year, with which nothing changes.
		end = start.UTC().Truncate(day).Add(day)
	}
	return wall.Add(-time.Duration(offset) * time.Second), end
}

const day = 24 * time.Hour

// repeated says whether a time that was shown before start is shown again.
func repeated(wall, start time.Time, zone *time.Location) Shift {
	for start.Before(wall.Add(reach)) {
		candidate, end := shown(wall, start, zone)
		if !candidate.Before(start) && (end.IsZero() || candidate.Before(end)) {
			return FirstOfTwo
		}
		if end.IsZero() {
			break
		}
		start = end
	}
	return Unshifted
}

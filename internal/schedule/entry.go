package schedule

import (
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
)

// Entry is one entry of the charts of compliance: a day for daily rows, a week from Monday to Sunday for weekly ones, a
// month for monthly ones, and a year for yearly ones. Entries can be compared, and are the same in all zones.
type Entry struct {
	Flag  holdfast.Flag `json:"flag"`
	First civil.Date    `json:"first"` // the day, the week's Monday, the first of the month or of the year
}

// EntryOf returns the entry of a flag's chart to which a day belongs.
func EntryOf(flag holdfast.Flag, day civil.Date) Entry {
	switch flag {
	case holdfast.Weekly:
		return Entry{flag, day.Monday()}
	case holdfast.Monthly:
		return Entry{flag, day.FirstOfMonth()}
	case holdfast.Yearly:
		return Entry{flag, civil.Date{Year: day.Year, Month: time.January, Day: 1}}
	case holdfast.Daily:
	}
	return Entry{flag, day}
}

// Entry returns the entry in which the slot is counted: that of its row's flag and of the day on which its window opens.
func (s Slot) Entry() Entry { return EntryOf(s.Flag, s.Day) }

// Next returns the entry after this one.
func (e Entry) Next() Entry {
	switch e.Flag {
	case holdfast.Weekly:
		return Entry{e.Flag, e.First.AddDays(daysOfWeek)}
	case holdfast.Monthly:
		return Entry{e.Flag, e.First.AddMonths(1)}
	case holdfast.Yearly:
		return Entry{e.Flag, e.First.AddMonths(monthsOfYear)}
	case holdfast.Daily:
	}
	return Entry{e.Flag, e.First.AddDays(1)}
}

const (
	daysOfWeek   = 7
	monthsOfYear = 12
)

// Last returns the last day of the entry.
func (e Entry) Last() civil.Date { return e.Next().First.AddDays(-1) }

// Begins returns the first instant of the entry in a zone.
func (e Entry) Begins(zone *time.Location) time.Time { return civil.Begin(e.First, zone) }

// Ends returns the instant at which the entry's last local midnight has passed in a zone. Slots of its last window may lie
// behind it, and deadlines do.
func (e Entry) Ends(zone *time.Location) time.Time { return civil.Begin(e.Next().First, zone) }

package holdfast

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// TimeOfDay is a time on the wall clock, in minutes since midnight: 0 to 1439.
type TimeOfDay int

// NewTimeOfDay makes a time of day.
func NewTimeOfDay(hour, minute int) TimeOfDay { return TimeOfDay(hour*60 + minute) }

// Hour is the hour, 0 to 23.
func (t TimeOfDay) Hour() int { return int(t) / 60 }

// Minute is the minute of the hour, 0 to 59.
func (t TimeOfDay) Minute() int { return int(t) % 60 }

// String returns the time as 07:30.
func (t TimeOfDay) String() string { return fmt.Sprintf("%02d:%02d", t.Hour(), t.Minute()) }

// MarshalText implements encoding.TextMarshaler.
func (t TimeOfDay) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; the text is HH:MM of a day of 24 hours.
func (t *TimeOfDay) UnmarshalText(text []byte) error {
	hour, minute, ok := strings.Cut(string(text), ":")
	h, hErr := strconv.Atoi(hour)
	m, mErr := strconv.Atoi(minute)
	if !ok || hErr != nil || mErr != nil || len(minute) != 2 || len(hour) > 2 || h < 0 || h > 23 || m < 0 || m > 59 {
		return Errorf(KindInvalid, "%q is not a time of day", text).WithHint("write it as HH:MM from 00:00 to 23:59, in quotation marks")
	}
	*t = NewTimeOfDay(h, m)
	return nil
}

// Weekdays is a set of days of the week.
type Weekdays uint8

// Sets that have a name.
const (
	NoWeekdays   Weekdays = 0
	EveryDay     Weekdays = 1<<7 - 1
	WorkingDays  Weekdays = EveryDay &^ (1<<time.Saturday | 1<<time.Sunday)
	WeekendDays  Weekdays = 1<<time.Saturday | 1<<time.Sunday
	daysInAWeek           = 7
	monthsInYear          = 12
)

// WeekdaySet makes a set.
func WeekdaySet(days ...time.Weekday) Weekdays {
	var set Weekdays
	for _, d := range days {
		set |= 1 << d
	}
	return set
}

// Has reports whether the set holds a day.
func (s Weekdays) Has(day time.Weekday) bool { return s&(1<<day) != 0 }

// String names the days from Monday on: every day, weekdays, weekend, or monday friday.
func (s Weekdays) String() string {
	switch s {
	case NoWeekdays:
		return "no day"
	case EveryDay:
		return "every day"
	case WorkingDays:
		return "weekdays"
	case WeekendDays:
		return "weekend"
	}
	var names []string
	for i := range daysInAWeek {
		if day := time.Weekday((i + 1) % daysInAWeek); s.Has(day) {
			names = append(names, strings.ToLower(day.String()))
		}
	}
	return strings.Join(names, " ")
}

// ParseWeekday reads the English name of a day, whatever its case.
func ParseWeekday(text string) (time.Weekday, error) {
	for day := range time.Weekday(daysInAWeek) {
		if strings.EqualFold(text, day.String()) {
			return day, nil
		}
	}
	return 0, Errorf(KindInvalid, "%q is not a day of the week", text).WithHint("write monday, tuesday, wednesday, thursday, friday, saturday or sunday")
}

// MonthSet is a set of months; bit n stands for time.Month(n).
type MonthSet uint16

// EveryMonth is the set of all months.
const EveryMonth MonthSet = (1<<monthsInYear - 1) << 1

// NewMonthSet makes a set.
func NewMonthSet(months ...time.Month) MonthSet {
	var set MonthSet
	for _, m := range months {
		set |= 1 << m
	}
	return set
}

// Has reports whether the set holds a month.
func (s MonthSet) Has(month time.Month) bool { return s&(1<<month) != 0 }

// String names the months: every month, or january july.
func (s MonthSet) String() string {
	if s == EveryMonth {
		return "every month"
	}
	var names []string
	for m := time.January; m <= time.December; m++ {
		if s.Has(m) {
			names = append(names, strings.ToLower(m.String()))
		}
	}
	return strings.Join(names, " ")
}

// ParseMonth reads the English name of a month, whatever its case.
func ParseMonth(text string) (time.Month, error) {
	for m := time.January; m <= time.December; m++ {
		if strings.EqualFold(text, m.String()) {
			return m, nil
		}
	}
	return 0, Errorf(KindInvalid, "%q is not a month", text).WithHint("write january, february … december")
}

// MonthDay picks one day of each month: the n-th or last of a weekday, a date, or the last day. The zero value picks none.
type MonthDay struct {
	Ordinal Ordinal      // of Weekday; "" when the day is a date
	Weekday time.Weekday // with Ordinal
	Day     int          // 1 to 31, a number greater than the month meaning its last day; LastDay for the last one
}

// Ordinal is which of a month's weekdays is meant.
type Ordinal string

// The ordinals.
const (
	First  Ordinal = "first"
	Second Ordinal = "second"
	Third  Ordinal = "third"
	Fourth Ordinal = "fourth"
	Last   Ordinal = "last"
)

// LastDay is the value of MonthDay.Day that means the last day of the month.
const LastDay = 31

// IsZero reports whether no day is picked.
func (d MonthDay) IsZero() bool { return d == MonthDay{} }

// OnDate reports whether the day is picked by its date ("On Day"), which coincides with no weekday.
func (d MonthDay) OnDate() bool { return d.Ordinal == "" && d.Day > 0 }

// In returns the day of a month that is picked, 1 to 31.
func (d MonthDay) In(year int, month time.Month) int {
	length := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
	if d.Ordinal == "" {
		return min(d.Day, length)
	}
	first := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC).Weekday()
	day := 1 + (int(d.Weekday)-int(first)+daysInAWeek)%daysInAWeek
	if d.Ordinal == Last {
		return day + (length-day)/daysInAWeek*daysInAWeek
	}
	for _, o := range [...]Ordinal{First, Second, Third} {
		if d.Ordinal == o {
			return day
		}
		day += daysInAWeek
	}
	return day
}

// String returns the day as people write it: first monday, day 15, last day.
func (d MonthDay) String() string {
	switch {
	case d.IsZero():
		return ""
	case d.Ordinal != "":
		return string(d.Ordinal) + " " + strings.ToLower(d.Weekday.String())
	case d.Day >= LastDay:
		return "last day"
	}
	return fmt.Sprintf("day %d", d.Day)
}

// MarshalText implements encoding.TextMarshaler.
func (d MonthDay) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it accepts what ParseMonthDay does, and the empty text.
func (d *MonthDay) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = MonthDay{}
		return nil
	}
	parsed, err := ParseMonthDay(string(text))
	if err == nil {
		*d = parsed
	}
	return err
}

// ParseMonthDay reads first, second, third, fourth or last and a weekday, or day and a number from 1 to 31, or "last
// day". The error has KindInvalid and says what is accepted.
func ParseMonthDay(text string) (MonthDay, error) {
	wrong := Errorf(KindInvalid, "%q is not a day of a month", text).
		WithHint(`write "first monday" (or second, third, fourth, last and any weekday), "day 15" (1 to 31) or "last day"`)
	which, what, ok := strings.Cut(strings.ToLower(strings.TrimSpace(text)), " ")
	switch {
	case !ok:
		return MonthDay{}, wrong
	case which == "day":
		n, err := strconv.Atoi(what)
		if err != nil || n < 1 || n > LastDay {
			return MonthDay{}, wrong
		}
		return MonthDay{Day: n}, nil
	case which == "last" && what == "day":
		return MonthDay{Day: LastDay}, nil
	}
	weekday, err := ParseWeekday(what)
	switch o := Ordinal(which); o {
	case First, Second, Third, Fourth, Last:
		if err == nil {
			return MonthDay{Ordinal: o, Weekday: weekday}, nil
		}
	}
	return MonthDay{}, wrong
}

// Window is a part of each day on the wall clock, in which slots lie: from its opening up to but not at its close. Equal
// ends mean 24 hours; a close before the opening lies on the next day, and the window belongs to the day on which it opens.
type Window struct {
	Opens  TimeOfDay
	Closes TimeOfDay
}

// Minutes is the length of the window on the wall clock: 1 to 1440.
func (w Window) Minutes() int {
	if length := int(w.Closes - w.Opens); length > 0 {
		return length
	}
	return int(w.Closes-w.Opens) + 24*60
}

// CrossesMidnight reports whether the window closes on the day after it opens, at or after midnight.
func (w Window) CrossesMidnight() bool { return w.Closes <= w.Opens }

// String returns the window as 22:00-06:00.
func (w Window) String() string { return w.Opens.String() + "-" + w.Closes.String() }

// Calendar says when something is due on the wall clock: on each date that all the given parts pick, at each of the times.
type Calendar struct {
	Days   Weekdays // NoWeekdays: any
	Months MonthSet // 0: any
	On     MonthDay // zero: any
	Times  []TimeOfDay
}

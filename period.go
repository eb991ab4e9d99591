package holdfast

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Unit is a unit of the calendar in which people give frequencies and retention.
type Unit string

// The units. Minutes and hours are absolute lengths; days, months and years are those of a calendar in some zone.
const (
	UnitMinute Unit = "minute"
	UnitHour   Unit = "hour"
	UnitDay    Unit = "day"
	UnitMonth  Unit = "month"
	UnitYear   Unit = "year"
)

// periodMax bounds the number in front of a unit: a hundred years of days. Whatever is longer is a slip of the pen.
const periodMax = 36_525

// Period is a span such as 14 days or 3 months. The zero value means that none was given.
type Period struct {
	N    int
	Unit Unit
}

// Minutes is a period of n minutes.
func Minutes(n int) Period { return Period{n, UnitMinute} }

// Hours is a period of n hours.
func Hours(n int) Period { return Period{n, UnitHour} }

// Days is a period of n calendar days.
func Days(n int) Period { return Period{n, UnitDay} }

// Months is a period of n calendar months.
func Months(n int) Period { return Period{n, UnitMonth} }

// Years is a period of n calendar years.
func Years(n int) Period { return Period{n, UnitYear} }

// IsZero reports whether no period was given.
func (p Period) IsZero() bool { return p == Period{} }

// Duration returns the length of a period in minutes or hours, and false for one that only a calendar can measure.
func (p Period) Duration() (time.Duration, bool) {
	switch p.Unit {
	case UnitMinute:
		return time.Duration(p.N) * time.Minute, true
	case UnitHour:
		return time.Duration(p.N) * time.Hour, true
	case UnitDay, UnitMonth, UnitYear:
	}
	return 0, false
}

// String returns the period as people write it: 14 days, 1 month. The zero value is the empty text.
func (p Period) String() string {
	switch {
	case p.IsZero():
		return ""
	case p.N == 1:
		return "1 " + string(p.Unit)
	}
	return fmt.Sprintf("%d %ss", p.N, p.Unit)
}

// MarshalText implements encoding.TextMarshaler.
func (p Period) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it accepts what ParsePeriod does, and the empty text.
func (p *Period) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = Period{}
		return nil
	}
	parsed, err := ParsePeriod(string(text))
	if err == nil {
		*p = parsed
	}
	return err
}

// ParsePeriod reads a number from 1 to 36525 and a unit: 30 minutes, 1 hour, 14 days, 3 months, 7 years. The error has
// KindInvalid and says what is accepted.
func ParsePeriod(text string) (Period, error) {
	number, unit, spaced := strings.Cut(strings.TrimSpace(text), " ")
	n, err := strconv.Atoi(number)
	p := Period{n, Unit(strings.TrimSuffix(strings.TrimSpace(unit), "s"))}
	if err != nil || !spaced || n < 1 || n > periodMax || !p.Unit.known() {
		return Period{}, Errorf(KindInvalid, "%q is not a period", text).
			WithHint("write a number from 1 to %d and minutes, hours, days, months or years, such as 14 days", periodMax)
	}
	return p, nil
}

func (u Unit) known() bool {
	switch u {
	case UnitMinute, UnitHour, UnitDay, UnitMonth, UnitYear:
		return true
	}
	return false
}

package civil

import (
	"time"

	"github.com/holdfast-backup/holdfast"
)

// MarshalText implements encoding.TextMarshaler: 2026-03-01.
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it reads dates that exist, of the years 0000 to 9999.
func (d *Date) UnmarshalText(text []byte) error {
	t, err := time.Parse(time.DateOnly, string(text))
	if err != nil {
		return holdfast.Errorf(holdfast.KindInvalid, "%q is not a date", text).WithHint("write it as 2026-03-01")
	}
	*d = fromUTC(t)
	return nil
}

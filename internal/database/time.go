package database

import (
	"database/sql/driver"
	"fmt"
	"time"
)

// Time is an instant as columns of the type {{time}} hold it: UTC, cut to milliseconds, so that what is read equals what was
// written, on both databases. The zero instant is NULL. Values of it compare as instants do, in SQL as well.
type Time struct{ time.Time }

// At returns an instant as the database will hold it.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Millisecond)} }

// Value implements driver.Valuer.
func (t Time) Value() (driver.Value, error) {
	if t.IsZero() {
		return nil, nil //nolint:nilnil // NULL
	}
	return At(t.Time).Time, nil
}

// textual is how SQLite keeps an instant. In UTC, instants sort as their texts do: + comes before the point and the digits.
const textual = "2006-01-02 15:04:05.999999999-07:00"

// Scan implements sql.Scanner.
func (t *Time) Scan(column any) error {
	switch value := column.(type) {
	case nil:
		*t = Time{}
		return nil
	case time.Time:
		*t = At(value)
		return nil
	case string: // the result of an expression, which has no type in SQLite
		return t.parse(value)
	case []byte:
		return t.parse(string(value))
	default:
		return fmt.Errorf("an instant cannot be read from %T", column)
	}
}

func (t *Time) parse(text string) error {
	instant, err := time.Parse(textual, text)
	if err != nil {
		return err
	}
	*t = At(instant)
	return nil
}

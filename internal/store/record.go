package store

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
)

// Event is a line of the record: what happened to one machine, or to none. Its names are those of a preview.
type Event struct {
	Number int64
	At     time.Time
	VM     holdfast.ResourceID
	Policy string
	Name   string // one of preview.Names
	Slot   time.Time
	Point  holdfast.PointID
	Flags  holdfast.Flags
	Reason string
}

type eventRow struct {
	bun.BaseModel `bun:"table:events"`

	Number int64 `bun:",pk"`
	At     int64
	VM     string `bun:"vm"`
	Policy string
	Name   string
	Slot   int64
	Point  string
	Flags  string
	Reason string
}

// AppendEvents adds lines to the record, in their order.
func AppendEvents(ctx context.Context, tx Query, events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	last, err := take(ctx, tx, counterEvents, len(events))
	if err != nil {
		return err
	}
	rows := make([]eventRow, len(events))
	for i, e := range events {
		rows[i] = eventRow{
			Number: last - int64(len(events)-1-i), At: millis(e.At), VM: string(e.VM), Policy: e.Policy, Name: e.Name, Slot: millis(e.Slot), Point: string(e.Point),
			Flags: e.Flags.String(), Reason: e.Reason,
		}
	}
	return insertAll(ctx, tx, rows, "", "writing the record")
}

// EventsAfter returns lines of the record after a number, at most limit of them.
func EventsAfter(ctx context.Context, q Query, number int64, limit int) ([]Event, error) {
	var rows []eventRow
	if err := q.NewSelect().Model(&rows).Where("number > ?", number).Order("number").Limit(int64(limit)).Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading the record: %w", err)
	}
	events := make([]Event, len(rows))
	for i, r := range rows {
		events[i] = Event{
			Number: r.Number, At: instant(r.At), VM: holdfast.ResourceID(r.VM), Policy: r.Policy, Name: r.Name, Slot: instant(r.Slot),
			Point: holdfast.PointID(r.Point), Reason: r.Reason,
		}
		if err := events[i].Flags.UnmarshalText([]byte(r.Flags)); err != nil {
			return nil, holdfast.Wrap(holdfast.KindCorrupt, err, "the flags of an event in the database cannot be read")
		}
	}
	return events, nil
}

type logRow struct {
	bun.BaseModel `bun:"table:log_lines"`

	Session string `bun:",pk"`
	Number  int64  `bun:",pk"`
	At      int64
	VM      string `bun:"vm"`
	Level   string
	Text    string
}

// counterLog numbers the lines of all logs.
const counterLog Counter = "log"

// AppendLog adds lines to logs of sessions; their numbers are given here.
func AppendLog(ctx context.Context, tx Query, lines ...holdfast.LogLine) error {
	if len(lines) == 0 {
		return nil
	}
	last, err := take(ctx, tx, counterLog, len(lines))
	if err != nil {
		return err
	}
	rows := make([]logRow, len(lines))
	for i, l := range lines {
		rows[i] = logRow{Session: string(l.Session), Number: last - int64(len(lines)-1-i), At: millis(l.At), VM: string(l.VM), Level: string(l.Level), Text: l.Text}
	}
	return insertAll(ctx, tx, rows, "", "writing a log")
}

// Log returns the lines of a session's log after a number.
func Log(ctx context.Context, q Query, session holdfast.RunID, after int64) ([]holdfast.LogLine, error) {
	var rows []logRow
	if err := q.NewSelect().Model(&rows).Where("session = ? AND number > ?", string(session), after).Order("number").Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading a log: %w", err)
	}
	lines := make([]holdfast.LogLine, len(rows))
	for i, r := range rows {
		lines[i] = holdfast.LogLine{
			Session: holdfast.RunID(r.Session), Number: r.Number, At: instant(r.At), VM: holdfast.ResourceID(r.VM), Level: holdfast.LogLevel(r.Level), Text: r.Text,
		}
	}
	return lines, nil
}

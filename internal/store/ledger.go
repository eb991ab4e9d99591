package store

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

type ledgerEventRow struct {
	bun.BaseModel `bun:"table:ledger_events"`

	Number int64 `bun:",pk"`
	Type   string
	Body   string
}

type ledgerSnapshotRow struct {
	bun.BaseModel `bun:"table:ledger_snapshots"`

	Number int64 `bun:",pk"`
	Body   string
}

// AppendLedger writes down events that the ledger is to take in, in their order. Their consequences follow at the next tick.
func AppendLedger(ctx context.Context, tx Query, events ...sla.Event) error {
	if len(events) == 0 {
		return nil
	}
	last, err := take(ctx, tx, counterLedger, len(events))
	if err != nil {
		return err
	}
	rows := make([]ledgerEventRow, len(events))
	for i, e := range events {
		rows[i] = ledgerEventRow{Number: last - int64(len(events)-1-i), Type: typeOf(e), Body: encode(e)}
	}
	return insertAll(ctx, tx, rows, "", "writing the ledger")
}

// LedgerState is a ledger with what it has taken in of what is written down.
type LedgerState struct {
	Ledger  *sla.Ledger
	Through int64 // the number of the last event that was applied
	Since   int   // how many events were applied since the last snapshot
}

// LoadLedger returns the ledger with everything applied that its recorder was told of: its last snapshot, and the events since.
// Events that workers have added since then are still to be applied (LedgerAfter).
func LoadLedger(ctx context.Context, q Query) (LedgerState, error) {
	l := LedgerState{Ledger: sla.New()}
	var snapshots []ledgerSnapshotRow
	if err := q.NewSelect().Model(&snapshots).Order("number DESC").Limit(1).Scan(ctx); err != nil {
		return l, fmt.Errorf("reading the ledger: %w", err)
	}
	if len(snapshots) > 0 {
		var s sla.Snapshot
		if err := decode(snapshots[0].Body, &s, "the ledger"); err != nil {
			return l, err
		}
		restored, err := sla.Restore(s)
		if err != nil {
			return l, err
		}
		l.Ledger, l.Through = restored, snapshots[0].Number
	}
	told, err := Counted(ctx, q, counterTold)
	if err != nil {
		return l, err
	}
	events, err := LedgerAfter(ctx, q, l.Through)
	if err != nil {
		return l, err
	}
	for _, e := range events {
		if e.Number > told {
			break
		}
		if err := l.Apply(e, nil); err != nil {
			return l, err
		}
	}
	return l, nil
}

// LedgerAsOf returns a ledger of the caller's own, with everything applied that is written down, and the time that has passed up to an instant.
// What follows from that is not written down by it: that is the scheduler's business.
func LedgerAsOf(ctx context.Context, q Query, now time.Time) (*sla.Ledger, error) {
	l, err := LoadLedger(ctx, q)
	if err != nil {
		return nil, err
	}
	events, err := LedgerAfter(ctx, q, l.Through)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		if err := l.Apply(e, nil); err != nil {
			return nil, err
		}
	}
	if now.After(l.Ledger.Now()) {
		err = l.Ledger.Advance(now, nil)
	}
	return l.Ledger, err
}

// Apply applies the next event that is written down. One that a worker dated before the ledger's own time counts as of that time.
func (l *LedgerState) Apply(e LedgerEvent, r sla.Recorder) error {
	if err := l.Ledger.Apply(notBefore(e.Event, l.Ledger.Now()), r); err != nil {
		return holdfast.Wrap(holdfast.KindCorrupt, err, "the ledger in the database contradicts itself at event %d", e.Number)
	}
	l.Through, l.Since = e.Number, l.Since+1
	return nil
}

// notBefore returns the event, if need be with a later instant.
func notBefore(e sla.Event, earliest time.Time) sla.Event {
	later := func(at time.Time) time.Time {
		if at.Before(earliest) {
			return earliest
		}
		return at
	}
	switch e := e.(type) {
	case sla.SessionStarted:
		e.At = later(e.At)
		return e
	case sla.SessionFailed:
		e.At = later(e.At)
		return e
	case sla.SessionSkipped:
		e.At = later(e.At)
		return e
	case sla.PointDurable:
		e.At = later(e.At)
		return e
	case sla.PointProven:
		e.At = later(e.At)
		return e
	case sla.PointRemoved:
		e.At = later(e.At)
		return e
	default: // what the scheduler alone adds is in order
		return e
	}
}

// LedgerEvent is an event that is written down.
type LedgerEvent struct {
	Number int64
	Event  sla.Event
}

// LedgerAfter returns the events after a number, in their order.
func LedgerAfter(ctx context.Context, q Query, number int64) ([]LedgerEvent, error) {
	var rows []ledgerEventRow
	if err := q.NewSelect().Model(&rows).Where("number > ?", number).Order("number").Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	events := make([]LedgerEvent, len(rows))
	for i, r := range rows {
		event, err := r.event()
		if err != nil {
			return nil, err
		}
		events[i] = LedgerEvent{r.Number, event}
	}
	return events, nil
}

// counterTold is the number of the last event whose consequences are written down.
const counterTold Counter = "ledgerTold"

// Told notes that the consequences of all events up to a number are written down.
func Told(ctx context.Context, tx Query, through int64) error {
	return Remember(ctx, tx, counterTold, through)
}

// LedgerTold returns that number.
func LedgerTold(ctx context.Context, q Query) (int64, error) { return Counted(ctx, q, counterTold) }

// SaveLedger writes a snapshot of the ledger, and drops what it makes superfluous.
func SaveLedger(ctx context.Context, tx Query, l LedgerState) error {
	s, through := l.Ledger.Snapshot(), l.Through
	row := ledgerSnapshotRow{Number: through, Body: encode(s)}
	if _, err := tx.NewInsert().Model(&row).On("CONFLICT (number) DO UPDATE").Set("body = EXCLUDED.body").Exec(ctx); err != nil {
		return fmt.Errorf("writing the ledger: %w", err)
	}
	if _, err := tx.NewDelete().Model((*ledgerSnapshotRow)(nil)).Where("number < ?", through).Exec(ctx); err != nil {
		return fmt.Errorf("removing an old snapshot of the ledger: %w", err)
	}
	if _, err := tx.NewDelete().Model((*ledgerEventRow)(nil)).Where("number <= ?", through).Exec(ctx); err != nil {
		return fmt.Errorf("removing old events of the ledger: %w", err)
	}
	return nil
}

// typeOf names the type of an event. The list is that of package sla.
func typeOf(e sla.Event) string {
	switch e.(type) {
	case sla.PolicyInForce:
		return "policyInForce"
	case sla.PolicyEnabled:
		return "policyEnabled"
	case sla.PolicyDisabled:
		return "policyDisabled"
	case sla.PolicyRemoved:
		return "policyRemoved"
	case sla.MachineJoined:
		return "machineJoined"
	case sla.MachineLeft:
		return "machineLeft"
	case sla.ServerStopped:
		return "serverStopped"
	case sla.ServerStarted:
		return "serverStarted"
	case sla.TimePassed:
		return "timePassed"
	case sla.SessionStarted:
		return "sessionStarted"
	case sla.SessionFailed:
		return "sessionFailed"
	case sla.SessionSkipped:
		return "sessionSkipped"
	case sla.PointDurable:
		return "pointDurable"
	case sla.PointProven:
		return "pointProven"
	case sla.PointRemoved:
		return "pointRemoved"
	}
	holdfast.Invariant(false, "the ledger has no event %T", e)
	return ""
}

// readers read the bodies of events by their type.
var readers = map[string]func(body string) (sla.Event, error){
	"policyInForce":  readAs[sla.PolicyInForce],
	"policyEnabled":  readAs[sla.PolicyEnabled],
	"policyDisabled": readAs[sla.PolicyDisabled],
	"policyRemoved":  readAs[sla.PolicyRemoved],
	"machineJoined":  readAs[sla.MachineJoined],
	"machineLeft":    readAs[sla.MachineLeft],
	"serverStopped":  readAs[sla.ServerStopped],
	"serverStarted":  readAs[sla.ServerStarted],
	"timePassed":     readAs[sla.TimePassed],
	"sessionStarted": readAs[sla.SessionStarted],
	"sessionFailed":  readAs[sla.SessionFailed],
	"sessionSkipped": readAs[sla.SessionSkipped],
	"pointDurable":   readAs[sla.PointDurable],
	"pointProven":    readAs[sla.PointProven],
	"pointRemoved":   readAs[sla.PointRemoved],
}

func readAs[E sla.Event](body string) (sla.Event, error) {
	var e E
	err := decode(body, &e, "the ledger")
	return e, err
}

func (r ledgerEventRow) event() (sla.Event, error) {
	read, known := readers[r.Type]
	if !known {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "the ledger in the database has an event %q that is not known", r.Type)
	}
	return read(r.Body)
}

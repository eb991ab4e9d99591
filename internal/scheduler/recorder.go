package scheduler

import (
	"context"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// recorder keeps what the ledger tells in the course of a tick, until it is written down.
type recorder struct {
	ledger  *sla.Ledger // that tells
	ended   []sla.Expectation
	periods []store.Period
	events  []store.Event
	written int // expectations that fell due
}

// count is how much was told so far.
func (r *recorder) count() int { return len(r.ended) + len(r.periods) + r.written }

// Expectation implements sla.Recorder.
func (r *recorder) Expectation(e sla.Expectation) {
	name, ended := preview.EndName(e.State)
	if !ended {
		r.written++
		return
	}
	r.ended = append(r.ended, e)
	r.events = append(r.events, store.Event{
		At: e.Ended, VM: e.Machine, Policy: e.Policy, Name: string(name), Slot: e.Slot, Point: e.Point, Flags: holdfast.Flags(0).With(e.Flag), Reason: preview.EndReason(e),
	})
}

// Period implements sla.Recorder.
func (r *recorder) Period(c sla.Compliance) {
	r.periods = append(r.periods, store.Period{Compliance: c, ByMachine: r.ledger.Machines(c.Policy, c.Row, c.Entry)})
	if !c.Frozen.IsZero() {
		return // its share of proven points froze; that it closed was told before
	}
	ratio := 0.0
	if c.Created != nil {
		ratio = *c.Created
	}
	r.events = append(r.events, store.Event{
		At: c.Closed, Policy: c.Policy, Name: string(preview.Period), Flags: holdfast.Flags(0).With(c.Flag), Reason: preview.PeriodReason(c, ratio, c.Created != nil),
	})
}

// Note implements sla.Recorder: what changed nothing is no part of the record.
func (r *recorder) Note(sla.Note) {}

// write writes down all that was told.
func (r *recorder) write(ctx context.Context, tx database.Tx) error {
	if err := store.AppendExpectations(ctx, tx, r.ended); err != nil {
		return err
	}
	for _, p := range r.periods {
		if err := store.PutPeriod(ctx, tx, p); err != nil {
			return err
		}
	}
	return store.AppendEvents(ctx, tx, r.events...)
}

// tell tells people's messenger what they are to hear of.
func (r *recorder) tell(ctx context.Context, tx database.Tx, teller Teller) error {
	missed := slices.DeleteFunc(slices.Clone(r.ended), func(e sla.Expectation) bool { return e.State != sla.Missed })
	if len(missed) > 0 {
		if err := teller.Missed(ctx, tx, missed); err != nil {
			return err
		}
	}
	for _, p := range r.periods {
		if !p.Frozen.IsZero() {
			continue // that it closed was told before
		}
		if err := teller.PeriodClosed(ctx, tx, p.Compliance, p.ByMachine); err != nil {
			return err
		}
	}
	return nil
}

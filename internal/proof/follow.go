package proof

import (
	"context"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// Follower begins the health check that belongs to the last session of a day, once that has ended with all its retries.
type Follower struct {
	Jobs  jobs.Enqueuer
	NewID func() holdfast.RunID
	Next  store.Closed // is told of every end as well; may be nil
}

// Closed is a store.Closed.
func (f Follower) Closed(ctx context.Context, tx database.Tx, s holdfast.Session) error {
	if f.Next != nil {
		if err := f.Next(ctx, tx, s); err != nil {
			return err
		}
	}
	if s.Type != holdfast.SessionPolicy || s.Outcome == holdfast.OutcomeStopped {
		return nil
	}
	intent, err := store.IntentOf(ctx, tx, s.ID)
	if err != nil || !intent.CheckAfter {
		return err
	}
	check := holdfast.Session{ID: f.NewID(), Type: holdfast.SessionHealthCheck, Policy: s.Policy, Region: s.Region, Slot: s.Slot, Queued: s.Ended}
	begun, err := store.BeginSession(ctx, tx, store.NewSession{Session: check, Key: "check after " + string(s.ID), Intent: intent})
	if err != nil || !begun {
		return err
	}
	if err := enqueue(ctx, tx, f.Jobs, check.ID, s.Ended); err != nil {
		return err
	}
	return store.AppendEvents(ctx, tx, store.Event{At: s.Ended, Policy: s.Policy, Name: string(preview.Check), Slot: s.Slot, Reason: intent.InRegion("all points, after the day's last session")})
}

func enqueue(ctx context.Context, tx database.Tx, queue jobs.Enqueuer, id holdfast.RunID, at time.Time) error {
	return work.Enqueue(ctx, queue, tx, jobs.Job{Kind: work.KindCheck, Key: string(id), Queue: work.Control, RunAt: at, Priority: jobs.Low}, work.Session{Session: id})
}

package aging

import (
	"context"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Refusal says why a point cannot be removed because somebody asks for it; "" when it can. inWork are the sessions of its machine that have not
// ended.
func Refusal(p store.Point, inWork map[holdfast.RunID]bool, now time.Time) string {
	switch {
	case p.State == store.PointRemoved:
		return "it was removed already"
	case p.State != store.PointKept:
		return "it is " + string(p.State) + " at this moment"
	case !p.LockedUntil.IsZero() && !now.After(p.LockedUntil):
		return "it is locked until " + p.LockedUntil.UTC().Format(time.RFC3339)
	case inWork[p.Session]:
		return "the session that makes it has not ended"
	case p.Base || len(p.BaseFor) > 0:
		return "the next backup is compared with it; it goes once that has a snapshot of its own"
	}
	return ""
}

// Order writes down that points go because somebody asked for it. They are removed by Remove, or at the next look at their machines.
func Order(ctx context.Context, tx database.Tx, points []store.Point, author string, now time.Time) error {
	why := author + " removed it"
	events := make([]store.Event, 0, len(points))
	for _, p := range points {
		p.State, p.RemovedWhy = store.PointRemoving, why
		if err := store.PutPoint(ctx, tx, p); err != nil {
			return err
		}
		events = append(events, store.Event{At: now, VM: p.VM, Policy: p.Policy, Name: string(preview.Remove), Slot: p.Slot, Point: p.ID, Flags: p.Flags, Reason: why})
	}
	return store.AppendEvents(ctx, tx, events...)
}

// Remove removes what was ordered to go of each machine of a session. It may be run again from its beginning.
func (a *Aging) Remove(ctx context.Context, session holdfast.RunID) error {
	var items []holdfast.SessionItem
	err := a.config.Database.Read(ctx, func(ctx context.Context, q store.Query) (err error) {
		items, err = store.Items(ctx, q, session)
		return err
	})
	if err != nil {
		return err
	}
	for _, i := range items {
		if err := a.removeOf(ctx, session, i.VM); err != nil {
			return err
		}
	}
	return nil
}

// removeOf removes what was ordered to go of one machine, and ends its item.
func (a *Aging) removeOf(ctx context.Context, session holdfast.RunID, vm holdfast.ResourceID) error {
	var c store.Claimed
	claimed := false
	err := a.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) (err error) {
		c, claimed, err = store.ClaimItem(ctx, tx, session, vm, a.now())
		return err
	})
	if err != nil || !claimed {
		return err
	}
	result, err := a.Finish(ctx, vm)
	if err != nil {
		return err
	}
	return a.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		done := c.SessionItem
		done.State, done.Outcome, done.Ended = holdfast.StateDone, holdfast.OutcomeSuccess, a.now()
		line := holdfast.LogLine{Session: session, At: done.Ended, VM: vm, Level: holdfast.LogInfo, Text: "removed " + sentence(result.Removed)}
		if len(result.Warnings) > 0 {
			done.Outcome, done.Message = holdfast.OutcomeWarning, strings.Join(result.Warnings, "; ")
			line.Level, line.Text = holdfast.LogWarning, done.Message
		}
		if err := store.PutItem(ctx, tx, done); err != nil {
			return err
		}
		if err := store.AppendLog(ctx, tx, line); err != nil {
			return err
		}
		_, err := store.CloseSession(ctx, tx, session, done.Ended, a.config.Closed)
		return err
	})
}

func sentence(points []holdfast.PointID) string {
	words := make([]string, 0, len(points))
	for _, id := range points {
		words = append(words, string(id))
	}
	if len(words) == 0 {
		return "nothing: it was gone already"
	}
	return strings.Join(words, ", ")
}

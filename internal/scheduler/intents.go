package scheduler

import (
	"context"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// carryOut begins what an intent wants.
func (t *tick) carryOut(ctx context.Context, i plan.Intent) error {
	switch i.Verb {
	case plan.Start:
		return t.start(ctx, i)
	case plan.Retry:
		return t.retry(ctx, i)
	case plan.Skip:
		return t.skip(ctx, i)
	case plan.Check:
		return t.alone(ctx, i, holdfast.SessionHealthCheck, work.KindCheck)
	case plan.Retain:
		return t.alone(ctx, i, holdfast.SessionRetention, work.KindPass)
	}
	return nil
}

// start begins a session with an item and a job for each machine.
func (t *tick) start(ctx context.Context, i plan.Intent) error {
	n := t.session(i, holdfast.SessionPolicy)
	if i.Manual {
		author, err := store.RequestAuthor(ctx, t.tx, i.Policy, i.Slot)
		if err != nil {
			return err
		}
		n.Session.By = author
	}
	for _, m := range i.Machines {
		n.Items = append(n.Items, store.NewItem{VM: m.ID, Region: m.Region, Makes: i.Makes})
	}
	begun, err := store.BeginSession(ctx, t.tx, n)
	if err != nil || !begun {
		return err
	}
	for _, item := range n.Items {
		if err := t.enqueueItem(ctx, n.Session.ID, item.VM, item.Region); err != nil {
			return err
		}
	}
	return store.AppendEvents(ctx, t.tx, store.Event{
		At: t.now, Policy: i.Policy, Name: string(preview.Run), Slot: i.Slot, Flags: i.Flags(), Reason: i.Summary(len(i.Machines)),
	})
}

// alone begins a session that is one job.
func (t *tick) alone(ctx context.Context, i plan.Intent, as holdfast.SessionType, kind string) error {
	n := t.session(i, as)
	begun, err := store.BeginSession(ctx, t.tx, n)
	if err != nil || !begun {
		return err
	}
	if as == holdfast.SessionHealthCheck {
		if err := store.AppendEvents(ctx, t.tx, store.Event{At: t.now, Policy: i.Policy, Name: string(preview.Check), Slot: i.Slot, Reason: i.InRegion("all points")}); err != nil {
			return err
		}
	}
	return t.enqueue(ctx, jobs.Job{Kind: kind, Key: string(n.Session.ID), Queue: work.Control}, work.Session{Session: n.Session.ID})
}

func (t *tick) session(i plan.Intent, as holdfast.SessionType) store.NewSession {
	return store.NewSession{
		Session: holdfast.Session{
			ID: t.scheduler.config.NewID(), Type: as, Policy: i.Policy, Region: i.Region, Slot: i.Slot, Manual: i.Manual, Queued: t.now,
		},
		Key: i.Key(), Intent: i,
	}
}

func (t *tick) enqueueItem(ctx context.Context, session holdfast.RunID, vm holdfast.ResourceID, region string) error {
	return work.EnqueueItem(ctx, t.scheduler.config.Jobs, t.tx, work.Item{Session: session, VM: vm}, region, t.now)
}

func (t *tick) enqueue(ctx context.Context, job jobs.Job, arguments any) error {
	job.RunAt = t.now
	return work.Enqueue(ctx, t.scheduler.config.Jobs, t.tx, job, arguments)
}

// retry puts the waiting items of a session back into work.
func (t *tick) retry(ctx context.Context, i plan.Intent) error {
	return t.waiting(ctx, i, func(session holdfast.RunID, m plan.Machine) error {
		queued, err := store.QueueItem(ctx, t.tx, session, m.ID, i.Makes)
		if err != nil || !queued {
			return err
		}
		return t.enqueueItem(ctx, session, m.ID, m.Region)
	})
}

// waiting finds for each machine of an intent the session in which it waits for that attempt, if there is one.
func (t *tick) waiting(ctx context.Context, i plan.Intent, do func(session holdfast.RunID, m plan.Machine) error) error {
	for _, m := range i.Machines {
		session, waits, err := store.WaitingFor(ctx, t.tx, i, m.ID)
		if err != nil {
			return err
		}
		if !waits {
			continue
		}
		if err := do(session, m); err != nil {
			return err
		}
	}
	return nil
}

// skip records a slot for which nothing is made. A retry that is skipped ends the item that waited for it.
func (t *tick) skip(ctx context.Context, i plan.Intent) error {
	if i.Attempt > 0 {
		return t.endRetries(ctx, i)
	}
	events := make([]store.Event, 0, len(i.Machines))
	for _, m := range i.Machines {
		events = append(events, store.Event{At: t.now, VM: m.ID, Policy: i.Policy, Name: string(preview.Skipped), Slot: i.Slot, Reason: string(i.Reason)})
	}
	if err := store.AppendEvents(ctx, t.tx, events...); err != nil {
		return err
	}
	if _, kind, _ := t.state.Policy(i.Policy); kind != holdfast.PolicySLA || i.Reason != plan.Overlap {
		return nil
	}
	var skipped []sla.Event
	for _, m := range i.Machines {
		for _, kind := range kindsOf(i.Makes) {
			skipped = append(skipped, sla.SessionSkipped{At: t.now, Work: sla.Work{Policy: i.Policy, Machine: m.ID, Kind: kind, Slot: i.Slot}})
		}
	}
	return store.AppendLedger(ctx, t.tx, skipped...)
}

func kindsOf(makes []plan.Making) []holdfast.PointKind {
	var kinds []holdfast.PointKind
	for _, m := range makes {
		if !slices.Contains(kinds, m.Kind) {
			kinds = append(kinds, m.Kind)
		}
	}
	return kinds
}

// endRetries ends the items that waited for an attempt which is not made.
func (t *tick) endRetries(ctx context.Context, i plan.Intent) error {
	return t.waiting(ctx, i, func(session holdfast.RunID, m plan.Machine) error {
		ended, err := store.EndWaiting(ctx, t.tx, session, m.ID, holdfast.OutcomeError, t.now)
		if err != nil || !ended {
			return err
		}
		_, err = store.CloseSession(ctx, t.tx, session, t.now, t.scheduler.config.Closed)
		return err
	})
}

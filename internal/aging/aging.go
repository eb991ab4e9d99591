// Package aging is retention at work: it asks package retention what becomes of the points of a machine, writes that down, and
// removes what goes.
//
// It promises that what is shown is what is done: the verdicts come from retention.Explain on the very rows that a person sees;
// that a point is written down as going before anything of it is removed; and that a removal which failed, or died, is finished by
// the next look at the machine. It must never remove a point that no verdict, or person, lets go.
package aging

import (
	"context"
	"log/slog"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Remover removes what a point is made of. It may be asked again for what is gone already.
type Remover interface {
	// RemoveSnapshots removes the snapshots of a point.
	RemoveSnapshots(ctx context.Context, set holdfast.SnapshotSet) error
	// RemoveBackup makes a backup or archive invisible in its repository; its storage is freed by a collection.
	RemoveBackup(ctx context.Context, repository string, point holdfast.PointID) error
	// Collect frees the storage of a repository that no point needs.
	Collect(ctx context.Context, repository string) error
}

// Config says what to work with. All fields but Closed are required.
type Config struct {
	Database *database.DB
	Remover  Remover
	Clock    clock.Clock
	Log      *slog.Logger
	Closed   store.Closed // hears of daily passes that end
}

// Aging lets points age. Its methods may be called for different machines at once.
type Aging struct {
	config   Config
	intended protection.Cache
}

// New makes it.
func New(config Config) *Aging { return &Aging{config: config} }

// Result is what a look at the points of a machine came to.
type Result struct {
	Removed  []holdfast.PointID
	Warnings []string // sentences for a person
}

// Machine carries out on the points of a machine what retention says on an occasion, and finishes what an earlier look left. What
// cannot be removed now is a warning, and is tried again next time.
func (a *Aging) Machine(ctx context.Context, vm holdfast.ResourceID, occasion retention.Occasion) (Result, error) {
	return a.machine(ctx, vm, look{occasion: occasion})
}

func (a *Aging) machine(ctx context.Context, vm holdfast.ResourceID, why look) (Result, error) {
	if err := a.judge(ctx, vm, why); err != nil {
		return Result{}, err
	}
	return a.Finish(ctx, vm)
}

// Close is the closing step of a session, which has no use any more for what it made for its own work. What could not be removed is told, and
// goes at the next look.
func (a *Aging) Close(ctx context.Context, vm holdfast.ResourceID, session holdfast.RunID) (warnings []string, err error) {
	result, err := a.machine(ctx, vm, look{occasion: retention.Closing, session: session})
	return result.Warnings, err
}

// look says why the points of a machine are looked at.
type look struct {
	occasion retention.Occasion
	session  holdfast.RunID // in whose course; what it made is no more in its use. "" for none
}

// judge writes down what retention says. Snapshots of a session that is not over are held, since it may be reading them.
func (a *Aging) judge(ctx context.Context, vm holdfast.ResourceID, why look) error {
	return a.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		state, err := a.intended.Load(ctx, tx)
		if err != nil {
			return err
		}
		rules, err := state.Rules(vm)
		if err != nil {
			return err
		}
		points, err := store.Points(ctx, tx, store.PointFilter{VM: vm, Temporary: true}, store.Page{})
		if err != nil || len(points) == 0 {
			return err
		}
		inWork, err := store.OpenSessions(ctx, tx, vm)
		if err != nil {
			return err
		}
		j := judgement{now: a.now(), session: why.session, rows: map[pointKey]store.Point{}}
		var known []retention.Point
		for _, p := range points {
			j.rows[keyOf(p.Point)] = p
			p.Base = p.Base || p.Session != why.session && inWork[p.Session]
			known = append(known, p.Point)
		}
		for _, v := range retention.Explain(j.now, why.occasion, rules, known) {
			if err := j.write(ctx, tx, v); err != nil {
				return err
			}
		}
		return store.AppendEvents(ctx, tx, j.events...)
	})
}

func (a *Aging) now() time.Time { return a.config.Clock.Now().UTC().Truncate(time.Millisecond) }

// pointKey names a point: two repositories might give one id.
type pointKey struct {
	id         holdfast.PointID
	repository string
}

func keyOf(p retention.Point) pointKey { return pointKey{p.ID, p.Repository} }

// judgement is what a look at a machine's points writes.
type judgement struct {
	now     time.Time
	session holdfast.RunID
	rows    map[pointKey]store.Point
	events  []store.Event
}

// write writes one verdict down, if it changes anything.
func (j *judgement) write(ctx context.Context, tx database.Tx, v retention.Verdict) error {
	row := j.rows[keyOf(v.Point)]
	before := row
	row.Point = v.Point
	event := store.Event{At: j.now, VM: row.VM, Policy: row.Policy, Slot: row.Slot, Point: row.ID}
	switch {
	case !v.Keep:
		row.Flags |= v.Lost // the record says what the point had
		row.State, row.RemovedWhy, row.LetGoIn = store.PointRemoving, preview.Why(v.Reasons), j.session
		event.Name, event.Flags, event.Reason = string(preview.Remove), row.Flags, row.RemovedWhy
	case v.Lost != 0:
		event.Name, event.Flags, event.Reason = string(preview.Unflag), v.Lost, "stays: "+preview.Why(v.Reasons)
	}
	if event.Name != "" && !row.Temporary {
		j.events = append(j.events, event)
	}
	if event.Name == "" && store.Same(before, row) {
		return nil
	}
	return store.PutPoint(ctx, tx, row)
}

// Finish removes what is written down as going.
func (a *Aging) Finish(ctx context.Context, vm holdfast.ResourceID) (Result, error) {
	var going []store.Point
	err := a.config.Database.Read(ctx, func(ctx context.Context, q store.Query) (err error) {
		going, err = store.Points(ctx, q, store.PointFilter{VM: vm, States: []store.PointState{store.PointRemoving}, Temporary: true}, store.Page{})
		return err
	})
	var result Result
	for _, p := range going {
		if err := a.remove(ctx, p); err != nil {
			if ctx.Err() != nil {
				return result, err
			}
			// best effort: the row says that it goes, and the next look at the machine tries again.
			a.config.Log.WarnContext(ctx, "a point could not be removed", "point", string(p.ID), "error", err)
			result.Warnings = append(result.Warnings, "the "+string(p.Kind)+" "+string(p.ID)+" could not be removed yet: "+err.Error())
			continue
		}
		result.Removed = append(result.Removed, p.ID)
	}
	return result, err
}

// take takes what a point is made of.
func (a *Aging) take(ctx context.Context, p store.Point) error {
	if p.Kind != holdfast.PointSnapshot {
		return a.config.Remover.RemoveBackup(ctx, p.Repository, p.ID)
	}
	set, err := p.Set()
	if err != nil {
		return err
	}
	return a.config.Remover.RemoveSnapshots(ctx, set)
}

// remove removes a point that is written down as going, and writes down that it is gone.
func (a *Aging) remove(ctx context.Context, p store.Point) error {
	if err := a.take(ctx, p); err != nil {
		return err
	}
	return a.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		p.State, p.RemovedAt = store.PointRemoved, a.now()
		if err := store.PutPoint(ctx, tx, p); err != nil {
			return err
		}
		if p.Temporary {
			return nil
		}
		return store.AppendLedger(ctx, tx, sla.PointRemoved{At: p.RemovedAt, Point: p.ID})
	})
}

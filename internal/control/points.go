package control

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/aging"
	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/view"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// PointFilter says which points are wanted. The zero value wants all that are there.
type PointFilter struct {
	VM         string // an id, or a name that only one machine has
	Policy     string
	Kinds      []holdfast.PointKind
	Repository string
	Removed    bool // those that are gone as well
}

// Points returns a page of restore points, the newest first, each with why it stays.
func (c *Control) Points(ctx context.Context, p auth.Principal, f PointFilter, limit int, after string) (l view.List[view.Point], err error) {
	part := page(limit, after)
	err = c.read(ctx, p, auth.SeePoints, func(ctx context.Context, q store.Query) error {
		wanted := store.PointFilter{Policy: f.Policy, Kinds: f.Kinds, Repository: f.Repository}
		wanted.States = []store.PointState{store.PointMaking, store.PointKept, store.PointRemoving}
		if f.Removed {
			wanted.States = append(wanted.States, store.PointRemoved)
		}
		if f.VM != "" {
			m, err := machineNamed(ctx, q, f.VM)
			if err != nil {
				return err
			}
			wanted.VM = m.ID
		}
		rows, err := store.Points(ctx, q, wanted, oneMore(part))
		if err != nil {
			return err
		}
		l = listOf(pointViews(rows), part, func(p view.Point) string { return string(p.ID) })
		return c.explain(ctx, q, l.Items)
	})
	return l, err
}

func pointViews(rows []store.Point) []view.Point {
	all := make([]view.Point, 0, len(rows))
	for _, r := range rows {
		all = append(all, view.Point{
			ID: r.ID, VM: r.VM, Name: r.Name, Kind: r.Kind, State: string(r.State), Policy: r.Policy, Session: r.Session, Slot: r.Slot, Created: r.Created, Flags: r.Flags,
			Repository: r.Repository, Region: r.Region, Good: r.Good, Manual: r.Manual, Base: r.Base || len(r.BaseFor) > 0, Consistency: r.Consistency, LockedUntil: r.LockedUntil,
			CopiedFrom: r.CopiedFrom, Bytes: r.Bytes, ProofLevel: r.ProofLevel, Proved: r.Proved, Why: r.RemovedWhy, Removed: r.RemovedAt,
		})
	}
	return all
}

// explain says of the points that are kept why, by what retention would decide now.
func (c *Control) explain(ctx context.Context, q store.Query, points []view.Point) error {
	s, err := c.state(ctx, q)
	if err != nil {
		return err
	}
	verdicts := map[string]map[pointKey]retention.Verdict{}
	for i, p := range points {
		if p.State != string(store.PointKept) {
			continue
		}
		of, known := verdicts[p.VM.Key()]
		if !known {
			if of, err = c.verdicts(ctx, q, s, p.VM); err != nil {
				return err
			}
			verdicts[p.VM.Key()] = of
		}
		if v, judged := of[pointKey{p.ID, p.Repository}]; judged {
			points[i].Why, points[i].Until = preview.Why(v.Reasons), v.Until
		}
	}
	return nil
}

// pointKey names a point: two repositories might give one id.
type pointKey struct {
	id         holdfast.PointID
	repository string
}

// verdicts is what retention says now of all points of a machine.
func (c *Control) verdicts(ctx context.Context, q store.Query, s *protection.State, vm holdfast.ResourceID) (map[pointKey]retention.Verdict, error) {
	rules, err := s.Rules(vm)
	if err != nil {
		return nil, err
	}
	rows, err := store.Points(ctx, q, store.PointFilter{VM: vm, Temporary: true}, store.Page{})
	if err != nil {
		return nil, err
	}
	var known []retention.Point
	for _, r := range rows {
		known = append(known, r.Point)
	}
	all := map[pointKey]retention.Verdict{}
	for _, v := range retention.Explain(c.now(), retention.DailyPass, rules, known) {
		all[pointKey{v.Point.ID, v.Point.Repository}] = v
	}
	return all, nil
}

// RemovePoints removes points that somebody names, all of them or, when one cannot be removed, none.
func (c *Control) RemovePoints(ctx context.Context, p auth.Principal, in view.RemovePoints) (view.Removal, error) {
	removal := view.Removal{DryRun: in.DryRun}
	do := func(ctx context.Context, q store.Query) ([]store.Point, error) {
		rows, err := c.removable(ctx, q, in.Points)
		removal.Points = pointViews(rows)
		return rows, err
	}
	if in.DryRun {
		err := c.read(ctx, p, auth.RemovePoints, func(ctx context.Context, q store.Query) error {
			_, err := do(ctx, q)
			return err
		})
		return removal, err
	}
	err := c.write(ctx, p, auth.RemovePoints, func(ctx context.Context, tx database.Tx) error {
		rows, err := do(ctx, tx)
		if err != nil {
			return err
		}
		if err := aging.Order(ctx, tx, rows, p.User, c.now()); err != nil {
			return err
		}
		s := c.newSession(holdfast.SessionRemoval, p)
		if err := c.begin(ctx, tx, s, itemsOf(rows)); err != nil {
			return err
		}
		job := jobs.Job{Kind: work.KindRemove, Key: string(s.ID), Queue: work.Control, Priority: jobs.Urgent}
		if err := work.Enqueue(ctx, c.config.Jobs, tx, job, work.Session{Session: s.ID}); err != nil {
			return err
		}
		begun, err := store.SessionOf(ctx, tx, s.ID)
		removal.Session = &begun
		return err
	})
	return removal, err
}

// itemsOf has an item for each machine with a point among some.
func itemsOf(points []store.Point) []store.NewItem {
	var items []store.NewItem
	for _, p := range points {
		if !slices.ContainsFunc(items, func(i store.NewItem) bool { return i.VM.Equal(p.VM) }) {
			items = append(items, store.NewItem{VM: p.VM, Region: p.Region})
		}
	}
	return items
}

// removable finds points, and refuses with every reason there is.
func (c *Control) removable(ctx context.Context, q store.Query, ids []holdfast.PointID) ([]store.Point, error) {
	var rows []store.Point
	var wrong []error
	now := c.now()
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		row, err := store.PointOf(ctx, q, id)
		if holdfast.IsKind(err, holdfast.KindNotFound) {
			wrong = append(wrong, holdfast.Errorf(holdfast.KindNotFound, "there is no restore point %q", id).WithField("points").WithHint("see which there are with: holdfast point list"))
			continue
		}
		if err != nil {
			return nil, err
		}
		why, err := refusal(ctx, q, row, now)
		if err != nil {
			return nil, err
		}
		if why != "" {
			wrong = append(wrong, holdfast.Errorf(holdfast.KindRefused, "the %s %s of %s cannot be removed: %s", row.Kind, row.ID, row.Name, why).WithField("points"))
			continue
		}
		rows = append(rows, row)
	}
	return rows, errors.Join(wrong...)
}

func refusal(ctx context.Context, q store.Query, p store.Point, now time.Time) (string, error) {
	inWork, err := store.OpenSessions(ctx, q, p.VM)
	return aging.Refusal(p, inWork, now), err
}

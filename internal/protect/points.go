package protect

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// began tells the ledger that an attempt for a slot began.
func (i *item) began(ctx context.Context, m plan.Making) error {
	return i.write(ctx, func(ctx context.Context, tx database.Tx, now time.Time) error {
		return i.judged(ctx, tx, sla.SessionStarted{At: now, Work: i.work(m.Kind)})
	})
}

// judged tells the ledger, where there is one: what SLA policies made at their slots is judged.
func (i *item) judged(ctx context.Context, tx database.Tx, event sla.Event) error {
	if i.kind != holdfast.PolicySLA || i.c.Session.Manual {
		return nil
	}
	return store.AppendLedger(ctx, tx, event)
}

// work names what the ledger is told about.
func (i *item) work(kind holdfast.PointKind) sla.Work {
	return sla.Work{Policy: i.policy.Name, Machine: i.c.VM, Kind: kind, Slot: i.c.Session.Slot}
}

// write runs a transaction that is refused when another worker has taken the item over.
func (i *item) write(ctx context.Context, do func(ctx context.Context, tx database.Tx, now time.Time) error) error {
	return i.p.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		if err := store.Fence(ctx, tx, i.c.SessionItem); err != nil {
			return err
		}
		return do(ctx, tx, i.p.now())
	})
}

// stillMine refuses when another worker has taken the item over.
func (i *item) stillMine(ctx context.Context) error {
	return i.write(ctx, func(context.Context, database.Tx, time.Time) error { return nil })
}

// snapshot makes the snapshot point of the session, or finds the one that an earlier attempt made. Who fails once in an attempt is not asked
// again in it.
func (i *item) snapshot(ctx context.Context, m plan.Making) (holdfast.SnapshotSet, error) {
	if i.noSource != nil {
		return holdfast.SnapshotSet{}, i.noSource
	}
	set, err := i.snapshotOnce(ctx, m)
	i.noSource = err
	return set, err
}

func (i *item) snapshotOnce(ctx context.Context, m plan.Making) (holdfast.SnapshotSet, error) {
	row, found, err := i.made(ctx, m)
	if err != nil {
		return holdfast.SnapshotSet{}, err
	}
	if !found {
		flags, err := i.flags(ctx, m)
		if err != nil {
			return holdfast.SnapshotSet{}, err
		}
		if row, err = i.intend(ctx, m, flags); err != nil {
			return holdfast.SnapshotSet{}, err
		}
	}
	set, err := row.Set()
	if err != nil || row.State == store.PointKept {
		return set, err
	}
	made, warnings, err := i.p.config.Flows.MakeSnapshots(ctx, i.makeOrder(set))
	i.warnings = append(i.warnings, warnings...)
	if err != nil {
		return set, i.unmake(ctx, row, set, err)
	}
	row = row.WithSet(made)
	row.State, row.Good, row.Created, row.Consistency = store.PointKept, true, made.Time.UTC().Truncate(time.Millisecond), made.Consistency
	for _, d := range made.Disks {
		row.Bytes.Total += d.SizeBytes
	}
	return made, i.durable(ctx, m, row, nil)
}

// makeOrder says how a set is to be made. Scripts of the policy run around it, but not for a snapshot by hand, which has none.
func (i *item) makeOrder(set holdfast.SnapshotSet) work.MakeOrder {
	return work.MakeOrder{
		Set: set, MayRemove: i.stillMine, Policy: i.policy, Attempt: fmt.Sprintf("%s/%s/%d", i.c.Session.ID, i.c.VM.Key(), i.c.Epoch), Read: i.feedsBackup(),
	}
}

// feedsBackup reports whether this attempt makes a backup.
func (i *item) feedsBackup() bool {
	return slices.ContainsFunc(i.c.Makes, func(m plan.Making) bool { return m.Kind == holdfast.PointBackup })
}

// made finds the snapshot point that this session began, or made, before.
func (i *item) made(ctx context.Context, m plan.Making) (row store.Point, found bool, err error) {
	err = i.p.config.Database.Read(ctx, func(ctx context.Context, q store.Query) error {
		rows, err := store.Points(ctx, q, store.PointFilter{
			VM: i.c.VM, Session: i.c.Session.ID, Kinds: []holdfast.PointKind{m.Kind}, States: []store.PointState{store.PointMaking, store.PointKept}, Temporary: true,
		}, store.Page{})
		for _, r := range rows {
			if r.Repository == m.Repository {
				row, found = r, true
			}
		}
		return err
	})
	return row, found, err
}

// intend chooses the names of a snapshot point and writes them down.
func (i *item) intend(ctx context.Context, m plan.Making, flags holdfast.Flags) (store.Point, error) {
	id := holdfast.NewPointID(i.p.now(), i.p.config.Random())
	order := work.SnapshotOrder{
		Point: id, Policy: i.policy, Session: i.c.Session.ID, Slot: i.c.Session.Slot, Flags: flags, Temporary: flags == 0 && !i.c.Session.Manual, Read: i.feedsBackup(),
	}
	set, err := i.p.config.Flows.PrepareSnapshots(ctx, i.c.VM, order)
	if err != nil {
		return store.Point{}, err
	}
	row := i.row(m, flags)
	row.ID, row.Temporary, row.Name, row.State = id, order.Temporary, set.Name, store.PointMaking
	row = row.WithSet(set)
	err = i.write(ctx, func(ctx context.Context, tx database.Tx, now time.Time) error {
		row.Created = now
		return store.PutPoint(ctx, tx, row)
	})
	return row, err
}

// row is a point of this session, less what is known only once it is made.
func (i *item) row(m plan.Making, flags holdfast.Flags) store.Point {
	row := store.Point{
		Point: retention.Point{
			VM: i.c.VM, Kind: m.Kind, Policy: i.policy.Name, Flags: flags, Repository: m.Repository, Region: i.c.Region, Manual: i.c.Session.Type == holdfast.SessionSnapshot,
		},
		Session: i.c.Session.ID,
	}
	if !i.c.Session.Manual {
		row.Slot = i.c.Session.Slot
	}
	return row
}

// unmake removes what a set that could not be made has left. What remains stays written down, and goes at the next look at the machine.
func (i *item) unmake(ctx context.Context, row store.Point, set holdfast.SnapshotSet, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if err := i.stillMine(ctx); err != nil {
		return err
	}
	left := i.p.config.Flows.RemoveSnapshots(ctx, set)
	err := i.write(ctx, func(ctx context.Context, tx database.Tx, _ time.Time) error {
		if left == nil {
			return store.DropPoint(ctx, tx, row.ID)
		}
		row.State, row.Temporary, row.Good, row.RemovedWhy = store.PointRemoving, true, false, "it could not be made"
		return store.PutPoint(ctx, tx, row)
	})
	if err != nil {
		i.p.config.Log.WarnContext(ctx, "a point that could not be made is still written down", "point", string(row.ID), "error", err)
	}
	return cause
}

// cleanupTimeout bounds what is done after a failure or a stop.
const cleanupTimeout = 5 * time.Minute

// flags are those that a point of a kind takes: those of its own slot, and those of its window that no point has taken yet.
func (i *item) flags(ctx context.Context, m plan.Making) (holdfast.Flags, error) {
	flags := m.Flags
	err := i.p.config.Database.Read(ctx, func(ctx context.Context, q store.Query) error {
		for _, f := range holdfast.AllFlags() {
			if !m.Owed.Has(f) {
				continue
			}
			borne, err := store.Borne(ctx, q, store.Flagged{VM: i.c.VM, Policy: i.policy.Name, Kind: m.Kind, Flag: f, Since: m.Opens})
			if err != nil {
				return err
			}
			if !borne {
				flags = flags.With(f)
			}
		}
		return nil
	})
	return flags, err
}

// durable writes a point down as whole, and tells the record and the ledger. also, which may be nil, is done with it.
func (i *item) durable(ctx context.Context, m plan.Making, row store.Point, also func(ctx context.Context, tx database.Tx) error) error {
	row.Point = i.rules.Stamp(row.Point)
	return i.write(ctx, func(ctx context.Context, tx database.Tx, now time.Time) error {
		if err := store.PutPoint(ctx, tx, row); err != nil {
			return err
		}
		if also != nil {
			if err := also(ctx, tx); err != nil {
				return err
			}
		}
		if row.Temporary {
			return nil
		}
		event := store.Event{At: now, VM: row.VM, Policy: row.Policy, Name: string(m.Kind), Slot: i.c.Session.Slot, Point: row.ID, Flags: row.Flags, Reason: preview.MadeReason(m.Kind, m.Repository)}
		if err := store.AppendEvents(ctx, tx, event); err != nil {
			return err
		}
		return i.judged(ctx, tx, sla.PointDurable{At: now, Work: i.work(m.Kind), Point: row.ID})
	})
}

package protect

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// backup reads the session's snapshots into a repository. A session that makes no snapshot point makes a temporary one for it.
func (i *item) backup(ctx context.Context, m plan.Making) error {
	if _, found, err := i.made(ctx, m); err != nil || found {
		return err
	}
	flags, err := i.flags(ctx, m)
	if err != nil {
		return err
	}
	set, err := i.snapshot(ctx, plan.Making{Kind: holdfast.PointSnapshot})
	if err != nil {
		return err
	}
	row := i.row(m, flags)
	row.Created, row.Good, row.State = set.Time.UTC().Truncate(time.Millisecond), true, store.PointKept
	row.Name, row.Consistency = set.Name, set.Consistency
	ranged := i.state.ChangedRanges(i.policy.Name)
	result, err := i.p.config.Flows.Backup(ctx, work.BackupOrder{VM: i.c.VM, Repository: m.Repository, From: set, Full: !ranged, AtOnce: i.atOnce(m.Repository), LockUntil: i.lockUntil(m, row), Report: i.meter.step})
	if err != nil {
		return err
	}
	i.took(result)
	row.ID, row.LockedUntil = result.Point, result.LockedUntil.UTC()
	row.Bytes = bytesOf(result)
	return i.durable(ctx, m, row, func(ctx context.Context, tx database.Tx) error {
		base := set.Point
		if !ranged {
			base = ""
		}
		return store.Rebase(ctx, tx, i.c.VM, m.Repository, base)
	})
}

// atOnce is how many machines may be written into a repository at a time; 0 for no limit.
func (i *item) atOnce(repository string) int {
	spec, _ := i.state.Documents.Repository(repository)
	return spec.Concurrency
}

// took adds what a flow moved to what the item tells.
func (i *item) took(result holdfast.BackupResult) {
	i.warnings = append(i.warnings, result.Warnings...)
	i.c.Bytes = i.c.Bytes.Plus(bytesOf(result))
}

func bytesOf(result holdfast.BackupResult) holdfast.Bytes {
	b := holdfast.Bytes{Read: result.ReadBytes, Stored: result.StoredBytes, Saved: max(0, result.ReadBytes-result.StoredBytes), Audited: result.AuditedBytes}
	for _, d := range result.Disks {
		b.Total += d.SizeBytes
	}
	return b
}

// lockUntil is until when nobody may remove a point of a repository that is immutable: as long as the longest of its flags lasts. Zero for any
// other repository.
func (i *item) lockUntil(m plan.Making, row store.Point) time.Time {
	spec, known := i.state.Documents.Repository(m.Repository)
	if !known || !spec.Immutable {
		return time.Time{}
	}
	zone := i.rules.Zone
	if zone == nil {
		zone = time.UTC
	}
	var until time.Time
	for _, r := range i.rules.Rows {
		if r.Kind != m.Kind || r.Keep.Counted || !row.Flags.Has(r.Flag) {
			continue
		}
		if end := civil.Add(row.Created, r.Keep.For, zone); end.After(until) {
			until = end
		}
	}
	return until.UTC()
}

// archive copies the newest good backup into an archive repository, if it is newer than what was copied there last.
func (i *item) archive(ctx context.Context, m plan.Making) error {
	if _, found, err := i.made(ctx, m); err != nil || found {
		return err
	}
	source, err := i.newestBackup(ctx, m.Repository)
	if err != nil {
		return err
	}
	flags, err := i.flags(ctx, m)
	if err != nil {
		return err
	}
	row := i.row(m, flags)
	row.Created, row.Good, row.State, row.Name, row.Consistency, row.CopiedFrom = i.p.now(), true, store.PointKept, source.Name, source.Consistency, source.ID
	result, err := i.p.config.Flows.Archive(ctx, work.ArchiveOrder{VM: i.c.VM, From: source.ID, Source: source.Repository, To: m.Repository, AtOnce: i.atOnce(m.Repository), LockUntil: i.lockUntil(m, row), Report: i.meter.step})
	if err != nil {
		return err
	}
	i.took(result)
	row.ID, row.LockedUntil, row.Bytes = result.Point, result.LockedUntil.UTC(), bytesOf(result)
	return i.durable(ctx, m, row, nil)
}

// newestBackup returns the newest good backup of the machine; it is refused when there is nothing new to archive.
func (i *item) newestBackup(ctx context.Context, repository string) (newest store.Point, err error) {
	err = i.p.config.Database.Read(ctx, func(ctx context.Context, q store.Query) error {
		all, err := store.Points(ctx, q, store.PointFilter{VM: i.c.VM, Kinds: []holdfast.PointKind{holdfast.PointBackup, holdfast.PointArchive}}, store.Page{})
		if err != nil {
			return err
		}
		slices.Reverse(all)
		last := slices.IndexFunc(all, func(p store.Point) bool {
			return p.Kind == holdfast.PointArchive && p.Good && p.Repository == repository
		})
		at := slices.IndexFunc(all, func(p store.Point) bool { return p.Kind == holdfast.PointBackup && p.Good })
		if at < 0 {
			return &refusedError{"there is no backup to copy"}
		}
		newest = all[at]
		if last >= 0 && all[last].CopiedFrom == newest.ID {
			return &refusedError{"no backup is newer than what was archived last"}
		}
		return nil
	})
	return newest, err
}

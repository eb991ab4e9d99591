package capture

import (
	"context"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// A backup from a set makes no snapshots and removes none: they belong to a snapshot point, which somebody else rotates. The
// session's journal names them for their access alone. As the repository's point names them as its source, the next backup
// finds its base there, whoever made it.

// adopt takes the machine and its disks from a set, and makes sure that the set's snapshots are those that it names.
func (r *run) adopt(ctx context.Context, id holdfast.ResourceID, set *holdfast.SnapshotSet) error {
	if !set.VM.Equal(id) {
		return holdfast.Errorf(holdfast.KindInternal, "the snapshots of the point %s are of %s, not of %s", set.Point, set.VM, id)
	}
	if !set.Made() || !set.Point.Valid() {
		return holdfast.Errorf(holdfast.KindInternal, "the snapshots of the point %q have not been made", set.Point)
	}
	r.vm = machine.VM{ID: set.VM, Name: set.Name, Location: set.Region, Documents: set.Documents}
	var err error
	if r.locks, err = readLocks(ctx, r.flow.config.Source, r.flow.config.Log, set.Snapshots()); err != nil {
		return err
	}
	for _, d := range set.Disks {
		if err := r.adoptDisk(ctx, set, d); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) adoptDisk(ctx context.Context, set *holdfast.SnapshotSet, d holdfast.SetDisk) error {
	id := d.Snapshot.ID
	if err := r.locks.againstReading(id, "reading the snapshot "+id.Name()); err != nil {
		return err
	}
	found, err := r.flow.config.Source.Snapshot(ctx, id)
	if err == nil && !belongs(found, *set, d) {
		err = holdfast.Errorf(holdfast.KindNotFound, "another snapshot bears its name")
	}
	if holdfast.IsKind(err, holdfast.KindNotFound) {
		return holdfast.Wrap(holdfast.KindNotFound, err, "the snapshot %s of the restore point %s is gone", id.Name(), set.Point).
			WithHint("make new snapshots and back up from those")
	}
	if err != nil {
		return err
	}
	r.disks = append(r.disks, &disk{
		Disk: machine.Disk{
			LUN: d.LUN, ID: d.ID, Name: d.Name, UniqueID: d.UniqueID, Location: d.Location, SizeBytes: d.SizeBytes, SKU: d.SKU,
			Caching: d.Caching, LogicalSectorBytes: d.LogicalSectorBytes,
		},
		name: found.ID, snapshot: found,
	})
	return nil
}

// alreadyRead looks for a restore point that was read from the run's set: a caller that died before it heard of its point asks
// again. Who asks for a full read wants one.
func (r *run) alreadyRead(ctx context.Context) (Result, bool, error) {
	if r.options.From == nil || r.options.Full {
		return Result{}, false, nil
	}
	points, err := r.flow.config.Repository.Points()
	if err != nil {
		return Result{}, false, err
	}
	for _, p := range slices.Backward(points) {
		if p.Kind != holdfast.PointBackup || !p.VM.Equal(r.vm.ID) || len(p.Suspect) > 0 || !r.readFrom(p) {
			continue
		}
		point, err := r.flow.config.Repository.OpenPoint(ctx, p.ID)
		if holdfast.IsKind(err, holdfast.KindCorrupt) {
			continue
		}
		if err != nil {
			return Result{}, false, err
		}
		return r.found(ctx, p, point.Point()), true, nil
	}
	return Result{}, false, nil
}

// readFrom reports whether a point's disks are those of the run, read from the same snapshots.
func (r *run) readFrom(p repo.PointSummary) bool {
	if len(p.Disks) != len(r.disks) {
		return false
	}
	for i, d := range r.disks {
		source := p.Disks[i].Snapshot
		if source == nil || source.UniqueID != d.snapshot.UniqueID || p.Disks[i].LUN != d.LUN {
			return false
		}
	}
	return true
}

// found describes a restore point that an earlier run made, and puts in order what that one left.
func (r *run) found(ctx context.Context, p repo.PointSummary, point holdfast.Point) Result {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	r.settleEarlier(ctx)
	if !r.options.RetainUntil.IsZero() {
		r.warn(ctx, "an earlier attempt made the restore point; until when it is locked is told by: holdfast repo locks --point "+string(p.ID))
	}
	result := Result{
		Point: p.ID, VM: p.VM, Time: p.Time, Consistency: p.Consistency, Parent: point.Parent, Existing: true, StoredBytes: p.StoredBytes,
		Warnings: append([]string{}, r.warnings...), Disks: []DiskResult{},
	}
	for _, d := range p.Disks {
		result.ReadBytes += d.ReadBytes
		result.Disks = append(result.Disks, DiskResult{
			LUN: d.LUN, Name: d.Name, SizeBytes: d.SizeBytes, Root: d.Root, ReadBytes: d.ReadBytes, Full: d.Full, Reason: d.Reason, SnapshotSKU: d.Snapshot.SKU,
		})
	}
	return result
}

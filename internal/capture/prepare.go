package capture

import (
	"context"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

const snapshotType = "Microsoft.Compute/snapshots"

// read reads the machine, or the set that is given, and refuses, before anything is made, what could not be carried through.
func (r *run) read(ctx context.Context, id holdfast.ResourceID) error {
	if r.options.From != nil {
		return r.adopt(ctx, id, r.options.From)
	}
	vm, err := r.flow.config.Source.Machine(ctx, id)
	if err != nil {
		return err
	}
	r.vm = vm
	if len(vm.Disks) == 0 {
		return noDisks(vm)
	}
	var ids []holdfast.ResourceID
	for i, d := range vm.Disks {
		if refusal, refused := d.Refusal(machine.Reader{PrivateAccess: r.flow.config.PrivateAccess}); refused {
			return refuses(vm, d, refusal)
		}
		r.disks = append(r.disks, &disk{Disk: vm.Disks[i]})
		ids = append(ids, d.ID)
	}
	if r.locks, err = readLocks(ctx, r.flow.config.Source, r.flow.config.Log, ids); err != nil {
		return err
	}
	for _, d := range r.disks {
		if err := r.locks.against(d.ID.Sibling(snapshotType, "any"), "snapshots of the disk "+d.Name); err != nil {
			return err
		}
	}
	return nil
}

// fourTiB is the size across which Azure cannot compare snapshots of a disk.
const fourTiB = 4 << 40

// chooseBases decides for every disk from what its changes are counted: the snapshot behind the newest durable point, when
// it still exists and the disk is still the same one.
func (r *run) chooseBases(ctx context.Context) error {
	trusted, err := r.findParent(ctx)
	if err != nil {
		return err
	}
	for _, d := range r.disks {
		if !trusted {
			d.reason = holdfast.FullSuspect
			continue
		}
		if err := r.chooseBase(ctx, d); err != nil {
			return err
		}
	}
	for _, id := range r.bases {
		if err := r.replaceable(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// replaceable refuses when a lock stands in the way of what this run is going to do with a base. That of a snapshot point is only read.
func (r *run) replaceable(ctx context.Context, id holdfast.ResourceID) error {
	err := r.locks.against(id, "replacing the snapshot "+id.Name())
	if err == nil {
		return nil
	}
	if found, readErr := r.flow.config.Source.Snapshot(ctx, id); readErr == nil && tagOf(found.Tags, tagPoint) != "" {
		return r.locks.againstReading(id, "reading the snapshot "+id.Name())
	}
	return err
}

// findParent opens the newest durable point of the machine. A point that cannot be read for damage is not built upon.
//
// A set may be older than that point. Then the newest one before the set is the parent, since Azure compares a snapshot with earlier
// ones alone, and what is behind the newest point stays its base.
func (r *run) findParent(ctx context.Context) (trusted bool, err error) {
	var before time.Time
	if set := r.options.From; set != nil {
		before = set.Time
	}
	newest, found, err := r.flow.newestPoint(r.vm.ID, before)
	if err != nil || !found {
		return true, err
	}
	for _, d := range newest.Disks {
		if d.Snapshot != nil {
			r.bases = append(r.bases, d.Snapshot.ID)
		}
	}
	point, err := r.flow.config.Repository.OpenPoint(ctx, newest.ID)
	if holdfast.IsKind(err, holdfast.KindCorrupt) {
		r.warn(ctx, "the newest restore point "+string(newest.ID)+" is damaged; all disks are read in full")
		return false, nil
	}
	if err != nil {
		return false, err
	}
	manifest := point.Point()
	r.parent, r.newest = &manifest, newest
	return true, nil
}

// newestPoint returns the newest visible backup of a machine, of those before a moment if one is given.
func (f *Flow) newestPoint(vm holdfast.ResourceID, before time.Time) (newest repo.PointSummary, found bool, err error) {
	points, err := f.config.Repository.Points()
	for _, p := range points {
		if p.VM.Equal(vm) && p.Kind == holdfast.PointBackup && (before.IsZero() || p.Time.Before(before)) {
			newest, found = p, true // oldest first
		}
	}
	return newest, found, err
}

func (r *run) chooseBase(ctx context.Context, d *disk) error {
	before, reason := previous(r.parent, d.Disk)
	if reason == "" {
		reason = r.doubts[d.UniqueID]
	}
	if a, ok := auditOf(r.newest, d.UniqueID); reason == "" && ok && a.Since != "" {
		reason = holdfast.FullSuspect // its change list was found wrong
	}
	if reason == "" && r.options.Full {
		reason = holdfast.FullRequested
	}
	if reason != "" {
		d.reason = reason
		return nil
	}
	snapshot, err := r.flow.config.Source.Snapshot(ctx, before.Snapshot.ID)
	switch {
	case holdfast.IsKind(err, holdfast.KindNotFound):
		d.reason = holdfast.FullBaseMissing
		return nil
	case err != nil:
		return err
	case snapshot.UniqueID != before.Snapshot.UniqueID:
		d.reason = holdfast.FullBaseMissing // somebody made another one of that name
		return nil
	case r.options.From != nil && !snapshot.Created.Before(d.snapshot.Created):
		d.reason = holdfast.FullBaseMissing // Azure compares with earlier ones alone
		return nil
	case snapshot.FamilyID != before.Snapshot.FamilyID:
		d.reason = holdfast.FullFamilyChanged
		return nil
	}
	d.base, d.before = &before, snapshot
	return nil
}

// previous finds the disk in the newest point; reason says why it cannot serve as a base.
func previous(parent *holdfast.Point, d machine.Disk) (before holdfast.PointDisk, reason holdfast.FullReason) {
	if parent == nil {
		return before, holdfast.FullFirst
	}
	recreated := false
	for _, p := range parent.Disks {
		switch {
		case p.UniqueID == d.UniqueID && p.Snapshot == nil:
			return before, holdfast.FullBaseMissing
		case p.UniqueID == d.UniqueID:
			return p, ""
		case p.ID.Equal(d.ID):
			recreated = true
		}
	}
	if recreated {
		return before, holdfast.FullFamilyChanged
	}
	return before, holdfast.FullFirst
}

// compareFamily drops a base that the new snapshot cannot be compared with.
func (d *disk) compareFamily() {
	if d.base == nil || d.before.FamilyID == d.snapshot.FamilyID && d.before.FamilyID != "" {
		return
	}
	d.reason = holdfast.FullFamilyChanged
	if (d.base.SizeBytes > fourTiB) != (d.snapshot.SizeBytes > fourTiB) {
		d.reason = holdfast.FullResized4TiB
	}
	d.base = nil
}

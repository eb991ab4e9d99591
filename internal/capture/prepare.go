package capture

import (
	"context"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

const snapshotType = "Microsoft.Compute/snapshots"

// read reads the machine and refuses, before anything is made, what could not be carried through.
func (r *run) read(ctx context.Context, id holdfast.ResourceID) error {
	vm, err := r.flow.config.Source.Machine(ctx, id)
	if err != nil {
		return err
	}
	r.vm = vm
	if len(vm.Disks) == 0 {
		return holdfast.Errorf(holdfast.KindInvalid, "the virtual machine %s has no disks", vm.Name)
	}
	for i, d := range vm.Disks {
		if err := r.flow.supported(vm, d); err != nil {
			return err
		}
		r.disks = append(r.disks, &disk{Disk: vm.Disks[i]})
	}
	if err := r.readLocks(ctx); err != nil {
		return err
	}
	for _, d := range r.disks {
		if err := r.locked(d.ID.Sibling(snapshotType, "any"), "snapshots of the disk "+d.Name); err != nil {
			return err
		}
	}
	return nil
}

// supported refuses a disk that Azure cannot export, or not in a form that is kept here.
func (f *Flow) supported(vm machine.VM, d machine.Disk) error {
	refusal, refused := d.Refusal(machine.Reader{PrivateAccess: f.config.PrivateAccess})
	if !refused {
		return nil
	}
	return holdfast.Errorf(refusal.Kind, "the disk %s of %s %s", d.Name, vm.Name, refusal.Why).WithHint("%s", refusal.Hint)
}

// readLocks reads the management locks of the subscriptions that hold the disks. Who may not read them finds out about a
// lock from the request that it refuses.
func (r *run) readLocks(ctx context.Context) error {
	seen := map[string]bool{}
	for _, d := range r.disks {
		subscription := strings.ToLower(d.ID.Subscription())
		if seen[subscription] {
			continue
		}
		seen[subscription] = true
		locks, err := r.flow.config.Source.Locks(ctx, d.ID.Subscription())
		if holdfast.IsKind(err, holdfast.KindRefused) {
			r.flow.config.Log.InfoContext(ctx, "management locks cannot be read", "subscription", subscription, "error", err)
			continue
		}
		if err != nil {
			return err
		}
		r.locks = append(r.locks, locks...)
	}
	return nil
}

// locked refuses when a lock covers id. Either level is in the way: ReadOnly forbids making a snapshot, CanNotDelete
// removing it, and what cannot be removed would pile up.
func (r *run) locked(id holdfast.ResourceID, what string) error {
	for _, lock := range r.locks {
		if lock.Covers(id) {
			return holdfast.Errorf(holdfast.KindRefused, "the lock %s (%s) on %s stands in the way of %s", lock.Name, lock.Level, lock.Scope, what).
				WithHint("remove the lock, or set it on the machine and its disks instead of on what holds their snapshots")
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
		if err := r.locked(id, "replacing the snapshot "+id.Name()); err != nil {
			return err
		}
	}
	return nil
}

// findParent opens the newest durable point of the machine. A point that cannot be read for damage is not built upon.
func (r *run) findParent(ctx context.Context) (trusted bool, err error) {
	newest, found, err := r.flow.newestPoint(r.vm.ID)
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

// newestPoint returns the newest visible backup of a machine.
func (f *Flow) newestPoint(vm holdfast.ResourceID) (newest repo.PointSummary, found bool, err error) {
	points, err := f.config.Repository.Points()
	for _, p := range points {
		if p.VM.Equal(vm) && p.Kind == holdfast.PointBackup {
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

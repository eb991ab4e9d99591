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
	refuse := func(kind holdfast.Kind, what, todo string) error {
		return holdfast.Errorf(kind, "the disk %s of %s %s", d.Name, vm.Name, what).WithHint("%s", todo)
	}
	private := strings.EqualFold(d.NetworkAccess, "AllowPrivate") || strings.EqualFold(d.PublicAccess, "Disabled")
	switch {
	case d.Ephemeral:
		return refuse(holdfast.KindInvalid, "is an ephemeral OS disk, which has no snapshots",
			"move the machine to a managed OS disk, or protect what it stores elsewhere")
	case d.ID == "":
		return refuse(holdfast.KindInvalid, "is not a managed disk", "convert the machine to managed disks")
	case d.MaxShares > 1:
		return refuse(holdfast.KindInvalid, "is a shared disk (maxShares > 1), which is written by several machines",
			"set maxShares to 1, or detach the disk and protect its content from inside the cluster")
	case strings.EqualFold(d.NetworkAccess, "DenyAll"):
		return refuse(holdfast.KindRefused, "may not be exported (networkAccessPolicy is DenyAll)",
			"set its networkAccessPolicy to AllowAll, or to AllowPrivate where Holdfast runs beside a private endpoint")
	case private && !f.config.PrivateAccess:
		return refuse(holdfast.KindRefused, "may be exported through a private endpoint only (networkAccessPolicy is AllowPrivate)",
			"run Holdfast in a network that reaches the disk access object, or set networkAccessPolicy to AllowAll")
	case strings.EqualFold(d.DataAccessAuthMode, "AzureActiveDirectory"):
		return refuse(holdfast.KindRefused, "wants a sign-in for every read (dataAccessAuthMode is AzureActiveDirectory)",
			"set its dataAccessAuthMode to None")
	case d.LogicalSectorBytes == 4096:
		return refuse(holdfast.KindInvalid, "has sectors of 4096 bytes, which Azure exports as VHDX",
			"use a disk with logicalSectorSize 512")
	case strings.HasPrefix(d.SecurityType, "ConfidentialVM"):
		return refuse(holdfast.KindInvalid, "belongs to a confidential machine, whose content does not leave it",
			"protect such machines with snapshots alone")
	}
	switch d.State {
	case "ReadyToUpload", "ActiveUpload":
		return refuse(holdfast.KindConflict, "is still being uploaded", "finish or cancel the upload, then try again")
	}
	return nil
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

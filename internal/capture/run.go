package capture

import (
	"context"
	"sync"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// run is one run for one machine. Its fields are owned by the goroutine of Run, except those guarded by mu; each disk is
// owned by the goroutine that works on it between the steps.
type run struct {
	flow    *Flow
	options Options
	earlier []leftover // what earlier sessions left, looked at once more before they are settled

	vm     machine.VM
	locks  locks
	newest repo.PointSummary              // of parent
	parent *holdfast.Point                // the newest durable point; nil when there is none, or it cannot be trusted
	bases  []holdfast.ResourceID          // the snapshots behind it: they go once a newer point is published
	doubts map[string]holdfast.FullReason // by a disk's UniqueID: why its changes were given up in the attempt before
	disks  []*disk

	session     *repo.Session
	journal     journal
	publication holdfast.Point
	published   repo.Published
	publishing  bool // publication was tried

	mu       sync.Mutex // guards the following
	unsure   bool       // what became of a request is not known: a later run has to look again
	warnings []string
	doubted  *doubt // set when the changes of a disk were given up half way
}

// disk is one disk of a run.
type disk struct {
	machine.Disk
	base     *holdfast.PointDisk // the parent point's disk that changes are counted from; nil for a full read
	before   machine.Snapshot    // its snapshot
	reason   holdfast.FullReason
	name     holdfast.ResourceID // of the snapshot, chosen before it is made
	snapshot machine.Snapshot
	output   repo.DiskOutput
	audit    repo.DiskAudit // what is to be kept of the audit of this run's change list; the zero value when there was none
	audited  int64          // bytes
}

func (r *run) warn(ctx context.Context, sentence string) {
	r.flow.config.Log.WarnContext(ctx, "a person is warned", "warning", sentence, "machine", string(r.vm.ID))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warnings = append(r.warnings, sentence)
}

func (r *run) doubt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unsure = true
}

func (r *run) result() Result {
	result := Result{
		Point: r.published.ID, VM: r.vm.ID, Time: r.publication.Time, Consistency: r.publication.Consistency,
		Parent:      r.publication.Parent,
		StoredBytes: r.published.StoredBytes, Warnings: append([]string{}, r.warnings...), Disks: []DiskResult{},
		LockedUntil: r.published.LockedUntil.UTC(), LocksRenewed: r.published.LocksRenewed,
	}
	for i, d := range r.disks {
		p := r.publication.Disks[i]
		result.ReadBytes += p.ReadBytes
		result.HealedBytes += d.output.HealedBytes
		result.AuditedBytes += d.audited
		var base holdfast.ResourceID
		if d.base != nil {
			base = d.before.ID
		}
		result.Disks = append(result.Disks, DiskResult{
			LUN: p.LUN, Name: p.Name, SizeBytes: p.SizeBytes, Root: p.Root, ReadBytes: p.ReadBytes, Full: p.Full, Reason: p.Reason,
			SnapshotSKU: p.Snapshot.SKU, BaseSnapshot: base, NewBytes: d.output.NewBytes, Duplicate: d.output.DuplicateBytes, HealedBytes: d.output.HealedBytes,
			AuditedBytes: d.audited, SuspectSince: d.audit.Since,
		})
	}
	return result
}

package capture

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Limits in time.
const (
	// cleanupTimeout bounds what is done after a failure or a stop.
	cleanupTimeout = 5 * time.Minute
	// lingerTimeout is how long a request that creates something may go on after a stop, so that its outcome is known.
	lingerTimeout = 20 * time.Second
	// copyTimeout bounds the wait for a snapshot of an Ultra or Premium v2 disk; Azure gives no number, a day is a lot.
	copyTimeout = 24 * time.Hour
)

// run is one run for one machine. Its fields are owned by the goroutine of Run, except those guarded by mu; each disk is
// owned by the goroutine that works on it between the steps.
type run struct {
	flow    *Flow
	options Options
	earlier []leftover // what earlier sessions left, looked at once more before they are settled

	vm     machine.VM
	locks  []machine.Lock
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
		StoredBytes: r.published.StoredBytes, Warnings: append([]string{}, r.warnings...), Disks: []DiskResult{},
		LockedUntil: r.published.LockedUntil.UTC(), LocksRenewed: r.published.LocksRenewed,
	}
	for i, d := range r.disks {
		p := r.publication.Disks[i]
		result.ReadBytes += p.ReadBytes
		result.HealedBytes += d.output.HealedBytes
		result.AuditedBytes += d.audited
		result.Disks = append(result.Disks, DiskResult{
			LUN: p.LUN, Name: p.Name, SizeBytes: p.SizeBytes, Root: p.Root, ReadBytes: p.ReadBytes, Full: p.Full, Reason: p.Reason,
			SnapshotSKU: p.Snapshot.SKU, NewBytes: d.output.NewBytes, Duplicate: d.output.DuplicateBytes, HealedBytes: d.output.HealedBytes,
			AuditedBytes: d.audited, SuspectSince: d.audit.Since,
		})
	}
	return result
}

// cleanup returns a context for what has to be done although the run failed or was stopped.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
}

// linger returns a context that ends some time after ctx does, so that a request that was sent can be waited for.
func (f *Flow) linger(ctx context.Context) (context.Context, context.CancelFunc) {
	child, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		_ = f.config.Clock.Sleep(child, lingerTimeout) // it ends early only because child has ended
		cancel()
	})
	return child, func() { stop(); cancel() }
}

package capture

import (
	"context"
	"errors"
	"iter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// begin records the names of the snapshots to be made, and pins the parent point.
func (r *run) begin(ctx context.Context) error {
	var parents []holdfast.PointID
	for _, d := range r.disks {
		if d.base != nil && len(parents) == 0 {
			parents = append(parents, r.parent.ID)
		}
	}
	var err error
	r.session, err = r.flow.config.Repository.Begin(ctx, repo.BeginOptions{
		VM: r.vm.ID, Parents: parents, RetainUntil: r.options.RetainUntil,
		Resources: func(id holdfast.SessionID) (any, error) {
			r.journal = r.names(id)
			return r.journal, nil
		},
	})
	return err
}

// snapshot makes a snapshot of every disk at once, so that they lie as close together in time as can be, unless a set is given, and
// waits until all can be read. A request that was sent is waited for even when another fails: what it makes must be known.
func (r *run) snapshot(ctx context.Context) error {
	var group errgroup.Group
	for _, d := range r.disks {
		if r.options.From == nil {
			group.Go(func() error { return r.snapshotDisk(ctx, d) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, d := range r.disks {
		if err := r.awaitCopy(ctx, d); err != nil {
			return err
		}
		d.compareFamily()
	}
	return ctx.Err()
}

func (r *run) snapshotDisk(ctx context.Context, d *disk) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	patient, cancel := linger(ctx, r.flow.config.Clock)
	defer cancel()
	var err error
	d.snapshot, err = r.flow.config.Source.CreateSnapshot(patient, machine.SnapshotRequest{
		ID: d.name, SourceID: d.ID, Location: d.Location, Tags: r.tags(),
	})
	if outcomeUnknown(err) {
		r.doubt()
	}
	r.flow.config.Progress(Progress{Stage: StageSnapshot, LUN: d.LUN, Name: d.Name, SizeBytes: d.SizeBytes})
	return err
}

func (r *run) awaitCopy(ctx context.Context, d *disk) (err error) {
	wait := copying{source: r.flow.config.Source, clock: r.flow.config.Clock, every: r.flow.config.PollEvery, told: func() {
		r.flow.config.Progress(Progress{Stage: StageCopy, LUN: d.LUN, Name: d.Name, SizeBytes: d.SizeBytes})
	}}
	d.snapshot, err = wait.await(ctx, d.snapshot, d.name, d.Name)
	return err
}

// transfer reads the disks, several at a time, into the session.
func (r *run) transfer(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.flow.config.DisksAtOnce)
	for _, d := range r.disks {
		group.Go(func() error { return r.transferDisk(ctx, d) })
	}
	err := group.Wait()
	if err != nil && r.doubted != nil {
		return r.doubted // whichever disk's failure was reported first, this is why
	}
	return err
}

func (r *run) transferDisk(ctx context.Context, d *disk) error {
	content, err := r.flow.config.Source.OpenSnapshot(ctx, d.snapshot)
	if err != nil {
		return err
	}
	defer r.closeContent(ctx, content, d.name)
	if d.base != nil {
		done, err := r.readChanges(ctx, d, content)
		if done || err != nil {
			return err
		}
	}
	return r.write(ctx, d, content, content.Extents(ctx))
}

// readChanges reads what differs from the base. When the comparison cannot be had, it records why and reports false; then
// the disk is read in full.
func (r *run) readChanges(ctx context.Context, d *disk, content machine.Content) (done bool, err error) {
	base, err := r.flow.config.Source.OpenSnapshot(ctx, d.before)
	switch holdfast.KindOf(err) {
	case "":
	case holdfast.KindNotFound:
		d.giveUpBase(holdfast.FullBaseMissing)
		return false, nil
	case holdfast.KindConflict:
		// Five SAS of one family may be active, and others make exports too.
		d.giveUpBase(holdfast.FullDiffRefused)
		return false, nil
	default:
		return false, err
	}
	defer r.closeContent(ctx, base, d.before.ID)

	// A refusal shows at the first range. Later the session is part way through the disk and cannot begin anew.
	next, stop := iter.Pull2(content.Changes(ctx, base))
	defer stop()
	extent, err, more := next()
	if reason := doubtOf(err); reason != "" {
		d.giveUpBase(reason)
		return false, nil
	}
	// The session's error may be another disk's; what this disk's list said is noted where it is said.
	return true, r.write(ctx, d, content, resume(extent, err, more, func() (holdfast.Extent, error, bool) {
		extent, err, more := next()
		if reason := doubtOf(err); reason != "" {
			r.mu.Lock()
			r.doubted = &doubt{disk: d.UniqueID, reason: reason, cause: err}
			r.mu.Unlock()
		}
		return extent, err, more
	}))
}

// resume yields an element that was pulled already, and those after it.
func resume(extent holdfast.Extent, err error, more bool, next func() (holdfast.Extent, error, bool)) iter.Seq2[holdfast.Extent, error] {
	return func(yield func(holdfast.Extent, error) bool) {
		for ; more && yield(extent, err); extent, err, more = next() {
		}
	}
}

// doubt is the failure of a session because the changes of one disk cannot be had after all.
type doubt struct {
	disk   string // its UniqueID
	reason holdfast.FullReason
	cause  error
}

func (d *doubt) Error() string { return "the changes of a disk cannot be used: " + d.cause.Error() }
func (d *doubt) Unwrap() error { return d.cause }

// doubtOf says why a list of changes is given up, "" when it is not.
func doubtOf(err error) holdfast.FullReason {
	switch {
	case errors.Is(err, machine.ErrDiffRefused):
		return holdfast.FullDiffRefused
	case errors.Is(err, machine.ErrListWrong):
		return holdfast.FullSuspect
	}
	return ""
}

func (d *disk) giveUpBase(reason holdfast.FullReason) { d.base, d.reason = nil, reason }

// write hands one disk to the session.
func (r *run) write(ctx context.Context, d *disk, content machine.Content, extents iter.Seq2[holdfast.Extent, error]) error {
	report := func(p Progress) {
		p.Stage, p.LUN, p.Name, p.SizeBytes = StageRead, d.LUN, d.Name, d.snapshot.SizeBytes
		r.flow.config.Progress(p)
	}
	output, err := r.session.WriteDisk(ctx, repo.DiskInput{
		LUN: d.LUN, SizeBytes: d.snapshot.SizeBytes, Base: d.base, Source: content, Readers: r.flow.config.Readers,
		Extents: trace(extents, func(offset int64) { report(Progress{Offset: offset}) }),
		Progress: func(p repo.Progress) {
			report(Progress{ReadBytes: p.ReadBytes, NewBytes: p.NewBytes})
		},
	})
	d.output = output
	var damaged *repo.BaseDamaged
	if errors.As(err, &damaged) && damaged.LUN == d.LUN {
		r.mu.Lock()
		r.doubted = &doubt{disk: d.UniqueID, reason: holdfast.FullSuspect, cause: err}
		r.mu.Unlock()
	}
	return err
}

// trace tells how far the extents were handed out.
func trace(extents iter.Seq2[holdfast.Extent, error], reached func(offset int64)) iter.Seq2[holdfast.Extent, error] {
	return func(yield func(holdfast.Extent, error) bool) {
		for e, err := range extents {
			if !yield(e, err) {
				return
			}
			if err == nil {
				reached(e.End())
			}
		}
	}
}

// closeContent revokes a SAS, also after a failure or a stop. When that fails, the snapshot's name is in the log, and a
// later run revokes.
func (r *run) closeContent(ctx context.Context, content machine.Content, id holdfast.ResourceID) {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if err := content.Close(ctx); err != nil {
		r.doubt()
		r.warn(ctx, "the access to the snapshot "+id.Name()+" could not be ended; the next backup does it")
	}
}

// publish makes the restore point visible. When the answer got lost, the log says whether it is.
func (r *run) publish(ctx context.Context) error {
	r.flow.config.Progress(Progress{Stage: StagePublish})
	r.publication = r.point()
	if r.publication.Consistency == holdfast.ConsistencyEachDisk && r.options.From == nil { // else who made the set was told
		r.warn(ctx, "the disks were snapshotted in parallel: each is as after a power loss, the set of them is not")
	}
	r.publishing = true
	r.journal.Superseded = r.bases
	published, err := r.session.Publish(ctx, r.publication, r.journal)
	if err == nil {
		r.published = published
		return nil
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	session, found, statusErr := r.status(ctx)
	if statusErr != nil || !found || session.Status != repo.SessionPublished {
		return err
	}
	r.published.ID, r.published.LockedUntil = session.Point, r.options.RetainUntil
	points, pointsErr := r.flow.config.Repository.Points()
	for _, p := range points {
		if p.ID == session.Point {
			r.published.StoredBytes = p.StoredBytes
		}
	}
	return pointsErr
}

// point describes what was captured.
func (r *run) point() holdfast.Point {
	p := holdfast.Point{
		VM: r.vm.ID, Name: r.vm.Name, Kind: holdfast.PointBackup, Consistency: consistencyOf(len(r.disks)), Documents: r.vm.Documents,
	}
	if set := r.options.From; set != nil {
		p.Consistency = set.Consistency
	}
	for _, d := range r.disks {
		if d.base != nil {
			p.Parent = r.parent.ID
		}
		p.Disks = append(p.Disks, d.point())
		p.Time = earliest(p.Time, d.snapshot.Created)
	}
	return p
}

func (d *disk) point() holdfast.PointDisk {
	source := sourceOf(d.snapshot)
	return holdfast.PointDisk{
		LUN: d.LUN, Name: d.Name, ID: d.ID, UniqueID: d.UniqueID, SizeBytes: d.snapshot.SizeBytes,
		Root: d.output.Root, ReadBytes: d.output.ReadBytes, Full: d.base == nil, Reason: d.reason,
		SKU: d.SKU, Caching: d.Caching, LogicalSectorBytes: d.LogicalSectorBytes,
		Snapshot: &source,
	}
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// rotate removes the snapshots that the new ones replace, and settles this session and those before it. The restore point
// is durable: what fails here is a warning, and the next run puts it in order.
func (r *run) rotate(ctx context.Context) {
	r.flow.config.Progress(Progress{Stage: StageRotate})
	ctx, cancel := cleanup(ctx)
	defer cancel()
	remain := r.flow.removeAll(ctx, r.journal.Superseded)
	for _, id := range remain {
		r.warn(ctx, "the snapshot "+id+", which is no longer needed, could not be removed; the next backup does it")
	}
	r.settleEarlier(ctx)
	if len(remain) > 0 || r.unsure {
		return
	}
	if err := r.flow.config.Repository.Settle(ctx, r.session.ID()); err != nil {
		r.warn(ctx, "the session could not be settled; the next backup does it")
	}
}

// settleEarlier takes the sessions before this one off the list.
func (r *run) settleEarlier(ctx context.Context) {
	if err := r.flow.settle(ctx, r.earlier); err != nil {
		r.warn(ctx, "what an earlier backup left could not be put in order; the next backup does it")
	}
}

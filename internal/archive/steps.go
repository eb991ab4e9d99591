package archive

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// cleanupTimeout bounds what is done after a failure or a stop.
const cleanupTimeout = 5 * time.Minute

func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
}

// begin opens the session and pins the archive that it builds on.
func (r *run) begin(ctx context.Context) error {
	var parents []holdfast.PointID
	if r.builds() {
		parents = append(parents, r.parent.ID)
	}
	var err error
	r.session, err = r.flow.config.Target.Begin(ctx, repo.BeginOptions{
		VM: r.source.VM, Parents: parents, RetainUntil: r.options.RetainUntil,
		Resources: func(holdfast.SessionID) (any, error) {
			return journal{Archive: &archived{Repository: r.flow.config.Source.ID(), Point: r.source.ID}}, nil
		},
	})
	return err
}

// transfer copies the disks, several at a time, into the session.
func (r *run) transfer(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.flow.config.DisksAtOnce)
	for _, d := range r.disks {
		group.Go(func() error { return r.transferDisk(ctx, d) })
	}
	return group.Wait()
}

func (r *run) transferDisk(ctx context.Context, d *disk) error {
	report := func(p Progress) {
		p.LUN, p.Name, p.SizeBytes = d.LUN, d.Name, d.SizeBytes
		r.flow.config.Progress(p)
	}
	extents := d.now.Extents(ctx)
	if d.base != nil {
		extents = d.now.Changes(ctx, d.before)
	}
	var err error
	d.output, err = r.session.WriteDisk(ctx, repo.DiskInput{
		LUN: d.LUN, SizeBytes: d.SizeBytes, Base: d.base, Source: source{d.now}, Readers: r.flow.config.Readers,
		Extents:  watched(extents, func(offset int64) { report(Progress{Offset: offset}) }),
		Progress: func(p repo.Progress) { report(Progress{ReadBytes: p.ReadBytes, NewBytes: p.NewBytes}) },
	})
	if err != nil || !r.options.Compare {
		return err
	}
	return r.compare(ctx, d)
}

// compare reads the backup's disk in full and holds what that makes in the target against what was written.
func (r *run) compare(ctx context.Context, d *disk) error {
	root, err := r.flow.config.Target.RootOf(ctx, repo.RootInput{
		SizeBytes: d.SizeBytes, Extents: d.now.Extents(ctx), Source: source{d.now}, Readers: r.flow.config.Readers,
	})
	if err != nil {
		return err
	}
	if root != d.output.Root {
		return holdfast.Errorf(holdfast.KindCorrupt, "the archive of the disk %s would not be equal to the backup %s", d.Name, r.source.ID).
			WithHint("archive it again and ask for a full read")
	}
	return nil
}

// source is the content of a backup's disk.
type source struct{ *repo.DiskReader }

// ReadAt implements repo.Source.
func (s source) ReadAt(ctx context.Context, p []byte, offset int64) error {
	n, err := s.DiskReader.ReadAt(ctx, p, offset)
	if errors.Is(err, io.EOF) && n == len(p) {
		return nil
	}
	return err
}

// watched tells how far the extents were handed out.
func watched(extents iter.Seq2[holdfast.Extent, error], reached func(offset int64)) iter.Seq2[holdfast.Extent, error] {
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

// publish makes the archive visible. When the answer got lost, the log says whether it is.
func (r *run) publish(ctx context.Context) error {
	r.publication = r.point()
	published, err := r.session.Publish(ctx, r.publication, nil)
	if err == nil {
		r.published = published
		return nil
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	into := r.flow.config.Target
	if refreshErr := into.Refresh(ctx); refreshErr != nil {
		return err
	}
	sessions, listErr := into.Unsettled(r.source.VM)
	if listErr != nil {
		return err
	}
	for _, s := range sessions {
		if s.ID == r.session.ID() && s.Status == repo.SessionPublished {
			r.published = repo.Published{ID: s.Point, LockedUntil: r.options.RetainUntil}
			return r.session.Close(ctx, "it was published")
		}
	}
	return err
}

// point describes the archive: the backup, and where it was copied from.
func (r *run) point() holdfast.Point {
	p := holdfast.Point{
		VM: r.source.VM, Name: r.source.Name, Time: r.source.Time, Kind: holdfast.PointArchive, Consistency: r.source.Consistency, Documents: r.source.Documents,
	}
	if r.builds() {
		p.Parent = r.parent.ID
	}
	for _, d := range r.disks {
		copied := d.PointDisk
		copied.Origin = &holdfast.DiskOrigin{Repository: r.flow.config.Source.ID(), Point: r.source.ID, Root: d.Root}
		copied.Root, copied.Top, copied.ReadBytes, copied.Full, copied.Reason = d.output.Root, nil, d.output.ReadBytes, d.base == nil, d.reason
		p.Disks = append(p.Disks, copied)
	}
	return p
}

// undo gives the session up, so that it can never publish. It runs although ctx may have ended.
func (r *run) undo(ctx context.Context, cause error) error {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if err := r.session.Close(ctx, "failed: "+string(holdfast.KindOf(cause))); err != nil {
		// best effort: the next archive of the machine gives up what is open.
		r.flow.config.Log.WarnContext(ctx, "the session could not be closed", "error", err)
		return cause
	}
	if err := r.flow.config.Target.Settle(ctx, r.session.ID()); err != nil && !holdfast.IsKind(err, holdfast.KindConflict) {
		// best effort: the next archive of the machine settles it.
		r.flow.config.Log.WarnContext(ctx, "the session could not be settled", "error", err)
	}
	return cause
}

// settle takes the session off the list. The archive is durable.
func (r *run) settle(ctx context.Context) {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if err := r.flow.config.Target.Settle(ctx, r.session.ID()); err != nil {
		r.warn(ctx, "the session could not be settled; the next archive of the machine does it")
	}
}

func (r *run) result() Result {
	result := Result{
		Point: r.published.ID, VM: r.source.VM, Time: r.publication.Time, Consistency: r.publication.Consistency, Parent: r.publication.Parent,
		StoredBytes: r.published.StoredBytes, Warnings: append([]string{}, r.warnings...), Disks: []holdfast.BackupDisk{},
		LockedUntil: r.published.LockedUntil.UTC(), LocksRenewed: r.published.LocksRenewed,
	}
	for i, d := range r.disks {
		told := diskOf(r.publication.Disks[i])
		told.NewBytes, told.Duplicate, told.HealedBytes = d.output.NewBytes, d.output.DuplicateBytes, d.output.HealedBytes
		result.ReadBytes += told.ReadBytes
		result.HealedBytes += told.HealedBytes
		result.Disks = append(result.Disks, told)
	}
	return result
}

// found describes an archive that an earlier run made.
func (r *run) found(p repo.PointSummary) Result {
	result := Result{
		Point: p.ID, VM: p.VM, Time: p.Time, Consistency: p.Consistency, Existing: true, StoredBytes: p.StoredBytes,
		Warnings: append([]string{}, r.warnings...), Disks: []holdfast.BackupDisk{},
	}
	for _, d := range p.Disks {
		result.ReadBytes += d.ReadBytes
		result.Disks = append(result.Disks, diskOf(d))
	}
	return result
}

func diskOf(d holdfast.PointDisk) holdfast.BackupDisk {
	told := holdfast.BackupDisk{LUN: d.LUN, Name: d.Name, SizeBytes: d.SizeBytes, Root: d.Root, ReadBytes: d.ReadBytes, Full: d.Full, Reason: d.Reason}
	if d.Snapshot != nil {
		told.SnapshotSKU = d.Snapshot.SKU
	}
	return told
}

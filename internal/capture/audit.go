package capture

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// A change list cannot be checked by itself: what it leaves out looks like what did not change. So a part of what it calls unchanged is read
// and compared, after the restore point is durable, going round the disk from one backup to the next.

// Audit says how much of what a change list calls unchanged is read.
type Audit struct {
	Off   bool
	Share float64 // of the disk's data, in this run, over 0 up to 1; 0 means auditPerDay for each day since the last audit, up to auditMost
}

const (
	auditPerDay = 1.0 / 30 // so that a rotation takes a month
	auditMost   = 1.0 / 4  // after a long pause
)

// amount returns how many bytes are due of a disk that holds so many.
func (a Audit) amount(held int64, since time.Duration, chunkBytes int64) int64 {
	switch {
	case a.Off || held <= 0:
		return 0
	case a.Share >= 1:
		return math.MaxInt64
	case a.Share > 0:
		return wholeChunks(a.Share*float64(held), chunkBytes)
	}
	due := min(auditMost, auditPerDay*since.Hours()/24) * float64(held)
	if due < float64(chunkBytes) {
		return 0 // it adds up until the next run
	}
	return wholeChunks(due, chunkBytes)
}

// wholeChunks rounds up, so that a rotation does not take longer than was said.
func wholeChunks(bytes float64, chunkBytes int64) int64 {
	const dust = 1e-6 // of a chunk: what multiplying fractions leaves
	return int64(math.Ceil(bytes/float64(chunkBytes)-dust)) * chunkBytes
}

// audit checks the change lists of this run. The restore point is durable: what fails here is a warning, and what is interrupted goes on
// with the next run.
func (r *run) audit(ctx context.Context) {
	points, err := r.flow.config.Repository.Points()
	if err != nil {
		r.warn(ctx, "the change lists could not be checked: "+err.Error())
		return
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(r.flow.config.DisksAtOnce)
	for _, d := range r.disks {
		if h := r.historyOf(points, d); h.due > 0 {
			group.Go(func() error {
				if err := r.auditDisk(gctx, d, h); err != nil {
					d.audit = repo.DiskAudit{}
					r.warn(ctx, "the change list of the disk "+d.Name+" could not be checked to the end; the next backup goes on")
					r.flow.config.Log.WarnContext(ctx, "audit ended early", "disk", d.Name, "error", err)
				}
				return nil
			})
		}
	}
	_ = group.Wait() // each disk tells of its own failure
	r.keepAudits(ctx)
}

// history is what earlier runs left for the audit of a disk.
type history struct {
	last  repo.DiskAudit
	since holdfast.PointID // the oldest point that rests on the change lists since the last full read
	due   int64            // bytes
}

// historyOf reads what is known of a disk from the restore points of its machine, which are in order of time.
func (r *run) historyOf(points []repo.PointSummary, d *disk) history {
	var h history
	if d.base == nil || r.options.Audit.Off {
		return h
	}
	h.since = r.published.ID
	now := r.flow.config.Clock.Now()
	held, last, full := int64(0), now, false
	for _, p := range slices.Backward(points) {
		if !p.VM.Equal(r.vm.ID) || p.Kind != holdfast.PointBackup {
			continue
		}
		if a, ok := auditOf(p, d.UniqueID); ok && h.last.UniqueID == "" {
			h.last = a
		}
		for _, pd := range p.Disks {
			if pd.UniqueID != d.UniqueID || full {
				continue
			}
			held, last, full = held+pd.ReadBytes, p.Time, pd.Full
			if !pd.Full {
				h.since = p.ID
			}
		}
	}
	if h.last.UniqueID != "" {
		held, last = h.last.Held+d.output.NewBytes, h.last.At
	}
	h.last.Held = min(held, d.snapshot.SizeBytes)
	h.due = r.options.Audit.amount(h.last.Held, now.Sub(last), int64(r.flow.config.Repository.Parameters().ChunkSize))
	return h
}

// auditOf returns what an audit of a disk left at a point.
func auditOf(p repo.PointSummary, uniqueID string) (repo.DiskAudit, bool) {
	for _, a := range p.Audits {
		if a.UniqueID == uniqueID {
			return a, true
		}
	}
	return repo.DiskAudit{}, false
}

// auditDisk reads what is due, from where the last audit ended, round the disk's end at most once.
func (r *run) auditDisk(ctx context.Context, d *disk, h history) error {
	now, before, err := r.readers(ctx, d)
	if err != nil {
		return err
	}
	content, err := r.flow.config.Source.OpenSnapshot(ctx, d.snapshot)
	if err != nil {
		return err
	}
	defer r.closeContent(ctx, content, d.name)
	from := h.last.Next
	if from >= d.snapshot.SizeBytes {
		from = 0
	}
	a := repo.DiskAudit{UniqueID: d.UniqueID, FamilyID: d.snapshot.FamilyID, At: r.flow.config.Clock.Now().UTC(), Next: from, Round: h.last.Round, Held: h.last.Held}
	parts := []holdfast.Extent{{Offset: from, Length: d.snapshot.SizeBytes - from}, {Offset: 0, Length: from}}
	for _, part := range parts {
		if part.Length == 0 || h.due <= 0 {
			continue
		}
		out, err := now.Audit(ctx, repo.AuditInput{
			Parent: before, From: part.Offset, To: part.End(), Most: h.due, Extents: content.ExtentsFrom(ctx, part.Offset), Source: content, Readers: r.flow.config.Readers,
		})
		d.audited += out.Bytes
		if err != nil {
			return err
		}
		h.due -= out.Bytes
		a.Round += out.Bytes
		if a.Next = out.Next; a.Next >= d.snapshot.SizeBytes { // round: now it is known how much there is
			if a.Round > 0 {
				a.Held = a.Round
			}
			a.Next, a.Round = 0, 0
		}
		if len(out.Wrong) > 0 && a.Since == "" {
			a.Since, a.Wrong = h.since, out.Wrong[0]+1
		}
		if a.Next != 0 {
			break
		}
	}
	d.audit = a
	return nil
}

// readers open the disk in the new point and in the one that it was compared with.
func (r *run) readers(ctx context.Context, d *disk) (now, before *repo.DiskReader, err error) {
	for _, one := range []struct {
		point holdfast.PointID
		lun   holdfast.LUN
		into  **repo.DiskReader
	}{{r.published.ID, d.LUN, &now}, {r.parent.ID, d.base.LUN, &before}} {
		point, err := r.flow.config.Repository.OpenPoint(ctx, one.point)
		if err != nil {
			return nil, nil, err
		}
		if *one.into, err = point.Disk(one.lun); err != nil {
			return nil, nil, err
		}
	}
	return now, before, nil
}

// keepAudits notes at the point what was found, and tells a person what must be told.
func (r *run) keepAudits(ctx context.Context) {
	audits := map[holdfast.LUN]repo.DiskAudit{}
	for _, d := range r.disks {
		if d.audit.UniqueID == "" {
			continue
		}
		audits[d.LUN] = d.audit
		if d.audit.Since != "" {
			r.warn(ctx, fmt.Sprintf("THE CHANGE LIST OF THE DISK %s IS WRONG: it left out a change at byte %d. Restore points of this disk from %s on are in doubt, this one included; "+
				"the next backup reads the disk in full", d.Name, d.audit.Wrong-1, d.audit.Since))
		}
	}
	if len(audits) == 0 {
		return
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if err := r.flow.config.Repository.AnnotateAudits(ctx, r.published.ID, audits); err != nil {
		r.warn(ctx, "what the check of the change lists found could not be recorded: "+err.Error())
	}
}

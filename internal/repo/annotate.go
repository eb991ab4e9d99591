package repo

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/audit"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
)

// DiskAudit is what an audit of a disk's change list left: where the next one goes on, and whether a list was wrong. It is kept as an
// annotation of the point (doc/format.md §9.1).
type DiskAudit struct {
	UniqueID string    `json:"diskUniqueId"`
	FamilyID string    `json:"familyId"` // of the snapshots whose comparison was checked
	At       time.Time `json:"at"`
	Next     int64     `json:"next"`            // byte of the disk where the next audit goes on
	Round    int64     `json:"roundBytes"`      // audited since the rotation began at the disk's start
	Held     int64     `json:"allocatedBytes"`  // what a whole rotation reads, as far as is known
	Wrong    int64     `json:"wrong,omitempty"` // byte of the disk where the content was found other than the change list said, plus one; 0 for nowhere
	// Since is the oldest point of the disk that is in doubt, "" when nothing is.
	Since holdfast.PointID `json:"since,omitempty"`
}

// annotation is the sealed part of an annotate entry. Later entries add to earlier ones and replace fields of the same name.
type annotation struct {
	Audits map[holdfast.LUN]DiskAudit `json:"audits,omitempty"`
}

// AnnotateAudits keeps what audits of a visible point's disks found. A point that was removed meanwhile is KindConflict.
func (r *Repository) AnnotateAudits(ctx context.Context, point holdfast.PointID, audits map[holdfast.LUN]DiskAudit) error {
	plain, err := json.Marshal(annotation{Audits: audits})
	if err != nil {
		return err
	}
	_, err = r.oplog.Append(ctx, func(oplog.State) (oplog.Entry, error) {
		return oplog.Entry{Kind: oplog.Annotate, Point: point, Private: plain}, nil
	})
	return err
}

// auditsOf opens the annotations of a point.
func (r *Repository) auditsOf(p oplog.PointState) (map[holdfast.LUN]DiskAudit, error) {
	var all annotation
	for _, part := range p.Annotations {
		if len(part.Sealed) == 0 {
			continue
		}
		plain, err := r.ring.OpenEntryPart(part.Generation, part.Sealed, oplog.SealContext(oplog.Annotate, string(p.ID)))
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(plain, &all); err != nil { // fields that are not ours are left alone
			return nil, holdfast.Wrap(holdfast.KindCorrupt, err, "an annotation of restore point %s is not readable", p.ID)
		}
	}
	return all.Audits, nil
}

// markSuspect fills in which disks of which points are in doubt: from the point that an audit names up to the one that it was made
// for, in order of publication. points are in order of time.
func markSuspect(points []PointSummary) {
	for i := range points {
		points[i].Suspect = []holdfast.LUN{}
	}
	for i := range points {
		for lun, audit := range points[i].Audits {
			if audit.Since == "" {
				continue
			}
			for j := i; j >= 0; j-- {
				p := &points[j]
				if p.VM.Equal(points[i].VM) && rests(*p, lun, audit) && !slices.Contains(p.Suspect, lun) {
					p.Suspect = append(p.Suspect, lun)
				}
				if p.ID == audit.Since {
					break
				}
			}
		}
	}
}

// rests reports whether a disk of a point rests on a change list of the family that was found wrong.
func rests(p PointSummary, lun holdfast.LUN, audit DiskAudit) bool {
	return slices.ContainsFunc(p.Disks, func(d holdfast.PointDisk) bool {
		return d.LUN == lun && d.UniqueID == audit.UniqueID && !d.Full
	})
}

// AuditInput is content that a disk of a point should be equal to, as far as a change list said that nothing had changed.
type AuditInput struct {
	Parent  *DiskReader                       // the disk that the change list counted from; chunks that differ from it were read, and are not looked at
	From    int64                             // byte where to begin
	To      int64                             // byte where to end
	Most    int64                             // bytes to be read at most, in whole chunks
	Extents iter.Seq2[holdfast.Extent, error] // where the source holds data, from From on
	Source  Source                            // what the disk held
	Readers int                               // concurrent reads; 0 means DefaultReaders
}

// AuditOutput is what an audit found.
type AuditOutput = audit.Output

// Audit reads chunks that have not changed since Parent, and those that both maps call zeros although the source holds data there, and
// compares their ids with those of the map. Nothing is read of the store but the maps.
func (d *DiskReader) Audit(ctx context.Context, in AuditInput) (AuditOutput, error) {
	if in.Readers <= 0 {
		in.Readers = DefaultReaders()
	}
	return audit.Run(ctx, audit.Input{
		Now: audit.Map{Shape: d.shape, Top: d.top}, Parent: audit.Map{Shape: in.Parent.shape, Top: in.Parent.top}, Nodes: d.r, Hasher: d.r.hasher,
		From: in.From, To: in.To, Most: in.Most, Extents: in.Extents, Content: in.Source, Readers: in.Readers,
	})
}

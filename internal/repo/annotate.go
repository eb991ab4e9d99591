package repo

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
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

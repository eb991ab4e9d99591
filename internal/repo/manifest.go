package repo

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/manifest"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
)

// placeTops fills in where the top node of each disk lies, and makes sure that the point says of its disks what was written.
// All nodes must be stored.
func (s *Session) placeTops(point *holdfast.Point) error {
	point.Disks = slices.Clone(point.Disks)
	for i := range point.Disks {
		disk := &point.Disks[i]
		s.mu.Lock()
		written, ok := s.disks[disk.LUN]
		s.mu.Unlock()
		if !ok || written.root != disk.Root || written.sizeBytes != disk.SizeBytes {
			return holdfast.Errorf(holdfast.KindInternal, "disk %s of the point (root %s, %d bytes) was not written", disk.LUN, disk.Root, disk.SizeBytes)
		}
		encoded, err := manifest.EncodeTop(written.top)
		if err != nil {
			return err
		}
		disk.Top = encoded
	}
	return nil
}

// manifests are how manifests are sealed here.
func (r *Repository) manifests() manifest.Form {
	return manifest.Form{Ring: r.ring, Codec: r.codec, Repository: r.id}
}

func (r *Repository) writeManifest(ctx context.Context, session holdfast.SessionID, point holdfast.Point) (string, error) {
	data, err := r.manifests().Encode(session, point)
	if err != nil {
		return "", err
	}
	return r.put(ctx, layout.Manifest, data)
}

// readManifest reads a manifest and checks that it is the one of that point. Damage is KindCorrupt.
func (r *Repository) readManifest(ctx context.Context, state oplog.PointState) (holdfast.Point, error) {
	point, err := r.decodeManifest(ctx, state.Manifest)
	if err == nil && point.ID != state.ID {
		err = holdfast.Errorf(holdfast.KindCorrupt, "%s is not the manifest of restore point %s", state.Manifest, state.ID)
	}
	return point, err
}

func (r *Repository) decodeManifest(ctx context.Context, name string) (holdfast.Point, error) {
	data, err := readNamed(ctx, r.store, name, layout.ObjectBytesMax)
	if err != nil {
		return holdfast.Point{}, err
	}
	return r.manifests().Decode(name, data)
}

// summary is the sealed part of a publish entry: what listing shows, and the journal of Publish.
type summary struct {
	VM          holdfast.ResourceID  `json:"vm"`
	Name        string               `json:"name"`
	Time        time.Time            `json:"time"`
	Kind        holdfast.PointKind   `json:"kind"`
	Consistency holdfast.Consistency `json:"consistency"`
	Disks       []holdfast.PointDisk `json:"disks"` // without Top
	StoredBytes int64                `json:"storedBytes"`
	Resources   json.RawMessage      `json:"resources,omitempty"`
	Repository  keys.RepositoryID    `json:"repository"`
}

func (s *Session) summarise(point holdfast.Point, resources any) ([]byte, error) {
	sum := summary{
		VM: point.VM, Name: point.Name, Time: point.Time, Kind: point.Kind, Consistency: point.Consistency, Disks: slices.Clone(point.Disks),
		StoredBytes: s.r.BytesAdded() - s.begun, Repository: s.r.id,
	}
	for i := range sum.Disks {
		sum.Disks[i].Top = nil
	}
	if resources != nil {
		journal, err := json.Marshal(resources)
		if err != nil {
			return nil, err
		}
		sum.Resources = journal
	}
	return json.Marshal(sum)
}

func (r *Repository) openSummary(id holdfast.PointID, part oplog.SealedPart) (summary, error) {
	plain, err := r.ring.OpenEntryPart(part.Generation, part.Sealed, oplog.SealContext(oplog.Publish, string(id)))
	if err != nil {
		return summary{}, err
	}
	var sum summary
	if err := json.Unmarshal(plain, &sum); err != nil {
		return summary{}, holdfast.Wrap(holdfast.KindCorrupt, err, "the summary of restore point %s is not readable", id)
	}
	return sum, nil
}

// PointSummary is a restore point as a list shows it.
type PointSummary struct {
	ID          holdfast.PointID     `json:"id"`
	VM          holdfast.ResourceID  `json:"vm"`
	Name        string               `json:"name"`
	Time        time.Time            `json:"time"`
	Kind        holdfast.PointKind   `json:"kind"`
	Consistency holdfast.Consistency `json:"consistency"`
	StoredBytes int64                `json:"storedBytes"` // what the point added to the store
	Disks       []holdfast.PointDisk `json:"disks"`       // without Top
	// ProvenAt is the instant since which everything that the point needs has been read; absent when it has not, or not all of it.
	ProvenAt *time.Time `json:"provenAt,omitempty"`
	// Audits are what was found out about the change lists of its disks, by disk; nil for a point that was not audited.
	Audits map[holdfast.LUN]DiskAudit `json:"-"`
	// Suspect are the disks whose content here rests on a change list that was found wrong later, or in this run.
	Suspect []holdfast.LUN `json:"suspect"`

	published uint64
}

// Points returns the visible restore points, oldest first, from the state read last.
func (r *Repository) Points() ([]PointSummary, error) {
	state := r.oplog.State()
	points := make([]PointSummary, 0, len(state.Points))
	for _, p := range state.Points {
		sum, err := r.openSummary(p.ID, p.Summary)
		if err != nil {
			return nil, err
		}
		points = append(points, PointSummary{
			ID: p.ID, VM: sum.VM, Name: sum.Name, Time: sum.Time, Kind: sum.Kind, Consistency: sum.Consistency, StoredBytes: sum.StoredBytes, Disks: sum.Disks,
			published: p.Published,
		})
		last := &points[len(points)-1]
		if since, ok := state.Proven.Since(p.Published + 1); ok {
			last.ProvenAt = &since
		}
		if last.Audits, err = r.auditsOf(p); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(points, func(a, b PointSummary) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return int(int64(a.published) - int64(b.published))
	})
	markSuspect(points)
	return points, nil
}

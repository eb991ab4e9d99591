package repo

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// topPlace is how a manifest says where a disk's top node lies.
type topPlace struct {
	ID     string `json:"id"` // node id in hex, "" for a disk of zeros
	Pack   string `json:"pack,omitempty"`
	Offset int64  `json:"offset,omitempty"`
	Stored int    `json:"stored,omitempty"`
}

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
		encoded, err := json.Marshal(encodeTop(written.top))
		if err != nil {
			return err
		}
		disk.Top = encoded
	}
	return nil
}

func encodeTop(top tree.Child) topPlace {
	if top.ID.IsHole() {
		return topPlace{}
	}
	t := topPlace{ID: top.ID.String()}
	if top.Place != nil {
		t.Pack, t.Offset, t.Stored = top.Place.Pack.Name(), top.Place.Offset, top.Place.Stored
	}
	return t
}

func decodeTop(disk holdfast.PointDisk) (tree.Child, error) {
	var t topPlace
	if err := json.Unmarshal(disk.Top, &t); err != nil {
		return tree.Child{}, holdfast.Wrap(holdfast.KindCorrupt, err, "the map of disk %s is not readable", disk.LUN)
	}
	if t.ID == "" {
		return tree.Child{}, nil
	}
	var id holdfast.Root
	if err := id.UnmarshalText([]byte(t.ID)); err != nil {
		return tree.Child{}, holdfast.Wrap(holdfast.KindCorrupt, err, "the map of disk %s is not readable", disk.LUN)
	}
	child := tree.Child{ID: chunk.ID(id)}
	if t.Pack != "" {
		if kind, _ := layout.Parse(t.Pack); kind != layout.TreePack || t.Offset < 0 || t.Offset >= layout.ObjectBytesMax {
			return tree.Child{}, holdfast.Errorf(holdfast.KindCorrupt, "the map of disk %s is said to lie in %.100q at %d", disk.LUN, t.Pack, t.Offset)
		}
		child.Place = &chunk.Place{Pack: chunk.NamedPack(t.Pack), Offset: t.Offset, Stored: t.Stored}
	}
	return child, nil
}

// manifestPiece is how much JSON goes into one frame of a manifest.
const manifestPiece = 1 << 20

func (r *Repository) writeManifest(ctx context.Context, session holdfast.SessionID, point holdfast.Point) (string, error) {
	plain, err := json.Marshal(point)
	if err != nil {
		return "", err
	}
	w, err := seal.NewWriter(make([]byte, 0, len(plain)+64<<10), r.ring, seal.NewHeader(seal.KindManifest, r.ring, r.id, session))
	if err != nil {
		return "", err
	}
	for piece := range slices.Chunk(plain, manifestPiece) {
		w.Append(r.codec.Compress(nil, piece), len(piece), 0, nil)
	}
	return r.put(ctx, layout.Manifest, w.Finish(nil))
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
	object, err := seal.ParseObject(name, data, r.ring, r.codec)
	if err != nil {
		return holdfast.Point{}, err
	}
	if object.Header.Kind != seal.KindManifest {
		return holdfast.Point{}, seal.Damaged(name, holdfast.Errorf(holdfast.KindCorrupt, "its header says that it is another object"))
	}
	var plain []byte
	for _, f := range object.Frames {
		piece, err := object.Opener.Open(nil, slices.Clone(data[f.Offset:f.Offset+int64(f.Stored)]), f.Offset, layout.FrameBytesMax)
		if err != nil {
			return holdfast.Point{}, seal.Damaged(name, err)
		}
		plain = append(plain, piece...)
	}
	point, err := parseManifest(plain)
	if err != nil {
		return holdfast.Point{}, seal.Damaged(name, err)
	}
	return point, nil
}

// parseManifest reads a manifest's JSON. Anything that cannot be restored as it stands is KindCorrupt.
func parseManifest(plain []byte) (holdfast.Point, error) {
	var point holdfast.Point
	if err := json.Unmarshal(plain, &point); err != nil {
		return holdfast.Point{}, holdfast.Wrap(holdfast.KindCorrupt, err, "the manifest is not readable")
	}
	if point.Format > layout.FormatVersion {
		return holdfast.Point{}, holdfast.Errorf(holdfast.KindInvalid, "the manifest has the format %d, which this version of Holdfast does not know", point.Format).
			WithHint("open the repository with a newer version")
	}
	for _, disk := range point.Disks {
		if disk.SizeBytes < 1 || disk.SizeBytes > DiskBytesMax {
			return holdfast.Point{}, holdfast.Errorf(holdfast.KindCorrupt, "disk %s is said to have %d bytes", disk.LUN, disk.SizeBytes)
		}
		if _, err := decodeTop(disk); err != nil {
			return holdfast.Point{}, err
		}
	}
	return point, nil
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
	// ProvenAt is the instant since which everything that the point needs has been read; null when it has not, or not all of it.
	ProvenAt *time.Time `json:"provenAt"`
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

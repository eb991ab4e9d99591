// Package manifest is the bytes of a restore point's manifest (doc/format.md §9): JSON in a sealed object, and the places of the disks'
// maps in it. What it returns can be restored as it stands, or it is damage.
package manifest

import (
	"encoding/json"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// DiskBytesMax is the greatest disk that can be written: far beyond what Azure has (64 TiB), and far from any overflow.
const DiskBytesMax = 1 << 50

// pieceBytes is how much JSON goes into one frame.
const pieceBytes = 1 << 20

// Form is what sealing and opening manifests takes.
type Form struct {
	Ring       *keys.Ring
	Codec      *seal.Codec
	Repository keys.RepositoryID
}

// Encode returns the bytes of a new manifest object.
func (f Form) Encode(session holdfast.SessionID, point holdfast.Point) ([]byte, error) {
	plain, err := json.Marshal(point)
	if err != nil {
		return nil, err
	}
	w, err := seal.NewWriter(make([]byte, 0, len(plain)+64<<10), f.Ring, seal.NewHeader(seal.KindManifest, f.Ring, f.Repository, session))
	if err != nil {
		return nil, err
	}
	for piece := range slices.Chunk(plain, pieceBytes) {
		w.Append(f.Codec.Compress(nil, piece), len(piece), 0, nil)
	}
	return w.Finish(nil), nil
}

// Decode reads a manifest object of that name. Damage is KindCorrupt.
func (f Form) Decode(name string, data []byte) (holdfast.Point, error) {
	object, err := seal.ParseObject(name, data, f.Ring, f.Codec)
	if err != nil {
		return holdfast.Point{}, err
	}
	if object.Header.Kind != seal.KindManifest {
		return holdfast.Point{}, seal.Damaged(name, holdfast.Errorf(holdfast.KindCorrupt, "its header says that it is another object"))
	}
	var plain []byte
	for _, frame := range object.Frames {
		piece, err := object.Opener.Open(nil, slices.Clone(data[frame.Offset:frame.Offset+int64(frame.Stored)]), frame.Offset, layout.FrameBytesMax)
		if err != nil {
			return holdfast.Point{}, seal.Damaged(name, err)
		}
		plain = append(plain, piece...)
	}
	point, err := Parse(plain)
	if err != nil {
		return holdfast.Point{}, seal.Damaged(name, err)
	}
	return point, nil
}

// Parse reads a manifest's JSON. Anything that cannot be restored as it stands is KindCorrupt.
func Parse(plain []byte) (holdfast.Point, error) {
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
		if _, err := Top(disk); err != nil {
			return holdfast.Point{}, err
		}
	}
	return point, nil
}

// topPlace is how a manifest says where a disk's top node lies.
type topPlace struct {
	ID     string `json:"id"` // node id in hex, "" for a disk of zeros
	Pack   string `json:"pack,omitempty"`
	Offset int64  `json:"offset,omitempty"`
	Stored int    `json:"stored,omitempty"`
}

// EncodeTop returns what a manifest says of a disk's top node, which must be stored.
func EncodeTop(top tree.Child) ([]byte, error) {
	var t topPlace
	if !top.ID.IsHole() {
		t.ID = top.ID.String()
		if top.Place != nil {
			t.Pack, t.Offset, t.Stored = top.Place.Pack.Name(), top.Place.Offset, top.Place.Stored
		}
	}
	return json.Marshal(t)
}

// Top returns the top node of a disk's map; a hole for a disk of zeros. Damage is KindCorrupt.
func Top(disk holdfast.PointDisk) (tree.Child, error) {
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

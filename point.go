package holdfast

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// PointID identifies a restore point: YYYYMMDD-hhmmss-xxxxxxxx. It sorts by time and means nothing else.
type PointID string

// SessionID identifies one write session of a repository.
type SessionID [16]byte

// String returns the id in hex.
func (id SessionID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id SessionID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; the text is 32 hex digits.
func (id *SessionID) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(id) {
		return fmt.Errorf("session id %q: 32 hex digits are wanted", text)
	}
	_, err := hex.Decode(id[:], text)
	return err
}

// Root is the root of a disk map: it commits to the disk's size, the chunk size, the fan-out and every byte. Two disks
// of one repository are equal exactly when their roots are (doc/format.md §7).
type Root [32]byte

// String returns the root in hex.
func (r Root) String() string { return hex.EncodeToString(r[:]) }

// MarshalText implements encoding.TextMarshaler.
func (r Root) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; the text is 64 hex digits.
func (r *Root) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(r) {
		return fmt.Errorf("root %q: 64 hex digits are wanted", text)
	}
	_, err := hex.Decode(r[:], text)
	return err
}

// LUN names a disk's place in its VM: "os", or the logical unit number of a data disk in decimal.
type LUN string

// OSDisk is the LUN of the operating system's disk.
const OSDisk LUN = "os"

// Consistency says how well the disks of a point agree with one another.
type Consistency string

// The consistency levels of a point, never stated better than they are.
const (
	ConsistencyOneDisk  Consistency = "oneDisk"     // a single disk: consistent as after power loss
	ConsistencyEachDisk Consistency = "eachDisk"    // each disk as after power loss, the set is not
	ConsistencyCrash    Consistency = "crash"       // the set as after power loss
	ConsistencyApp      Consistency = "application" // applications were asked to flush
)

// FullReason says why a disk was read in full instead of by its changed ranges. "" means it was not.
type FullReason string

// The reasons for a full read.
const (
	FullFirst         FullReason = "first"          // the first backup of this disk in this repository
	FullBaseMissing   FullReason = "base-missing"   // the base snapshot is gone
	FullFamilyChanged FullReason = "family-changed" // the disk was re-created, or the snapshots are of different families
	FullResized4TiB   FullReason = "resized-4tib"   // a resize crossed the 4 TiB line, across which Azure cannot compare
	FullDiffRefused   FullReason = "diff-refused"   // Azure refused to compare
	FullSuspect       FullReason = "suspect"        // the change list of this family was once found wrong, or the parent point is damaged
	FullRequested     FullReason = "requested"      // a person asked for it
)

// PointKind says what a person restores from.
type PointKind string

// The kinds of restore point.
const (
	PointSnapshot PointKind = "snapshot"
	PointBackup   PointKind = "backup"
	PointArchive  PointKind = "archive"
)

// Point is a restore point as its manifest states it (doc/format.md §9). It never changes once it is published.
type Point struct {
	Format      int         `json:"format"`
	ID          PointID     `json:"point"`
	Session     SessionID   `json:"session"`
	VM          ResourceID  `json:"vm"`   // ARM id, or image:NAME for an image backup
	Name        string      `json:"name"` // the VM's name
	Time        time.Time   `json:"time"` // when its snapshots were created
	Kind        PointKind   `json:"kind"`
	Consistency Consistency `json:"consistency"`
	Parent      PointID     `json:"parent,omitempty"`
	Tool        string      `json:"tool"` // name and version of the writer
	Disks       []PointDisk `json:"disks"`
	Documents   []Document  `json:"documents,omitempty"`
}

// Disk returns the disk at a place of the VM.
func (p Point) Disk(lun LUN) (PointDisk, bool) {
	for _, d := range p.Disks {
		if d.LUN == lun {
			return d, true
		}
	}
	return PointDisk{}, false
}

// PointDisk is one disk of a point.
type PointDisk struct {
	LUN                LUN             `json:"lun"`
	Name               string          `json:"name"`
	ID                 ResourceID      `json:"id,omitempty"`
	UniqueID           string          `json:"diskUniqueId,omitempty"` // Azure's properties.uniqueId: changes when a disk is re-created
	SizeBytes          int64           `json:"sizeBytes"`
	Root               Root            `json:"root"`
	Top                json.RawMessage `json:"top,omitempty"` // place of the map's top node; the repository's business
	Snapshot           *SourceSnapshot `json:"snapshot,omitempty"`
	ReadBytes          int64           `json:"readBytes"` // disk content fetched, rounded to chunks
	Full               bool            `json:"full"`
	Reason             FullReason      `json:"reason,omitempty"`
	SKU                string          `json:"sku,omitempty"`
	Caching            string          `json:"caching,omitempty"`
	LogicalSectorBytes int             `json:"logicalSectorBytes,omitempty"`
	Origin             *DiskOrigin     `json:"origin,omitempty"` // of an archived disk: what it was copied from
}

// DiskOrigin is the disk of a restore point, in another repository, that an archived one was copied from. Roots of two repositories
// cannot be compared; this one tells in its own repository which disk the copy is equal to.
type DiskOrigin struct {
	Repository string  `json:"repository"` // its id
	Point      PointID `json:"point"`
	Root       Root    `json:"root"`
}

// SourceSnapshot is the cloud snapshot that a disk was read from.
type SourceSnapshot struct {
	ID       ResourceID `json:"id"`
	UniqueID string     `json:"uniqueId"`
	FamilyID string     `json:"familyId"` // Azure's incrementalSnapshotFamilyId
	SKU      string     `json:"sku"`
	Created  time.Time  `json:"created"`
}

// Document is an answer of the Azure API as it came, kept so that nothing the SDK does not know is lost.
type Document struct {
	ID         ResourceID      `json:"id"`
	APIVersion string          `json:"apiVersion"`
	Body       json.RawMessage `json:"body"`
}

package holdfast

import (
	"encoding/hex"
	"time"
)

// NewPointID makes the id of a restore point of that moment. The random bytes tell apart what is of one second.
func NewPointID(at time.Time, random [4]byte) PointID {
	return PointID(at.UTC().Format(pointIDTime+"-") + hex.EncodeToString(random[:]))
}

const (
	pointIDTime = "20060102-150405"
	pointIDTail = 8 // hex digits
)

// Valid reports whether the id has the shape of one, and is of a moment that exists.
func (id PointID) Valid() bool {
	if len(id) != len(pointIDTime)+1+pointIDTail || id[len(pointIDTime)] != '-' {
		return false
	}
	if _, err := time.Parse(pointIDTime, string(id[:len(pointIDTime)])); err != nil {
		return false
	}
	for _, digit := range id[len(pointIDTime)+1:] {
		if (digit < '0' || digit > '9') && (digit < 'a' || digit > 'f') {
			return false
		}
	}
	return true
}

// SnapshotSet is a restore point of kind snapshot: one snapshot of each disk of a machine. It is written down before anything
// is made, since its names are all by which what a dead process made can be found, and again once it is made.
type SnapshotSet struct {
	Point       PointID     `json:"point"`
	VM          ResourceID  `json:"vm"`
	Name        string      `json:"name"` // the VM's name
	Region      string      `json:"region"`
	Policy      string      `json:"policy,omitempty"`    // "" of a point made by hand
	Session     RunID       `json:"session,omitempty"`   // the run that makes it
	Slot        time.Time   `json:"slot,omitzero"`       // for which it is made
	Flags       Flags       `json:"flags"`               // with which it is made; what retention took since is not known here
	Temporary   bool        `json:"temporary,omitempty"` // made to be read by a backup, and nothing to restore from
	Time        time.Time   `json:"time,omitzero"`       // when the first snapshot was created; zero until they are made
	Consistency Consistency `json:"consistency"`
	Disks       []SetDisk   `json:"disks"` // the OS disk first, then data disks by LUN
	Documents   []Document  `json:"documents,omitempty"`
}

// SetDisk is one disk of a set. Of its snapshot the id is chosen beforehand; the rest is known once it is made, and empty until
// then.
type SetDisk struct {
	LUN                LUN               `json:"lun"`
	Name               string            `json:"name"`
	ID                 ResourceID        `json:"id"`
	UniqueID           string            `json:"diskUniqueId"`
	Location           string            `json:"location"`
	SizeBytes          int64             `json:"sizeBytes"` // of the disk as it was read, and of the snapshot once that is made
	SKU                string            `json:"sku"`
	Caching            string            `json:"caching,omitempty"`
	LogicalSectorBytes int               `json:"logicalSectorBytes,omitempty"`
	Snapshot           SourceSnapshot    `json:"snapshot"`
	Tags               map[string]string `json:"tags"` // of the snapshot
}

// Made reports whether all snapshots of the set are known to have been made.
func (s SnapshotSet) Made() bool {
	for _, d := range s.Disks {
		if d.Snapshot.UniqueID == "" {
			return false
		}
	}
	return len(s.Disks) > 0
}

// Snapshots returns the ids of the set's snapshots, made or not.
func (s SnapshotSet) Snapshots() []ResourceID {
	ids := make([]ResourceID, 0, len(s.Disks))
	for _, d := range s.Disks {
		ids = append(ids, d.Snapshot.ID)
	}
	return ids
}

package holdfast

import "time"

// BackupResult is what a backup achieved. Its JSON form is the contract of `holdfast backup --json`.
type BackupResult struct {
	Point        PointID      `json:"point"`
	VM           ResourceID   `json:"vm"`
	Time         time.Time    `json:"time"`
	Consistency  Consistency  `json:"consistency"`
	Parent       PointID      `json:"parent"`            // the point that changes were counted from; "" when every disk was read in full
	Existing     bool         `json:"existing,omitzero"` // the snapshots had been read before: this is the point of that time
	ReadBytes    int64        `json:"readBytes"`
	HealedBytes  int64        `json:"healedBytes"`  // part of it: read and stored again because what was stored had been lost
	AuditedBytes int64        `json:"auditedBytes"` // read afterwards to check the change lists; not part of ReadBytes
	StoredBytes  int64        `json:"storedBytes"`
	Disks        []BackupDisk `json:"disks"`
	Warnings     []string     `json:"warnings"` // sentences for a person; never nil
	// LockedUntil is the date before which nobody can remove what the point needs; absent when no locks were asked for.
	LockedUntil  time.Time `json:"lockedUntil,omitzero"`
	LocksRenewed int       `json:"locksRenewed,omitzero"` // locks of objects that were there already and had to be moved for it
}

// BackupDisk is what a backup achieved for one disk.
type BackupDisk struct {
	LUN          LUN        `json:"lun"`
	Name         string     `json:"name"`
	SizeBytes    int64      `json:"sizeBytes"`
	Root         Root       `json:"root"`
	ReadBytes    int64      `json:"readBytes"`
	Full         bool       `json:"full"`
	Reason       FullReason `json:"reason"`
	SnapshotSKU  string     `json:"snapshotSku"`
	BaseSnapshot ResourceID `json:"baseSnapshot"`           // that the changes were counted from; "" for a full read
	NewBytes     int64      `json:"newBytes"`               // plain bytes not stored before
	Duplicate    int64      `json:"duplicateBytes"`         // plain bytes that were there already
	HealedBytes  int64      `json:"healedBytes"`            // plain bytes that were lost with damaged packs and are stored again
	AuditedBytes int64      `json:"auditedBytes"`           // read after publication to check the change list
	SuspectSince PointID    `json:"suspectSince,omitempty"` // the change list is wrong: this point of the disk and all after it are in doubt
}

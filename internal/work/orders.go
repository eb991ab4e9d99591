package work

import (
	"context"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// SnapshotOrder says what a snapshot point is to be.
type SnapshotOrder struct {
	Point     holdfast.PointID
	Policy    holdfast.PolicyCommon // the zero value for a snapshot by hand
	Session   holdfast.RunID
	Slot      time.Time
	Flags     holdfast.Flags
	Temporary bool // made to be read by a backup, and nothing to restore from
	Read      bool // a backup is going to read it
}

// MakeOrder says how a set that is written down is to be made.
type MakeOrder struct {
	Set holdfast.SnapshotSet
	// MayRemove is asked before anything is removed: an error says that the work is another worker's by now.
	MayRemove func(ctx context.Context) error
	Policy    holdfast.PolicyCommon // whose scripts run in the guest; the zero value runs none
	Attempt   string                // names this attempt: under one name nothing runs twice in a guest
	Read      bool                  // a backup is going to read the set
}

// BackupOrder says what a backup is to be.
type BackupOrder struct {
	VM         holdfast.ResourceID
	Repository string
	From       holdfast.SnapshotSet // that it is read from
	Full       bool                 // every disk is read in full
	AtOnce     int                  // machines whose backups one process writes into the repository at a time; 0 for no limit
	LockUntil  time.Time            // zero for no locks
	Report     func(Step)           // may be called from any goroutine; nil for none
}

// Step is one step forward of a flow. Bytes are deltas, except Offset and SizeBytes.
type Step struct {
	Stage     string
	LUN       holdfast.LUN // "" when the stage concerns the whole machine
	SizeBytes int64        // of the disk
	Offset    int64        // how far into the disk
	Read      int64
	Stored    int64
}

// ArchiveOrder says what an archive is to be.
type ArchiveOrder struct {
	VM        holdfast.ResourceID
	From      holdfast.PointID // the backup that is copied
	Source    string           // the repository that it is in
	To        string           // the repository
	AtOnce    int              // as of a backup
	LockUntil time.Time        // zero for no locks
	Report    func(Step)       // may be called from any goroutine; nil for none
}

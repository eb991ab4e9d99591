package cost

import (
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Class is a sort of request that Azure counts by itself.
type Class string

// The classes. A request may belong to two: asking for an operation's state is a read of Resource Manager as well.
const (
	Reads   Class = "reads"   // GET of any resource, through Resource Manager
	Writes  Class = "writes"  // PUT and POST
	Deletes Class = "deletes" // DELETE
	VMReads Class = "vmReads" // GET of virtual machines, counted by the compute service
	Polls   Class = "polls"   // GET of the state of an operation, counted by the compute service
)

const classes = 5

// list returns the classes in a fixed order.
func classList() [classes]Class { return [classes]Class{Reads, Writes, Deletes, VMReads, Polls} }

// bucket is a limit of Azure's on a class: so many requests may be sent at once, and so many a minute after that.
type bucket struct {
	size      int64
	perMinute int64
}

// bucketOf returns the limit on a class. Resource Manager: for a caller and a subscription (learn.microsoft.com,
// azure-resource-manager/management/request-limits-and-throttling). Compute: for a subscription and a region
// (learn.microsoft.com, azure/virtual-machines, compute-throttling-limits). Both read 2026-11-22. Compute has a limit for each
// machine too, of which one backup uses a tenth.
func bucketOf(c Class) bucket {
	switch c {
	case Reads:
		return bucket{250, 25 * 60}
	case Writes, Deletes:
		return bucket{200, 10 * 60}
	case VMReads:
		return bucket{24_000, 8_000}
	case Polls:
		return bucket{15_000, 5_000}
	}
	return bucket{}
}

// Limits on snapshots (learn.microsoft.com, azure/virtual-machines/disks-incremental-snapshots, read 2026-11-22; the last one:
// azure-resource-manager/management/azure-subscription-service-limits).
const (
	snapshotsOfDiskMax   = 500    // that exist at the same time
	snapshotRateMax      = 7      // of one disk in snapshotRateWindow
	snapshotRateWindow   = 5 * 60 // seconds
	accessOfFamilyMax    = 5      // snapshots of one disk that can be read at the same time
	snapshotsOfRegionMax = 50_000 // of one subscription and redundancy; a region has either kind
)

// Work is something that is done with one machine.
type Work string

// The kinds of work that send requests to Azure. Copying a backup to an archive sends none.
const (
	WorkSnapshot    Work = "snapshot"    // a snapshot of each disk
	WorkBackup      Work = "backup"      // a backup from what changed since the one before
	WorkFirstBackup Work = "firstBackup" // a backup that reads everything and has no snapshot to replace
	WorkRemove      Work = "remove"      // of the snapshot of each disk
)

// pollsPerOperation is how often the state of an operation is asked for, with the final read of what it made: once at
// first and once after five seconds, which is as long as making, opening or removing a snapshot takes.
const pollsPerOperation = 2

// requests is what a piece of work sends: so many for the machine, and so many for each disk.
type requests struct {
	machine, disk [classes]int64 // by class, in the order of classList
}

// requestsOf counts what a backup of a machine sends, in the order in which it sends it (internal/capture, internal/azure). A test
// counts the requests of real backups against it.
func requestsOf(w Work) requests {
	// Machine, its instance view and one network interface; locks of the subscription. Each disk.
	look := requests{machine: of(4, 0, 0, 2), disk: of(1, 0, 0, 0)}
	making := requests{disk: operations(of(1, 1, 0, 0), 1)} // PUT, and the read at its end
	open := requests{disk: operations(of(0, 2, 0, 0), 2)}   // beginGetAccess and endGetAccess
	remove := requests{disk: operations(of(1, 0, 1, 0), 1)} // a look at its tags, DELETE
	compare := requests{disk: of(1, 0, 0, 0)}               // a look at the snapshot of the backup before
	switch w {
	case WorkSnapshot:
		return look.and(making)
	case WorkFirstBackup:
		return look.and(making).and(open)
	case WorkBackup: // opened are the snapshot, the one to compare with, and the snapshot once more to check the change list
		return look.and(compare).and(making).and(open).and(open).and(open).and(remove)
	case WorkRemove:
		return remove
	}
	return requests{}
}

// of lists counts by class.
func of(reads, writes, deletes, vmReads int64) [classes]int64 {
	return [classes]int64{reads, writes, deletes, vmReads, 0}
}

// operations adds the polls of n operations.
func operations(counts [classes]int64, n int64) [classes]int64 {
	counts[0] += n * pollsPerOperation
	counts[classes-1] += n * pollsPerOperation
	return counts
}

func (r requests) and(o requests) requests {
	for i := range r.disk {
		r.machine[i] += o.machine[i]
		r.disk[i] += o.disk[i]
	}
	return r
}

// RequestsOf returns how many requests of each class a piece of work sends for a machine of so many disks.
func RequestsOf(w Work, disks int) map[Class]int64 {
	r := requestsOf(w)
	counts := map[Class]int64{}
	for i, c := range classList() {
		if n := r.machine[i] + int64(disks)*r.disk[i]; n > 0 {
			counts[c] = n
		}
	}
	return counts
}

// FindingKind says which limit would be passed.
type FindingKind string

// The kinds of finding.
const (
	FindingThrottled         FindingKind = "throttled"         // more requests at once than Azure takes: the work waits
	FindingSnapshotsOfDisk   FindingKind = "snapshotsOfDisk"   // more snapshots of a disk than there may be
	FindingSnapshotRate      FindingKind = "snapshotRate"      // more snapshots of a disk in five minutes than may be made
	FindingAccessOfFamily    FindingKind = "accessOfFamily"    // more snapshots of a disk open at once than may be
	FindingSnapshotsOfRegion FindingKind = "snapshotsOfRegion" // more snapshots in a region than there may be
)

// Finding is a limit that would be passed.
type Finding struct {
	Kind         FindingKind         `json:"kind"`
	Subscription string              `json:"subscription"`
	Region       string              `json:"region,omitempty"`
	Class        Class               `json:"class,omitempty"` // of throttled
	VM           holdfast.ResourceID `json:"vm,omitempty"`    // of limits of one machine's disks
	First        time.Time           `json:"first"`           // when it was passed for the first time
	Worst        time.Time           `json:"worst"`           // when most was asked
	Asked        int64               `json:"asked"`           // then
	Limit        int64               `json:"limit"`
	Times        int64               `json:"times"`                 // how often it was passed
	WaitSeconds  int64               `json:"waitSeconds,omitempty"` // of throttled: until Azure has taken what was asked at the worst instant
	Message      string              `json:"message"`

	last time.Time // when it was passed last
}

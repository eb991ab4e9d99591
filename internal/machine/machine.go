// Package machine holds the nouns with which the flows speak about virtual machines in Azure: the machine itself, its
// disks, their snapshots, and the content behind a disk or a snapshot.
//
// It is Azure-shaped on purpose and knows no SDK: package azure fills these values from the service's answers, the flows
// capture and restore decide on them. Nothing in here does I/O; the interface Content is the one thing that reads, and it
// is implemented by package azure.
package machine

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// VM is a virtual machine as Azure described it at one moment.
type VM struct {
	ID        holdfast.ResourceID // in the casing that Azure returned
	Name      string
	Location  string
	Zone      string // "" when the VM is not in a zone
	Size      string
	OS        string // Linux or Windows
	Power     string // running, deallocated, stopped …; "" when unknown
	Tags      map[string]string
	Disks     []Disk // the OS disk first, then data disks by LUN
	NICs      []holdfast.ResourceID
	Documents []holdfast.Document // the VM, its instance view, every disk and NIC, as they came
}

// Disk is a disk in its place at a VM.
type Disk struct {
	LUN                holdfast.LUN
	ID                 holdfast.ResourceID // "" when the disk is not a managed disk
	Name               string
	UniqueID           string // changes when a disk is deleted and created again under its name
	Location           string
	SizeBytes          int64
	SKU                string
	Caching            string
	State              string // Azure's diskState
	LogicalSectorBytes int    // 512 or 4096; 0 when Azure does not say, which means 512
	MaxShares          int
	Ephemeral          bool   // lives on the host; there is no disk resource
	NetworkAccess      string // AllowAll, AllowPrivate, DenyAll; "" means AllowAll
	PublicAccess       string // Enabled, Disabled; "" means Enabled
	SecurityType       string
	DataAccessAuthMode string
	Tags               map[string]string
}

// Snapshot is a managed-disk snapshot.
type Snapshot struct {
	ID             holdfast.ResourceID
	UniqueID       string
	FamilyID       string // a page-range diff is valid within one family only
	SKU            string
	SourceID       holdfast.ResourceID
	SourceUniqueID string // the disk's UniqueID when the snapshot was made
	SizeBytes      int64
	Created        time.Time
	Tags           map[string]string
	Ready          bool    // it can be read; Ultra and Premium v2 are copied in the background first
	Failed         bool    // its background copy, or its creation, failed
	Percent        float64 // of the background copy
}

// SnapshotRequest asks for an incremental snapshot. Its name is chosen before the call, so that whoever finds the outcome
// unknown can look it up.
type SnapshotRequest struct {
	ID       holdfast.ResourceID // of the snapshot to be made
	SourceID holdfast.ResourceID // the disk
	Location string
	Tags     map[string]string // also how a snapshot is known again as ours
}

// Lock is a management lock.
type Lock struct {
	Name  string
	Level string              // CanNotDelete or ReadOnly
	Scope holdfast.ResourceID // what it is set on: a subscription, a resource group or a resource
}

// Covers reports whether the lock is in force for id: a lock is inherited by everything below its scope.
func (l Lock) Covers(id holdfast.ResourceID) bool {
	scope := l.Scope.Key()
	return id.Key() == scope || strings.HasPrefix(id.Key(), scope+"/")
}

// ReadOnly reports whether the lock forbids every change, not only deletion.
func (l Lock) ReadOnly() bool { return strings.EqualFold(l.Level, "ReadOnly") }

// Size is a VM size as a location offers it.
type Size struct {
	Name         string
	Family       string // the quota it counts against
	Cores        int
	MaxDataDisks int
	PremiumDisks bool
	UltraZones   []string // zones in which Ultra disks can be attached
	Zones        []string
	Restricted   string // why this subscription cannot use it here; "" when it can
	Generations  string // hypervisor generations, such as V1,V2
}

// Usage is how much of a quota is used.
type Usage struct {
	Name    string
	Current int64
	Limit   int64
}

// Resource is what any ARM resource has.
type Resource struct {
	ID       holdfast.ResourceID
	Location string
	Tags     map[string]string
	State    string // properties.provisioningState
	Document holdfast.Document
}

// Content is the content of a snapshot or a disk, opened through a SAS. All methods but Close may be called from several
// goroutines. A SAS that expires or is revoked while it is in use is asked for anew.
type Content interface {
	// SizeBytes is the size of the disk, without the VHD footer that Azure appends to an export.
	SizeBytes() int64
	// Extents yields the ranges that hold data, in order, inside the disk. Where Azure cannot list a window, the window
	// is yielded as a whole.
	Extents(ctx context.Context) iter.Seq2[holdfast.Extent, error]
	// ExtentsFrom is Extents for what lies at or after an offset, a multiple of 512.
	ExtentsFrom(ctx context.Context, offset int64) iter.Seq2[holdfast.Extent, error]
	// Changes yields the ranges that differ from base, cleared ones marked, in order, inside the disk. When Azure refuses
	// to compare the two, the error matches ErrDiffRefused; when its list contradicts itself, ErrListWrong.
	Changes(ctx context.Context, base Content) iter.Seq2[holdfast.Extent, error]
	// ReadAt fills p with the bytes at offset.
	ReadAt(ctx context.Context, p []byte, offset int64) error
	// Close revokes the SAS. It may be called again after an error.
	Close(ctx context.Context) error
}

// Upload is a new disk that takes its content, opened through a SAS. WriteAt may be called from several goroutines.
type Upload interface {
	// WriteAt writes p at offset; both are multiples of 512. Writing the same bytes again is harmless.
	WriteAt(ctx context.Context, p []byte, offset int64) error
	// Close revokes the SAS, which ends the upload and turns the disk into an ordinary one.
	Close(ctx context.Context) error
}

// ErrDiffRefused says that two snapshots cannot be compared, so that the newer one has to be read in full.
var ErrDiffRefused = errors.New("azure refused to compare the snapshots")

// ErrListWrong says that a list of changed ranges cannot be right, so that the disk has to be read in full.
var ErrListWrong = errors.New("azure listed ranges out of order")

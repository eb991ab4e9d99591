// Package compute is the twin's Microsoft.Compute: disks and snapshots with their state machine, limits and SAS, virtual
// machines with attach rules, sizes, SKUs, usages. It holds the rules; arm carries requests to it, volumes hold the bytes,
// exports hand them out.
//
// It promises the platform's refusals before its successes: what azure.md §1 to §3 lists as forbidden is forbidden here
// with a code that says so. A snapshot holds what the disk held when its PUT was accepted. A resource document and the
// volume behind it come and go together: a volume that no document names is removed when the twin starts. It must never
// make content readable that the platform would keep back, such as a snapshot whose background copy is under way.
package compute

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/compute/facts"
	"github.com/holdfast-backup/holdfast/internal/twin/export"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// The resource types.
const (
	diskType     = "Microsoft.Compute/disks"
	snapshotType = "Microsoft.Compute/snapshots"
	machineType  = facts.MachineType
	nicType      = "Microsoft.Network/networkInterfaces"
	namespace    = "Microsoft.Compute"
)

// Volumes hold the bytes; *vdisk.Store is the real one.
type Volumes interface {
	Create(size int64) (vdisk.Volume, error)
	Snapshot(id vdisk.ID) (vdisk.Volume, error)
	Clone(id vdisk.ID, size int64) (vdisk.Volume, error)
	Resize(id vdisk.ID, size int64) error
	Delete(id vdisk.ID) error
	List() []vdisk.Volume
	Import(id vdisk.ID, r io.Reader) error
}

// Exports hand out SAS; *export.Service is the real one.
type Exports interface {
	Grant(options export.GrantOptions) (sasURL string, g export.Grant, err error)
	Revoke(resource string) (n int, err error)
	ActiveCount(resource string) int
	UploadFooter(volume vdisk.ID) (footer []byte, ok bool)
}

// Config says what a Provider needs; all but the last two are required.
type Config struct {
	ARM     *arm.Server
	State   *state.Store
	Clock   clock.Clock
	Volumes Volumes
	Exports Exports
	// CopyTime is how long the background copy of an Ultra or Premium SSD v2 snapshot takes; 0 means 50 ms.
	CopyTime time.Duration
	// Log takes what could not be cleaned up; nil discards.
	Log *slog.Logger
}

const defaultCopyTime = 50 * time.Millisecond

// Provider answers for Microsoft.Compute. Safe for concurrent use.
type Provider struct {
	arm      *arm.Server
	state    *state.Store
	clock    clock.Clock
	volumes  Volumes
	exports  Exports
	copyTime atomic.Int64 // nanoseconds
	rateOff  atomic.Bool  // no limit of snapshots per five minutes
	log      *slog.Logger
}

// New registers types, routes and finishers on the ARM server and removes volumes that no document names, which a kill
// between the two steps of a deletion or creation leaves behind.
func New(config Config) (*Provider, error) {
	if config.ARM == nil || config.State == nil || config.Clock == nil || config.Volumes == nil || config.Exports == nil {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "compute needs ARM, a state, a clock, volumes and exports")
	}
	p := &Provider{arm: config.ARM, state: config.State, clock: config.Clock, volumes: config.Volumes, exports: config.Exports, log: config.Log}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.copyTime.Store(int64(defaultCopyTime))
	if config.CopyTime > 0 {
		p.copyTime.Store(int64(config.CopyTime))
	}
	p.arm.Register(p.diskKind())
	p.arm.Register(p.snapshotKind())
	p.arm.Register(p.machineKind())
	for _, route := range p.routes() {
		p.arm.Route(route)
	}
	p.arm.Finish(finishGetAccess, p.accessGranted)
	p.arm.Finish(finishEndAccess, p.accessEnded)
	p.arm.Finish(finishPower, p.powered)
	return p, p.sweepVolumes()
}

// SetSnapshotRate switches the limit of 7 snapshots per disk and 5 minutes.
func (p *Provider) SetSnapshotRate(on bool) { p.rateOff.Store(!on) }

// SetCopyTime changes how long background copies take that begin from now on.
func (p *Provider) SetCopyTime(d time.Duration) { p.copyTime.Store(int64(d)) }

func (p *Provider) sweepVolumes() error {
	named := map[string]bool{}
	for doc := range p.state.View().Below("/subscriptions/") {
		named[doc.Hidden.Text(hiddenVolume)] = true
	}
	for _, volume := range p.volumes.List() {
		if named[string(volume.ID)] {
			continue
		}
		if err := p.volumes.Delete(volume.ID); err != nil {
			return holdfast.Wrap(holdfast.KindInternal, err, "cannot remove the stray volume %s", volume.ID)
		}
	}
	return nil
}

// What the twin alone knows of a disk or snapshot.
const (
	hiddenVolume   = facts.HiddenVolume
	hiddenUpload   = "upload"        // of a disk made for upload: uploadReady, uploadActive; absent once it is complete
	hiddenFamily   = "family"        // incrementalSnapshotFamilyId of the disk's next incremental snapshot
	hiddenTimes    = "snapshotTimes" // of a disk: when its latest snapshots were taken
	hiddenDisk     = "disk"          // of a snapshot: the source's uniqueId
	hiddenComplete = "complete"      // of a snapshot: when its background copy is complete
	hiddenBroken   = "broken"        // of a snapshot: why its background copy failed
	hiddenPower    = facts.HiddenPower
	hiddenBoot     = facts.HiddenBoot
	hiddenSize     = "sizeBytes" // of a disk restore point, whose document does not tell
	hiddenLocation = "location"  // likewise
)

// newVolume keeps a volume made in a transaction from outliving it if it is dropped.
func (p *Provider) newVolume(tx *state.Tx, volume vdisk.Volume, err error) (vdisk.ID, error) {
	if err != nil {
		return "", holdfast.Wrap(holdfast.KindInternal, err, "the twin's volume store refused")
	}
	tx.OnRollback(func() { p.deleteVolume(volume.ID) })
	return volume.ID, nil
}

// deleteVolume removes a volume that no document names any longer.
func (p *Provider) deleteVolume(id vdisk.ID) {
	if err := p.volumes.Delete(id); err != nil {
		// best effort: the next start of the twin removes it
		p.log.Warn("volume not removed", "volume", string(id), "error", err.Error())
	}
}

func volumeOf(doc *state.Document) vdisk.ID { return facts.VolumeOf(doc) }

// Resource is one resource that exists, as `twin resources` lists it.
type Resource struct {
	ID        string            `json:"id"`
	Type      string            `json:"type"`
	Location  string            `json:"location"`
	SKU       string            `json:"sku"`
	Tags      map[string]string `json:"tags"`
	ActiveSAS int               `json:"activeSas"`
}

// Resources lists every resource that exists, groups and locks included, in the order of their keys.
func (p *Provider) Resources() ([]Resource, error) {
	if err := p.arm.Settle(); err != nil {
		return nil, err
	}
	resources := []Resource{}
	for doc := range p.state.View().Below("/subscriptions/") {
		if len(strings.Split(strings.Trim(doc.ID, "/"), "/")) <= 2 {
			continue // a subscription
		}
		r := Resource{ID: doc.ID, Type: doc.Body.Text("type"), Location: doc.Body.Text("location"), SKU: doc.Body.Text("sku.name"), Tags: map[string]string{}}
		for name, value := range doc.Body.Object("tags") {
			r.Tags[name], _ = value.(string)
		}
		if doc.Hidden.Text(hiddenVolume) != "" {
			r.ActiveSAS = p.exports.ActiveCount(doc.ID)
		}
		resources = append(resources, r)
	}
	return resources, nil
}

// DiskVolume returns the volume behind a disk or snapshot; the error has KindNotFound when there is none.
func (p *Provider) DiskVolume(id string) (vdisk.ID, error) {
	if err := p.arm.Settle(); err != nil {
		return "", err
	}
	doc := p.state.View().Get(id)
	if doc == nil || volumeOf(doc) == "" {
		return "", holdfast.Errorf(holdfast.KindNotFound, "no disk or snapshot is called %s", id).
			WithHint("`holdfast twin resources` lists what exists")
	}
	return volumeOf(doc), nil
}

// ResizeDisk grows a disk as its administrator would, stopping and starting the VM around it: only an active SAS and a
// smaller size are refused.
func (p *Provider) ResizeDisk(id string, sizeGiB int64) error {
	if err := p.arm.Settle(); err != nil {
		return err
	}
	return outside(p.state.Update(func(tx *state.Tx) error {
		doc := tx.Get(id)
		if doc == nil || !strings.EqualFold(arm.TypeOf(id), diskType) {
			return holdfast.Errorf(holdfast.KindNotFound, "no disk is called %s", id)
		}
		changed := doc.Clone()
		if err := p.resize(tx, changed, sizeGiB); err != nil {
			return err
		}
		tx.Put(changed)
		return nil
	}))
}

// DeleteResource removes a resource at once, as an administrator would: a VM's disks and NICs are detached, an attached
// disk or one with an active SAS is refused. Locks do not matter.
func (p *Provider) DeleteResource(id string) error {
	if err := p.arm.Settle(); err != nil {
		return err
	}
	return outside(p.state.Update(func(tx *state.Tx) error { return p.arm.Remove(tx, id) }))
}

// outside turns an ARM refusal into an error for operators; errors that are fit for them stay as they are.
func outside(err error) error {
	var ours *holdfast.Error
	if errors.As(err, &ours) {
		return err
	}
	if e := arm.AsError(err); e != nil {
		kind := map[int]holdfast.Kind{400: holdfast.KindInvalid, 404: holdfast.KindNotFound, 403: holdfast.KindRefused, 409: holdfast.KindConflict, 429: holdfast.KindThrottled}[e.Status]
		if kind == "" {
			kind = holdfast.KindInternal
		}
		return holdfast.Wrap(kind, err, "the twin refused")
	}
	return err
}

func newID() string { return uuid.NewString() }

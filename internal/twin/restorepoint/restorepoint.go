// Package restorepoint is the twin's restore points of virtual machines: collections, restore points in them, and the disk
// restore points of which each consists. It holds the rules; arm carries requests to it, compute lends what a disk restore
// point shares with a snapshot (its volume, its SAS, its use as the source of a disk).
//
// It promises that a point for which the platform guarantees consistency holds all its disks as they were at one instant
// of the guest's writes, and that every other point does not: where the platform accepts a request without guaranteeing
// anything, one disk is captured later than the others, so that nobody can come to rely on luck. What a mode refuses is
// refused with a code before anything is captured. It must never claim a better consistency than what the guest gave.
//
// Sources (Microsoft Learn, 2026): "Support matrix for VM restore points", "Overview of Virtual Machine restore points",
// "Create VM restore points", "Troubleshoot restore point failures"; REST reference of compute 2026-04-01 (collections and
// points) and 2026-03-02 (disk restore points).
package restorepoint

import (
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/compute/facts"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// The resource types.
const (
	CollectionType = "Microsoft.Compute/restorePointCollections"
	PointType      = CollectionType + "/restorePoints"
	DiskType       = facts.PointDiskType
)

const (
	namespace     = "Microsoft.Compute"
	finishCreated = "restorepoint/created"
)

// Limits of the support matrix.
const (
	pointsPerMachineMax  = 500
	collectionsMax       = 10_000 // per subscription and region
	pointsPerHourAndMode = 3
	rateWindow           = time.Hour
)

// Volumes freeze what disks hold; *vdisk.Store does.
type Volumes interface {
	Snapshot(id vdisk.ID) (vdisk.Volume, error)
	SnapshotSet(ids []vdisk.ID) ([]vdisk.Volume, error)
	Delete(id vdisk.ID) error
}

// Disks lend what a disk restore point has in common with a snapshot; *compute.Provider does.
type Disks interface {
	// Hold makes a document a disk restore point that holds the frozen volume of a disk.
	Hold(doc, disk *state.Document, volume vdisk.ID, now time.Time)
	// Release removes a document that Hold was called for.
	Release(tx *state.Tx, doc *state.Document) error
	// HeldState tells how much of a background copy is done, and what can be done with the disk restore point.
	HeldState(doc *state.Document) (percent int, access string)
	// InUse reports whether a resource has an active SAS.
	InUse(id string) bool
	AccessActions() map[string]arm.Action
	TakesPremium(size string) bool
}

// Quiesce asks the guest of a running machine to write down what it holds in memory. It returns what the point can claim
// from that, or why the agent did not do it.
type Quiesce func(tx *state.Tx, machine *state.Document, now time.Time) (armcompute.ConsistencyModeTypes, *arm.Error)

// Config says what a Provider needs; Log may be nil.
type Config struct {
	ARM     *arm.Server
	Disks   Disks
	Volumes Volumes
	Quiesce Quiesce
	Log     *slog.Logger
}

// Provider answers for restore points. Safe for concurrent use.
type Provider struct {
	disks   Disks
	volumes Volumes
	quiesce Quiesce
	log     *slog.Logger
	rateOff atomic.Bool
}

// Register adds the types to the ARM server.
func Register(config Config) (*Provider, error) {
	if config.ARM == nil || config.Disks == nil || config.Volumes == nil || config.Quiesce == nil {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "restore points need ARM, disks, volumes and guests")
	}
	p := &Provider{disks: config.Disks, volumes: config.Volumes, quiesce: config.Quiesce, log: config.Log}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	versions := arm.Versions{Oldest: "2021-03-01", Newest: "2026-04-01", Known: []string{"2026-04-01", "2025-04-01", "2024-11-01", "2024-07-01", "2023-09-01", "2022-11-01", "2021-07-01", "2021-03-01"}}
	config.ARM.Register(arm.Type{
		Name: CollectionType, Versions: versions, Put: p.putCollection, Patch: p.patchCollection, Get: p.getCollection,
		Deletable: p.collectionDeletable, Remove: p.removeTree,
	})
	config.ARM.Register(arm.Type{
		Name: PointType, Versions: versions, Put: p.putPoint, Patch: refusePatch, Get: p.getPoint, Deletable: p.deletable, Remove: p.removeTree,
		NoLocation: true, Unlisted: true,
	})
	config.ARM.Register(arm.Type{
		Name: DiskType, Versions: arm.Versions{Oldest: "2020-09-30", Newest: "2026-03-02", Known: []string{"2026-03-02", "2025-01-02", "2024-03-02", "2023-10-02", "2022-07-02", "2021-04-01", "2020-09-30"}},
		Remove: p.disks.Release, Render: p.renderDisk, Actions: p.disks.AccessActions(), NoLocation: true, ReadOnly: true, OperationPath: "DiskOperations",
	})
	config.ARM.Finish(finishCreated, p.created)
	return p, nil
}

// SetRate switches the limit of three points per hour, machine and mode.
func (p *Provider) SetRate(on bool) { p.rateOff.Store(!on) }

func (p *Provider) putCollection(call *arm.Call, id string, existing *state.Document) (arm.Answer, error) {
	if err := decodes[armcompute.RestorePointCollection](call.Body); err != nil {
		return arm.Answer{}, err
	}
	source := call.Body.Text("properties.source.id")
	if existing != nil {
		if source != "" && !strings.EqualFold(source, existing.Body.Text("properties.source.id")) {
			return arm.Answer{}, arm.Errorf(http.StatusConflict, "PropertyChangeNotAllowed", "Changing property 'source.id' is not allowed.").At("source.id")
		}
		return p.patchCollection(call, existing)
	}
	machine, err := collectionSource(call, source)
	if err != nil {
		return arm.Answer{}, err
	}
	if err := checkCollections(call); err != nil {
		return arm.Answer{}, err
	}
	doc := call.NewDocument(id, state.Object{"location": call.Body.Text("location")})
	if tags := call.Body["tags"]; tags != nil {
		doc.Body["tags"] = tags
	}
	doc.Body.Set("properties.source.id", machine.ID)
	doc.Body.Set("properties.source.location", machine.Body.Text("location"))
	if instant := call.Body.At("properties.instantAccess"); instant != nil {
		doc.Body.Set("properties.instantAccess", instant)
	}
	doc.Body.Set("properties.restorePointCollectionId", newID())
	doc.Body.Set("properties.provisioningState", "Succeeded")
	call.Tx.Put(doc)
	return arm.Answer{Status: http.StatusCreated, Body: call.Rendered(doc)}, nil
}

// collectionSource finds the machine. A collection whose source is another collection copies points between regions, which
// the twin does not do.
func collectionSource(call *arm.Call, id string) (*state.Document, error) {
	const target = "source.id"
	switch {
	case id == "":
		return nil, invalid(target, "Required parameter 'source.id' is missing (null).")
	case !strings.EqualFold(arm.TypeOf(id), facts.MachineType):
		return nil, invalid(target, "The twin makes collections of virtual machines only; '%s' is none.", id)
	case !strings.EqualFold(subscriptionOf(id), subscriptionOf(call.Path)):
		return nil, invalid(target, "A restore point collection must be in the subscription of its virtual machine.")
	}
	machine := call.View.Get(id)
	if machine == nil {
		return nil, arm.Errorf(http.StatusNotFound, "ResourceNotFound", "The virtual machine '%s' was not found.", id).At(target)
	}
	if machine.Body.Text("location") != call.Body.Text("location") {
		return nil, invalid("location", "The virtual machine is in location '%s'; its restore point collection must be in the same one, not in '%s'.",
			machine.Body.Text("location"), call.Body.Text("location"))
	}
	if !call.May(facts.MachineType + "/read") {
		return nil, arm.Errorf(http.StatusForbidden, "LinkedAuthorizationFailed", "The client '%s' has permission to perform the action on scope '%s', however the current tenant or the client lacks the linked permission '%s/read' on '%s'.",
			call.Principal, call.Path, facts.MachineType, machine.ID)
	}
	return machine, nil
}

func checkCollections(call *arm.Call) error {
	found := 0
	for doc := range call.View.Below("/subscriptions/" + strings.ToLower(subscriptionOf(call.Path)) + "/resourcegroups/") {
		if strings.EqualFold(arm.TypeOf(doc.ID), CollectionType) && doc.Body.Text("location") == call.Body.Text("location") {
			found++
		}
	}
	if found >= collectionsMax {
		return notAllowed("The subscription has %d restore point collections in location '%s', which is the maximum.", found, call.Body.Text("location"))
	}
	return nil
}

// patchCollection changes tags; nothing else of a collection changes.
func (p *Provider) patchCollection(call *arm.Call, existing *state.Document) (arm.Answer, error) {
	if err := decodes[armcompute.RestorePointCollectionUpdate](call.Body); err != nil {
		return arm.Answer{}, err
	}
	doc := existing.Clone()
	arm.ReplaceTags(doc, call.Body)
	call.Tx.Put(doc)
	return arm.Answer{Body: call.Rendered(doc)}, nil
}

func (p *Provider) getCollection(call *arm.Call, doc *state.Document) (state.Object, error) {
	body := call.Rendered(doc).Clone()
	switch expand := call.Query.Get("$expand"); {
	case expand == "":
		return body, nil
	case !strings.EqualFold(expand, string(armcompute.RestorePointCollectionExpandOptionsRestorePoints)):
		return nil, invalid("$expand", "The value '%s' of $expand is not supported. Supported values are: restorePoints.", expand)
	}
	points := []state.Object{}
	for point := range below(call.View, doc, PointType) {
		points = append(points, call.Rendered(point))
	}
	body.Set("properties.restorePoints", points)
	return body, nil
}

func refusePatch(*arm.Call, *state.Document) (arm.Answer, error) {
	return arm.Answer{}, arm.Errorf(http.StatusMethodNotAllowed, "MethodNotAllowed", "Updating the properties of a restore point is not allowed.")
}

// collectionDeletable: a collection goes with all its points, so each of them has to be free.
func (p *Provider) collectionDeletable(view *state.View, doc *state.Document) error {
	for point := range below(view, doc, PointType) {
		if arm.Busy(point) {
			return arm.Errorf(http.StatusConflict, "AnotherOperationInProgress", "Another operation on the restore point %s is in progress. Please retry later.", point.ID)
		}
	}
	return p.deletable(view, doc)
}

// deletable refuses while a disk restore point below has an active SAS.
func (p *Provider) deletable(view *state.View, doc *state.Document) error {
	for disk := range below(view, doc, DiskType) {
		if p.disks.InUse(disk.ID) {
			return arm.Errorf(http.StatusConflict, "DiskRestorePointUsedByCustomer",
				"The restore point cannot be deleted since its disk restore point %s has an active shared access signature. Call EndGetAccess first.", disk.ID)
		}
	}
	return nil
}

// removeTree takes a collection or a point away with everything below it.
func (p *Provider) removeTree(tx *state.Tx, doc *state.Document) error {
	for disk := range below(tx.View, doc, DiskType) {
		if err := p.disks.Release(tx, disk); err != nil {
			return err
		}
	}
	for point := range below(tx.View, doc, PointType) {
		tx.Delete(point.ID)
	}
	tx.Delete(doc.ID)
	return nil
}

package compute

import (
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/compute/facts"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// What restore points of virtual machines need of disks and machines. They are a package of their own; a disk restore
// point's content, access and use as a source are those of a snapshot.

const pointDiskType = facts.PointDiskType

// TakesPremium reports whether machines of a size can have premium storage.
func (p *Provider) TakesPremium(size string) bool {
	found, _ := findSize(size)
	return found.Premium
}

// AccessActions are those by which a disk, a snapshot or a disk restore point is read.
func (p *Provider) AccessActions() map[string]arm.Action {
	return map[string]arm.Action{
		"begingetaccess": {Method: http.MethodPost, Write: true, Serve: p.beginAccess},
		"endgetaccess":   {Method: http.MethodPost, Write: true, Serve: p.endAccess},
	}
}

// Hold makes a document a disk restore point: it holds the frozen volume of a disk from now on.
func (p *Provider) Hold(doc, disk *state.Document, volume vdisk.ID, now time.Time) {
	complete := now
	if isLarge(disk.Body.Text("sku.name")) {
		complete = complete.Add(time.Duration(p.copyTime.Load()))
	}
	doc.Hidden.Set(hiddenVolume, string(volume))
	doc.Hidden.Set(hiddenComplete, complete)
	doc.Hidden.Set(hiddenSize, disk.Body.Int("properties.diskSizeBytes"))
	doc.Hidden.Set(hiddenLocation, disk.Body.Text("location"))
	doc.Body.Set("properties.familyId", pointFamily(disk))
}

// pointFamily names the family of a disk's restore points. Whether the platform counts them into the family of the disk's
// snapshots is not documented, so they are one of their own, and a diff between the two sorts is refused.
func pointFamily(disk *state.Document) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(disk.Hidden.Text(hiddenFamily)+"/restorePoints")).String()
}

// HeldState tells how much of a disk restore point's background copy is done, and what can be done with it.
func (p *Provider) HeldState(doc *state.Document) (percent int, access string) {
	percent = p.copyPercent(doc)
	return percent, p.accessState(doc, percent)
}

// Release removes a document that Hold was called for, with its volume.
func (p *Provider) Release(tx *state.Tx, doc *state.Document) error { return p.removeDisk(tx, doc) }

// InUse reports whether a resource has an active SAS.
func (p *Provider) InUse(id string) bool { return p.exports.ActiveCount(id) > 0 }

// pointOf returns the id of the restore point that a disk restore point belongs to.
func pointOf(id string) string {
	return id[:strings.LastIndex(strings.ToLower(id), "/diskrestorepoints/")]
}

func familyOf(doc *state.Document) string {
	if isKind(doc.ID, pointDiskType) {
		return doc.Body.Text("properties.familyId")
	}
	return doc.Body.Text("properties.incrementalSnapshotFamilyId")
}

func locationOf(doc *state.Document) string {
	if location := doc.Body.Text("location"); location != "" {
		return location
	}
	return doc.Hidden.Text(hiddenLocation)
}

func sizeOf(source *state.Document) int64 {
	if isKind(source.ID, pointDiskType) {
		return source.Hidden.Int(hiddenSize)
	}
	return source.Body.Int("properties.diskSizeBytes")
}

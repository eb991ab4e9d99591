package compute

import (
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// Limits on incremental snapshots (azure.md §1.2).
const (
	snapshotsPerDiskMax  = 500
	snapshotsPerWindow   = 7
	snapshotWindow       = 5 * time.Minute
	pendingCopiesMax     = 3
	instantAccessMinimum = 60 // minutes
	instantAccessMaximum = 300
)

func (p *Provider) snapshotKind() arm.Type {
	return arm.Type{
		Name: snapshotType, Versions: diskVersions(), OperationPath: "DiskOperations",
		Put: p.putSnapshot, Patch: p.patchSnapshot, Deletable: p.snapshotDeletable, Remove: p.removeDisk, Render: p.renderSnapshot,
		Actions: p.AccessActions(),
	}
}

func (p *Provider) putSnapshot(call *arm.Call, id string, existing *state.Document) (arm.Answer, error) {
	if _, err := decode[armcompute.Snapshot](call.Body); err != nil {
		return arm.Answer{}, err
	}
	body := call.Body
	dropReadOnly(body, "managedBy", "sku.tier", "properties.diskState", "properties.uniqueId", "properties.timeCreated",
		"properties.diskSizeBytes", "properties.provisioningState", "properties.creationData.sourceUniqueId",
		"properties.incrementalSnapshotFamilyId", "properties.completionPercent", "properties.snapshotAccessState")
	if existing != nil {
		return p.putSnapshotAgain(call, existing)
	}
	source, err := p.snapshotSource(call, body)
	if err != nil {
		return arm.Answer{}, err
	}
	doc := call.NewDocument(id, body)
	if err := p.takeSnapshot(call, doc, source); err != nil {
		return arm.Answer{}, err
	}
	return p.acceptDisk(call, doc, "Updating"), nil
}

// putSnapshotAgain changes what may change of a snapshot that exists. It never takes a new point in time.
func (p *Provider) putSnapshotAgain(call *arm.Call, existing *state.Document) (arm.Answer, error) {
	if err := sameCreation(existing.Body, call.Body); err != nil {
		return arm.Answer{}, err
	}
	if call.Body.At("properties.incremental") != nil && call.Body.Flag("properties.incremental") != existing.Body.Flag("properties.incremental") {
		return arm.Answer{}, cannotChange("incremental")
	}
	return p.patchSnapshot(call, existing)
}

func (p *Provider) patchSnapshot(call *arm.Call, existing *state.Document) (arm.Answer, error) {
	if _, err := decode[armcompute.SnapshotUpdate](call.Body); err != nil {
		return arm.Answer{}, err
	}
	if sku := call.Body.Text("sku.name"); sku != "" && sku != existing.Body.Text("sku.name") {
		return arm.Answer{}, notAllowed("The SKU of snapshot '%s' is %s and cannot be changed to %s.", existing.ID, existing.Body.Text("sku.name"), sku)
	}
	doc := existing.Clone()
	for _, name := range []string{"networkAccessPolicy", "diskAccessId", "publicNetworkAccess", "dataAccessAuthMode", "encryption", "osType", "supportsHibernation"} {
		if value := call.Body.At("properties." + name); value != nil {
			doc.Body.Set("properties."+name, value)
		}
	}
	if err := checkPolicies(doc.Body); err != nil {
		return arm.Answer{}, err
	}
	arm.ReplaceTags(doc, call.Body)
	return p.acceptDisk(call, doc, "Updating"), nil
}

// snapshotSource finds the disk and checks all that can be refused before looking at the disk's other snapshots.
func (p *Provider) snapshotSource(call *arm.Call, body state.Object) (*state.Document, error) {
	const target = "creationData.sourceResourceId"
	option := body.Text("properties.creationData.createOption")
	if option == "" {
		return nil, required("snapshot.properties.creationData.createOption")
	}
	if option != string(armcompute.DiskCreateOptionCopy) {
		return nil, invalid("creationData.createOption", "The twin makes snapshots by create option Copy only, not '%s'.", option)
	}
	id := body.Text("properties." + target)
	if id == "" {
		return nil, required("snapshot.properties." + target)
	}
	if !isKind(id, diskType) {
		return nil, invalid(target, "The twin makes snapshots of disks only; '%s' is none.", id)
	}
	if !sameSubscription(id, call.Path) {
		return nil, invalid(target, "A snapshot must be in the same subscription as its source disk.")
	}
	disk := call.View.Get(id)
	if disk == nil {
		return nil, arm.Errorf(http.StatusNotFound, "ResourceNotFound", "The source disk '%s' was not found.", id).At(target)
	}
	if !call.May(diskType + "/beginGetAccess/action") {
		return nil, linkedRefusal(call, disk.ID)
	}
	if disk.Body.Text("location") != body.Text("location") {
		return nil, invalid("location", "The source disk is in location '%s'; its snapshot must be in the same one, not in '%s'.", disk.Body.Text("location"), body.Text("location"))
	}
	if disk.Hidden.Text(hiddenUpload) != "" {
		return nil, notAllowed("The disk '%s' waits for its upload to be completed.", disk.ID)
	}
	if disk.Body.Int("properties.maxShares") > 1 {
		return nil, notAllowed("A snapshot of the shared disk '%s' (maxShares %d) is not supported.", disk.ID, disk.Body.Int("properties.maxShares"))
	}
	return disk, checkSnapshotShape(body, disk)
}

func checkSnapshotShape(body state.Object, disk *state.Document) error {
	large := isLarge(disk.Body.Text("sku.name"))
	if large && !body.Flag("properties.incremental") {
		return notAllowed("Disks with SKU %s can have incremental snapshots only.", disk.Body.Text("sku.name"))
	}
	if minutes := body.Int("properties.creationData.instantAccessDurationMinutes"); body.At("properties.creationData.instantAccessDurationMinutes") != nil {
		if !large {
			return invalid("creationData.instantAccessDurationMinutes", "Instant access is for snapshots of UltraSSD_LRS and PremiumV2_LRS disks.")
		}
		if minutes < instantAccessMinimum || minutes > instantAccessMaximum {
			return invalid("creationData.instantAccessDurationMinutes", "The duration must be between %d and %d minutes.", instantAccessMinimum, instantAccessMaximum)
		}
	}
	if size := body.Int("properties.diskSizeGB"); size != 0 && size != disk.Body.Int("properties.diskSizeGB") {
		return invalid("diskSizeGB", "The size of a snapshot is that of its disk, %d GB.", disk.Body.Int("properties.diskSizeGB"))
	}
	return checkPolicies(body)
}

// takeSnapshot freezes the disk's content and completes the document. The document is not stored yet.
func (p *Provider) takeSnapshot(call *arm.Call, doc, disk *state.Document) error {
	incremental := doc.Body.Flag("properties.incremental")
	if incremental {
		if err := p.checkSnapshotLimits(call, disk); err != nil {
			return err
		}
	}
	if err := p.chooseSnapshotSKU(call, doc, disk, incremental); err != nil {
		return err
	}
	volume, err := p.volumes.Snapshot(volumeOf(disk))
	frozen, err := p.newVolume(call.Tx, volume, err)
	if err != nil {
		return err
	}
	p.completeSnapshot(call, doc, disk, incremental)
	doc.Hidden.Set(hiddenVolume, string(frozen))
	p.noteSnapshot(call, disk, incremental)
	return nil
}

func (p *Provider) completeSnapshot(call *arm.Call, doc, disk *state.Document, incremental bool) {
	body := doc.Body
	body.Set("properties.incremental", incremental)
	body.Set("properties.uniqueId", newID())
	body.Set("properties.timeCreated", call.Now)
	body.Set("properties.creationData.sourceResourceId", disk.ID)
	body.Set("properties.creationData.sourceUniqueId", disk.Body.Text("properties.uniqueId"))
	setSize(body, disk.Body.Int("properties.diskSizeBytes"))
	for _, name := range []string{"osType", "hyperVGeneration", "supportedCapabilities", "purchasePlan", "securityProfile", "encryptionSettingsCollection", "creationData.logicalSectorSize"} {
		if value := disk.Body.At("properties." + name); value != nil {
			setDefault(body, "properties."+name, value)
		}
	}
	setDefault(body, "properties.networkAccessPolicy", "AllowAll")
	setDefault(body, "properties.publicNetworkAccess", "Enabled")
	setDefault(body, "properties.encryption.type", "EncryptionAtRestWithPlatformKey")
	complete := call.Now
	if incremental {
		body.Set("properties.incrementalSnapshotFamilyId", disk.Hidden.Text(hiddenFamily))
		if isLarge(disk.Body.Text("sku.name")) {
			complete = complete.Add(time.Duration(p.copyTime.Load()))
		}
	}
	doc.Hidden.Set(hiddenDisk, disk.Body.Text("properties.uniqueId"))
	doc.Hidden.Set(hiddenComplete, complete)
}

// noteSnapshot records on the disk when the snapshot was taken, for the rate limit.
func (p *Provider) noteSnapshot(call *arm.Call, disk *state.Document, incremental bool) {
	if !incremental {
		return
	}
	noted := disk.Clone()
	times := append(recentSnapshots(disk, call.Now), call.Now.Format(time.RFC3339Nano))
	noted.Hidden.Set(hiddenTimes, times)
	call.Tx.Put(noted)
}

// recentSnapshots returns the moments within the window at which snapshots of the disk were taken.
func recentSnapshots(disk *state.Document, now time.Time) []string {
	var recent []string
	for _, text := range disk.Hidden.Texts(hiddenTimes) {
		if taken, err := time.Parse(time.RFC3339Nano, text); err == nil && now.Sub(taken) < snapshotWindow {
			recent = append(recent, text)
		}
	}
	return recent
}

func (p *Provider) checkSnapshotLimits(call *arm.Call, disk *state.Document) error {
	alive, pending := 0, 0
	for snapshot := range p.snapshotsOf(call.View, disk) {
		alive++
		if p.copyPercent(snapshot) < 100 && snapshot.Hidden.Text(hiddenBroken) == "" {
			pending++
		}
	}
	if alive >= snapshotsPerDiskMax {
		return notAllowed("The disk '%s' has %d incremental snapshots, which is the maximum. Delete older ones first.", disk.ID, alive)
	}
	if pending >= pendingCopiesMax {
		return notAllowed("The disk '%s' has %d snapshots whose background copy is under way, which is the maximum.", disk.ID, pending)
	}
	recent := recentSnapshots(disk, call.Now)
	if len(recent) < snapshotsPerWindow || p.rateOff.Load() {
		return nil
	}
	oldest, err := time.Parse(time.RFC3339Nano, recent[len(recent)-snapshotsPerWindow])
	if err != nil {
		return err
	}
	wait := snapshotWindow - call.Now.Sub(oldest)
	refusal := arm.Errorf(http.StatusTooManyRequests, "TooManyRequests", "The disk '%s' had %d incremental snapshots within 5 minutes, which is the maximum.", disk.ID, len(recent))
	refusal.Header = http.Header{"Retry-After": {strconv.Itoa(int((wait + time.Second - 1) / time.Second))}}
	return refusal
}

// chooseSnapshotSKU fills in the SKU: that of the disk's earlier incremental snapshots, else ZRS where the region has zones.
func (p *Provider) chooseSnapshotSKU(call *arm.Call, doc, disk *state.Document, incremental bool) error {
	location, wanted := doc.Body.Text("location"), doc.Body.Text("sku.name")
	if err := oneOf(wanted, armcompute.PossibleSnapshotStorageAccountTypesValues(), "sku.name"); err != nil {
		return err
	}
	if err := checkRedundancy(location, wanted, ""); err != nil {
		return err
	}
	family := ""
	if incremental {
		for snapshot := range p.snapshotsOf(call.View, disk) {
			family = snapshot.Body.Text("sku.name")
			break
		}
	}
	switch region, _ := arm.FindRegion(location); {
	case family != "" && wanted != "" && wanted != family:
		return notAllowed("The incremental snapshots of disk '%s' have SKU %s; one with SKU %s cannot be added.", disk.ID, family, wanted)
	case wanted != "":
	case family != "":
		wanted = family
	case incremental && len(region.Zones) > 0:
		wanted = "Standard_ZRS"
	default:
		wanted = "Standard_LRS"
	}
	doc.Body.Set("sku.name", wanted)
	return nil
}

// snapshotsOf yields the incremental snapshots of one incarnation of a disk.
func (p *Provider) snapshotsOf(view *state.View, disk *state.Document) iter.Seq[*state.Document] {
	unique := disk.Body.Text("properties.uniqueId")
	return func(yield func(*state.Document) bool) {
		for doc := range view.Below(resourcePrefix(disk.ID)) {
			if doc.Hidden.Text(hiddenDisk) == unique && doc.Body.Flag("properties.incremental") && !yield(doc) {
				return
			}
		}
	}
}

// copyPercent tells how much of a snapshot's background copy is done.
func (p *Provider) copyPercent(doc *state.Document) int {
	began, complete := doc.Body.Time("properties.timeCreated"), doc.Hidden.Time(hiddenComplete)
	now := p.clock.Now()
	if doc.Hidden.Text(hiddenBroken) == "" && !now.Before(complete) {
		return 100
	}
	whole := complete.Sub(began)
	if whole <= 0 {
		return 0
	}
	return int(min(99, max(0, 100*now.Sub(began)/whole)))
}

func (p *Provider) snapshotDeletable(_ *state.View, doc *state.Document) error {
	return p.noActiveSAS(doc, "deleted")
}

func (p *Provider) renderSnapshot(_ *state.View, doc *state.Document) state.Object {
	body := doc.Body.Clone()
	percent := p.copyPercent(doc)
	body.Set("properties.completionPercent", percent)
	body.Set("properties.snapshotAccessState", p.accessState(doc, percent))
	body.Set("properties.diskState", "Unattached")
	if p.exports.ActiveCount(doc.ID) > 0 {
		body.Set("properties.diskState", "ActiveSAS")
	}
	if reason := doc.Hidden.Text(hiddenBroken); reason != "" {
		body.Set("properties.provisioningState", "Failed")
		body.Set("properties.copyCompletionError.errorCode", "CopySourceNotFound")
		body.Set("properties.copyCompletionError.errorMessage", reason)
	}
	tier, _, _ := strings.Cut(body.Text("sku.name"), "_")
	body.Set("sku.tier", tier)
	return body
}

// accessState follows azure.md §1.3.
func (p *Provider) accessState(doc *state.Document, percent int) string {
	minutes := doc.Body.Int("properties.creationData.instantAccessDurationMinutes")
	until := doc.Body.Time("properties.timeCreated").Add(time.Duration(minutes) * time.Minute)
	instant := minutes > 0 && p.clock.Now().Before(until)
	switch {
	case percent < 100 && instant:
		return string(armcompute.SnapshotAccessStateInstantAccess)
	case percent < 100:
		return string(armcompute.SnapshotAccessStatePending)
	case instant:
		return string(armcompute.SnapshotAccessStateAvailableWithInstantAccess)
	default:
		return string(armcompute.SnapshotAccessStateAvailable)
	}
}

package compute

import (
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/compute/facts"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

const (
	gib = int64(1) << 30
	mib = int64(1) << 20

	diskGiBMax      = 32767
	largeDiskGiBMax = 65536 // Ultra and Premium SSD v2
	fourTiB         = 4096 * gib

	footerBytes    = 512
	uploadBytesMin = 20_972_032 // 20 MiB and the footer
	uploadBytesMax = 35_183_298_347_520

	uploadReady  = "ready"
	uploadActive = "active"
)

func diskVersions() arm.Versions {
	return arm.Versions{Oldest: "2018-04-01", Newest: "2026-03-02", Known: []string{
		"2026-03-02", "2025-01-02", "2024-03-02", "2023-10-02", "2023-04-02", "2023-01-02", "2022-07-02", "2022-03-02",
		"2021-12-01", "2021-08-01", "2021-04-01", "2020-12-01", "2020-09-30", "2020-06-30", "2020-05-01", "2019-11-01", "2019-07-01",
	}}
}

func (p *Provider) diskKind() arm.Type {
	return arm.Type{
		Name: diskType, Versions: diskVersions(), OperationPath: "DiskOperations",
		Put: p.putDisk, Patch: p.patchDisk, Deletable: p.diskDeletable, Remove: p.removeDisk, Render: p.renderDisk,
		Actions: p.AccessActions(),
	}
}

func (p *Provider) putDisk(call *arm.Call, id string, existing *state.Document) (arm.Answer, error) {
	if _, err := decode[armcompute.Disk](call.Body); err != nil {
		return arm.Answer{}, err
	}
	body := call.Body
	dropReadOnly(body, "managedBy", "managedByExtended", "sku.tier", "properties.diskState", "properties.uniqueId",
		"properties.timeCreated", "properties.diskSizeBytes", "properties.provisioningState", "properties.creationData.sourceUniqueId")
	if existing != nil {
		if err := sameCreation(existing.Body, body); err != nil {
			return arm.Answer{}, err
		}
		return p.updateDisk(call, existing, body)
	}
	doc := call.NewDocument(id, body)
	if err := p.createDisk(call, doc); err != nil {
		return arm.Answer{}, err
	}
	return p.acceptDisk(call, doc, "Updating"), nil
}

// acceptDisk stores the document and begins the operation that ends in Succeeded.
func (p *Provider) acceptDisk(call *arm.Call, doc *state.Document, provisioning string) arm.Answer {
	doc.Body.Set("properties.provisioningState", provisioning)
	call.Tx.Put(doc)
	return arm.Answer{Body: call.Rendered(doc), Operation: arm.Provisioning(doc.ID, doc.Body.Text("location"), namespace, "DiskOperations")}
}

// sameCreation refuses a PUT that would change how, where or from what a disk was made.
func sameCreation(before, after state.Object) error {
	for _, name := range []string{"createOption", "sourceResourceId", "uploadSizeBytes", "logicalSectorSize", "sourceUri"} {
		path := "properties.creationData." + name
		want, have := after.At(path), before.At(path)
		if want == nil && name != "createOption" {
			continue
		}
		wantText, isText := want.(string)
		haveText, _ := have.(string)
		if want != have && !(isText && strings.EqualFold(wantText, haveText)) {
			return cannotChange("creationData." + name)
		}
	}
	if after["zones"] != nil && !slices.Equal(after.Texts("zones"), before.Texts("zones")) {
		return cannotChange("zones")
	}
	return nil
}

// createDisk checks a new disk, makes its volume and completes its document. The document is not stored yet.
func (p *Provider) createDisk(call *arm.Call, doc *state.Document) error {
	body := doc.Body
	setDefault(body, "sku.name", "Standard_LRS")
	if err := checkDiskShape(body); err != nil {
		return err
	}
	volume, size, err := p.fillDisk(call, doc)
	if err != nil {
		return err
	}
	return p.completeDisk(doc, volume, size, call)
}

func (p *Provider) completeDisk(doc *state.Document, volume vdisk.ID, size int64, call *arm.Call) error {
	body := doc.Body
	if body.Text("properties.osType") != "" && size > 4095*gib {
		return invalid("diskSizeGB", "An OS disk can have 4095 GB at most.")
	}
	doc.Hidden.Set(hiddenVolume, string(volume))
	doc.Hidden.Set(hiddenFamily, newID())
	setSize(body, size)
	body.Set("properties.uniqueId", newID())
	body.Set("properties.timeCreated", call.Now)
	if isLarge(body.Text("sku.name")) {
		setDefault(body, "properties.creationData.logicalSectorSize", 4096)
	}
	setDefault(body, "properties.networkAccessPolicy", "AllowAll")
	setDefault(body, "properties.publicNetworkAccess", "Enabled")
	setDefault(body, "properties.encryption.type", "EncryptionAtRestWithPlatformKey")
	return nil
}

// checkDiskShape applies the rules that need no other resource.
func checkDiskShape(body state.Object) error {
	sku := body.Text("sku.name")
	if err := checkSKU(sku); err != nil {
		return err
	}
	option := body.Text("properties.creationData.createOption")
	if option == "" {
		return required("disk.properties.creationData.createOption")
	}
	if err := oneOf(option, armcompute.PossibleDiskCreateOptionValues(), "creationData.createOption"); err != nil {
		return err
	}
	zone, err := checkZones(body)
	if err != nil {
		return err
	}
	if err := checkRedundancy(body.Text("location"), sku, zone); err != nil {
		return err
	}
	return checkDiskProperties(body, sku)
}

// checkSKU refuses what is no SKU of disks, the empty text included.
func checkSKU(sku string) error {
	if sku == "" {
		return required("disk.sku.name")
	}
	return oneOf(sku, armcompute.PossibleDiskStorageAccountTypesValues(), "sku.name")
}

func checkRedundancy(location, sku, zone string) error {
	if !strings.HasSuffix(sku, "_ZRS") {
		return nil
	}
	if zone != "" {
		return invalid("zones", "A disk with SKU %s is zone redundant and takes no zone.", sku)
	}
	if region, _ := arm.FindRegion(location); len(region.Zones) == 0 {
		return arm.Errorf(http.StatusConflict, "SkuNotAvailable", "The requested SKU '%s' is not available in location '%s'.", sku, location).At("sku.name")
	}
	return nil
}

// checkDiskProperties applies the rules for single properties, of a new or a changed disk.
func checkDiskProperties(body state.Object, sku string) error {
	if sector := body.At("properties.creationData.logicalSectorSize"); sector != nil {
		size := body.Int("properties.creationData.logicalSectorSize")
		if !isLarge(sku) {
			return invalid("creationData.logicalSectorSize", "The logical sector size can be set for UltraSSD_LRS and PremiumV2_LRS only.")
		}
		if size != 512 && size != 4096 {
			return invalid("creationData.logicalSectorSize", "The logical sector size must be 512 or 4096, not %d.", size)
		}
	}
	if shares := body.Int("properties.maxShares"); body.At("properties.maxShares") != nil && (shares < 1 || shares > 10 || shares > 1 && sku == "Standard_LRS") {
		return invalid("maxShares", "The value %d of maxShares is not supported for SKU %s.", shares, sku)
	}
	if body.Text("properties.osType") != "" && isLarge(sku) {
		return invalid("sku.name", "A disk with SKU %s cannot be an OS disk.", sku)
	}
	return checkPolicies(body)
}

func checkPolicies(body state.Object) error {
	checks := []error{
		oneOf(body.Text("properties.networkAccessPolicy"), armcompute.PossibleNetworkAccessPolicyValues(), "networkAccessPolicy"),
		oneOf(body.Text("properties.publicNetworkAccess"), armcompute.PossiblePublicNetworkAccessValues(), "publicNetworkAccess"),
		oneOf(body.Text("properties.dataAccessAuthMode"), armcompute.PossibleDataAccessAuthModeValues(), "dataAccessAuthMode"),
		oneOf(body.Text("properties.osType"), armcompute.PossibleOperatingSystemTypesValues(), "osType"),
		oneOf(body.Text("properties.hyperVGeneration"), armcompute.PossibleHyperVGenerationValues(), "hyperVGeneration"),
		oneOf(body.Text("properties.encryption.type"), armcompute.PossibleEncryptionTypeValues(), "encryption.type"),
	}
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	private := body.Text("properties.networkAccessPolicy") == string(armcompute.NetworkAccessPolicyAllowPrivate)
	if private != (body.Text("properties.diskAccessId") != "") {
		return invalid("diskAccessId", "diskAccessId must be given with networkAccessPolicy AllowPrivate, and with no other.")
	}
	return nil
}

// fillDisk makes the volume that the create option asks for.
func (p *Provider) fillDisk(call *arm.Call, doc *state.Document) (vdisk.ID, int64, error) {
	switch option := armcompute.DiskCreateOption(doc.Body.Text("properties.creationData.createOption")); option {
	case armcompute.DiskCreateOptionEmpty:
		return p.fillEmpty(call, doc.Body)
	case armcompute.DiskCreateOptionUpload:
		return p.fillUpload(call, doc)
	case armcompute.DiskCreateOptionCopy, armcompute.DiskCreateOptionRestore:
		return p.fillCopy(call, doc.Body)
	case armcompute.DiskCreateOptionFromImage:
		return "", 0, arm.Errorf(http.StatusNotFound, "PlatformImageNotFound", "The twin has no images: make the disk with Empty, Copy or Upload.").At("creationData.imageReference")
	default:
		return "", 0, invalid("creationData.createOption", "The twin does not support the create option '%s'. It supports Empty, Copy, Restore and Upload.", option)
	}
}

func (p *Provider) fillEmpty(call *arm.Call, body state.Object) (vdisk.ID, int64, error) {
	if body.At("properties.diskSizeGB") == nil {
		return "", 0, required("disk.properties.diskSizeGB")
	}
	size, err := checkSize(body, body.Int("properties.diskSizeGB"))
	if err != nil {
		return "", 0, err
	}
	volume, err := p.volumes.Create(size)
	id, err := p.newVolume(call.Tx, volume, err)
	return id, size, err
}

// fillUpload makes a volume of the upload's size less its footer; the disk waits for the content.
func (p *Provider) fillUpload(call *arm.Call, doc *state.Document) (vdisk.ID, int64, error) {
	const target = "creationData.uploadSizeBytes"
	length := doc.Body.Int("properties." + target)
	size := length - footerBytes
	switch {
	case doc.Body.At("properties."+target) == nil:
		return "", 0, required("disk.properties." + target)
	case length < uploadBytesMin || length > uploadBytesMax:
		return "", 0, invalid(target, "The value %d of uploadSizeBytes is out of range: it must be between %d and %d.", length, uploadBytesMin, uploadBytesMax)
	case size%mib != 0:
		return "", 0, invalid(target, "The value %d of uploadSizeBytes is invalid: less the footer of 512 bytes it must be a whole number of MiB.", length)
	case doc.Body.At("properties.diskSizeGB") != nil:
		return "", 0, invalid("diskSizeGB", "diskSizeGB must not be given with create option Upload.")
	case doc.Body.Text("properties.diskAccessId") != "" && doc.Body.Text("properties.encryption.diskEncryptionSetId") != "":
		return "", 0, invalid("diskAccessId", "Upload with both a disk access and a disk encryption set is not supported.")
	}
	doc.Hidden.Set(hiddenUpload, uploadReady)
	volume, err := p.volumes.Create(size)
	id, err := p.newVolume(call.Tx, volume, err)
	return id, size, err
}

// fillCopy clones a snapshot, or a moment of a disk, of the same region.
func (p *Provider) fillCopy(call *arm.Call, body state.Object) (vdisk.ID, int64, error) {
	source, err := p.copySource(call, body)
	if err != nil {
		return "", 0, err
	}
	size := sizeOf(source)
	if body.At("properties.diskSizeGB") != nil {
		wanted, err := checkSize(body, body.Int("properties.diskSizeGB"))
		if err != nil {
			return "", 0, err
		}
		if wanted < size && body.Int("properties.diskSizeGB") != source.Body.Int("properties.diskSizeGB") {
			return "", 0, invalid("diskSizeGB", "The size %d GB is smaller than the source's %d GB.", body.Int("properties.diskSizeGB"), source.Body.Int("properties.diskSizeGB"))
		}
		size = max(size, wanted)
	}
	body.Set("properties.creationData.sourceUniqueId", source.Body.Text("properties.uniqueId"))
	for _, name := range []string{"properties.osType", "properties.hyperVGeneration", "properties.supportedCapabilities", "properties.purchasePlan", "properties.securityProfile"} {
		if value := source.Body.At(name); value != nil {
			setDefault(body, name, value)
		}
	}
	frozen := volumeOf(source)
	if isKind(source.ID, diskType) {
		moment, err := p.volumes.Snapshot(frozen)
		if frozen, err = p.newVolume(call.Tx, moment, err); err != nil {
			return "", 0, err
		}
		call.Tx.OnCommit(func() { p.deleteVolume(moment.ID) })
	}
	volume, err := p.volumes.Clone(frozen, size)
	id, err := p.newVolume(call.Tx, volume, err)
	return id, size, err
}

// copySource finds what a disk is copied from and checks that it can be.
func (p *Provider) copySource(call *arm.Call, body state.Object) (*state.Document, error) {
	const target = "creationData.sourceResourceId"
	id := body.Text("properties." + target)
	if id == "" {
		return nil, required("disk.properties." + target)
	}
	source := call.View.Get(id)
	restoring := body.Text("properties.creationData.createOption") == string(armcompute.DiskCreateOptionRestore)
	switch {
	case restoring && !isKind(id, pointDiskType):
		return nil, invalid(target, "The source '%s' is no disk restore point, which the create option Restore wants.", id)
	case !restoring && !isKind(id, diskType) && !isKind(id, snapshotType):
		return nil, invalid(target, "The source '%s' is neither a disk nor a snapshot.", id)
	}
	if source == nil {
		return nil, arm.Errorf(http.StatusNotFound, "ResourceNotFound", "The source '%s' was not found.", id).At(target)
	}
	if locationOf(source) != body.Text("location") {
		return nil, invalid(target, "The source is in location '%s'; a copy must be in the same one.", locationOf(source))
	}
	if !isKind(id, diskType) && p.copyPercent(source) < 100 {
		return nil, notAllowed("The background copy of '%s' is not complete.", id)
	}
	if restoring && call.View.Get(pointOf(id)).Body.Text("properties.provisioningState") != "Succeeded" {
		return nil, notAllowed("The restore point of '%s' is still being created, or its creation failed.", id)
	}
	if source.Hidden.Text(hiddenUpload) != "" {
		return nil, notAllowed("The disk '%s' waits for its upload to be completed.", id)
	}
	if !call.May(arm.TypeOf(source.ID) + "/beginGetAccess/action") {
		return nil, linkedRefusal(call, source.ID)
	}
	return source, nil
}

// linkedRefusal is the platform's answer when a write needs a right on another resource (azure.md §6.4).
func linkedRefusal(call *arm.Call, id string) *arm.Error {
	return linkedRefusalFor(call, arm.TypeOf(id)+"/beginGetAccess/action", id)
}

func linkedRefusalFor(call *arm.Call, action, id string) *arm.Error {
	return arm.Errorf(http.StatusForbidden, "LinkedAuthorizationFailed", "The client '%s' has permission to perform the action on scope '%s', however the current tenant or the client lacks the linked permission '%s' on '%s'.", call.Principal, call.Path, action, id)
}

// checkSize returns a size in bytes if disks of the body's SKU can have it.
func checkSize(body state.Object, sizeGiB int64) (int64, error) {
	limit := int64(diskGiBMax)
	if isLarge(body.Text("sku.name")) {
		limit = largeDiskGiBMax
	}
	if sizeGiB < 1 || sizeGiB > limit {
		return 0, invalid("diskSizeGB", "The value %d of diskSizeGB is out of range: it must be between 1 and %d.", sizeGiB, limit)
	}
	return sizeGiB * gib, nil
}

func setSize(body state.Object, size int64) {
	body.Set("properties.diskSizeBytes", size)
	body.Set("properties.diskSizeGB", (size+gib-1)/gib)
}

func isLarge(sku string) bool { return facts.IsLarge(sku) }

func (p *Provider) patchDisk(call *arm.Call, existing *state.Document) (arm.Answer, error) {
	if _, err := decode[armcompute.DiskUpdate](call.Body); err != nil {
		return arm.Answer{}, err
	}
	dropReadOnly(call.Body, "managedBy", "properties.creationData", "properties.diskState", "properties.uniqueId", "properties.diskSizeBytes")
	return p.updateDisk(call, existing, call.Body)
}

// updateDisk lays a PUT's or PATCH's changes over the disk.
func (p *Provider) updateDisk(call *arm.Call, existing *state.Document, changes state.Object) (arm.Answer, error) {
	doc := existing.Clone()
	before := existing.Body
	patch := changes.Given()
	patch.Remove("tags")
	patch.Remove("location")
	doc.Body.Merge(patch)
	doc.Body.Set("properties.creationData", before.Object("properties.creationData").Clone())
	setSize(doc.Body, before.Int("properties.diskSizeBytes"))
	arm.ReplaceTags(doc, changes)
	if err := p.checkSKUChange(call, doc, before.Text("sku.name"), doc.Body.Text("sku.name")); err != nil {
		return arm.Answer{}, err
	}
	if err := checkDiskProperties(doc.Body, doc.Body.Text("sku.name")); err != nil {
		return arm.Answer{}, err
	}
	if changes.At("properties.diskSizeGB") != nil {
		wanted := changes.Int("properties.diskSizeGB")
		if wanted != before.Int("properties.diskSizeGB") {
			if err := p.checkLiveResize(call, doc, wanted); err != nil {
				return arm.Answer{}, err
			}
			if err := p.resize(call.Tx, doc, wanted); err != nil {
				return arm.Answer{}, err
			}
		}
	}
	return p.acceptDisk(call, doc, "Updating"), nil
}

func (p *Provider) checkSKUChange(call *arm.Call, doc *state.Document, before, after string) error {
	if before == after {
		return nil
	}
	if err := checkSKU(after); err != nil {
		return err
	}
	redundancy := func(sku string) string { return sku[strings.LastIndex(sku, "_"):] }
	if isLarge(before) || isLarge(after) || redundancy(before) != redundancy(after) {
		return notAllowed("A disk with SKU %s cannot be changed to %s.", before, after)
	}
	if p.diskState(call.View, doc) == armcompute.DiskStateAttached {
		return notAllowed("The SKU of disk '%s' cannot be changed while it is attached to a running VM.", doc.ID)
	}
	return nil
}

// checkLiveResize refuses what cannot be resized under a running VM: OS disks, shared disks, and a step over 4 TiB.
func (p *Provider) checkLiveResize(call *arm.Call, doc *state.Document, sizeGiB int64) error {
	if p.diskState(call.View, doc) != armcompute.DiskStateAttached {
		return nil
	}
	crosses := crossesFourTiB(doc.Body.Int("properties.diskSizeBytes"), sizeGiB*gib) && !isLarge(doc.Body.Text("sku.name"))
	if doc.Body.Text("properties.osType") != "" || doc.Body.Int("properties.maxShares") > 1 || crosses {
		return notAllowed("The disk '%s' cannot be resized while it is attached to running VM '%s'. Deallocate the VM first.", doc.ID, doc.Body.Text("managedBy"))
	}
	return nil
}

func crossesFourTiB(before, after int64) bool { return before <= fourTiB && after > fourTiB }

// resize grows a disk. A step over 4 TiB begins a new family, since the service cannot diff across it (azure.md §1.2); a
// snapshot whose copy is under way fails.
func (p *Provider) resize(tx *state.Tx, doc *state.Document, sizeGiB int64) error {
	size, err := checkSize(doc.Body, sizeGiB)
	if err != nil {
		return err
	}
	before := doc.Body.Int("properties.diskSizeBytes")
	switch {
	case doc.Hidden.Text(hiddenUpload) != "":
		return notAllowed("The disk '%s' waits for its upload to be completed.", doc.ID)
	case p.exports.ActiveCount(doc.ID) > 0:
		return arm.Errorf(http.StatusConflict, "ChangeDiskSizeWhileActiveSasNotAllowed", "The size of disk '%s' cannot be changed while it has an active shared access signature.", doc.ID)
	case size < before:
		return invalid("diskSizeGB", "The disk '%s' has %d GB and cannot be made smaller (%d GB).", doc.ID, doc.Body.Int("properties.diskSizeGB"), sizeGiB)
	case doc.Body.Text("properties.osType") != "" && sizeGiB > 4095:
		return invalid("diskSizeGB", "An OS disk can have 4095 GB at most.")
	}
	if err := p.volumes.Resize(volumeOf(doc), size); err != nil {
		return err
	}
	if crossesFourTiB(before, size) {
		doc.Hidden.Set(hiddenFamily, newID())
	}
	setSize(doc.Body, size)
	for snapshot := range p.snapshotsOf(tx.View, doc) {
		if p.copyPercent(snapshot) < 100 {
			failed := snapshot.Clone()
			failed.Hidden.Set(hiddenBroken, "The source disk was resized while the copy was under way.")
			tx.Put(failed)
		}
	}
	return nil
}

func (p *Provider) diskDeletable(_ *state.View, doc *state.Document) error {
	if manager := doc.Body.Text("managedBy"); manager != "" {
		return notAllowed("Disk %s is attached to VM %s.", doc.ID, manager)
	}
	return p.noActiveSAS(doc, "deleted")
}

func (p *Provider) noActiveSAS(doc *state.Document, done string) error {
	if p.exports.ActiveCount(doc.ID) > 0 {
		return notAllowed("The resource %s cannot be %s while it has an active shared access signature. Call EndGetAccess first.", doc.ID, done)
	}
	return nil
}

// removeDisk takes disk and volume away; it serves snapshots as well.
func (p *Provider) removeDisk(tx *state.Tx, doc *state.Document) error {
	tx.Delete(doc.ID)
	if volume := volumeOf(doc); volume != "" {
		tx.OnCommit(func() { p.deleteVolume(volume) })
	}
	return nil
}

// diskState derives the state of azure.md §2.1 from what holds the disk.
func (p *Provider) diskState(view *state.View, doc *state.Document) armcompute.DiskState {
	switch doc.Hidden.Text(hiddenUpload) {
	case uploadReady:
		return armcompute.DiskStateReadyToUpload
	case uploadActive:
		return armcompute.DiskStateActiveUpload
	}
	if p.exports.ActiveCount(doc.ID) > 0 {
		return armcompute.DiskStateActiveSAS
	}
	manager := doc.Body.Text("managedBy")
	if manager == "" {
		return armcompute.DiskStateUnattached
	}
	if machine := view.Get(manager); machine != nil && machine.Hidden.Text(hiddenPower) == powerDeallocated {
		return armcompute.DiskStateReserved
	}
	return armcompute.DiskStateAttached
}

func (p *Provider) renderDisk(view *state.View, doc *state.Document) state.Object {
	body := doc.Body.Clone()
	body.Set("properties.diskState", string(p.diskState(view, doc)))
	sku := body.Text("sku.name")
	tier, _, _ := strings.Cut(sku, "_")
	body.Set("sku.tier", map[string]string{"UltraSSD": "Ultra", "Premium": "Premium", "PremiumV2": "Premium", "StandardSSD": "Standard", "Standard": "Standard"}[tier])
	if manager := body.Text("managedBy"); manager != "" {
		body.Set("managedByExtended", []string{manager})
	}
	return body
}

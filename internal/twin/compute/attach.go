package compute

import (
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/compute/facts"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// cachingGiBMax: host caching is for disks below 4,096 GiB (azure.md §3.6).
const cachingGiBMax = 4095

func diskReferences(body state.Object) []state.Object { return facts.DiskReferences(body) }

// attachDisks checks the storage profile, takes hold of the disks that are new and lets go of those no longer named.
func (p *Provider) attachDisks(call *arm.Call, doc *state.Document, before state.Object) error {
	osDisk := doc.Body.Object("properties.storageProfile.osDisk")
	if osDisk == nil {
		return required("storageProfile.osDisk")
	}
	if err := p.attachOS(call, doc, osDisk, before); err != nil {
		return err
	}
	if err := p.attachData(call, doc, before); err != nil {
		return err
	}
	held := map[string]bool{}
	for _, reference := range diskReferences(doc.Body) {
		id := state.Key(reference.Text("managedDisk.id"))
		if id != "" && held[id] {
			return invalid("dataDisks.managedDisk.id", "The disk %s is attached twice.", reference.Text("managedDisk.id"))
		}
		held[id] = true
	}
	for _, reference := range diskReferences(before) {
		if id := reference.Text("managedDisk.id"); !held[state.Key(id)] {
			detach(call.Tx, id, doc.ID)
		}
	}
	return nil
}

func (p *Provider) attachOS(call *arm.Call, doc *state.Document, osDisk, before state.Object) error {
	beforeOS := before.Object("properties.storageProfile.osDisk")
	ephemeral := string(armcompute.DiffDiskOptionsLocal)
	if beforeOS.Text("diffDiskSettings.option") == ephemeral || call.IsInside() && osDisk.Text("diffDiskSettings.option") == ephemeral {
		return nil // an ephemeral OS disk has no resource; only estates make one, and it stays
	}
	option := osDisk.Text("createOption")
	switch {
	case option == "":
		return required("osDisk.createOption")
	case option == string(armcompute.DiskCreateOptionTypesAttach):
	case option == string(armcompute.DiskCreateOptionTypesFromImage) && beforeOS != nil: // stays as the estate made it
	case option == string(armcompute.DiskCreateOptionTypesFromImage):
		return arm.Errorf(http.StatusNotFound, "PlatformImageNotFound", "The twin has no images: attach an OS disk.").At("imageReference")
	default:
		return invalid("osDisk.createOption", "The create option '%s' is not supported for OS disks.", option)
	}
	if osDisk.Object("diffDiskSettings") != nil {
		return invalid("osDisk.diffDiskSettings", "An ephemeral OS disk can be made from an image only.")
	}
	if doc.Body.Object("properties.storageProfile.imageReference") != nil && before == nil {
		return invalid("storageProfile.imageReference", "Parameter 'imageReference' is not allowed when the OS disk is attached.")
	}
	if osDisk.Text("osType") == "" {
		return required("osDisk.osType")
	}
	disk, err := p.attachOne(call, doc, osDisk, "osDisk")
	if err != nil {
		return err
	}
	if isLarge(disk.Body.Text("sku.name")) {
		return invalid("osDisk.managedDisk", "A disk with SKU %s cannot be an OS disk.", disk.Body.Text("sku.name"))
	}
	if beforeOS != nil && state.Key(beforeOS.Text("managedDisk.id")) != disk.Key() {
		if doc.Hidden.Text(hiddenPower) != powerDeallocated {
			return notAllowed("The OS disk can be swapped only while the VM is deallocated.")
		}
	}
	kind := disk.Body.Text("properties.osType")
	if kind != "" && !strings.EqualFold(kind, osDisk.Text("osType")) {
		return invalid("osDisk.osType", "The disk holds %s, not %s.", kind, osDisk.Text("osType"))
	}
	setDefault(osDisk, "caching", "ReadWrite")
	return checkCaching(osDisk, disk)
}

func (p *Provider) attachData(call *arm.Call, doc *state.Document, before state.Object) error {
	references := doc.Body.Objects("properties.storageProfile.dataDisks")
	size, _ := findSize(doc.Body.Text("properties.hardwareProfile.vmSize"))
	if len(references) > size.DataDisksMax {
		return notAllowed("The maximum number of data disks allowed to be attached to a VM of size %s is %d, not %d.", size.Name, size.DataDisksMax, len(references))
	}
	luns := map[int64]bool{}
	for _, reference := range references {
		lun := reference.Int("lun")
		if reference.At("lun") == nil {
			return required("dataDisk.lun")
		}
		if lun < 0 || lun > 63 {
			return invalid("dataDisk.lun", "The LUN %d is out of range: it must be between 0 and 63.", lun)
		}
		if luns[lun] {
			return invalid("dataDisk.lun", "A disk with LUN %d is attached already; LUNs are unique.", lun)
		}
		luns[lun] = true
		if err := p.attachDatum(call, doc, reference); err != nil {
			return err
		}
	}
	if before == nil {
		setDefault(doc.Body, "properties.storageProfile.dataDisks", []any{})
	}
	return nil
}

// attachDatum attaches one data disk, making it first where the create option is Empty.
func (p *Provider) attachDatum(call *arm.Call, doc *state.Document, reference state.Object) error {
	switch option := reference.Text("createOption"); option {
	case "":
		return required("dataDisk.createOption")
	case string(armcompute.DiskCreateOptionTypesAttach):
	case string(armcompute.DiskCreateOptionTypesEmpty):
		if err := p.makeEmpty(call, doc, reference); err != nil {
			return err
		}
	default:
		return invalid("dataDisk.createOption", "The twin does not support the create option '%s' for data disks.", option)
	}
	disk, err := p.attachOne(call, doc, reference, "dataDisk")
	if err != nil {
		return err
	}
	sku := disk.Body.Text("sku.name")
	if sku == "UltraSSD_LRS" && !doc.Body.Flag("properties.additionalCapabilities.ultraSSDEnabled") {
		return invalid("dataDisk.managedDisk.storageAccountType", "The disk %s is an Ultra disk; the VM must have additionalCapabilities.ultraSSDEnabled.", disk.ID)
	}
	caching := "None"
	if strings.HasPrefix(sku, "Premium_") && disk.Body.Int("properties.diskSizeGB") <= cachingGiBMax {
		caching = "ReadOnly"
	}
	setDefault(reference, "caching", caching)
	return checkCaching(reference, disk)
}

func (p *Provider) makeEmpty(call *arm.Call, doc *state.Document, reference state.Object) error {
	if id := reference.Text("managedDisk.id"); id != "" && call.View.Get(id) != nil {
		return nil // made by an earlier update that names it again
	}
	name := reference.Text("name")
	if name == "" {
		return required("dataDisk.name")
	}
	if err := arm.CheckName(name); err != nil {
		return err
	}
	group := doc.ID[:strings.Index(strings.ToLower(doc.ID), "/providers/")]
	id := group + "/providers/" + diskType + "/" + name
	if call.View.Get(id) != nil {
		return arm.Errorf(http.StatusConflict, "ConflictingUserInput", "Disk %s already exists.", id)
	}
	body := state.Object{"location": doc.Body.Text("location")}
	if zones := doc.Body.Texts("zones"); len(zones) > 0 {
		body.Set("zones", zones)
	}
	if sku := reference.Text("managedDisk.storageAccountType"); sku != "" {
		body.Set("sku.name", sku)
	}
	body.Set("properties.creationData.createOption", "Empty")
	body.Set("properties.diskSizeGB", reference.Int("diskSizeGB"))
	disk := call.NewDocument(id, body)
	if err := p.createDisk(call, disk); err != nil {
		return err
	}
	disk.Body.Set("properties.provisioningState", "Succeeded")
	call.Tx.Put(disk)
	reference.Set("managedDisk.id", id)
	return nil
}

// attachOne checks a disk against the VM and takes hold of it.
func (p *Provider) attachOne(call *arm.Call, doc *state.Document, reference state.Object, target string) (*state.Document, error) {
	id := reference.Text("managedDisk.id")
	if id == "" {
		return nil, required(target + ".managedDisk.id")
	}
	disk := call.View.Get(id)
	if disk == nil || !isKind(id, diskType) {
		return nil, arm.Errorf(http.StatusNotFound, "ResourceNotFound", "The disk '%s' was not found.", id).At(target)
	}
	if err := oneOf(reference.Text("deleteOption"), armcompute.PossibleDiskDeleteOptionTypesValues(), target+".deleteOption"); err != nil {
		return nil, err
	}
	if name := reference.Text("name"); name != "" && !strings.EqualFold(name, disk.Body.Text("name")) {
		return nil, invalid(target+".name", "The name '%s' is not that of the attached disk '%s'.", name, disk.Body.Text("name"))
	}
	reference.Set("name", disk.Body.Text("name"))
	reference.Set("managedDisk.id", disk.ID)
	if state.Key(disk.Body.Text("managedBy")) == doc.Key() {
		return disk, nil
	}
	if err := p.attachable(call, doc, disk); err != nil {
		return nil, err
	}
	taken := disk.Clone()
	taken.Body.Set("managedBy", doc.ID)
	taken.Body.Set("properties.LastOwnershipUpdateTime", call.Now)
	call.Tx.Put(taken)
	return taken, nil
}

// attachable applies the rules between a free disk and a VM.
func (p *Provider) attachable(call *arm.Call, doc, disk *state.Document) error {
	switch current := p.diskState(call.View, disk); {
	case current == armcompute.DiskStateReadyToUpload || current == armcompute.DiskStateActiveUpload:
		return notAllowed("The disk %s waits for its upload to be completed and cannot be attached.", disk.ID)
	case p.exports.ActiveCount(disk.ID) > 0:
		return notAllowed("The disk %s has an active shared access signature and cannot be attached.", disk.ID)
	case disk.Body.Text("managedBy") != "":
		return arm.Errorf(http.StatusConflict, "ConflictingUserInput", "Disk '%s' cannot be attached as the disk is already owned by VM '%s'.", disk.ID, disk.Body.Text("managedBy"))
	case arm.Busy(disk):
		return arm.Errorf(http.StatusConflict, "AnotherOperationInProgress", "Another operation on the resource %s is in progress. Please retry later.", disk.ID)
	case disk.Body.Text("location") != doc.Body.Text("location"):
		return invalid("managedDisk.id", "The disk %s is in location '%s', the VM in '%s'.", disk.ID, disk.Body.Text("location"), doc.Body.Text("location"))
	}
	size, _ := findSize(doc.Body.Text("properties.hardwareProfile.vmSize"))
	if strings.HasPrefix(disk.Body.Text("sku.name"), "Premium") && !size.Premium {
		return invalid("vmSize", "The requested VM size '%s' does not support the storage account type '%s'. Consider a size with PremiumIO.", size.Name, disk.Body.Text("sku.name"))
	}
	zone, wanted := disk.Body.Texts("zones"), doc.Body.Texts("zones")
	zoneRedundant := strings.HasSuffix(disk.Body.Text("sku.name"), "_ZRS")
	if !zoneRedundant && !slices.Equal(zone, wanted) {
		return arm.Errorf(http.StatusBadRequest, "BadRequest", "The disk %s (zones %v) cannot be attached to a VM in zones %v.", disk.ID, zone, wanted).At("zones")
	}
	return nil
}

func checkCaching(reference state.Object, disk *state.Document) error {
	caching := reference.Text("caching")
	if err := oneOf(caching, armcompute.PossibleCachingTypesValues(), "caching"); err != nil {
		return err
	}
	sku, size := disk.Body.Text("sku.name"), disk.Body.Int("properties.diskSizeGB")
	if caching != string(armcompute.CachingTypesNone) && (size > cachingGiBMax || isLarge(sku)) {
		return invalid("caching", "The disk %s (%s, %d GB) does not support caching %s: it must be None for disks of 4096 GB or more and for UltraSSD_LRS and PremiumV2_LRS.", disk.ID, sku, size, caching)
	}
	return nil
}

// detach lets go of a disk that the VM holds.
func detach(tx *state.Tx, id, machine string) {
	disk := tx.Get(id)
	if disk == nil || state.Key(disk.Body.Text("managedBy")) != state.Key(machine) {
		return
	}
	free := disk.Clone()
	free.Body.Remove("managedBy")
	tx.Put(free)
}

package compute

import (
	"errors"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/export"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/vhd"
)

const (
	accessSecondsMax = 5_184_000 // 60 days (azure.md §2.1)
	familySASMax     = 5         // snapshots of one family with an active SAS

	finishGetAccess = "compute/getAccess"
	finishEndAccess = "compute/endAccess"
)

// beginAccess accepts a request for a SAS; the SAS exists once the operation has ended.
func (p *Provider) beginAccess(call *arm.Call, doc *state.Document) (arm.Answer, error) {
	request, err := decode[armcompute.GrantAccessData](call.Body)
	if err != nil {
		return arm.Answer{}, err
	}
	access, seconds := call.Body.Text("access"), call.Body.Int("durationInSeconds")
	if access == "" {
		return arm.Answer{}, required("grantAccessData.access")
	}
	if access != string(armcompute.AccessLevelRead) && access != string(armcompute.AccessLevelWrite) {
		return arm.Answer{}, invalid("access", "The access must be Read or Write, not '%s'.", access)
	}
	if request.DurationInSeconds == nil {
		return arm.Answer{}, required("grantAccessData.durationInSeconds")
	}
	if seconds < 1 || seconds > accessSecondsMax {
		return arm.Answer{}, invalid("durationInSeconds", "The value %d of durationInSeconds is out of range: it must be between 1 and %d.", seconds, accessSecondsMax)
	}
	if call.Body.Flag("getSecureVMGuestStateSAS") && doc.Body.Object("properties.securityProfile") == nil {
		return arm.Answer{}, invalid("getSecureVMGuestStateSAS", "getSecureVMGuestStateSAS can be set only for disk with SecurityProfile.")
	}
	if err := p.checkAccess(call, doc, access); err != nil {
		return arm.Answer{}, err
	}
	arguments := state.Object{"access": access}
	arguments.Set("seconds", seconds)
	return arm.Answer{Operation: &arm.Operation{
		Kind: finishGetAccess, Resource: doc.ID, Location: locationOf(doc), Namespace: namespace, Path: "DiskOperations", Arguments: arguments,
	}}, nil
}

// checkAccess refuses what the platform keeps back.
func (p *Provider) checkAccess(call *arm.Call, doc *state.Document, access string) error {
	if policy := doc.Body.Text("properties.networkAccessPolicy"); policy != string(armcompute.NetworkAccessPolicyAllowAll) {
		return arm.Errorf(http.StatusForbidden, "NetworkAccessPolicyDenied", "The networkAccessPolicy of %s is %s, which does not allow access from here.", doc.ID, policy).At("networkAccessPolicy")
	}
	if doc.Body.Text("properties.publicNetworkAccess") == string(armcompute.PublicNetworkAccessDisabled) {
		return arm.Errorf(http.StatusForbidden, "PublicNetworkAccessDisabled", "The publicNetworkAccess of %s is Disabled.", doc.ID).At("publicNetworkAccess")
	}
	if err := checkFileFormat(call.Body, doc); err != nil {
		return err
	}
	if isKind(doc.ID, snapshotType) || isKind(doc.ID, pointDiskType) {
		return p.checkSnapshotAccess(call, doc, access)
	}
	uploading := doc.Hidden.Text(hiddenUpload) != ""
	switch {
	case access == string(armcompute.AccessLevelWrite) && !uploading:
		return notAllowed("Write access can be granted only to a disk that was created with option Upload and not written yet; %s is none.", doc.ID)
	case access == string(armcompute.AccessLevelRead) && uploading:
		return notAllowed("The disk %s waits for its upload; it cannot be read.", doc.ID)
	case p.diskState(call.View, doc) == armcompute.DiskStateAttached:
		return notAllowed("The disk %s is attached to running VM %s. Access can be granted to a disk that is not in use, or to a snapshot.", doc.ID, doc.Body.Text("managedBy"))
	}
	return nil
}

// checkFileFormat: disks with sectors of 4096 bytes are exported as VHDX, others as VHD (azure.md §1.2).
func checkFileFormat(body state.Object, doc *state.Document) error {
	format := body.Text("fileFormat")
	if err := oneOf(format, armcompute.PossibleFileFormatValues(), "fileFormat"); err != nil {
		return err
	}
	wantsVHDX := doc.Body.Int("properties.creationData.logicalSectorSize") == 4096 || doc.Body.Int("properties.logicalSectorSize") == 4096
	switch {
	case wantsVHDX && format != string(armcompute.FileFormatVHDX):
		return invalid("fileFormat", "The disk has logical sectors of 4096 bytes and can be exported as VHDX only.")
	case wantsVHDX:
		return notAllowed("The twin does not make VHDX exports.")
	case format == string(armcompute.FileFormatVHDX):
		return invalid("fileFormat", "VHDX is for disks with logical sectors of 4096 bytes.")
	}
	return nil
}

func (p *Provider) checkSnapshotAccess(call *arm.Call, doc *state.Document, access string) error {
	if access != string(armcompute.AccessLevelRead) {
		return notAllowed("A snapshot can be read only.")
	}
	if isKind(doc.ID, pointDiskType) && call.View.Get(pointOf(doc.ID)).Body.Text("properties.provisioningState") != "Succeeded" {
		return notAllowed("The restore point of %s is still being created, or its creation failed.", doc.ID)
	}
	if p.copyPercent(doc) < 100 {
		return notAllowed("The snapshot %s cannot be read before its background copy is complete (%d %%).", doc.ID, p.copyPercent(doc))
	}
	family := familyOf(doc)
	if family == "" || p.exports.ActiveCount(doc.ID) > 0 {
		return nil
	}
	active := 0
	for other := range call.View.Below(resourcePrefix(doc.ID)) {
		if familyOf(other) == family && p.exports.ActiveCount(other.ID) > 0 {
			active++
		}
	}
	if active >= familySASMax {
		return tooManyGrants(doc)
	}
	return nil
}

func tooManyGrants(doc *state.Document) *arm.Error {
	return notAllowed("%d snapshots of the family of %s have an active shared access signature, which is the maximum.", familySASMax, doc.ID)
}

// accessGranted makes the SAS.
func (p *Provider) accessGranted(tx *state.Tx, op *state.Document, _ time.Time) (state.Object, error) {
	doc := tx.Get(op.Hidden.Text("resource"))
	if doc == nil {
		return nil, arm.Errorf(http.StatusNotFound, "ResourceNotFound", "The resource was removed while the operation was under way.")
	}
	access := export.Access(op.Hidden.Text("arguments.access"))
	url, _, err := p.exports.Grant(export.GrantOptions{
		Resource: doc.ID, Volume: volumeOf(doc), Family: familyOf(doc), Access: access,
		Duration: time.Duration(op.Hidden.Int("arguments.seconds")) * time.Second, Upload: doc.Hidden.Text(hiddenUpload) != "",
		AuthMode: authMode(doc),
	})
	if errors.Is(err, export.ErrTooManyGrants) {
		return nil, tooManyGrants(doc)
	}
	if err != nil {
		return nil, err
	}
	if access == export.Write {
		active := doc.Clone()
		active.Hidden.Set(hiddenUpload, uploadActive)
		tx.Put(active)
	}
	return state.Object{"accessSAS": url}, nil
}

func authMode(doc *state.Document) string {
	if doc.Body.Text("properties.dataAccessAuthMode") == export.AuthModeEntra {
		return export.AuthModeEntra
	}
	return ""
}

// endAccess accepts the end of all SAS of a resource; without one it does nothing, with success.
func (p *Provider) endAccess(_ *arm.Call, doc *state.Document) (arm.Answer, error) {
	return arm.Answer{Operation: &arm.Operation{
		Kind: finishEndAccess, Resource: doc.ID, Location: locationOf(doc), Namespace: namespace, Path: "DiskOperations",
	}}, nil
}

// accessEnded revokes the SAS. A disk under upload becomes usable if its footer is right; otherwise the operation fails and
// the upload may go on.
func (p *Provider) accessEnded(tx *state.Tx, op *state.Document, _ time.Time) (state.Object, error) {
	doc := tx.Get(op.Hidden.Text("resource"))
	if doc == nil {
		return nil, nil
	}
	if doc.Hidden.Text(hiddenUpload) == uploadActive {
		if err := p.checkFooter(doc); err != nil {
			return nil, err
		}
		complete := doc.Clone()
		complete.Hidden.Remove(hiddenUpload)
		tx.Put(complete)
	}
	_, err := p.exports.Revoke(doc.ID)
	return nil, err
}

func (p *Provider) checkFooter(doc *state.Document) error {
	refusal := func(reason string) error {
		return arm.Errorf(http.StatusConflict, "InvalidVhd", "The upload to disk %s is not a fixed VHD: %s.", doc.ID, reason)
	}
	footer, ok := p.exports.UploadFooter(volumeOf(doc))
	if !ok {
		return refusal("its footer was not written")
	}
	image, err := vhd.Parse(footer)
	if err != nil {
		return refusal(err.Error())
	}
	if size := doc.Body.Int("properties.diskSizeBytes"); image.Size != size {
		return refusal("its footer tells another size than the disk's")
	}
	return nil
}

package restorepoint

import (
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// metadata is what a point keeps of its machine: the disks in it, and the profiles.
func metadata(c *capture) state.Object {
	body, kept := c.machine.Body, state.Object{}
	kept.Set("vmId", body.Text("properties.vmId"))
	kept.Set("location", body.Text("location"))
	for _, name := range []string{"hardwareProfile", "osProfile", "securityProfile", "diagnosticsProfile", "licenseType", "userData"} {
		if value := body.At("properties." + name); value != nil {
			kept.Set(name, value)
		}
	}
	data := []state.Object{}
	for _, d := range c.disks {
		place := state.Object{"name": d.reference.Text("name")}
		place.Set("diskSizeGB", d.disk.Body.Int("properties.diskSizeGB"))
		place.Set("managedDisk.id", d.disk.ID)
		place.Set("managedDisk.storageAccountType", d.disk.Body.Text("sku.name"))
		if caching := d.reference.Text("caching"); caching != "" {
			place.Set("caching", caching)
		}
		if d.id != "" {
			place.Set("diskRestorePoint.id", d.id)
		}
		if d.lun == "" {
			place.Set("osType", d.reference.Text("osType"))
			kept.Set("storageProfile.osDisk", place)
			continue
		}
		place.Set("lun", d.reference.Int("lun"))
		data = append(data, place)
	}
	kept.Set("storageProfile.dataDisks", data)
	return kept
}

func (p *Provider) getPoint(call *arm.Call, doc *state.Document) (state.Object, error) {
	body := call.Rendered(doc).Clone()
	switch expand := call.Query.Get("$expand"); {
	case expand == "":
		return body, nil
	case !strings.EqualFold(expand, string(armcompute.RestorePointExpandOptionsInstanceView)):
		return nil, invalid("$expand", "The value '%s' of $expand is not supported. Supported values are: instanceView.", expand)
	}
	disks := []state.Object{}
	for disk := range below(call.View, doc, DiskType) {
		percent, access := p.disks.HeldState(disk)
		view := state.Object{"id": disk.ID, "snapshotAccessState": access}
		view.Set("replicationStatus.completionPercent", percent)
		disks = append(disks, view)
	}
	body.Set("properties.instanceView.diskRestorePoints", disks)
	status := state.Object{"code": "ProvisioningState/" + strings.ToLower(doc.Body.Text("properties.provisioningState")), "level": "Info"}
	body.Set("properties.instanceView.statuses", []state.Object{status})
	return body, nil
}

// renderDisk shows how far the background copy of an Ultra or Premium SSD v2 disk has come.
func (p *Provider) renderDisk(_ *state.View, doc *state.Document) state.Object {
	body := doc.Body.Clone()
	percent, access := p.disks.HeldState(doc)
	body.Set("properties.completionPercent", percent)
	body.Set("properties.snapshotAccessState", access)
	return body
}

package compute

import (
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/compute/facts"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

const (
	powerRunning     = facts.PowerRunning
	powerStopped     = "stopped"
	powerDeallocated = "deallocated"

	finishPower = "compute/power"
)

func machineVersions() arm.Versions {
	return arm.Versions{Oldest: "2018-04-01", Newest: "2026-04-01", Known: []string{
		"2026-04-01", "2026-03-01", "2025-04-01", "2024-11-01", "2024-07-01", "2024-03-01", "2023-09-01", "2023-07-01", "2023-03-01",
		"2022-11-01", "2022-08-01", "2022-03-01", "2021-11-01", "2021-07-01", "2021-04-01", "2021-03-01", "2020-12-01", "2020-06-01", "2019-12-01", "2019-07-01",
	}}
}

func (p *Provider) machineKind() arm.Type {
	return arm.Type{
		Name: machineType, Versions: machineVersions(),
		Put: p.putMachine, Patch: p.patchMachine, Deletable: p.machineDeletable, Remove: p.removeMachine,
		Get: p.getMachine, Item: p.listMachine, Render: p.renderMachine, Class: machineClass,
		Actions: map[string]arm.Action{
			"instanceview": {Method: http.MethodGet, Serve: p.instanceViewAnswer},
			"vmsizes":      {Method: http.MethodGet, Serve: func(call *arm.Call, _ *state.Document) (arm.Answer, error) { return listSizes(call) }},
			"start":        {Method: http.MethodPost, Write: true, Serve: p.power(powerRunning)},
			"restart":      {Method: http.MethodPost, Write: true, Serve: p.power(powerRunning)},
			"poweroff":     {Method: http.MethodPost, Write: true, Serve: p.power(powerStopped)},
			"deallocate":   {Method: http.MethodPost, Write: true, Serve: p.power(powerDeallocated)},
		},
	}
}

// machineClass gives the rate limits of azure.md §4.2.
func machineClass(method, action string, list bool) arm.Class {
	writing := func(name string) arm.Class {
		return arm.Class{Name: name, PerResource: 4, ResourceBucket: 12, PerSubscription: 500, SubscriptionSize: 1500}
	}
	switch {
	case list:
		return arm.Class{Name: "HighCostGet", PerSubscription: 300, SubscriptionSize: 900}
	case method == http.MethodGet || method == http.MethodHead:
		return arm.Class{Name: "LowCostGet", PerResource: 12, ResourceBucket: 36, PerSubscription: 8000, SubscriptionSize: 24000}
	case method == http.MethodPut:
		return writing("PutVM")
	case method == http.MethodDelete || action == "deallocate":
		return writing("DeleteVM")
	default:
		return writing("UpdateVM")
	}
}

func (p *Provider) putMachine(call *arm.Call, id string, existing *state.Document) (arm.Answer, error) {
	if _, err := decode[armcompute.VirtualMachine](call.Body); err != nil {
		return arm.Answer{}, err
	}
	body := call.Body
	dropReadOnly(body, "properties.vmId", "properties.timeCreated", "properties.provisioningState", "properties.instanceView", "resources")
	if existing != nil {
		return p.updateMachine(call, existing, body)
	}
	doc := call.NewDocument(id, body)
	if err := p.createMachine(call, doc); err != nil {
		return arm.Answer{}, err
	}
	doc.Body.Set("properties.provisioningState", "Creating")
	call.Tx.Put(doc)
	answer := arm.Answer{Status: http.StatusCreated, Body: call.Rendered(doc)}
	answer.Operation = arm.Provisioning(doc.ID, doc.Body.Text("location"), namespace, "operations")
	return answer, nil
}

// createMachine checks a new VM and takes hold of its disks and NICs.
func (p *Provider) createMachine(call *arm.Call, doc *state.Document) error {
	body := doc.Body
	if err := p.checkMachine(call, doc, nil); err != nil {
		return err
	}
	if err := p.attachDisks(call, doc, nil); err != nil {
		return err
	}
	if err := p.attachNICs(call, doc, nil); err != nil {
		return err
	}
	body.Set("properties.vmId", newID())
	body.Set("properties.timeCreated", call.Now)
	if strings.Contains(body.Text("identity.type"), "SystemAssigned") {
		body.Set("identity.principalId", newID())
	}
	doc.Hidden.Set(hiddenPower, powerRunning)
	doc.Hidden.Set(hiddenBoot, newID())
	return nil
}

// checkMachine applies the rules for the VM itself; before is the VM's present body, nil for a new one.
func (p *Provider) checkMachine(call *arm.Call, doc *state.Document, before state.Object) error {
	body := doc.Body
	name := body.Text("properties.hardwareProfile.vmSize")
	if name == "" {
		return required("hardwareProfile.vmSize")
	}
	size, known := findSize(name)
	if !known {
		return invalid("vmSize", "The value %s provided for the VM size is not valid. The twin lists its sizes at Microsoft.Compute/skus.", name)
	}
	if _, err := checkZones(body); err != nil {
		return err
	}
	if body.Object("properties.osProfile") != nil && (before == nil || before.Object("properties.osProfile") == nil) {
		if before != nil {
			return cannotChange("osProfile")
		}
		return invalid("osProfile", "Parameter 'osProfile' is not allowed when the OS disk is attached.")
	}
	if call.IsInside() {
		return nil // an estate may declare a quota that is exceeded already
	}
	return checkQuota(call, doc, size)
}

func checkQuota(call *arm.Call, doc *state.Document, size Size) error {
	body := doc.Body
	cores, _ := coresUsed(call.View, subscriptionOf(doc.ID), body.Text("location"), doc.ID)
	limit := coresLimit(call.View, subscriptionOf(doc.ID), body.Text("location"))
	if cores+size.VCPUs > limit {
		return arm.Errorf(http.StatusConflict, "OperationNotAllowed", "Operation could not be completed as it results in exceeding approved Total Regional Cores quota (QuotaExceeded). Location: %s, Current Limit: %d, Current Usage: %d, Additional Required: %d.",
			body.Text("location"), limit, cores, size.VCPUs).At("QuotaExceeded")
	}
	return nil
}

// attachNICs checks the VM's NICs, binds the new ones and frees those that are no longer named.
func (p *Provider) attachNICs(call *arm.Call, doc *state.Document, before state.Object) error {
	const path = "properties.networkProfile.networkInterfaces"
	nics := doc.Body.Objects(path)
	if len(nics) == 0 {
		return invalid("networkProfile.networkInterfaces", "Virtual Machine '%s' must have at least one network interface.", doc.Body.Text("name"))
	}
	held, primaries := map[string]bool{}, 0
	for _, reference := range nics {
		nic, err := p.freeNIC(call, doc, reference)
		if err != nil {
			return err
		}
		if held[nic.Key()] {
			return invalid("networkProfile.networkInterfaces", "Network interface %s is listed twice.", nic.ID)
		}
		held[nic.Key()] = true
		if reference.Flag("properties.primary") {
			primaries++
		}
		bound := nic.Clone()
		bound.Body.Set("properties.virtualMachine.id", doc.ID)
		call.Tx.Put(bound)
	}
	if primaries > 1 || len(nics) > 1 && primaries == 0 {
		return invalid("networkProfile.networkInterfaces", "Exactly one of %d network interfaces must be primary, not %d.", len(nics), primaries)
	}
	for _, reference := range before.Objects(path) {
		if !held[state.Key(reference.Text("id"))] {
			releaseNIC(call.Tx, reference.Text("id"), doc.ID)
		}
	}
	return nil
}

func (p *Provider) freeNIC(call *arm.Call, doc *state.Document, reference state.Object) (*state.Document, error) {
	id := reference.Text("id")
	nic := call.View.Get(id)
	if nic == nil || !isKind(id, nicType) {
		return nil, arm.Errorf(http.StatusBadRequest, "InvalidResourceReference", "Resource %s referenced by resource %s was not found.", id, doc.ID)
	}
	if err := oneOf(reference.Text("properties.deleteOption"), armcompute.PossibleDeleteOptionsValues(), "networkInterfaces.deleteOption"); err != nil {
		return nil, err
	}
	if holder := nic.Body.Text("properties.virtualMachine.id"); holder != "" && state.Key(holder) != doc.Key() {
		return nil, arm.Errorf(http.StatusBadRequest, "NicInUse", "Network Interface %s is used by existing resource %s.", nic.ID, holder)
	}
	if arm.Busy(nic) {
		return nil, arm.Errorf(http.StatusConflict, "AnotherOperationInProgress", "Another operation on the resource %s is in progress. Please retry later.", nic.ID)
	}
	if nic.Body.Text("location") != doc.Body.Text("location") {
		return nil, arm.Errorf(http.StatusBadRequest, "InvalidResourceReference", "The network interface %s is in another location than the VM.", nic.ID)
	}
	if !call.May(nicType + "/join/action") {
		return nil, linkedRefusalFor(call, nicType+"/join/action", nic.ID)
	}
	return nic, nil
}

func releaseNIC(tx *state.Tx, id, machine string) {
	nic := tx.Get(id)
	if nic == nil || state.Key(nic.Body.Text("properties.virtualMachine.id")) != state.Key(machine) {
		return
	}
	free := nic.Clone()
	free.Body.Remove("properties.virtualMachine")
	tx.Put(free)
}

func (p *Provider) patchMachine(call *arm.Call, existing *state.Document) (arm.Answer, error) {
	if _, err := decode[armcompute.VirtualMachineUpdate](call.Body); err != nil {
		return arm.Answer{}, err
	}
	dropReadOnly(call.Body, "properties.vmId", "properties.timeCreated", "properties.provisioningState", "properties.instanceView")
	return p.updateMachine(call, existing, call.Body)
}

// updateMachine lays a PUT's or PATCH's changes over the VM. Lists replace lists, so that a data disk left out is detached.
func (p *Provider) updateMachine(call *arm.Call, existing *state.Document, changes state.Object) (arm.Answer, error) {
	doc := existing.Clone()
	patch := changes.Given()
	patch.Remove("tags")
	patch.Remove("location")
	if identities := changes.Object("identity.userAssignedIdentities"); identities != nil {
		patch.Set("identity.userAssignedIdentities", identities.Clone()) // here null takes one away
	}
	doc.Body.Merge(patch)
	arm.ReplaceTags(doc, changes)
	if changes["zones"] != nil && strings.Join(doc.Body.Texts("zones"), ",") != strings.Join(existing.Body.Texts("zones"), ",") {
		return arm.Answer{}, cannotChange("zones")
	}
	for _, path := range []string{"properties.availabilitySet.id", "properties.virtualMachineScaleSet.id", "properties.storageProfile.osDisk.createOption", "properties.storageProfile.osDisk.osType", "properties.osProfile.computerName", "properties.osProfile.adminUsername"} {
		if changes.At(path) != nil && !strings.EqualFold(doc.Body.Text(path), existing.Body.Text(path)) {
			return arm.Answer{}, cannotChange(strings.TrimPrefix(path, "properties."))
		}
	}
	if err := p.checkMachine(call, doc, existing.Body); err != nil {
		return arm.Answer{}, err
	}
	if err := p.attachDisks(call, doc, existing.Body); err != nil {
		return arm.Answer{}, err
	}
	if err := p.attachNICs(call, doc, existing.Body); err != nil {
		return arm.Answer{}, err
	}
	doc.Body.Set("properties.provisioningState", "Updating")
	call.Tx.Put(doc)
	answer := arm.Answer{Status: http.StatusOK, Body: call.Rendered(doc)}
	answer.Operation = arm.Provisioning(doc.ID, doc.Body.Text("location"), namespace, "operations")
	return answer, nil
}

func (p *Provider) machineDeletable(*state.View, *state.Document) error { return nil }

// removeMachine deletes the VM and, by their delete options, its disks and NICs; the others are detached.
func (p *Provider) removeMachine(tx *state.Tx, doc *state.Document) error {
	tx.Delete(doc.ID)
	for _, disk := range diskReferences(doc.Body) {
		id := disk.Text("managedDisk.id")
		detach(tx, id, doc.ID)
		if held := tx.Get(id); held != nil && disk.Text("deleteOption") == string(armcompute.DiskDeleteOptionTypesDelete) && p.exports.ActiveCount(id) == 0 {
			if err := p.arm.Remove(tx, held.ID); err != nil {
				return err
			}
		}
	}
	for _, reference := range doc.Body.Objects("properties.networkProfile.networkInterfaces") {
		releaseNIC(tx, reference.Text("id"), doc.ID)
		if reference.Text("properties.deleteOption") == string(armcompute.DeleteOptionsDelete) && tx.Get(reference.Text("id")) != nil {
			if err := p.arm.Remove(tx, reference.Text("id")); err != nil {
				return err
			}
		}
	}
	return nil
}

// power returns the action that brings a VM into a power state.
func (p *Provider) power(wanted string) func(*arm.Call, *state.Document) (arm.Answer, error) {
	return func(_ *arm.Call, doc *state.Document) (arm.Answer, error) {
		for _, disk := range diskReferences(doc.Body) {
			if id := disk.Text("managedDisk.id"); wanted == powerRunning && id != "" && p.exports.ActiveCount(id) > 0 {
				return arm.Answer{}, notAllowed("The VM cannot be started: disk %s has an active shared access signature.", id)
			}
		}
		return arm.Answer{Operation: &arm.Operation{
			Kind: finishPower, Resource: doc.ID, Location: doc.Body.Text("location"), Namespace: namespace, Path: "operations", Arguments: state.Object{"power": wanted},
		}}, nil
	}
}

func (p *Provider) powered(tx *state.Tx, op *state.Document, now time.Time) (state.Object, error) {
	doc := tx.Get(op.Hidden.Text("resource"))
	if doc == nil {
		return nil, arm.Errorf(http.StatusNotFound, "ResourceNotFound", "The VM was removed while the operation was under way.")
	}
	changed := doc.Clone()
	changed.Hidden.Set(hiddenPower, op.Hidden.Text("arguments.power"))
	changed.Hidden.Set(hiddenBoot, newID()) // what a guest held in memory is gone
	tx.Put(changed)
	for _, reference := range diskReferences(doc.Body) {
		if disk := tx.Get(reference.Text("managedDisk.id")); disk != nil {
			owned := disk.Clone()
			owned.Body.Set("properties.LastOwnershipUpdateTime", now)
			tx.Put(owned)
		}
	}
	return nil, nil
}

func (p *Provider) getMachine(call *arm.Call, doc *state.Document) (state.Object, error) {
	body := call.Rendered(doc)
	switch expand := call.Query.Get("$expand"); {
	case expand == "":
	case strings.EqualFold(expand, string(armcompute.InstanceViewTypesInstanceView)):
		body.Set("properties.instanceView", p.instanceView(doc))
	case strings.EqualFold(expand, string(armcompute.InstanceViewTypesUserData)):
		if data := doc.Body.At("properties.userData"); data != nil {
			body.Set("properties.userData", data)
		}
	default:
		return nil, invalid("$expand", "The value '%s' of $expand is not supported. Supported values are: instanceView, userData.", expand)
	}
	return body, nil
}

func (p *Provider) listMachine(call *arm.Call, doc *state.Document) state.Object {
	body := call.Rendered(doc)
	if strings.EqualFold(call.Query.Get("statusOnly"), "true") || strings.EqualFold(call.Query.Get("$expand"), "instanceView") {
		body.Set("properties.instanceView", p.instanceView(doc))
	}
	return body
}

func (p *Provider) instanceViewAnswer(_ *arm.Call, doc *state.Document) (arm.Answer, error) {
	return arm.Answer{Body: p.instanceView(doc)}, nil
}

func (p *Provider) instanceView(doc *state.Document) state.Object {
	created := doc.Body.Time("properties.timeCreated")
	status := func(code, text string) state.Object {
		s := state.Object{"code": code, "level": "Info", "displayStatus": text}
		s.Set("time", created)
		return s
	}
	power := doc.Hidden.Text(hiddenPower)
	provisioning := strings.ToLower(doc.Body.Text("properties.provisioningState"))
	var disks []state.Object
	for _, reference := range diskReferences(doc.Body) {
		disk := state.Object{"name": reference.Text("name")}
		disk.Set("statuses", []state.Object{status("ProvisioningState/succeeded", "Provisioning succeeded")})
		disks = append(disks, disk)
	}
	view := state.Object{"osName": doc.Body.Text("properties.storageProfile.osDisk.osType"), "hyperVGeneration": "V2"}
	view.Set("disks", disks)
	view.Set("statuses", []state.Object{
		status("ProvisioningState/"+provisioning, "Provisioning "+provisioning),
		{"code": "PowerState/" + power, "level": "Info", "displayStatus": "VM " + power},
	})
	return view
}

// renderMachine shows the VM without its user data, which only $expand=userData brings, and with its disks' sizes.
func (p *Provider) renderMachine(view *state.View, doc *state.Document) state.Object {
	body := doc.Body.Clone()
	body.Remove("properties.userData")
	for _, reference := range diskReferences(body) {
		disk := view.Get(reference.Text("managedDisk.id"))
		if disk == nil {
			continue
		}
		reference.Set("managedDisk.id", disk.ID)
		if doc.Hidden.Text(hiddenPower) != powerDeallocated {
			reference.Set("managedDisk.storageAccountType", disk.Body.Text("sku.name"))
			reference.Set("diskSizeGB", disk.Body.Int("properties.diskSizeGB"))
		}
	}
	return body
}

package compute_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

const (
	machineVersion = "?api-version=2026-04-01"
	machinePrefix  = "/subscriptions/" + subscription + "/resourceGroups/shop/providers/Microsoft.Compute/virtualMachines/"
)

// freeDisk makes an unattached disk in the estate's zone, or in none.
func (w *world) freeDisk(name, sku, zone string, sizeGB int32, system bool) string {
	w.t.Helper()
	disk := emptyDisk(sizeGB, sku)
	if zone != "" {
		disk.Zones = []*string{to.Ptr(zone)}
	}
	if system {
		disk.Properties.OSType = to.Ptr(armcompute.OperatingSystemTypesLinux)
	}
	return *must(w.makeDisk(name, disk))(w.t).ID
}

func data(lun int32, id string) *armcompute.DataDisk {
	return &armcompute.DataDisk{Lun: to.Ptr(lun), CreateOption: to.Ptr(armcompute.DiskCreateOptionTypesAttach), ManagedDisk: &armcompute.ManagedDiskParameters{ID: to.Ptr(id)}}
}

// TestPutMachine_RefusesWhatThePlatformRefuses: each row spoils one thing of a VM that would be accepted.
func TestPutMachine_RefusesWhatThePlatformRefuses(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	osDisk := w.freeDisk("os", "Premium_LRS", "1", 32, true)
	plain := w.freeDisk("plain", "StandardSSD_LRS", "1", 4, false)
	large := w.freeDisk("large", "Premium_LRS", "1", 4096, false)
	ultra := w.freeDisk("ultra", "UltraSSD_LRS", "1", 4, false)
	elsewhere := w.freeDisk("elsewhere", "Premium_LRS", "2", 4, false)
	nic := must(w.makeNIC("n1", ""))(t)
	second := must(w.makeNIC("n2", ""))(t)
	north := emptyDisk(4, "Premium_LRS")
	north.Location = to.Ptr("northeurope")
	north.Zones = []*string{to.Ptr("1")}
	far := *must(w.makeDisk("far", north))(t).ID
	profile := func(vm *armcompute.VirtualMachine) *armcompute.StorageProfile { return vm.Properties.StorageProfile }
	for name, row := range map[string]struct {
		spoil  func(*armcompute.VirtualMachine)
		status int
		code   string
	}{
		"osProfile": {func(vm *armcompute.VirtualMachine) {
			vm.Properties.OSProfile = &armcompute.OSProfile{ComputerName: to.Ptr("x")}
		}, 400, "InvalidParameter"},
		"image and attached disk": {func(vm *armcompute.VirtualMachine) {
			profile(vm).ImageReference = &armcompute.ImageReference{ID: to.Ptr("x")}
		}, 400, "InvalidParameter"},
		"from an image": {func(vm *armcompute.VirtualMachine) {
			profile(vm).OSDisk.CreateOption = to.Ptr(armcompute.DiskCreateOptionTypesFromImage)
		}, 404, "PlatformImageNotFound"},
		"ephemeral by attaching": {func(vm *armcompute.VirtualMachine) {
			profile(vm).OSDisk.DiffDiskSettings = &armcompute.DiffDiskSettings{Option: to.Ptr(armcompute.DiffDiskOptionsLocal)}
		}, 400, "InvalidParameter"},
		"no osType": {func(vm *armcompute.VirtualMachine) { profile(vm).OSDisk.OSType = nil }, 400, "InvalidParameter"},
		"wrong osType": {func(vm *armcompute.VirtualMachine) {
			profile(vm).OSDisk.OSType = to.Ptr(armcompute.OperatingSystemTypesWindows)
		}, 400, "InvalidParameter"},
		"unknown size": {func(vm *armcompute.VirtualMachine) {
			vm.Properties.HardwareProfile.VMSize = to.Ptr(armcompute.VirtualMachineSizeTypes("Standard_Z9"))
		}, 400, "InvalidParameter"},
		"no premium": {func(vm *armcompute.VirtualMachine) {
			vm.Properties.HardwareProfile.VMSize = to.Ptr(armcompute.VirtualMachineSizeTypes("Standard_A2_v2"))
		}, 400, "InvalidParameter"},
		"missing OS disk": {func(vm *armcompute.VirtualMachine) { profile(vm).OSDisk.ManagedDisk.ID = to.Ptr(diskPrefix + "none") }, 404, "ResourceNotFound"},
		"disk in use": {func(vm *armcompute.VirtualMachine) {
			profile(vm).OSDisk.ManagedDisk.ID = to.Ptr(diskPrefix + "web-1-os")
		}, 409, "ConflictingUserInput"},
		"no zone": {func(vm *armcompute.VirtualMachine) { vm.Zones = nil }, 400, "BadRequest"},
		"another zone": {func(vm *armcompute.VirtualMachine) {
			profile(vm).DataDisks = []*armcompute.DataDisk{data(0, elsewhere)}
		}, 400, "BadRequest"},
		"another region": {func(vm *armcompute.VirtualMachine) { profile(vm).DataDisks = []*armcompute.DataDisk{data(0, far)} }, 400, "InvalidParameter"},
		"one LUN twice": {func(vm *armcompute.VirtualMachine) {
			profile(vm).DataDisks = []*armcompute.DataDisk{data(3, plain), data(3, large)}
		}, 400, "InvalidParameter"},
		"one disk twice": {func(vm *armcompute.VirtualMachine) {
			profile(vm).DataDisks = []*armcompute.DataDisk{data(1, plain), data(2, plain)}
		}, 400, "InvalidParameter"},
		"LUN 64": {func(vm *armcompute.VirtualMachine) { profile(vm).DataDisks = []*armcompute.DataDisk{data(64, plain)} }, 400, "InvalidParameter"},
		"too many disks": {func(vm *armcompute.VirtualMachine) {
			for lun := range int32(5) {
				profile(vm).DataDisks = append(profile(vm).DataDisks, data(lun, plain))
			}
		}, 409, "OperationNotAllowed"},
		"cached 4 TiB": {func(vm *armcompute.VirtualMachine) {
			d := data(0, large)
			d.Caching = to.Ptr(armcompute.CachingTypesReadOnly)
			profile(vm).DataDisks = []*armcompute.DataDisk{d}
		}, 400, "InvalidParameter"},
		"unknown caching": {func(vm *armcompute.VirtualMachine) {
			d := data(0, plain)
			d.Caching = to.Ptr(armcompute.CachingTypes("Sometimes"))
			profile(vm).DataDisks = []*armcompute.DataDisk{d}
		}, 400, "InvalidParameter"},
		"ultra not enabled": {func(vm *armcompute.VirtualMachine) { profile(vm).DataDisks = []*armcompute.DataDisk{data(0, ultra)} }, 400, "InvalidParameter"},
		"cached ultra": {func(vm *armcompute.VirtualMachine) {
			vm.Properties.AdditionalCapabilities = &armcompute.AdditionalCapabilities{UltraSSDEnabled: to.Ptr(true)}
			d := data(0, ultra)
			d.Caching = to.Ptr(armcompute.CachingTypesReadWrite)
			profile(vm).DataDisks = []*armcompute.DataDisk{d}
		}, 400, "InvalidParameter"},
		"no NIC": {func(vm *armcompute.VirtualMachine) { vm.Properties.NetworkProfile = nil }, 400, "InvalidParameter"},
		"missing NIC": {func(vm *armcompute.VirtualMachine) {
			vm.Properties.NetworkProfile.NetworkInterfaces[0].ID = to.Ptr(nicPrefix + "none")
		}, 400, "InvalidResourceReference"},
		"NIC in use": {func(vm *armcompute.VirtualMachine) {
			vm.Properties.NetworkProfile.NetworkInterfaces[0].ID = to.Ptr(nicPrefix + "web-1-nic")
		}, 400, "NicInUse"},
		"no primary NIC": {func(vm *armcompute.VirtualMachine) {
			vm.Properties.NetworkProfile.NetworkInterfaces = append(vm.Properties.NetworkProfile.NetworkInterfaces, &armcompute.NetworkInterfaceReference{ID: to.Ptr(second)})
		}, 400, "InvalidParameter"},
	} {
		vm := machine("Standard_D2s_v5", osDisk, nic)
		row.spoil(&vm)
		body := must(json.Marshal(vm))(t)
		status, _, answer := w.raw(http.MethodPut, machinePrefix+"refused"+machineVersion, string(body))
		if status != row.status || answer.Text("error.code") != row.code {
			t.Errorf("%s: %d %v, want %d %s", name, status, answer, row.status, row.code)
		}
	}
	if disk := must(w.disks.Get(t.Context(), group, "os", nil))(t); disk.ManagedBy != nil {
		t.Errorf("a refused VM holds its disk: %v", *disk.ManagedBy)
	}
	must(w.makeMachine("accepted", machine("Standard_D2s_v5", osDisk, nic, data(0, plain), data(5, large))))(t)
	accepted := must(w.machines.Get(t.Context(), group, "accepted", nil))(t)
	disks := accepted.Properties.StorageProfile.DataDisks
	if *disks[0].Caching != "None" || *disks[1].Caching != "None" || *disks[1].Name != "large" || *disks[1].DiskSizeGB != 4096 || *accepted.Properties.StorageProfile.OSDisk.Caching != "ReadWrite" {
		t.Errorf("defaults %+v %+v", *disks[0], *disks[1])
	}
}

// TestPutMachine_Quota: the vCPUs of a location run out, and usages tell.
func TestPutMachine_Quota(t *testing.T) {
	e := plainEstate()
	e.VirtualMachines[0].Size = "Standard_D8s_v5"
	e.Quotas = []estate.Quota{{Location: "westeurope", Cores: 4}} // exceeded by what the estate has
	exceeded := newWorld(t, clock.System{}, e)
	_, err := exceeded.makeMachine("none", machine("Standard_B1ms", exceeded.freeDisk("os", "Premium_LRS", "1", 32, true), must(exceeded.makeNIC("n", ""))(t)))
	wantCode(t, err, "OperationNotAllowed")

	e = plainEstate()
	e.Quotas = []estate.Quota{{Location: "westeurope", Cores: 6}}
	w := newWorld(t, clock.System{}, e)
	osDisk, nic := w.freeDisk("os", "Premium_LRS", "1", 32, true), must(w.makeNIC("n", ""))(t)
	_, err = w.makeMachine("big", machine("Standard_D4s_v5", osDisk, nic))
	wantCode(t, err, "OperationNotAllowed")
	if !strings.Contains(err.Error(), "QuotaExceeded") {
		t.Fatalf("the refusal does not name the quota: %v", err)
	}
	must(w.makeMachine("small", machine("Standard_D2s_v5", osDisk, nic)))(t)
	usage := must(armcompute.NewUsageClient(subscription, &azfake.TokenCredential{}, w.options))(t)
	page := must(usage.NewListPager("West Europe", nil).NextPage(t.Context()))(t)
	for _, u := range page.Value {
		if *u.Name.Value == "cores" && (*u.CurrentValue != 6 || *u.Limit != 6) {
			t.Fatalf("cores %d of %d", *u.CurrentValue, *u.Limit)
		}
	}
}

// TestMachine_ViewsAndExpansions: instance view, user data only on demand, raw members kept, status in lists.
func TestMachine_ViewsAndExpansions(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	osDisk, nic := w.freeDisk("os", "Premium_LRS", "1", 32, true), must(w.makeNIC("n", ""))(t)
	vm := machine("Standard_D2s_v5", osDisk, nic)
	vm.Properties.UserData, vm.Tags = to.Ptr("c2VjcmV0"), map[string]*string{"a": to.Ptr("b")}
	vm.Identity = &armcompute.VirtualMachineIdentity{Type: to.Ptr(armcompute.ResourceIdentityTypeSystemAssigned)}
	must(w.makeMachine("vm", vm))(t)
	plain := must(w.machines.Get(t.Context(), group, "vm", nil))(t)
	if plain.Properties.UserData != nil || plain.Properties.InstanceView != nil || plain.Properties.TimeCreated == nil || plain.Identity.PrincipalID == nil || *plain.Tags["a"] != "b" || *plain.Zones[0] != "1" {
		t.Fatalf("plain GET %+v", plain.Properties)
	}
	expanded := must(w.machines.Get(t.Context(), group, "vm", &armcompute.VirtualMachinesClientGetOptions{Expand: to.Ptr(armcompute.InstanceViewTypesUserData)}))(t)
	if *expanded.Properties.UserData != "c2VjcmV0" {
		t.Fatal("user data is lost")
	}
	viewed := must(w.machines.Get(t.Context(), group, "vm", &armcompute.VirtualMachinesClientGetOptions{Expand: to.Ptr(armcompute.InstanceViewTypesInstanceView)}))(t)
	if !hasStatus(viewed.Properties.InstanceView.Statuses, "PowerState/running") {
		t.Fatalf("instance view %+v", viewed.Properties.InstanceView)
	}
	if status, _, body := w.raw(http.MethodGet, machinePrefix+"vm"+machineVersion+"&$expand=everything", ""); status != http.StatusBadRequest {
		t.Fatalf("unknown expansion: %d %v", status, body)
	}
	pager := w.machines.NewListAllPager(&armcompute.VirtualMachinesClientListAllOptions{StatusOnly: to.Ptr("true")})
	for _, listed := range must(pager.NextPage(t.Context()))(t).Value {
		if listed.Properties.InstanceView == nil {
			t.Errorf("%s has no status", *listed.Name)
		}
	}
}

func hasStatus(statuses []*armcompute.InstanceViewStatus, code string) bool {
	for _, status := range statuses {
		if *status.Code == code {
			return true
		}
	}
	return false
}

// TestMachine_Power: start, power off and deallocate move the power state.
func TestMachine_Power(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	power := func() string {
		view := must(w.machines.InstanceView(t.Context(), group, "web-1", nil))(t)
		for _, status := range view.Statuses {
			if code, found := strings.CutPrefix(*status.Code, "PowerState/"); found {
				return code
			}
		}
		return ""
	}
	off, err := w.machines.BeginPowerOff(t.Context(), group, "web-1", nil)
	done(t, off, err)
	if power() != "stopped" {
		t.Errorf("after power off: %s", power())
	}
	deallocate, err := w.machines.BeginDeallocate(t.Context(), group, "web-1", nil)
	done(t, deallocate, err)
	if power() != "deallocated" {
		t.Errorf("after deallocate: %s", power())
	}
	start, err := w.machines.BeginStart(t.Context(), group, "web-1", nil)
	done(t, start, err)
	if power() != "running" {
		t.Errorf("after start: %s", power())
	}
}

// TestUpdateMachine: PATCH and PUT attach and detach data disks and refuse what only a new VM can have.
func TestUpdateMachine_DataDisksAndFixedProperties(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	extra := w.freeDisk("extra", "Premium_LRS", "1", 8, false)
	update := func(change armcompute.VirtualMachineUpdate) (armcompute.VirtualMachine, error) {
		poller, err := w.machines.BeginUpdate(t.Context(), group, "web-1", change, nil)
		result, err := finish(t, poller, err)
		return result.VirtualMachine, err
	}
	with := func(disks ...*armcompute.DataDisk) armcompute.VirtualMachineUpdate {
		return armcompute.VirtualMachineUpdate{Properties: &armcompute.VirtualMachineProperties{StorageProfile: &armcompute.StorageProfile{DataDisks: disks}}}
	}
	vm := must(update(with(data(0, dataDisk), data(1, extra))))(t)
	if len(vm.Properties.StorageProfile.DataDisks) != 2 || *must(w.disks.Get(t.Context(), group, "extra", nil))(t).ManagedBy != machineID {
		t.Fatal("the disk was not attached")
	}
	must(update(with(data(1, extra))))(t)
	if free := must(w.disks.Get(t.Context(), group, "web-1-data", nil))(t); free.ManagedBy != nil || *free.Properties.DiskState != armcompute.DiskStateUnattached {
		t.Fatal("the disk that was left out is still attached")
	}
	_, err := update(armcompute.VirtualMachineUpdate{Zones: []*string{to.Ptr("2")}})
	wantCode(t, err, "PropertyChangeNotAllowed")
	_, err = update(armcompute.VirtualMachineUpdate{Properties: &armcompute.VirtualMachineProperties{OSProfile: &armcompute.OSProfile{ComputerName: to.Ptr("other")}}})
	wantCode(t, err, "PropertyChangeNotAllowed")

	swap := w.freeDisk("swap", "Premium_LRS", "1", 32, true)
	osChange := armcompute.VirtualMachineUpdate{Properties: &armcompute.VirtualMachineProperties{StorageProfile: &armcompute.StorageProfile{OSDisk: &armcompute.OSDisk{Name: to.Ptr("swap"), ManagedDisk: &armcompute.ManagedDiskParameters{ID: to.Ptr(swap)}}}}}
	_, err = update(osChange)
	wantCode(t, err, "OperationNotAllowed")
	deallocate, err := w.machines.BeginDeallocate(t.Context(), group, "web-1", nil)
	done(t, deallocate, err)
	must(update(osChange))(t)
	if old := must(w.disks.Get(t.Context(), group, "web-1-os", nil))(t); old.ManagedBy != nil {
		t.Fatal("the swapped-out OS disk is still attached")
	}

	osDisk, nic := w.freeDisk("os", "Premium_LRS", "1", 32, true), must(w.makeNIC("n", ""))(t)
	created := must(w.makeMachine("bare", machine("Standard_D2s_v5", osDisk, nic)))(t)
	created.Properties.OSProfile = &armcompute.OSProfile{ComputerName: to.Ptr("late")}
	_, err = w.makeMachine("bare", created)
	wantCode(t, err, "PropertyChangeNotAllowed")
}

// TestDeleteMachine_FollowsDeleteOptions: what is on Delete goes with the VM, the rest is detached.
func TestDeleteMachine_FollowsDeleteOptions(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	osDisk, kept := w.freeDisk("os", "Premium_LRS", "1", 32, true), w.freeDisk("kept", "Premium_LRS", "1", 4, false)
	nic := must(w.makeNIC("n", ""))(t)
	vm := machine("Standard_D2s_v5", osDisk, nic, data(0, kept))
	vm.Properties.StorageProfile.OSDisk.DeleteOption = to.Ptr(armcompute.DiskDeleteOptionTypesDelete)
	vm.Properties.NetworkProfile.NetworkInterfaces[0].Properties = &armcompute.NetworkInterfaceReferenceProperties{DeleteOption: to.Ptr(armcompute.DeleteOptionsDelete)}
	must(w.makeMachine("vm", vm))(t)
	if status, _, body := w.raw(http.MethodDelete, nic+"?api-version="+networkVersion, ""); status != http.StatusBadRequest || body.Text("error.code") != "NicInUse" {
		t.Fatalf("deleting a NIC in use: %d %v", status, body)
	}
	poller, err := w.machines.BeginDelete(t.Context(), group, "vm", nil)
	done(t, poller, err)
	for id, want := range map[string]int{osDisk + diskVersion: 404, kept + diskVersion: 200, nic + "?api-version=" + networkVersion: 404, machinePrefix + "vm" + machineVersion: 404} {
		if status, _, _ := w.raw(http.MethodGet, id, ""); status != want {
			t.Errorf("%s: %d, want %d", id, status, want)
		}
	}
	if disk := must(w.disks.Get(t.Context(), group, "kept", nil))(t); disk.ManagedBy != nil {
		t.Error("the kept disk is still attached")
	}
}

// TestPutMachine_NeedsTheRightToJoinTheNIC.
func TestPutMachine_NeedsTheRightToJoinTheNIC(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	osDisk, nic := w.freeDisk("os", "Premium_LRS", "1", 32, true), must(w.makeNIC("n", ""))(t)
	w.arm.SetPermissions([]arm.Permission{{Actions: []string{"*"}, NotActions: []string{"Microsoft.Network/*/join/action"}}})
	_, err := w.makeMachine("vm", machine("Standard_D2s_v5", osDisk, nic))
	wantCode(t, err, "LinkedAuthorizationFailed")
}

// TestSKUs_ArePagedAndNameZones: what a preflight asks about sizes, disks and snapshots of a location.
func TestSKUs_ArePagedAndNameZones(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	client := must(armcompute.NewResourceSKUsClient(subscription, &azfake.TokenCredential{}, w.options))(t)
	pager := client.NewListPager(&armcompute.ResourceSKUsClientListOptions{Filter: to.Ptr("location eq 'westeurope'")})
	pages, found := 0, map[string]*armcompute.ResourceSKU{}
	for pager.More() {
		page := must(pager.NextPage(t.Context()))(t)
		pages++
		for _, sku := range page.Value {
			key := *sku.ResourceType + "/" + *sku.Name
			if found[key] != nil {
				t.Errorf("%s is listed twice", key)
			}
			found[key] = sku
		}
	}
	if pages < 2 {
		t.Errorf("%d SKUs on %d page", len(found), pages)
	}
	for _, key := range []string{"virtualMachines/Standard_D2s_v5", "virtualMachines/Standard_D4s_v5", "virtualMachines/Standard_D8s_v5", "virtualMachines/Standard_B2s", "virtualMachines/Standard_B1ms", "virtualMachines/Standard_E4s_v5", "virtualMachines/Standard_D2s_v3", "disks/UltraSSD_LRS", "disks/PremiumV2_LRS", "snapshots/Standard_ZRS"} {
		if sku := found[key]; sku == nil || len(sku.LocationInfo[0].Zones) != 3 {
			t.Errorf("%s: %+v", key, sku)
		}
	}
	capabilities := map[string]string{}
	for _, c := range found["virtualMachines/Standard_D4s_v5"].Capabilities {
		capabilities[*c.Name] = *c.Value
	}
	if capabilities["vCPUs"] != "4" || capabilities["MemoryGB"] != "16" || capabilities["PremiumIO"] != "True" || capabilities["MaxDataDiskCount"] != "8" {
		t.Errorf("capabilities %v", capabilities)
	}
	pager = client.NewListPager(&armcompute.ResourceSKUsClientListOptions{Filter: to.Ptr("location eq 'westus'")})
	for pager.More() {
		for _, sku := range must(pager.NextPage(t.Context()))(t).Value {
			if *sku.ResourceType == "snapshots" && *sku.Name == "Standard_ZRS" {
				t.Error("a region without zones offers ZRS snapshots")
			}
		}
	}
}

// TestStorageAccount_IsAResource with keys on demand.
func TestStorageAccount_IsAResource(t *testing.T) {
	w := newWorld(t, clock.System{}, plainEstate())
	id := "/subscriptions/" + subscription + "/resourceGroups/shop/providers/Microsoft.Storage/storageAccounts/shopvault"
	_, _, account := w.raw(http.MethodGet, id+"?api-version=2025-01-01", "")
	if account.Text("properties.primaryEndpoints.blob") != "https://127.0.0.1/shopvault/" || account.Text("kind") != "StorageV2" {
		t.Fatalf("account %v", account)
	}
	_, _, keys := w.raw(http.MethodPost, id+"/listKeys?api-version=2025-01-01", "")
	if listed := keys.Objects("keys"); len(listed) != 1 || len(listed[0].Text("value")) != 88 {
		t.Fatalf("keys %v", keys)
	}
	_, _, listed := w.raw(http.MethodGet, "/subscriptions/"+subscription+"/providers/Microsoft.Storage/storageAccounts?api-version=2025-01-01", "")
	if len(listed.Objects("value")) != 1 {
		t.Fatalf("list %v", listed)
	}
	if status, _, body := w.raw(http.MethodPut, strings.Replace(id, "shopvault", "Shop-Vault", 1)+"?api-version=2025-01-01", `{"location":"westeurope"}`); status != http.StatusBadRequest || body.Text("error.code") != "AccountNameInvalid" {
		t.Fatalf("bad name: %d %v", status, body)
	}
	view := w.state.View()
	if doc := view.Get(id); doc == nil || strings.Contains(string(must(json.Marshal(state.Object(account)))(t)), doc.Hidden.Text("key")) {
		t.Fatal("the key shows in a GET")
	}
}

// TestMachine_RateLimitsOfTheProvider: 36 GETs of one VM, then one every five seconds; another VM has its own bucket.
func TestMachine_RateLimitsOfTheProvider(t *testing.T) {
	manual := clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	w := newWorld(t, manual, plainEstate())
	w.arm.SetLimits(arm.Limits{})
	for i := range 36 {
		status, header, _ := w.raw(http.MethodGet, machineID+machineVersion, "")
		if want := fmt.Sprintf("Microsoft.Compute/LowCostGetResource;%d", 35-i); status != http.StatusOK || !strings.Contains(header.Get("x-ms-ratelimit-remaining-resource"), want) {
			t.Fatalf("GET %d: %d %v", i, status, header)
		}
	}
	status, header, body := w.raw(http.MethodGet, strings.ToUpper(machineID)+machineVersion, "")
	if status != http.StatusTooManyRequests || body.Text("error.code") != "TooManyRequests" || header.Get("Retry-After") != "5" {
		t.Fatalf("GET 37: %d %v %v", status, header, body)
	}
	if status, _, _ = w.raw(http.MethodGet, machinePrefix+"other"+machineVersion, ""); status != http.StatusNotFound {
		t.Fatalf("another VM: %d", status)
	}
	manual.Advance(5 * time.Second)
	if status, _, _ = w.raw(http.MethodGet, machineID+machineVersion, ""); status != http.StatusOK {
		t.Fatalf("after the wait: %d", status)
	}
}

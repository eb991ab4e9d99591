package azure

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/answer"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// readsAtOnce bounds the reads in flight for one machine or one listing; Azure allows 25 a second and subscription.
const readsAtOnce = 8

// Exists reports whether a machine is there, by a direct read.
func (c *Client) Exists(ctx context.Context, id holdfast.ResourceID) (bool, error) {
	_, err := c.Machine(ctx, id)
	if holdfast.IsKind(err, holdfast.KindNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Machine reads a virtual machine with everything that belongs to it. KindNotFound when there is none; then the hint says
// how to list those that exist.
func (c *Client) Machine(ctx context.Context, id holdfast.ResourceID) (machine.VM, error) {
	doing := "read the virtual machine " + id.Name()
	if typeOf(id) != typeMachine {
		return machine.VM{}, holdfast.Errorf(holdfast.KindInvalid, "%s is not a virtual machine", id).WithField("vm").
			WithHint("write it as /subscriptions/<id>/resourceGroups/<name>/providers/Microsoft.Compute/virtualMachines/<name>")
	}
	vm, sdk, err := c.readMachine(ctx, id)
	if answer.NotFound(err) {
		return machine.VM{}, holdfast.Wrap(holdfast.KindNotFound, err, "there is no virtual machine %s", id).
			WithHint("`holdfast vm list` shows those that exist and can be seen")
	}
	if err != nil {
		return machine.VM{}, answer.Explain(err, doing)
	}
	disks := placesOf(sdk)
	documents := make([]holdfast.Document, len(disks)+len(vm.NICs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for i := range disks {
		if disks[i].ID != "" {
			group.Go(func() (err error) { documents[i], err = c.readDisk(ctx, &disks[i]); return err })
		}
	}
	for i, nic := range vm.NICs {
		group.Go(func() error {
			r, err := c.Resource(ctx, nic)
			documents[len(disks)+i] = r.Document
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return machine.VM{}, answer.Explain(err, doing)
	}
	vm.Disks = disks
	for _, d := range documents {
		if d.ID != "" {
			vm.Documents = append(vm.Documents, d)
		}
	}
	return vm, nil
}

// readMachine reads the VM's own document and its instance view. The instance view is a document of its own: it is state,
// not configuration.
func (c *Client) readMachine(ctx context.Context, id holdfast.ResourceID) (machine.VM, armcompute.VirtualMachine, error) {
	sub, err := c.in(id.Subscription())
	if err != nil {
		return machine.VM{}, armcompute.VirtualMachine{}, err
	}
	var sdk armcompute.VirtualMachine
	own, err := captured(ctx, id, func(ctx context.Context) error {
		response, err := sub.machines.Get(ctx, id.ResourceGroup(), id.Name(), &armcompute.VirtualMachinesClientGetOptions{
			Expand: pointer(armcompute.InstanceViewTypesUserData), // user data comes on request only
		})
		sdk = response.VirtualMachine
		return err
	})
	if err != nil {
		return machine.VM{}, sdk, err
	}
	var view armcompute.VirtualMachineInstanceView
	state, err := captured(ctx, id+"/instanceView", func(ctx context.Context) error {
		response, err := sub.machines.InstanceView(ctx, id.ResourceGroup(), id.Name(), nil)
		view = response.VirtualMachineInstanceView
		return err
	})
	if err != nil {
		return machine.VM{}, sdk, err
	}
	vm := machineOf(sdk)
	vm.Power = powerOf(view.Statuses)
	own.ID, state.ID = vm.ID, vm.ID+"/instanceView"
	vm.Documents = []holdfast.Document{own, state}
	return vm, sdk, nil
}

// readDisk reads a disk's own resource and completes the disk in its place.
func (c *Client) readDisk(ctx context.Context, d *machine.Disk) (holdfast.Document, error) {
	sub, err := c.in(d.ID.Subscription())
	if err != nil {
		return holdfast.Document{}, err
	}
	var sdk armcompute.Disk
	document, err := captured(ctx, d.ID, func(ctx context.Context) error {
		response, err := sub.disks.Get(ctx, d.ID.ResourceGroup(), d.ID.Name(), nil)
		sdk = response.Disk
		return err
	})
	if err != nil {
		return holdfast.Document{}, answer.Explain(err, "read the disk "+d.ID.Name())
	}
	describe(d, sdk)
	document.ID = d.ID
	return document, nil
}

// describe completes a disk in its place with what its own resource says.
func describe(d *machine.Disk, sdk armcompute.Disk) {
	if sdk.ID != nil {
		d.ID = holdfast.ResourceID(*sdk.ID)
	}
	d.Name, d.Location, d.Tags = text(sdk.Name), text(sdk.Location), tagsOf(sdk.Tags)
	if sdk.SKU != nil {
		d.SKU = text(sdk.SKU.Name)
	}
	p := sdk.Properties
	if p == nil {
		return
	}
	d.UniqueID, d.State, d.MaxShares = text(p.UniqueID), text(p.DiskState), int(value(p.MaxShares))
	d.NetworkAccess, d.PublicAccess = text(p.NetworkAccessPolicy), text(p.PublicNetworkAccess)
	d.DataAccessAuthMode = text(p.DataAccessAuthMode)
	if d.SizeBytes = value(p.DiskSizeBytes); d.SizeBytes == 0 {
		d.SizeBytes = int64(value(p.DiskSizeGB)) << 30
	}
	if p.SecurityProfile != nil {
		d.SecurityType = text(p.SecurityProfile.SecurityType)
	}
	if p.CreationData != nil {
		d.LogicalSectorBytes = int(value(p.CreationData.LogicalSectorSize))
	}
}

// machineOf keeps what the flows need of the VM itself.
func machineOf(sdk armcompute.VirtualMachine) machine.VM {
	vm := machine.VM{
		ID: holdfast.ResourceID(text(sdk.ID)), Name: text(sdk.Name), Location: text(sdk.Location),
		Zone: first(sdk.Zones), Tags: tagsOf(sdk.Tags),
	}
	p := sdk.Properties
	if p == nil {
		return vm
	}
	if p.HardwareProfile != nil {
		vm.Size = text(p.HardwareProfile.VMSize)
	}
	if p.StorageProfile != nil && p.StorageProfile.OSDisk != nil {
		vm.OS = text(p.StorageProfile.OSDisk.OSType)
	}
	if p.NetworkProfile != nil {
		for _, nic := range p.NetworkProfile.NetworkInterfaces {
			if nic != nil && nic.ID != nil {
				vm.NICs = append(vm.NICs, holdfast.ResourceID(*nic.ID))
			}
		}
	}
	return vm
}

// placesOf lists the disks as the VM refers to them, the OS disk first.
func placesOf(sdk armcompute.VirtualMachine) []machine.Disk {
	if sdk.Properties == nil || sdk.Properties.StorageProfile == nil {
		return nil
	}
	var disks []machine.Disk
	profile := sdk.Properties.StorageProfile
	if os := profile.OSDisk; os != nil {
		disks = append(disks, machine.Disk{
			LUN: holdfast.OSDisk, Name: text(os.Name), ID: managedID(os.ManagedDisk), Caching: text(os.Caching),
			SizeBytes: int64(value(os.DiskSizeGB)) << 30,
			Ephemeral: os.DiffDiskSettings != nil && os.DiffDiskSettings.Option != nil,
		})
	}
	data := slices.Clone(profile.DataDisks)
	slices.SortFunc(data, func(a, b *armcompute.DataDisk) int { return cmp.Compare(value(a.Lun), value(b.Lun)) })
	for _, d := range data {
		disks = append(disks, machine.Disk{
			LUN: holdfast.LUN(strconv.Itoa(int(value(d.Lun)))), Name: text(d.Name), ID: managedID(d.ManagedDisk), Caching: text(d.Caching),
			SizeBytes: int64(value(d.DiskSizeGB)) << 30,
		})
	}
	// An ephemeral disk lives on the host; whatever id the VM shows for it leads to no disk that could be read.
	for i := range disks {
		if disks[i].Ephemeral {
			disks[i].ID = ""
		}
	}
	return disks
}

func managedID(m *armcompute.ManagedDiskParameters) holdfast.ResourceID {
	if m == nil {
		return ""
	}
	return holdfast.ResourceID(text(m.ID))
}

// powerOf finds the power state among the statuses, which are codes such as PowerState/running.
func powerOf(statuses []*armcompute.InstanceViewStatus) string {
	for _, s := range statuses {
		if s == nil {
			continue
		}
		if state, found := strings.CutPrefix(text(s.Code), "PowerState/"); found {
			return state
		}
	}
	return ""
}

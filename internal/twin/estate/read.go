// Package estate reads the estate file: what exists in the twin when it starts.
//
// It promises that an Estate it returns is whole: every reference leads somewhere, names are unique where Azure wants
// them unique, and sizes, SKUs, LUNs, zones and levels are ones that the platform has. Any mistake is an error of
// KindInvalid that names file, line, column and field and says what is accepted. It must never guess: the only values it
// fills in are those documented at Read. Nothing is created here; the twin's providers do that.
//
// The rules come from the contract and, for disks, from the platform's limits (disk types page of Microsoft
// Learn, 2026): 32,767 GiB, 65,536 for Ultra and Premium v2, 4,095 for OS disks; host caching below 4,096 GiB only.
package estate

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/strictyaml"
)

// Read reads and checks an estate file. It fills in what the file leaves out: a disk's SKU is Standard_LRS, its caching
// None, its network access policy AllowAll; a VM without subnet gets the network GROUP-vnet (10.0.0.0/16) of its group
// with the subnet "default" (10.0.0.0/24), as the portal would make it. Image paths stay as written; they are relative to
// the file's folder and were found there.
func Read(file string) (Estate, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Estate{}, holdfast.Wrap(holdfast.KindNotFound, err, "the estate file %s cannot be read", file)
	}
	return Parse(filepath.Base(file), data, filepath.Dir(file))
}

// Parse is Read for text that is already in memory: name stands for the file in errors, imageFolder is where relative
// image paths begin.
func Parse(name string, data []byte, imageFolder string) (Estate, error) {
	var e Estate
	document, err := strictyaml.Decode(name, data, &e)
	if err != nil {
		return Estate{}, err
	}
	c := &checker{estate: &e, document: document, imageFolder: imageFolder}
	if err := c.check(); err != nil {
		return Estate{}, err
	}
	e.fillIn()
	return e, nil
}

// SubscriptionID returns the id of the group's subscription, which the file may name by name or id.
func (e Estate) SubscriptionID(group ResourceGroup) string {
	for _, subscription := range e.Subscriptions {
		if subscription.is(group.Subscription) {
			return subscription.ID
		}
	}
	return ""
}

// Group returns the resource group of that name.
func (e Estate) Group(name string) (ResourceGroup, bool) {
	for _, group := range e.ResourceGroups {
		if equalFold(group.Name, name) {
			return group, true
		}
	}
	return ResourceGroup{}, false
}

// SubnetOf returns the network and subnet that reference, written NETWORK/SUBNET, names.
func (e Estate) SubnetOf(reference string) (Network, Subnet, bool) {
	for _, network := range e.Networks {
		for _, subnet := range network.Subnets {
			if equalFold(network.Name+"/"+subnet.Name, reference) {
				return network, subnet, true
			}
		}
	}
	return Network{}, Subnet{}, false
}

// fillIn sets the documented defaults of a checked estate.
func (e *Estate) fillIn() {
	for i := range e.VirtualMachines {
		vm := &e.VirtualMachines[i]
		if vm.Subnet == "" {
			vm.Subnet = e.defaultSubnet(vm.ResourceGroup)
		}
		vm.OSDisk.fillIn()
		for j := range vm.DataDisks {
			vm.DataDisks[j].fillIn()
		}
	}
}

func (e *Estate) defaultSubnet(group string) string {
	network := Network{
		Name: defaultNetworkName(group), ResourceGroup: group, AddressPrefix: "10.0.0.0/16",
		Subnets: []Subnet{{Name: "default", AddressPrefix: "10.0.0.0/24"}},
	}
	reference := network.Name + "/default"
	if _, _, found := e.SubnetOf(reference); !found {
		e.Networks = append(e.Networks, network)
	}
	return reference
}

func defaultNetworkName(group string) string { return group + "-vnet" }

func (d *Disk) fillIn() {
	if d.SKU == "" {
		d.SKU = "Standard_LRS"
	}
	if d.Caching == "" {
		d.Caching = "None"
	}
	if d.NetworkAccessPolicy == "" {
		d.NetworkAccessPolicy = "AllowAll"
	}
}

func (s Subscription) is(reference string) bool {
	return s.Name == reference || equalFold(s.ID, reference)
}

// diskKind is what the platform says about a disk SKU.
type diskKind struct {
	sizeMaxGiB     int64
	osDisk, shared bool
	sectorChoice   bool // logicalSectorBytes may be set; such disks have no host caching
}

// diskKinds lists the SKUs of managed disks; snapshots' SKUs are not among them.
func diskKinds() map[string]diskKind {
	const ordinary, large = 32767, 65536
	return map[string]diskKind{
		"Standard_LRS":    {sizeMaxGiB: ordinary, osDisk: true},
		"StandardSSD_LRS": {sizeMaxGiB: ordinary, osDisk: true, shared: true},
		"StandardSSD_ZRS": {sizeMaxGiB: ordinary, osDisk: true, shared: true},
		"Premium_LRS":     {sizeMaxGiB: ordinary, osDisk: true, shared: true},
		"Premium_ZRS":     {sizeMaxGiB: ordinary, osDisk: true, shared: true},
		"PremiumV2_LRS":   {sizeMaxGiB: large, shared: true, sectorChoice: true},
		"UltraSSD_LRS":    {sizeMaxGiB: large, shared: true, sectorChoice: true},
	}
}

func skuNames() []string { return slices.Sorted(maps.Keys(diskKinds())) }

func at(list string, index int) string { return fmt.Sprintf("%s[%d]", list, index) }

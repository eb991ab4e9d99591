package holdfast

import "time"

// Inventory is what exists in the cloud, as it was seen at one moment. Its JSON form is what `holdfast inventory` prints and
// --inventory takes.
type Inventory struct {
	At time.Time `json:"at"`
	// Zonal names the regions with availability zones, where snapshots are zone-redundant.
	Zonal []string      `json:"zonal"`
	VMs   []InventoryVM `json:"vms"` // sorted by id
}

// InventoryVM is a virtual machine as policies see it.
type InventoryVM struct {
	ID     ResourceID        `json:"id"`
	Name   string            `json:"name"`
	Region string            `json:"region"` // Azure's name in lower case
	Zone   string            `json:"zone,omitempty"`
	Size   string            `json:"size,omitempty"`
	OS     string            `json:"os,omitempty"`
	Power  string            `json:"power,omitempty"`
	Tags   map[string]string `json:"tags,omitempty"`
	Disks  []InventoryDisk   `json:"disks"`
}

// Bytes is the size of all disks together.
func (vm InventoryVM) Bytes() int64 {
	var sum int64
	for _, d := range vm.Disks {
		sum += d.SizeBytes
	}
	return sum
}

// Refusal says why no point can be made of the machine; "" when one can, as far as its disks say.
func (vm InventoryVM) Refusal() string {
	for _, d := range vm.Disks {
		if d.Refused != "" {
			return "disk " + d.Name + ": " + d.Refused
		}
	}
	if len(vm.Disks) == 0 {
		return "it has no managed disk"
	}
	return ""
}

// InventoryDisk is a disk of a machine.
type InventoryDisk struct {
	LUN       LUN    `json:"lun"`
	Name      string `json:"name"`
	SizeBytes int64  `json:"sizeBytes"`
	SKU       string `json:"sku,omitempty"`
	// Refused says why this disk cannot be backed up; "" when it can.
	Refused string `json:"refused,omitempty"`
}

// Package facts reads what the documents of machines and disks hold beside what clients see: what runs, since when, and
// which volume lies behind a disk. It is for the twin's parts that work on machines and disks of package compute: restore
// points and guests. It only reads; what these facts are is decided by compute alone.
package facts

import (
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// Resource types that several parts name.
const (
	MachineType   = "Microsoft.Compute/virtualMachines"
	PointDiskType = "Microsoft.Compute/restorePointCollections/restorePoints/diskRestorePoints"
)

// The names under which the facts are kept.
const (
	HiddenVolume = "volume" // of a disk, snapshot or disk restore point: vdisk.ID
	HiddenPower  = "power"  // of a machine: running, stopped, deallocated
	HiddenBoot   = "boot"   // of a machine: another text since each change of its power state

	PowerRunning = "running"
)

// VolumeOf returns the volume behind a disk, snapshot or disk restore point; "" when it has none.
func VolumeOf(doc *state.Document) vdisk.ID { return vdisk.ID(doc.Hidden.Text(HiddenVolume)) }

// Running reports whether a machine runs, and what its present boot is known by.
func Running(machine *state.Document) (boot string, running bool) {
	return machine.Hidden.Text(HiddenBoot), machine.Hidden.Text(HiddenPower) == PowerRunning
}

// DiskReferences returns the OS disk and the data disks of a machine's storage profile. They are part of machine.
func DiskReferences(machine state.Object) []state.Object {
	var references []state.Object
	if osDisk := machine.Object("properties.storageProfile.osDisk"); osDisk != nil {
		references = append(references, osDisk)
	}
	return append(references, machine.Objects("properties.storageProfile.dataDisks")...)
}

// IsLarge tells the SKUs Ultra and Premium SSD v2, which have larger limits, sector sizes, and copies in the background.
func IsLarge(sku string) bool { return sku == "UltraSSD_LRS" || sku == "PremiumV2_LRS" }

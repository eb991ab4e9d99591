package machine_test

import (
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// TestVM_CrashSet has a row for each rule of the support matrix: what is refused, what is accepted and not guaranteed, and
// what is one instant.
func TestVM_CrashSet(t *testing.T) {
	disk := func(lun holdfast.LUN, change func(*machine.Disk)) machine.Disk {
		d := machine.Disk{ID: holdfast.ResourceID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/d" + string(lun)), LUN: lun, Name: "d" + string(lun), SKU: "Premium_LRS", MaxShares: 1, Caching: "ReadOnly"}
		if change != nil {
			change(&d)
		}
		return d
	}
	system, first := disk(holdfast.OSDisk, nil), disk("0", nil)
	premium := machine.Size{PremiumDisks: true}
	for name, row := range map[string]struct {
		size                 string
		sort                 machine.Size
		disks                []machine.Disk
		possible, guaranteed bool
		why                  string
	}{
		"plain":               {"Standard_D4s_v5", premium, []machine.Disk{system, first, disk("1", nil)}, true, true, ""},
		"no premium storage":  {"Standard_D4_v5", machine.Size{}, []machine.Disk{system}, false, false, "premium"},
		"ultra":               {"Standard_D4s_v5", premium, []machine.Disk{system, disk("1", func(d *machine.Disk) { d.SKU = "UltraSSD_LRS" })}, false, false, "UltraSSD_LRS"},
		"premium v2":          {"Standard_D4s_v5", premium, []machine.Disk{system, disk("1", func(d *machine.Disk) { d.SKU = "PremiumV2_LRS" })}, false, false, "PremiumV2_LRS"},
		"ultra, excluded":     {"Standard_D4s_v5", premium, []machine.Disk{system, disk("9", func(d *machine.Disk) { d.SKU = "UltraSSD_LRS" })}, true, true, ""},
		"shared":              {"Standard_D4s_v5", premium, []machine.Disk{system, disk("1", func(d *machine.Disk) { d.MaxShares = 2 })}, false, false, "shared"},
		"ephemeral":           {"Standard_D4s_v5", premium, []machine.Disk{disk(holdfast.OSDisk, func(d *machine.Disk) { d.Ephemeral, d.ID = true, "" })}, false, false, "ephemeral"},
		"confidential":        {"Standard_DC4as_v5", premium, []machine.Disk{disk(holdfast.OSDisk, func(d *machine.Disk) { d.SecurityType = "ConfidentialVM_VMGuestStateOnlyEncryptedWithPlatformKey" })}, false, false, "confidential"},
		"cached":              {"Standard_D4s_v5", premium, []machine.Disk{system, disk("1", func(d *machine.Disk) { d.Caching = "ReadWrite" })}, true, false, "ReadWrite"},
		"boost, one disk":     {"Standard_D4s_v6", premium, []machine.Disk{system, first}, true, true, ""},
		"boost, two disks":    {"Standard_E4ds_v6", premium, []machine.Disk{system, first, disk("1", nil)}, true, false, "not captured together"},
		"AMD, version 6":      {"Standard_D4as_v6", premium, []machine.Disk{system, first, disk("1", nil)}, true, true, ""},
		"AMD, version 7":      {"Standard_E8-4ads_v7", premium, []machine.Disk{system, first, disk("1", nil)}, true, false, "not captured together"},
		"a size without them": {"Standard_B2ms", premium, []machine.Disk{system, first, disk("1", nil)}, true, true, ""},
	} {
		vm := machine.VM{Size: row.size, Disks: row.disks}
		why, possible, guaranteed := vm.CrashSet(row.sort, disk("9", nil).ID)
		if possible != row.possible || guaranteed != row.guaranteed || !strings.Contains(why, row.why) || (why == "") != (row.why == "") {
			t.Errorf("%s: %q, possible %t, guaranteed %t", name, why, possible, guaranteed)
		}
	}
}

package e2e

import (
	"strings"
	"testing"
)

// TestInventory proves what a script reads of an inventory, and that people are told the same: every machine with its disks,
// and each disk that cannot be backed up with the words of the backup that is refused for it.
func TestInventory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, badEstate)
	taken := mustHave(t, "inventory", w.value("inventory"), "at string zonal list vms list")
	people := string(w.run("inventory").out)
	refused := map[string]string{}
	for _, vm := range listOf(t, taken, "vms", 7) {
		vm := mustHave(t, "a machine", vm, "id string name string region string disks list size string os string power string …")
		if name := vm["name"].(string); vm["region"] != "westeurope" || !strings.Contains(people, "\n"+name+" ") {
			t.Errorf("%v\n%s", vm, people)
		}
		for _, d := range vm["disks"].([]any) {
			disk := mustHave(t, "a disk", d, "lun string name string sizeBytes number …")
			if why, ok := disk["refused"].(string); ok {
				refused[disk["name"].(string)] = why
			}
		}
	}
	w.initRepository()
	for disk, name := range map[string]string{"ephemeral-1-os": "ephemeral-1", "deny-1-os": "deny-1", "shared-1-data": "shared-1", "ultra-1-data": "ultra-1"} {
		why := refused[disk]
		backup := w.run("backup", "--repo", w.repo, "--vm", vmID(name))
		if why == "" || !strings.Contains(people, disk+" "+why) || !strings.Contains(backup.errors, "the disk "+disk+" of "+name+" "+why) {
			t.Errorf("%s: the inventory says %q, people read\n%s\nand the backup said\n%s", disk, why, people, backup.errors)
		}
	}
	if len(refused) != 4 {
		t.Errorf("refused: %v", refused)
	}
}

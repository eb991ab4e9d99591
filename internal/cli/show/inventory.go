package show

import (
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
)

// Inventory shows the machines of an inventory.
func Inventory(w io.Writer, taken holdfast.Inventory) error {
	if len(taken.VMs) == 0 {
		_, err := fmt.Fprintln(w, "the account sees no virtual machines")
		return err
	}
	var rows [][]string
	var all int64
	for _, vm := range taken.VMs {
		all += vm.Bytes()
		rows = append(rows, []string{
			vm.Name, vm.ID.ResourceGroup(), vm.Region, vm.Zone, vm.Size, vm.OS, vm.Power, fmt.Sprint(len(vm.Disks)), cli.Bytes(vm.Bytes()), refusedDisks(vm),
		})
	}
	if err := cli.Table(w, []string{"NAME", "GROUP", "REGION", "ZONE", "SIZE", "OS", "STATE", "DISKS", "CAPACITY", "CANNOT BE BACKED UP"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s, disks of %s together, seen %s\n", cli.Count(len(taken.VMs), "machine"), cli.Bytes(all), cli.Time(taken.At))
	return err
}

// refusedDisks names the disks of a machine that cannot be backed up, with the reasons.
func refusedDisks(vm holdfast.InventoryVM) string {
	var refused []string
	for _, d := range vm.Disks {
		if d.Refused != "" {
			refused = append(refused, d.Name+" "+d.Refused)
		}
	}
	return strings.Join(refused, "; ")
}

package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/inventory"
)

func (a *app) inventoryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "inventory", Short: "Take stock of the virtual machines and their disks, as policies see them", Args: noArguments,
		Long: `Take stock of the virtual machines that the account sees: regions, tags, disks with sizes and kinds, and which disks cannot be
backed up. With --json the result is what --inventory of other commands takes, so that policies can be tried without the cloud;
with --inventory such a file is checked and shown.`,
		Example: `  holdfast inventory --azure azure.yaml
  holdfast inventory --azure azure.yaml --json > inventory.json`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.takeInventory(cmd.Context()) },
	}
	a.inventoryFlags(cmd)
	return cmd
}

func (a *app) takeInventory(ctx context.Context) error {
	taken, err := a.inventory(ctx)
	if err != nil {
		return err
	}
	return a.console.Result(taken, func(w io.Writer) error { return tellInventory(w, taken) })
}

// inventoryFlags are the flags of commands that work on an inventory.
func (a *app) inventoryFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.inventoryFile, "inventory", "", "file with the machines, as holdfast inventory --json prints it; the cloud is not asked")
	a.azureFlag(cmd)
}

// inventory returns what --inventory holds, else what the cloud holds that --azure describes.
func (a *app) inventory(ctx context.Context) (holdfast.Inventory, error) {
	if a.inventoryFile != "" && a.azureFile != "" {
		return holdfast.Inventory{}, holdfast.Errorf(holdfast.KindInvalid, "--inventory and --azure exclude each other").WithField("inventory").
			WithHint("leave --azure away to work on the file, --inventory to ask the cloud")
	}
	if a.inventoryFile != "" {
		return inventory.Read(a.inventoryFile)
	}
	client, err := a.azureClient()
	if err != nil {
		return holdfast.Inventory{}, err
	}
	defer client.CloseIdleConnections()
	return client.Inventory(ctx)
}

func tellInventory(w io.Writer, taken holdfast.Inventory) error {
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

package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli/show"
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
	return a.console.Result(taken, func(w io.Writer) error { return show.Inventory(w, taken) })
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

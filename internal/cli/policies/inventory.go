package policies

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/cli/show"
	"github.com/holdfast-backup/holdfast/internal/inventory"
)

func (c *commands) inventoryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "inventory", Short: "Take stock of the virtual machines and their disks, as policies see them", Args: command.NoArguments,
		Long: `Take stock of the virtual machines that the account sees: regions, tags, disks with sizes and kinds, and which disks cannot be
backed up. With --json the result is what --inventory of other commands takes, so that policies can be tried without the cloud;
with --inventory such a file is checked and shown.`,
		Example: `  holdfast inventory --azure azure.yaml
  holdfast inventory --azure azure.yaml --json > inventory.json`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.takeInventory(cmd.Context()) },
	}
	c.inventoryFlags(cmd)
	return cmd
}

func (c *commands) takeInventory(ctx context.Context) error {
	taken, err := c.inventory(ctx)
	if err != nil {
		return err
	}
	return c.console.Result(taken, func(w io.Writer) error { return show.Inventory(w, taken) })
}

// inventoryFlags are the flags of commands that work on an inventory.
func (c *commands) inventoryFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.inventoryFile, "inventory", "", "file with the machines, as holdfast inventory --json prints it; the cloud is not asked")
	command.AzureFlag(cmd, &c.azureFile)
}

// inventory returns what --inventory holds, else what the cloud holds that --azure describes.
func (c *commands) inventory(ctx context.Context) (holdfast.Inventory, error) {
	if c.inventoryFile != "" && c.azureFile != "" {
		return holdfast.Inventory{}, holdfast.Errorf(holdfast.KindInvalid, "--inventory and --azure exclude each other").WithField("inventory").
			WithHint("leave --azure away to work on the file, --inventory to ask the cloud")
	}
	if c.inventoryFile != "" {
		return inventory.Read(c.inventoryFile)
	}
	if c.azureFile == "" && c.getenv("HOLDFAST_AZURE") == "" {
		return holdfast.Inventory{}, holdfast.Errorf(holdfast.KindInvalid, "nothing says which machines there are: --inventory and --azure are missing").WithField("azure").
			WithHint("give --azure FILE (or HOLDFAST_AZURE) to ask the cloud, such as the azure.yaml of a twin, or --inventory FILE with what holdfast inventory --json printed")
	}
	return c.cloud(ctx, c.azureFile)
}

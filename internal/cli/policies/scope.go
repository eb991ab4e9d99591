package policies

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/cli/show"
	"github.com/holdfast-backup/holdfast/internal/scope"
)

func (c *commands) policyScopeCommand() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use: "scope", Short: "Show which policy protects which machine, and why", Args: command.NoArguments,
		Long: `Show which policy protects which machine, and why: for each policy its machines, what it names in vain and what is worth a
warning; then the machines that no policy protects. Nothing is changed. The rules are in doc/policies.md.`,
		Example: `  holdfast policy scope -f policies.yaml --azure azure.yaml
  holdfast inventory --azure azure.yaml --json > inventory.json
  holdfast policy scope -f policies.yaml --inventory inventory.json`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.policyScope(cmd.Context(), files) },
	}
	documentsFlag(cmd, &files)
	c.inventoryFlags(cmd)
	return cmd
}

func (c *commands) policyScope(ctx context.Context, files []string) error {
	documents, err := c.documents(files)
	if err != nil {
		return err
	}
	machines, err := c.inventory(ctx)
	if err != nil {
		return err
	}
	resolution := scope.New(documents).Resolve(machines)
	return c.console.Result(show.NewScope(resolution), func(w io.Writer) error { return show.TellScope(w, resolution) })
}

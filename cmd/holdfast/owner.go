package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

func (a *app) ownerCommand() *cobra.Command {
	return command.Group(a.console, "owner", "Show and change which installation owns a repository",
		`A repository belongs to one installation, or to nobody: then whoever has a key may write. Once it is owned, only its owner publishes, removes and
changes keys; readers are never refused. Which installation a command writes as is said by --owner ID or HOLDFAST_OWNER.`,
		a.ownerShow(), a.ownerTakeOver())
}

func (a *app) ownerShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show", Short: "Show who owns a repository", Args: command.NoArguments,
		Example: `  holdfast repo owner show --repo /backups --password-file secret`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.openRepository(cmd.Context())
			if err != nil {
				return err
			}
			return a.tellOwnership(r.Ownership())
		},
	}
	a.repoFlags(cmd)
	return cmd
}

func (a *app) ownerTakeOver() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use: "take-over", Short: "Make an installation the owner", Args: command.NoArguments,
		Long: `Make the installation named by --owner (or HOLDFAST_OWNER) the owner of a repository. If it is owned already, --from names the present owner: that is the
confirmation. From then on what the old owner publishes, removes or changes is refused, also what its running backups have uploaded.`,
		Example: `  holdfast repo owner take-over --repo /backups --password-file secret --owner site-a
  holdfast repo owner take-over --repo /backups --password-file secret --owner site-b --from site-a`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.installation() == "" {
				return holdfast.Errorf(holdfast.KindInvalid, "the installation that takes over is not named").WithField("owner").
					WithHint("give --owner ID, or set HOLDFAST_OWNER")
			}
			r, err := a.openRepository(cmd.Context())
			if err != nil {
				return err
			}
			ownership, err := r.TakeOver(cmd.Context(), from)
			if err != nil {
				return err
			}
			return a.tellOwnership(ownership)
		},
	}
	a.repoFlags(cmd)
	cmd.Flags().StringVar(&from, "from", "", "the present owner, which loses the repository")
	return cmd
}

func (a *app) tellOwnership(o repo.Ownership) error {
	return a.console.Result(o, func(w io.Writer) error {
		if o.Owner == "" {
			_, err := fmt.Fprintln(w, "Nobody owns the repository: whoever has a key may write.")
			return err
		}
		if _, err := fmt.Fprintf(w, "Owned by %s since %s (take-over %d).\n", o.Owner, cli.Time(o.Since), o.Epoch); err != nil {
			return err
		}
		if o.OpenSessions == 0 {
			return nil
		}
		_, err := fmt.Fprintf(w, "%d backups are open; those begun before the take-over cannot publish any more.\n", o.OpenSessions)
		return err
	})
}

// installation returns the id that --owner or HOLDFAST_OWNER says, "" for none.
func (a *app) installation() string {
	if a.owner != "" {
		return a.owner
	}
	return a.getenv("HOLDFAST_OWNER")
}

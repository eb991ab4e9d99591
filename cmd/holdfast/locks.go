package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// lockFlag adds --lock-for.
func lockFlag(cmd *cobra.Command, lockFor *string) {
	cmd.Flags().StringVar(lockFor, "lock-for", "", "days for which nobody, not even you, can remove the restore point, such as 30d (default: no lock)")
}

// retainUntil returns the date that --lock-for asks for, by the clock of the repository's store; zero for no flag. It is asked before
// anything is done, since a store that cannot lock is refused.
func retainUntil(ctx context.Context, r *repo.Repository, lockFor string) (time.Time, error) {
	if lockFor == "" {
		return time.Time{}, nil
	}
	digits, ok := strings.CutSuffix(lockFor, "d")
	days, err := strconv.Atoi(digits)
	if !ok || err != nil || days < 1 || days > lockDaysMax {
		return time.Time{}, holdfast.Errorf(holdfast.KindInvalid, "%q is not a number of days", lockFor).WithField("lockFor").
			WithHint("write whole days with a d, from 1d to %dd", lockDaysMax)
	}
	return r.RetainFor(ctx, days)
}

// lockDaysMax keeps a slip of the finger from making objects that nobody can remove for ages: a century is enough for every law.
const lockDaysMax = 36_500

func (a *app) repoLocks() *cobra.Command {
	var point string
	cmd := &cobra.Command{
		Use: "locks", Short: "Show how long nobody can remove what a restore point needs", Args: command.NoArguments,
		Long: `Show how long nobody can remove what a restore point needs. The storage service is asked about every object: manifest, lists, packs, log entries
and keys. The horizon is the earliest date among them; a point with one object that is not locked has none. No password is needed;
with one, log entries that a stranger added do not count.`,
		Example: `  holdfast repo locks --repo azblob://shopvault/locked/eu --azure azure.yaml --point 20260301-120000-1a2b3c4d`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.showLocks(cmd.Context(), holdfast.PointID(point)) },
	}
	a.repoFlags(cmd)
	cmd.Flags().StringVar(&point, "point", "", "id of the restore point, or the beginning of one")
	command.Required(cmd, "repo", "point")
	return cmd
}

func (a *app) showLocks(ctx context.Context, point holdfast.PointID) error {
	store, err := a.store(ctx)
	if err != nil {
		return err
	}
	o := repo.LocksOptions{Point: point}
	if o.Repository, err = a.openForVerify(ctx, store, repo.VerifyStored); err != nil {
		return err
	}
	locks, err := repo.Locks(ctx, store.Objects, o)
	if err != nil {
		return err
	}
	return a.console.Result(locks, func(w io.Writer) error { return tellLocks(w, locks) })
}

func tellLocks(w io.Writer, locks repo.PointLocks) error {
	verdict := fmt.Sprintf("Restore point %s is not locked: who may write to the storage can remove it.\n", locks.Point)
	if locks.Horizon != nil {
		verdict = fmt.Sprintf("Nobody can remove restore point %s, or anything it needs, before %s.\n", locks.Point, cli.Time(*locks.Horizon))
	}
	if _, err := fmt.Fprintf(w, "%s\n", verdict); err != nil {
		return err
	}
	rows := make([][]string, 0, len(locks.Objects))
	for _, o := range locks.Objects {
		until := "not locked"
		if o.Until != nil {
			until = cli.Time(*o.Until)
		}
		rows = append(rows, []string{o.Name, until})
	}
	if err := cli.Table(w, []string{"OBJECT", "LOCKED UNTIL"}, rows); err != nil {
		return err
	}
	for _, name := range locks.Missing {
		if _, err := fmt.Fprintf(w, "missing  %s: see holdfast repo verify\n", name); err != nil {
			return err
		}
	}
	return nil
}

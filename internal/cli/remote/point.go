package remote

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/api/client"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/view"
)

func (c *commands) pointCommand() *cobra.Command {
	return command.Group(c.console, "point", "Look at the server's restore points, and remove them", "", c.pointListCommand(), c.pointRemoveCommand())
}

func (c *commands) pointListCommand() *cobra.Command {
	var filter client.PointFilter
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List restore points, the newest first",
		Example: `  holdfast point list --vm web-1
  holdfast point list --policy nightly --kind backup,archive --limit 0`,
	}
	flags := cmd.Flags()
	flags.StringVar(&filter.VM, "vm", "", "only those of this machine: its ARM id, or a name that only one has")
	flags.StringVar(&filter.Policy, "policy", "", "only those that this policy made")
	flags.StringSliceVar(&filter.Kinds, "kind", nil, "only those of these kinds: snapshot, backup, archive")
	flags.StringVar(&filter.Repository, "repository", "", "only those in this repository")
	flags.BoolVar(&filter.Removed, "all", false, "those that are gone as well")
	limitFlag(cmd, &limit, 1000)
	return c.asking(cmd, func(ctx context.Context, server *client.Client, _ []string) error {
		if err := checkLimit(limit); err != nil {
			return err
		}
		if err := oneOf("kind", filter.Kinds, []holdfast.PointKind{holdfast.PointSnapshot, holdfast.PointBackup, holdfast.PointArchive}); err != nil {
			return err
		}
		points, more, err := gather(limit, func(limit int, after string) (view.List[view.Point], error) {
			filter.Limit, filter.After = limit, after
			return server.Points(ctx, filter)
		})
		if err != nil {
			return err
		}
		c.noteMore(more, len(points))
		return c.result(points, func(w io.Writer) error {
			return tellPoints(w, points, "No restore point matches. A policy makes them by its schedule, or with: holdfast policy run NAME")
		})
	})
}

func tellPoints(w io.Writer, points []view.Point, empty string) error {
	var rows [][]string
	for _, p := range points {
		rows = append(rows, []string{string(p.ID), p.Name, string(p.Kind), pointState(p), cli.Time(p.Created), orNone(p.Flags.String()), orNone(p.Repository), cli.Bytes(p.Bytes.Stored), proofWord(p), untilWord(p), p.Why})
	}
	return table(w, []string{"POINT", "MACHINE", "KIND", "STATE", "CREATED", "FLAGS", "REPOSITORY", "STORED", "PROOF", "UNTIL", "WHY"}, rows, empty)
}

func pointState(p view.Point) string {
	if !p.Good && p.State == "kept" {
		return "DAMAGED"
	}
	return p.State
}

func proofWord(p view.Point) string {
	if p.ProofLevel == 0 {
		return "–"
	}
	return fmt.Sprintf("level %d, %s", p.ProofLevel, cli.Time(p.Proved))
}

// untilWord says when a point goes at the earliest.
func untilWord(p view.Point) string {
	switch {
	case !p.Removed.IsZero():
		return "removed " + cli.Time(p.Removed)
	case p.Until.Before(p.LockedUntil):
		return "locked until " + cli.Time(p.LockedUntil)
	}
	return timeOrNone(p.Until)
}

// removeMax is how many points one request names.
const removeMax = 1000

func (c *commands) pointRemoveCommand() *cobra.Command {
	var dryRun, yes bool
	cmd := &cobra.Command{
		Use: "remove ID…", Short: "Remove restore points, whatever retention says",
		Long: `Remove restore points, whatever retention says. The points are shown first, and somebody has to agree: on a terminal the command asks,
elsewhere it wants --yes. What a lock holds is refused. A session of the server removes them; the space that they took is free after the next collection of
their repository.`,
		Example: `  holdfast point remove 20260301-120000-1a2b3c4d --dry-run
  holdfast point remove 20260301-120000-1a2b3c4d 20260302-120000-5e6f7a8b --yes`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return words("ID")(cmd, args)
			case len(args) > removeMax:
				return holdfast.Errorf(holdfast.KindInvalid, "%d points are too many at once", len(args)).WithHint("name %d at the most", removeMax)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be removed, and remove nothing")
	yesFlag(cmd, &yes)
	return c.asking(cmd, func(ctx context.Context, server *client.Client, args []string) error {
		in := view.RemovePoints{DryRun: true}
		for _, id := range args {
			in.Points = append(in.Points, holdfast.PointID(id))
		}
		planned, err := server.RemovePoints(ctx, in)
		if err != nil {
			return err
		}
		if !c.console.JSON || dryRun {
			if err := c.result(planned, func(w io.Writer) error { return tellPoints(w, planned.Points, "Nothing would be removed.") }); err != nil {
				return err
			}
		}
		if dryRun {
			return nil
		}
		if err := c.confirm(yes, "Remove %s for good?", cli.Count(len(planned.Points), "restore point")); err != nil {
			return err
		}
		in.DryRun = false
		removal, err := server.RemovePoints(ctx, in)
		if err != nil {
			return err
		}
		return c.result(removal, func(w io.Writer) error { return tellRemoval(w, removal) })
	})
}

func tellRemoval(w io.Writer, r view.Removal) error {
	if r.Session == nil {
		_, err := fmt.Fprintln(w, "Nothing was removed.")
		return err
	}
	names := make([]string, 0, len(r.Points))
	for _, p := range r.Points {
		names = append(names, string(p.ID))
	}
	_, err := fmt.Fprintf(w, "Session %s removes %s. Follow it with: holdfast session watch %s\n", r.Session.ID, strings.Join(names, ", "), r.Session.ID)
	return err
}

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/storage"
)

func (a *app) repoRemove() *cobra.Command {
	var points []string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "remove --point ID…", Short: "Remove restore points", Args: command.NoArguments,
		Long: `Remove restore points. All of them are removed, or none. They cannot be restored any more from then on; the storage that they alone
need is freed by the next "repo collect". A point that a running backup builds on is refused.`,
		Example: `  holdfast repo remove --repo /backups --password-file secret --point 20260301-020000-5f0c7f3e
  holdfast repo remove --repo /backups --password-file secret --point 20260301,20260302 --dry-run`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.removePoints(cmd.Context(), points, dryRun) },
	}
	a.repoFlags(cmd)
	cmd.Flags().StringSliceVar(&points, "point", nil, "the restore point, or the beginning of its id; several with commas, or with the flag again")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only tell what would be removed, and about how much storage that would free")
	command.Required(cmd, "point")
	return cmd
}

// removal is the result of `repo remove`.
type removal struct {
	DryRun     bool               `json:"dryRun"`
	Points     []holdfast.PointID `json:"points"`
	FreesBytes int64              `json:"freesBytes"` // of a dry run, roughly; 0 otherwise
}

func (a *app) removePoints(ctx context.Context, given []string, dryRun bool) error {
	r, err := a.openRepository(ctx)
	if err != nil {
		return err
	}
	var points []holdfast.PointID
	for _, id := range given {
		points = append(points, holdfast.PointID(strings.TrimSpace(id)))
	}
	removed, err := r.Remove(ctx, points, repo.RemoveOptions{DryRun: dryRun})
	if err != nil {
		return err
	}
	result := removal{DryRun: dryRun, Points: removed.Points, FreesBytes: removed.FreesBytes}
	return a.console.Result(result, func(w io.Writer) error {
		word := "removed"
		if dryRun {
			word = "would go"
		}
		for _, id := range result.Points {
			if _, err := fmt.Fprintf(w, "%-8s  %s\n", word, id); err != nil {
				return err
			}
		}
		if dryRun {
			_, err := fmt.Fprintf(w, "Nothing else needs about %s of what they need; a collection would free that.\n", cli.Bytes(result.FreesBytes))
			return err
		}
		_, err := fmt.Fprintf(w, "Their storage is freed by: holdfast repo collect --repo %s\n", r.URL())
		return err
	})
}

// giveUpDefault is after how long a collection gives up a run that has not ended: longer than any backup takes.
const giveUpDefault = 7 * 24 * time.Hour

func (a *app) repoCollect() *cobra.Command {
	var dryRun bool
	giveUp := giveUpDefault
	cmd := &cobra.Command{
		Use: "collect", Short: "Free the storage that no restore point needs", Args: command.NoArguments,
		Long: `Free the storage that no restore point needs: what belonged to removed points alone, and what runs left that died. What is left in
packs that are mostly dead is moved to new ones. Backups and restores may run meanwhile, and other collections too; one that is
interrupted or killed is finished by the next. Objects that a lock holds are kept until it ends.`,
		Example: `  holdfast repo collect --repo /backups --password-file secret --dry-run
  holdfast repo collect --repo /backups --password-file secret --give-up-after 24h`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.collect(cmd.Context(), dryRun, giveUp) },
	}
	a.repoFlags(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only tell what would be done")
	cmd.Flags().DurationVar(&giveUp, "give-up-after", giveUpDefault, "take runs that began so long ago and have not ended for dead, so that what they left can go; 0 takes none")
	return cmd
}

// collection is the result of `repo collect`.
type collection struct {
	DryRun          bool                 `json:"dryRun"`
	FreedBytes      int64                `json:"freedBytes"`
	FreedObjects    int                  `json:"freedObjects"`
	MovedBytes      int64                `json:"movedBytes"`
	MovedPacks      int                  `json:"movedPacks"`
	Gathered        amount               `json:"gathered"`  // of these, moved to put newest points in the order of reading
	Locked          lockedAmount         `json:"locked"`    // needed by no point, kept because of locks
	Waiting         lockedAmount         `json:"waiting"`   // condemned, to be deleted when their locks end
	Protected       amount               `json:"protected"` // of runs that have not ended
	GivenUpSessions []holdfast.SessionID `json:"givenUpSessions"`
	DamagedPoints   []holdfast.PointID   `json:"damagedPoints"`
	Fragmentation   []fragmentation      `json:"fragmentation"` // of the newest point of each machine
	StoredBytes     int64                `json:"storedBytes"`   // all objects but the log, before
	Points          int                  `json:"points"`
	Packs           int                  `json:"packs"`
	ForeignObjects  int                  `json:"foreignObjects"`
}

type amount struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

type lockedAmount struct {
	amount
	FirstUntil time.Time `json:"firstUntil,omitzero"` // when the first of the locks ends, where there is one and the store tells
	LastUntil  time.Time `json:"lastUntil,omitzero"`
}

type fragmentation struct {
	Point       holdfast.PointID `json:"point"`
	Bytes       int64            `json:"bytes"`
	Packs       int              `json:"packs"`
	Seeks       int              `json:"seeks"`
	SeeksPerGiB float64          `json:"seeksPerGiB"`
}

func newCollection(c repo.Collected, dryRun bool) collection {
	result := collection{
		DryRun: dryRun, FreedBytes: c.Freed.Bytes, FreedObjects: c.Freed.Objects, MovedBytes: c.Moved.Bytes, MovedPacks: c.Moved.Objects, Gathered: amount{c.Gathered.Objects, c.Gathered.Bytes},
		Locked: newLockedAmount(c.Locked.Objects, c.Locked.Bytes, c.Locked.First, c.Locked.Last), Protected: amount{c.Protected.Objects, c.Protected.Bytes},
		Waiting:         newLockedAmount(c.Waiting.Objects, c.Waiting.Bytes, c.Waiting.First, c.Waiting.Last),
		GivenUpSessions: append([]holdfast.SessionID{}, c.GivenUp...), DamagedPoints: append([]holdfast.PointID{}, c.Damaged...),
		Fragmentation: []fragmentation{}, StoredBytes: c.Stored, Points: c.Points, Packs: c.Packs, ForeignObjects: c.Foreign,
	}
	for _, s := range c.Scattered {
		result.Fragmentation = append(result.Fragmentation, fragmentation{s.Point, s.Bytes, s.Packs, s.Seeks, s.SeeksPerGiB})
	}
	return result
}

func newLockedAmount(objects int, bytes int64, first, last time.Time) lockedAmount {
	return lockedAmount{amount{objects, bytes}, first.UTC(), last.UTC()}
}

func (a *app) collect(ctx context.Context, dryRun bool, giveUp time.Duration) error {
	if giveUp < 0 {
		return holdfast.Errorf(holdfast.KindInvalid, "%s is negative", giveUp).WithField("give-up-after").WithHint("give a duration such as 24h, or 0 to take no run for dead")
	}
	store, err := a.store(ctx)
	if err != nil {
		return err
	}
	r, err := a.openIn(ctx, store)
	if err != nil {
		return err
	}
	collected, err := a.runCollection(ctx, repo.NewCollector(r, store.Remover), giveUp, dryRun)
	if err != nil {
		return err
	}
	result := newCollection(collected, dryRun)
	if err := a.sweep(ctx, store, &result); err != nil {
		return err
	}
	if err := a.console.Result(result, func(w io.Writer) error { return cli.Lines(w, result.lines()) }); err != nil {
		return err
	}
	if len(result.DamagedPoints) > 0 {
		return command.ErrDamageTold
	}
	return nil
}

// leftoverAge is how old a half-written file must be to be taken for one whose writer died: longer than a put takes. One that is not dead
// after all writes it anew.
const leftoverAge = 24 * time.Hour

// sweep removes what puts that died left in a local folder, which is no object, or counts it.
func (a *app) sweep(ctx context.Context, store storage.Store, result *collection) error {
	if store.Local == nil {
		return nil
	}
	left, err := store.Local.Leftovers(ctx, a.clock.Now().Add(-leftoverAge))
	if err != nil {
		return err
	}
	for _, l := range left {
		result.FreedObjects, result.FreedBytes = result.FreedObjects+1, result.FreedBytes+l.Size
	}
	if result.DryRun {
		return nil
	}
	return store.Local.Sweep(left)
}

// runCollection plans or collects, and shows how far it is.
func (a *app) runCollection(ctx context.Context, c *repo.Collector, giveUp time.Duration, dryRun bool) (repo.Collected, error) {
	progress := a.console.NewProgress(a.clock)
	o := repo.CollectOptions{GiveUpAfter: giveUp, Progress: func(p repo.CollectProgress) {
		if p.Step == repo.CollectMoves {
			progress.Bar("repack", 0).At(p.Done)
		}
	}}
	var collected repo.Collected
	var err error
	if dryRun {
		var plan *repo.CollectPlan
		if plan, err = c.Plan(ctx, o); err == nil {
			collected = plan.Result()
		}
	} else {
		collected, err = c.Collect(ctx, o)
	}
	progress.Wait(err)
	return collected, err
}

// lines says what was done, the most welcome first, and leaves out what there is nothing to say about.
func (c collection) lines() []string {
	freed, moved := "Freed", "Moved"
	if c.DryRun {
		freed, moved = "Would free", "Would move"
	}
	var lines []string
	if c.FreedObjects == 0 {
		lines = append(lines, fmt.Sprintf("Nothing to free: %s in %d packs serve %s.", cli.Bytes(c.StoredBytes), c.Packs, cli.Count(c.Points, "restore point")))
	} else {
		lines = append(lines, fmt.Sprintf("%s %s of %s: %s that no restore point needs.", freed, cli.Bytes(c.FreedBytes), cli.Bytes(c.StoredBytes), cli.Count(c.FreedObjects, "object")))
	}
	if sparse := c.MovedPacks - c.Gathered.Objects; sparse > 0 {
		lines = append(lines, fmt.Sprintf("%s %s out of %s that held little else that is needed.", moved, cli.Bytes(c.MovedBytes-c.Gathered.Bytes), cli.Count(sparse, "pack")))
	}
	if c.Gathered.Objects > 0 {
		lines = append(lines, fmt.Sprintf("%s %s out of %s to put the newest restore points in the order of reading.", moved, cli.Bytes(c.Gathered.Bytes), cli.Count(c.Gathered.Objects, "pack")))
	}
	lines = append(lines, c.Locked.line("Kept %s in %s that no restore point needs: locked%s.")...)
	lines = append(lines, c.Waiting.line("%s in %s wait to be deleted: locked%s.")...)
	if c.Protected.Objects > 0 {
		lines = append(lines, fmt.Sprintf("Kept %s in %s of runs that have not ended.", cli.Bytes(c.Protected.Bytes), cli.Count(c.Protected.Objects, "object")))
	}
	if n := len(c.GivenUpSessions); n > 0 {
		lines = append(lines, fmt.Sprintf("Took %s for dead.", cli.Count(n, "run that had not ended")))
	}
	if c.ForeignObjects > 0 {
		lines = append(lines, fmt.Sprintf("Left %s alone that do not belong to a repository.", cli.Count(c.ForeignObjects, "object")))
	}
	if len(c.Fragmentation) > 0 {
		worst := slices.MaxFunc(c.Fragmentation, func(a, b fragmentation) int { return int(a.SeeksPerGiB) - int(b.SeeksPerGiB) })
		lines = append(lines, fmt.Sprintf("Reading the newest restore points takes at most %.0f seeks per GiB (%s).", worst.SeeksPerGiB, worst.Point))
	}
	for _, id := range c.DamagedPoints {
		lines = append(lines, fmt.Sprintf("damaged  restore point %s: all that it may need is kept", id))
	}
	return lines
}

func (l lockedAmount) line(format string) []string {
	if l.Objects == 0 {
		return nil
	}
	until := ""
	if !l.FirstUntil.IsZero() {
		until = fmt.Sprintf(", the first until %s, the last until %s", cli.Time(l.FirstUntil), cli.Time(l.LastUntil))
	}
	return []string{fmt.Sprintf(format, cli.Bytes(l.Bytes), cli.Count(l.Objects, "object"), until)}
}

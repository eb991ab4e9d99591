package repo

import (
	"context"
	"errors"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
)

// runChange is what a log entry says about the live index runs.
type runChange struct {
	added   []string
	about   []oplog.RunAbout // of the runs in added
	dropped []string
	whole   bool // to be given up when another writer dropped one of the runs meanwhile: else what they hold would be said twice
}

// in returns the entry with the change in it.
func (c runChange) in(e oplog.Entry) oplog.Entry {
	e.Added, e.About, e.Dropped = c.added, c.about, c.dropped
	return e
}

func (c *runChange) add(about index.About) {
	c.added = append(c.added, about.Name)
	c.about = append(c.about, oplog.RunAbout{Prefix: about.Prefix.String(), Entries: about.Entries, Bytes: about.Bytes, Clean: about.Clean})
}

func changeOf(change *index.Change) runChange {
	c := runChange{dropped: change.Dropped}
	for _, about := range change.Added {
		c.add(about)
	}
	return c
}

const (
	// mergedAtLeast is how many entries a publication may merge however little it adds, so that one step is never too much: a full
	// buffer and the sixteen leaves below it. That is 320 MB to be read and written.
	mergedAtLeast = 4 << 20
	// scannedAlways is up to how many entries a collection looks through the index however few packs it condemned.
	scannedAlways = 4 << 20
	// maskedPacksMax is how many condemned packs a state may keep because live index runs may name them: each costs 80 bytes in a list
	// that every writer reads. Beyond it, or when a sixteenth of the entries may be dead, the index is looked through whatever its size.
	maskedPacksMax = 64 << 10
	// entriesPerPack is about how many entries of a run lead to one pack.
	entriesPerPack = 500
)

// rewriteRuns makes the live runs of a state free of packs that are condemned in it, in the name of an open session: runs that name
// such packs are written anew without them, the others are stated to be clean. The change it returns is for an `index` entry of that
// session; with it in the log, a condemnation that is swept can be forgotten. Without it nothing is unsafe: a state keeps
// condemnations that its runs may lead to, and whoever looks something up leaves out what is condemned. So a large index is left as it
// is until enough of it is dead, and the change may be empty.
func (r *Repository) rewriteRuns(ctx context.Context, session holdfast.SessionID, state oplog.State) (runChange, error) {
	condemned, err := r.runs.condemnedPacks(ctx, state)
	if err != nil || len(condemned) == 0 {
		return runChange{}, err
	}
	live, err := r.runs.live(ctx, state)
	if err != nil {
		return runChange{}, err
	}
	newest := slices.MaxFunc(state.Condemned, func(a, b oplog.Condemnation) int { return int(int64(a.Number) - int64(b.Number)) }).Number
	stale, entries := []index.About{}, 0
	for _, about := range live.Runs() {
		if entries += about.Entries; about.Clean <= newest {
			stale = append(stale, about)
		}
	}
	if entries > scannedAlways && len(condemned) < maskedPacksMax && len(condemned)*entriesPerPack < entries/16 {
		return runChange{}, nil
	}
	merger, err := r.merger(session, condemned, state)
	if err != nil {
		return runChange{}, err
	}
	var change runChange
	for _, about := range stale[:min(len(stale), index.ChangedRunsMax)] {
		if err := r.rewriteRun(ctx, merger, about, &change); err != nil {
			return runChange{}, err
		}
	}
	return change, nil
}

var errNamesCondemned = errors.New("the run names a condemned pack")

// rewriteRun adds to a change what is to be said about one run.
func (r *Repository) rewriteRun(ctx context.Context, merger *index.Merger, about index.About, change *runChange) error {
	run, err := r.runs.reader.Open(ctx, about)
	if run == nil || err != nil {
		return err // nobody can say what a damaged run names
	}
	err = run.Entries(ctx, func(e index.Entry) error {
		if merger.Without != nil && merger.Without(e.Pack) {
			return errNamesCondemned
		}
		return nil
	})
	switch {
	case err == nil:
		about.Clean = merger.Clean
		change.add(about)
		return nil
	case isDamage(err):
		return nil
	case !errors.Is(err, errNamesCondemned):
		return err
	}
	made, err := merger.Do(ctx, index.Rewrite(about, run.Len()), nil)
	if err != nil {
		return err
	}
	change.dropped = append(change.dropped, about.Name)
	for _, about := range made {
		change.add(about)
	}
	return nil
}

// tend merges index runs after so many new entries were published.
func (r *Repository) tend(ctx context.Context, entries int) {
	if err := r.tendIndex(ctx, max(index.MergedPerEntry*entries, mergedAtLeast)); err != nil {
		// best effort: without it, lookups ask more runs, until the next publication.
		r.log.WarnContext(ctx, "index not merged", "error", err)
	}
}

// tendIndex merges live index runs where that is due, up to about so many entries and one step at least, in a session of its own. It is
// an economy for lookups to come: callers may go on when it fails.
func (r *Repository) tendIndex(ctx context.Context, entriesMax int) error {
	live, err := r.runs.live(ctx, r.oplog.State())
	if err != nil {
		return err
	}
	if _, due := index.Plan(live.Runs(), r.runs.reader.Limits()); !due {
		return nil
	}
	return r.indexSession(ctx, func(ctx context.Context, session holdfast.SessionID, state oplog.State) (runChange, error) {
		live, err := r.runs.live(ctx, state)
		if err != nil {
			return runChange{}, err
		}
		condemned, err := r.runs.condemnedPacks(ctx, state)
		if err != nil {
			return runChange{}, err
		}
		merger, err := r.merger(session, condemned, state)
		if err != nil {
			return runChange{}, err
		}
		change := index.NewChange(live.Runs())
		if err := change.Tend(ctx, merger, entriesMax); err != nil {
			return runChange{}, err
		}
		merged := changeOf(change)
		merged.whole = true
		return merged, nil
	})
}

// indexSession runs work in a session without a point, so that no collection takes the runs that it writes for leftovers, and appends
// the change that it returns. A change that must be whole and cannot be is KindConflict.
func (r *Repository) indexSession(ctx context.Context, work func(context.Context, holdfast.SessionID, oplog.State) (runChange, error)) error {
	session := holdfast.SessionID(keys.Random(16))
	var state oplog.State // before the session
	_, err := r.oplog.Append(ctx, func(s oplog.State) (oplog.Entry, error) {
		state = s
		return oplog.Entry{Kind: oplog.Begin, Session: &session}, nil
	})
	if err != nil {
		return err
	}
	change, err := work(ctx, session, state)
	if err == nil {
		_, err = r.oplog.Append(ctx, func(s oplog.State) (oplog.Entry, error) {
			for _, name := range change.dropped {
				if change.whole && !slices.Contains(s.Runs, name) {
					return oplog.Entry{}, holdfast.Errorf(holdfast.KindConflict, "another writer has merged the index meanwhile").WithHint("run again")
				}
			}
			return change.in(oplog.Entry{Kind: oplog.Index, Session: &session}), nil
		})
	}
	if err != nil {
		after := context.WithoutCancel(ctx)
		if r.Abandon(after, session, err.Error()) == nil {
			err = errors.Join(err, r.Settle(after, session)) // nothing lies outside the repository
		}
	}
	return err
}

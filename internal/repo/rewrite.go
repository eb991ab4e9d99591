package repo

import (
	"context"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
)

// runChange is what a log entry says about the live index runs.
type runChange struct {
	added   []string
	about   []oplog.RunAbout // of the runs in added
	dropped []string
}

// in returns the entry with the change in it.
func (c runChange) in(e oplog.Entry) oplog.Entry {
	e.Added, e.About, e.Dropped = c.added, c.about, c.dropped
	return e
}

func (c *runChange) add(name string, about oplog.RunAbout) {
	c.added, c.about = append(c.added, name), append(c.about, about)
}

// rewriteRuns makes the live runs of a state free of packs that are condemned in it, in the name of an open session: runs that name
// such packs are written anew without them, the others are stated to be clean. The change it returns is for an `index` entry of that
// session; with it in the log, a condemnation that is swept can be forgotten. Without it nothing is unsafe: a state keeps
// condemnations that its runs may lead to, and whoever looks something up leaves out what is condemned.
func (r *Repository) rewriteRuns(ctx context.Context, session holdfast.SessionID, state oplog.State) (runChange, error) {
	condemned, err := r.runs.condemnedPacks(ctx, state)
	if err != nil {
		return runChange{}, err
	}
	runs, err := r.runs.of(ctx, state)
	if err != nil {
		return runChange{}, err
	}
	var change runChange
	for _, run := range runs {
		contents, err := run.Contents(ctx)
		if isDamage(err) {
			continue // nobody can say what it names
		}
		if err != nil {
			return runChange{}, err
		}
		name, kept := run.Name(), contents.Without(condemned)
		if len(kept.Packs) < len(contents.Packs) {
			change.dropped = append(change.dropped, name)
			if len(kept.Entries) == 0 {
				continue
			}
			written, err := r.writeRun(ctx, session, kept)
			if err != nil {
				return runChange{}, err
			}
			name = written.Name()
		}
		info, err := r.store.Stat(ctx, name)
		if err != nil {
			return runChange{}, err
		}
		change.add(name, oplog.RunAbout{Entries: len(kept.Entries), Bytes: info.Size, Clean: state.Next})
	}
	return change, nil
}

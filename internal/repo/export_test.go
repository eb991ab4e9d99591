package repo

import (
	"context"
	"maps"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/pack"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
	"github.com/holdfast-backup/holdfast/internal/repo/verify"
)

// AuditedLog is the outcome of the first step of Verify.
type AuditedLog = oplog.Audited

// AuditLog does the first step of Verify.
func AuditLog(ctx context.Context, store blob.Store, o VerifyOptions) (AuditedLog, error) {
	return verify.Audit(ctx, store, o.inner())
}

// CheckEntry returns an error unless the bytes prove themselves as a log entry of that name.
func CheckEntry(name string, stored []byte) error {
	n, err := layout.ParseEntryName(name)
	if err != nil {
		return err
	}
	return oplog.Check(stored, n)
}

// VerifyChanged is Verify for a store of which one object has changed since it was found sound. What has not changed is not
// looked at again: an object's check depends on its name and bytes alone (and the repository's id). audited is the audit of the
// store as it is: the one of the clean log when an object changed, and for a log entry that of the log without it, since what an
// entry that does not prove itself says is not looked at by the audit.
func VerifyChanged(ctx context.Context, store blob.Store, o VerifyOptions, audited AuditedLog, changed string) (Report, error) {
	inner := o.inner()
	inner.Only = func(name string) bool { return name == changed }
	return verify.RunAfter(ctx, store, inner, audited)
}

// Condemn appends a condemnation of objects, as a collection does, and returns its list.
func Condemn(ctx context.Context, r *Repository, names ...string) (string, error) {
	list, err := r.put(ctx, layout.List, packlist.Condemnation{Repository: r.id, Names: names}.Encode())
	if err != nil {
		return "", err
	}
	_, err = r.oplog.Append(ctx, func(oplog.State) (oplog.Entry, error) { return oplog.Entry{Kind: oplog.Condemn, List: list}, nil })
	return list, err
}

// Sweep records that what a list condemned is gone.
func Sweep(ctx context.Context, r *Repository, list string) error {
	_, err := r.oplog.Append(ctx, func(oplog.State) (oplog.Entry, error) { return oplog.Entry{Kind: oplog.Swept, List: list}, nil })
	return err
}

// RemovePoint appends that a point is none any more.
func RemovePoint(ctx context.Context, r *Repository, id holdfast.PointID) error {
	_, err := r.oplog.Append(ctx, func(oplog.State) (oplog.Entry, error) {
		return oplog.Entry{Kind: oplog.Remove, Points: []holdfast.PointID{id}}, nil
	})
	return err
}

// CleanIndex makes the live index runs free of condemned packs, as a collection does.
func CleanIndex(ctx context.Context, r *Repository) error {
	return r.indexSession(ctx, func(ctx context.Context, session holdfast.SessionID, state oplog.State) (runChange, error) {
		return r.rewriteRuns(ctx, session, state)
	})
}

// TendIndex merges live index runs where that is due.
func TendIndex(ctx context.Context, r *Repository) error { return r.tendIndex(ctx, mergedAtLeast) }

// IndexShape returns the number of live index runs, the greatest number of them that a lookup of some ids asks, and whether a merge is due.
func IndexShape(ctx context.Context, r *Repository) (runs, asked int, due bool, err error) {
	live, err := r.runs.live(ctx, r.oplog.State())
	if err != nil {
		return 0, 0, false, err
	}
	for i := range 256 {
		asked = max(asked, live.Asked(chunk.ID{byte(i), byte(37 * i)}))
	}
	_, due = index.Plan(live.Runs(), r.runs.reader.Limits())
	return len(live.Runs()), asked, due, nil
}

// InMemory returns how many ids a session finds without its runs, and how many index entries wait to be written.
func InMemory(s *Session) (pending, entries int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending), s.fresh.Waiting()
}

// FlushPacks stores the data pack that is being filled, however small.
func FlushPacks(s *Session) { s.chunks.Rotate() }

// LiveRuns returns the live index runs of the state read last.
func LiveRuns(r *Repository) []string { return r.oplog.State().Runs }

// Condemnations returns the condemnation lists that the state keeps.
func Condemnations(r *Repository) []string {
	state := r.oplog.State()
	return state.Lists()
}

// IndexedPacks returns the packs that the live index runs name.
func IndexedPacks(ctx context.Context, r *Repository) (map[string]bool, error) {
	live, err := r.runs.live(ctx, r.oplog.State())
	if err != nil {
		return nil, err
	}
	packs := map[string]bool{}
	for _, about := range live.Runs() {
		run, err := r.runs.reader.MustOpen(ctx, about)
		if err != nil {
			return nil, err
		}
		err = run.Entries(ctx, func(e index.Entry) error {
			packs[e.Pack.Name()] = true
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return packs, nil
}

// WaitingNodesMax is how many nodes wait before a data pack is closed early.
const WaitingNodesMax = pack.WaitingMax

// ForgetReused makes a session publish a pack list without those packs of others in a folder that its point needs: a defect that
// only level 2 can find.
func ForgetReused(s *Session, folder string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.reused, func(name string, _ bool) bool { return strings.HasPrefix(name, folder) })
}

// RewriteIndex writes every live index run anew, as a merge by another writer does.
func RewriteIndex(ctx context.Context, r *Repository) error {
	return r.indexSession(ctx, func(ctx context.Context, session holdfast.SessionID, state oplog.State) (runChange, error) {
		live, err := r.runs.live(ctx, state)
		if err != nil {
			return runChange{}, err
		}
		merger, err := r.merger(session, nil, state)
		if err != nil {
			return runChange{}, err
		}
		var change runChange
		for _, about := range live.Runs() {
			made, err := merger.Do(ctx, index.Rewrite(about, about.Entries), nil)
			if err != nil {
				return runChange{}, err
			}
			change.dropped = append(change.dropped, about.Name)
			for _, about := range made {
				change.add(about)
			}
		}
		return change, nil
	})
}

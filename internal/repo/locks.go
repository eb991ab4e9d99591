package repo

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/lock"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/shadow"
)

// RetainFor returns the date that many days from now, by the clock of the store, for BeginOptions.RetainUntil. A store that cannot
// lock, and days that it does not take, are KindInvalid.
func (r *Repository) RetainFor(ctx context.Context, days int) (time.Time, error) {
	return lock.Until(ctx, r.store, days)
}

// promise is what a session has promised about locks, and what that takes. Its methods but keep may be called from several
// goroutines; a nil promise is none.
type promise struct {
	*lock.Keeper
	store blob.Store

	// What the point needs whatever others append to the log, and the list and records of gone packs that say so.
	fixed []string
	list  string
	gone  []string
}

// promise checks that what a session is asked to promise can be kept here, and returns the repository as that session sees it: all
// that it puts is locked at birth.
func (r *Repository) promise(ctx context.Context, o BeginOptions) (*Repository, *promise, error) {
	if o.RetainUntil.IsZero() {
		return r, &promise{}, nil
	}
	keeper, err := lock.NewKeeper(ctx, r.store.Store, lock.Terms{Until: o.RetainUntil, RequestsMax: o.LockRequestsMax}, r.log)
	if err != nil {
		return nil, nil, err
	}
	r.oplog.BornLocked(keeper.For(layout.EntryName(0)), keeper.For(layout.Prefix(layout.State)))
	locked := *r
	locked.store = &countingStore{Store: r.store.Store, added: r.store.added, births: keeper}
	return &locked, &promise{Keeper: keeper, store: r.store.Store}, nil
}

// keep locks all that a point needs, before the point is published under that state. It may be called again with a newer state, and
// then asks only about what came with it.
func (p *promise) keep(ctx context.Context, state oplog.State, point oplog.PointState, dropped []string) error {
	if p.Keeper == nil {
		return nil
	}
	if p.list != point.List || !slices.Equal(p.gone, state.Gone) {
		fixed, err := needsOf(ctx, p.store, state, point)
		if err != nil {
			return err
		}
		p.fixed, p.list, p.gone = fixed, point.List, state.Gone
	}
	names := slices.Concat(p.fixed, logAndKeys(state, state.Next))
	for _, run := range state.Runs {
		if !slices.Contains(dropped, run) {
			names = append(names, run)
		}
	}
	checkpoint, err := oplog.StateNamed(ctx, p.store, state.Checkpoint)
	if err != nil {
		return err
	}
	if checkpoint != "" {
		names = append(names, checkpoint)
	}
	return p.Cover(ctx, names)
}

// needsOf returns the objects that a point needs beside the log and the keys: manifest, lists, packs. It needs no key.
func needsOf(ctx context.Context, store blob.Reader, state oplog.State, point oplog.PointState) ([]string, error) {
	gone, err := goneIn(ctx, store, state)
	if err != nil {
		return nil, err
	}
	packs, includes, err := listsIn(store).Expand(ctx, point.List)
	if err != nil {
		return nil, err
	}
	damage, err := listsIn(store).Damage(ctx, state.Damage)
	if isDamage(err) {
		return nil, holdfast.Wrap(holdfast.KindCorrupt, err, "what was written again of lost packs cannot be told").
			WithHint("have it found out again by: holdfast repo verify, with the password")
	}
	if err != nil {
		return nil, err
	}
	packs = append(packs, damage.Instead(packs)...)
	return slices.Concat([]string{point.Manifest, point.List}, includes, state.Gone, gone.Resolve(packs)), nil
}

// logAndKeys returns what any point needs of the log up to, and without, an entry, and of the keys.
func logAndKeys(state oplog.State, end uint64) []string {
	names := slices.Concat(state.Slots, []string{state.KeyRing})
	for n := range end {
		names = append(names, layout.EntryName(n))
	}
	return names
}

// mayGo refuses to remove points that are locked, with the date.
func (r *Repository) mayGo(ctx context.Context, points []holdfast.PointID) error {
	state := r.oplog.State()
	for _, id := range points {
		if point := state.Point(id); point != nil {
			if err := lock.MayGo(ctx, r.store, id, point.Manifest); err != nil {
				return err
			}
		}
	}
	return nil
}

// PointLocks says how long nobody can take from a restore point what it needs.
type PointLocks = lock.Locks

// LocksOptions tell whose locks to show.
type LocksOptions struct {
	Point      holdfast.PointID // or a beginning of it that only one point has
	Repository *Repository      // open, so that a stranger's log entries do not count; nil asks no key
}

// Locks asks the store how long what a restore point needs is locked. It takes the service's own answers, and nothing that the
// repository says of itself. It needs no key.
func Locks(ctx context.Context, store blob.Store, o LocksOptions) (PointLocks, error) {
	store, err := shadow.Open(ctx, store, oplog.ProvesItself, layout.LogEntry, layout.State)
	if err != nil {
		return PointLocks{}, err
	}
	var state oplog.State
	if o.Repository != nil {
		state = o.Repository.oplog.State()
	} else {
		audited, err := oplog.Audit(ctx, store, nil, 0)
		if err != nil {
			return PointLocks{}, err
		}
		state = audited.State
	}
	id, err := resolvePoint(state, o.Point, store.URL())
	if err != nil {
		return PointLocks{}, err
	}
	point := *state.Point(id)
	names, err := needsOf(ctx, store, state, point)
	if err != nil {
		return PointLocks{}, err
	}
	return lock.Of(ctx, store, id, slices.Concat(names, logAndKeys(state, point.Published+1)))
}

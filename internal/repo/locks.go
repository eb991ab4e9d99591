package repo

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
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
	locker, err := r.locker()
	if err != nil {
		return time.Time{}, err
	}
	now, err := locker.Now(ctx)
	if err != nil {
		return time.Time{}, err
	}
	until := now.AddDate(0, 0, days)
	return until, lock.Terms{Until: until}.Check(now)
}

func (r *Repository) locker() (blob.Locker, error) {
	if through := throughOf(r.store); through != nil {
		if locker, ok := through.Store.(blob.Locker); ok {
			return locker, nil
		}
	}
	return nil, holdfast.Errorf(holdfast.KindInvalid, "the store at %s cannot lock objects, so a restore point cannot be made immutable there", r.URL()).WithField("lockFor").
		WithHint("keep the repository in a container of Azure Blob that was made with version-level immutability, or back up without locks")
}

// keeper keeps the promise of one session: what its point needs cannot be removed before a date. A nil keeper promises nothing.
type keeper struct {
	r       *Repository
	locker  blob.Locker
	through *shadow.Store
	terms   lock.Terms

	// Owned by the caller of Publish: what the point needs whatever others append to the log, and the list and records of gone
	// packs that say so.
	fixed []string
	list  string
	gone  []string

	mu      sync.Mutex      // guards the fields below
	done    map[string]bool // objects that are locked long enough, born so or renewed
	renewed int
}

// newKeeper checks that the date can be kept here. From then on this handle's log entries are born locked.
func (r *Repository) newKeeper(ctx context.Context, terms lock.Terms) (*keeper, error) {
	locker, err := r.locker()
	if err != nil {
		return nil, err
	}
	now, err := locker.Now(ctx)
	if err != nil {
		return nil, err
	}
	if err := terms.Check(now); err != nil {
		return nil, err
	}
	r.oplog.BornLocked(terms.For(layout.EntryName(0)), terms.For(layout.Prefix(layout.State)))
	return &keeper{r: r, locker: locker, through: throughOf(r.store), terms: terms, done: map[string]bool{}}, nil
}

// born returns the repository as a session sees it whose objects are locked at birth.
func (k *keeper) born() *Repository {
	locked := *k.r
	locked.store = &countingStore{Store: k.r.store.Store, added: k.r.store.added, births: k}
	return &locked
}

// put puts an object that is locked from birth. One that exists is locked as long.
func (k *keeper) put(ctx context.Context, store blob.Store, name string, data []byte) error {
	err := store.Put(ctx, name, data, blob.PutOptions{LockUntil: k.terms.For(name)})
	if err == nil {
		k.mu.Lock()
		k.done[name] = true
		k.mu.Unlock()
		return nil
	}
	if !errors.Is(err, blob.ErrExists) {
		return err
	}
	if renewErr := k.cover(ctx, []string{name}); renewErr != nil {
		return renewErr
	}
	return err
}

// entryUntil returns how long entries of the session are locked.
func (k *keeper) entryUntil() time.Time {
	if k == nil {
		return time.Time{}
	}
	return k.terms.For(layout.EntryName(0))
}

// keep locks all that a point needs, before the point is published under that state. It may be called again with a newer state, and
// then asks only about what came with it.
func (k *keeper) keep(ctx context.Context, state oplog.State, point oplog.PointState, dropped []string) error {
	if k == nil {
		return nil
	}
	if k.list != point.List || !slices.Equal(k.gone, state.Gone) {
		fixed, err := needsOf(ctx, k.through, state, point)
		if err != nil {
			return err
		}
		k.fixed, k.list, k.gone = fixed, point.List, state.Gone
	}
	names := slices.Concat(k.fixed, logAndKeys(state, state.Next))
	for _, run := range state.Runs {
		if !slices.Contains(dropped, run) {
			names = append(names, run)
		}
	}
	checkpoint, err := oplog.StateNamed(ctx, k.through, state.Checkpoint)
	if err != nil {
		return err
	}
	if checkpoint != "" {
		names = append(names, checkpoint)
	}
	return k.cover(ctx, names)
}

// cover makes sure that objects are locked long enough. A pack that is missing cannot be locked: verification tells of it.
func (k *keeper) cover(ctx context.Context, names []string) error {
	names = k.open(names)
	held, err := lock.Look(ctx, k.through, names)
	if err != nil {
		return err
	}
	for _, name := range names {
		kind, _ := layout.Parse(name)
		if _, ok := held[name]; !ok && !replaceable(kind) {
			return holdfast.Errorf(holdfast.KindCorrupt, "%s is missing, so the restore point cannot be locked", name).
				WithHint("see what is damaged with: holdfast repo verify --repo %s", k.r.URL())
		}
	}
	plan, err := k.terms.Plan(slices.Collect(maps.Values(held)))
	if err != nil {
		return err
	}
	k.r.log.InfoContext(ctx, "locks", "until", k.terms.Until, "enough", plan.Enough, "requests", plan.Requests())
	moved, err := lock.Renew(ctx, k.locker, plan)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.renewed += moved
	if err != nil {
		return err
	}
	for _, renewal := range plan.Renewals {
		k.through.Extended(renewal.Name, renewal.Version, renewal.To)
	}
	for _, name := range names {
		k.done[name] = true
	}
	return nil
}

// open returns the names that are not known to be locked, each once.
func (k *keeper) open(names []string) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	left := map[string]bool{}
	for _, name := range names {
		if !k.done[name] {
			left[name] = true
		}
	}
	return slices.Sorted(maps.Keys(left))
}

// result returns the date that was promised, and how many locks were moved for it.
func (k *keeper) result() (until time.Time, renewed int) {
	if k == nil {
		return time.Time{}, 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.terms.Until, k.renewed
}

// replaceable reports whether a missing object of the kind leaves the rest worth a lock: a lost pack may have been written anew
// elsewhere, an index run can be rebuilt, a checkpoint too.
func replaceable(kind layout.Kind) bool {
	switch kind {
	case layout.DataPack, layout.TreePack, layout.IndexRun, layout.State:
		return true
	case layout.Foreign, layout.LogEntry, layout.KeyObject, layout.Manifest, layout.List:
	}
	return false
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

// lockLike locks new objects as long as the one among others that is locked for the shortest time: what takes their place must not
// shorten anybody's horizon. Where nothing can be locked it does nothing.
func lockLike(ctx context.Context, store blob.Reader, names, others []string) error {
	through := throughOf(store)
	if through == nil {
		return nil
	}
	locker, ok := through.Store.(blob.Locker)
	if !ok {
		return nil
	}
	held, err := lock.Look(ctx, through, slices.Concat(names, others))
	if err != nil {
		return err
	}
	var until time.Time
	for i, name := range others {
		if h := held[name]; i == 0 || h.Until.Before(until) {
			until = h.Until
		}
	}
	now, err := locker.Now(ctx)
	if err != nil || !until.After(now) {
		return err
	}
	var plan lock.Plan
	for _, name := range names {
		if h, ok := held[name]; ok && h.Until.Before(until) {
			plan.Renewals = append(plan.Renewals, lock.Renewal{Held: h, To: until})
		}
	}
	_, err = lock.Renew(ctx, locker, plan)
	return err
}

// PointLocks says how long nobody can take from a restore point what it needs.
type PointLocks struct {
	Point holdfast.PointID `json:"point"`
	// Horizon is the earliest end among the locks of all objects; nil when one of them is not locked, or not any more.
	Horizon *time.Time   `json:"horizon"`
	Objects []ObjectLock `json:"objects"` // in order of names
	Missing []string     `json:"missing"` // packs that are not there: a lock cannot hold them, and verification tells what is lost
}

// ObjectLock is the lock of one object.
type ObjectLock struct {
	Name  string     `json:"name"`
	Until *time.Time `json:"until"` // nil when it is not locked; may have passed
}

// LocksOptions tell whose locks to show.
type LocksOptions struct {
	Point      holdfast.PointID // or a beginning of it that only one point has
	Repository *Repository      // open, so that a stranger's log entries do not count; nil asks no key
}

// Locks asks the store how long what a restore point needs is locked. It takes the service's own answers, and nothing that the
// repository says of itself. It needs no key.
func Locks(ctx context.Context, store blob.Store, o LocksOptions) (PointLocks, error) {
	store, err := seeThrough(ctx, store, layout.LogEntry, layout.State)
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
	names = slices.Concat(names, logAndKeys(state, point.Published+1))
	slices.Sort(names)
	return locksOf(ctx, store, id, slices.Compact(names))
}

// locksOf asks for the locks of a point's objects.
func locksOf(ctx context.Context, store blob.Store, id holdfast.PointID, names []string) (PointLocks, error) {
	result := PointLocks{Point: id, Objects: []ObjectLock{}, Missing: []string{}}
	through := throughOf(store)
	if through == nil {
		for _, name := range names {
			result.Objects = append(result.Objects, ObjectLock{Name: name})
		}
		return result, nil
	}
	held, err := lock.Look(ctx, through, names)
	if err != nil {
		return PointLocks{}, err
	}
	var all []lock.Held
	for _, name := range names {
		h, ok := held[name]
		if kind, _ := layout.Parse(name); !ok && replaceable(kind) {
			result.Missing = append(result.Missing, name)
			continue
		}
		all = append(all, h)
		object := ObjectLock{Name: name}
		if !h.Until.IsZero() {
			until := h.Until.UTC()
			object.Until = &until
		}
		result.Objects = append(result.Objects, object)
	}
	locker, ok := through.Store.(blob.Locker)
	if !ok {
		return result, nil
	}
	now, err := locker.Now(ctx)
	if err != nil {
		return PointLocks{}, err
	}
	if horizon := lock.Horizon(all, now).UTC(); !horizon.IsZero() {
		result.Horizon = &horizon
	}
	return result, nil
}

// resolvePoint returns the id of the one visible restore point whose id is, or begins with, what is given.
func resolvePoint(state oplog.State, id holdfast.PointID, url string) (holdfast.PointID, error) {
	if state.Point(id) != nil {
		return id, nil
	}
	var matches []holdfast.PointID
	for i := range state.Points {
		if id != "" && strings.HasPrefix(string(state.Points[i].ID), string(id)) {
			matches = append(matches, state.Points[i].ID)
		}
	}
	switch len(matches) {
	case 1:
		return matches[0], nil
	case 0:
		return "", holdfast.Errorf(holdfast.KindNotFound, "there is no restore point %q", id).WithField("point").
			WithHint("list what there is with: holdfast repo points --repo %s", url)
	}
	return "", holdfast.Errorf(holdfast.KindInvalid, "%q is the beginning of %d restore points", id, len(matches)).WithField("point").
		WithHint("write one of them out: %s", matches)
}

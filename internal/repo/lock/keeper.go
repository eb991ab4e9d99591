package lock

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/shadow"
)

// Until returns the date that many days from now, by the clock of the store. A store that cannot lock, and days that it does
// not take, are KindInvalid.
func Until(ctx context.Context, store blob.Store, days int) (time.Time, error) {
	_, now, err := lockerOf(ctx, store)
	if err != nil {
		return time.Time{}, err
	}
	until := now.AddDate(0, 0, days)
	return until, Terms{Until: until}.Check(now)
}

// lockerOf returns the right to lock, and what time it is by the store's clock.
func lockerOf(ctx context.Context, store blob.Store) (blob.Locker, time.Time, error) {
	locker := shadow.Locker(store)
	if locker == nil {
		return nil, time.Time{}, holdfast.Errorf(holdfast.KindInvalid, "the store at %s cannot lock objects, so a restore point cannot be made immutable there", store.URL()).
			WithField("lockFor").
			WithHint("keep the repository in a container of Azure Blob that was made with version-level immutability, or back up without locks")
	}
	now, err := locker.Now(ctx)
	return locker, now, err
}

// Keeper keeps the promise of one restore point: what it needs cannot be removed before a date. Safe for concurrent use. A nil
// Keeper promises nothing.
type Keeper struct {
	store   blob.Store
	locker  blob.Locker
	through *shadow.Store
	terms   Terms
	log     *slog.Logger

	mu      sync.Mutex      // guards the fields below
	done    map[string]bool // objects that are locked long enough, born so or renewed
	renewed int
}

// NewKeeper checks that the terms can be kept in a store. One that cannot lock is KindInvalid.
func NewKeeper(ctx context.Context, store blob.Store, terms Terms, log *slog.Logger) (*Keeper, error) {
	locker, now, err := lockerOf(ctx, store)
	if err != nil {
		return nil, err
	}
	if err := terms.Check(now); err != nil {
		return nil, err
	}
	return &Keeper{store: store, locker: locker, through: shadow.Of(store), terms: terms, log: log, done: map[string]bool{}}, nil
}

// For returns how long an object of that name has to be locked at birth, the zero time for not at all.
func (k *Keeper) For(name string) time.Time {
	if k == nil {
		return time.Time{}
	}
	return k.terms.For(name)
}

// Put puts an object that is locked from birth. One that exists is locked as long, and is blob.ErrExists.
func (k *Keeper) Put(ctx context.Context, name string, data []byte) error {
	err := k.store.Put(ctx, name, data, blob.PutOptions{LockUntil: k.terms.For(name)})
	switch {
	case err == nil:
		k.mu.Lock()
		k.done[name] = true
		k.mu.Unlock()
	case errors.Is(err, blob.ErrExists):
		if renewErr := k.Cover(ctx, []string{name}); renewErr != nil {
			return renewErr
		}
	}
	return err
}

// Cover makes sure that objects are locked long enough. It may be called again with more of them, and then asks only about
// those. A pack that is missing cannot be locked: verification tells of it.
func (k *Keeper) Cover(ctx context.Context, names []string) error {
	names = k.open(names)
	held, err := Look(ctx, k.through, names)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := held[name]; !ok && !replaceable(name) {
			return holdfast.Errorf(holdfast.KindCorrupt, "%s is missing, so the restore point cannot be locked", name).
				WithHint("see what is damaged with: holdfast repo verify --repo %s", k.store.URL())
		}
	}
	plan, err := k.terms.Plan(slices.Collect(maps.Values(held)))
	if err != nil {
		return err
	}
	k.log.InfoContext(ctx, "locks", "until", k.terms.Until, "enough", plan.Enough, "requests", plan.Requests())
	moved, err := Renew(ctx, k.locker, plan)
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
func (k *Keeper) open(names []string) []string {
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

// Result returns the date that was promised, and how many locks were moved for it, a request each.
func (k *Keeper) Result() (until time.Time, renewed int) {
	if k == nil {
		return time.Time{}, 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.terms.Until, k.renewed
}

// replaceable reports whether an object that is missing leaves the rest worth a lock: a lost pack may have been written anew
// elsewhere, an index run can be rebuilt, a checkpoint too.
func replaceable(name string) bool {
	switch kind, _ := layout.Parse(name); kind {
	case layout.DataPack, layout.TreePack, layout.IndexRun, layout.State:
		return true
	case layout.Foreign, layout.LogEntry, layout.KeyObject, layout.Manifest, layout.List:
	}
	return false
}

// Like locks new objects as long as the one among others that is locked for the shortest time: what takes their place must not
// shorten anybody's horizon. Where nothing can be locked it does nothing.
func Like(ctx context.Context, store blob.Store, names, others []string) error {
	locker := shadow.Locker(store)
	if locker == nil {
		return nil
	}
	held, err := Look(ctx, shadow.Of(store), slices.Concat(names, others))
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
	var plan Plan
	for _, name := range names {
		if h, ok := held[name]; ok && h.Until.Before(until) {
			plan.Renewals = append(plan.Renewals, Renewal{h, until})
		}
	}
	_, err = Renew(ctx, locker, plan)
	return err
}

package blobtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast/internal/blob"
)

func (r *run) lockAtBirth(ctx context.Context) error {
	if r.Locker == nil {
		return skip{"the store has no locks, or none were asked for"}
	}
	name, data := r.name("lock-at-birth"), pattern(20, 300)
	now, err := r.Locker.Now(ctx)
	if err != nil {
		return fmt.Errorf("time of the service: %w", err)
	}
	until := now.Add(r.LockFor)
	if err := r.store.Put(ctx, name, data, blob.PutOptions{LockUntil: until}); err != nil {
		return err
	}
	if err := r.lockedUntil(ctx, name, until); err != nil {
		return err
	}
	if err := r.refusesRemoval(ctx, name, data); err != nil {
		return err
	}
	return r.outlive(ctx, name, until)
}

func (r *run) lockExtend(ctx context.Context) error {
	if r.Locker == nil {
		return skip{"the store has no locks, or none were asked for"}
	}
	if err := r.Locker.Extend(ctx, r.Prefix+"/missing", r.Clock.Now().Add(r.LockFor)); !errors.Is(err, blob.ErrNotFound) {
		return fmt.Errorf("extend of a missing object: %w", unexpected(err))
	}
	name, data := r.name("lock-extend"), pattern(21, 300)
	if err := r.store.Put(ctx, name, data, blob.PutOptions{}); err != nil {
		return err
	}
	now, err := r.Locker.Now(ctx)
	if err != nil {
		return fmt.Errorf("time of the service: %w", err)
	}
	long, longer := now.Add(r.LockFor), now.Add(r.LockFor*3/2)
	for _, step := range []struct{ ask, want time.Time }{{long, long}, {longer, longer}, {long, longer}, {longer, longer}} {
		if err := r.Locker.Extend(ctx, name, step.ask); err != nil {
			return fmt.Errorf("extend: %w", err)
		}
		if err := r.lockedUntil(ctx, name, step.want); err != nil {
			return err
		}
		if err := r.refusesRemoval(ctx, name, data); err != nil {
			return err
		}
	}
	return r.outlive(ctx, name, longer)
}

// lockedUntil proves that Stat shows a lock that lasts at least until then, and no more than a rounding longer.
func (r *run) lockedUntil(ctx context.Context, name string, until time.Time) error {
	info, err := r.store.Stat(ctx, name)
	if err != nil {
		return err
	}
	if info.LockedUntil.Before(until) || info.LockedUntil.Sub(until) > 2*time.Second {
		return fmt.Errorf("lock asked until %s lasts until %s", until.UTC(), info.LockedUntil.UTC())
	}
	return nil
}

func (r *run) refusesRemoval(ctx context.Context, name string, data []byte) error {
	if r.Remover == nil {
		return nil
	}
	info, err := r.store.Stat(ctx, name)
	if err != nil {
		return err
	}
	err = r.Remover.Remove(ctx, name)
	var locked *blob.LockedError
	if !errors.Is(err, blob.ErrLocked) || !errors.As(err, &locked) {
		return fmt.Errorf("remove of a locked object: %w", unexpected(err))
	}
	if !locked.Until.Equal(info.LockedUntil) {
		return fmt.Errorf("remove of an object that is locked until %s says %w", info.LockedUntil.UTC(), err)
	}
	return r.compare(ctx, name, data)
}

// outlive waits until the lock has run out and removes the object.
func (r *run) outlive(ctx context.Context, name string, until time.Time) error {
	if err := r.Wait(ctx, until.Sub(r.Clock.Now())+2*time.Second); err != nil {
		return err
	}
	if r.Remover == nil {
		return nil
	}
	if err := r.Remover.Remove(ctx, name); err != nil {
		return fmt.Errorf("remove after the lock has run out: %w", err)
	}
	if _, err := r.store.Stat(ctx, name); !errors.Is(err, blob.ErrNotFound) {
		return fmt.Errorf("stat of a removed object: %w", unexpected(err))
	}
	return nil
}

func (r *run) versions(ctx context.Context) error {
	if r.Versioned == nil || r.Overwrite == nil {
		return skip{"the store keeps no versions, or nobody may overwrite"}
	}
	name, first, second := r.name("versions"), pattern(22, 4000), pattern(23, 300)
	if err := r.store.Put(ctx, name, first, blob.PutOptions{}); err != nil {
		return err
	}
	if err := r.Overwrite(ctx, name, second); err != nil {
		return fmt.Errorf("overwrite: %w", err)
	}
	if err := r.compare(ctx, name, second); err != nil {
		return err
	}
	found, err := r.versionsOf(ctx, name)
	if err != nil {
		return err
	}
	if len(found) != 2 || !found[0].Current || found[1].Current || found[0].Size != int64(len(second)) || found[1].Size != int64(len(first)) {
		return fmt.Errorf("versions after one overwrite: %+v", found)
	}
	read := func(ctx context.Context, offset int64, p []byte) (int, error) {
		return r.Versioned.ReadVersion(ctx, name, found[1].ID, offset, p)
	}
	if err := compareBytes(ctx, read, first); err != nil {
		return fmt.Errorf("older version: %w", err)
	}
	if _, err := r.Versioned.ReadVersion(ctx, r.Prefix+"/missing", found[1].ID, 0, make([]byte, 1)); !errors.Is(err, blob.ErrNotFound) {
		return fmt.Errorf("version of a missing object: %w", unexpected(err))
	}
	if r.Locker == nil {
		return nil
	}
	return r.lockOlder(ctx, name, found[1])
}

// versionsOf returns the versions of an object, newest first, after comparing both ways to ask for them.
func (r *run) versionsOf(ctx context.Context, name string) ([]blob.Version, error) {
	var alone, listed []blob.Version
	for v, err := range r.Versioned.Versions(ctx, name) {
		if err != nil {
			return nil, fmt.Errorf("versions: %w", err)
		}
		alone = append(alone, v)
	}
	for v, err := range r.Versioned.ListVersions(ctx, name) {
		if err != nil {
			return nil, fmt.Errorf("list of versions: %w", err)
		}
		listed = append(listed, v)
	}
	same := func(a, b blob.Version) bool {
		return a.LockedUntil.Equal(b.LockedUntil) && a.ID == b.ID && a.Name == name && b.Name == name
	}
	if !slices.EqualFunc(alone, listed, same) {
		return nil, fmt.Errorf("the versions are %+v, and a list shows %+v", alone, listed)
	}
	return alone, nil
}

// lockOlder proves that an older version can be locked by itself, and shows it.
func (r *run) lockOlder(ctx context.Context, name string, older blob.Version) error {
	now, err := r.Locker.Now(ctx)
	if err != nil {
		return err
	}
	until := now.Add(r.LockFor)
	if err := r.Locker.ExtendVersion(ctx, name, older.ID, until); err != nil {
		return fmt.Errorf("lock of an older version: %w", err)
	}
	found, err := r.versionsOf(ctx, name)
	if err != nil {
		return err
	}
	if len(found) != 2 || !found[0].LockedUntil.IsZero() || found[1].LockedUntil.Before(until) {
		return fmt.Errorf("versions after the older one was locked until %s: %+v", until.UTC(), found)
	}
	if r.Remover == nil {
		return nil
	}
	if err := r.Remover.Remove(ctx, name); !errors.Is(err, blob.ErrLocked) {
		return fmt.Errorf("remove of an object whose older version is locked: %w", unexpected(err))
	}
	return r.outlive(ctx, name, until)
}

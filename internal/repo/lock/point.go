package lock

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/shadow"
)

// Locks says how long nobody can take from a restore point what it needs.
type Locks struct {
	Point holdfast.PointID `json:"point"`
	// Horizon is the earliest end among the locks of all objects; nil when one of them is not locked, or not any more.
	Horizon *time.Time `json:"horizon"`
	Objects []Object   `json:"objects"` // in order of names
	Missing []string   `json:"missing"` // packs that are not there: a lock cannot hold them, and verification tells what is lost
}

// Object is the lock of one object.
type Object struct {
	Name  string     `json:"name"`
	Until *time.Time `json:"until"` // nil when it is not locked; may have passed
}

// Of asks the store how long the objects of a point are locked. In a store that cannot lock none is.
func Of(ctx context.Context, store blob.Store, point holdfast.PointID, names []string) (Locks, error) {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	result := Locks{Point: point, Objects: []Object{}, Missing: []string{}}
	through := shadow.Of(store)
	if through == nil {
		for _, name := range names {
			result.Objects = append(result.Objects, Object{Name: name})
		}
		return result, nil
	}
	held, err := Look(ctx, through, names)
	if err != nil {
		return Locks{}, err
	}
	var all []Held
	for _, name := range names {
		h, ok := held[name]
		if !ok && replaceable(name) {
			result.Missing = append(result.Missing, name)
			continue
		}
		all = append(all, h)
		object := Object{Name: name}
		if !h.Until.IsZero() {
			until := h.Until.UTC()
			object.Until = &until
		}
		result.Objects = append(result.Objects, object)
	}
	locker := shadow.Locker(store)
	if locker == nil {
		return result, nil
	}
	now, err := locker.Now(ctx)
	if err != nil {
		return Locks{}, err
	}
	if horizon := Horizon(all, now).UTC(); !horizon.IsZero() {
		result.Horizon = &horizon
	}
	return result, nil
}

// MayGo returns a KindRefused error that says until when, if the manifest of a point is locked: the point is not to be removed
// before its time, though nothing but the store's own refusal protects what it needs.
func MayGo(ctx context.Context, store blob.Store, point holdfast.PointID, manifest string) error {
	locker := shadow.Locker(store)
	if locker == nil {
		return nil
	}
	held, err := Look(ctx, shadow.Of(store), []string{manifest})
	if err != nil || held[manifest].Until.IsZero() {
		return err
	}
	now, err := locker.Now(ctx)
	if err != nil {
		return err
	}
	until := held[manifest].Until
	if !until.After(now) {
		return nil
	}
	return holdfast.Wrap(holdfast.KindRefused, &blob.LockedError{Name: manifest, Until: until}, "restore point %s is locked until %s", point, until.UTC().Format(time.RFC3339)).
		WithField("point").WithHint("remove it after that date; see what is locked with: holdfast repo locks --repo %s --point %s", store.URL(), point)
}

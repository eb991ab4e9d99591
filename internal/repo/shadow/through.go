package shadow

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// Open returns store as it is read where it keeps versions: through what others put over objects. The kinds given are
// surveyed, none means all; other objects are looked at when they do not prove themselves. A store that keeps no
// versions is returned as it is.
func Open(ctx context.Context, store blob.Store, entry func(stored []byte, n uint64) error, kinds ...layout.Kind) (blob.Store, error) {
	through := New(store, entry)
	if through == nil {
		return store, nil
	}
	if len(kinds) == 0 {
		return through, through.Survey(ctx, "")
	}
	for _, kind := range kinds {
		if err := through.Survey(ctx, layout.Prefix(kind)); err != nil {
			return nil, err
		}
	}
	return through, nil
}

// Wrapper is a store around another one.
type Wrapper interface{ Below() blob.Store }

// Of returns what sees through shadows in a store or in what it wraps, nil where versions are not kept.
func Of(store blob.Reader) *Store {
	for {
		switch s := store.(type) {
		case *Store:
			return s
		case Wrapper:
			store = s.Below()
		default:
			return nil
		}
	}
}

// Locker returns the right to lock objects of a store, nil where that is not possible.
func Locker(store blob.Reader) blob.Locker {
	through := Of(store)
	if through == nil {
		return nil
	}
	locker, _ := through.Store.(blob.Locker)
	return locker
}

// Twice calls read, and once more when what it read of an object is damaged and another version answers from now on.
func Twice(ctx context.Context, store blob.Reader, name string, read func() error) error {
	err := read()
	through := Of(store)
	if through == nil || !errors.Is(err, blob.ErrNotFound) && !holdfast.IsKind(err, holdfast.KindCorrupt) {
		return err
	}
	another, doubtErr := through.Doubt(ctx, name)
	if doubtErr != nil {
		return doubtErr
	}
	if !another {
		return err
	}
	return read()
}

// In returns the objects of a store that were answered from another version than the current one.
func In(store blob.Reader) []string {
	if through := Of(store); through != nil {
		return through.Shadowed()
	}
	return []string{}
}

package repo

import (
	"context"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/shadow"
)

// seeThrough returns store as it is read where it keeps versions: through what others put over objects (package shadow). The
// kinds given are surveyed, none means all; other objects are looked at when they do not prove themselves. A store that keeps no versions is returned
// as it is.
func seeThrough(ctx context.Context, store blob.Store, kinds ...layout.Kind) (blob.Store, error) {
	through := shadow.New(store, provesItself)
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

// provesItself judges the stored bytes of a log entry. One of a newer version has the form and the checksum of an entry too.
func provesItself(stored []byte, n uint64) error {
	err := oplog.Check(stored, n)
	if holdfast.IsKind(err, holdfast.KindInvalid) {
		return nil
	}
	return err
}

// throughOf returns what sees through shadows in a store, nil where the store keeps no versions.
func throughOf(store blob.Reader) *shadow.Store {
	switch s := store.(type) {
	case *shadow.Store:
		return s
	case *countingStore:
		return throughOf(s.Store)
	}
	return nil
}

// doubt is called when something read of an object did not prove itself. It reports whether reading again is worth it, since
// another version answers from now on.
func doubt(ctx context.Context, store blob.Reader, name string) (bool, error) {
	through := throughOf(store)
	if through == nil {
		return false, nil
	}
	return through.Doubt(ctx, name)
}

// twice calls read, and once more when what it read is damaged and another version of the object answers from now on.
func twice(ctx context.Context, store blob.Reader, name string, read func() error) error {
	err := read()
	if !isDamage(err) {
		return err
	}
	another, doubtErr := doubt(ctx, store, name)
	if doubtErr != nil {
		return doubtErr
	}
	if !another {
		return err
	}
	return read()
}

// shadowedIn returns the objects that were answered from another version than the current one.
func shadowedIn(store blob.Reader) []string {
	if through := throughOf(store); through != nil {
		return through.Shadowed()
	}
	return nil
}

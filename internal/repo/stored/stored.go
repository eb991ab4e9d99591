// Package stored reads objects that prove themselves by their names, without a key: what the bytes hash to is what the name says, or it
// is damage (doc/format.md §2).
//
// It must never answer with bytes that do not prove themselves, and never call an object damaged that could not be looked at.
package stored

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// IsDamage reports whether an error says that an object is missing or damaged, rather than out of reach.
func IsDamage(err error) bool {
	return errors.Is(err, blob.ErrNotFound) || holdfast.IsKind(err, holdfast.KindCorrupt)
}

// IgnoreDamage returns err unless it says that an object is missing or damaged.
func IgnoreDamage(err error) error {
	if IsDamage(err) {
		return nil
	}
	return err
}

// Read reads an object and checks that it matches the hash in its name. A missing one is KindCorrupt: something that the
// log names must be there.
func Read(ctx context.Context, store blob.Reader, name string, limit int64) ([]byte, error) {
	data, err := blob.ReadAll(ctx, store, name, limit)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, holdfast.Wrap(holdfast.KindCorrupt, err, "%s is missing", name)
	}
	if err != nil {
		return nil, err
	}
	kind, hash := layout.Parse(name)
	if kind == layout.Foreign || layout.Sum(data) != hash {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "%s does not match the hash in its name", name)
	}
	return data, nil
}

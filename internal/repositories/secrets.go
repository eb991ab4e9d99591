package repositories

import (
	"context"
	"os"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/seal"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// OpenKeys reads the file of keys that seals what is secret in a database. It is made only where the database holds nothing sealed; where it
// does, a file that is missing, or is another one's, is an error that says so. What was sealed under an older key of the file is sealed anew.
func OpenKeys(ctx context.Context, db *database.DB, file string) (*seal.Keys, error) {
	var sealed map[string][]byte
	err := db.Read(ctx, func(ctx context.Context, q store.Query) (err error) {
		sealed, err = store.Secrets(ctx, q)
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(file); os.IsNotExist(err) && len(sealed) == 0 {
		keys, err := seal.Create(file)
		if !holdfast.IsKind(err, holdfast.KindConflict) {
			return keys, err
		}
	}
	keys, err := seal.Load(file)
	if err != nil {
		return nil, err
	}
	return keys, reseal(ctx, db, keys)
}

// reseal seals everything under the newest key, and shows by that that the file opens all of it.
func reseal(ctx context.Context, db *database.DB, keys *seal.Keys) error {
	return db.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		sealed, err := store.Secrets(ctx, tx)
		if err != nil {
			return err
		}
		for name, old := range sealed {
			again, changed, err := keys.Reseal(name, old)
			if err != nil {
				return err
			}
			if !changed {
				continue
			}
			if err := store.PutSecret(ctx, tx, name, again); err != nil {
				return err
			}
		}
		return nil
	})
}

// Secrets keeps secrets sealed in the database. Safe for concurrent use.
type Secrets struct {
	db   *database.DB
	keys *seal.Keys
}

// NewSecrets keeps secrets under keys.
func NewSecrets(db *database.DB, keys *seal.Keys) *Secrets { return &Secrets{db, keys} }

// Put keeps a secret under a name, in place of an earlier one.
func (s *Secrets) Put(ctx context.Context, tx database.Tx, name, secret string) error {
	sealed, err := s.keys.Seal(name, []byte(secret))
	if err != nil {
		return err
	}
	return store.PutSecret(ctx, tx, name, sealed)
}

// Remove forgets a secret. One that is not there is no error.
func (s *Secrets) Remove(ctx context.Context, tx database.Tx, name string) error {
	return store.RemoveSecret(ctx, tx, name)
}

// Secret returns a secret; KindNotFound when there is none of that name.
func (s *Secrets) Secret(ctx context.Context, name string) (string, error) {
	var sealed []byte
	err := s.db.Read(ctx, func(ctx context.Context, q store.Query) (err error) {
		sealed, err = store.Secret(ctx, q, name)
		return err
	})
	if err != nil {
		return "", err
	}
	secret, err := s.keys.Open(name, sealed)
	return string(secret), err
}

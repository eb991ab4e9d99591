package repositories

import (
	"context"
	"os"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/seal"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// OpenKeys reads the file of keys that seals what is secret in a database. It is made only for a database that no key has sealed for yet; for any
// other one a file that is missing, or is another one's, is an error that says so: all servers and workers of a database have the same
// file. What was sealed under an older key of the file is sealed anew.
func OpenKeys(ctx context.Context, db *database.DB, file string) (*seal.Keys, error) {
	var sealer string
	err := db.Read(ctx, func(ctx context.Context, q store.Query) (err error) {
		sealer, err = store.SealKey(ctx, q)
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(file); os.IsNotExist(err) && sealer == "" {
		if _, err := seal.Create(file); err != nil && !holdfast.IsKind(err, holdfast.KindConflict) {
			return nil, err
		}
	}
	keys, err := seal.Load(file)
	if err != nil {
		return nil, err
	}
	return keys, db.Write(ctx, func(ctx context.Context, tx database.Tx) error { return take(ctx, tx, keys, file) })
}

// take refuses keys that are not those of the database, seals everything under the newest one, and notes which that is.
func take(ctx context.Context, tx database.Tx, keys *seal.Keys, file string) error {
	sealer, err := store.SealKey(ctx, tx)
	if err != nil {
		return err
	}
	ids := keys.IDs()
	if sealer != "" && !slices.ContainsFunc(ids, func(id seal.KeyID) bool { return id.String() == sealer }) {
		return holdfast.Errorf(holdfast.KindRefused, "the key file %s is not the one of this database, whose passwords the key %s seals", file, sealer).WithField("keys").
			WithHint("copy seal.keys from another server of this database, and name it with --keys FILE")
	}
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
	return store.PutSealKey(ctx, tx, ids[0].String())
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

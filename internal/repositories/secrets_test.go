package repositories_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/repositories"
	"github.com/holdfast-backup/holdfast/internal/seal"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// TestOpenKeys goes through the life of a key file: made once, refused when it is lost or another one, and rotated.
func TestOpenKeys(t *testing.T) {
	databasetest.Each(t, database.Options{Migrations: store.Migrations()}, func(t *testing.T, db *database.DB) {
		file := filepath.Join(t.TempDir(), "seal.keys")
		open := func() (*repositories.Secrets, error) {
			keys, err := repositories.OpenKeys(t.Context(), db, file)
			if err != nil {
				return nil, err
			}
			return repositories.NewSecrets(db, keys), nil
		}
		mustSay := func(what string) {
			t.Helper()
			secrets, err := open()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if secret, err := secrets.Secret(t.Context(), "repository/hot"); err != nil || secret != "hunter2" {
				t.Errorf("%s: %q, %v", what, secret, err)
			}
		}
		secrets, err := open()
		if err != nil {
			t.Fatal(err)
		}
		own := file
		file = filepath.Join(t.TempDir(), "seal.keys") // of another server that was started at the same time
		if _, err := open(); err == nil {
			t.Error("a second file was made for one database")
		}
		file = own
		if _, err := secrets.Secret(t.Context(), "repository/hot"); !holdfast.IsKind(err, holdfast.KindNotFound) {
			t.Errorf("a secret that is not there: %v", err)
		}
		put := func(ctx context.Context, tx database.Tx) error {
			return secrets.Put(ctx, tx, "repository/hot", "hunter2")
		}
		if err := db.Write(t.Context(), put); err != nil {
			t.Fatal(err)
		}
		mustSay("after a restart")

		if _, err := seal.Rotate(file); err != nil {
			t.Fatal(err)
		}
		mustSay("after a rotation")
		keys, err := seal.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := seal.Drop(file, keys.IDs()[1:]...); err != nil {
			t.Fatal(err)
		}
		mustSay("without the old key, under which nothing is sealed any more")

		if err := os.Rename(file, file+".kept"); err != nil {
			t.Fatal(err)
		}
		if _, err := open(); !holdfast.IsKind(err, holdfast.KindNotFound) {
			t.Errorf("a lost file: %v", err)
		}
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Error("a lost file was replaced")
		}
		if _, err := seal.Create(file); err != nil {
			t.Fatal(err)
		}
		if _, err := open(); err == nil {
			t.Error("another file was accepted")
		}
	})
}

package database_test

import (
	"context"
	"testing"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
)

// A statement that is run again and again is the same statement each time: after an error, after a rollback, after the table has changed, beside
// rows of its own that are still read, and among more statements than are remembered.
func TestStatements_RunAgain(t *testing.T) {
	db := databasetest.Open(t, databasetest.SQLite(t), database.Options{})
	const insert, all = "INSERT INTO numbers (n) VALUES (?)", "SELECT n FROM numbers WHERE n >= ? ORDER BY n"
	exec := func(ctx context.Context, tx database.Tx, query string, arguments ...any) error {
		_, err := tx.Native().ExecContext(ctx, query, arguments...)
		return err
	}
	write := func(do func(ctx context.Context, tx database.Tx) error) {
		t.Helper()
		if err := db.Write(t.Context(), do); err != nil {
			t.Fatal(err)
		}
	}
	write(func(ctx context.Context, tx database.Tx) error {
		if err := exec(ctx, tx, "CREATE TABLE numbers (n BIGINT NOT NULL PRIMARY KEY)"); err != nil {
			return err
		}
		for i := range 3 {
			if err := exec(ctx, tx, insert, i); err != nil {
				return err
			}
		}
		if err := exec(ctx, tx, insert, 2); err == nil {
			t.Error("a number was taken twice")
		}
		return exec(ctx, tx, insert, 3)
	})
	_ = db.Write(t.Context(), func(ctx context.Context, tx database.Tx) error {
		if err := exec(ctx, tx, insert, 4); err != nil {
			t.Error(err)
		}
		return context.Canceled // taken back
	})
	write(func(ctx context.Context, tx database.Tx) error {
		if err := exec(ctx, tx, "ALTER TABLE numbers ADD COLUMN word TEXT NOT NULL DEFAULT ''"); err != nil {
			return err
		}
		return exec(ctx, tx, insert, 4)
	})
	for i := range 250 { // more texts than are remembered
		write(func(ctx context.Context, tx database.Tx) error {
			return exec(ctx, tx, "UPDATE numbers SET word = ? WHERE n = "+string(rune('0'+i%5))+" /* "+string(rune('a'+i%26))+string(rune('a'+i/26))+" */", "w")
		})
	}
	seen := 0
	err := db.Read(t.Context(), func(ctx context.Context, q bun.IDB) error {
		outer, err := q.(bun.Tx).Tx.QueryContext(ctx, all, 0)
		if err != nil {
			return err
		}
		defer outer.Close()
		for outer.Next() {
			var from int
			if err := outer.Scan(&from); err != nil {
				return err
			}
			inner, err := q.(bun.Tx).Tx.QueryContext(ctx, all, from)
			if err != nil {
				return err
			}
			for inner.Next() {
				seen++
			}
			if err := inner.Close(); err != nil {
				return err
			}
		}
		return outer.Err()
	})
	if err != nil || seen != 5+4+3+2+1 {
		t.Errorf("%d rows were seen, %v", seen, err)
	}
}

// Package store holds the state of the control plane in a database: documents and their versions, machines, what was decided,
// sessions, points, the SLA ledger, and the record of what happened.
//
// It promises that what is written together is there together: every method that writes takes the transaction of its caller.
// What is history (versions of documents, expectations that ended, the record) is written once and never changed. A write by
// a worker whose claim was given up is refused.
//
// It decides nothing; what rows mean is their readers' business. It must never ask the database what time it is: instants
// come from the caller. Secrets come in sealed and go out sealed.
//
// The tables are described in migrations/; the design is in doc/design/server.md.
package store

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations are the files that make the tables, for database.Options.
func Migrations() fs.FS {
	files, err := fs.Sub(migrations, "migrations")
	holdfast.Invariant(err == nil, "the migrations are embedded: %v", err)
	return files
}

// Query is a place to read from: a transaction, or the database.
type Query = bun.IDB

// millis is an instant as a column holds it: milliseconds since 1970, 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// instant is the inverse of millis, in UTC.
func instant(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// encode writes a value that is known to be writable as JSON.
func encode(value any) string {
	text, err := json.Marshal(value)
	holdfast.Invariant(err == nil, "a row's value can be written as JSON: %v", err)
	return string(text)
}

// decode reads what encode wrote; an error means that somebody else changed the database.
func decode(text string, into any, what string) error {
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return holdfast.Wrap(holdfast.KindCorrupt, err, "%s in the database cannot be read", what).
			WithHint("bring the database back from a copy; restore points do not depend on it")
	}
	return nil
}

// rowsAtOnce is how many rows one statement writes: far below the 32,766 values that SQLite takes.
const rowsAtOnce = 500

// insertAll writes any number of rows; onConflict is "" where none may be there already.
func insertAll[R any](ctx context.Context, tx Query, rows []R, onConflict, doing string) error {
	for some := range slices.Chunk(rows, rowsAtOnce) {
		query := tx.NewInsert().Model(&some)
		if onConflict != "" {
			query = query.On(onConflict)
		}
		if _, err := query.Exec(ctx); err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
	}
	return nil
}

// changed reports whether a statement changed any row.
func changed(result sql.Result, err error, doing string) (bool, error) {
	if err != nil {
		return false, fmt.Errorf("%s: %w", doing, err)
	}
	count, err := result.RowsAffected()
	return count > 0, err
}

// notFound is the error of a row that is not there.
func notFound(what, name string) error {
	return holdfast.Errorf(holdfast.KindNotFound, "there is no %s %q", what, name)
}

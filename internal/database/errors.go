package database

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast"
)

// meaning is what an error of a driver says to an operator; its text follows the name of the database.
type meaning struct {
	kind holdfast.Kind
	text string
	hint string
}

// explain turns what a driver reported into one of our errors. What somebody explained already stays as it is, and so does what
// has no meaning of its own, such as sql.ErrNoRows: the caller knows it.
func (db *DB) explain(ctx context.Context, err error) error {
	var known *holdfast.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), err) // drivers report a cancelled query in words of their own
	}
	if m, ok := db.engine.meaning(err); ok {
		return holdfast.Wrap(m.kind, err, "%s %s", db.name, m.text).WithHint("%s", m.hint)
	}
	return err
}

// IsDuplicate reports whether a statement failed because a row with the same unique values exists. On PostgreSQL its transaction
// can do nothing more; a transaction that wants to go on writes ON CONFLICT DO NOTHING instead.
func IsDuplicate(err error) bool { return duplicateInSQLite(err) || duplicateInPostgres(err) }

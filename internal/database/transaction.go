package database

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
)

const (
	// attemptsMax bounds how often a transaction is tried that collides with others. At most one in a few attempts collides even
	// when several writers want the same row, so who reaches it meets something that does not pass.
	attemptsMax = 20

	// The wait before the next attempt is drawn below a bound that doubles.
	firstPause   = 2 * time.Millisecond
	longestPause = 250 * time.Millisecond

	// connectionWait bounds how long a transaction waits for a connection. On SQLite all writers stand in this line, so whoever
	// waits longer waits for a transaction that hangs.
	connectionWait = 30 * time.Second
)

// Tx is a transaction that writes. It is a bun.IDB, and must not be used after the function it was handed to has returned.
type Tx struct {
	bun.IDB
	work *work
}

// work is what belongs to one attempt of a transaction.
type work struct {
	connection bun.Conn
	native     *sql.Tx
	committed  []func()
	once       map[any]bool
}

// OnCommit calls f once the transaction is durable, on the goroutine of Write, in the order of the calls of OnCommit. An attempt
// that is repeated or fails calls nothing.
func (tx Tx) OnCommit(f func()) { tx.work.committed = append(tx.work.committed, f) }

// Once reports whether it was not yet called with this mark in this attempt of the transaction: for what must see what the same
// transaction did before, and has no row to look it up in.
func (tx Tx) Once(mark any) bool {
	if tx.work.once[mark] {
		return false
	}
	if tx.work.once == nil {
		tx.work.once = make(map[any]bool)
	}
	tx.work.once[mark] = true
	return true
}

// Native returns the transaction in the standard library's form, whose queries take the driver's own placeholders: for a queue
// whose rows lie in the same database.
func (tx Tx) Native() *sql.Tx { return tx.work.native }

// Raw calls use with the driver's connection of the transaction, which stays ours: for a queue that knows the driver alone. The
// connection is locked meanwhile, so use must not touch tx.
func (tx Tx) Raw(use func(connection any) error) error { return tx.work.connection.Raw(use) }

// inside marks the context of a transaction of a database.
type inside struct{ db *DB }

// mayBegin refuses a transaction inside another one: on SQLite it would wait for itself, and on both it would not see what the
// outer one wrote.
func (db *DB) mayBegin(ctx context.Context) error {
	if ctx.Value(inside{db}) == nil {
		return nil
	}
	return holdfast.Errorf(holdfast.KindInternal, "a transaction of %s was begun inside another one", db.name).
		WithHint("this is a defect of Holdfast; please report it")
}

// Write runs do in a transaction that behaves as if no other one ran at the same time, and commits it when do returns nil. An
// error of do takes everything back and is returned; so is a panic, after everything was taken back.
//
// On PostgreSQL do is called again when the transaction collided with another one, so it starts over each time and has no effect
// but through tx and OnCommit. KindUnavailable may mean that the connection was lost during the commit: then it is unknown whether
// it happened, and what depends on it looks it up.
func (db *DB) Write(ctx context.Context, do func(ctx context.Context, tx Tx) error) error {
	if err := db.mayBegin(ctx); err != nil {
		return err
	}
	if db.options.ReadOnly {
		return holdfast.Errorf(holdfast.KindRefused, "%s is open for reading alone", db.name)
	}
	pause := firstPause
	for attempt := 1; ; attempt++ {
		err := db.attempt(ctx, do)
		switch {
		case err == nil:
			return nil
		case !passing(err):
			return db.explain(ctx, err)
		case attempt == attemptsMax:
			return holdfast.Wrap(holdfast.KindConflict, err, "%s was busy: a transaction collided %d times with others", db.name, attempt).
				WithHint("try again later")
		}
		if err := db.clock.Sleep(ctx, rand.N(pause)); err != nil {
			return err
		}
		pause = min(2*pause, longestPause)
	}
}

// attempt runs a transaction once.
func (db *DB) attempt(ctx context.Context, do func(ctx context.Context, tx Tx) error) error {
	connection, err := db.connection(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }() // gives it back; one that is broken is dropped
	native, err := connection.BeginTx(ctx, db.engine.writing)
	if err != nil {
		return err
	}
	defer func() { _ = native.Rollback() }() // does nothing after a commit; best effort: a lost connection rolls back by itself

	tx := Tx{IDB: native, work: &work{connection: connection, native: native.Tx}}
	if err := do(context.WithValue(ctx, inside{db}, true), tx); err != nil {
		return err
	}
	if err := native.Commit(); err != nil {
		return err
	}
	for _, f := range tx.work.committed {
		f()
	}
	return nil
}

// connection waits for a connection that writes.
func (db *DB) connection(ctx context.Context) (bun.Conn, error) {
	waiting, cancel := context.WithTimeout(ctx, connectionWait)
	defer cancel()
	connection, err := db.writer.Conn(waiting)
	if err != nil && ctx.Err() == nil && errors.Is(waiting.Err(), context.DeadlineExceeded) {
		return connection, holdfast.Wrap(holdfast.KindUnavailable, err, "%s was busy for %v: no connection became free", db.name, connectionWait).
			WithHint("a transaction takes too long, or the server takes no connection")
	}
	return connection, err
}

// Read runs do in a transaction that only reads, and in which all queries see one state of the database. It waits for no writer,
// and no writer waits for it.
func (db *DB) Read(ctx context.Context, do func(ctx context.Context, rows bun.IDB) error) error {
	if err := db.mayBegin(ctx); err != nil {
		return err
	}
	tx, err := db.reader.BeginTx(ctx, db.engine.reading)
	if err != nil {
		return db.explain(ctx, err)
	}
	defer func() { _ = tx.Rollback() }() // there is nothing to lose
	return db.explain(ctx, do(context.WithValue(ctx, inside{db}, true), tx))
}

// Package database opens the database of the control plane, in SQLite or PostgreSQL, brings its tables up to date, and runs
// transactions in it.
//
// It promises that no package above needs to know which of the two it is: transactions behave as if they ran one after the
// other, reads see one state, instants are UTC and cut to milliseconds, and what drivers report becomes one of our kinds with a
// hint. A SQLite file belongs to one process for as long as it is open. A database whose tables a newer program made is refused
// and left as it is.
//
// It must never hold what another package owns: tables come as files of that package, and their meaning stays there. It must
// never run one transaction inside another, and never repeat one whose outcome is unknown.
package database

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// Options says how a database is opened.
type Options struct {
	Clock clock.Clock  // waits between attempts of a transaction; the system's when nil
	Log   *slog.Logger // nothing is logged when nil

	// Migrations are the files that make the tables, in their root, see Tables. Nil for a database whose tables are made by
	// Migrate alone.
	Migrations fs.FS

	// ReadOnly opens beside the process that owns the database: no lock is taken, nothing is migrated, Write is refused.
	ReadOnly bool

	// Volatile spares SQLite the waiting for its disk. Commits survive the death of the process, but a power cut may lose or
	// damage the database: for simulation and tests.
	Volatile bool

	// Connections is how many queries of this process may run at the same time; connectionsDefault when 0. SQLite has one
	// more, that writes.
	Connections int
}

// connectionsDefault bounds what one process takes from a server whose default is a hundred for all.
const connectionsDefault = 8

// DB is an open database. Safe for concurrent use.
type DB struct {
	name    string // how messages call it; holds no secret
	clock   clock.Clock
	log     *slog.Logger
	options Options
	engine  engine
	writer  *bun.DB
	reader  *bun.DB
	lock    *os.File // nil unless this process owns a SQLite file
}

// engine is what differs between the two databases.
type engine struct {
	tables      tableNames
	writing     *sql.TxOptions
	reading     *sql.TxOptions
	meaning     func(err error) (meaning, bool)
	serverSetup *pgx.ConnConfig // nil on SQLite
}

// Open opens the database that the URL names, and brings its tables up to date:
//
//	sqlite:///ABSOLUTE/FOLDER/holdfast.db
//	postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full
//
// It is KindInvalid for a URL of another form and for a database of a newer program, KindConflict when another process has the
// SQLite file open, KindUnavailable when the server cannot be reached. The caller closes it.
func Open(ctx context.Context, url string, options Options) (*DB, error) {
	options.Connections = cmp.Or(options.Connections, connectionsDefault)
	db := &DB{clock: options.Clock, log: options.Log, options: options}
	if db.clock == nil {
		db.clock = clock.System{}
	}
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	if err := db.connect(ctx, url); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if options.Migrations != nil {
		if err := db.Migrate(ctx, Tables{Name: "schema", Files: options.Migrations}); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	db.log.InfoContext(ctx, "database open", "database", db.name)
	return db, nil
}

func (db *DB) connect(ctx context.Context, url string) error {
	target, err := parse(url)
	if err != nil {
		return err
	}
	if target.file != "" {
		return db.openFile(ctx, target.file)
	}
	return db.openServer(ctx, target.server)
}

// Close ends all connections and gives the file to whoever opens it next. Transactions in work fail.
func (db *DB) Close() error {
	var problems []error
	for _, pool := range db.pools() {
		problems = append(problems, pool.Close())
	}
	if db.lock != nil {
		problems = append(problems, db.lock.Close())
	}
	if err := errors.Join(problems...); err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "%s was not closed properly", db.name)
	}
	return nil
}

func (db *DB) pools() []*bun.DB {
	switch {
	case db.writer == nil:
		return nil
	case db.reader == db.writer:
		return []*bun.DB{db.writer}
	default:
		return []*bun.DB{db.reader, db.writer}
	}
}

// String names the database for messages, without its secrets.
func (db *DB) String() string { return db.name }

// SQLite returns the one connection that writes, for a queue that lives in the same file; false on PostgreSQL. Who uses it inside
// a transaction waits for itself.
func (db *DB) SQLite() (*sql.DB, bool) {
	if db.engine.serverSetup != nil {
		return nil, false
	}
	return db.writer.DB, true
}

// PostgreSQL returns how to reach the server, for a queue that needs connections of its own; false on SQLite.
func (db *DB) PostgreSQL() (*pgx.ConnConfig, bool) {
	if db.engine.serverSetup == nil {
		return nil, false
	}
	setup := db.engine.serverSetup.Copy()
	setup.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	return setup, true
}

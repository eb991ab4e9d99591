package database

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/holdfast-backup/holdfast"
)

// openFile opens a SQLite file with one connection that writes and a pool that reads. One writer is a queue that is fair, where
// SQLite's own waiting is not; it also means that who asks for a second transaction while he holds one waits for himself, which
// Write detects.
func (db *DB) openFile(ctx context.Context, path string) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // the lock belongs beside the file, not beside a name for it
	}
	db.name = "the database " + path
	db.engine = engine{tables: sqliteTables, reading: &sql.TxOptions{ReadOnly: true}, meaning: sqliteMeaning}
	if err := db.claim(path); err != nil {
		return err
	}
	writing, reading := db.settings()
	if db.options.ReadOnly {
		writing = reading
	}
	var err error
	if db.writer, err = openPool(path, writing, 1); err != nil {
		return db.explain(ctx, err)
	}
	if db.reader, err = openPool(path, reading, db.options.Connections); err != nil {
		return db.explain(ctx, err)
	}
	// The first statement is what notices that the file is no database, or that it cannot be written to.
	_, err = db.writer.ExecContext(ctx, "SELECT count(*) FROM sqlite_master")
	return db.explain(ctx, err)
}

// claim makes the file, readable by its owner alone, and locks it. Who only reads finds it or fails.
func (db *DB) claim(path string) error {
	if db.options.ReadOnly {
		if _, err := os.Stat(path); err != nil {
			return unopenable(path, err)
		}
		return nil
	}
	lock, err := lockBeside(path)
	if err != nil {
		return err
	}
	db.lock = lock
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return unopenable(path, err)
	}
	return file.Close()
}

func unopenable(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return holdfast.Wrap(holdfast.KindNotFound, err, "the database %s is not there", path).
			WithHint("check the URL; the folder must exist, and should belong to the user who runs the server").WithField("database")
	case errors.Is(err, fs.ErrPermission):
		return holdfast.Wrap(holdfast.KindRefused, err, "the database %s may not be opened", path).
			WithHint("the file and its folder must belong to the user who runs the server").WithField("database")
	default:
		return holdfast.Wrap(holdfast.KindUnavailable, err, "the database %s cannot be opened", path)
	}
}

// settings returns the settings of the connection that writes, and of those that read. Waiting is bounded by busy_timeout only
// towards programs that pass our lock by, a shell or a backup; our own processes and connections never meet there.
func (db *DB) settings() (writing, reading url.Values) {
	synchronous := "FULL" // a promise that was given must survive a power cut
	if db.options.Volatile {
		synchronous = "OFF"
	}
	// The cache, in KiB, holds the pages that a pass over thousands of machines writes in one transaction.
	writing = url.Values{
		"_pragma":      {"busy_timeout(5000)", "cache_size(-65536)", "journal_mode(WAL)", "synchronous(" + synchronous + ")", "foreign_keys(1)"},
		"_txlock":      {"immediate"},
		"_time_format": {"sqlite"},
	}
	reading = url.Values{"_pragma": {"busy_timeout(5000)", "query_only(1)"}, "_time_format": {"sqlite"}}
	if db.options.ReadOnly {
		reading.Set("mode", "ro")
	}
	return writing, reading
}

func openPool(path string, settings url.Values, connections int) (*bun.DB, error) {
	name := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: settings.Encode()}
	if !strings.HasPrefix(name.Path, "/") {
		name.Path = "/" + name.Path // a drive of Windows
	}
	connector, err := sqlite.NewConnector(name.String())
	if err != nil {
		return nil, err
	}
	pool := sql.OpenDB(remembering{connector})
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	return bun.NewDB(pool, sqlitedialect.New()), nil
}

// sqliteMeaning says what an error of SQLite means to us. Its extended codes carry the plain one in their lowest byte.
func sqliteMeaning(err error) (meaning, bool) {
	var reported *sqlite.Error
	if !errors.As(err, &reported) {
		return meaning{}, false
	}
	switch reported.Code() & 0xff {
	case codes.SQLITE_FULL:
		return meaning{kind: holdfast.KindUnavailable, text: "has no space left on its disk", hint: "free space there; nothing was lost, and work goes on by itself"}, true
	case codes.SQLITE_IOERR:
		return meaning{kind: holdfast.KindUnavailable, text: "cannot be read or written: its disk reports an error", hint: "look at the disk and the system's log"}, true
	case codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB:
		return meaning{kind: holdfast.KindCorrupt, text: "is damaged, or no database", hint: "restore it from its backup; restore points do not need it"}, true
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED:
		return meaning{kind: holdfast.KindUnavailable, text: "is locked by another program", hint: "end the program that has it open, such as a database shell"}, true
	case codes.SQLITE_READONLY, codes.SQLITE_PERM, codes.SQLITE_AUTH:
		return meaning{kind: holdfast.KindRefused, text: "cannot be written to", hint: "the file and its folder must belong to the user who runs the server"}, true
	case codes.SQLITE_CANTOPEN:
		return meaning{kind: holdfast.KindUnavailable, text: "cannot be opened", hint: "the file and its folder must belong to the user who runs the server"}, true
	default:
		return meaning{}, false
	}
}

// duplicateInSQLite reports whether a unique rule was broken.
func duplicateInSQLite(err error) bool {
	var reported *sqlite.Error
	return errors.As(err, &reported) &&
		(reported.Code() == codes.SQLITE_CONSTRAINT_UNIQUE || reported.Code() == codes.SQLITE_CONSTRAINT_PRIMARYKEY)
}

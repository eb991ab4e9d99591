package database

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strconv"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
)

// Tables are the tables of one package, as files of SQL in the order of their numbers: 0001_sessions.sql, 0002_points.sql. Each
// begins with "-- +goose Up" and holds statements for both databases, with a word in double braces where their types differ:
//
//	{{text}} {{json}} {{time}} {{bytes}}   TEXT, TEXT or JSONB, TIMESTAMP or TIMESTAMPTZ, BLOB or BYTEA
//	{{sequence}}                           a primary key that counts up, and never gives a number twice
//
// BIGINT, BOOLEAN and DOUBLE PRECISION are the same on both. A file that a release held is never changed.
type Tables struct {
	Name  string // names the table that remembers the version, NAME_version
	Files fs.FS  // the files, in its root
}

// tableNames is what one of the two databases calls the types, and how it is asked whether it has a table.
type tableNames struct {
	dialect goose.Dialect
	types   map[string]string
	exists  string
}

var sqliteTables = tableNames{
	dialect: goose.DialectSQLite3,
	types: map[string]string{
		"text": "TEXT", "json": "TEXT", "time": "TIMESTAMP", "bytes": "BLOB",
		"sequence": "INTEGER PRIMARY KEY AUTOINCREMENT",
	},
	exists: "SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = ?",
}

var postgresTables = tableNames{
	dialect: goose.DialectPostgres,
	types: map[string]string{
		"text": "TEXT", "json": "JSONB", "time": "TIMESTAMPTZ", "bytes": "BYTEA",
		"sequence": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
	},
	exists: "SELECT to_regclass(?) IS NOT NULL",
}

// Migrate brings the tables of a package up to date. Two processes that begin it at once do it once. Tables of a newer program are
// KindInvalid, and stay as they are; with ReadOnly, so are tables of an older one.
func (db *DB) Migrate(ctx context.Context, tables Tables) error {
	newest, err := newestVersion(tables)
	if err != nil {
		return err
	}
	version, err := db.version(ctx, tables)
	switch {
	case err != nil:
		return err
	case version > newest:
		return holdfast.Errorf(holdfast.KindInvalid, "%s was made by a newer Holdfast: its %s has version %d, and this program knows %d", db.name, tables.Name, version, newest).
			WithHint("run the newer program, or restore a backup of the database from before the upgrade").WithField("database")
	case version == newest:
		return nil
	case db.options.ReadOnly:
		return holdfast.Errorf(holdfast.KindInvalid, "%s was made by an older Holdfast: its %s has version %d, and this program wants %d", db.name, tables.Name, version, newest).
			WithHint("start the server once: it brings the database up to date").WithField("database")
	}
	return db.explain(ctx, db.apply(ctx, tables))
}

func (db *DB) apply(ctx context.Context, tables Tables) error {
	settings := []goose.ProviderOption{
		goose.WithTableName(tables.versionTable()), goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler)),
	}
	if db.engine.serverSetup != nil {
		const everySecond, attempts = 1, 300 // the other process may have large tables to rewrite
		alone, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(everySecond, attempts))
		if err != nil {
			return err
		}
		settings = append(settings, goose.WithSessionLocker(alone))
	}
	files := translated{files: tables.Files, types: db.engine.tables.types}
	steps, err := goose.NewProvider(db.engine.tables.dialect, db.writer.DB, files, settings...)
	if err != nil {
		return err
	}
	done, err := steps.Up(ctx)
	for _, step := range done {
		db.log.InfoContext(ctx, "database migrated", "database", db.name, "tables", tables.Name, "version", step.Source.Version, "took", step.Duration)
	}
	return err
}

func (t Tables) versionTable() string { return t.Name + "_version" }

// version returns the version of the tables that are there, 0 for none.
func (db *DB) version(ctx context.Context, tables Tables) (int64, error) {
	var version int64
	err := db.Read(ctx, func(ctx context.Context, rows bun.IDB) error {
		var there bool
		if err := rows.NewRaw(db.engine.tables.exists, tables.versionTable()).Scan(ctx, &there); err != nil || !there {
			return err
		}
		return rows.NewRaw("SELECT coalesce(max(version_id), 0) FROM ? WHERE is_applied", bun.Ident(tables.versionTable())).Scan(ctx, &version)
	})
	return version, err
}

var fileName = regexp.MustCompile(`^(\d{4})_[a-z0-9_]+\.sql$`)

// newestVersion returns the highest number of the files. One whose name has another form would be passed over in silence, so it
// is a defect.
func newestVersion(tables Tables) (int64, error) {
	entries, err := fs.ReadDir(tables.Files, ".")
	if err != nil {
		return 0, err
	}
	newest := int64(0)
	for _, entry := range entries {
		parts := fileName.FindStringSubmatch(entry.Name())
		if parts == nil {
			return 0, holdfast.Errorf(holdfast.KindInternal, "the migration %q of %s has no name such as 0001_words.sql", entry.Name(), tables.Name)
		}
		version, err := strconv.ParseInt(parts[1], 10, 64)
		if err != nil {
			return 0, err
		}
		newest = max(newest, version)
	}
	if newest == 0 {
		return 0, holdfast.Errorf(holdfast.KindInternal, "%s has no migrations", tables.Name)
	}
	return newest, nil
}

// translated is a folder of migrations in the words of one database.
type translated struct {
	files fs.FS
	types map[string]string
}

var word = regexp.MustCompile(`\{\{[^}]*\}\}`)

// Open implements fs.FS.
func (t translated) Open(name string) (fs.File, error) {
	file, err := t.files.Open(name)
	if err != nil {
		return nil, err
	}
	status, err := file.Stat()
	if err != nil || status.IsDir() {
		return file, err
	}
	text, err := io.ReadAll(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	var unknown error
	text = word.ReplaceAllFunc(text, func(found []byte) []byte {
		named := string(found[2 : len(found)-2])
		if _, ok := t.types[named]; !ok {
			unknown = holdfast.Errorf(holdfast.KindInternal, "the migration %s uses the unknown type %q", name, named).
				WithHint("known are %q", slices.Sorted(maps.Keys(t.types)))
		}
		return []byte(t.types[named])
	})
	return translatedFile{Reader: bytes.NewReader(text), status: status}, unknown
}

// translatedFile is an open file of translated. Its status has the size from before the translation, which nobody relies on.
type translatedFile struct {
	*bytes.Reader
	status fs.FileInfo
}

func (f translatedFile) Stat() (fs.FileInfo, error) { return f.status, nil }

func (translatedFile) Close() error { return nil }

var _ fs.File = translatedFile{}

package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/holdfast-backup/holdfast"
)

// serverVersionMin is PostgreSQL 14, the oldest that its makers still care for.
const serverVersionMin = 140000

// idleMax ends connections that nobody used for so long: a firewall may have forgotten them.
const idleMax = 5 * time.Minute

// openServer connects to a PostgreSQL server. Writes are serializable, so that they behave as on SQLite, where only one runs at
// a time; what that costs is attempts that are repeated.
func (db *DB) openServer(ctx context.Context, url string) error {
	setup, err := pgx.ParseConfig(url)
	if err != nil {
		return invalidURL("cannot be read") // the cause may repeat the password
	}
	db.name = fmt.Sprintf("the database %s on %s", setup.Database, setup.Host)
	setup.RuntimeParams["timezone"] = "UTC"
	if setup.RuntimeParams["application_name"] == "" {
		setup.RuntimeParams["application_name"] = "holdfast"
	}
	// The values of our queries stand in their text, so that each differs from the last one, and preparing them would fill the
	// server with statements that never return.
	setup.DefaultQueryExecMode = pgx.QueryExecModeExec
	db.engine = engine{
		tables:      postgresTables,
		writing:     &sql.TxOptions{Isolation: sql.LevelSerializable},
		reading:     &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
		meaning:     postgresMeaning,
		serverSetup: setup,
	}
	pool := stdlib.OpenDB(*setup)
	pool.SetMaxOpenConns(db.options.Connections)
	pool.SetMaxIdleConns(db.options.Connections)
	pool.SetConnMaxIdleTime(idleMax)
	db.writer = bun.NewDB(pool, pgdialect.New())
	db.reader = db.writer
	return db.checkServer(ctx)
}

func (db *DB) checkServer(ctx context.Context) error {
	var version int
	err := db.reader.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version)
	if err != nil {
		return db.explain(ctx, err)
	}
	if version < serverVersionMin {
		return holdfast.Errorf(holdfast.KindInvalid, "%s is PostgreSQL %d, which is too old", db.name, version/10000).
			WithHint("version %d or later is needed", serverVersionMin/10000).WithField("database")
	}
	return nil
}

// states gives what PostgreSQL reports a meaning, by the beginning of its code. The first one that fits counts.
var states = []struct {
	code    string
	meaning meaning
}{
	{"53100", meaning{kind: holdfast.KindUnavailable, text: "has no space left on its disk", hint: "free space on the server; nothing was lost, and work goes on by itself"}},
	{"53300", meaning{kind: holdfast.KindUnavailable, text: "takes no more connections", hint: "raise max_connections of the server, or run fewer workers"}},
	{"53", meaning{kind: holdfast.KindUnavailable, text: "is short of resources", hint: "look at the server's log"}},
	{"57P", meaning{kind: holdfast.KindUnavailable, text: "is shutting down or starting", hint: "work goes on by itself when it is back"}},
	{"57014", meaning{kind: holdfast.KindUnavailable, text: "canceled a query", hint: "look at statement_timeout of the server, and at who canceled it"}},
	{"08", meaning{kind: holdfast.KindUnavailable, text: "lost the connection", hint: lostHint}},
	{"25006", meaning{kind: holdfast.KindUnavailable, text: "takes no writes", hint: "the server is a replica, or was made read-only; point the URL at the primary"}},
	{"28", meaning{kind: holdfast.KindRefused, text: "refuses the user", hint: "check user and password of the URL, and the server's pg_hba.conf"}},
	{"3D000", meaning{kind: holdfast.KindNotFound, text: "is not there", hint: "create it: createdb DATABASE"}},
	{"42501", meaning{kind: holdfast.KindRefused, text: "refuses the user a right", hint: "the user must own the database, or be given the rights on its schema"}},
	{"XX001", meaning{kind: holdfast.KindCorrupt, text: "is damaged", hint: "restore it from its backup; restore points do not need it"}},
	{"58030", meaning{kind: holdfast.KindUnavailable, text: "cannot be read or written: its disk reports an error", hint: "look at the server's disk and log"}},
}

const lostHint = "is PostgreSQL running, and can it be reached from here? Work goes on by itself when it is back"

// postgresMeaning says what an error of PostgreSQL, or of the way to it, means to us.
func postgresMeaning(err error) (meaning, bool) {
	var reported *pgconn.PgError
	if errors.As(err, &reported) {
		for _, state := range states {
			if strings.HasPrefix(reported.Code, state.code) {
				return state.meaning, true
			}
		}
		return meaning{}, false
	}
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, sql.ErrConnDone) {
		return meaning{kind: holdfast.KindUnavailable, text: "cannot be reached", hint: lostHint}, true
	}
	return meaning{}, false
}

// passing reports whether the same transaction may succeed when it runs again: it collided with another one, and the server took
// all of it back.
func passing(err error) bool {
	const serializationFailure, deadlock = "40001", "40P01"
	var reported *pgconn.PgError
	return errors.As(err, &reported) && (reported.Code == serializationFailure || reported.Code == deadlock)
}

// duplicateInPostgres reports whether a unique rule was broken.
func duplicateInPostgres(err error) bool {
	var reported *pgconn.PgError
	return errors.As(err, &reported) && reported.Code == "23505"
}

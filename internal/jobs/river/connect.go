package riverjobs

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"

	"github.com/holdfast-backup/holdfast/internal/database"
)

// typed is a client of River with the type of its transactions.
type typed[T any] struct {
	*river.Client[T]

	within func(tx database.Tx, use func(T) error) error
}

func (c typed[T]) insert(ctx context.Context, tx database.Tx, args row, options *river.InsertOpts) (result *rivertype.JobInsertResult, err error) {
	err = c.within(tx, func(native T) error {
		result, err = c.InsertTx(ctx, native, args, options)
		return err
	})
	return result, err
}

// connect makes River's tables and client.
func (q *Queue) connect(ctx context.Context) error {
	if pool, ok := q.db.SQLite(); ok {
		return q.connectFile(ctx, pool)
	}
	setup, _ := q.db.PostgreSQL()
	return q.connectServer(ctx, setup)
}

func (q *Queue) connectFile(ctx context.Context, pool *sql.DB) error {
	q.sql, q.close = fileStatements, func() {}
	driver := riversqlite.New(pool)
	if err := migrate(ctx, driver); err != nil {
		return err
	}
	settings := q.settings()
	settings.FetchPollInterval = cmp.Or(q.options.Poll, pollFile)
	settings.ReindexerSchedule = river.NeverSchedule() // it knows PostgreSQL's indexes alone
	made, err := river.NewClient(driver, settings)
	if err != nil {
		return err
	}
	q.client = typed[*sql.Tx]{Client: made, within: func(tx database.Tx, use func(*sql.Tx) error) error { return use(tx.Native()) }}
	return nil
}

// poolMax is what River needs beside its listener: one connection to fetch with, one to complete, and one for each of our calls.
const poolMax = 4

func (q *Queue) connectServer(ctx context.Context, setup *pgx.ConnConfig) error {
	config, err := pgxpool.ParseConfig("")
	if err != nil {
		return err
	}
	config.ConnConfig, config.MaxConns = setup, poolMax
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	q.sql, q.close = serverStatements, pool.Close
	driver := riverpgxv5.New(pool)
	if err := migrateAlone(ctx, pool, driver); err != nil {
		pool.Close()
		return err
	}
	made, err := river.NewClient(driver, q.settings())
	if err != nil {
		pool.Close()
		return err
	}
	q.client = typed[pgx.Tx]{Client: made, within: func(tx database.Tx, use func(pgx.Tx) error) error {
		return tx.Raw(func(connection any) error {
			native, ok := connection.(*stdlib.Conn)
			if !ok {
				return fmt.Errorf("the connection is a %T", connection)
			}
			return use(&savepoints{connection: native.Conn()})
		})
	}}
	return nil
}

func migrate[T any](ctx context.Context, driver riverdriver.Driver[T]) error {
	steps, err := rivermigrate.New(driver, nil)
	if err != nil {
		return err
	}
	_, err = steps.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// migrateAlone keeps servers that start together apart, which River does not.
func migrateAlone(ctx context.Context, pool *pgxpool.Pool, driver *riverpgxv5.Driver) error {
	const lock = 7263847500 // any number that nobody else takes
	return pool.AcquireFunc(ctx, func(connection *pgxpool.Conn) error {
		if _, err := connection.Exec(ctx, "SELECT pg_advisory_lock($1)", lock); err != nil {
			return err
		}
		defer func() {
			_, _ = connection.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", lock) // the end of the connection does it as well
		}()
		return migrate(ctx, driver)
	})
}

// savepoints is a transaction of database/sql in the eyes of pgx, whose types River wants: the statements go to the same
// connection, and what begins inside it is a savepoint. The transaction itself ends where it was begun.
type savepoints struct {
	connection *pgx.Conn
	depth      int
	ended      bool
}

var _ pgx.Tx = (*savepoints)(nil)

func (s *savepoints) name() string { return fmt.Sprintf("queue_%d", s.depth) }

// Begin implements pgx.Tx.
func (s *savepoints) Begin(ctx context.Context) (pgx.Tx, error) {
	inner := &savepoints{connection: s.connection, depth: s.depth + 1}
	_, err := s.connection.Exec(ctx, "SAVEPOINT "+inner.name())
	return inner, err
}

// Commit implements pgx.Tx.
func (s *savepoints) Commit(ctx context.Context) error { return s.end(ctx, "RELEASE SAVEPOINT ") }

// Rollback implements pgx.Tx.
func (s *savepoints) Rollback(ctx context.Context) error { return s.end(ctx, "ROLLBACK TO SAVEPOINT ") }

func (s *savepoints) end(ctx context.Context, how string) error {
	if s.ended || s.depth == 0 {
		return pgx.ErrTxClosed
	}
	s.ended = true
	_, err := s.connection.Exec(ctx, how+s.name())
	return err
}

// CopyFrom implements pgx.Tx.
func (s *savepoints) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	return s.connection.CopyFrom(ctx, table, columns, rows)
}

// SendBatch implements pgx.Tx.
func (s *savepoints) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	return s.connection.SendBatch(ctx, batch)
}

// LargeObjects implements pgx.Tx; River has none.
func (s *savepoints) LargeObjects() pgx.LargeObjects { return pgx.LargeObjects{} }

// Prepare implements pgx.Tx.
func (s *savepoints) Prepare(ctx context.Context, name, statement string) (*pgconn.StatementDescription, error) {
	return s.connection.Prepare(ctx, name, statement)
}

// cached is how River's statements run: their texts are few, and their values need the types that the server knows.
func cached(arguments []any) []any {
	return append([]any{pgx.QueryExecModeCacheStatement}, arguments...)
}

// Exec implements pgx.Tx.
func (s *savepoints) Exec(ctx context.Context, statement string, arguments ...any) (pgconn.CommandTag, error) {
	return s.connection.Exec(ctx, statement, cached(arguments)...)
}

// Query implements pgx.Tx.
func (s *savepoints) Query(ctx context.Context, statement string, arguments ...any) (pgx.Rows, error) {
	return s.connection.Query(ctx, statement, cached(arguments)...)
}

// QueryRow implements pgx.Tx.
func (s *savepoints) QueryRow(ctx context.Context, statement string, arguments ...any) pgx.Row {
	return s.connection.QueryRow(ctx, statement, cached(arguments)...)
}

// Conn implements pgx.Tx.
func (s *savepoints) Conn() *pgx.Conn { return s.connection }

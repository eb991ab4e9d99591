// Package databasetest gives tests fresh databases, on SQLite always and on PostgreSQL where Debian's server is installed.
//
// It promises that nothing stays behind: a database goes with its test, and the server, which all tests of a process share, ends
// with the process, however that ends. It must never touch a server that it did not start.
package databasetest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
)

// Each runs a test on both databases, opened with the options.
func Each(t *testing.T, options database.Options, run func(t *testing.T, db *database.DB)) {
	t.Helper()
	EachURL(t, func(t *testing.T, url string) {
		t.Helper()
		run(t, Open(t, url, options))
	})
}

// EachURL runs a test for both databases, fresh and not open yet.
func EachURL(t *testing.T, run func(t *testing.T, url string)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { run(t, SQLite(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { run(t, PostgreSQL(t)) })
}

// Open opens a database until the test ends. SQLite does not wait for the disk, which no test needs.
func Open(t testing.TB, url string, options database.Options) *database.DB {
	t.Helper()
	options.Volatile = true
	db, err := database.Open(t.Context(), url, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// SQLite returns the URL of a file that is not there yet, in a folder that goes with the test.
func SQLite(t testing.TB) string {
	t.Helper()
	return "sqlite://" + filepath.ToSlash(filepath.Join(t.TempDir(), "holdfast.db"))
}

// PostgreSQL returns the URL of an empty database, which goes with the test. It is a schema of one database, which takes a hundredth
// of the time that a database of its own would take. Without a server the test is skipped, or fails where HOLDFAST_REQUIRE_TOOLS=1
// promises that one is installed.
func PostgreSQL(t testing.TB) string {
	t.Helper()
	running, err := server()
	switch {
	case errors.Is(err, errMissing) && os.Getenv("HOLDFAST_REQUIRE_TOOLS") != "1":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	everything := fmt.Sprintf("postgres://%s@/postgres?host=%s", superuser, url.QueryEscape(running.folder))
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	administer(t, everything, "CREATE SCHEMA "+name)
	t.Cleanup(func() { administer(t, everything, "DROP SCHEMA "+name+" CASCADE") })
	return everything + "&search_path=" + name
}

// administer runs one statement beside the databases of the tests.
func administer(t testing.TB, url, statement string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // the context of a test ends before its cleanup
	connection := connect(ctx, t, url)
	_, err := connection.Exec(ctx, statement)
	if err := errors.Join(err, connection.Close(ctx)); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// connect waits for the server, which may still be starting, on a machine that may be busy.
func connect(ctx context.Context, t testing.TB, url string) *pgx.Conn {
	t.Helper()
	const pause, tries = 20 * time.Millisecond, 3000
	for try := 1; ; try++ {
		connection, err := pgx.Connect(ctx, url)
		if err == nil {
			return connection
		}
		if try == tries {
			t.Fatalf("the server did not answer within %v: %v", tries*pause, err)
		}
		if err := (clock.System{}).Sleep(ctx, pause); err != nil {
			t.Fatal(err)
		}
	}
}

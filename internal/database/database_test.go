package database_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
)

const created = `-- +goose Up
CREATE TABLE things (
	id {{text}} PRIMARY KEY,
	amount BIGINT NOT NULL,
	open BOOLEAN NOT NULL,
	made {{time}} NOT NULL,
	gone {{time}},
	notes {{json}} NOT NULL,
	raw {{bytes}} NOT NULL
);
CREATE TABLE lines (number {{sequence}}, thing {{text}} NOT NULL REFERENCES things (id));
`

// tables returns the migrations of these tests, with further files.
func tables(further ...string) fstest.MapFS {
	files := fstest.MapFS{"0001_things.sql": {Data: []byte(created)}}
	for i, text := range further {
		files[fmt.Sprintf("%04d_further.sql", i+2)] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + text)}
	}
	return files
}

type thing struct {
	bun.BaseModel `bun:"table:things"`

	ID     string        `bun:"id,pk"`
	Amount int64         `bun:"amount"`
	Open   bool          `bun:"open"`
	Made   database.Time `bun:"made"`
	Gone   database.Time `bun:"gone"`
	Notes  []string      `bun:"notes,type:jsonb"`
	Raw    []byte        `bun:"raw"`
}

func example(id string) *thing {
	return &thing{
		ID: id, Amount: 1 << 40, Open: true, Made: database.At(time.Date(2026, 3, 29, 2, 30, 0, 123_456_789, time.FixedZone("", 3600))),
		Notes: []string{"it's", `"ö"`, "?"}, Raw: []byte{0, 1, '\'', 255},
	}
}

// insert adds a row in a transaction of its own.
func insert(t *testing.T, db *database.DB, row *thing) {
	t.Helper()
	if err := db.Write(t.Context(), inserting(row)); err != nil {
		t.Fatal(err)
	}
}

func inserting(row *thing) func(context.Context, database.Tx) error {
	return func(ctx context.Context, tx database.Tx) error {
		_, err := tx.NewInsert().Model(row).Exec(ctx)
		return err
	}
}

func count(t *testing.T, db *database.DB) int {
	t.Helper()
	var n int
	err := db.Read(t.Context(), func(ctx context.Context, rows bun.IDB) (err error) {
		n, err = counted(ctx, rows)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func counted(ctx context.Context, rows bun.IDB) (int, error) {
	n, err := rows.NewSelect().Model((*thing)(nil)).Count(ctx)
	return int(n), err
}

// want fails unless the error has the kind, a hint, and each of the words in its text or hint.
func want(t *testing.T, err error, kind holdfast.Kind, words ...string) {
	t.Helper()
	var known *holdfast.Error
	if !errors.As(err, &known) || known.Kind != kind || known.Hint == "" {
		t.Fatalf("got %v (%+v), want %s with a hint", err, known, kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error()+known.Hint, word) {
			t.Errorf("%q (hint %q) does not say %q", err, known.Hint, word)
		}
	}
}

// TestRows_ReadAsWritten proves that every type of column comes back as it went in, on both databases.
func TestRows_ReadAsWritten(t *testing.T) {
	databasetest.Each(t, database.Options{Migrations: tables()}, func(t *testing.T, db *database.DB) {
		written := example("a")
		insert(t, db, written)
		var read thing
		var latest database.Time
		err := db.Read(t.Context(), func(ctx context.Context, rows bun.IDB) error {
			if err := rows.NewSelect().Model(&read).Where("made = ?", written.Made).Scan(ctx); err != nil {
				return err
			}
			return rows.NewRaw("SELECT max(made) FROM things").Scan(ctx, &latest)
		})
		if err != nil {
			t.Fatal(err)
		}
		if read.Made != database.At(time.Date(2026, 3, 29, 1, 30, 0, 123_000_000, time.UTC)) || latest != read.Made || !read.Gone.IsZero() {
			t.Errorf("instants are %v, %v, %v", read.Made, latest, read.Gone)
		}
		if read.Amount != written.Amount || !read.Open || !slices.Equal(read.Notes, written.Notes) || !bytes.Equal(read.Raw, written.Raw) {
			t.Errorf("read %+v, want %+v", read, written)
		}
	})
}

// TestTime_SortsAsInstants proves that columns of instants are compared by the database as Go compares the instants, whatever
// fraction of a second they have.
func TestTime_SortsAsInstants(t *testing.T) {
	start := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	offsets := []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 500 * time.Millisecond, time.Second}
	databasetest.Each(t, database.Options{Migrations: tables()}, func(t *testing.T, db *database.DB) {
		for i, at := range []int{3, 0, 6, 2, 5, 1, 4} {
			row := example(strconv.Itoa(i))
			row.Made = database.At(start.Add(offsets[at]))
			insert(t, db, row)
		}
		var sorted []thing
		err := db.Read(t.Context(), func(ctx context.Context, rows bun.IDB) error {
			return rows.NewSelect().Model(&sorted).Where("made < ?", database.At(start.Add(time.Second))).Order("made").Scan(ctx)
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(sorted) != len(offsets)-1 {
			t.Fatalf("%d of %d instants are before the last one", len(sorted), len(offsets))
		}
		for i, row := range sorted {
			if !row.Made.Equal(start.Add(offsets[i])) {
				t.Errorf("%d: %v, want %v", i, row.Made, start.Add(offsets[i]))
			}
		}
	})
}

// TestWrite_AllOrNothing proves that an error and a panic take back everything, that a commit keeps it, and that what waits for
// the commit runs after it alone, in order.
func TestWrite_AllOrNothing(t *testing.T) {
	databasetest.Each(t, database.Options{Migrations: tables()}, func(t *testing.T, db *database.DB) {
		refused := errors.New("no")
		err := db.Write(t.Context(), func(ctx context.Context, tx database.Tx) error {
			tx.OnCommit(func() { t.Error("OnCommit was called without a commit") })
			return errors.Join(refused, inserting(example("a"))(ctx, tx))
		})
		if !errors.Is(err, refused) || count(t, db) != 0 {
			t.Fatalf("after the error %v, %d rows are there", err, count(t, db))
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was lost")
				}
			}()
			_ = db.Write(t.Context(), func(ctx context.Context, tx database.Tx) error {
				_ = inserting(example("a"))(ctx, tx)
				panic("broken")
			})
		}()
		if n := count(t, db); n != 0 {
			t.Fatalf("after a panic, %d rows are there", n)
		}
		var order []int
		err = db.Write(t.Context(), func(ctx context.Context, tx database.Tx) error {
			for i := range 3 {
				tx.OnCommit(func() { order = append(order, i*10+count(t, db)) })
			}
			return inserting(example("a"))(ctx, tx)
		})
		if err != nil || !slices.Equal(order, []int{1, 11, 21}) {
			t.Fatalf("after the commit (%v), OnCommit saw %v", err, order)
		}
	})
}

// TestTransactions_DoNotNest proves that a transaction inside another one is refused at once, where it would wait for itself.
func TestTransactions_DoNotNest(t *testing.T) {
	databasetest.Each(t, database.Options{}, func(t *testing.T, db *database.DB) {
		write := func(ctx context.Context) error {
			return db.Write(ctx, func(context.Context, database.Tx) error { return nil })
		}
		read := func(ctx context.Context) error {
			return db.Read(ctx, func(context.Context, bun.IDB) error { return nil })
		}
		for _, inner := range []func(context.Context) error{write, read} {
			want(t, db.Write(t.Context(), func(ctx context.Context, _ database.Tx) error { return inner(ctx) }), holdfast.KindInternal, "inside another")
			want(t, db.Read(t.Context(), func(ctx context.Context, _ bun.IDB) error { return inner(ctx) }), holdfast.KindInternal, "inside another")
		}
	})
}

// TestRead_SeesOneState proves that a reader sees nothing of what is committed while it reads, and does not hold the writer up.
func TestRead_SeesOneState(t *testing.T) {
	databasetest.Each(t, database.Options{Migrations: tables()}, func(t *testing.T, db *database.DB) {
		err := db.Read(t.Context(), func(ctx context.Context, rows bun.IDB) error {
			before, err := counted(ctx, rows)
			if err != nil {
				return err
			}
			insert(t, db, example("a"))
			after, err := counted(ctx, rows)
			if before != 0 || after != 0 {
				t.Errorf("saw %d rows, then %d", before, after)
			}
			if _, err := rows.NewInsert().Model(example("b")).Exec(ctx); err == nil {
				t.Error("a reader may write")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if n := count(t, db); n != 1 {
			t.Errorf("%d rows are there", n)
		}
	})
}

// TestWrite_BehavesAsOneAfterTheOther proves that transactions which read, think and write lose nothing to one another.
func TestWrite_BehavesAsOneAfterTheOther(t *testing.T) {
	const writers, times = 4, 25
	databasetest.Each(t, database.Options{Migrations: tables()}, func(t *testing.T, db *database.DB) {
		row := example("counter")
		row.Amount = 0
		insert(t, db, row)
		var calls atomic.Int64
		var group sync.WaitGroup
		for range writers {
			group.Go(func() {
				for range times {
					err := db.Write(t.Context(), func(ctx context.Context, tx database.Tx) error {
						calls.Add(1)
						var now thing
						if err := tx.NewSelect().Model(&now).Where("id = 'counter'").Scan(ctx); err != nil {
							return err
						}
						_, err := tx.NewUpdate().Model(&thing{}).Set("amount = ?", now.Amount+1).Where("id = 'counter'").Exec(ctx)
						return err
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
		err := db.Read(t.Context(), func(ctx context.Context, rows bun.IDB) error {
			return rows.NewSelect().Model(row).WherePK().Scan(ctx)
		})
		if err != nil || row.Amount != writers*times {
			t.Errorf("the counter is at %d (%v), want %d", row.Amount, err, writers*times)
		}
		t.Logf("%d transactions took %d attempts", writers*times, calls.Load())
	})
}

// hasty is a clock on which waiting takes no time.
type hasty struct{ clock.System }

func (hasty) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// TestWrite_GivesUpOnCollisions proves that a transaction which collides every time is tried a bounded number of times, and that
// only the attempt that commits counts.
func TestWrite_GivesUpOnCollisions(t *testing.T) {
	for _, code := range []string{"40001", "40P01"} {
		db := databasetest.Open(t, databasetest.PostgreSQL(t), database.Options{Clock: hasty{}, Migrations: tables()})
		calls, committed := 0, 0
		collide := func(until int) error {
			calls = 0
			return db.Write(t.Context(), func(_ context.Context, tx database.Tx) error {
				calls++
				tx.OnCommit(func() { committed++ })
				if calls < until {
					return fmt.Errorf("row: %w", &pgconn.PgError{Code: code})
				}
				return nil
			})
		}
		if err := collide(4); err != nil || calls != 4 || committed != 1 {
			t.Errorf("%s: %d calls, %d commits, %v", code, calls, committed, err)
		}
		want(t, collide(1000), holdfast.KindConflict, "collided", "try again")
		if calls > 50 || committed != 1 {
			t.Errorf("%s: %d calls, %d commits", code, calls, committed)
		}
	}
}

// TestWrite_ConnectionLost proves that a connection that ends under a transaction is told as such, and that the next transaction
// gets another one.
func TestWrite_ConnectionLost(t *testing.T) {
	db := databasetest.Open(t, databasetest.PostgreSQL(t), database.Options{Migrations: tables()})
	err := db.Write(t.Context(), func(ctx context.Context, tx database.Tx) error {
		_, err := tx.NewRaw("SELECT pg_terminate_backend(pg_backend_pid())").Exec(ctx)
		return err
	})
	want(t, err, holdfast.KindUnavailable, "by itself")
	insert(t, db, example("a"))
}

// TestWrite_DiskFull proves that a full disk is told as such, and that work goes on when there is space again.
func TestWrite_DiskFull(t *testing.T) {
	db := databasetest.Open(t, databasetest.SQLite(t), database.Options{Migrations: tables()})
	limit := func(pages int) {
		t.Helper()
		err := db.Write(t.Context(), func(ctx context.Context, tx database.Tx) error {
			var now int
			return tx.NewRaw("PRAGMA max_page_count = ?", pages).Scan(ctx, &now)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	limit(20)
	large := example("a")
	large.Raw = make([]byte, 1<<20)
	want(t, db.Write(t.Context(), inserting(large)), holdfast.KindUnavailable, "no space left")
	limit(100_000)
	insert(t, db, large)
}

// TestIsDuplicate proves that a second row with the same key is recognised, and no other error is taken for it.
func TestIsDuplicate(t *testing.T) {
	databasetest.Each(t, database.Options{Migrations: tables()}, func(t *testing.T, db *database.DB) {
		insert(t, db, example("a"))
		if err := db.Write(t.Context(), inserting(example("a"))); !database.IsDuplicate(err) {
			t.Errorf("a second row of the same key is %v", err)
		}
		err := db.Write(t.Context(), func(ctx context.Context, tx database.Tx) error {
			_, err := tx.NewRaw("INSERT INTO lines (thing) VALUES ('nobody')").Exec(ctx)
			return err
		})
		if err == nil || database.IsDuplicate(err) {
			t.Errorf("a row that refers to nothing is %v", err)
		}
	})
}

// TestOpen_RefusesURLs proves that a URL of another form is refused with what is accepted, and without its password.
func TestOpen_RefusesURLs(t *testing.T) {
	for _, url := range []string{
		"", "holdfast.db", "mysql://root:secret@host/db", "sqlite://holdfast.db", "sqlite:holdfast.db", "sqlite:///", "sqlite:///folder/",
		"sqlite:///folder/holdfast.db?mode=secret", "sqlite://user:secret@/folder/holdfast.db", "sqlite:///%zz", "postgres://user:secret@host:port/db",
	} {
		_, err := database.Open(t.Context(), url, database.Options{})
		want(t, err, holdfast.KindInvalid, "sqlite:///", "postgres://")
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q is repeated in %q", url, err)
		}
	}
}

// TestOpen_Fails proves that each reason for which a database cannot be opened is told as such.
func TestOpen_Fails(t *testing.T) {
	folder := t.TempDir()
	text := filepath.Join(folder, "text.db")
	if err := os.WriteFile(text, bytes.Repeat([]byte("no database\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		url  string
		kind holdfast.Kind
		word string
	}{
		{"sqlite://" + filepath.ToSlash(text), holdfast.KindCorrupt, "text.db"},
		{"sqlite://" + filepath.ToSlash(filepath.Join(folder, "missing", "holdfast.db")), holdfast.KindNotFound, "missing"},
		{"postgres://somebody:secret@127.0.0.1:1/db?connect_timeout=5", holdfast.KindUnavailable, "PostgreSQL running"},
	} {
		_, err := database.Open(t.Context(), c.url, database.Options{Migrations: tables()})
		want(t, err, c.kind, c.word)
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is repeated in %q", err)
		}
	}
	url := databasetest.PostgreSQL(t)
	_, err := database.Open(t.Context(), strings.Replace(url, "/postgres?", "/other?", 1), database.Options{})
	want(t, err, holdfast.KindNotFound, "createdb")
}

// TestOpen_OneProcess proves that a SQLite file has one owner at a time, who is named to the second one, that the lock ends with
// Close, and that a symbolic link is no way around it.
func TestOpen_OneProcess(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "holdfast.db")
	link := filepath.Join(t.TempDir(), "link.db")
	db, err := database.Open(t.Context(), "sqlite://"+filepath.ToSlash(path), database.Options{Migrations: tables()})
	if err != nil {
		t.Fatal(err)
	}
	names := []string{path}
	if err := os.Symlink(path, link); err == nil { // Windows asks for a privilege
		names = append(names, link)
	}
	for _, name := range names {
		_, err := database.Open(t.Context(), "sqlite://"+filepath.ToSlash(name), database.Options{Migrations: tables()})
		want(t, err, holdfast.KindConflict, "process "+strconv.Itoa(os.Getpid())+" on", "PostgreSQL")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if status, err := os.Stat(path); err != nil || status.Mode().Perm()&0o077 != 0 {
		t.Errorf("the file may be read by others: %v, %v", status.Mode(), err)
	}
	databasetest.Open(t, "sqlite://"+filepath.ToSlash(path), database.Options{Migrations: tables()})
}

// TestOpen_ReadOnly proves that a second process can look on while the first one works, and change nothing.
func TestOpen_ReadOnly(t *testing.T) {
	databasetest.EachURL(t, func(t *testing.T, url string) {
		owner := databasetest.Open(t, url, database.Options{Migrations: tables()})
		reader := databasetest.Open(t, url, database.Options{Migrations: tables(), ReadOnly: true})
		insert(t, owner, example("a"))
		if n := count(t, reader); n != 1 {
			t.Errorf("the reader sees %d rows", n)
		}
		err := reader.Write(t.Context(), inserting(example("b")))
		if holdfast.KindOf(err) != holdfast.KindRefused {
			t.Errorf("the reader writes: %v", err)
		}
		_, err = database.Open(t.Context(), url, database.Options{Migrations: tables("CREATE TABLE later (id {{text}});"), ReadOnly: true})
		want(t, err, holdfast.KindInvalid, "older", "start the server")
	})
}

// TestMigrate_KeepsRows proves that a newer program adds what is new to a database with rows in it.
func TestMigrate_KeepsRows(t *testing.T) {
	databasetest.EachURL(t, func(t *testing.T, url string) {
		old, err := database.Open(t.Context(), url, database.Options{Migrations: tables()})
		if err != nil {
			t.Fatal(err)
		}
		insert(t, old, example("a"))
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		db := databasetest.Open(t, url, database.Options{Migrations: tables("ALTER TABLE things ADD COLUMN color {{text}} NOT NULL DEFAULT 'red';")})
		var color string
		err = db.Read(t.Context(), func(ctx context.Context, rows bun.IDB) error {
			return rows.NewRaw("SELECT color FROM things").Scan(ctx, &color)
		})
		if err != nil || color != "red" {
			t.Errorf("the row has color %q, %v", color, err)
		}
	})
}

// TestMigrate_RefusesNewer proves that an older program refuses a newer database, and does not touch it.
func TestMigrate_RefusesNewer(t *testing.T) {
	databasetest.EachURL(t, func(t *testing.T, url string) {
		newer, err := database.Open(t.Context(), url, database.Options{Migrations: tables("CREATE TABLE later (id {{text}});")})
		if err != nil {
			t.Fatal(err)
		}
		if err := newer.Close(); err != nil {
			t.Fatal(err)
		}
		file, onDisk := strings.CutPrefix(url, "sqlite://")
		before, err := os.ReadFile(file)
		if onDisk && err != nil {
			t.Fatal(err)
		}
		_, err = database.Open(t.Context(), url, database.Options{Migrations: tables()})
		want(t, err, holdfast.KindInvalid, "newer", "version 2", "knows 1")
		if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
			t.Error("the file was changed")
		}
		databasetest.Open(t, url, database.Options{Migrations: tables("CREATE TABLE later (id {{text}});")})
	})
}

// TestMigrate_StepByStep proves that a step that fails leaves the database as the step before it made it.
func TestMigrate_StepByStep(t *testing.T) {
	databasetest.EachURL(t, func(t *testing.T, url string) {
		_, err := database.Open(t.Context(), url, database.Options{Migrations: tables("CREATE TABLE half (id {{text}}); INSERT INTO nowhere VALUES (1);")})
		if err == nil {
			t.Fatal("a step that fails is taken for done")
		}
		db := databasetest.Open(t, url, database.Options{Migrations: tables("CREATE TABLE half (id {{text}});")})
		insert(t, db, example("a"))
	})
}

// TestMigrate_Defects proves that files that would be passed over, or mean nothing, are refused.
func TestMigrate_Defects(t *testing.T) {
	for name, text := range map[string]string{
		"2_short.sql": "SELECT 1", "0002_Upper.sql": "SELECT 1", "notes.txt": "", "0002_type.sql": "-- +goose Up\nCREATE TABLE t (id {{number}});",
	} {
		files := tables()
		files[name] = &fstest.MapFile{Data: []byte(text)}
		_, err := database.Open(t.Context(), databasetest.SQLite(t), database.Options{Migrations: files})
		if holdfast.KindOf(err) != holdfast.KindInternal {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := database.Open(t.Context(), databasetest.SQLite(t), database.Options{Migrations: fstest.MapFS{}}); err == nil {
		t.Error("no tables at all are taken for done")
	}
}

// TestMigrate_TwoAtOnce proves that servers that start together make the tables once.
func TestMigrate_TwoAtOnce(t *testing.T) {
	url := databasetest.PostgreSQL(t)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			db, err := database.Open(t.Context(), url, database.Options{Migrations: tables("CREATE TABLE later (id {{text}});")})
			if err != nil {
				t.Error(err)
				return
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// TestSQLite_Settings proves that the file has the settings that our promises rest on.
func TestSQLite_Settings(t *testing.T) {
	db, err := database.Open(t.Context(), databasetest.SQLite(t), database.Options{Migrations: tables()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for pragma, wanted := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
		var is string
		err := db.Write(t.Context(), func(ctx context.Context, tx database.Tx) error {
			return tx.NewRaw("PRAGMA "+pragma).Scan(ctx, &is)
		})
		if err != nil || is != wanted {
			t.Errorf("%s is %s (%v), want %s", pragma, is, err, wanted)
		}
	}
}

// TestVersions proves that SQLite runs on the C library that it was translated with. Any dependency could raise it, and nothing
// but wrong behaviour would tell.
func TestVersions(t *testing.T) {
	const sqlite, library = "modernc.org/sqlite", "modernc.org/libc"
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}} {{.GoMod}}", sqlite, library).Output()
	lines := strings.Fields(string(out))
	if err != nil || len(lines) != 4 {
		t.Fatalf("go list: %q, %v", out, err)
	}
	asked, err := os.ReadFile(lines[1])
	if err != nil {
		t.Fatal(err)
	}
	if linked := lines[2]; !bytes.Contains(asked, []byte(library+" "+linked+"\n")) {
		t.Errorf("%s %s is linked with %s %s, which is not what its go.mod asks for", sqlite, lines[0], library, linked)
	}
}

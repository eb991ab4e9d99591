package riverjobs_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/jobs/jobstest"
)

// victimURL tells a process made of this test that it is to be killed, and which database it works on.
const victimURL = "HOLDFAST_TEST_VICTIM"

const kind = "made.up"

// TestVictim is no test: it is the process that TestDeath kills.
func TestVictim(t *testing.T) {
	url := os.Getenv(victimURL)
	if url == "" {
		t.Skip("runs in a process of its own")
	}
	db := databasetest.Open(t, url, database.Options{})
	q := open(t, db, 1)
	q.Handle(kind, func(ctx context.Context, _ jobs.Job) error {
		_, _ = os.Stdout.WriteString("running\n")
		<-ctx.Done()
		return ctx.Err()
	})
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // lives until it is killed, or its parent is
}

// murder starts a process that takes the job of the database, and kills it while the job runs.
func murder(t *testing.T, url string) {
	t.Helper()
	victim := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestVictim$")
	victim.Env = append(os.Environ(), victimURL+"="+url)
	victim.Stderr = os.Stderr
	stdin, err := victim.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "running\n" {
		t.Errorf("the victim said %q, %v", line, err)
	}
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var killed *exec.ExitError
	if err := victim.Wait(); !errors.As(err, &killed) {
		t.Fatalf("the victim ended with %v", err)
	}
}

// TestDeath_ServerTakesOver proves that the job of a process that was killed runs in another one that shares the database, with the
// attempt that was cut off not counted.
func TestDeath_ServerTakesOver(t *testing.T) {
	url := databasetest.PostgreSQL(t)
	db := databasetest.Open(t, url, database.Options{})
	enqueuer := open(t, db, 1)
	defer func() { _ = enqueuer.Drain(t.Context()) }()
	jobstest.Enqueue(t, db, enqueuer, jobs.Job{Kind: kind, Key: "a"})
	murder(t, url)
	survives(t, db)
	if listed := processes(t, db); listed != 0 {
		t.Errorf("%d processes are listed after all have ended", listed)
	}
}

// TestDeath_FileAfterRestart proves that on SQLite, where there is one process, the job runs again as soon as the next one starts.
func TestDeath_FileAfterRestart(t *testing.T) {
	url := databasetest.SQLite(t)
	enqueueAndClose(t, url)
	murder(t, url)
	survives(t, databasetest.Open(t, url, database.Options{}))
}

func enqueueAndClose(t *testing.T, url string) {
	t.Helper()
	db, err := database.Open(t.Context(), url, database.Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	q := open(t, db, 1)
	jobstest.Enqueue(t, db, q, jobs.Job{Kind: kind, Key: "a"})
	if err := errors.Join(q.Drain(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// survives runs the job that is there.
func survives(t *testing.T, db *database.DB) {
	t.Helper()
	ran := make(chan jobs.Job, 1)
	q := open(t, db, 1)
	q.Handle(kind, func(_ context.Context, job jobs.Job) error {
		ran <- job
		return nil
	})
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if job := jobstest.Receive(t, ran); job.Key != "a" || job.Attempt != 1 {
		t.Errorf("%+v runs again", job)
	}
	if err := q.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

func processes(t *testing.T, db *database.DB) int {
	t.Helper()
	n := 0
	err := db.Read(t.Context(), func(ctx context.Context, rows bun.IDB) error {
		return rows.NewRaw("SELECT count(*) FROM job_processes").Scan(ctx, &n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestServers_Share proves that two processes on one database run each job once, and that each cancels what the other one runs.
func TestServers_Share(t *testing.T) {
	url := databasetest.PostgreSQL(t)
	ran, started, ended := make(chan string, 100), make(chan struct{}), make(chan error, 1)
	handler := func(ctx context.Context, job jobs.Job) error {
		ran <- job.Key
		if job.Key == "long" {
			close(started)
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return ctx.Err()
		}
		return nil
	}
	var servers [2]*riverQueue
	for i := range servers {
		servers[i] = serve(t, url, handler)
	}
	db := servers[0].db
	var all []jobs.Job
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "long"} {
		all = append(all, jobs.Job{Kind: kind, Key: key})
	}
	jobstest.Enqueue(t, db, servers[0], all...)
	seen := make(map[string]bool)
	for range all {
		key := jobstest.Receive(t, ran)
		if seen[key] {
			t.Errorf("%q ran twice", key)
		}
		seen[key] = true
	}
	jobstest.Receive(t, started)
	for _, server := range servers { // one of them does not run it, and whichever that is, it is asked
		if err := server.Cancel(t.Context(), kind, "long"); err != nil {
			t.Fatal(err)
		}
	}
	if cause := jobstest.Receive(t, ended); !errors.Is(cause, jobs.ErrCanceled) {
		t.Errorf("the job ended because of %v", cause)
	}
}

// TestFence proves that a process that was taken for dead although it lives ends its jobs by itself, and goes on afterwards.
func TestFence(t *testing.T) {
	databasetest.EachURL(t, func(t *testing.T, url string) {
		started, ended := make(chan int, 10), make(chan error, 10)
		runs := 0
		server := serve(t, url, func(ctx context.Context, job jobs.Job) error {
			runs++ // one job, so never at the same time
			started <- job.Attempt
			if runs > 1 {
				return nil
			}
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return ctx.Err()
		})
		jobstest.Enqueue(t, server.db, server, jobs.Job{Kind: kind, Key: "a"})
		jobstest.Receive(t, started)
		err := server.db.Write(t.Context(), func(ctx context.Context, tx database.Tx) error {
			_, err := tx.NewRaw("DELETE FROM job_processes").Exec(ctx) // as others do with the dead
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if cause := jobstest.Receive(t, ended); !errors.Is(cause, jobs.ErrAbandoned) {
			t.Errorf("the job ended because of %v", cause)
		}
		if attempt := jobstest.Receive(t, started); attempt != 1 {
			t.Errorf("it runs again as attempt %d", attempt)
		}
	})
}

// riverQueue is a queue with its own connection to the database, as a server has it.
type riverQueue struct {
	jobstest.Queue

	db *database.DB
}

func serve(t *testing.T, url string, handler jobs.Handler) *riverQueue {
	t.Helper()
	db := databasetest.Open(t, url, database.Options{})
	q := open(t, db, 2)
	q.Handle(kind, handler)
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Drain(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return &riverQueue{Queue: q, db: db}
}

package inline_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/jobs/inline"
	"github.com/holdfast-backup/holdfast/internal/jobs/jobstest"
)

// driven is an inline queue that a goroutine steps, with a clock that it advances to whatever waits.
type driven struct {
	*inline.Queue

	clock *clock.Manual
	stop  context.CancelFunc
	done  sync.WaitGroup
}

func (d *driven) Start(ctx context.Context) error {
	if err := d.Queue.Start(ctx); err != nil {
		return err
	}
	stepping, stop := context.WithCancel(ctx)
	d.stop = stop
	d.done.Go(func() {
		for stepping.Err() == nil {
			if d.Step(ctx) {
				continue
			}
			// Waits of an hour are not taken: what a test cancels must not run before.
			if wait := d.Due().Sub(d.clock.Now()); wait > 0 && wait < time.Minute {
				d.clock.Advance(wait)
				continue
			}
			_ = clock.System{}.Sleep(stepping, time.Millisecond)
		}
	})
	return nil
}

func (d *driven) Drain(ctx context.Context) error {
	err := d.Queue.Drain(ctx)
	d.stop()
	d.done.Wait()
	return err
}

// TestConformance proves what package jobs promises.
func TestConformance(t *testing.T) {
	jobstest.Run(t, func(t *testing.T) jobstest.Fixture {
		manual := clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		return jobstest.Fixture{
			DB:   databasetest.Open(t, databasetest.SQLite(t), database.Options{}),
			Open: func(*testing.T, int) jobstest.Queue { return &driven{Queue: inline.New(manual), clock: manual} },
			Now:  manual.Now,
		}
	})
}

// TestStep_Order proves that a queue runs one job at a time, in an order that depends on nothing but the jobs, on the goroutine
// that asks, and says when it wants to be asked again.
func TestStep_Order(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	manual := clock.NewManual(start)
	db := databasetest.Open(t, databasetest.SQLite(t), database.Options{})
	for range 3 {
		q := inline.New(manual)
		var order []string
		q.Handle("made.up", func(_ context.Context, job jobs.Job) error {
			order = append(order, job.Key)
			if job.Key == "b" && job.Attempt == 1 {
				return jobs.Snooze(time.Hour)
			}
			return nil
		})
		if err := q.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		jobstest.Enqueue(t, db, q, jobs.Job{Kind: "made.up", Key: "b"}, jobs.Job{Kind: "made.up", Key: "a"}, jobs.Job{Kind: "made.up", Key: "c", Priority: jobs.Urgent})
		for q.Step(t.Context()) {
		}
		if len(order) != 3 || order[0] != "c" || order[1] != "b" || order[2] != "a" {
			t.Fatalf("ran %q", order)
		}
		if due := q.Due(); !due.Equal(manual.Now().Add(time.Hour)) {
			t.Fatalf("due at %v", due)
		}
	}
}

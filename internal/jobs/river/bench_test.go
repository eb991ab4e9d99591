package riverjobs_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/jobs/jobstest"
	riverjobs "github.com/holdfast-backup/holdfast/internal/jobs/river"
)

// BenchmarkLatency measures from the commit of a job to its handler.
func BenchmarkLatency(b *testing.B) {
	benchmark(b, func(b *testing.B, db *database.DB, q jobstest.Queue, ran <-chan struct{}) {
		for i := 0; b.Loop(); i++ {
			jobstest.Enqueue(b, db, q, numbered(i))
			<-ran
		}
	})
}

// BenchmarkThroughput measures jobs that are enqueued a hundred at a time, and run ten at a time.
func BenchmarkThroughput(b *testing.B) {
	const batch = 100
	benchmark(b, func(b *testing.B, db *database.DB, q jobstest.Queue, ran <-chan struct{}) {
		done := 0
		for b.Loop() {
			all := make([]jobs.Job, batch)
			for i := range all {
				all[i] = numbered(done + i)
			}
			jobstest.Enqueue(b, db, q, all...)
			for range all {
				<-ran
			}
			done += batch
		}
		b.ReportMetric(float64(done)/b.Elapsed().Seconds(), "jobs/s")
	})
}

func numbered(i int) jobs.Job { return jobs.Job{Kind: kind, Key: strconv.Itoa(i)} }

// benchmark runs on both databases. SQLite waits for its disk, as in production; the server of the tests does not.
func benchmark(b *testing.B, measure func(b *testing.B, db *database.DB, q jobstest.Queue, ran <-chan struct{})) {
	for name, fresh := range map[string]func(testing.TB) string{"SQLite": databasetest.SQLite, "PostgreSQL": databasetest.PostgreSQL} {
		b.Run(name, func(b *testing.B) {
			db, err := database.Open(b.Context(), fresh(b), database.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			q, err := riverjobs.New(b.Context(), db, riverjobs.Options{Queues: map[string]int{jobs.QueueDefault: 10}})
			if err != nil {
				b.Fatal(err)
			}
			ran := make(chan struct{}, 1000)
			q.Handle(kind, func(context.Context, jobs.Job) error {
				ran <- struct{}{}
				return nil
			})
			if err := q.Start(b.Context()); err != nil {
				b.Fatal(err)
			}
			measure(b, db, q, ran)
			if err := q.Drain(b.Context()); err != nil {
				b.Error(err)
			}
		})
	}
}

package riverjobs_test

import (
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/jobs/jobstest"
	riverjobs "github.com/holdfast-backup/holdfast/internal/jobs/river"
)

// quick has a process taken for dead within a second.
func quick(workers int) riverjobs.Options {
	return riverjobs.Options{Queues: map[string]int{jobs.QueueDefault: workers}, Beat: 200 * time.Millisecond, StaleAfter: time.Second, Poll: 50 * time.Millisecond}
}

func open(t *testing.T, db *database.DB, workers int) *riverjobs.Queue {
	t.Helper()
	q, err := riverjobs.New(t.Context(), db, quick(workers))
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// TestConformance proves what package jobs promises, on both databases.
func TestConformance(t *testing.T) {
	for name, fresh := range map[string]func(testing.TB) string{"SQLite": databasetest.SQLite, "PostgreSQL": databasetest.PostgreSQL} {
		t.Run(name, func(t *testing.T) {
			jobstest.Run(t, func(t *testing.T) jobstest.Fixture {
				db := databasetest.Open(t, fresh(t), database.Options{})
				return jobstest.Fixture{
					DB:   db,
					Open: func(t *testing.T, workers int) jobstest.Queue { return open(t, db, workers) },
					Now:  clock.System{}.Now,
				}
			})
		})
	}
}

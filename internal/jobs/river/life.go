package riverjobs

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/jobs"
)

// statements are those on River's own table, whose columns differ in type.
type statements struct {
	key   string // of a job
	owner string // the process that took a job last
}

var (
	fileStatements   = statements{key: "json_extract(CAST(args AS TEXT), '$.key')", owner: "json_extract(CAST(attempted_by AS TEXT), '$[#-1]')"}
	serverStatements = statements{key: "args ->> 'key'", owner: "attempted_by[array_upper(attempted_by, 1)]"}
)

// process is a row of job_processes.
type process struct {
	bun.BaseModel `bun:"table:job_processes"`

	ID      string        `bun:"id,pk"`
	Host    string        `bun:"host"`
	Started database.Time `bun:"started"`
	Beats   int64         `bun:"beats"`
}

// sighting is a count of beats, and since when it stands there by our own clock: clocks of different machines are not compared.
type sighting struct {
	beats int64
	since time.Time
}

// enter writes down that this process takes jobs. On SQLite it is the only one, so all that is there is of the dead.
func (q *Queue) enter(ctx context.Context) error {
	return q.db.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		if _, alone := q.db.SQLite(); alone {
			if _, err := tx.NewRaw("DELETE FROM job_processes").Exec(ctx); err != nil {
				return err
			}
			if _, err := q.freeOrphans(ctx, tx); err != nil {
				return err
			}
		}
		_, err := tx.NewInsert().Model(&process{ID: q.id, Host: q.host, Started: database.At(q.clock.Now())}).Exec(ctx)
		return err
	})
}

// leave takes this process off the list; no job of it runs any more.
func (q *Queue) leave(ctx context.Context) error {
	return q.db.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		_, err := tx.NewDelete().Model(&process{ID: q.id}).WherePK().Exec(ctx)
		return err
	})
}

// beat shows that this process lives until ctx ends, frees the jobs of those that do not, and cancels what is to be canceled. When
// the last beat that was written is so old that others may soon take our jobs, they end here.
func (q *Queue) beat(ctx context.Context) {
	defer close(q.stopped)
	last := q.clock.Now()
	for q.clock.Sleep(ctx, q.options.Beat) == nil {
		err := q.tick(ctx)
		if err == nil {
			last = q.clock.Now()
			continue
		}
		if ctx.Err() != nil {
			return
		}
		q.log.WarnContext(ctx, "queue without sign of life", "database", q.db.String(), "err", err)
		if q.clock.Now().Sub(last) >= q.options.StaleAfter-2*q.options.Beat {
			q.endAll(jobs.ErrAbandoned)
		}
	}
}

func (q *Queue) tick(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, q.options.Beat) // a write that hangs is a beat that was missed
	defer cancel()
	if err := q.show(ctx); err != nil {
		return err
	}
	if _, err := q.Reap(ctx); err != nil {
		return err
	}
	return q.endCanceled(ctx)
}

// show counts one beat. A process that was taken for dead meanwhile gives up what it runs, and enters anew.
func (q *Queue) show(ctx context.Context) error {
	counted := int64(0)
	err := q.db.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		result, err := tx.NewRaw("UPDATE job_processes SET beats = beats + 1 WHERE id = ?", q.id).Exec(ctx)
		if err != nil {
			return err
		}
		counted, err = result.RowsAffected()
		return err
	})
	if err != nil || counted == 1 {
		return err
	}
	q.endAll(jobs.ErrAbandoned)
	return q.enter(ctx)
}

// Reap implements jobs.Worker. A process is dead when its count of beats stood still for StaleAfter, as seen from here, and still
// stands there when its jobs are freed.
func (q *Queue) Reap(ctx context.Context) (int, error) {
	var listed []process
	orphans := 0
	err := q.db.Read(ctx, func(ctx context.Context, rows bun.IDB) error {
		if err := rows.NewSelect().Model(&listed).Where("id <> ?", q.id).Scan(ctx); err != nil {
			return err
		}
		return rows.NewRaw("SELECT count(*) FROM river_job WHERE ?", q.orphaned()).Scan(ctx, &orphans)
	})
	if err != nil {
		return 0, err
	}
	dead := q.standing(listed)
	if len(dead) == 0 && orphans == 0 {
		return 0, nil
	}
	freed := 0
	err = q.db.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		for _, one := range dead {
			if _, err := tx.NewDelete().Model(&one).WherePK().Where("beats = ?", one.Beats).Exec(ctx); err != nil {
				return err
			}
		}
		freed, err = q.freeOrphans(ctx, tx)
		return err
	})
	if freed > 0 {
		q.log.WarnContext(ctx, "jobs of dead processes are free", "database", q.db.String(), "jobs", freed)
	}
	return freed, err
}

// standing returns the processes whose count did not move for so long that they are dead.
func (q *Queue) standing(listed []process) []process {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.Now()
	seen := make(map[string]sighting, len(listed))
	var dead []process
	for _, one := range listed {
		last, known := q.seen[one.ID]
		if !known || last.beats != one.Beats {
			last = sighting{beats: one.Beats, since: now}
		}
		seen[one.ID] = last
		if now.Sub(last.since) >= q.options.StaleAfter {
			dead = append(dead, one)
		}
	}
	q.seen = seen
	return dead
}

// orphaned is the condition of a job that runs nowhere: who took it is not on the list.
func (q *Queue) orphaned() bun.Safe {
	return bun.Safe("state = 'running' AND " + q.sql.owner + " NOT IN (SELECT id FROM job_processes)")
}

// freeOrphans makes them available in one statement. The attempt that was cut off does not count.
func (q *Queue) freeOrphans(ctx context.Context, tx database.Tx) (int, error) {
	result, err := tx.NewRaw("UPDATE river_job SET state = 'available', attempt = attempt - 1 WHERE ?", q.orphaned()).Exec(ctx)
	if err != nil {
		return 0, err
	}
	freed, err := result.RowsAffected()
	return int(freed), err
}

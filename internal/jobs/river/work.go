package riverjobs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/jobs"
)

// worker runs the jobs of one kind.
type worker struct {
	river.WorkerDefaults[row]

	queue   *Queue
	handler jobs.Handler
}

// Work implements river.Worker.
func (w *worker) Work(ctx context.Context, taken *river.Job[row]) error {
	job := w.queue.job(taken.JobRow, taken.Args)
	ctx, end := translate(ctx)
	defer end(nil)
	name := subject{job.Kind, job.Key}
	w.queue.register(name, end)
	defer w.queue.unregister(name)

	err := w.handler(ctx, job)
	switch verdict := jobs.Judge(ctx, job, err); {
	case verdict.State == jobs.Canceled:
		w.queue.forget(context.WithoutCancel(ctx), name)
		return river.JobCancel(jobs.ErrCanceled)
	case verdict.State == jobs.Failed && job.Attempt < job.Attempts: // given up
		return river.JobCancel(err)
	case verdict.State == jobs.Waiting && !verdict.Count:
		return river.JobSnooze(max(verdict.Pause, 0))
	default:
		return err
	}
}

// translate returns the context of a handler: it ends with River's, for reasons in our words.
func translate(theirs context.Context) (context.Context, context.CancelCauseFunc) {
	ours, end := context.WithCancelCause(context.WithoutCancel(theirs))
	detach := context.AfterFunc(theirs, func() {
		cause := context.Cause(theirs)
		if errors.Is(cause, rivertype.ErrJobCancelledRemotely) {
			cause = jobs.ErrCanceled
		}
		end(cause)
	})
	return ours, func(cause error) {
		detach()
		end(cause)
	}
}

// NextRetry implements river.Worker.
func (w *worker) NextRetry(failed *river.Job[row]) time.Time {
	return w.queue.clock.Now().Add(jobs.Pause(failed.Attempt))
}

func (q *Queue) register(name subject, end context.CancelCauseFunc) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running[name] = end
}

func (q *Queue) unregister(name subject) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, name)
}

// end ends the context of a job that runs here.
func (q *Queue) end(name subject, cause error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if end := q.running[name]; end != nil {
		end(cause)
	}
}

func (q *Queue) endAll(cause error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, end := range q.running {
		end(cause)
	}
}

// Cancel implements jobs.Canceler. It is written down first, so that the process that runs the job finds it with its next beat,
// also when the job began while it was being canceled; the rest makes it quicker.
func (q *Queue) Cancel(ctx context.Context, kind, key string) error {
	name := subject{kind, key}
	var found []int64
	err := q.db.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		found = nil
		err := tx.NewRaw("SELECT id FROM river_job WHERE kind = ? AND ? = ? AND state IN (?)", kind, bun.Safe(q.sql.key), key, bun.List(unfinished)).Scan(ctx, &found)
		if err != nil || len(found) == 0 {
			return err
		}
		_, err = tx.NewRaw("INSERT INTO job_cancellations (kind, job_key, asked) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", kind, key, database.At(q.clock.Now())).Exec(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range found {
		if _, err := q.client.JobCancel(ctx, id); err != nil && !errors.Is(err, river.ErrNotFound) {
			return err
		}
	}
	q.end(name, jobs.ErrCanceled)
	return nil
}

// forget removes a cancellation that was carried out. Best effort: one that stays is removed when a job of its key is enqueued.
func (q *Queue) forget(ctx context.Context, name subject) {
	err := q.db.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		_, err := tx.NewRaw("DELETE FROM job_cancellations WHERE kind = ? AND job_key = ?", name.kind, name.key).Exec(ctx)
		return err
	})
	if err != nil {
		q.log.WarnContext(ctx, "cancellation stays behind", "kind", name.kind, "key", name.key, "err", err)
	}
}

// endCanceled ends the jobs of this process that were canceled elsewhere.
func (q *Queue) endCanceled(ctx context.Context) error {
	var asked []struct {
		Kind   string
		JobKey string
	}
	err := q.db.Read(ctx, func(ctx context.Context, rows bun.IDB) error {
		return rows.NewRaw("SELECT kind, job_key FROM job_cancellations").Scan(ctx, &asked)
	})
	for _, one := range asked {
		q.end(subject{one.Kind, one.JobKey}, jobs.ErrCanceled)
	}
	return err
}

// job is a row of River as a job of ours.
func (q *Queue) job(from *rivertype.JobRow, args row) jobs.Job {
	return jobs.Job{
		Kind: from.Kind, Key: args.Key, Queue: from.Queue, Arguments: args.Arguments, RunAt: from.ScheduledAt,
		Priority: jobs.Priority(from.Priority), Attempts: from.MaxAttempts, Attempt: from.Attempt,
	}
}

// riverStates are River's names for a state of ours. A job that was given up is canceled in River, too.
var riverStates = map[jobs.State][]rivertype.JobState{
	jobs.Waiting:  {rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable, rivertype.JobStateScheduled},
	jobs.Running:  {rivertype.JobStateRunning},
	jobs.Done:     {rivertype.JobStateCompleted},
	jobs.Failed:   {rivertype.JobStateDiscarded, rivertype.JobStateCancelled},
	jobs.Canceled: {rivertype.JobStateCancelled},
}

// What River keeps as the last error of a job that was canceled while it ran.
const (
	canceledHere    = "JobCancelError: the job was canceled"
	canceledByRiver = "JobCancelError: job cancelled remotely"
)

// List implements jobs.Operator.
func (q *Queue) List(ctx context.Context, filter jobs.Filter) ([]jobs.Status, error) {
	query := river.NewJobListParams().OrderBy(river.JobListOrderByID, river.SortOrderDesc).First(cmp.Or(filter.Limit, jobs.ListMax))
	if filter.Kind != "" {
		query = query.Kinds(filter.Kind)
	}
	if filter.State != "" {
		query = query.States(riverStates[filter.State]...)
	}
	result, err := q.client.JobList(ctx, query)
	if err != nil {
		return nil, err
	}
	var found []jobs.Status
	for _, one := range result.Jobs {
		status, err := q.status(one)
		if err != nil {
			return nil, err
		}
		if filter.State == "" || status.State == filter.State {
			found = append(found, status)
		}
	}
	return found, nil
}

func (q *Queue) status(from *rivertype.JobRow) (jobs.Status, error) {
	var args row
	if err := json.Unmarshal(from.EncodedArgs, &args); err != nil {
		return jobs.Status{}, err
	}
	status := jobs.Status{Job: q.job(from, args)}
	if n := len(from.Errors); n > 0 {
		status.Problem = from.Errors[n-1].Error
	}
	switch from.State {
	case rivertype.JobStateRunning:
		status.State = jobs.Running
	case rivertype.JobStateCompleted:
		status.State = jobs.Done
	case rivertype.JobStateDiscarded:
		status.State = jobs.Failed
	case rivertype.JobStateCancelled:
		status.State = jobs.Failed
		if from.Attempt == 0 || status.Problem == canceledHere || status.Problem == canceledByRiver || len(from.Errors) < from.Attempt { // it never ran, or its last attempt did not fail
			status.State = jobs.Canceled
		}
	default:
		status.State = jobs.Waiting
	}
	return status, nil
}

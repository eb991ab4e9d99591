// Package riverjobs is the durable queue: River, on the database that holds everything else, so that a job commits or rolls back
// with the rows that it is about.
//
// It promises what package jobs asks for, on SQLite and on PostgreSQL, where several processes share the queue. What River lacks or
// does wrong in the versions that serve both databases is made up for here: it has no sign of life of a process, so processes
// count beats in a table of ours, and the jobs of one that stands still become available again; it would run a job a second time
// beside the first when it takes long, so its own rescuer is put off for a month; it cannot cancel a running job on SQLite, so
// that goes through a table of ours as well.
//
// It must never let a handler run on, once the process cannot show that it lives: after staleAfter others run its jobs. It must
// never be asked for a job by its number, which SQLite gives again.
package riverjobs

import (
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/jobs"
)

// Options says how a queue works.
type Options struct {
	Log *slog.Logger // nothing is logged when nil

	// Queues are those that this process takes jobs from, with how many it runs at a time. Every kind of job that is put into one
	// of them needs a handler here.
	Queues map[string]int

	// Beat is how often the process shows that it lives, StaleAfter how long one may stand still until its jobs run elsewhere;
	// beatDefault and staleDefault when 0. All processes of a database have the same.
	Beat, StaleAfter time.Duration

	// Poll is how often it looks for jobs that no notification told it of; pollFile or pollServer when 0. A hundred processes
	// that look every second cost the server a tenth of a core.
	Poll time.Duration
}

const (
	beatDefault  = 2 * time.Second
	staleDefault = 10 * time.Second // five beats: a server that fails over answers again by then

	fetchCooldown = 20 * time.Millisecond  // bounds what a busy queue asks of the database, and how often it notifies
	pollFile      = 200 * time.Millisecond // SQLite has no notifications: what was enqueued is seen by looking
	pollServer    = 500 * time.Millisecond // notifications within the cooldown are left out, and their jobs wait for this
	rescueNever   = 30 * 24 * time.Hour    // River's rescuer does not know whether a process lives, and runs jobs twice
	processHost   = "unknown"              // where the system does not tell its name
)

// Queue is a queue in a database. Safe for concurrent use.
type Queue struct {
	db      *database.DB
	clock   clock.Clock
	log     *slog.Logger
	options Options
	id      string // of this process, as long as the queue lives
	host    string
	sql     statements
	workers *river.Workers
	client  client
	close   func()

	mu      sync.Mutex // guards what follows
	started bool
	taken   map[string]bool // queues that this process takes jobs from
	running map[subject]context.CancelCauseFunc
	seen    map[string]sighting // of other processes

	// Owned by Start and Drain.
	stopBeating context.CancelFunc
	stopped     chan struct{}
}

// subject names a job.
type subject struct{ kind, key string }

// client is River's client, whatever its transactions are.
type client interface {
	insert(ctx context.Context, tx database.Tx, args row, options *river.InsertOpts) (*rivertype.JobInsertResult, error)
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	Queues() *river.QueueBundle
	operations
}

// operations are what who looks after the queues asks of River's client.
type operations interface {
	JobCancel(ctx context.Context, id int64) (*rivertype.JobRow, error)
	JobList(ctx context.Context, params *river.JobListParams) (*river.JobListResult, error)
	QueuePause(ctx context.Context, name string, options *river.QueuePauseOpts) error
	QueueResume(ctx context.Context, name string, options *river.QueuePauseOpts) error
}

var (
	_ jobs.Enqueuer = (*Queue)(nil)
	_ jobs.Canceler = (*Queue)(nil)
	_ jobs.Worker   = (*Queue)(nil)
	_ jobs.Operator = (*Queue)(nil)
)

//go:embed migrations/*.sql
var files embed.FS

// New makes the queue's tables, or brings them up to date. A process that only enqueues never starts it, and drains it all the
// same, which ends its connections.
func New(ctx context.Context, db *database.DB, options Options) (*Queue, error) {
	if options.Beat == 0 {
		options.Beat, options.StaleAfter = beatDefault, staleDefault
	}
	q := &Queue{
		db: db, clock: clock.System{}, log: options.Log, options: options, id: uuid.NewString(), workers: river.NewWorkers(),
		running: make(map[subject]context.CancelCauseFunc), seen: make(map[string]sighting), taken: make(map[string]bool),
	}
	for name := range options.Queues {
		q.taken[name] = true
	}
	if q.log == nil {
		q.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if q.host, err = os.Hostname(); err != nil {
		q.host = processHost // best effort: it only helps a person to find the process
	}
	tables, err := fs.Sub(files, "migrations")
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, database.Tables{Name: "jobs", Files: tables}); err != nil {
		return nil, err
	}
	if err := q.connect(ctx); err != nil {
		return nil, holdfast.Wrap(holdfast.KindUnavailable, err, "the queue in %s cannot be opened", db).WithHint("look at the cause, and start again")
	}
	return q, nil
}

// settings are River's, with everything that its defaults would do to us.
func (q *Queue) settings() *river.Config {
	queues := make(map[string]river.QueueConfig)
	for name, workers := range q.options.Queues {
		queues[name] = river.QueueConfig{MaxWorkers: workers}
	}
	return &river.Config{
		ID:                   q.id,
		Logger:               q.log,
		Queues:               queues,
		Workers:              q.workers,
		JobTimeout:           -1,
		RescueStuckJobsAfter: rescueNever,
		FetchCooldown:        fetchCooldown,
		FetchPollInterval:    cmp.Or(q.options.Poll, pollServer),
		SkipUnknownJobCheck:  true, // who enqueues need not be who works
	}
}

// row is what River keeps of a job.
type row struct {
	kind      string
	Key       string          `json:"key"       river:"unique"`
	Arguments json.RawMessage `json:"arguments"`
}

// Kind implements river.JobArgs.
func (r row) Kind() string { return r.kind }

// unfinished are the states in which a job keeps others of its key away.
var unfinished = []rivertype.JobState{
	rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled,
}

// Enqueue implements jobs.Enqueuer.
func (q *Queue) Enqueue(ctx context.Context, tx database.Tx, job jobs.Job) (bool, error) {
	job, err := job.Complete()
	if err != nil {
		return false, err
	}
	if !job.RunAt.After(q.clock.Now()) {
		job.RunAt = time.Time{} // River looks every few seconds alone at what was put off, and does so to an instant that is past
	}
	result, err := q.client.insert(ctx, tx, row{kind: job.Kind, Key: job.Key, Arguments: job.Arguments}, &river.InsertOpts{
		MaxAttempts: job.Attempts,
		Priority:    int(job.Priority),
		Queue:       job.Queue,
		ScheduledAt: job.RunAt,
		UniqueOpts:  river.UniqueOpts{ByArgs: true, ByState: unfinished},
	})
	if err != nil || result.UniqueSkippedAsDuplicate {
		return err == nil, err
	}
	// An earlier job of this key may have ended before it was canceled.
	_, err = tx.NewRaw("DELETE FROM job_cancellations WHERE kind = ? AND job_key = ?", job.Kind, job.Key).Exec(ctx)
	return false, err
}

// Handle implements jobs.Worker.
func (q *Queue) Handle(kind string, handler jobs.Handler) {
	river.AddWorkerArgs(q.workers, row{kind: kind}, &worker{queue: q, handler: handler})
}

// Take begins to take jobs from another queue, so many at a time. One that the process takes from already stays as it is. A process that was
// made without any queue takes none later.
func (q *Queue) Take(queue string, workers int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.taken[queue] {
		return nil
	}
	if err := q.client.Queues().Add(queue, river.QueueConfig{MaxWorkers: workers}); err != nil {
		return holdfast.Wrap(holdfast.KindInternal, err, "no jobs can be taken from the queue %s", queue)
	}
	q.taken[queue] = true
	return nil
}

// Start implements jobs.Worker.
func (q *Queue) Start(ctx context.Context) error {
	q.mu.Lock()
	again := q.started
	q.started = true
	q.mu.Unlock()
	if again {
		return holdfast.Errorf(holdfast.KindConflict, "the queue in %s was started already", q.db)
	}
	if err := q.enter(ctx); err != nil {
		return err
	}
	if err := q.client.Start(context.WithoutCancel(ctx)); err != nil { // Drain ends it, and lets jobs end before
		return holdfast.Wrap(holdfast.KindUnavailable, err, "the queue in %s cannot be started", q.db).WithHint("look at the cause, and start again")
	}
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	q.stopBeating, q.stopped = stop, make(chan struct{})
	go q.beat(beating)
	return nil
}

// Drain implements jobs.Worker.
func (q *Queue) Drain(ctx context.Context) error {
	defer q.close()
	if q.stopped == nil {
		return nil
	}
	err := q.client.Stop(ctx)
	if ctx.Err() != nil {
		q.endAll(context.Cause(ctx))
		err = errors.Join(err, q.client.Stop(context.WithoutCancel(ctx)))
	}
	q.stopBeating()
	<-q.stopped
	return errors.Join(err, q.leave(context.WithoutCancel(ctx)))
}

// PauseQueue implements jobs.Operator.
func (q *Queue) PauseQueue(ctx context.Context, queue string) error {
	return explainQueue(q.client.QueuePause(ctx, queue, nil), queue)
}

// ResumeQueue implements jobs.Operator.
func (q *Queue) ResumeQueue(ctx context.Context, queue string) error {
	return explainQueue(q.client.QueueResume(ctx, queue, nil), queue)
}

func explainQueue(err error, queue string) error {
	if errors.Is(err, river.ErrNotFound) {
		return holdfast.Wrap(holdfast.KindNotFound, err, "no process takes jobs from a queue %q", queue).WithField("queue")
	}
	return err
}

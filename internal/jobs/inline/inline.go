// Package inline keeps jobs in memory and runs them one at a time, when it is told to, on the goroutine of who tells it: the queue
// of the simulator.
//
// It promises the same results as the durable queue, in an order that depends on nothing but the jobs: by instant, priority, and
// the order in which they were committed. It must never outlive what it serves: when the process ends, the jobs are gone.
package inline

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/jobs"
)

// Queue is a queue in memory. Safe for concurrent use; Step is meant for one goroutine.
type Queue struct {
	clock    clock.Clock
	handlers map[string]jobs.Handler // complete before Start

	mu       sync.Mutex // guards what follows
	started  bool
	drained  bool
	paused   map[string]bool
	sequence int
	entries  []*entry // in the order of their commits
	running  *entry
	stop     context.CancelCauseFunc // of the job that runs
	idle     chan struct{}           // closed when the job that runs has ended
}

type entry struct {
	jobs.Status

	sequence int
	due      time.Time
}

// New returns an empty queue.
func New(clock clock.Clock) *Queue {
	return &Queue{clock: clock, handlers: make(map[string]jobs.Handler), paused: make(map[string]bool)}
}

var (
	_ jobs.Enqueuer = (*Queue)(nil)
	_ jobs.Canceler = (*Queue)(nil)
	_ jobs.Worker   = (*Queue)(nil)
	_ jobs.Operator = (*Queue)(nil)
)

// Enqueue implements jobs.Enqueuer. Of two transactions that enqueue the same job at once, both are told that theirs is new; one
// job is kept.
func (q *Queue) Enqueue(_ context.Context, tx database.Tx, job jobs.Job) (bool, error) {
	job, err := job.Complete()
	if err != nil {
		return false, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.unfinished(job.Kind, job.Key) != nil || !tx.Once(pending{q, job.Kind, job.Key}) {
		return true, nil
	}
	tx.OnCommit(func() { q.add(job) })
	return false, nil
}

// pending names a job in the transaction that enqueues it.
type pending struct {
	queue     *Queue
	kind, key string
}

func (q *Queue) add(job jobs.Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.unfinished(job.Kind, job.Key) != nil {
		return
	}
	due := q.clock.Now()
	if job.RunAt.After(due) {
		due = job.RunAt
	}
	q.sequence++
	q.entries = append(q.entries, &entry{Status: jobs.Status{Job: job, State: jobs.Waiting}, sequence: q.sequence, due: due})
}

// unfinished finds a job; mu is held.
func (q *Queue) unfinished(kind, key string) *entry {
	for _, e := range q.entries {
		if e.Kind == kind && e.Key == key && !e.State.Finished() {
			return e
		}
	}
	return nil
}

// Handle implements jobs.Worker.
func (q *Queue) Handle(kind string, handler jobs.Handler) { q.handlers[kind] = handler }

// Start implements jobs.Worker: from now on Step runs jobs.
func (q *Queue) Start(context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.started {
		return holdfast.Errorf(holdfast.KindConflict, "the queue was started already")
	}
	q.started = true
	return nil
}

// Drain implements jobs.Worker.
func (q *Queue) Drain(ctx context.Context) error {
	q.mu.Lock()
	q.drained = true
	idle, stop := q.idle, q.stop
	q.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		stop(context.Cause(ctx))
		<-idle
		return ctx.Err()
	}
}

// Reap implements jobs.Worker. Nobody else runs these jobs.
func (q *Queue) Reap(context.Context) (int, error) { return 0, nil }

// Step runs the next job that is due, and reports whether there was one.
func (q *Queue) Step(ctx context.Context) bool {
	e, ctx := q.begin(ctx)
	if e == nil {
		return false
	}
	err := q.handlers[e.Kind](ctx, e.Job)
	q.end(ctx, e, err)
	return true
}

func (q *Queue) begin(ctx context.Context) (*entry, context.Context) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.next()
	if e == nil || e.due.After(q.clock.Now()) || q.running != nil {
		return nil, ctx
	}
	e.State = jobs.Running
	e.Attempt++
	q.running, q.idle = e, make(chan struct{})
	ctx, q.stop = context.WithCancelCause(ctx)
	return e, ctx
}

// next returns the job that runs next, whenever that is; mu is held.
func (q *Queue) next() *entry {
	if !q.started || q.drained {
		return nil
	}
	now := q.clock.Now()
	instant := func(e *entry) time.Time { // all that is due is due now, so that priorities count
		if e.due.Before(now) {
			return now
		}
		return e.due
	}
	var first *entry
	for _, e := range q.entries {
		if e.State != jobs.Waiting || q.paused[e.Queue] || q.handlers[e.Kind] == nil {
			continue
		}
		if first == nil || cmp.Or(instant(e).Compare(instant(first)), cmp.Compare(e.Priority, first.Priority), e.due.Compare(first.due), cmp.Compare(e.sequence, first.sequence)) < 0 {
			first = e
		}
	}
	return first
}

func (q *Queue) end(ctx context.Context, e *entry, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	verdict := jobs.Judge(ctx, e.Job, err)
	e.State, e.due = verdict.State, q.clock.Now().Add(verdict.Pause)
	if verdict.Count && err != nil {
		e.Problem = err.Error()
	}
	if !verdict.Count {
		e.Attempt--
	}
	q.stop(nil)
	close(q.idle)
	q.running, q.stop, q.idle = nil, nil, nil
	q.forget()
}

// keptMax bounds how many finished jobs are remembered; a simulated year has many.
const keptMax = 1000

// forget drops the oldest finished jobs; mu is held.
func (q *Queue) forget() {
	if len(q.entries) < 2*keptMax {
		return
	}
	finished := 0
	for _, e := range q.entries {
		if e.State.Finished() {
			finished++
		}
	}
	q.entries = slices.DeleteFunc(q.entries, func(e *entry) bool {
		if !e.State.Finished() || finished <= keptMax {
			return false
		}
		finished--
		return true
	})
}

// Due returns the instant at which Step has something to run, the zero instant when nothing waits. It is past for what is due.
func (q *Queue) Due() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.next(); e != nil {
		return e.due
	}
	return time.Time{}
}

// Cancel implements jobs.Canceler.
func (q *Queue) Cancel(_ context.Context, kind, key string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.unfinished(kind, key)
	switch {
	case e == nil:
	case e == q.running:
		q.stop(jobs.ErrCanceled)
	default:
		e.State = jobs.Canceled
	}
	return nil
}

// PauseQueue implements jobs.Operator.
func (q *Queue) PauseQueue(_ context.Context, queue string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.paused[queue] = true
	return nil
}

// ResumeQueue implements jobs.Operator.
func (q *Queue) ResumeQueue(_ context.Context, queue string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.paused, queue)
	return nil
}

// List implements jobs.Operator.
func (q *Queue) List(_ context.Context, filter jobs.Filter) ([]jobs.Status, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	limit := cmp.Or(filter.Limit, jobs.ListMax)
	var found []jobs.Status
	for _, e := range slices.Backward(q.entries) {
		if len(found) < limit && (filter.Kind == "" || e.Kind == filter.Kind) && (filter.State == "" || e.State == filter.State) {
			found = append(found, e.Status)
		}
	}
	return found, nil
}

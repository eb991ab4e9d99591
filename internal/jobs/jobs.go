// Package jobs is the port of durable work: what is to be done is enqueued in the transaction that makes it necessary, and done
// later, once or more often, until a handler says that it is done.
//
// It promises that a job exists if and only if its transaction committed; that of two jobs of the same kind and key only one is
// unfinished at a time; that a job which no handler finished runs again, also when the process that ran it was killed; and that
// jobs that are due begin in the order of their priorities.
//
// It must never hold truth: arguments are ids of rows, and handlers look there for what is to be done, and whether it still is. A
// handler may run again after it succeeded, and a second time while a process that was taken for dead still runs it; what must
// not happen twice is guarded by the row.
package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
)

// Job is a unit of work.
type Job struct {
	Kind      string          // which handler does it
	Key       string          // what it is about; of its kind, one with this key is unfinished at a time
	Queue     string          // where it waits; QueueDefault when empty
	Arguments json.RawMessage // an object of ids, {} when empty
	RunAt     time.Time       // not before this instant; at once when zero
	Priority  Priority        // among those that are due; Normal when 0
	Attempts  int             // how often it may fail; AttemptsDefault when 0

	// Attempt is set for handlers: 1 at first, and one more after each failure. Snoozing, and the death of a process, count for
	// nothing.
	Attempt int
}

// QueueDefault is where jobs wait that name no queue.
const QueueDefault = "control"

// AttemptsDefault is enough for trouble that lasts an hour: see Pause.
const AttemptsDefault = 20

// Priority orders the jobs that are due.
type Priority int

// The priorities. What a person waits for is Urgent, what nobody waits for Idle.
const (
	Urgent Priority = iota + 1
	Normal
	Low
	Idle
)

// Handler does a job. Nil finishes it, Snooze puts it off, Never gives it up; any other error is a failure, after which it runs
// again until its attempts are used up. When ctx ends, because the job was canceled or the process must stop, the handler returns
// as soon as it can.
type Handler func(ctx context.Context, job Job) error

// Enqueuer takes jobs.
type Enqueuer interface {
	// Enqueue adds a job to a transaction. It is a duplicate, and nothing is added, when one of its kind and key is unfinished.
	Enqueue(ctx context.Context, tx database.Tx, job Job) (duplicate bool, err error)
}

// Canceler ends jobs before they are done.
type Canceler interface {
	// Cancel ends the unfinished job of this kind and key, wherever it is: one that waits never runs, and the context of one that
	// runs ends, with ErrCanceled as its cause. It returns when that is asked for, not when it has happened. A job that is not there
	// is no error.
	Cancel(ctx context.Context, kind, key string) error
}

// Worker runs jobs.
type Worker interface {
	// Handle says who does the jobs of a kind, before Start.
	Handle(kind string, handler Handler)
	// Start begins to run jobs; it returns at once, and is KindConflict the second time.
	Start(ctx context.Context) error
	// Drain stops to take jobs, and returns when those that run have ended. When ctx ends first, their contexts end too, and Drain
	// still waits for them. What is left runs elsewhere, or after the next start.
	Drain(ctx context.Context) error
	// Reap makes the jobs of processes that died available again, and says how many. Workers do so by themselves.
	Reap(ctx context.Context) (int, error)
}

// Operator is for who looks after the queues.
type Operator interface {
	// PauseQueue lets no job of the queue begin until ResumeQueue, in no process and also after a restart; those that run go on.
	PauseQueue(ctx context.Context, queue string) error
	ResumeQueue(ctx context.Context, queue string) error
	// List returns jobs, the newest first.
	List(ctx context.Context, filter Filter) ([]Status, error)
}

// Filter picks jobs. What is empty picks all.
type Filter struct {
	Kind  string
	State State
	Limit int // ListMax when 0
}

// ListMax bounds what one List returns.
const ListMax = 1000

// State is where a job is.
type State string

// The states of a job. Finished ones are forgotten after a while: history is kept in rows.
const (
	Waiting  State = "waiting"
	Running  State = "running"
	Done     State = "done"
	Failed   State = "failed" // attempts used up, or given up with Never
	Canceled State = "canceled"
)

// Finished reports whether a job in this state never runs again.
func (s State) Finished() bool { return s != Waiting && s != Running }

// Status is a job with where it is.
type Status struct {
	Job

	State   State
	Problem string // the last failure, for the log
}

// ErrCanceled is the cause with which the context of a canceled job ends.
var ErrCanceled = errors.New("the job was canceled")

// ErrAbandoned is the cause with which contexts of jobs end when this process lost its claim to them: others may run them already.
var ErrAbandoned = errors.New("this process could not show that it lives, and gave its jobs up")

// snooze is the error that Snooze makes.
type snooze struct{ pause time.Duration }

func (s snooze) Error() string { return fmt.Sprintf("put off for %v", s.pause) }

// never is the error that Never makes.
type never struct{ err error }

func (n never) Error() string { return n.err.Error() }
func (n never) Unwrap() error { return n.err }

// Snooze puts a job off without using up an attempt: for what is not ready, or asks to wait.
func Snooze(pause time.Duration) error { return snooze{pause} }

// Never gives a job up: another attempt would fail in the same way.
func Never(err error) error { return never{err} }

// Verdict is what the result of a handler means.
type Verdict struct {
	State State         // Done, Failed, Canceled, or Waiting when it runs again
	Pause time.Duration // how long it waits
	Count bool          // whether the attempt counts
}

// Judge says what becomes of a job whose handler returned err. All implementations obey it.
func Judge(ctx context.Context, job Job, err error) Verdict {
	var put snooze
	var given never
	switch {
	case err == nil:
		return Verdict{State: Done, Count: true}
	case errors.Is(context.Cause(ctx), ErrCanceled):
		return Verdict{State: Canceled, Count: true}
	case ctx.Err() != nil: // the process ends; whatever the handler says of it
		return Verdict{State: Waiting}
	case errors.As(err, &put):
		return Verdict{State: Waiting, Pause: put.pause}
	case errors.As(err, &given), job.Attempt >= job.Attempts:
		return Verdict{State: Failed, Count: true}
	default:
		return Verdict{State: Waiting, Pause: Pause(job.Attempt), Count: true}
	}
}

// Pause is how long a job waits after its n-th failure: a second at first, then twice as long each time, five minutes at most.
func Pause(failures int) time.Duration {
	const first, most, doublings = time.Second, 5 * time.Minute, 9
	return min(first<<min(max(failures-1, 0), doublings), most)
}

// names are kinds and queues; the queues underneath accept no others.
var names = regexp.MustCompile(`^[a-z][a-z0-9]*([_.:-][a-z0-9]+)*$`)

const (
	nameMax = 64
	keyMax  = 1000 // an Azure id, and room
)

// Complete returns the job with its defaults filled in, or KindInternal when it is none: jobs are made by our own code.
func (j Job) Complete() (Job, error) {
	if j.Queue == "" {
		j.Queue = QueueDefault
	}
	if len(j.Arguments) == 0 {
		j.Arguments = json.RawMessage("{}")
	}
	if j.Priority == 0 {
		j.Priority = Normal
	}
	if j.Attempts == 0 {
		j.Attempts = AttemptsDefault
	}
	defect := func(format string, args ...any) (Job, error) {
		return Job{}, holdfast.Errorf(holdfast.KindInternal, "the job %q %q %s", j.Kind, j.Key, fmt.Sprintf(format, args...))
	}
	switch {
	case !names.MatchString(j.Kind) || len(j.Kind) > nameMax:
		return defect("has no name of a kind")
	case !names.MatchString(j.Queue) || len(j.Queue) > nameMax:
		return defect("names the queue %q, which is no name", j.Queue)
	case j.Key == "" || len(j.Key) > keyMax:
		return defect("wants a key of 1 to %d bytes", keyMax)
	case !json.Valid(j.Arguments) || j.Arguments[0] != '{':
		return defect("has arguments that are no JSON object")
	case j.Priority < Urgent || j.Priority > Idle:
		return defect("has the priority %d", j.Priority)
	case j.Attempts < 0:
		return defect("may fail %d times", j.Attempts)
	}
	return j, nil
}

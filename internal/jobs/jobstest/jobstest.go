// Package jobstest is the conformance suite of queues: what package jobs promises, asked of every implementation.
//
// It promises to wait for signals, or to look again within a bound. It must never name an implementation.
package jobstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/jobs"
)

// Queue is all that an implementation offers.
type Queue interface {
	jobs.Enqueuer
	jobs.Canceler
	jobs.Worker
	jobs.Operator
}

// Fixture is a database and the way to open a queue in it.
type Fixture struct {
	DB *database.DB
	// Open returns a queue that is not started. It runs as many jobs at a time as are given; inline queues run one.
	Open func(t *testing.T, workers int) Queue
	// Now is the time of the queue.
	Now func() time.Time
}

const (
	kind  = "made.up"
	bound = 30 * time.Second // for what takes milliseconds on a machine that is not busy
	look  = 5 * time.Millisecond
)

// Run asks everything of the implementation that fixture makes, anew for each question.
func Run(t *testing.T, fixture func(t *testing.T) Fixture) {
	for _, question := range []struct {
		name string
		ask  func(t *testing.T, f Fixture)
	}{
		{"RunsWithItsArguments", runsWithItsArguments},
		{"CommitAndRollback", commitAndRollback},
		{"OneUnfinishedOfAKey", oneUnfinishedOfAKey},
		{"SnoozeCostsNoAttempt", snoozeCostsNoAttempt},
		{"AttemptsAreCapped", attemptsAreCapped},
		{"NeverIsNotRepeated", neverIsNotRepeated},
		{"CancelWaiting", cancelWaiting},
		{"CancelRunning", cancelRunning},
		{"PrioritiesAndInstants", prioritiesAndInstants},
		{"PauseAndResume", pauseAndResume},
		{"StartTwice", startTwice},
		{"DrainWaits", drainWaits},
		{"DrainEndsContexts", drainEndsContexts},
		{"RefusesDefects", refusesDefects},
	} {
		t.Run(question.name, func(t *testing.T) { question.ask(t, fixture(t)) })
	}
}

// start opens and starts a queue with one handler, and drains it when the test ends.
func (f Fixture) start(t *testing.T, workers int, handler jobs.Handler) Queue {
	t.Helper()
	q := f.Open(t, workers)
	q.Handle(kind, handler)
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Drain(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return q
}

// Enqueue adds jobs in one transaction, and returns which were duplicates.
func Enqueue(t testing.TB, db *database.DB, q jobs.Enqueuer, all ...jobs.Job) []bool {
	t.Helper()
	var duplicates []bool
	err := db.Write(t.Context(), func(ctx context.Context, tx database.Tx) error {
		duplicates = nil
		for _, job := range all {
			duplicate, err := q.Enqueue(ctx, tx, job)
			if err != nil {
				return err
			}
			duplicates = append(duplicates, duplicate)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return duplicates
}

// Receive waits for a signal.
func Receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	value, came := within(t, from, bound)
	if !came {
		t.Fatalf("nothing came within %v", bound)
	}
	return value
}

// within reports whether a signal came in time, and returns it.
func within[T any](t testing.TB, from <-chan T, wait time.Duration) (value T, came bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	select {
	case value = <-from:
		return value, true
	case <-ctx.Done():
		return value, false
	}
}

// reach looks until the newest job of a key is in a state.
func reach(t *testing.T, q jobs.Operator, key string, state jobs.State) jobs.Status {
	t.Helper()
	var last []jobs.Status
	for range bound / look {
		all, err := q.List(t.Context(), jobs.Filter{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		last = all
		if i := slices.IndexFunc(all, func(s jobs.Status) bool { return s.Key == key }); i >= 0 && all[i].State == state {
			return all[i]
		}
		if err := (clock.System{}).Sleep(t.Context(), look); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("%q did not become %s within %v: %+v", key, state, bound, last)
	return jobs.Status{}
}

func made(key string) jobs.Job { return jobs.Job{Kind: kind, Key: key} }

func runsWithItsArguments(t *testing.T, f Fixture) {
	ran := make(chan jobs.Job, 1)
	q := f.start(t, 2, func(_ context.Context, job jobs.Job) error {
		ran <- job
		return nil
	})
	want := jobs.Job{Kind: kind, Key: `/subscriptions/"1"/it's`, Arguments: json.RawMessage(`{"session":"s-1","n":[1,2]}`), Priority: jobs.Urgent, Attempts: 3}
	Enqueue(t, f.DB, q, want)
	got := Receive(t, ran)
	var a, b any
	if err := errors.Join(json.Unmarshal(got.Arguments, &a), json.Unmarshal(want.Arguments, &b)); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(a) != fmt.Sprint(b) || got.Kind != want.Kind || got.Key != want.Key || got.Priority != want.Priority || got.Attempts != 3 || got.Attempt != 1 || got.Queue != jobs.QueueDefault {
		t.Errorf("ran %+v, want %+v", got, want)
	}
	reach(t, q, want.Key, jobs.Done)
}

func commitAndRollback(t *testing.T, f Fixture) {
	ran := make(chan string, 10)
	q := f.start(t, 2, func(_ context.Context, job jobs.Job) error {
		ran <- job.Key
		return nil
	})
	refused := errors.New("no")
	err := f.DB.Write(t.Context(), func(ctx context.Context, tx database.Tx) error {
		_, err := q.Enqueue(ctx, tx, made("rolled back"))
		return errors.Join(refused, err)
	})
	if !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if got := Enqueue(t, f.DB, q, made("rolled back"), made("other")); got[0] || got[1] {
		t.Errorf("after the rollback, duplicates are %v", got)
	}
	first, second := Receive(t, ran), Receive(t, ran)
	if first == second {
		t.Errorf("%q ran twice", first)
	}
	reach(t, q, "rolled back", jobs.Done)
	reach(t, q, "other", jobs.Done)
	if len(ran) > 0 {
		t.Errorf("%q ran as well", <-ran)
	}
}

func oneUnfinishedOfAKey(t *testing.T, f Fixture) {
	started, proceed := make(chan struct{}, 10), make(chan struct{})
	q := f.start(t, 1, func(context.Context, jobs.Job) error {
		started <- struct{}{}
		<-proceed
		return nil
	})
	if got := Enqueue(t, f.DB, q, made("a"), made("a"), made("b")); !slices.Equal(got, []bool{false, true, false}) {
		t.Errorf("in one transaction, duplicates are %v", got)
	}
	Receive(t, started)
	if got := Enqueue(t, f.DB, q, made("a"), made("b")); !slices.Equal(got, []bool{true, true}) {
		t.Errorf("of one that runs and one that waits, duplicates are %v", got)
	}
	close(proceed)
	reach(t, q, "a", jobs.Done)
	reach(t, q, "b", jobs.Done)
	if got := Enqueue(t, f.DB, q, made("a")); got[0] {
		t.Error("a job that is done keeps the next one away")
	}
	Receive(t, started)
	Receive(t, started)
	reach(t, q, "a", jobs.Done)
}

func snoozeCostsNoAttempt(t *testing.T, f Fixture) {
	const times = 20
	var mu sync.Mutex
	var attempts []int
	q := f.start(t, 1, func(_ context.Context, job jobs.Job) error {
		mu.Lock()
		defer mu.Unlock()
		attempts = append(attempts, job.Attempt)
		if len(attempts) <= times {
			return jobs.Snooze(time.Millisecond)
		}
		return nil
	})
	job := made("a")
	job.Attempts = 2
	Enqueue(t, f.DB, q, job)
	reach(t, q, "a", jobs.Done)
	for _, attempt := range attempts {
		if attempt != 1 {
			t.Fatalf("attempts are %v", attempts)
		}
	}
	if len(attempts) != times+1 {
		t.Errorf("ran %d times", len(attempts))
	}
}

func attemptsAreCapped(t *testing.T, f Fixture) {
	ran := make(chan int, 10)
	q := f.start(t, 1, func(_ context.Context, job jobs.Job) error {
		ran <- job.Attempt
		return errors.New("the disk is on fire")
	})
	job := made("a")
	job.Attempts = 2
	Enqueue(t, f.DB, q, job)
	status := reach(t, q, "a", jobs.Failed)
	if status.Problem != "the disk is on fire" || Receive(t, ran) != 1 || Receive(t, ran) != 2 || len(ran) != 0 {
		t.Errorf("failed with %q after %d attempts", status.Problem, status.Attempt)
	}
	if got := Enqueue(t, f.DB, q, job); got[0] {
		t.Error("a job that failed keeps the next one away")
	}
}

func neverIsNotRepeated(t *testing.T, f Fixture) {
	ran := make(chan struct{}, 10)
	q := f.start(t, 1, func(context.Context, jobs.Job) error {
		ran <- struct{}{}
		return fmt.Errorf("session: %w", jobs.Never(errors.New("there is no such machine")))
	})
	Enqueue(t, f.DB, q, made("a"))
	reach(t, q, "a", jobs.Failed)
	if len(ran) != 1 {
		t.Errorf("ran %d times", len(ran))
	}
}

func cancelWaiting(t *testing.T, f Fixture) {
	ran := make(chan string, 10)
	q := f.start(t, 1, func(_ context.Context, job jobs.Job) error {
		ran <- job.Key
		return nil
	})
	later := made("later")
	later.RunAt = f.Now().Add(time.Hour)
	Enqueue(t, f.DB, q, later)
	for range 2 { // and what is not there is no error
		if err := q.Cancel(t.Context(), kind, "later"); err != nil {
			t.Fatal(err)
		}
	}
	reach(t, q, "later", jobs.Canceled)
	if got := Enqueue(t, f.DB, q, made("later")); got[0] {
		t.Error("a job that was canceled keeps the next one away")
	}
	if key := Receive(t, ran); key != "later" {
		t.Errorf("ran %q", key)
	}
	reach(t, q, "later", jobs.Done)
}

func cancelRunning(t *testing.T, f Fixture) {
	started, ended := make(chan struct{}, 10), make(chan error, 10)
	q := f.start(t, 1, func(ctx context.Context, _ jobs.Job) error {
		started <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return ctx.Err()
	})
	for range 2 { // the second one is a new job of the same key, which the first cancellation must not reach
		Enqueue(t, f.DB, q, made("a"))
		Receive(t, started)
		if len(ended) > 0 {
			t.Fatal("a cancellation reached the job after the one that it was meant for")
		}
		if err := q.Cancel(t.Context(), kind, "a"); err != nil {
			t.Fatal(err)
		}
		if cause := Receive(t, ended); !errors.Is(cause, jobs.ErrCanceled) {
			t.Errorf("the context ended because of %v", cause)
		}
		reach(t, q, "a", jobs.Canceled)
	}
}

func prioritiesAndInstants(t *testing.T, f Fixture) {
	ran := make(chan string, 10)
	q := f.Open(t, 1)
	q.Handle(kind, func(_ context.Context, job jobs.Job) error {
		ran <- job.Key
		return nil
	})
	now := f.Now()
	all := []jobs.Job{
		{Kind: kind, Key: "idle", Priority: jobs.Idle},
		{Kind: kind, Key: "urgent", Priority: jobs.Urgent},
		{Kind: kind, Key: "normal"},
		{Kind: kind, Key: "low, long due", Priority: jobs.Low, RunAt: now.Add(-time.Hour)},
		{Kind: kind, Key: "urgent, in a second", Priority: jobs.Urgent, RunAt: now.Add(time.Second)},
	}
	Enqueue(t, f.DB, q, all...)
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var order []string
	for range all {
		order = append(order, Receive(t, ran))
	}
	if f.Now().Before(now.Add(time.Second)) {
		t.Error("a job ran before its instant")
	}
	if want := []string{"urgent", "normal", "low, long due", "idle", "urgent, in a second"}; !slices.Equal(order, want) {
		t.Errorf("ran %q, want %q", order, want)
	}
	if err := q.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

func pauseAndResume(t *testing.T, f Fixture) {
	ran := make(chan string, 10)
	q := f.start(t, 1, func(_ context.Context, job jobs.Job) error {
		ran <- job.Key
		return nil
	})
	Enqueue(t, f.DB, q, made("before"))
	Receive(t, ran)
	if err := q.PauseQueue(t.Context(), jobs.QueueDefault); err != nil {
		t.Fatal(err)
	}
	// Of a queue that is not paused we would see the job within the time in which we look at it a hundred times.
	settle(t, f, q)
	Enqueue(t, f.DB, q, made("paused"))
	for range 100 {
		reach(t, q, "paused", jobs.Waiting)
	}
	if len(ran) > 0 {
		t.Fatalf("%q ran in a paused queue", <-ran)
	}
	if err := q.ResumeQueue(t.Context(), jobs.QueueDefault); err != nil {
		t.Fatal(err)
	}
	if key := Receive(t, ran); key != "paused" {
		t.Errorf("ran %q", key)
	}
}

// settle waits until a pause has reached the queue: from then on a job that is enqueued stays.
func settle(t *testing.T, f Fixture, q Queue) {
	t.Helper()
	for i := range 100 {
		key := fmt.Sprintf("probe %d", i)
		Enqueue(t, f.DB, q, made(key))
		for range 100 {
			all, err := q.List(t.Context(), jobs.Filter{Kind: kind, State: jobs.Waiting})
			if err != nil {
				t.Fatal(err)
			}
			if len(all) == 0 {
				break
			}
			if err := (clock.System{}).Sleep(t.Context(), look); err != nil {
				t.Fatal(err)
			}
		}
		if all, _ := q.List(t.Context(), jobs.Filter{Kind: kind, State: jobs.Waiting}); len(all) > 0 {
			if err := q.Cancel(t.Context(), kind, key); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("the queue takes jobs although it is paused")
}

func startTwice(t *testing.T, f Fixture) {
	q := f.start(t, 1, func(context.Context, jobs.Job) error { return nil })
	if err := q.Start(t.Context()); holdfast.KindOf(err) != holdfast.KindConflict {
		t.Errorf("the second start is %v", err)
	}
	Enqueue(t, f.DB, q, made("a"))
	reach(t, q, "a", jobs.Done)
}

func drainWaits(t *testing.T, f Fixture) {
	started, proceed := make(chan struct{}), make(chan struct{})
	q := f.Open(t, 1)
	q.Handle(kind, func(ctx context.Context, _ jobs.Job) error {
		close(started)
		<-proceed
		return ctx.Err()
	})
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	Enqueue(t, f.DB, q, made("a"))
	Receive(t, started)
	drained := make(chan error, 1)
	go func() { drained <- q.Drain(context.WithoutCancel(t.Context())) }()
	if err, early := within(t, drained, 50*time.Millisecond); early { // long enough to be wrong
		t.Errorf("drained while a job ran: %v", err)
	}
	close(proceed)
	if err := Receive(t, drained); err != nil {
		t.Error(err)
	}
}

func drainEndsContexts(t *testing.T, f Fixture) {
	started := make(chan struct{})
	q := f.Open(t, 1)
	q.Handle(kind, func(ctx context.Context, _ jobs.Job) error {
		close(started)
		<-ctx.Done()
		return ctx.Err()
	})
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	Enqueue(t, f.DB, q, made("a"))
	Receive(t, started)
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	drained := make(chan error, 1)
	go func() { drained <- q.Drain(impatient) }()
	if err := Receive(t, drained); !errors.Is(err, context.Canceled) {
		t.Errorf("drained with %v", err)
	}
}

func refusesDefects(t *testing.T, f Fixture) {
	q := f.start(t, 1, func(context.Context, jobs.Job) error { return nil })
	for _, job := range []jobs.Job{
		{Key: "no kind"},
		{Kind: kind},
		{Kind: "Kind", Key: "a"},
		{Kind: kind, Key: "a", Queue: "two words"},
		{Kind: kind, Key: "a", Priority: 5},
		{Kind: kind, Key: "a", Arguments: json.RawMessage("[1]")},
		{Kind: kind, Key: "a", Arguments: json.RawMessage("{")},
		{Kind: kind, Key: "a", Attempts: -1},
	} {
		err := f.DB.Write(t.Context(), func(ctx context.Context, tx database.Tx) error {
			_, err := q.Enqueue(ctx, tx, job)
			return err
		})
		if holdfast.KindOf(err) != holdfast.KindInternal {
			t.Errorf("%+v: %v", job, err)
		}
	}
}

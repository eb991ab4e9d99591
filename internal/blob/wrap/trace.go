package wrap

import (
	"context"
	"time"

	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// Event is a call that has ended.
type Event struct {
	Call
	Err   error // as the store returned it; for a list the first error it yielded
	Items int   // that a list yielded
	Start time.Time
	Took  time.Duration // of a list: with the time of its consumer
}

// Trace tells observe about every call after it has ended, on the caller's goroutine.
func Trace(store blob.Store, c clock.Clock, observe func(Event)) blob.Store {
	return decorate(store, trace{c, observe})
}

// TraceRemover is Trace for the right to remove.
func TraceRemover(r blob.Remover, c clock.Clock, observe func(Event)) blob.Remover {
	return decorateRemover(r, trace{c, observe})
}

type trace struct {
	clock   clock.Clock
	observe func(Event)
}

func (t trace) around(ctx context.Context, call Call, do func(ctx context.Context) error) error {
	start := t.clock.Now()
	err := do(ctx)
	t.observe(Event{Call: call, Err: err, Start: start, Took: t.clock.Now().Sub(start)})
	return err
}

func (t trace) aroundList(_ context.Context, call Call, list func(func(any, error) bool), yield func(any, error) bool) {
	event := Event{Call: call, Start: t.clock.Now()}
	defer func() {
		event.Took = t.clock.Now().Sub(event.Start)
		t.observe(event)
	}()
	for item, err := range list {
		if err == nil {
			event.Items++
		} else if event.Err == nil {
			event.Err = err
		}
		if !yield(item, err) {
			return
		}
	}
}

package protect

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// errStopped ends the work on an item whose session a person stopped.
var errStopped = errors.New("a person stopped the session")

// watched does the work on an item, while every now and then its progress is written down, and a look is taken whether somebody wants it to stop
// or another worker has it.
func (i *item) watched(ctx context.Context, do func(ctx context.Context)) {
	if i.p.config.WatchEvery == 0 {
		do(ctx)
		return
	}
	working, end := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { i.watch(working, end) })
	do(working)
	end(nil)
	watch.Wait()
	i.stopping = i.stopping || errors.Is(context.Cause(working), errStopped)
}

// watch looks until the work ends, or ends it.
func (i *item) watch(ctx context.Context, end context.CancelCauseFunc) {
	for i.p.config.Clock.Sleep(ctx, i.p.config.WatchEvery) == nil {
		var stopping bool
		err := i.p.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) (err error) {
			stopping, err = store.PutProgress(ctx, tx, i.c.SessionItem, i.meter.progress(i.p.now()))
			return err
		})
		switch {
		case holdfast.IsKind(err, holdfast.KindConflict):
			end(err)
			return
		case err != nil && ctx.Err() == nil: // best effort: the next look is soon
			i.p.config.Log.WarnContext(ctx, "the progress of an item could not be written down", "machine", string(i.c.VM), "error", err)
		case stopping:
			end(errStopped)
			return
		}
	}
}

// stopped reports whether a person stopped the session, as far as the work that has this context knows.
func (i *item) stopped(ctx context.Context) bool {
	return i.stopping || errors.Is(context.Cause(ctx), errStopped)
}

// meter adds up the steps of an item's flows. Its methods are safe for concurrent use.
type meter struct {
	clock interface{ Now() time.Time }

	mu     sync.Mutex // guards what follows
	now    holdfast.Progress
	passed map[holdfast.LUN]int64
	sizes  map[holdfast.LUN]int64
}

// step takes one step.
func (m *meter) step(s work.Step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.Stage != m.now.Stage {
		m.now.Stage, m.now.Since = s.Stage, m.clock.Now().UTC()
		m.passed, m.sizes = map[holdfast.LUN]int64{}, map[holdfast.LUN]int64{}
	}
	m.now.Read += s.Read
	m.now.Stored += s.Stored
	if s.LUN == "" {
		return
	}
	m.sizes[s.LUN] = max(m.sizes[s.LUN], s.SizeBytes)
	m.passed[s.LUN] = max(m.passed[s.LUN], s.Offset)
}

// progress is how far the item has come.
func (m *meter) progress(at time.Time) holdfast.Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.now
	p.At = at
	for lun, size := range m.sizes {
		p.Total += size
		p.Done += min(m.passed[lun], size)
	}
	return p
}

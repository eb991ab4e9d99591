package server

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// How often what happens by itself happens.
const (
	tickEvery    = 5 * time.Second  // deadlines pass and other servers write, of which nobody tells
	tickAfter    = 2 * time.Second  // after a failure
	downAfter    = time.Minute      // without a tick nothing was running
	lookEvery    = 15 * time.Minute // at the cloud
	lookFresh    = time.Minute      // a look that is no older serves a session that is due
	lookTimeout  = 5 * time.Minute
	outboxAtMost = time.Minute
)

// counterLooked holds when a server of this database looked at the cloud last.
const counterLooked store.Counter = "looked"

// lookout keeps the inventory up to date.
type lookout struct {
	server *Server
	mu     sync.Mutex // one look at a time
}

// Discover implements control.Discovery.
func (l *lookout) Discover(ctx context.Context) error { return l.look(ctx, 0) }

// Refresh implements control.Discovery.
func (l *lookout) Refresh(ctx context.Context) error { return l.look(ctx, lookFresh) }

// look looks at the cloud, unless a look is not older than a duration.
func (l *lookout) look(ctx context.Context, fresh time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.server
	last, err := s.lastLook(ctx)
	if err != nil || s.config.Clock.Now().Sub(last) < fresh {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	at := s.config.Clock.Now()
	found, err := s.discovery.Look(ctx)
	if err != nil {
		return err
	}
	if found.New+found.Changed+found.Gone+found.Missing > 0 {
		s.config.Log.InfoContext(ctx, "the inventory has changed", "machines", found.Machines, "new", found.New, "changed", found.Changed, "gone", found.Gone, "missing", found.Missing)
	}
	err = s.plant.db.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		return store.Remember(ctx, tx, counterLooked, at.UnixMilli())
	})
	if err != nil {
		return err
	}
	s.nudge()
	return s.plant.followRegions(ctx)
}

func (s *Server) lastLook(ctx context.Context) (time.Time, error) {
	var at int64
	err := s.plant.db.Read(ctx, func(ctx context.Context, q store.Query) (err error) {
		at, err = store.Counted(ctx, q, counterLooked)
		return err
	})
	return time.UnixMilli(at), err
}

// lookLoop looks at the cloud every now and then.
func (s *Server) lookLoop(ctx context.Context) {
	for ctx.Err() == nil {
		wait := tickEvery
		if err := s.lookout.look(ctx, lookEvery); err != nil && ctx.Err() == nil {
			s.config.Log.WarnContext(ctx, "the cloud could not be looked at; the inventory stays as it was", "error", err)
			wait = lookFresh
		}
		if s.config.Clock.Sleep(ctx, wait) != nil {
			return
		}
	}
}

// tickLoop lets the scheduler decide whenever something is due, somebody asks, or some seconds have passed. What is due is decided by an
// inventory that is fresh, if the cloud answers.
func (s *Server) tickLoop(ctx context.Context) {
	var due time.Time
	for ctx.Err() == nil {
		if now := s.config.Clock.Now(); !due.IsZero() && !due.After(now) {
			if err := s.lookout.Refresh(ctx); err != nil && ctx.Err() == nil {
				s.config.Log.WarnContext(ctx, "a session begins with an inventory that may be old", "error", err)
			}
		}
		next, err := s.scheduler.Tick(ctx)
		wait := tickEvery
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.config.Log.ErrorContext(ctx, "nothing could be decided; it is tried again", "error", err)
			due, wait = time.Time{}, tickAfter
		default:
			due = next
			if !next.IsZero() {
				wait = min(wait, max(0, next.Sub(s.config.Clock.Now())))
			}
		}
		s.waitFor(ctx, wait)
	}
}

// waitFor waits until a time has passed, somebody nudges, or the server ends.
func (s *Server) waitFor(ctx context.Context, wait time.Duration) {
	sleeping, wake := context.WithCancel(ctx)
	defer wake()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.config.Clock.Sleep(sleeping, wait) // whichever comes first
	}()
	select {
	case <-done:
	case <-s.nudged:
	}
	wake()
	<-done
}

// nudge lets the scheduler decide soon.
func (s *Server) nudge() {
	select {
	case s.nudged <- struct{}{}:
	default: // one is enough
	}
}

// outboxLoop sends the daily report.
func (s *Server) outboxLoop(ctx context.Context) {
	for ctx.Err() == nil {
		wait := outboxAtMost
		next, err := s.plant.outbox.Tick(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			s.config.Log.WarnContext(ctx, "reports could not be made; it is tried again", "error", err)
		case err == nil && !next.IsZero():
			wait = min(wait, max(time.Second, next.Sub(s.config.Clock.Now())))
		}
		if s.config.Clock.Sleep(ctx, wait) != nil {
			return
		}
	}
}

package outbox

import (
	"context"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/store"
)

const (
	// counterTicked is the instant of the last tick, in milliseconds: reports that fell due since are to be sent.
	counterTicked store.Counter = "outboxTicked"

	// tickEvery is how long a change of the settings may go unnoticed.
	tickEvery = time.Minute

	// keptFor is how long messages that have ended are shown.
	keptFor = 90 * 24 * time.Hour
)

// Tick sends the daily report when it has fallen due since the last tick, of several the newest alone, and forgets old messages. It returns
// when it is to be called again, which is soon. Ticks of several servers may meet.
func (o *Outbox) Tick(ctx context.Context) (next time.Time, err error) {
	err = o.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		now := o.now()
		i, err := o.intentions(ctx, tx)
		if err != nil {
			return err
		}
		next = now.Add(tickEvery)
		if due, ok := i.settings.DailyReportAfter(now); ok && due.Before(next) {
			next = due
		}
		since, err := o.ticked(ctx, tx, now)
		if err != nil {
			return err
		}
		if due := newestReport(i.settings, since, now); !due.IsZero() {
			if err := o.report(ctx, tx, i.settings, due); err != nil {
				return err
			}
		}
		return store.ForgetMessages(ctx, tx, now.Add(-keptFor))
	})
	return next, err
}

// ticked notes that everything up to now was looked at, and returns up to when it was before. That is now at the first tick ever,
// and when the clock was set back.
func (o *Outbox) ticked(ctx context.Context, tx database.Tx, now time.Time) (time.Time, error) {
	before, err := store.Counted(ctx, tx, counterTicked)
	if err != nil {
		return now, err
	}
	since := time.UnixMilli(before)
	if before == 0 {
		since = now
	}
	if since.After(now) {
		return now, nil
	}
	return since, store.Remember(ctx, tx, counterTicked, now.UnixMilli())
}

// newestReport returns when the newest daily report fell due in (since, now]; zero when none did.
func newestReport(s notify.Settings, since, now time.Time) (newest time.Time) {
	for due, ok := s.DailyReportAfter(since); ok && !due.After(now); due, ok = s.DailyReportAfter(due) {
		newest = due
	}
	return newest
}

// report writes down the daily report that fell due.
func (o *Outbox) report(ctx context.Context, tx database.Tx, s notify.Settings, due time.Time) error {
	sessions, err := store.EndedSessions(ctx, tx, due.Add(-notify.DayLength), due)
	if err != nil {
		return err
	}
	ids := make([]holdfast.RunID, len(sessions))
	for i, session := range sessions {
		ids[i] = session.ID
	}
	handled, err := store.HandledIn(ctx, tx, ids)
	if err != nil {
		return err
	}
	past := make([]notify.Past, len(sessions))
	for i, session := range sessions {
		past[i] = notify.Past{Session: session, Made: handled[session.ID].Made, Removed: handled[session.ID].LetGo}
	}
	e := event{due: o.now()}
	e.mail, err = notify.Daily(s, due, past)
	o.composed(ctx, err)
	return o.put(ctx, tx, e)
}

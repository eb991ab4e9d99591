package protect

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// fail notes that a point could not be made, and tells the record and the ledger.
func (i *item) fail(ctx context.Context, m plan.Making, cause error) {
	if i.stopped(ctx) {
		cause = errStopped
	} else if ctx.Err() != nil {
		return // the process ends, or the item is another worker's; whoever goes on judges
	}
	ctx = context.WithoutCancel(ctx)
	i.failed, i.failure = append(i.failed, m), cause
	var refused *refusedError
	i.refusal = errors.As(cause, &refused)
	err := i.write(ctx, func(ctx context.Context, tx database.Tx, now time.Time) error {
		err := store.AppendEvents(ctx, tx, store.Event{
			At: now, VM: i.c.VM, Policy: i.policy.Name, Name: string(preview.Refused), Slot: i.c.Session.Slot, Flags: m.Flags, Reason: fmt.Sprintf("no %s: %s", m.Kind, messageOf(cause)),
		})
		if err != nil {
			return err
		}
		return i.judged(ctx, tx, sla.SessionFailed{At: now, Work: i.work(m.Kind)})
	})
	if err != nil {
		i.p.config.Log.WarnContext(ctx, "a failure could not be written down", "machine", string(i.c.VM), "error", err)
	}
}

// messageOf is what a person is told of an error.
func messageOf(err error) string {
	var known *holdfast.Error
	if errors.As(err, &known) {
		return known.Message
	}
	return err.Error()
}

func hintOf(err error) string {
	var known *holdfast.Error
	if errors.As(err, &known) {
		return known.Hint
	}
	return ""
}

// end ends the item, or lets it wait for the next attempt; and with the last item the session.
func (i *item) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	return i.write(ctx, func(ctx context.Context, tx database.Tx, now time.Time) error {
		done, again := i.conclude(now)
		if err := store.PutItem(ctx, tx, done); err != nil {
			return err
		}
		if err := store.AppendLog(ctx, tx, i.lines(now, done)...); err != nil {
			return err
		}
		if again != nil {
			return store.PutRetry(ctx, tx, fmt.Sprintf("%s/%s/%d", i.c.Session.ID, i.c.VM.Key(), again.Attempt), *again)
		}
		_, err := store.CloseSession(ctx, tx, i.c.Session.ID, now, i.p.config.Closed)
		return err
	})
}

// conclude says what the item has come to, and what is to be tried again.
func (i *item) conclude(now time.Time) (holdfast.SessionItem, *plan.Again) {
	done := i.c.SessionItem
	done.State, done.Ended, done.Message, done.Hint = holdfast.StateDone, now, "", ""
	switch {
	case i.stopping:
		done.Outcome, done.Message = holdfast.OutcomeStopped, "a person stopped the session"
	case i.failure != nil:
		done.Outcome, done.Message, done.Hint = holdfast.OutcomeError, messageOf(i.failure), hintOf(i.failure)
		if i.triesAgain() {
			done.State, done.Outcome, done.Ended, done.NextAt = holdfast.StateWaiting, "", time.Time{}, now.Add(holdfast.RetryAfter)
			return done, &plan.Again{
				Policy: i.policy.Name, Region: i.c.Session.Region, Slot: i.c.Session.Slot, Attempt: done.Attempts, Due: done.NextAt, Makes: i.failed,
				Machines: []plan.Machine{{ID: i.c.VM, Region: i.c.Region}},
			}
		}
	case len(i.warnings) > 0:
		done.Outcome, done.Message = holdfast.OutcomeWarning, strings.Join(i.warnings, "; ")
	default:
		done.Outcome = holdfast.OutcomeSuccess
	}
	return done, nil
}

// triesAgain reports whether another attempt is allowed, and could change anything.
func (i *item) triesAgain() bool {
	return !i.refusal && !i.c.Session.Manual && i.policy.Enabled && i.c.Attempts <= i.policy.Retries
}

// lines are what the session's log says of the attempt.
func (i *item) lines(now time.Time, done holdfast.SessionItem) []holdfast.LogLine {
	line := func(level holdfast.LogLevel, format string, args ...any) holdfast.LogLine {
		return holdfast.LogLine{Session: i.c.Session.ID, At: now, VM: i.c.VM, Level: level, Text: fmt.Sprintf(format, args...)}
	}
	var lines []holdfast.LogLine
	for _, w := range i.warnings {
		lines = append(lines, line(holdfast.LogWarning, "%s", w))
	}
	switch {
	case i.stopping:
		lines = append(lines, line(holdfast.LogWarning, "stopped in attempt %d", done.Attempts))
	case i.failure != nil && done.State == holdfast.StateWaiting:
		lines = append(lines, line(holdfast.LogWarning, "attempt %d failed: %s; the next one is due at %s", done.Attempts, done.Message, done.NextAt.Format(time.RFC3339)))
	case i.failure != nil:
		lines = append(lines, line(holdfast.LogError, "attempt %d failed: %s", done.Attempts, done.Message))
	default:
		lines = append(lines, line(holdfast.LogInfo, "attempt %d made everything: read %d bytes, stored %d", done.Attempts, done.Bytes.Read, done.Bytes.Stored))
	}
	return lines
}

package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/plan"
)

type itemRow struct {
	bun.BaseModel `bun:"table:items"`

	Session      string `bun:",pk"`
	VM           string `bun:"vm,pk"`
	ID           string
	Region       string
	State        string
	Outcome      string
	Message      string
	Hint         string
	Attempts     int
	Epoch        int
	NextAt       int64
	Started      int64
	Ended        int64
	BacksUp      bool
	Makes        string
	Progress     string
	TotalBytes   int64
	ReadBytes    int64
	StoredBytes  int64
	SavedBytes   int64
	AuditedBytes int64
}

// Items returns the items of a session, by machine.
func Items(ctx context.Context, q Query, session holdfast.RunID) ([]holdfast.SessionItem, error) {
	var rows []itemRow
	if err := q.NewSelect().Model(&rows).Where("session = ?", string(session)).Order("vm").Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading the items of a session: %w", err)
	}
	made, err := pointsMade(ctx, q, session)
	if err != nil {
		return nil, err
	}
	items := make([]holdfast.SessionItem, len(rows))
	for i, r := range rows {
		if items[i], err = r.whole(); err != nil {
			return nil, err
		}
		items[i].Points = append(items[i].Points, made[r.VM]...)
	}
	return items, nil
}

// pointsMade returns the points that a session made and that are whole, or were, by machine.
func pointsMade(ctx context.Context, q Query, session holdfast.RunID) (map[string][]holdfast.PointID, error) {
	var rows []pointRow
	err := q.NewSelect().Model(&rows).Column("id", "vm").Where("session = ? AND state <> ? AND NOT temporary", string(session), string(PointMaking)).Order("created", "id").Scan(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the points of a session: %w", err)
	}
	made := map[string][]holdfast.PointID{}
	for _, r := range rows {
		made[r.VM] = append(made[r.VM], holdfast.PointID(r.ID))
	}
	return made, nil
}

func (r itemRow) item() holdfast.SessionItem {
	return holdfast.SessionItem{
		Session: holdfast.RunID(r.Session), VM: holdfast.ResourceID(r.ID), Region: r.Region, State: holdfast.State(r.State), Outcome: holdfast.Outcome(r.Outcome),
		Message: r.Message, Hint: r.Hint, Attempts: r.Attempts, NextAt: instant(r.NextAt), Started: instant(r.Started), Ended: instant(r.Ended),
		Points: []holdfast.PointID{}, Bytes: r.bytes(), Epoch: r.Epoch,
	}
}

// whole returns the item with how far it has come.
func (r itemRow) whole() (holdfast.SessionItem, error) {
	item := r.item()
	if r.Progress == "" {
		return item, nil
	}
	item.Progress = &holdfast.Progress{}
	return item, decode(r.Progress, item.Progress, "an item")
}

// PutProgress writes down how far an item has come, by the worker that claimed it, and reports whether somebody wants the session to stop. The
// error has KindConflict when the claim was given up.
func PutProgress(ctx context.Context, tx Query, i holdfast.SessionItem, p holdfast.Progress) (stopping bool, err error) {
	result, err := tx.NewUpdate().Model((*itemRow)(nil)).Set("progress = ?", encode(p)).
		Where("session = ? AND vm = ? AND epoch = ? AND state = ?", string(i.Session), i.VM.Key(), i.Epoch, string(holdfast.StateRunning)).Exec(ctx)
	if mine, err := changed(result, err, "writing the progress of an item"); err != nil || !mine {
		return false, errors.Join(err, errClaimed(i.VM.Key()))
	}
	count, err := tx.NewSelect().Model((*sessionRow)(nil)).Where("id = ? AND stopping", string(i.Session)).Count(ctx)
	if err != nil {
		return false, fmt.Errorf("reading a session: %w", err)
	}
	return count > 0, nil
}

func (r itemRow) bytes() holdfast.Bytes {
	return holdfast.Bytes{Total: r.TotalBytes, Read: r.ReadBytes, Stored: r.StoredBytes, Saved: r.SavedBytes, Audited: r.AuditedBytes}
}

// Claimed is an item that a worker has taken.
type Claimed struct {
	holdfast.SessionItem
	Makes   []plan.Making // that this attempt is to make
	Session holdfast.Session
}

// ErrClaimed refuses a write by a worker whose claim was given up, or an item that is not to be worked on.
func errClaimed(vm string) error {
	return holdfast.Errorf(holdfast.KindConflict, "the item %s is not, or no longer, this worker's", vm)
}

// ClaimItem takes an item that is queued or running: its epoch rises, so that an earlier worker can write nothing more. It reports
// false when there is nothing to do: the item is done or waits.
func ClaimItem(ctx context.Context, tx Query, session holdfast.RunID, vm holdfast.ResourceID, at time.Time) (Claimed, bool, error) {
	var rows []itemRow
	if err := tx.NewSelect().Model(&rows).Where("session = ? AND vm = ?", string(session), vm.Key()).Scan(ctx); err != nil {
		return Claimed{}, false, fmt.Errorf("reading an item: %w", err)
	}
	if len(rows) == 0 {
		return Claimed{}, false, notFound("item", string(session)+" "+string(vm))
	}
	row := rows[0]
	state, err := holdfast.State(row.State).Become(holdfast.StateRunning)
	if err != nil {
		return Claimed{}, false, nil //nolint:nilerr // it is done or waits: nothing to do is no failure
	}
	if row.State == string(holdfast.StateQueued) {
		row.Attempts++
	}
	row.State, row.Epoch, row.NextAt = string(state), row.Epoch+1, 0
	if row.Started == 0 {
		row.Started = millis(at)
	}
	if err := row.write(ctx, tx, row.Epoch-1); err != nil {
		return Claimed{}, false, err
	}
	claimed := Claimed{SessionItem: row.item()}
	if err := decode(row.Makes, &claimed.Makes, "an item"); err != nil {
		return Claimed{}, false, err
	}
	if err := StartSession(ctx, tx, session, at); err != nil {
		return Claimed{}, false, err
	}
	claimed.Session, err = SessionOf(ctx, tx, session)
	return claimed, true, err
}

// PutItem writes an item by the worker that claimed it. The error has KindConflict when the claim was given up.
func PutItem(ctx context.Context, tx Query, i holdfast.SessionItem) error {
	row := itemRow{
		Session: string(i.Session), VM: i.VM.Key(), State: string(i.State), Outcome: string(i.Outcome), Message: i.Message, Hint: i.Hint, Attempts: i.Attempts,
		Epoch: i.Epoch, NextAt: millis(i.NextAt), Started: millis(i.Started), Ended: millis(i.Ended),
		TotalBytes: i.Bytes.Total, ReadBytes: i.Bytes.Read, StoredBytes: i.Bytes.Stored, SavedBytes: i.Bytes.Saved, AuditedBytes: i.Bytes.Audited,
	}
	return row.write(ctx, tx, i.Epoch)
}

// write writes what changes in the course of an item, if its epoch is still the given one.
func (r itemRow) write(ctx context.Context, tx Query, epoch int) error {
	result, err := tx.NewUpdate().Model(&r).
		Column("state", "outcome", "message", "hint", "attempts", "epoch", "next_at", "started", "ended", "progress", "total_bytes", "read_bytes", "stored_bytes", "saved_bytes", "audited_bytes").
		Where("session = ? AND vm = ? AND epoch = ? AND state <> ?", r.Session, r.VM, epoch, string(holdfast.StateDone)).Exec(ctx)
	if err != nil {
		return fmt.Errorf("writing an item: %w", err)
	}
	if count, err := result.RowsAffected(); err != nil || count == 0 {
		return errClaimed(r.VM)
	}
	return nil
}

// Fence checks that a claim is still good; KindConflict when it was given up.
func Fence(ctx context.Context, q Query, i holdfast.SessionItem) error {
	count, err := q.NewSelect().Model((*itemRow)(nil)).
		Where("session = ? AND vm = ? AND epoch = ? AND state = ?", string(i.Session), i.VM.Key(), i.Epoch, string(holdfast.StateRunning)).Count(ctx)
	if err != nil {
		return fmt.Errorf("reading an item: %w", err)
	}
	if count == 0 {
		return errClaimed(i.VM.Key())
	}
	return nil
}

// QueueItem puts a waiting item back into the queue, with what its next attempt is to make. It reports false when it does not wait.
func QueueItem(ctx context.Context, tx Query, session holdfast.RunID, vm holdfast.ResourceID, makes []plan.Making) (queued bool, err error) {
	result, err := tx.NewUpdate().Model((*itemRow)(nil)).
		Set("state = ?", string(holdfast.StateQueued)).Set("next_at = 0").Set("makes = ?", encode(makes)).Set("backs_up = ?", backsUp(makes)).
		Where("session = ? AND vm = ? AND state = ?", string(session), vm.Key(), string(holdfast.StateWaiting)).Exec(ctx)
	return changed(result, err, "queueing an item")
}

// EndWaiting ends a waiting item with the outcome of its last attempt, because no further one will be made.
func EndWaiting(ctx context.Context, tx Query, session holdfast.RunID, vm holdfast.ResourceID, outcome holdfast.Outcome, at time.Time) (ended bool, err error) {
	result, err := tx.NewUpdate().Model((*itemRow)(nil)).
		Set("state = ?", string(holdfast.StateDone)).Set("outcome = ?", string(outcome)).Set("next_at = 0").Set("ended = ?", millis(at)).
		Where("session = ? AND vm = ? AND state = ?", string(session), vm.Key(), string(holdfast.StateWaiting)).Exec(ctx)
	return changed(result, err, "ending an item")
}

// itemSums is what the items of a session come to.
type itemSums struct {
	items holdfast.ItemCounts
	bytes holdfast.Bytes
}

func countItems(ctx context.Context, q Query, sessions []string) (map[string]itemSums, error) {
	var rows []struct {
		Session      string `bun:"session"`
		State        string `bun:"state"`
		Outcome      string `bun:"outcome"`
		Number       int    `bun:"number"`
		TotalBytes   int64  `bun:"total_bytes"`
		ReadBytes    int64  `bun:"read_bytes"`
		StoredBytes  int64  `bun:"stored_bytes"`
		SavedBytes   int64  `bun:"saved_bytes"`
		AuditedBytes int64  `bun:"audited_bytes"`
	}
	err := q.NewSelect().Model((*itemRow)(nil)).Column("session", "state", "outcome").ColumnExpr("COUNT(*) AS number").
		ColumnExpr("CAST(SUM(total_bytes) AS BIGINT) AS total_bytes, CAST(SUM(read_bytes) AS BIGINT) AS read_bytes, CAST(SUM(stored_bytes) AS BIGINT) AS stored_bytes").
		ColumnExpr("CAST(SUM(saved_bytes) AS BIGINT) AS saved_bytes, CAST(SUM(audited_bytes) AS BIGINT) AS audited_bytes").
		Where("session IN (?)", bun.List(sessions)).Group("session", "state", "outcome").Scan(ctx, &rows)
	if err != nil {
		return nil, fmt.Errorf("counting the items of sessions: %w", err)
	}
	sums := map[string]itemSums{}
	for _, r := range rows {
		s := sums[r.Session]
		s.items.Total += r.Number
		*s.counter(holdfast.State(r.State), holdfast.Outcome(r.Outcome)) += r.Number
		s.bytes = s.bytes.Plus(holdfast.Bytes{Total: r.TotalBytes, Read: r.ReadBytes, Stored: r.StoredBytes, Saved: r.SavedBytes, Audited: r.AuditedBytes})
		sums[r.Session] = s
	}
	return sums, nil
}

// counter is the place where items of a state and outcome are counted.
func (s *itemSums) counter(state holdfast.State, outcome holdfast.Outcome) *int {
	switch state {
	case holdfast.StateQueued:
		return &s.items.Queued
	case holdfast.StateRunning:
		return &s.items.Running
	case holdfast.StateWaiting:
		return &s.items.Waiting
	case holdfast.StateDone:
	}
	switch outcome {
	case holdfast.OutcomeSuccess:
		return &s.items.Success
	case holdfast.OutcomeWarning:
		return &s.items.Warning
	case holdfast.OutcomeStopped:
		return &s.items.Stopped
	case holdfast.OutcomeError:
	}
	return &s.items.Error
}

// WaitingFor returns the session in which a machine waits for the attempt that an intent makes; false when there is none.
func WaitingFor(ctx context.Context, q Query, i plan.Intent, vm holdfast.ResourceID) (holdfast.RunID, bool, error) {
	var rows []itemRow
	err := q.NewSelect().Model(&rows).Where("vm = ? AND state = ?", vm.Key(), string(holdfast.StateWaiting)).
		Where("session IN (SELECT s.id FROM sessions AS s WHERE s.policy = ? AND s.region = ? AND s.slot = ?)", i.Policy, i.Region, millis(i.Slot)).Order("session").Scan(ctx)
	if err != nil {
		return "", false, fmt.Errorf("reading what waits: %w", err)
	}
	for _, r := range rows {
		var makes []plan.Making
		if err := decode(r.Makes, &makes, "an item"); err != nil {
			return "", false, err
		}
		if (plan.Intent{Makes: makes}).Covers(i.Makes) {
			return holdfast.RunID(r.Session), true, nil
		}
	}
	return "", false, nil
}

// OpenSessions returns the sessions in which the work on a machine is not over.
func OpenSessions(ctx context.Context, q Query, vm holdfast.ResourceID) (map[holdfast.RunID]bool, error) {
	var ids []string
	err := q.NewSelect().Model((*itemRow)(nil)).Column("session").Where("vm = ? AND state <> ?", vm.Key(), string(holdfast.StateDone)).Scan(ctx, &ids)
	if err != nil {
		return nil, fmt.Errorf("reading what is in work: %w", err)
	}
	open := map[holdfast.RunID]bool{}
	for _, id := range ids {
		open[holdfast.RunID(id)] = true
	}
	return open, nil
}

package store

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/plan"
)

// counterPass holds when the next daily pass is due.
const counterPass Counter = "pass"

type trackRow struct {
	bun.BaseModel `bun:"table:tracks"`

	Policy  string `bun:",pk"`
	Region  string `bun:",pk"`
	Kind    string `bun:",pk"`
	Decided int64
	Next    int64
}

type requestRow struct {
	bun.BaseModel `bun:"table:requests"`

	ID     string `bun:",pk"`
	Policy string
	At     int64
	Author string
}

type retryRow struct {
	bun.BaseModel `bun:"table:retries"`

	ID     string `bun:",pk"`
	Policy string
	Due    int64
	Body   string
}

// PlanState returns what was decided so far, what people asked for and what is in work. It reports false when nothing was ever
// decided.
func PlanState(ctx context.Context, q Query) (plan.State, bool, error) {
	s := plan.State{Tracks: map[plan.TrackKey]plan.Track{}, Working: map[string]plan.Work{}}
	pass, err := Counted(ctx, q, counterPass)
	if err != nil || pass == 0 {
		return s, false, err
	}
	s.Pass = instant(pass)
	var tracks []trackRow
	if err := q.NewSelect().Model(&tracks).Scan(ctx); err != nil {
		return s, false, fmt.Errorf("reading what was decided: %w", err)
	}
	for _, r := range tracks {
		s.Tracks[plan.TrackKey{Policy: r.Policy, Region: r.Region, Kind: holdfast.PointKind(r.Kind)}] = plan.Track{Decided: instant(r.Decided), Next: instant(r.Next)}
	}
	if s.Working, err = working(ctx, q); err != nil {
		return s, false, err
	}
	if s.Retries, err = retries(ctx, q); err != nil {
		return s, false, err
	}
	s.Requests, err = requests(ctx, q)
	return s, true, err
}

func retries(ctx context.Context, q Query) ([]plan.Again, error) {
	var rows []retryRow
	if err := q.NewSelect().Model(&rows).Order("due", "id").Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading what is to be tried again: %w", err)
	}
	var all []plan.Again
	for _, r := range rows {
		var again plan.Again
		if err := decode(r.Body, &again, "what is to be tried again"); err != nil {
			return nil, err
		}
		all = append(all, again)
	}
	return all, nil
}

func requests(ctx context.Context, q Query) ([]plan.Request, error) {
	var rows []requestRow
	if err := q.NewSelect().Model(&rows).Order("at", "id").Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading what people asked for: %w", err)
	}
	var all []plan.Request
	for _, r := range rows {
		all = append(all, plan.Request{Policy: r.Policy, At: instant(r.At)})
	}
	return all, nil
}

// PutRequest asks for a session of a policy by hand. The id makes it one request however often it is written.
func PutRequest(ctx context.Context, tx Query, id, policy, author string, at time.Time) error {
	row := requestRow{ID: id, Policy: policy, At: millis(at), Author: author}
	if _, err := tx.NewInsert().Model(&row).On("CONFLICT (id) DO NOTHING").Exec(ctx); err != nil {
		return fmt.Errorf("writing what a person asked for: %w", err)
	}
	return nil
}

// RequestAuthor returns who asked for a session of a policy at an instant; "" when nobody did.
func RequestAuthor(ctx context.Context, q Query, policy string, at time.Time) (string, error) {
	var rows []requestRow
	if err := q.NewSelect().Model(&rows).Where("policy = ? AND at = ?", policy, millis(at)).Order("id").Limit(1).Scan(ctx); err != nil {
		return "", fmt.Errorf("reading what people asked for: %w", err)
	}
	if len(rows) == 0 {
		return "", nil
	}
	return rows[0].Author, nil
}

// PutRetry asks to try machines of a session again. The id is that of what is tried, so that it is asked for once.
func PutRetry(ctx context.Context, tx Query, id string, again plan.Again) error {
	row := retryRow{ID: id, Policy: again.Policy, Due: millis(again.Due), Body: encode(again)}
	if _, err := tx.NewInsert().Model(&row).On("CONFLICT (id) DO NOTHING").Exec(ctx); err != nil {
		return fmt.Errorf("writing what is to be tried again: %w", err)
	}
	return nil
}

// SavePlanState writes the state after a decision that was made at an instant on the state before: tracks that moved, and
// requests and retries that were taken. What is in work follows from sessions and is not written here.
func SavePlanState(ctx context.Context, tx Query, before, after plan.State, now time.Time) error {
	for key, track := range after.Tracks {
		if before.Tracks[key] == track {
			continue
		}
		row := trackRow{Policy: key.Policy, Region: key.Region, Kind: string(key.Kind), Decided: millis(track.Decided), Next: millis(track.Next)}
		if _, err := tx.NewInsert().Model(&row).On("CONFLICT (policy, region, kind) DO UPDATE").Set("decided = EXCLUDED.decided, next = EXCLUDED.next").Exec(ctx); err != nil {
			return fmt.Errorf("writing what was decided: %w", err)
		}
	}
	for key := range before.Tracks {
		if _, still := after.Tracks[key]; still {
			continue
		}
		_, err := tx.NewDelete().Model((*trackRow)(nil)).Where("policy = ? AND region = ? AND kind = ?", key.Policy, key.Region, string(key.Kind)).Exec(ctx)
		if err != nil {
			return fmt.Errorf("removing what was decided: %w", err)
		}
	}
	if err := dropTaken(ctx, tx, before, after, now); err != nil {
		return err
	}
	return Remember(ctx, tx, counterPass, millis(after.Pass))
}

// dropTaken removes the requests and retries that a decision took, and those of policies that are gone.
func dropTaken(ctx context.Context, tx Query, before, after plan.State, now time.Time) error {
	if len(before.Requests) != len(after.Requests) {
		if _, err := tx.NewDelete().Model((*requestRow)(nil)).Where("at <= ?", millis(now)).Exec(ctx); err != nil {
			return fmt.Errorf("removing what people asked for: %w", err)
		}
	}
	if len(before.Retries) != len(after.Retries) {
		if _, err := tx.NewDelete().Model((*retryRow)(nil)).Where("due <= ?", millis(now)).Exec(ctx); err != nil {
			return fmt.Errorf("removing what was to be tried again: %w", err)
		}
	}
	return nil
}

// working returns the machines of which points are being made, by the key of their id. Checks and removals keep nobody from making one.
func working(ctx context.Context, q Query) (map[string]plan.Work, error) {
	var rows []struct {
		VM      string `bun:"vm"`
		BacksUp bool   `bun:"backs_up"`
	}
	err := q.NewSelect().Model((*itemRow)(nil)).Column("vm", "backs_up").Where("state IN ('queued', 'running')").
		Where("session IN (SELECT s.id FROM sessions AS s WHERE s.state <> 'done' AND s.type IN (?))", bun.List([]holdfast.SessionType{holdfast.SessionPolicy, holdfast.SessionSnapshot})).Scan(ctx, &rows)
	if err != nil {
		return nil, fmt.Errorf("reading what is in work: %w", err)
	}
	all := make(map[string]plan.Work, len(rows))
	for _, r := range rows {
		all[r.VM] = plan.Work{Backup: all[r.VM].Backup || r.BacksUp}
	}
	return all, nil
}

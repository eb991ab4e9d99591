package store

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
)

// ForgetSessions removes the records of at most so many sessions that ended before an instant, with their items, their logs and the messages about
// them that have ended. Nothing else goes: points, expectations, closed periods and the record of what happened stay as they are. It says how
// many went.
func ForgetSessions(ctx context.Context, tx Query, before time.Time, atMost int) (int, error) {
	var ids []string
	err := tx.NewSelect().Model((*sessionRow)(nil)).Column("id").Where("state = ? AND ended < ?", string(holdfast.StateDone), millis(before)).
		OrderExpr("queued, id").Limit(int64(atMost)).Scan(ctx, &ids)
	if err != nil {
		return 0, fmt.Errorf("reading old sessions: %w", err)
	}
	if len(ids) == 0 {
		return 0, nil
	}
	for _, part := range []*bun.DeleteQuery{
		tx.NewDelete().Model((*itemRow)(nil)).Where("session IN (?)", bun.List(ids)),
		tx.NewDelete().Model((*logRow)(nil)).Where("session IN (?)", bun.List(ids)),
		tx.NewDelete().Model((*messageRow)(nil)).Where("session IN (?) AND (delivered <> 0 OR given_up <> 0)", bun.List(ids)),
		tx.NewDelete().Model((*sessionRow)(nil)).Where("id IN (?)", bun.List(ids)),
	} {
		if _, err := part.Exec(ctx); err != nil {
			return 0, fmt.Errorf("removing old sessions: %w", err)
		}
	}
	return len(ids), nil
}

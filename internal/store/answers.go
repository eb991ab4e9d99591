package store

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
)

type answerRow struct {
	bun.BaseModel `bun:"table:idempotency"`

	Key      string `bun:",pk"`
	At       int64
	Request  string
	Answered bool
	Status   int
	Type     string
	Body     []byte
}

// Answer is what a write was answered with.
type Answer struct {
	Status int
	Type   string // of the content
	Body   []byte // sealed
}

// answersLast is how long a write is remembered.
const answersLast = 24 * time.Hour

// ClaimWrite notes that a write which names a key is begun. When it was begun before it returns false, with the answer once there is one. The
// error is KindConflict when the key stands for another request, or when the write was begun and its answer is not known.
func ClaimWrite(ctx context.Context, tx Query, key, request string, now time.Time) (answer Answer, begun bool, err error) {
	if _, err := tx.NewDelete().Model((*answerRow)(nil)).Where("at < ?", millis(now.Add(-answersLast))).Exec(ctx); err != nil {
		return answer, false, fmt.Errorf("forgetting old writes: %w", err)
	}
	row := answerRow{Key: key, At: millis(now), Request: request, Body: []byte{}}
	result, err := tx.NewInsert().Model(&row).On("CONFLICT (key) DO NOTHING").Exec(ctx)
	if begun, err = changed(result, err, "noting a write"); err != nil || begun {
		return answer, begun, err
	}
	var rows []answerRow
	if err := tx.NewSelect().Model(&rows).Where("key = ?", key).Scan(ctx); err != nil {
		return answer, false, fmt.Errorf("reading an earlier write: %w", err)
	}
	known := rows[0]
	switch {
	case known.Request != request:
		return answer, false, holdfast.Errorf(holdfast.KindConflict, "this idempotency key was used for another request").WithField("Idempotency-Key").WithHint("use a new key for each request")
	case !known.Answered:
		return answer, false, holdfast.Errorf(holdfast.KindConflict, "this request was begun before, and its outcome is not known").WithField("Idempotency-Key").
			WithHint("look whether it took effect before you ask again under a new key")
	}
	return Answer{Status: known.Status, Type: known.Type, Body: known.Body}, false, nil
}

// PutAnswer notes what a write was answered with.
func PutAnswer(ctx context.Context, tx Query, key string, a Answer) error {
	_, err := tx.NewUpdate().Model((*answerRow)(nil)).Set("answered = ?", true).Set("status = ?", a.Status).Set("type = ?", a.Type).Set("body = ?", a.Body).Where("key = ?", key).Exec(ctx)
	if err != nil {
		return fmt.Errorf("noting the answer to a write: %w", err)
	}
	return nil
}

// ForgetWrite lets a write be asked for again under its key: it had no effect.
func ForgetWrite(ctx context.Context, tx Query, key string) error {
	if _, err := tx.NewDelete().Model((*answerRow)(nil)).Where("key = ?", key).Exec(ctx); err != nil {
		return fmt.Errorf("forgetting a write: %w", err)
	}
	return nil
}

package store

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
)

// MessageKind says how a message travels.
type MessageKind string

// The kinds.
const (
	MessageMail MessageKind = "mail"
	MessagePost MessageKind = "post" // to a webhook
)

// Message is one copy of what one address is told. It is open until it is delivered or given up.
type Message struct {
	ID        string // of the delivery: the same event for the same address always has the same
	Kind      MessageKind
	Topic     string         // names the event
	Session   holdfast.RunID // that it is about; "" for none
	Address   string         // of a person, or a webhook, whose path may be a secret
	Title     string         // the subject of a mail, the event of a post
	Created   time.Time
	Due       time.Time // when it is to go out
	Delivered time.Time
	GivenUp   time.Time
	Attempts  int    // that were made
	Failure   string // why the last one failed; "" once one succeeded
	Body      string // "" once it is delivered or given up
}

// Open reports whether it is still to be delivered.
func (m Message) Open() bool { return m.Delivered.IsZero() && m.GivenUp.IsZero() }

type messageRow struct {
	bun.BaseModel `bun:"table:messages"`

	ID        string `bun:",pk"`
	Kind      string
	Topic     string
	Session   string
	Address   string
	Title     string
	Created   int64
	Due       int64
	Delivered int64
	GivenUp   int64
	Attempts  int
	Failure   string
	Body      string
}

func (r messageRow) message() Message {
	return Message{
		ID: r.ID, Kind: MessageKind(r.Kind), Topic: r.Topic, Session: holdfast.RunID(r.Session), Address: r.Address, Title: r.Title, Created: instant(r.Created), Due: instant(r.Due),
		Delivered: instant(r.Delivered), GivenUp: instant(r.GivenUp), Attempts: r.Attempts, Failure: r.Failure, Body: r.Body,
	}
}

// PutMessage writes a message down. It reports false, and writes nothing, when it stands there already, delivered or not.
func PutMessage(ctx context.Context, tx Query, m Message) (put bool, err error) {
	row := messageRow{
		ID: m.ID, Kind: string(m.Kind), Topic: m.Topic, Session: string(m.Session), Address: m.Address, Title: m.Title, Created: millis(m.Created), Due: millis(m.Due), Body: m.Body,
	}
	result, err := tx.NewInsert().Model(&row).On("CONFLICT (id) DO NOTHING").Exec(ctx)
	return changed(result, err, "writing a message")
}

// MessageOf returns a message; KindNotFound when there is none.
func MessageOf(ctx context.Context, q Query, id string) (Message, error) {
	var rows []messageRow
	if err := q.NewSelect().Model(&rows).Where("id = ?", id).Scan(ctx); err != nil {
		return Message{}, fmt.Errorf("reading a message: %w", err)
	}
	if len(rows) == 0 {
		return Message{}, notFound("message", id)
	}
	return rows[0].message(), nil
}

// MessageFilter says which messages are wanted. The zero value wants all of them.
type MessageFilter struct {
	Session     holdfast.RunID
	Undelivered bool // those that are open, and those that were given up
}

// Messages returns messages without their bodies, the newest first.
func Messages(ctx context.Context, q Query, f MessageFilter, p Page) ([]Message, error) {
	var rows []messageRow
	query := q.NewSelect().Model(&rows).ExcludeColumn("body").OrderExpr("created DESC, id DESC")
	if f.Session != "" {
		query = query.Where("session = ?", string(f.Session))
	}
	if f.Undelivered {
		query = query.Where("delivered = 0")
	}
	if p.Limit > 0 {
		query = query.Limit(int64(p.Limit))
	}
	if p.After != "" {
		query = query.Where("(created, id) < (SELECT m.created, m.id FROM messages AS m WHERE m.id = ?)", p.After)
	}
	if err := query.Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading the messages: %w", err)
	}
	all := make([]Message, len(rows))
	for i, r := range rows {
		all[i] = r.message()
	}
	return all, nil
}

// MessageDelivered notes that a message was taken. It reports false when it had ended before.
func MessageDelivered(ctx context.Context, tx Query, id string, at time.Time) (ended bool, err error) {
	result, err := attempted(tx, id, "").Set("delivered = ?", millis(at)).Set("body = ''").Exec(ctx)
	return changed(result, err, "writing that a message was delivered")
}

// MessageFailed notes why an attempt failed; another one follows.
func MessageFailed(ctx context.Context, tx Query, id, failure string) error {
	if _, err := attempted(tx, id, failure).Exec(ctx); err != nil {
		return fmt.Errorf("writing why a message failed: %w", err)
	}
	return nil
}

// MessageGivenUp notes that a message will never be delivered, and why. It reports false when it had ended before.
func MessageGivenUp(ctx context.Context, tx Query, id, failure string, at time.Time) (ended bool, err error) {
	result, err := attempted(tx, id, failure).Set("given_up = ?", millis(at)).Set("body = ''").Exec(ctx)
	return changed(result, err, "giving a message up")
}

// attempted is the update after an attempt at an open message.
func attempted(tx Query, id, failure string) *bun.UpdateQuery {
	return tx.NewUpdate().Model((*messageRow)(nil)).Set("attempts = attempts + 1").Set("failure = ?", failure).Where("id = ? AND delivered = 0 AND given_up = 0", id)
}

// ForgetMessages removes messages that were written before an instant and have ended.
func ForgetMessages(ctx context.Context, tx Query, before time.Time) error {
	_, err := tx.NewDelete().Model((*messageRow)(nil)).Where("created < ? AND (delivered <> 0 OR given_up <> 0)", millis(before)).Exec(ctx)
	if err != nil {
		return fmt.Errorf("removing old messages: %w", err)
	}
	return nil
}

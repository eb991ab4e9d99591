package store

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/plan"
)

type sessionRow struct {
	bun.BaseModel `bun:"table:sessions"`

	ID         string `bun:",pk"`
	NaturalKey string
	Type       string
	Policy     string
	Region     string
	Slot       int64
	Manual     bool
	Author     string
	Intent     string
	State      string
	Outcome    string
	Message    string
	Stopping   bool
	Queued     int64
	Started    int64
	Ended      int64
}

// NewSession is a session to be begun.
type NewSession struct {
	Session holdfast.Session
	Key     string      // natural: two with one key are the same
	Intent  plan.Intent // that it carries out; the machines are its items
	Items   []NewItem
}

// NewItem is the share of one machine in a session to be begun.
type NewItem struct {
	VM     holdfast.ResourceID
	Region string
	Makes  []plan.Making
}

// BeginSession writes a session and its items down, queued. It reports false, and writes nothing, when the intent has its
// session already.
func BeginSession(ctx context.Context, tx Query, n NewSession) (begun bool, err error) {
	s := n.Session
	n.Intent.Machines = nil // they are the items
	row := sessionRow{
		ID: string(s.ID), NaturalKey: n.Key, Type: string(s.Type), Policy: s.Policy, Region: s.Region, Slot: millis(s.Slot), Manual: s.Manual, Author: s.By,
		Intent: encode(n.Intent), State: string(holdfast.StateQueued), Queued: millis(s.Queued),
	}
	result, err := tx.NewInsert().Model(&row).On("CONFLICT (natural_key) DO NOTHING").Exec(ctx)
	if begun, err = changed(result, err, "beginning a session"); err != nil || !begun {
		return false, err
	}
	return true, AddItems(ctx, tx, s.ID, n.Items)
}

// AddItems adds the shares of machines to a session, queued. Those that are there stay as they are.
func AddItems(ctx context.Context, tx Query, session holdfast.RunID, items []NewItem) error {
	rows := make([]itemRow, 0, len(items))
	for _, i := range items {
		rows = append(rows, itemRow{
			Session: string(session), VM: i.VM.Key(), ID: string(i.VM), Region: i.Region, State: string(holdfast.StateQueued), BacksUp: backsUp(i.Makes), Makes: encode(i.Makes),
		})
	}
	return insertAll(ctx, tx, rows, "CONFLICT (session, vm) DO NOTHING", "writing a session's items")
}

func backsUp(makes []plan.Making) bool {
	for _, m := range makes {
		if m.Kind != holdfast.PointSnapshot {
			return true
		}
	}
	return false
}

// Filter says which sessions are wanted. The zero value wants all of them.
type Filter struct {
	Types    []holdfast.SessionType
	Policy   string
	VM       holdfast.ResourceID // with an item of it
	States   []holdfast.State
	Outcomes []holdfast.Outcome
	From, To time.Time // queued in [From, To)
}

// Page says which part of a long list is wanted. Lists are read from the newest on.
type Page struct {
	Limit int    // rows; 0 is no limit
	After string // the id of the last row of the page before; "" for the first page
}

// Sessions returns sessions, the newest first.
func Sessions(ctx context.Context, q Query, f Filter, p Page) ([]holdfast.Session, error) {
	var rows []sessionRow
	query := q.NewSelect().Model(&rows).OrderExpr("queued DESC, id DESC")
	if p.Limit > 0 {
		query = query.Limit(int64(p.Limit))
	}
	if p.After != "" {
		query = query.Where("(queued, id) < (SELECT s.queued, s.id FROM sessions AS s WHERE s.id = ?)", p.After)
	}
	if err := f.apply(query).Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading the sessions: %w", err)
	}
	return complete(ctx, q, rows)
}

func (f Filter) apply(query *bun.SelectQuery) *bun.SelectQuery {
	if len(f.Types) > 0 {
		query = query.Where("type IN (?)", bun.List(f.Types))
	}
	if f.Policy != "" {
		query = query.Where("policy = ?", f.Policy)
	}
	if f.VM != "" {
		query = query.Where("id IN (SELECT i.session FROM items AS i WHERE i.vm = ?)", f.VM.Key())
	}
	if len(f.States) > 0 {
		query = query.Where("state IN (?)", bun.List(f.States))
	}
	if len(f.Outcomes) > 0 {
		query = query.Where("outcome IN (?)", bun.List(f.Outcomes))
	}
	if !f.From.IsZero() {
		query = query.Where("queued >= ?", millis(f.From))
	}
	if !f.To.IsZero() {
		query = query.Where("queued < ?", millis(f.To))
	}
	return query
}

// EndedSessions returns the sessions that ended in [from, to), in the order in which they did.
func EndedSessions(ctx context.Context, q Query, from, to time.Time) ([]holdfast.Session, error) {
	var rows []sessionRow
	if err := q.NewSelect().Model(&rows).Where("ended >= ? AND ended < ?", millis(from), millis(to)).Order("ended", "id").Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading the sessions that ended: %w", err)
	}
	return complete(ctx, q, rows)
}

// SessionOf returns one session; KindNotFound when there is none.
func SessionOf(ctx context.Context, q Query, id holdfast.RunID) (holdfast.Session, error) {
	var rows []sessionRow
	if err := q.NewSelect().Model(&rows).Where("id = ?", string(id)).Scan(ctx); err != nil {
		return holdfast.Session{}, fmt.Errorf("reading a session: %w", err)
	}
	if len(rows) == 0 {
		return holdfast.Session{}, notFound("session", string(id))
	}
	all, err := complete(ctx, q, rows)
	if err != nil {
		return holdfast.Session{}, err
	}
	return all[0], nil
}

// SessionFor returns the session that carries out the intent with a natural key, and false when there is none.
func SessionFor(ctx context.Context, q Query, key string) (holdfast.RunID, bool, error) {
	var ids []string
	if err := q.NewSelect().Model((*sessionRow)(nil)).Column("id").Where("natural_key = ?", key).Scan(ctx, &ids); err != nil {
		return "", false, fmt.Errorf("reading a session: %w", err)
	}
	if len(ids) == 0 {
		return "", false, nil
	}
	return holdfast.RunID(ids[0]), true, nil
}

// IntentOf returns what a session carries out, less its machines.
func IntentOf(ctx context.Context, q Query, id holdfast.RunID) (plan.Intent, error) {
	var texts []string
	if err := q.NewSelect().Model((*sessionRow)(nil)).Column("intent").Where("id = ?", string(id)).Scan(ctx, &texts); err != nil {
		return plan.Intent{}, fmt.Errorf("reading a session: %w", err)
	}
	if len(texts) == 0 {
		return plan.Intent{}, notFound("session", string(id))
	}
	var intent plan.Intent
	return intent, decode(texts[0], &intent, "a session")
}

// complete adds to sessions what their items say.
func complete(ctx context.Context, q Query, rows []sessionRow) ([]holdfast.Session, error) {
	sessions := make([]holdfast.Session, 0, len(rows))
	ids := make([]string, 0, len(rows))
	for _, r := range rows {
		s, err := r.session()
		if err != nil {
			return nil, err
		}
		sessions, ids = append(sessions, s), append(ids, r.ID)
	}
	if len(ids) == 0 {
		return sessions, nil
	}
	counts, err := countItems(ctx, q, ids)
	if err != nil {
		return nil, err
	}
	for i := range sessions {
		c := counts[string(sessions[i].ID)]
		sessions[i].Items, sessions[i].Bytes = c.items, c.bytes
	}
	return sessions, nil
}

func (r sessionRow) session() (holdfast.Session, error) {
	var intent plan.Intent
	if err := decode(r.Intent, &intent, "a session"); err != nil {
		return holdfast.Session{}, err
	}
	s := holdfast.Session{
		ID: holdfast.RunID(r.ID), Type: holdfast.SessionType(r.Type), Policy: r.Policy, Region: r.Region, Slot: instant(r.Slot), Manual: r.Manual, By: r.Author,
		State: holdfast.State(r.State), Outcome: holdfast.Outcome(r.Outcome), Message: r.Message, Stopping: r.Stopping,
		Queued: instant(r.Queued), Started: instant(r.Started), Ended: instant(r.Ended),
	}
	for _, m := range intent.Makes {
		s.Makes = append(s.Makes, holdfast.Makes{Kind: m.Kind, Flags: m.Flags | m.Owed, Repository: m.Repository})
	}
	return s, nil
}

// StartSession notes that the first work of a session began. One that is under way stays as it is.
func StartSession(ctx context.Context, tx Query, id holdfast.RunID, at time.Time) error {
	_, err := tx.NewUpdate().Model((*sessionRow)(nil)).Set("state = ?", string(holdfast.StateRunning)).Set("started = ?", millis(at)).
		Where("id = ? AND state = ?", string(id), string(holdfast.StateQueued)).Exec(ctx)
	if err != nil {
		return fmt.Errorf("starting a session: %w", err)
	}
	return nil
}

// Closed is told, in the transaction that does it, that a session has ended. Nil tells nobody.
type Closed func(ctx context.Context, tx database.Tx, session holdfast.Session) error

// Ending is what a session comes to.
type Ending struct {
	Session holdfast.RunID
	Outcome holdfast.Outcome
	Message string
	At      time.Time
}

// EndSession ends a session, and tells closed, which is how everybody hears of every end. It reports false, and tells nothing, when
// somebody else has ended it.
func EndSession(ctx context.Context, tx database.Tx, e Ending, closed Closed) (ended bool, err error) {
	result, err := tx.NewUpdate().Model((*sessionRow)(nil)).
		Set("state = ?", string(holdfast.StateDone)).Set("outcome = ?", string(e.Outcome)).Set("message = ?", e.Message).Set("ended = ?", millis(e.At)).
		Set("started = CASE WHEN started = 0 THEN ? ELSE started END", millis(e.At)).
		Where("id = ? AND state <> ?", string(e.Session), string(holdfast.StateDone)).Exec(ctx)
	if ended, err = changed(result, err, "ending a session"); err != nil || !ended || closed == nil {
		return ended, err
	}
	session, err := SessionOf(ctx, tx, e.Session)
	if err != nil {
		return false, err
	}
	return true, closed(ctx, tx, session)
}

// StopSession notes that a person wants a session to end. It reports false when it has ended already.
func StopSession(ctx context.Context, tx Query, id holdfast.RunID) (stopping bool, err error) {
	result, err := tx.NewUpdate().Model((*sessionRow)(nil)).Set("stopping = ?", true).
		Where("id = ? AND state <> ?", string(id), string(holdfast.StateDone)).Exec(ctx)
	return changed(result, err, "stopping a session")
}

// CloseSession ends a session whose items have all ended, as EndSession does. It reports false while some have not, or when somebody else
// has ended it.
func CloseSession(ctx context.Context, tx database.Tx, id holdfast.RunID, at time.Time, closed Closed) (ended bool, err error) {
	s, err := SessionOf(ctx, tx, id)
	if err != nil || s.Items.Done() < s.Items.Total || s.State == holdfast.StateDone {
		return false, err
	}
	return EndSession(ctx, tx, Ending{Session: id, Outcome: holdfast.RollUp(s.Items, s.Stopping), At: at}, closed)
}

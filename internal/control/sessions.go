package control

import (
	"context"
	"encoding/csv"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/view"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// Sessions returns a page of sessions, the newest first.
func (c *Control) Sessions(ctx context.Context, p auth.Principal, f store.Filter, limit int, after string) (l view.List[view.Session], err error) {
	part := page(limit, after)
	err = c.read(ctx, p, auth.SeeSessions, func(ctx context.Context, q store.Query) error {
		rows, err := store.Sessions(ctx, q, f, oneMore(part))
		all := make([]view.Session, 0, len(rows))
		for _, s := range rows {
			all = append(all, c.sessionView(s, nil))
		}
		l = listOf(all, part, func(s view.Session) string { return string(s.ID) })
		return err
	})
	return l, err
}

// sessionView adds to a session what follows from its figures, and from the items, which may be nil.
func (c *Control) sessionView(s holdfast.Session, items []holdfast.SessionItem) view.Session {
	end := s.Ended
	if end.IsZero() {
		end = c.now()
	}
	bytes := s.Bytes
	var remaining time.Duration
	known := false
	for _, i := range items {
		if i.State != holdfast.StateRunning || i.Progress == nil {
			continue
		}
		bytes.Read += i.Progress.Read
		if left, ok := i.Progress.Remaining(); ok {
			remaining, known = max(remaining, left), true
		}
	}
	v := view.Session{Session: s, Machines: items}
	if !s.Started.IsZero() {
		v.PerSecond = bytes.PerSecond(end.Sub(s.Started))
	}
	if known {
		if s.Items.Queued > 0 { // those that wait take as long as those that run, in turns of as many
			turns := (s.Items.Queued + s.Items.Running - 1) / max(s.Items.Running, 1)
			remaining += time.Duration(turns) * remaining
		}
		seconds := int64(remaining.Round(time.Second) / time.Second)
		v.RemainingSeconds = &seconds
	}
	return v
}

// Session returns one session with the share of each machine.
func (c *Control) Session(ctx context.Context, p auth.Principal, id holdfast.RunID) (v view.Session, err error) {
	err = c.read(ctx, p, auth.SeeSessions, func(ctx context.Context, q store.Query) error {
		v, err = c.session(ctx, q, id)
		return err
	})
	return v, err
}

func (c *Control) session(ctx context.Context, q store.Query, id holdfast.RunID) (view.Session, error) {
	s, err := store.SessionOf(ctx, q, id)
	if err != nil {
		return view.Session{}, err
	}
	items, err := store.Items(ctx, q, id)
	return c.sessionView(s, items), err
}

// Log returns the lines of a session's log after a number.
func (c *Control) Log(ctx context.Context, p auth.Principal, id holdfast.RunID, after int64) (lines []holdfast.LogLine, err error) {
	err = c.read(ctx, p, auth.SeeSessions, func(ctx context.Context, q store.Query) error {
		if _, err := store.SessionOf(ctx, q, id); err != nil {
			return err
		}
		lines, err = store.Log(ctx, q, id, after)
		return err
	})
	if lines == nil {
		lines = []holdfast.LogLine{}
	}
	return lines, err
}

// Watch returns a session with its machines, and the lines of its log after a number, as of one moment.
func (c *Control) Watch(ctx context.Context, p auth.Principal, id holdfast.RunID, after int64) (v view.Session, lines []holdfast.LogLine, err error) {
	err = c.read(ctx, p, auth.SeeSessions, func(ctx context.Context, q store.Query) error {
		if v, err = c.session(ctx, q, id); err != nil {
			return err
		}
		lines, err = store.Log(ctx, q, id, after)
		return err
	})
	return v, lines, err
}

// StopSession asks a session to stop. Points that are durable stay; the machines in work and those that wait get none.
func (c *Control) StopSession(ctx context.Context, p auth.Principal, id holdfast.RunID) (v view.Session, err error) {
	err = c.write(ctx, p, auth.StopSessions, func(ctx context.Context, tx database.Tx) error {
		if err := c.stop(ctx, tx, id); err != nil {
			return err
		}
		v, err = c.session(ctx, tx, id)
		return err
	})
	return v, err
}

// stop writes down that a session is to stop, and ends the items for which nobody works. Those in work end with their workers.
func (c *Control) stop(ctx context.Context, tx database.Tx, id holdfast.RunID) error {
	s, err := store.SessionOf(ctx, tx, id)
	if err != nil {
		return err
	}
	if s.State == holdfast.StateDone {
		return holdfast.Errorf(holdfast.KindConflict, "the session has ended already").WithField("id")
	}
	if s.Type == holdfast.SessionRetention || s.Type == holdfast.SessionRemoval {
		return holdfast.Errorf(holdfast.KindRefused, "a session that removes points is not stopped in the middle").WithField("id").WithHint("it ends by itself; what it removes was decided when it began")
	}
	if _, err := store.StopSession(ctx, tx, id); err != nil {
		return err
	}
	items, err := store.Items(ctx, tx, id)
	if err != nil {
		return err
	}
	for _, i := range items {
		if i.State != holdfast.StateWaiting {
			continue
		}
		if _, err := store.EndWaiting(ctx, tx, id, i.VM, holdfast.OutcomeStopped, c.now()); err != nil {
			return err
		}
	}
	_, err = store.CloseSession(ctx, tx, id, c.now(), c.config.Closed)
	return err
}

// Statistics says how the sessions that a filter wants went; without an instant, those of the last thirty days.
func (c *Control) Statistics(ctx context.Context, p auth.Principal, f store.Filter) (view.Statistics, error) {
	const usual = 30 * 24 * time.Hour
	if f.To.IsZero() {
		f.To = c.now()
	}
	if f.From.IsZero() {
		f.From = f.To.Add(-usual)
	}
	s := view.Statistics{From: f.From, To: f.To, Outcomes: map[holdfast.Outcome]int{}}
	err := c.read(ctx, p, auth.SeeSessions, func(ctx context.Context, q store.Query) error {
		all, err := store.Sessions(ctx, q, f, store.Page{})
		for _, one := range all {
			s.Sessions++
			if one.State != holdfast.StateDone {
				s.Running++
				continue
			}
			s.Outcomes[one.Outcome]++
			s.Machines = s.Machines.Plus(one.Items)
			s.Bytes = s.Bytes.Plus(one.Bytes)
			s.Seconds += int64(one.Ended.Sub(one.Started) / time.Second)
		}
		return err
	})
	return s, err
}

// ExportSessions writes all sessions that a filter wants as CSV (RFC 4180), a line for each machine of each, the newest first.
func (c *Control) ExportSessions(ctx context.Context, p auth.Principal, f store.Filter, w io.Writer) error {
	out := csv.NewWriter(w)
	head := []string{
		"session", "type", "policy", "region", "slot", "startedBy", "sessionState", "sessionOutcome", "vm", "state", "outcome", "message", "attempts", "started", "ended",
		"totalBytes", "readBytes", "storedBytes", "savedBytes", "auditedBytes", "points",
	}
	if err := out.Write(head); err != nil {
		return err
	}
	part := store.Page{Limit: 200}
	for {
		next := part
		err := c.read(ctx, p, auth.SeeSessions, func(ctx context.Context, q store.Query) error {
			all, err := store.Sessions(ctx, q, f, part)
			if err != nil {
				return err
			}
			for _, s := range all {
				items, err := store.Items(ctx, q, s.ID)
				if err != nil {
					return err
				}
				if err := exportSession(out, s, items); err != nil {
					return err
				}
			}
			next.After = ""
			if len(all) == part.Limit {
				next.After = string(all[len(all)-1].ID)
			}
			return nil
		})
		out.Flush()
		if err != nil || next.After == "" {
			return err
		}
		part = next
	}
}

func exportSession(out *csv.Writer, s holdfast.Session, items []holdfast.SessionItem) error {
	if len(items) == 0 {
		items = []holdfast.SessionItem{{State: s.State, Outcome: s.Outcome, Message: s.Message, Started: s.Started, Ended: s.Ended, Bytes: s.Bytes}}
	}
	for _, i := range items {
		number := func(n int64) string { return strconv.FormatInt(n, 10) }
		points := make([]string, 0, len(i.Points))
		for _, id := range i.Points {
			points = append(points, string(id))
		}
		err := out.Write([]string{
			string(s.ID), string(s.Type), cell(s.Policy), s.Region, stamp(s.Slot), cell(s.By), string(s.State), string(s.Outcome), cell(string(i.VM)), string(i.State), string(i.Outcome), cell(i.Message),
			strconv.Itoa(i.Attempts), stamp(i.Started), stamp(i.Ended), number(i.Bytes.Total), number(i.Bytes.Read), number(i.Bytes.Stored), number(i.Bytes.Saved), number(i.Bytes.Audited), strings.Join(points, " "),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// cell keeps spreadsheets from taking a text for a formula.
func cell(text string) string {
	if text != "" && slices.Contains([]byte("=+-@\t\r"), text[0]) {
		return "'" + text
	}
	return text
}

// begin writes a session that a person asked for down, with its items and a job for each.
func (c *Control) begin(ctx context.Context, tx database.Tx, s holdfast.Session, items []store.NewItem) error {
	n := store.NewSession{Session: s, Key: string(s.ID), Intent: plan.Intent{Policy: s.Policy, Slot: s.Slot, Manual: true}, Items: items}
	if len(items) > 0 {
		n.Intent.Makes = items[0].Makes
	}
	begun, err := store.BeginSession(ctx, tx, n)
	if err != nil {
		return err
	}
	holdfast.Invariant(begun, "the session %s has a new id", s.ID)
	return nil
}

// newSession is one that a person asks for now.
func (c *Control) newSession(as holdfast.SessionType, p auth.Principal) holdfast.Session {
	now := c.now()
	return holdfast.Session{ID: c.config.NewID(), Type: as, Slot: now, Manual: true, By: p.User, State: holdfast.StateQueued, Queued: now}
}

func (c *Control) enqueueItem(ctx context.Context, tx database.Tx, item work.Item, region string) error {
	return work.EnqueueItem(ctx, c.config.Jobs, tx, item, region, c.now())
}

package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Records of sessions that ended before an instant go with all that is theirs alone; those that ended later, or have not ended, stay, and so does
// what is no record of them.
func TestForgetSessions(t *testing.T) {
	both(t, func(t *testing.T, w world) {
		for i, id := range []holdfast.RunID{"old-1", "old-2", "new", "open"} {
			begin(w, id, string(id), web)
			w.change(func(ctx context.Context, tx database.Tx) error {
				if err := store.AppendLog(ctx, tx, holdfast.LogLine{Session: id, At: noon, Level: holdfast.LogInfo, Text: "line"}); err != nil {
					return err
				}
				if _, err := store.PutMessage(ctx, tx, store.Message{ID: string(id), Session: id, Created: noon}); err != nil {
					return err
				}
				if err := store.AppendEvents(ctx, tx, store.Event{At: noon, Policy: "nightly", Name: "run"}); err != nil {
					return err
				}
				if id == "open" {
					return nil
				}
				if id != "old-2" { // whose message is still to be delivered
					if _, err := store.MessageDelivered(ctx, tx, string(id), noon); err != nil {
						return err
					}
				}
				_, err := store.EndSession(ctx, tx, store.Ending{Session: id, Outcome: holdfast.OutcomeSuccess, At: noon.Add(time.Duration(i) * time.Hour)}, nil)
				return err
			})
		}
		var went []int
		for range 3 {
			w.change(func(ctx context.Context, tx database.Tx) error {
				n, err := store.ForgetSessions(ctx, tx, noon.Add(2*time.Hour), 1)
				went = append(went, n)
				return err
			})
		}
		if went[0] != 1 || went[1] != 1 || went[2] != 0 {
			t.Errorf("went %v", went)
		}
		w.read(func(ctx context.Context, q store.Query) error {
			left, err := store.Sessions(ctx, q, store.Filter{}, store.Page{})
			if err != nil {
				return err
			}
			if len(left) != 2 {
				t.Errorf("%d sessions are left", len(left))
			}
			for id, want := range map[holdfast.RunID]int{"old-1": 0, "old-2": 0, "new": 1, "open": 1} {
				items, err := store.Items(ctx, q, id)
				if err != nil {
					return err
				}
				lines, err := store.Log(ctx, q, id, 0)
				if err != nil {
					return err
				}
				if len(items) != want || len(lines) != want {
					t.Errorf("%s: %d items, %d lines", id, len(items), len(lines))
				}
			}
			for id, there := range map[string]bool{"old-1": false, "old-2": true, "new": true} {
				if _, err := store.MessageOf(ctx, q, id); (err == nil) != there {
					t.Errorf("the message of %s: %v", id, err)
				}
			}
			events, err := store.EventsAfter(ctx, q, 0, 100)
			if len(events) != 4 {
				t.Errorf("%d lines of the record are left", len(events))
			}
			return err
		})
	})
}

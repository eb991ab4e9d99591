package store_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/store"
)

func message(id string, created time.Time) store.Message {
	return store.Message{
		ID: id, Kind: store.MessageMail, Topic: "session/1", Session: "1", Address: "ada@example.com", Title: "[Failed] Shop", Created: created, Due: created.Add(time.Minute), Body: "what happened",
	}
}

func (w world) put(messages ...store.Message) (put []bool) {
	w.t.Helper()
	w.write(func(ctx context.Context, tx store.Query) error {
		put = nil
		for _, m := range messages {
			one, err := store.PutMessage(ctx, tx, m)
			if err != nil {
				return err
			}
			put = append(put, one)
		}
		return nil
	})
	return put
}

func (w world) message(id string) (m store.Message) {
	w.t.Helper()
	w.read(func(ctx context.Context, q store.Query) (err error) {
		m, err = store.MessageOf(ctx, q, id)
		return err
	})
	return m
}

// A message is written once, and ends once: what was delivered cannot be given up, fail, or be written anew.
func TestMessages_EndOnce(t *testing.T) {
	both(t, func(t *testing.T, w world) {
		want := message("a", noon)
		other := want
		other.Body = "something else"
		if put := w.put(want, other, message("b", noon)); !slices.Equal(put, []bool{true, false, true}) {
			t.Errorf("written: %v", put)
		}
		if got := w.message("a"); got != want || !got.Open() {
			t.Errorf("%+v", got)
		}
		var ends []bool
		end := func(ended bool, err error) error {
			ends = append(ends, ended)
			return err
		}
		w.write(func(ctx context.Context, tx store.Query) error {
			ends = nil
			for _, step := range []func() error{
				func() error { return store.MessageFailed(ctx, tx, "a", "nobody answers") },
				func() error { return end(store.MessageDelivered(ctx, tx, "a", noon.Add(time.Hour))) },
				func() error { return end(store.MessageDelivered(ctx, tx, "a", noon.Add(2*time.Hour))) },
				func() error { return end(store.MessageGivenUp(ctx, tx, "a", "too late", noon.Add(3*time.Hour))) },
				func() error { return store.MessageFailed(ctx, tx, "a", "too late") },
				func() error { return end(store.MessageGivenUp(ctx, tx, "b", "no such mailbox", noon.Add(time.Hour))) },
				func() error { return end(store.MessageDelivered(ctx, tx, "b", noon.Add(2*time.Hour))) },
			} {
				if err := step(); err != nil {
					return err
				}
			}
			return nil
		})
		if want := []bool{true, false, false, true, false}; !slices.Equal(ends, want) {
			t.Errorf("ended: %v, want %v", ends, want)
		}
		want.Delivered, want.Attempts, want.Body = noon.Add(time.Hour), 2, ""
		if got := w.message("a"); got != want || got.Open() {
			t.Errorf("delivered: %+v", got)
		}
		lost := message("b", noon)
		lost.GivenUp, lost.Attempts, lost.Failure, lost.Body = noon.Add(time.Hour), 1, "no such mailbox", ""
		if got := w.message("b"); got != lost || got.Open() {
			t.Errorf("given up: %+v", got)
		}
		if put := w.put(message("a", noon.Add(time.Hour))); put[0] || w.message("a") != want {
			t.Error("what was delivered was written anew")
		}
		err := w.db.Read(t.Context(), func(ctx context.Context, q store.Query) error {
			_, err := store.MessageOf(ctx, q, "c")
			return err
		})
		if !holdfast.IsKind(err, holdfast.KindNotFound) {
			t.Errorf("%v", err)
		}
	})
}

// Lists go from the newest on, page by page, without bodies; what has ended is forgotten after a while, and nothing else.
func TestMessages_ListsAndForgets(t *testing.T) {
	both(t, func(t *testing.T, w world) {
		for i := range 5 {
			m := message(fmt.Sprint("m", i), noon.Add(time.Duration(i/2)*time.Hour))
			if i == 4 {
				m.Session = "2"
			}
			w.put(m)
		}
		w.write(func(ctx context.Context, tx store.Query) error {
			if _, err := store.MessageDelivered(ctx, tx, "m1", noon); err != nil {
				return err
			}
			_, err := store.MessageGivenUp(ctx, tx, "m2", "no", noon)
			return err
		})
		list := func(f store.MessageFilter, p store.Page) (ids []string) {
			w.read(func(ctx context.Context, q store.Query) error {
				all, err := store.Messages(ctx, q, f, p)
				for _, m := range all {
					if m.Body != "" {
						t.Errorf("%s was listed with its body", m.ID)
					}
					ids = append(ids, m.ID)
				}
				return err
			})
			return ids
		}
		for _, c := range []struct {
			filter store.MessageFilter
			page   store.Page
			want   []string
		}{
			{store.MessageFilter{}, store.Page{}, []string{"m4", "m3", "m2", "m1", "m0"}},
			{store.MessageFilter{}, store.Page{Limit: 2}, []string{"m4", "m3"}},
			{store.MessageFilter{}, store.Page{Limit: 2, After: "m3"}, []string{"m2", "m1"}},
			{store.MessageFilter{Undelivered: true}, store.Page{}, []string{"m4", "m3", "m2", "m0"}},
			{store.MessageFilter{Session: "2"}, store.Page{}, []string{"m4"}},
		} {
			if got := list(c.filter, c.page); !slices.Equal(got, c.want) {
				t.Errorf("%+v %+v: %v, want %v", c.filter, c.page, got, c.want)
			}
		}
		w.write(func(ctx context.Context, tx store.Query) error {
			return store.ForgetMessages(ctx, tx, noon.Add(time.Hour))
		})
		if got, want := list(store.MessageFilter{}, store.Page{}), []string{"m4", "m3", "m2", "m0"}; !slices.Equal(got, want) {
			t.Errorf("left: %v, want %v", got, want)
		}
	})
}

// What a day came to: the sessions that ended in it, the points that each made, and those that retention let go in it.
func TestEndedSessions_AndWhatTheyHandled(t *testing.T) {
	both(t, func(t *testing.T, w world) {
		for i, id := range []holdfast.RunID{"a", "b", "c", "d"} {
			begin(w, id, string(id))
			w.change(func(ctx context.Context, tx database.Tx) error {
				if id == "d" {
					return nil // it is still at work
				}
				_, err := store.EndSession(ctx, tx, store.Ending{Session: id, Outcome: holdfast.OutcomeSuccess, At: noon.Add(time.Duration(i) * time.Hour)}, nil)
				return err
			})
		}
		point := func(id holdfast.PointID, session, letGoIn holdfast.RunID, state store.PointState, temporary bool) store.Point {
			return store.Point{
				Point: retention.Point{ID: id, VM: web, Kind: holdfast.PointSnapshot, Created: noon, Temporary: temporary}, Name: "web", State: state, Session: session, LetGoIn: letGoIn,
			}
		}
		w.write(func(ctx context.Context, tx store.Query) error {
			for _, p := range []store.Point{
				point("p1", "a", "", store.PointKept, false),
				point("p2", "a", "b", store.PointRemoved, false),
				point("p3", "a", "b", store.PointRemoving, false),
				point("p4", "a", "", store.PointMaking, false),
				point("p5", "a", "b", store.PointRemoved, true),
			} {
				if err := store.PutPoint(ctx, tx, p); err != nil {
					return err
				}
			}
			return nil
		})
		w.read(func(ctx context.Context, q store.Query) error {
			sessions, err := store.EndedSessions(ctx, q, noon, noon.Add(2*time.Hour))
			if err != nil || len(sessions) != 2 || sessions[0].ID != "a" || sessions[1].ID != "b" {
				t.Errorf("%+v, %v", sessions, err)
			}
			handled, err := store.HandledIn(ctx, q, []holdfast.RunID{"a", "b", "c"})
			if err != nil || len(handled) != 2 || handled["a"].Made[holdfast.PointSnapshot] != 3 || handled["a"].LetGo != 0 || handled["b"].LetGo != 2 {
				t.Errorf("%+v, %v", handled, err)
			}
			return nil
		})
	})
}

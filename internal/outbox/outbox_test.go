package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// The end of a session is told once to each who is to hear of it, and to nobody when its transaction fails.
func TestSessionClosed_Told(t *testing.T) {
	both(t, func(w *world) {
		w.apply(w.settings())
		broken := errors.New("the transaction fails")
		err := w.db.Write(w.t.Context(), func(ctx context.Context, tx database.Tx) error {
			return errors.Join(w.end(ctx, tx, "s0", "office", holdfast.OutcomeError), broken)
		})
		if w.deliver(); !errors.Is(err, broken) || len(w.messages()) != 0 || len(w.mails()) != 0 || len(w.hook.took()) != 0 {
			w.t.Fatalf("what did not happen was told: %v, %v", err, w.messages())
		}
		w.session("s1", "office", holdfast.OutcomeError)
		written := w.messages()
		w.deliver()
		want := map[string][]string{"[Failed] office (1 instances) 1 with issues": {"Both@example.com", "ops@example.com", "own@example.com"}}
		if got := sorted(w.mails()); !reflect.DeepEqual(got, want) {
			w.t.Errorf("mail: %v", got)
		}
		if posts := w.hook.took(); len(posts) != 1 || posts[0].event != "sessionEnded" || posts[0].policy != "office" {
			w.t.Errorf("posts: %+v", posts)
		}
		for k, m := range w.messages() {
			before := written[k]
			if m.Delivered.IsZero() || m.Attempts != 1 || m.Body != "" || m.Session != "s1" || before.ID != m.ID || before.Body == "" || !before.Open() {
				w.t.Errorf("%+v, before %+v", m, before)
			}
		}
		// The same event told again, by whoever comes after a death, is no other one.
		w.write(func(ctx context.Context, tx database.Tx) error {
			session, err := store.SessionOf(ctx, tx, "s1")
			if err != nil {
				return err
			}
			return w.outbox.SessionClosed(ctx, tx, session)
		})
		for _, m := range written { // nor is a job that runs once more
			if err := w.outbox.Deliver(w.t.Context(), jobs.Job{Key: m.ID, Attempt: 1, Attempts: 1}); err != nil {
				w.t.Error(err)
			}
		}
		if w.deliver(); len(w.messages()) != 4 || len(w.mail.Letters(w.t)) != 3 || len(w.hook.took()) != 1 {
			w.t.Errorf("told again: %v, %v", w.mails(), w.hook.took())
		}
	})
}

func sorted(all map[string][]string) map[string][]string {
	for _, list := range all {
		slices.Sort(list)
	}
	return all
}

// Who hears of what: a policy's own word counts before the installation's, mail that is off is not written, sessions of SLA policies are
// for webhooks alone, and webhooks do not ask policies.
func TestSessionClosed_WhoHears(t *testing.T) {
	w := newWorld(t, "sqlite://"+t.TempDir()+"/holdfast.db")
	noHooks := []string{"webhooks:\n  - {url: \"" + w.hook.URL + "\", secretFrom: {environment: HOLDFAST_HOOK}}\n", ""}
	for k, c := range []struct {
		name    string
		changes []string
		policy  string
		outcome holdfast.Outcome
		want    string
	}{
		{"the policy asks for successes, the installation does not", nil, "office", holdfast.OutcomeSuccess, "own@example.com Both@example.com HOOK"},
		{"the policy wants no failures, so both@ hears nothing", []string{"onSuccess: true}", "onFailure: false}"}, "office", holdfast.OutcomeError, "ops@example.com HOOK"},
		{"a policy that notifies nobody", []string{"notify: {recipients: [own@example.com, Both@", "notify: {enabled: false, recipients: [own@example.com, Both@"}, "office", holdfast.OutcomeError, "HOOK"},
		{"mail is off", []string{"mail:\n", "mail:\n  enabled: false\n"}, "office", holdfast.OutcomeError, "HOOK"},
		{"mail is off, and there is no webhook", append([]string{"mail:\n", "mail:\n  enabled: false\n"}, noHooks...), "office", holdfast.OutcomeError, ""},
		{"no webhook", noHooks, "office", holdfast.OutcomeSuccess, "own@example.com Both@example.com"},
		{"an SLA policy", nil, "gold", holdfast.OutcomeError, "HOOK"},
		{"a policy that is gone", nil, "bronze", holdfast.OutcomeError, "HOOK"},
		{"no policy", nil, "", holdfast.OutcomeError, "HOOK"},
	} {
		w.apply(w.settings(c.changes...))
		id := holdfast.RunID(fmt.Sprint("s", k))
		w.session(id, c.policy, c.outcome)
		var got []string
		for _, m := range w.messages() {
			if m.Session != id {
				continue
			}
			got = append(got, strings.Replace(m.Address, w.hook.URL, "HOOK", 1))
		}
		want := strings.Fields(c.want)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", c.name, got, want)
		}
	}
}

// The daily report goes once, whatever restarts. After some days of downtime it is the newest one alone; one whose time had passed when it
// was asked for is not sent.
func TestTick_DailyReport(t *testing.T) {
	both(t, func(w *world) {
		w.apply(w.settings())
		w.clock.Advance(8 * time.Hour)
		if next := w.tick(); !next.Equal(w.clock.Now().Add(time.Minute)) {
			w.t.Errorf("the next tick is due at %v", next)
		}
		w.session("s1", "office", holdfast.OutcomeError)
		w.session("s2", "gold", holdfast.OutcomeSuccess)
		w.deliver()
		w.clock.Advance(2 * time.Hour)
		w.tick()
		at9 := w.settings("  onSuccess: false\n", "  onSuccess: false\n  dailyReportAt: \"09:00\"\n")
		w.apply(at9)
		w.tick()
		if got := w.reports(); len(got) != 0 {
			w.t.Errorf("a report for the past: %v", got)
		}
		w.clock.Advance(23*time.Hour - 30*time.Second) // half a minute before nine on Tuesday
		if next := w.tick(); !next.Equal(w.clock.Now().Add(30 * time.Second)) {
			w.t.Errorf("the next tick is due at %v", next)
		}
		w.clock.Advance(30 * time.Second)
		for range 3 {
			w.tick()
			w.restart()
		}
		w.deliver()
		want := map[string][]string{"Holdfast daily report: no session ended": {"both@example.com", "ops@example.com"}}
		if got := w.reports(); !reflect.DeepEqual(got, want) {
			w.t.Errorf("on Tuesday: %v", got)
		}
		w.clock.Advance(time.Hour)
		w.session("s3", "office", holdfast.OutcomeSuccess)
		w.clock.Advance(71 * time.Hour) // nobody was there until Friday
		w.session("s4", "office", holdfast.OutcomeError)
		w.session("s5", "gold", holdfast.OutcomeSuccess)
		w.write(func(ctx context.Context, tx database.Tx) error {
			for k, id := range []holdfast.PointID{"p1", "p2", "p3"} {
				p := store.Point{Point: retention.Point{ID: id, VM: web, Kind: holdfast.PointSnapshot, Created: w.clock.Now()}, State: store.PointKept, Session: "s5"}
				if k == 0 {
					p.State, p.Session, p.LetGoIn = store.PointRemoved, "s1", "s4"
				}
				if err := store.PutPoint(ctx, tx, p); err != nil {
					return err
				}
			}
			return nil
		})
		w.clock.Advance(5 * time.Hour)
		for range 3 {
			w.tick()
			w.restart()
		}
		w.clock.Advance(-24 * time.Hour) // somebody sets the clock back
		w.tick()
		w.clock.Advance(24 * time.Hour)
		w.tick()
		w.deliver()
		want["Holdfast daily report: no session ended"] = []string{"both@example.com", "both@example.com", "ops@example.com", "ops@example.com"} // one more
		if got := w.reports(); !reflect.DeepEqual(got, want) {
			w.t.Errorf("on Friday at 14:00: %v", got)
		}
		w.clock.Advance(19 * time.Hour)
		w.tick()
		w.deliver()
		want["Holdfast daily report: 2 sessions, 1 failed"] = []string{"both@example.com", "ops@example.com"}
		if got := w.reports(); !reflect.DeepEqual(got, want) {
			w.t.Errorf("on Saturday: %v", got)
		}
		letters := w.mail.Letters(w.t)
		text := strings.Join(strings.Fields(letters[len(letters)-1].Parts["text/plain; charset=UTF-8"]), " ")
		if !strings.Contains(text, "Snapshots made: 2 ") || !strings.Contains(text, "Points removed: 1 ") {
			w.t.Errorf("%s", text)
		}
	})
}

// reports are the recipients of the daily reports that arrived, by their subjects.
func (w *world) reports() map[string][]string {
	w.t.Helper()
	all := sorted(w.mails())
	maps.DeleteFunc(all, func(title string, _ []string) bool { return !strings.HasPrefix(title, "Holdfast daily report") })
	return all
}

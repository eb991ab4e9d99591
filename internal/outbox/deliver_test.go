package outbox_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/notify/smtp/smtptest"
	"github.com/holdfast-backup/holdfast/internal/outbox"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// alone lets ops@ alone hear of things by mail.
func alone() []string {
	return []string{"recipients: [ops@example.com, both@example.com]", "recipients: [ops@example.com]", "notify: {recipients: [own@example.com, Both@example.com], onSuccess: true}", "notify: {onFailure: true}"}
}

// noHook takes the webhook out.
func (w *world) noHook() []string {
	return []string{fmt.Sprintf("webhooks:\n  - {url: %q, secretFrom: {environment: HOLDFAST_HOOK}}\n", w.hook.URL), ""}
}

func onSQLite(t *testing.T) *world {
	t.Helper()
	return newWorld(t, "sqlite://"+t.TempDir()+"/holdfast.db")
}

// only returns the one message that there is.
func (w *world) only() store.Message {
	w.t.Helper()
	all := w.messages()
	if len(all) != 1 {
		w.t.Fatalf("%d messages", len(all))
	}
	return all[0]
}

// A process that dies between sending and noting it sends again under the same id; one that dies before, sends once. The row ends once.
func TestDeliver_Dies(t *testing.T) {
	both(t, func(w *world) {
		w.apply(w.settings(alone()...))
		w.session("s1", "office", holdfast.OutcomeError)
		died := map[string]bool{}
		w.secret = func(name string) error {
			if !died[name] {
				died[name] = true
				_ = w.db.Close() // from now on nothing can be noted
			}
			return nil
		}
		for range 3 {
			w.deliver()
			w.restart()
			w.clock.Advance(time.Minute)
		}
		letters, posts := w.mail.Letters(w.t), w.hook.took()
		if len(letters) != 2 || letters[0].Header.Get("Message-ID") != letters[1].Header.Get("Message-ID") || len(posts) != 2 || posts[0].delivery != posts[1].delivery {
			w.t.Errorf("%d letters, posts %+v", len(letters), posts)
		}
		for _, m := range w.messages() {
			if m.Delivered.IsZero() || m.Attempts != 1 {
				w.t.Errorf("%+v", m)
			}
		}

		ctx, cancel := context.WithCancel(w.t.Context())
		w.secret = func(string) error {
			cancel()
			return nil
		}
		w.session("s2", "office", holdfast.OutcomeError)
		w.queue.Step(ctx)
		w.queue.Step(ctx)
		w.secret = nil
		for _, m := range w.messages() {
			if m.Session == "s2" && (!m.Open() || m.Attempts != 0) {
				w.t.Errorf("given up by a process that ended: %+v", m)
			}
		}
		if w.deliver(); len(w.mail.Letters(w.t)) != 3 || len(w.hook.took()) != 3 {
			w.t.Errorf("%d letters, posts %+v", len(w.mail.Letters(w.t)), w.hook.took())
		}
	})
}

// What may pass is tried again, each time with its reason in the row: a server that asks to wait, one that does not say whether it
// took the message, a secret that cannot be had. When it goes, it is delivered.
func TestDeliver_TriesAgain(t *testing.T) {
	w := onSQLite(t)
	peer := &smtptest.Peer{Identity: smtptest.NewIdentity(t, "127.0.0.1")}
	peer.Listen(t)
	w.roots = peer.Identity.Roots
	w.restart()
	w.apply(w.settings(append(append(alone(), w.noHook()...), fmt.Sprintf("port: %d", w.mail.Port), fmt.Sprintf("port: %d", peer.Port))...))
	w.session("s1", "office", holdfast.OutcomeError)
	for k, c := range []struct {
		script map[string]string
		secret error
		says   string
	}{
		{map[string]string{"MAIL": "451 4.3.0 disk full"}, nil, "451 4.3.0 disk full"},
		{map[string]string{".": smtptest.Drop}, nil, "did not say whether it took the message"},
		{nil, holdfast.Errorf(holdfast.KindNotFound, "the vault has no such secret").WithHint("put it there"), "the vault has no such secret (put it there)"},
	} {
		peer.Play(c.script)
		w.secret = func(string) error { return c.secret }
		w.deliver()
		if m := w.only(); !m.Open() || m.Attempts != k+1 || !strings.Contains(m.Failure, c.says) || m.Body == "" {
			t.Errorf("%q: %+v", c.says, m)
		}
		w.clock.Advance(jobs.Pause(k+1) - time.Millisecond)
		if w.deliver(); w.only().Attempts != k+1 {
			t.Error("it was tried before its time")
		}
		w.clock.Advance(time.Millisecond)
	}
	peer.Play(nil)
	w.secret = nil
	w.deliver()
	if m := w.only(); m.Open() || m.Delivered.IsZero() || m.Attempts != 4 || m.Failure != "" || peer.Count("RCPT TO:<ops@example.com>") != 2 {
		t.Errorf("%+v, the server heard %q", m, peer.Heard())
	}
}

// A day of trouble, and the message is given up with its last reason.
func TestDeliver_GivesUpAfterADay(t *testing.T) {
	w := onSQLite(t)
	w.apply(w.settings(append(alone(), w.noHook()...)...))
	w.session("s1", "office", holdfast.OutcomeError)
	w.secret = func(string) error { return holdfast.Errorf(holdfast.KindUnavailable, "the vault does not answer") }
	for due := w.queue.Due(); !due.IsZero(); due = w.queue.Due() {
		w.clock.Advance(due.Sub(w.clock.Now()))
		w.deliver()
	}
	took := w.clock.Now().Sub(monday)
	if m := w.only(); m.Open() || !m.GivenUp.Equal(w.clock.Now()) || !strings.HasSuffix(m.Failure, ": the vault does not answer") || m.Body != "" || took < 24*time.Hour || took > 25*time.Hour {
		t.Errorf("after %v: %+v", took, m)
	}
	if failed, err := w.queue.List(t.Context(), jobs.Filter{Kind: work.KindNotify, State: jobs.Failed}); err != nil || len(failed) != 1 {
		t.Errorf("%+v, %v", failed, err)
	}
}

// What will not pass is given up at once: a recipient that there is not, mail that was turned off, a webhook that was taken out or says
// never. What is set up anew meanwhile is used.
func TestDeliver_GivesUpAtOnce(t *testing.T) {
	for _, c := range []struct {
		name    string
		before  []string
		after   func(w *world) []string
		says    string // "" for delivered
		letters int
		posts   int
	}{
		{"no such mailbox", []string{"ops@example.com, both@example.com", "nobody@example.com"}, (*world).noHook, "550 5.1.1 no such mailbox", 0, 0},
		{"mail was turned off", nil, func(w *world) []string { return append(w.noHook(), "mail:\n", "mail:\n  enabled: false\n") }, "turned off", 0, 0},
		{"mail goes elsewhere by now", []string{"user: holdfast", "user: somebody"}, (*world).noHook, "", 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := onSQLite(t)
			changes := w.noHook()
			changes = append(changes, "notify: {recipients: [own@example.com, Both@example.com], onSuccess: true}", "notify: {onFailure: true}")
			if c.before == nil || !strings.HasPrefix(c.before[0], "ops@") {
				changes = append(changes, "ops@example.com, both@example.com", "ops@example.com")
			}
			w.apply(w.settings(append(changes, c.before...)...))
			w.session("s1", "office", holdfast.OutcomeError)
			w.apply(w.settings(c.after(w)...))
			w.deliver()
			m := w.only()
			if m.GivenUp.IsZero() != (c.says == "") || !strings.Contains(m.Failure, c.says) || m.Attempts != 1 || m.Open() || len(w.mail.Letters(t)) != c.letters {
				t.Errorf("%+v, %d letters", m, len(w.mail.Letters(t)))
			}
		})
	}
}

// Webhooks: again means again under the same id, never means never, and one that was taken out gets nothing.
func TestDeliver_Webhook(t *testing.T) {
	w := onSQLite(t)
	off := []string{"mail:\n", "mail:\n  enabled: false\n"}
	w.apply(w.settings(off...))
	end := func(id holdfast.RunID, answer int) store.Message {
		w.hook.answers(answer)
		w.session(id, "office", holdfast.OutcomeError)
		w.deliver()
		all := w.messages()
		return all[len(all)-1]
	}
	if m := end("s1", http.StatusServiceUnavailable); !m.Open() || m.Attempts != 1 || !strings.Contains(m.Failure, "asks to wait") {
		t.Errorf("%+v", m)
	}
	w.hook.answers(http.StatusAccepted)
	w.clock.Advance(time.Second)
	w.deliver()
	if m := w.only(); m.Delivered.IsZero() || m.Attempts != 2 {
		t.Errorf("%+v", m)
	}
	w.clock.Advance(time.Second)
	if m := end("s2", http.StatusGone); m.GivenUp.IsZero() || m.Attempts != 1 || strings.Contains(m.Failure, "/") {
		t.Errorf("%+v", m)
	}
	posts := w.hook.took()
	if len(posts) != 3 || posts[0].delivery != posts[1].delivery || posts[1].delivery == posts[2].delivery {
		t.Errorf("%+v", posts)
	}
	w.clock.Advance(time.Second)
	w.secret = func(string) error { return holdfast.Errorf(holdfast.KindUnavailable, "later") }
	end("s3", http.StatusAccepted)
	w.apply(w.settings(append(off, w.noHook()...)...))
	w.secret = nil
	w.clock.Advance(time.Second)
	w.deliver()
	all := w.messages()
	if m := all[len(all)-1]; m.GivenUp.IsZero() || !strings.Contains(m.Failure, "taken out of the settings") || len(w.hook.took()) != 3 {
		t.Errorf("%+v", m)
	}
	w.clock.Advance(91 * 24 * time.Hour)
	if w.tick(); len(w.messages()) != 0 {
		t.Errorf("after 91 days there still are %+v", w.messages())
	}
	if err := w.outbox.Deliver(t.Context(), jobs.Job{Key: all[0].ID, Attempt: 1, Attempts: 2}); err != nil {
		t.Errorf("what is forgotten was delivered: %v", err)
	}
}

// A test tells of each copy what became of it, although mail is off, and leaves nothing behind. Of a webhook's address it tells the host alone.
func TestTest(t *testing.T) {
	w := onSQLite(t)
	const second = "https://127.0.0.1:1/hidden" // where nobody listens
	w.apply(w.settings("mail:\n", "mail:\n  enabled: false\n", "both@example.com]", "nobody@example.com]", "webhooks:\n", "webhooks:\n  - {url: \""+second+"\", secretFrom: {environment: OTHER}}\n"))
	own := strings.TrimPrefix(w.hook.URL, "http://")
	tell := func(to string) (said []string) {
		tested, err := w.outbox.Test(t.Context(), to, "ada")
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range tested {
			said = append(said, fmt.Sprintf("%s %t %s", d.To, d.OK, d.Problem))
		}
		return said
	}
	want := []string{
		"ops@example.com true ", "nobody@example.com false the mail server 127.0.0.1 refuses the recipient (550 5.1.1 no such mailbox)",
		"127.0.0.1:1 false the secret of the webhook at 127.0.0.1:1 is not to be had: there is no secret webhook/127.0.0.1:1", own + " true ",
	}
	if got := tell(""); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if got := tell("ada@example.com"); !slices.Equal(got, []string{"ada@example.com true "}) {
		t.Errorf("%q", got)
	}
	letters, posts := w.mail.Letters(t), w.hook.took()
	if len(letters) != 2 || letters[0].Header.Get("Subject") != "Test message from Holdfast" || len(posts) != 1 || posts[0].event != "test" || len(w.messages()) != 0 {
		t.Errorf("%d letters, %+v, %v", len(letters), posts, w.messages())
	}
	w.secret = func(string) error { return holdfast.Errorf(holdfast.KindUnavailable, "the vault does not answer") }
	if got := tell("ada@example.com"); !slices.Equal(got, []string{"ada@example.com false the password of the mail account is not to be had: the vault does not answer"}) {
		t.Errorf("%q", got)
	}
	w.apply("kind: Installation\nzone: Europe/Brussels\n")
	if got := tell(""); len(got) != 0 {
		t.Errorf("nobody is set up, and heard: %q", got)
	}
	if _, err := w.outbox.Test(t.Context(), "ada@example.com", "ada"); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("without mail: %v", err)
	}
}

var _ outbox.Secrets = (*world)(nil)

package outbox_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/jobs/inline"
	"github.com/holdfast-backup/holdfast/internal/notify/smtp/smtptest"
	"github.com/holdfast-backup/holdfast/internal/notify/webhook"
	"github.com/holdfast-backup/holdfast/internal/outbox"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// quiet is the log of tests.
var quiet = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var monday = time.Date(2026, time.March, 2, 0, 0, 0, 0, time.UTC)

const (
	web     = holdfast.ResourceID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/web-1")
	hookKey = "the secret of the webhook"
)

// world is an outbox with its queue, on a clock that a test moves, a mail server and a webhook.
type world struct {
	t      *testing.T
	url    string // of the database
	db     *database.DB
	clock  *clock.Manual
	queue  *inline.Queue
	outbox *outbox.Outbox
	mail   smtptest.Server
	hook   *hook
	roots  *x509.CertPool
	// secret is called when a secret is asked for, nil for nothing.
	secret func(name string) error
}

// both runs a test on SQLite, and on PostgreSQL where it is installed.
func both(t *testing.T, run func(w *world)) {
	t.Helper()
	databasetest.EachURL(t, func(t *testing.T, url string) { run(newWorld(t, url)) })
}

func newWorld(t *testing.T, url string) *world {
	t.Helper()
	w := &world{t: t, url: url, clock: clock.NewManual(monday), mail: smtptest.StartServer(t), hook: newHook(t)}
	w.roots = w.mail.Identity.Roots
	w.queue = inline.New(w.clock)
	w.queue.Handle(work.KindNotify, func(ctx context.Context, job jobs.Job) error { return w.outbox.Deliver(ctx, job) })
	if err := w.queue.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.restart()
	t.Cleanup(func() { _ = w.db.Close() })
	return w
}

// restart lets another process take over: what was in memory is gone, but for the queue, which stands for one in the database.
func (w *world) restart() {
	w.t.Helper()
	if w.db != nil {
		_ = w.db.Close()
	}
	var err error
	if w.db, err = database.Open(w.t.Context(), w.url, database.Options{Migrations: store.Migrations(), Volatile: true}); err != nil {
		w.t.Fatal(err)
	}
	w.outbox = outbox.New(outbox.Config{Database: w.db, Jobs: w.queue, Clock: w.clock, Log: quiet, Secrets: w, Roots: w.roots})
}

// Secret implements outbox.Secrets.
func (w *world) Secret(_ context.Context, name string) (string, error) {
	if w.secret != nil {
		if err := w.secret(name); err != nil {
			return "", err
		}
	}
	switch name {
	case outbox.SecretMail:
		return smtptest.Password, nil
	case "webhook/" + w.hook.URL:
		return hookKey, nil
	}
	return "", holdfast.Errorf(holdfast.KindNotFound, "there is no secret %s", name)
}

// settings are documents with policies of both kinds. changes are pairs of a text and what stands in its place.
func (w *world) settings(changes ...string) string {
	yaml := fmt.Sprintf(`kind: Installation
mail:
  server: 127.0.0.1
  port: %d
  user: holdfast
  passwordFrom: {environment: HOLDFAST_MAIL}
  from: holdfast@example.com
  recipients: [ops@example.com, both@example.com]
  onSuccess: false
webhooks:
  - {url: %q, secretFrom: {environment: HOLDFAST_HOOK}}
---
kind: SchedulePolicy
name: office
sources: {regions: [westeurope], all: true}
daily: {snapshots: {hours: [7], keep: 3}}
notify: {recipients: [own@example.com, Both@example.com], onSuccess: true}
---
kind: SLATemplate
name: gold
target: 97
snapshots: {daily: {every: 4 hours, keep: 1 day}}
---
kind: Repository
name: hot
url: /backups/hot
encrypted: false
---
kind: StorageTemplate
name: near
backups: {default: hot}
---
kind: SLAPolicy
name: gold
slaTemplate: gold
storageTemplate: near
sources: {regions: [westeurope], include: [{tag: {name: tier, value: gold}}]}
notify: {recipients: [own@example.com], at: "08:00"}
`, w.mail.Port, w.hook.URL)
	for k := 0; k < len(changes); k += 2 {
		if !strings.Contains(yaml, changes[k]) {
			w.t.Fatalf("%q does not stand in the settings", changes[k])
		}
		yaml = strings.ReplaceAll(yaml, changes[k], changes[k+1])
	}
	return yaml
}

// apply makes the documents what they are now.
func (w *world) apply(yaml string) {
	w.t.Helper()
	documents, _, err := document.Read(document.File{Name: "test.yaml", Folder: "/", Data: []byte(yaml)})
	if err != nil {
		w.t.Fatal(err)
	}
	rows, err := protection.Rows(documents)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(func(ctx context.Context, tx database.Tx) error {
		for _, d := range rows {
			d.Updated = w.clock.Now()
			if err := store.PutDocument(ctx, tx, d); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *world) write(do func(ctx context.Context, tx database.Tx) error) {
	w.t.Helper()
	if err := w.db.Write(w.t.Context(), do); err != nil {
		w.t.Fatal(err)
	}
}

// session begins a session of a policy with one machine whose share ended, and lets it end.
func (w *world) session(id holdfast.RunID, policy string, outcome holdfast.Outcome) {
	w.t.Helper()
	w.write(func(ctx context.Context, tx database.Tx) error { return w.end(ctx, tx, id, policy, outcome) })
}

func (w *world) end(ctx context.Context, tx database.Tx, id holdfast.RunID, policy string, outcome holdfast.Outcome) error {
	_, err := store.BeginSession(ctx, tx, store.NewSession{
		Session: holdfast.Session{ID: id, Type: holdfast.SessionPolicy, Policy: policy, Slot: w.clock.Now(), Queued: w.clock.Now()}, Key: string(id), Intent: plan.Intent{Policy: policy},
		Items: []store.NewItem{{VM: web, Region: "westeurope", Makes: []plan.Making{{Kind: holdfast.PointSnapshot}}}},
	})
	if err != nil {
		return err
	}
	c, _, err := store.ClaimItem(ctx, tx, id, web, w.clock.Now())
	if err != nil {
		return err
	}
	c.State, c.Outcome, c.Ended = holdfast.StateDone, outcome, w.clock.Now()
	if outcome == holdfast.OutcomeError {
		c.Message = "no permission"
	}
	if err := store.PutItem(ctx, tx, c.SessionItem); err != nil {
		return err
	}
	_, err = store.CloseSession(ctx, tx, id, w.clock.Now(), w.outbox.SessionClosed)
	return err
}

// deliver runs all jobs that are due.
func (w *world) deliver() {
	w.t.Helper()
	for more := true; more; more = w.queue.Step(w.t.Context()) {
		continue
	}
}

func (w *world) tick() (next time.Time) {
	w.t.Helper()
	next, err := w.outbox.Tick(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return next
}

// messages returns the rows of messages, the oldest first, with the beginnings of their bodies.
func (w *world) messages() []store.Message {
	w.t.Helper()
	var all []store.Message
	err := w.db.Read(w.t.Context(), func(ctx context.Context, q store.Query) error {
		listed, err := store.Messages(ctx, q, store.MessageFilter{}, store.Page{})
		all = nil
		for k := range listed {
			m, err := store.MessageOf(ctx, q, listed[len(listed)-1-k].ID)
			if err != nil {
				return err
			}
			m.Body = m.Body[:min(len(m.Body), 20)]
			all = append(all, m)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// mails are the recipients of the mails that arrived, by their subjects.
func (w *world) mails() map[string][]string {
	w.t.Helper()
	all := map[string][]string{}
	for _, l := range w.mail.Letters(w.t) {
		title := l.Header.Get("Subject")
		all[title] = append(all[title], l.To...)
	}
	return all
}

// hook is a webhook that checks what is posted as its documentation tells it to.
type hook struct {
	*httptest.Server

	mu    sync.Mutex // guards what follows
	wrong error
	code  int
	posts []posted
}

type posted struct {
	delivery, event, policy string
}

func newHook(t *testing.T) *hook {
	h := &hook{code: http.StatusNoContent}
	h.Server = httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		body, err := io.ReadAll(r.Body)
		var told struct{ Event, Policy string }
		if err = errors.Join(err, json.Unmarshal(body, &told)); err != nil {
			h.wrong = err
		}
		if r.Header.Get(webhook.HeaderSignature) != webhook.Sign(hookKey, r.Header.Get(webhook.HeaderTimestamp), body) || r.Header.Get(webhook.HeaderEvent) != told.Event {
			h.wrong = fmt.Errorf("a post with headers %v", r.Header)
		}
		h.posts = append(h.posts, posted{r.Header.Get(webhook.HeaderDelivery), told.Event, told.Policy})
		answer.WriteHeader(h.code)
	}))
	t.Cleanup(func() {
		h.Close()
		if h.wrong != nil {
			t.Error(h.wrong)
		}
	})
	return h
}

// answers says with which code it answers from now on.
func (h *hook) answers(code int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.code = code
}

// took returns the posts that came.
func (h *hook) took() []posted {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.posts
}

// Package outbox tells people, and programs of theirs, what happened: package notify makes the messages, a row is written for each
// copy, and a job delivers it.
//
// It promises that messages are written in the transaction of what they tell, by the documents that are in force then, so that
// nothing is told which did not happen, and nothing is forgotten; that each copy is written once, whoever writes it again; and
// that it is delivered at least once or given up with a reason in its row. A copy whose sender died before he could note that
// it arrived is sent again under the same id, by which servers and people know it.
//
// It must never hold up what it tells of: nothing is sent but by jobs of a queue of their own, and what cannot be composed is logged. It
// must never write a secret into a row or an error.
package outbox

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/notify/webhook"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// Secrets finds secrets by their names: SecretMail, and that of each webhook (SecretOf). An error is tried again later, whatever it is.
type Secrets interface {
	Secret(ctx context.Context, name string) (string, error)
}

// SecretMail names the password of the mail account.
const SecretMail = "mail"

// SecretOf names the secret under which posts to a webhook are signed.
func SecretOf(hook holdfast.Webhook) string { return "webhook/" + hook.URL }

// Config says what to work with. All fields but Roots are required.
type Config struct {
	Database *database.DB
	Jobs     jobs.Enqueuer
	Clock    clock.Clock
	Log      *slog.Logger
	Secrets  Secrets
	Roots    *x509.CertPool // whom certificates of mail servers and webhooks are trusted from; nil: whom this machine trusts
}

// Outbox writes messages and delivers them. Safe for concurrent use.
type Outbox struct {
	config   Config
	intended protection.Cache
	posts    *webhook.Sender
}

// New makes it.
func New(config Config) *Outbox {
	return &Outbox{config: config, posts: webhook.New(config.Clock, config.Roots)}
}

func (o *Outbox) now() time.Time { return o.config.Clock.Now().UTC().Truncate(time.Millisecond) }

// SessionClosed tells of a session that has ended. It is a store.Closed.
func (o *Outbox) SessionClosed(ctx context.Context, tx database.Tx, session holdfast.Session) error {
	i, err := o.intentions(ctx, tx)
	if err != nil || i.silent() {
		return err
	}
	items, err := store.Items(ctx, tx, session.ID)
	if err != nil {
		return err
	}
	finished := notify.Finished{Session: session, Items: items}
	e := event{session: session.ID, due: o.now()}
	// Sessions of SLA policies are told of by the reports of their entries.
	if policy, kind, _ := i.Policy(session.Policy); kind == holdfast.PolicySchedule {
		e.mail, err = notify.Session(i.settings, policy.Notify, finished)
		o.composed(ctx, err)
	}
	e.posts, err = notify.SessionPosts(i.hooks(), finished)
	o.composed(ctx, err)
	return o.put(ctx, tx, e)
}

// Missed raises the alarm about missed slots: one for each policy. It implements scheduler.Teller.
func (o *Outbox) Missed(ctx context.Context, tx database.Tx, missed []sla.Expectation) error {
	i, err := o.intentions(ctx, tx)
	if err != nil || i.silent() {
		return err
	}
	byPolicy := map[string][]sla.Expectation{}
	var policies []string // in their order, so that the same tick writes the same
	for _, m := range missed {
		if byPolicy[m.Policy] == nil {
			policies = append(policies, m.Policy)
		}
		byPolicy[m.Policy] = append(byPolicy[m.Policy], m)
	}
	for _, name := range policies {
		policy, _, _ := i.Policy(name) // one that was removed meanwhile has nobody who asked to be told
		e := event{due: o.now()}
		e.mail, err = notify.Missed(i.settings, policy.Notify, name, byPolicy[name])
		o.composed(ctx, err)
		e.posts, err = notify.MissedPosts(i.hooks(), name, byPolicy[name])
		o.composed(ctx, err)
		if err := o.put(ctx, tx, e); err != nil {
			return err
		}
	}
	return nil
}

// PeriodClosed reports an entry of an SLA policy: by mail at the time that the policy names, to webhooks at once. It implements
// scheduler.Teller.
func (o *Outbox) PeriodClosed(ctx context.Context, tx database.Tx, period sla.Compliance, machines []sla.MachineCompliance) error {
	i, err := o.intentions(ctx, tx)
	if err != nil || i.silent() {
		return err
	}
	policy, _, _ := i.Policy(period.Policy)
	reports := event{due: i.settings.ReportAt(policy.Notify, period.Closed)}
	reports.mail, err = notify.Report(i.settings, policy.Notify, period, machines)
	o.composed(ctx, err)
	if err := o.put(ctx, tx, reports); err != nil {
		return err
	}
	e := event{due: o.now()}
	e.posts, err = notify.ReportPosts(i.hooks(), period, machines)
	o.composed(ctx, err)
	return o.put(ctx, tx, e)
}

// composed logs why something could not be made into messages.
func (o *Outbox) composed(ctx context.Context, err error) {
	if err != nil {
		// best effort: sessions end, and slots pass, whether or not they can be told of.
		o.config.Log.ErrorContext(ctx, "an event could not be told", "error", err)
	}
}

// intentions are what people want to hear.
type intentions struct {
	*protection.State
	settings notify.Settings
}

func (o *Outbox) intentions(ctx context.Context, q store.Query) (intentions, error) {
	state, err := o.intended.Load(ctx, q)
	if err != nil {
		return intentions{}, err
	}
	settings, err := notify.SettingsOf(state.Documents.Installation)
	return intentions{state, settings}, err
}

func (i intentions) hooks() []holdfast.Webhook { return i.Documents.Installation.Webhooks }

// silent reports whether nobody hears anything.
func (i intentions) silent() bool {
	return (i.settings.Mail == nil || !i.settings.Mail.Enabled) && len(i.hooks()) == 0
}

// event is what is told at once.
type event struct {
	session holdfast.RunID
	due     time.Time
	mail    []notify.Message
	posts   []notify.Post
}

// content is the body of the row of a mail.
type content struct {
	Text string `json:"text"`
	HTML string `json:"html"`
}

func (e event) rows(now time.Time) []store.Message {
	rows := make([]store.Message, 0, len(e.mail)+len(e.posts))
	for _, m := range e.mail {
		body, err := json.Marshal(content{m.Text, m.HTML})
		holdfast.Invariant(err == nil, "two texts can be written as JSON: %v", err)
		rows = append(rows, store.Message{
			ID: m.Delivery(), Kind: store.MessageMail, Topic: m.Key, Session: e.session, Address: m.To, Title: m.Subject, Created: now, Due: e.due, Body: string(body),
		})
	}
	for _, p := range e.posts {
		rows = append(rows, store.Message{
			ID: p.Delivery(), Kind: store.MessagePost, Topic: p.Key, Session: e.session, Address: p.Hook.URL, Title: string(p.Event), Created: now, Due: e.due, Body: string(p.Body),
		})
	}
	return rows
}

// attemptsMax lets a delivery fail for a day: the queue waits five minutes between attempts.
const attemptsMax = 300

// put writes the copies of an event down, each with the job that delivers it. A copy that stands there already has had its job.
func (o *Outbox) put(ctx context.Context, tx database.Tx, e event) error {
	for _, m := range e.rows(o.now()) {
		put, err := store.PutMessage(ctx, tx, m)
		if err != nil {
			return err
		}
		if !put {
			continue
		}
		job := jobs.Job{Kind: work.KindNotify, Key: m.ID, Queue: work.Messages, RunAt: m.Due, Priority: jobs.Low, Attempts: attemptsMax}
		if _, err := o.config.Jobs.Enqueue(ctx, tx, job); err != nil {
			return err
		}
	}
	return nil
}

// wordsOf is what a person is told of an error.
func wordsOf(err error) string {
	var known *holdfast.Error
	if !errors.As(err, &known) {
		return err.Error()
	}
	if known.Hint == "" {
		return known.Message
	}
	return known.Message + " (" + known.Hint + ")"
}

package outbox

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/notify/smtp"
	"github.com/holdfast-backup/holdfast/internal/notify/webhook"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Deliver is the handler of jobs of kind notify: it sends the message that the job's key names, by the settings that are in force
// now, and notes what became of it. What may pass is an error, after which the queue tries again; what will not, and what
// failed in the last attempt, is given up. A message that has ended is left alone.
func (o *Outbox) Deliver(ctx context.Context, job jobs.Job) error {
	var m store.Message
	var i intentions
	err := o.config.Database.Read(ctx, func(ctx context.Context, q store.Query) (err error) {
		if m, err = store.MessageOf(ctx, q, job.Key); err != nil {
			return err
		}
		i, err = o.intentions(ctx, q)
		return err
	})
	switch {
	case holdfast.IsKind(err, holdfast.KindNotFound): // it ended long ago
		return nil
	case err != nil:
		return err
	case !m.Open():
		return nil
	}
	again, err := o.send(ctx, i, m)
	if err != nil && ctx.Err() != nil {
		return err // the process ends; another one sends it
	}
	return o.note(context.WithoutCancel(ctx), job, again, err)
}

// send sends a message once. After an error it says whether it makes sense to try again.
func (o *Outbox) send(ctx context.Context, i intentions, m store.Message) (again bool, err error) {
	if m.Kind == store.MessagePost {
		return o.post(ctx, i, m)
	}
	if i.settings.Mail == nil || !i.settings.Mail.Enabled {
		return false, holdfast.Errorf(holdfast.KindRefused, "mail was turned off before the message went out")
	}
	var c content
	if err := json.Unmarshal([]byte(m.Body), &c); err != nil {
		return false, holdfast.Wrap(holdfast.KindCorrupt, err, "the message in the database cannot be read")
	}
	sender, again, err := o.sender(ctx, *i.settings.Mail)
	if err != nil {
		return again, err
	}
	// One whose end the server may have taken without a word is sent again: it has the same Message-ID.
	result := sender.Send(ctx, notify.Message{Key: m.Topic, To: m.Address, Subject: m.Title, Text: c.Text, HTML: c.HTML})[0]
	return result.Again(), result.Err
}

// sender makes a sender of mail. After an error it says whether it makes sense to try again.
func (o *Outbox) sender(ctx context.Context, m holdfast.Mail) (_ *smtp.Sender, again bool, err error) {
	password := ""
	if m.User != "" {
		if password, err = o.config.Secrets.Secret(ctx, SecretMail); err != nil {
			return nil, true, holdfast.Wrap(holdfast.KindOf(err), err, "the password of the mail account is not to be had: %s", wordsOf(err))
		}
	}
	sender, err := smtp.New(smtp.Config{Mail: m, Password: password, Roots: o.config.Roots, Clock: o.config.Clock})
	return sender, false, err
}

func (o *Outbox) post(ctx context.Context, i intentions, m store.Message) (again bool, err error) {
	at := slices.IndexFunc(i.hooks(), func(h holdfast.Webhook) bool { return h.URL == m.Address })
	if at < 0 {
		return false, holdfast.Errorf(holdfast.KindRefused, "the webhook at %s was taken out of the settings before the post went out", hostOf(m.Address))
	}
	return o.sign(ctx, notify.Post{Key: m.Topic, Hook: i.hooks()[at], Event: holdfast.WebhookEvent(m.Title), Body: []byte(m.Body)})
}

// sign posts under the webhook's secret.
func (o *Outbox) sign(ctx context.Context, p notify.Post) (again bool, err error) {
	secret, err := o.config.Secrets.Secret(ctx, SecretOf(p.Hook))
	if err != nil {
		host := hostOf(p.Hook.URL) // what lies behind it may be a secret, and is part of the name that was asked for
		return true, holdfast.Wrap(holdfast.KindOf(err), err, "the secret of the webhook at %s is not to be had: %s", host, strings.ReplaceAll(wordsOf(err), p.Hook.URL, host))
	}
	err = o.posts.Send(ctx, p, secret)
	return webhook.Again(err), err
}

// hostOf is the part of a webhook's address that may be told.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "an address that is none"
	}
	return u.Host
}

// note writes down what became of an attempt, and says so to the queue.
func (o *Outbox) note(ctx context.Context, job jobs.Job, again bool, failure error) error {
	last := failure != nil && (!again || job.Attempt >= job.Attempts)
	err := o.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) (err error) {
		switch {
		case failure == nil:
			_, err = store.MessageDelivered(ctx, tx, job.Key, o.now())
		case last:
			_, err = store.MessageGivenUp(ctx, tx, job.Key, wordsOf(failure), o.now())
		default:
			err = store.MessageFailed(ctx, tx, job.Key, wordsOf(failure))
		}
		return err
	})
	switch {
	case err != nil:
		return err // it is sent again, under the same id
	case last:
		o.config.Log.WarnContext(ctx, "a message was given up", "message", job.Key, "error", failure)
		return jobs.Never(failure)
	}
	return failure
}

package outbox

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// Test sends a message that says nothing but that messages arrive, now and without a job, and returns what became of each copy: to one
// address; or, when none is given, to the installation's recipients and to all webhooks, which may be nobody. Mail is sent although it is
// turned off. by says who asked. The error has KindInvalid when an address is given and no mail is set up.
func (o *Outbox) Test(ctx context.Context, to, by string) ([]view.Delivery, error) {
	var i intentions
	err := o.config.Database.Read(ctx, func(ctx context.Context, q store.Query) (err error) {
		i, err = o.intentions(ctx, q)
		return err
	})
	if err != nil {
		return nil, err
	}
	recipients, hooks := []string{to}, []holdfast.Webhook(nil)
	if to == "" {
		recipients, hooks = nil, i.hooks()
		if i.settings.Mail != nil {
			recipients = i.settings.Mail.Recipients
		}
	}
	key := rand.Text() // each test is another one
	tested, err := o.testMail(ctx, i, key, recipients)
	if err != nil {
		return nil, err
	}
	for _, hook := range hooks {
		p, err := notify.TestPost(hook, key, o.now())
		if err != nil {
			return nil, err
		}
		_, err = o.sign(ctx, p)
		tested = append(tested, deliveryOf(hostOf(hook.URL), err))
	}
	failed := 0
	for _, d := range tested {
		if !d.OK {
			failed++
		}
	}
	o.config.Log.InfoContext(ctx, "test messages were sent", "by", by, "messages", len(tested), "failed", failed)
	return tested, nil
}

// testMail sends test mail. The error says that none could be made.
func (o *Outbox) testMail(ctx context.Context, i intentions, key string, recipients []string) ([]view.Delivery, error) {
	tested := []view.Delivery{}
	if len(recipients) == 0 {
		return tested, nil
	}
	messages := make([]notify.Message, 0, len(recipients))
	for _, to := range recipients {
		m, err := notify.Test(i.settings, key, to, o.now())
		if err != nil {
			return nil, err
		}
		messages = append(messages, m)
	}
	sender, _, err := o.sender(ctx, *i.settings.Mail)
	if err != nil {
		for _, m := range messages {
			tested = append(tested, deliveryOf(m.To, err))
		}
		return tested, nil
	}
	for _, r := range sender.Send(ctx, messages...) {
		tested = append(tested, deliveryOf(r.To, r.Err))
	}
	return tested, nil
}

// deliveryOf is what a person is told of one copy.
func deliveryOf(to string, err error) view.Delivery {
	d := view.Delivery{To: to, OK: err == nil}
	var known *holdfast.Error
	switch {
	case errors.As(err, &known):
		d.Problem, d.Hint = known.Message, known.Hint
	case err != nil:
		d.Problem = err.Error()
	}
	return d
}
